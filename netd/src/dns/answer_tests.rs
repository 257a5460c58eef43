//! Questions as instances ask them, and packets that no name server should answer.

#![allow(clippy::unwrap_used)]

use super::*;
use yado_spec::network::Ipv4Prefix;
use yado_wire::names::clipped;

fn zone() -> Zone {
    Zone {
        bridge: clipped("yado0"),
        network: Ipv4Prefix::parse("10.158.0.1/24").unwrap(),
        domain: clipped("lxd"),
        names: vec![
            ("debian".to_owned(), Ipv4Addr::new(10, 158, 0, 20)),
            ("debian.lab".to_owned(), Ipv4Addr::new(10, 158, 0, 21)),
        ],
    }
}

fn query(name: &str, qtype: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(0x1234);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(Name::new(name).unwrap(), qtype.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().unwrap()
}

/// Code and records of the reply, as text.
fn ask(name: &str, qtype: TYPE) -> Option<(RCODE, Vec<String>)> {
    let reply = match answer(&query(name, qtype), &zone()) {
        Answer::Reply(reply) => reply,
        Answer::Forward => return None,
        Answer::Ignore => panic!("ignored"),
    };
    let packet = Packet::parse(&reply).unwrap();
    assert_eq!((packet.id(), packet.questions.len()), (0x1234, 1));
    assert!(packet.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_DESIRED | PacketFlag::RECURSION_AVAILABLE));
    // RFC 1035, 4.1.1: the third byte of the header is QR, four of the opcode, AA, TC, RD. Nobody else knows these names better.
    assert_eq!(reply[2], 0b1000_0101);
    let records = packet.answers.iter().map(|record| match &record.rdata {
        RData::A(a) => Ipv4Addr::from(a.address).to_string(),
        RData::PTR(name) => name.0.to_string(),
        other => format!("{other:?}"),
    });
    Some((packet.rcode(), records.collect()))
}

#[test]
fn names_of_instances_are_answered_and_others_are_passed_on() {
    let address = Some((RCODE::NoError, vec!["10.158.0.20".to_owned()]));
    let none = Some((RCODE::NoError, Vec::new()));
    let nobody = Some((RCODE::NameError, Vec::new()));
    let gateway = Some((RCODE::NoError, vec!["10.158.0.1".to_owned()]));
    let reverse = |name: &str| Some((RCODE::NoError, vec![name.to_owned()]));
    let cases = [
        ("debian", TYPE::A, address.clone()),
        ("debian.lxd", TYPE::A, address.clone()),
        ("DEBIAN.Lxd", TYPE::A, address),
        ("debian.lxd", TYPE::AAAA, none.clone()),
        // Of another project; and the project itself, below which there is somebody.
        ("Debian.LAB.lxd", TYPE::A, Some((RCODE::NoError, vec!["10.158.0.21".to_owned()]))),
        ("lab.lxd", TYPE::A, none.clone()),
        ("lab", TYPE::A, None),
        ("debian.lab", TYPE::A, None),
        ("debian.web.lxd", TYPE::A, nobody.clone()),
        ("debian.lxd", TYPE::TXT, none.clone()),
        ("debian.lxd", TYPE::DS, none.clone()),
        ("debian", TYPE::AAAA, none.clone()),
        ("lxd", TYPE::A, none),
        // What is outside, or may be.
        ("lxd", TYPE::DS, None),
        ("other", TYPE::A, None),
        ("com", TYPE::DS, None),
        ("com", TYPE::NS, None),
        ("debian", TYPE::DS, None),
        ("debian", TYPE::NS, None),
        ("", TYPE::NS, None),
        ("other.lxd", TYPE::A, nobody.clone()),
        ("a.debian.lxd", TYPE::A, nobody.clone()),
        ("_gateway", TYPE::A, gateway.clone()),
        ("_gateway.lxd", TYPE::A, gateway),
        ("20.0.158.10.in-addr.arpa", TYPE::PTR, reverse("debian.lxd")),
        ("1.0.158.10.in-addr.arpa", TYPE::PTR, reverse("_gateway.lxd")),
        ("9.0.158.10.in-addr.arpa", TYPE::PTR, nobody),
        ("1.0.0.9.in-addr.arpa", TYPE::PTR, None),
        ("debian.org", TYPE::A, None),
        ("debian.lxd.org", TYPE::A, None),
    ];
    for (name, qtype, expected) in cases {
        assert_eq!(ask(name, qtype), expected, "{name} {qtype:?}");
    }
}

#[test]
fn without_a_domain_everything_is_passed_on() {
    let zone = Zone { domain: clipped(""), names: Vec::new(), ..zone() };
    assert_eq!(answer(&query("debian", TYPE::A), &zone), Answer::Forward);
    assert_eq!(answer(&query("1.0.158.10.in-addr.arpa", TYPE::PTR), &zone), Answer::Forward);
}

#[test]
fn what_is_no_question_is_refused_or_ignored() {
    let good = query("debian", TYPE::A);
    let code = |bytes: &[u8]| match answer(bytes, &zone()) {
        Answer::Reply(reply) => Some(reply[3] & 0xf),
        Answer::Forward | Answer::Ignore => None,
    };
    assert_eq!(answer(&good[..11], &zone()), Answer::Ignore);
    let mut reply = good.clone();
    reply[2] |= 0x80;
    assert_eq!(answer(&reply, &zone()), Answer::Ignore, "a reply");
    for len in 12..good.len() {
        assert_eq!(code(&good[..len]), Some(1), "cut at {len}");
    }
    let mut status = good.clone();
    status[2] = 2 << 3;
    assert_eq!(code(&status), Some(4), "another operation");
    let mut chaos = good.clone();
    let last = chaos.len() - 1;
    chaos[last] = 3;
    assert_eq!(code(&chaos), Some(5), "another class");
    let mut none = good[..12].to_vec();
    none[5] = 0;
    assert_eq!(code(&none), Some(1), "no question");
    for at in 0..good.len() {
        for value in [0, 1, 0x3f, 0xc0, 0xff] {
            let mut torn = good.clone();
            torn[at] = value;
            let _ = answer(&torn, &zone());
        }
    }
}

#[test]
fn who_asks_with_edns_is_answered_with_it() {
    let query = query("debian", TYPE::A);
    let mut packet = Packet::parse(&query).unwrap();
    *packet.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: 4096, version: 0 });
    let Answer::Reply(reply) = answer(&packet.build_bytes_vec().unwrap(), &zone()) else { panic!("no reply") };
    assert_eq!(Packet::parse(&reply).unwrap().opt().map(|opt| opt.udp_packet_size), Some(EDNS_BYTES));
}
