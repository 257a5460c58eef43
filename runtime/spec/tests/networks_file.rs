//! `networks.bin` from outside: its bytes are frozen.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use yado_spec::NetworksSpec;
use yado_spec::network::{
    AddressSource, BridgeDns, BridgeIpv4, BridgeSpec, DhcpSpec, DnsMode, Ipv4Prefix, LinkSelector, StaticAddresses,
    UplinkSpec,
};
use yado_wire::hex;
use yado_wire::names::clipped;

/// Every field is said, and there is every alternative of every field.
fn networks() -> NetworksSpec {
    let prefix = |text| Ipv4Prefix::parse(text).expect("an address");
    let uplink = |name, link, sources, mtu| UplinkSpec { name: clipped(name), link, sources, mtu };
    let said = StaticAddresses {
        addresses: vec![prefix("192.168.7.2/24").into()],
        gateways: vec![IpAddr::from([192, 168, 7, 1])],
        nameservers: vec![IpAddr::from([9, 9, 9, 9]), IpAddr::from([1, 1, 1, 1])],
    };
    let by_address = LinkSelector::Address([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    NetworksSpec {
        uplinks: vec![
            uplink("wan", by_address, vec![AddressSource::Static(said)], Some(1400)),
            uplink("any", LinkSelector::FirstEthernet, vec![AddressSource::Dhcp], None),
            uplink("eth7", LinkSelector::Name(clipped("eth7")), Vec::new(), None),
        ],
        bridges: vec![
            BridgeSpec {
                name: clipped("lan0"),
                ipv4: Some(BridgeIpv4 {
                    address: prefix("10.20.0.1/16"),
                    nat: false,
                    routing: true,
                    firewall: true,
                    dhcp: Some(DhcpSpec {
                        ranges: vec![(Ipv4Addr::new(10, 20, 0, 10), Ipv4Addr::new(10, 20, 0, 20))],
                        expiry: Duration::from_millis(3_600_250),
                    }),
                }),
                dns: BridgeDns { mode: DnsMode::Managed, domain: clipped("box") },
                mtu: Some(1400),
                hwaddr: Some([2, 0, 0, 0, 0, 1]),
                external_interfaces: vec![clipped("eth1"), clipped("eth2")],
            },
            BridgeSpec {
                ipv4: None,
                dns: BridgeDns { mode: DnsMode::None, domain: clipped("lxd") },
                ..BridgeSpec::named(clipped("bare0"))
            },
        ],
    }
}

#[test]
fn the_bytes_of_networks_bin_are_frozen() {
    let bytes = networks().encode();
    assert_eq!(
        hex::encode(&bytes),
        FROZEN.trim_end(),
        "The bytes of networks.bin are others than those of this version, and a netd of this version would read the old \
         ones wrongly. If that is meant: raise the version in MAGIC of src/network.rs, and write the bytes found (left) into \
         tests/frozen/networks.hex"
    );
    assert_eq!(NetworksSpec::decode(&bytes), Ok(networks()));
}

/// Bytes 4 to 7 are the version: a change without a new number shows in the same line.
const FROZEN: &str = include_str!("frozen/networks.hex");
