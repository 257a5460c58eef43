//! What containers and networks send is hostile until parsed, and the state machines behind the parsers must hold whatever
//! is said to them.

#![allow(clippy::unwrap_used)]

#[path = "../../runtime/spec/tests/fuzzing/mod.rs"]
mod fuzzing;

use fuzzing::fuzz;
use simple_dns::{CLASS, Name, Packet, Question, TYPE};
use std::net::Ipv4Addr;
use std::time::Duration;
use yado_netd::dhcp::client::{Event, State, step};
use yado_netd::dhcp::datagram::{encode_datagram, parse_datagram};
use yado_netd::dhcp::message::{Message, MessageType, Op, Options, parse_message};
use yado_netd::dhcp::server::{AddressPool, Leases, Reservation};
use yado_netd::dns::answer::{Answer, answer};
use yado_netd::dns::forward::parse_resolv_conf;
use yado_netd::dns::zone::Zone;
use yado_netd::saved::Saved;
use yado_spec::network::Ipv4Prefix;
use yado_wire::hash::fnv64;
use yado_wire::names::clipped;

const HWADDR: [u8; 6] = [0x00, 0x16, 0x3e, 1, 2, 3];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 158, 0, 1);

fn message(op: Op, kind: MessageType) -> Message {
    Message {
        op,
        xid: 7,
        secs: 0,
        broadcast: false,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: Ipv4Addr::new(10, 158, 0, 9),
        giaddr: Ipv4Addr::UNSPECIFIED,
        chaddr: HWADDR,
        kind,
        options: Options {
            subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            routers: vec![SERVER],
            name_servers: vec![SERVER],
            host_name: Some("box".to_owned()),
            requested_address: (op == Op::Request).then_some(Ipv4Addr::new(10, 158, 0, 9)),
            lease_time: Some(3600),
            server_id: Some(SERVER),
            parameters: vec![1, 3, 6],
            ..Options::default()
        },
    }
}

fn messages() -> Vec<Vec<u8>> {
    let kinds = [
        (Op::Request, MessageType::Discover),
        (Op::Request, MessageType::Request),
        (Op::Reply, MessageType::Offer),
        (Op::Reply, MessageType::Ack),
    ];
    kinds.map(|(op, kind)| message(op, kind).encode()).to_vec()
}

#[test]
fn dhcp_messages_of_any_bytes_are_read_or_refused_and_come_out_the_same_again() {
    fuzz("DHCP message", &messages(), &[], |bytes| {
        if let Ok(message) = parse_message(bytes) {
            assert_eq!(parse_message(&message.encode()), Ok(message));
        }
    });
}

/// Several messages in one input, each with a byte before it that says how many seconds pass.
fn conversation(bytes: &[u8], mut hear: impl FnMut(&Message, u64)) {
    for part in bytes.split(|&byte| byte == 0xfe) {
        let Some((&pause, part)) = part.split_first() else { continue };
        if let Ok(message) = parse_message(part) {
            hear(&message, pause.into());
        }
    }
}

fn conversations() -> Vec<Vec<u8>> {
    let long = messages().iter().flat_map(|message| [&[9], &message[..], &[0xfe]].concat()).collect();
    messages().iter().map(|message| [&[1], &message[..]].concat()).chain([long]).collect()
}

#[test]
fn whatever_clients_say_the_server_gives_no_address_twice_and_its_table_stays_small() {
    let offering = AddressPool {
        bridge: Ipv4Prefix::new(SERVER, 28).unwrap(),
        ranges: Vec::new(),
        expiry: Duration::from_secs(100),
        domain: clipped("lxd"),
        mtu: 1500,
    };
    let fixed = Ipv4Addr::new(10, 158, 0, 5);
    let known = [
        Reservation { hwaddr: HWADDR, host_name: "box", fixed: None },
        Reservation { hwaddr: [2; 6], host_name: "fix", fixed: Some(fixed) },
    ];
    fuzz("DHCP server", &conversations(), &[], |bytes| {
        let (mut leases, mut now) = (Leases::default(), Duration::ZERO);
        let mut granted: Vec<([u8; 6], Ipv4Addr, Duration)> = Vec::new();
        conversation(bytes, |message, pause| {
            now += Duration::from_secs(pause);
            let answer = leases.answer(message, &offering, &known, now);
            let Some((reply, _)) = answer.reply else { return };
            if reply.kind == MessageType::Ack && !reply.yiaddr.is_unspecified() {
                let address = reply.yiaddr;
                assert!(offering.bridge.contains(address) && address != SERVER);
                assert!(address != fixed || message.chaddr == [2; 6]);
                granted.retain(|(hwaddr, _, until)| now < *until && *hwaddr != message.chaddr);
                let is_held = |(hwaddr, held, _): &&([u8; 6], Ipv4Addr, Duration)| {
                    *held == address && leases.bound(*hwaddr, now).is_some()
                };
                assert!(!granted.iter().any(|held| is_held(&held)), "{address} is given twice");
                granted.push((message.chaddr, address, now + offering.expiry));
            }
        });
        let saved = Saved { leases: vec![(clipped("yado0"), leases)], ..Saved::default() };
        assert_eq!(Saved::decode(&saved.encode()).unwrap(), saved);
    });
}

