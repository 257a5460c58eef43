//! Messages captured from busybox's udhcpc and from dnsmasq, field by field, and the same messages truncated or damaged.

#![allow(clippy::unwrap_used)]

use super::options::text;
use super::*;
use crate::link::route::Route;
use yado_spec::network::IpPrefix;

/// What busybox 1.35's udhcpc sends first, captured.
fn captured_discover() -> Vec<u8> {
    let mut bytes = vec![1, 1, 6, 0]; // request, Ethernet, address of 6 bytes, no hops
    bytes.extend([0xdd, 0x8b, 0x4c, 0x3d]); // xid
    bytes.extend([0, 3, 0, 0]); // secs 3, no flags
    bytes.extend([0; 16]); // ciaddr, yiaddr, siaddr, giaddr
    bytes.extend([0x00, 0x16, 0x3e, 0x0a, 0x0b, 0x0c]); // chaddr
    bytes.resize(236, 0); // rest of chaddr, sname, file
    bytes.extend([0x63, 0x82, 0x53, 0x63]); // cookie
    bytes.extend([53, 1, 1]); // discover
    bytes.extend([57, 2, 0x02, 0x40]); // takes 576 bytes
    bytes.extend([55, 9, 1, 3, 6, 12, 15, 26, 28, 42, 121]); // wants these
    bytes.extend(b"\x0c\x07busybox"); // host name
    bytes.extend(b"\x3c\x0cudhcp 1.35.0"); // vendor class, which we skip
    bytes.extend([61, 7, 1, 0x00, 0x16, 0x3e, 0x0a, 0x0b, 0x0c]); // client id
    bytes.push(255);
    bytes.extend([0; 9]);
    bytes
}

/// What dnsmasq 2.90 answers last, captured.
fn captured_ack() -> Vec<u8> {
    let mut bytes = vec![2, 1, 6, 0]; // reply, Ethernet, 6 bytes, no hops
    bytes.extend([0xdd, 0x8b, 0x4c, 0x3d, 0, 3, 0, 0]); // xid, secs 3, no flags
    bytes.extend([0; 4]); // ciaddr
    bytes.extend([192, 168, 77, 123]); // yiaddr
    bytes.extend([192, 168, 77, 1]); // siaddr
    bytes.extend([0; 4]); // giaddr
    bytes.extend([0x00, 0x16, 0x3e, 0x0a, 0x0b, 0x0c]); // chaddr
    bytes.resize(236, 0);
    bytes.extend([0x63, 0x82, 0x53, 0x63]); // cookie
    bytes.extend([53, 1, 5]); // acknowledged
    bytes.extend([54, 4, 192, 168, 77, 1]); // server
    bytes.extend([51, 4, 0, 0, 0, 120]); // for 120 s
    bytes.extend([58, 4, 0, 0, 0, 60, 59, 4, 0, 0, 0, 105]); // renew after 60 s, rebind after 105 s
    bytes.extend([1, 4, 255, 255, 255, 0]); // mask
    bytes.extend([28, 4, 192, 168, 77, 255]); // broadcast
    bytes.extend([3, 4, 192, 168, 77, 1, 6, 4, 192, 168, 77, 1]); // router, name server
    bytes.extend(b"\x0f\x0coutside.test\x0c\x07busybox"); // domain, host name
    bytes.extend([26, 2, 0x05, 0x78]); // MTU 1400
    // 10.9.0.0/16 by 192.168.77.9, everything by 192.168.77.1
    bytes.extend([121, 12, 16, 10, 9, 192, 168, 77, 9, 0, 192, 168, 77, 1]);
    bytes.push(255);
    bytes
}

#[test]
fn a_captured_discover_is_understood() {
    let message = parse_message(&captured_discover()).unwrap();
    assert_eq!((message.op, message.kind), (Op::Request, MessageType::Discover));
    assert_eq!((message.xid, message.secs, message.broadcast), (0xdd8b_4c3d, 3, false));
    assert_eq!(message.chaddr, [0x00, 0x16, 0x3e, 0x0a, 0x0b, 0x0c]);
    assert_eq!(message.options.host_name.as_deref(), Some("busybox"));
    assert_eq!(message.options.max_message_size, Some(576));
    assert_eq!(message.options.parameters, [1, 3, 6, 12, 15, 26, 28, 42, 121]);
    assert_eq!(message.options.client_id, [1, 0x00, 0x16, 0x3e, 0x0a, 0x0b, 0x0c]);
}

#[test]
fn a_captured_ack_is_understood_and_survives_being_written_and_read_again() {
    let message = parse_message(&captured_ack()).unwrap();
    assert_eq!((message.op, message.kind), (Op::Reply, MessageType::Ack));
    assert_eq!(message.yiaddr, Ipv4Addr::new(192, 168, 77, 123));
    let gateway = Ipv4Addr::new(192, 168, 77, 1);
    let expected = Options {
        subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        routers: vec![gateway],
        name_servers: vec![gateway],
        host_name: Some("busybox".to_owned()),
        domain_name: Some("outside.test".to_owned()),
        mtu: Some(1400),
        broadcast_address: Some(Ipv4Addr::new(192, 168, 77, 255)),
        lease_time: Some(120),
        server_id: Some(gateway),
        renewal_time: Some(60),
        rebinding_time: Some(105),
        classless_routes: vec![route_to_10_9(), Route::default_ipv4(gateway)],
        ..Options::default()
    };
    assert_eq!(message.options, expected);
    let written = message.encode();
    assert_eq!(parse_message(&written), Ok(message));
    assert!(300 <= written.len());
}

