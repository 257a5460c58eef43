//! The uplink: a lease from a real server, routes, NAT, and names from outside.

use crate::can_run;
use crate::machines::{Board, Machine, Outside, nic, text, udhcpc, wait_until};
use std::net::Ipv4Addr;
use yado_spec::NetworksSpec;
use yado_spec::network::LinkSelector;
use yado_wire::names::clipped;
use yado_wire::network::NetReply;

fn networks() -> NetworksSpec {
    let mut networks = NetworksSpec::default_networks();
    // The uplink is one end of a pair here, which is never chosen by itself.
    networks.uplinks[0].link = LinkSelector::Name(clipped("up0"));
    networks
}

#[test]
fn the_uplink_gets_a_lease_and_containers_reach_the_outside_through_it() {
    if !can_run(&["ip", "busybox", "dig", "dnsmasq", "nft"]) {
        return;
    }
    let board = Board::start(Some(networks()));
    let outside = Outside::new(&board.machine);
    let uplink = wait_until("a lease", || {
        let uplink = board.uplink();
        if uplink.ipv4.is_some() && uplink.gateway.is_some() {
            Ok(uplink)
        } else {
            Err(format!("{uplink:?}\n{}", outside.log()))
        }
    });
    assert_eq!(uplink.gateway, Some([192, 168, 77, 1]));
    assert_eq!(uplink.nameservers.as_slice(), [[192, 168, 77, 1]]);
    assert!(uplink.lease_left_s.is_some_and(|left| 100 < left && left <= 120), "{uplink:?}");
    let resolv_conf = std::fs::read_to_string(board.run.path().join("resolv.conf")).unwrap();
    assert_eq!(resolv_conf, "nameserver 192.168.77.1\nsearch outside.test\n");

    let one = Machine::container();
    assert_eq!(board.attach("one", &one, &[nic("yado0")]), NetReply::Attached);
    udhcpc(&one, board.run.path());
    assert_eq!(one.sh("dig +short @10.158.0.1 server.outside.test").trim(), "192.168.77.1");
    assert_eq!(one.sh("dig +tcp +short @10.158.0.1 long.outside.test TXT").trim(), "\"hello\"");
    // Outside does not know the way back to 10.158.0.0/24: an answer proves the masquerade.
    one.sh("busybox ping -c 1 -W 5 192.168.77.1");
    let rules = board.machine.sh("nft list table inet yado");
    for rule in [
        "iifname \"yado0\" udp dport 67 accept",
        "iifname \"yado0\" tcp dport 53 accept",
        "ct state established,related accept",
        "oifname \"yado0\" accept",
        "ip saddr 10.158.0.0/24 ip daddr != 10.158.0.0/24 masquerade",
    ] {
        assert!(rules.contains(rule), "{rule} in\n{rules}");
    }
    // From outside nobody is answered, even who knows the way.
    let address = Ipv4Addr::from(uplink.ipv4.unwrap().0);
    outside.machine.sh(&format!("ip route add 10.158.0.0/24 via {address}"));
    let asked = outside.machine.try_sh("dig +time=1 +tries=1 @10.158.0.1 one.lxd");
    assert!(!asked.status.success(), "{}", text(&asked.stdout));
}