#[test]
fn whatever_servers_say_the_client_neither_spins_nor_holds_an_ended_lease() {
    fuzz("DHCP client", &conversations(), &[], |bytes| {
        let mut now = Duration::from_secs(1);
        let (mut state, _) = step(State::new(None), Event::CarrierUp, now, 7, HWADDR);
        conversation(bytes, |message, pause| {
            let until = now + Duration::from_secs(pause * pause);
            while let Some(at) = state.deadline().filter(|&at| at <= until) {
                now = now.max(at);
                let (next, _) = step(state.clone(), Event::Wake, now, 7, HWADDR);
                assert!(next.deadline().is_none_or(|next| now < next), "it spins at {now:?}: {next:?}");
                state = next;
            }
            now = until;
            state = step(state.clone(), Event::Received(message), now, 7, HWADDR).0;
            assert!(state.lease().is_none_or(|lease| now < lease.end_at), "{state:?} at {now:?}");
        });
    });
}

#[test]
fn packets_of_any_bytes_are_read_or_refused() {
    let from = "10.158.0.1:67".parse().unwrap();
    let seed = encode_datagram(from, "255.255.255.255:68".parse().unwrap(), &messages()[2]);
    fuzz("UDP in IPv4", &[seed], &[], |bytes| {
        if let Some((_, payload)) = parse_datagram(bytes, 68) {
            assert!(payload.len() <= bytes.len() - 28);
        }
    });
}

#[test]
fn questions_of_any_bytes_get_a_readable_answer_or_none() {
    let zone = Zone {
        bridge: clipped("yado0"),
        network: Ipv4Prefix::new(SERVER, 24).unwrap(),
        domain: clipped("lxd"),
        names: vec![("box".to_owned(), Ipv4Addr::new(10, 158, 0, 9))],
    };
    let question = |name: &'static str, kind: TYPE| {
        let mut packet = Packet::new_query(7);
        packet.questions.push(Question::new(Name::new(name).unwrap(), kind.into(), CLASS::IN.into(), false));
        packet.build_bytes_vec().unwrap()
    };
    let seeds = [
        question("box.lxd", TYPE::A),
        question("9.0.158.10.in-addr.arpa", TYPE::PTR),
        question("example.org", TYPE::AAAA),
    ];
    fuzz("DNS question", &seeds, &["\x03lxd", "\x03box", "\x07in-addr\x04arpa"], |bytes| {
        if let Answer::Reply(reply) = answer(bytes, &zone) {
            assert_eq!(reply[..2], bytes[..2], "the same id");
            assert!(Packet::parse(&reply).is_ok() && reply[2] & 0x80 != 0);
            assert!(reply.len() <= bytes.len() + 600, "no amplifier");
        }
    });
}

#[test]
fn the_state_file_and_resolv_conf_of_any_bytes_are_read_or_nothing() {
    fuzz("netd.state", &[Saved::nothing("one").encode(), Saved::default().encode()], &[], |bytes| {
        // As it comes, and as a body whose checksum is right.
        let sum = fnv64(bytes.iter().copied()).to_le_bytes();
        for file in [bytes, &[&b"YNS\x04"[..], &sum, bytes].concat()] {
            if let Ok(saved) = Saved::decode(file) {
                assert_eq!(Saved::decode(&saved.encode()).unwrap(), saved);
            }
        }
    });
    fuzz("resolv.conf", &[b"nameserver 10.0.2.3\nsearch lan\n".to_vec()], &["nameserver "], |bytes| {
        assert!(parse_resolv_conf(&String::from_utf8_lossy(bytes)).len() <= 3);
    });
}