#[test]
fn whatever_is_cut_off_or_flipped_ends_in_a_value_or_an_error() {
    for whole in [captured_discover(), captured_ack()] {
        for len in 0..whole.len() {
            let _ = parse_message(&whole[..len]);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut torn = whole.clone();
                torn[at] = value;
                if let Ok(message) = parse_message(&torn) {
                    // What is read can be written, and then says the same.
                    assert_eq!(parse_message(&message.encode()), Ok(message), "byte {at} is {value}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_message_is_refused_by_its_reason() {
    let change = |at: usize, value: u8| {
        let mut bytes = captured_discover();
        bytes[at] = value;
        parse_message(&bytes)
    };
    assert_eq!(parse_message(&[]), Err(MessageError::Short));
    assert_eq!(change(0, 3), Err(MessageError::Hardware));
    assert_eq!(change(1, 6), Err(MessageError::Hardware));
    assert_eq!(change(2, 16), Err(MessageError::Hardware));
    assert_eq!(change(236, 0), Err(MessageError::Cookie));
    assert_eq!(change(242, 9), Err(MessageError::MessageType), "an unknown kind");
    assert_eq!(change(241, 200), Err(MessageError::MessageType), "an option longer than the message");
    assert_eq!(change(241, 0), Err(MessageError::MessageType), "an option without a value");
}

/// A message with these bytes as its options, after its kind.
fn with_options(options: &[u8]) -> Message {
    let mut bytes = captured_ack();
    bytes.truncate(243);
    bytes.extend(options);
    parse_message(&bytes).unwrap()
}

#[test]
fn one_malformed_option_is_left_out_and_the_others_count() {
    let mask = [1, 4, 255, 255, 255, 0];
    let router = [3, 4, 10, 0, 0, 1];
    let malformed: &[&[u8]] = &[
        &[51, 3, 0, 0, 9],                  // lease time of three bytes
        &[6, 5, 1, 2, 3, 4, 5],             // one name server and a quarter
        &[26, 0],                           // MTU of none
        &[121, 6, 33, 10, 0, 0, 0, 1],      // a route with a prefix of 33
        &[121, 3, 24, 10, 0],               // a route that is cut off
        &[15, 3, b'a', b'\n', b'b'],        // a domain with a line feed
        &[54, 8, 10, 0, 0, 1, 10, 0, 0, 2], // two servers in one
    ];
    for option in malformed {
        let options = with_options(&[&mask[..], option, &router[..]].concat()).options;
        let expected = Options {
            subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            routers: vec![Ipv4Addr::new(10, 0, 0, 1)],
            ..Options::default()
        };
        assert_eq!(options, expected, "{option:?}");
    }
    let cut = with_options(&[&mask[..], &[3, 200, 10, 0, 0, 1]].concat()).options;
    assert_eq!((cut.subnet_mask.is_some(), cut.routers.len()), (true, 0));
}

#[test]
fn an_option_in_several_parts_is_one_value() {
    // RFC 3396: one route, cut in the middle of its router, with another option between.
    let options = with_options(&[121, 4, 16, 10, 9, 192, 1, 4, 255, 255, 255, 0, 121, 3, 168, 77, 9, 255]).options;
    assert_eq!((options.classless_routes, options.subnet_mask.is_some()), (vec![route_to_10_9()], true));
    // Some servers say the same twice.
    let twice = with_options(&[54, 4, 10, 0, 0, 1, 54, 4, 10, 0, 0, 1]).options;
    assert_eq!(twice.server_id, Some(Ipv4Addr::new(10, 0, 0, 1)));
    let long = Message {
        options: Options { parameters: (0..300).map(|code| code as u8).collect(), ..Options::default() },
        ..with_options(&[])
    };
    assert_eq!(parse_message(&long.encode()), Ok(long));
}

#[test]
fn options_may_go_on_in_the_fields_for_file_and_server_name() {
    let mut bytes = captured_discover();
    let end = bytes.iter().rposition(|&byte| byte == 255).unwrap();
    bytes[end..end + 4].copy_from_slice(&[52, 1, 3, 255]);
    bytes[108..115].copy_from_slice(&[50, 4, 10, 0, 0, 7, 255]); // file
    bytes[44..51].copy_from_slice(&[54, 4, 10, 0, 0, 1, 255]); // sname
    let options = parse_message(&bytes).unwrap().options;
    assert_eq!(options.requested_address, Some(Ipv4Addr::new(10, 0, 0, 7)));
    assert_eq!(options.server_id, Some(Ipv4Addr::new(10, 0, 0, 1)));
}

#[test]
fn names_that_could_end_in_a_file_are_printable_or_not_taken() {
    for (name, expected) in
        [(&b"box"[..], Some("box")), (b"box\0\0", Some("box")), (b"a\nb", None), (b"\0", None), (b"\xff", None)]
    {
        assert_eq!(text(name).as_deref(), expected, "{name:?}");
    }
}

fn route_to_10_9() -> Route {
    Route { to: IpPrefix::new([10, 9, 0, 0].into(), 16).unwrap(), gateway: Some([192, 168, 77, 9].into()) }
}
