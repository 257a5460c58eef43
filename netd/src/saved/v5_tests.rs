//! The bytes of `netd.state` are frozen: after an update a netd of another release reads what this one wrote.

#![allow(clippy::unwrap_used)]

use super::*;
use yado_wire::names::clipped;

const HOW_TO_CHANGE: &str = "the bytes of netd.state have changed. If that is meant: rename the module v5 to v6, \
     change its types, raise VERSION in saved.rs, and freeze the new bytes in a test like this one";

/// Every field with a value of its own, and every variant.
fn example() -> Saved {
    let instance = || AboutInstance { id: InstanceId(300), name: InstanceName::parse("web-1").unwrap() };
    let attachment = |nic: &str, connection| Attachment {
        instance: instance(),
        nic: clipped(nic),
        connection,
        hwaddr: [0, 0x16, 0x3e, 1, 2, 3],
        host_link: None,
        fixed_ipv4: None,
    };
    let lease = |last, state| server::Lease {
        hwaddr: [2, 0, 0, 0, 0, last],
        address: Ipv4Addr::new(10, 158, 0, last),
        state,
        until_s: 300,
    };
    Saved {
        boot: clipped("01234567-89ab-cdef-0123-456789abcdef"),
        attachments: vec![
            Attachment {
                host_link: Some("veth01020304".to_owned()),
                fixed_ipv4: Some(Ipv4Addr::new(10, 158, 0, 9)),
                ..attachment("eth0", Connection::Network { network: clipped("yado0") })
            },
            attachment("eth1", Connection::Bridged { parent: clipped("br0") }),
            attachment("eth2", Connection::Macvlan { parent: clipped("end0") }),
            attachment("eth3", Connection::Physical { parent: clipped("end1") }),
        ],
        runs: RunNumbers::of(vec![Run { instance: InstanceId(300), number: RunNumber(7_000_000), is_over: true }]),
        leases: vec![(
            clipped("yado0"),
            Leases::of(vec![
                lease(4, server::LeaseState::Offered),
                lease(5, server::LeaseState::Bound),
                lease(6, server::LeaseState::Declined),
            ]),
        )],
        uplinks: vec![(
            [0x52, 0x54, 0, 1, 2, 3],
            UplinkLease {
                address: Ipv4Addr::new(192, 168, 77, 100),
                prefix_len: 24,
                server: Ipv4Addr::new(192, 168, 77, 1),
                routes: vec![
                    Route::default_ipv4(Ipv4Addr::new(192, 168, 77, 3)),
                    Route { to: IpPrefix::new([10, 9, 0, 0].into(), 16).unwrap(), gateway: None },
                ],
                name_servers: vec![Ipv4Addr::new(192, 168, 77, 2)],
                domain: Some("lan".to_owned()),
                mtu: Some(1400),
                renew_at: Duration::from_secs(60),
                rebind_at: Duration::from_millis(105_500),
                end_at: Duration::MAX,
            },
        )],
        borrowed: vec![Borrowed { name: clipped("end1"), permanent_hwaddr: [0x52, 0x54, 0, 9, 9, 9] }],
        moves: vec![Move {
            network: clipped("yado0"),
            from: Ipv4Prefix::parse("10.158.0.1/24").unwrap(),
            to: Ipv4Prefix::parse("172.28.0.1/24").unwrap(),
        }],
    }
}

#[test]
fn version_5_bytes_are_frozen() {
    let frozen: Vec<u8> = [
        // Magic, version, and the FNV-1a of what follows.
        &b"YNS\x05\x3b\x59\x30\x93\x0d\xe8\x59\x86"[..],
        b"\x2401234567-89ab-cdef-0123-456789abcdef",
        // Four attachments: the instance's id and name, nic, connection, hwaddr, host_link, fixed_ipv4.
        b"\x04",
        b"\xac\x02\x05web-1\x04eth0\x00\x05yado0\x00\x16\x3e\x01\x02\x03\x01\x0cveth01020304\x01\x0a\x9e\x00\x09",
        b"\xac\x02\x05web-1\x04eth1\x01\x03br0\x00\x16\x3e\x01\x02\x03\x00\x00",
        b"\xac\x02\x05web-1\x04eth2\x02\x04end0\x00\x16\x3e\x01\x02\x03\x00\x00",
        b"\xac\x02\x05web-1\x04eth3\x03\x04end1\x00\x16\x3e\x01\x02\x03\x00\x00",
        // One run: the instance's id, number, is_over.
        b"\x01\xac\x02\xc0\x9f\xab\x03\x01",
        // One network with three leases: hwaddr, address, state, until_s.
        b"\x01\x05yado0\x03",
        b"\x02\x00\x00\x00\x00\x04\x0a\x9e\x00\x04\x00\xac\x02",
        b"\x02\x00\x00\x00\x00\x05\x0a\x9e\x00\x05\x01\xac\x02",
        b"\x02\x00\x00\x00\x00\x06\x0a\x9e\x00\x06\x02\xac\x02",
        // One lease of an uplink: the link's hwaddr, address, prefix_len, server,
        b"\x01\x52\x54\x00\x01\x02\x03\xc0\xa8\x4d\x64\x18\xc0\xa8\x4d\x01",
        // two routes: the destination's family and address, prefix_len, gateway with its family,
        b"\x02\x00\x00\x00\x00\x00\x00\x01\x00\xc0\xa8\x4d\x03",
        b"\x00\x0a\x09\x00\x00\x10\x00",
        // name servers, domain, mtu,
        b"\x01\xc0\xa8\x4d\x02\x01\x03lan\x01\xf8\x0a",
        // renew_at, rebind_at, end_at: seconds and nanoseconds.
        b"\x3c\x00\x69\x80\xca\xb5\xee\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\xff\x93\xeb\xdc\x03",
        // One borrowed link: name, permanent_hwaddr.
        b"\x01\x04end1\x52\x54\x00\x09\x09\x09",
        // One move: network, from, to.
        b"\x01\x05yado0\x0a\x9e\x00\x01\x18\xac\x1c\x00\x01\x18",
    ]
    .concat();
    assert_eq!(example().encode(), frozen, "{HOW_TO_CHANGE}");
    assert_eq!(Saved::decode(&frozen).unwrap(), example(), "{HOW_TO_CHANGE}");
}
