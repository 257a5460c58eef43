//! The networks are read anew while containers run. What came of it is asked of the kernel, by `ip` and `nft`, and of the
//! containers.

use crate::can_run;
use crate::machines::{Board, Machine, Running, has_route, networks_with_uplink, nic, said, udhcpc, uplink_that};
use std::fs::File;
use std::net::Ipv4Addr;
use std::time::Duration;
use yado_spec::NetworksSpec;
use yado_spec::network::{AddressSource, BridgeSpec, Ipv4Prefix, LinkSelector};
use yado_wire::names::clipped;
use yado_wire::network::NetReply;

fn prefix(text: &str) -> Ipv4Prefix {
    Ipv4Prefix::parse(text).unwrap()
}

fn lan0() -> BridgeSpec {
    BridgeSpec::named(clipped("lan0"))
}

/// Which networks failed, with the reasons; anything else than these and the end is none of this.
fn failed(replies: &[NetReply]) -> Vec<(String, String)> {
    let (last, failed) = replies.split_last().unwrap();
    assert_eq!(*last, NetReply::Done, "{replies:?}");
    let failed = failed.iter().map(|reply| match reply {
        NetReply::NetworkFailed { network, failure } => {
            (network.as_ref().map(ToString::to_string).unwrap_or_default(), failure.to_string())
        }
        other => panic!("{other:?} in {replies:?}"),
    });
    failed.collect()
}

#[test]
fn what_has_changed_is_so_when_the_answer_comes_and_containers_keep_their_links() {
    if !can_run(&["ip", "nft", "busybox", "dig", "dnsmasq"]) {
        return;
    }
    let mut networks = networks_with_uplink();
    let (board, outside) = Board::with_outside(networks.clone());
    uplink_that(&board, &outside, "a lease", has_route);
    let one = Machine::container();
    assert_eq!(board.attach("one", &one, &[nic("yado0")]), NetReply::Attached);
    udhcpc(&one, board.run.path());
    let address = board.leased("one");
    let port = || board.machine.sh("ip -o link show master yado0 | cut -d: -f1,2");
    let before = port();
    let changes = board.run.path().join("changes");
    let mut watching = one.command("ip");
    let watching =
        Running(watching.args(["monitor", "link"]).stdout(File::create(&changes).unwrap()).spawn().unwrap());

    networks.bridges[0].mtu = Some(1400);
    networks.bridges[0].dns.domain = clipped("lab");
    let ipv4 = networks.bridges[0].ipv4.as_mut().unwrap();
    ipv4.routing = false;
    let dhcp = ipv4.dhcp.as_mut().unwrap();
    dhcp.expiry = Duration::from_secs(120);
    dhcp.ranges = vec![(Ipv4Addr::new(10, 158, 0, 50), Ipv4Addr::new(10, 158, 0, 60))];
    assert_eq!(failed(&board.reload(&networks)), []);
    assert!(board.machine.sh("ip -o link show yado0").contains("mtu 1400"));
    assert_eq!(one.sh("dig +short @10.158.0.1 one.lab").trim(), address.to_string());
    assert!(!one.try_sh("busybox ping -c 1 -W 1 192.168.77.1").status.success(), "nothing is routed");
    one.sh("busybox ping -c 1 -W 5 10.158.0.1");
    let two = Machine::container();
    assert_eq!(board.attach("two", &two, &[nic("yado0")]), NetReply::Attached);
    let said = udhcpc(&two, board.run.path());
    for line in ["domain=lab", "lease=120"] {
        assert!(said.lines().any(|said| said == line), "{line} in\n{said}");
    }
    assert!((50..=60).contains(&board.leased("two").octets()[3]), "{said}");

    networks.bridges[0].ipv4.as_mut().unwrap().routing = true;
    assert_eq!(failed(&board.reload(&networks)), []);
    one.sh("busybox ping -c 1 -W 5 192.168.77.1");
    networks.bridges[0].ipv4.as_mut().unwrap().dhcp = None;
    networks.bridges[0].ipv4.as_mut().unwrap().nat = false;
    assert_eq!(failed(&board.reload(&networks)), []);
    assert!(!board.machine.sh("nft list table inet yado").contains("masquerade"));
    assert!(!two.try_sh("busybox udhcpc -i eth0 -n -q -t 2 -T 1 -s /bin/true").status.success());

    assert!(port().starts_with(&before), "{before} is not the first of\n{}", port());
    drop(watching);
    let seen = std::fs::read_to_string(&changes).unwrap();
    assert!(!seen.contains("NO-CARRIER") && !seen.contains("DOWN"), "its link was taken down\n{seen}");
}

#[test]
fn a_network_with_another_address_has_it_at_once_and_its_containers_by_their_next_lease() {
    if !can_run(&["ip", "busybox"]) {
        return;
    }
    let mut networks = networks_with_uplink();
    let board = Board::start(Some(networks.clone()));
    let one = Machine::container();
    assert_eq!(board.attach("one", &one, &[nic("yado0")]), NetReply::Attached);
    udhcpc(&one, board.run.path());
    let port = || board.machine.sh("ip -o link show master yado0 | cut -d: -f1,2");
    let before = port();
    networks.bridges[0].ipv4.as_mut().unwrap().address = prefix("10.77.0.1/24");
    assert_eq!(failed(&board.reload(&networks)), []);
    let addresses = board.machine.sh("ip -4 -o addr show dev yado0");
    assert!(addresses.lines().count() == 1 && addresses.contains("10.77.0.1/24"), "{addresses}");
    assert_eq!(port(), before);
    one.wait_for("ip link show eth0 | grep LOWER_UP");
    udhcpc(&one, board.run.path());
    assert_eq!(board.leased("one").octets()[..3], [10, 77, 0]);
    one.sh("busybox ping -c 1 -W 5 10.77.0.1");
}

#[test]
fn a_network_that_is_gone_loses_its_bridge_once_nobody_uses_it() {
    if !can_run(&["ip", "nft", "busybox"]) {
        return;
    }
    let mut networks = networks_with_uplink();
    networks.bridges.push(lan0());
    let mut board = Board::start(Some(networks.clone()));
    let one = Machine::container();
    assert_eq!(board.attach("one", &one, &[nic("lan0")]), NetReply::Attached);
    udhcpc(&one, board.run.path());
    let address = networks.bridges[1].ipv4.as_ref().unwrap().address;
    let is_whole = |board: &Board| {
        assert!(board.machine.sh("ip -4 -o addr show dev lan0").contains(&address.to_string()));
        assert!(board.machine.sh("nft list table inet yado").contains("\"lan0\""));
        udhcpc(&one, board.run.path());
        one.sh(&format!("busybox ping -c 1 -W 5 {}", address.address()));
    };
    networks.bridges.truncate(1);
    networks.bridges[0].mtu = Some(1400);
    let refused = || vec![("lan0".to_owned(), "network: lan0: still used by one; it stays as it is".to_owned())];
    assert_eq!(failed(&board.reload(&networks)), refused());
    assert!(board.machine.sh("ip -o link show yado0").contains("mtu 1400"), "the others change");
    is_whole(&board);
    // A netd that is started again knows it too, and so does one that knows nothing of who uses it.
    board.kill_netd();
    board.start_netd();
    is_whole(&board);
    board.kill_netd();
    std::fs::write(board.run.path().join("netd.state"), b"YNS").unwrap();
    std::fs::remove_file(board.run.path().join("networks.kept")).unwrap();
    board.start_netd();
    assert!(board.machine.sh("ip -o link show master lan0").contains("veth"));
    networks.bridges.push(lan0());
    assert_eq!(failed(&board.reload(&networks)), []);
    is_whole(&board);
    // Another run of the instance finds its network still.
    assert_eq!(board.attach("one", &one, &[]), NetReply::Attached);
    assert_eq!(board.attach("one", &one, &[nic("lan0")]), NetReply::Attached);
    networks.bridges.truncate(1);
    assert_eq!(failed(&board.reload(&networks)), refused());
    assert_eq!(board.detach("one"), NetReply::Done);
    assert!(board.machine.try_sh("ip link show lan0").status.success(), "its instance may be started again");
    assert_eq!(failed(&board.reload(&networks)), []);
    assert!(!board.machine.try_sh("ip link show lan0").status.success());
    assert!(!board.machine.sh("nft list table inet yado").contains("lan0"));
}

#[test]
fn an_instance_that_ended_while_nobody_looked_keeps_no_network() {
    if !can_run(&["ip"]) {
        return;
    }
    let mut networks = networks_with_uplink();
    networks.bridges = vec![lan0()];
    let mut board = Board::start(Some(networks.clone()));
    let one = Machine::container();
    assert_eq!(board.attach("one", &one, &[nic("lan0")]), NetReply::Attached);
    board.kill_netd();
    one.end();
    board.machine.wait_for("! ip -o link | grep veth");
    // The same address under another name: only one of the two can be.
    networks.bridges[0].name = clipped("lan1");
    std::fs::write(board.run.path().join("networks.bin"), networks.encode()).unwrap();
    board.start_netd();
    assert_eq!(board.machine.sh("ip -o link show type bridge | cut -d: -f2").trim(), "lan1", "{}", board.log());
}

#[test]
fn a_file_that_cannot_be_read_changes_nothing_now_or_at_the_next_start() {
    if !can_run(&["ip", "nft", "busybox", "dnsmasq"]) {
        return;
    }
    let mut networks = networks_with_uplink();
    networks.bridges = vec![lan0()];
    let (mut board, outside) = Board::with_outside(networks.clone());
    uplink_that(&board, &outside, "a lease", has_route);
    let one = Machine::container();
    assert_eq!(board.attach("one", &one, &[nic("lan0")]), NetReply::Attached);
    udhcpc(&one, board.run.path());
    let made = |board: &Board| {
        let lines =
            ["ip -o link show type bridge | cut -d: -f1,2", "ip -4 -o addr | sed 's/ valid_lft.*//'", "ip route"];
        lines.map(|line| board.machine.sh(line)).concat()
    };
    let before = made(&board);
    let path = board.run.path().join("networks.bin");
    let whole = std::fs::read(&path).unwrap();
    let cut = &whole[..whole.len() - 3];
    for (bytes, expected) in
        [(Some(&b"YNET\0\0\0\x09"[..]), "not of this version"), (Some(cut), "malformed"), (None, "No such file")]
    {
        match bytes {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let replies = board.call(&yado_wire::network::NetRequest::Reload, None);
        match &replies[..] {
            [NetReply::Failed(failure)] => {
                assert!(failure.object.ends_with("networks.bin") && failure.reason.contains(expected), "{failure}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(made(&board), before, "{expected}");
        if bytes.is_some() {
            board.kill_netd();
            board.start_netd();
            assert!(board.log().contains("the networks stay as they were"), "{}", board.log());
            assert_eq!(made(&board), before, "{expected}, and started again");
            one.sh("busybox ping -c 1 -W 5 192.168.77.1");
            udhcpc(&one, board.run.path());
        }
    }
    // With nothing to go by there are the default networks, and the bridge that is there stays.
    board.kill_netd();
    std::fs::write(&path, b"YNET").unwrap();
    std::fs::remove_file(board.run.path().join("networks.kept")).unwrap();
    board.start_netd();
    assert!(board.machine.sh("ip -o link show type bridge").contains("lan0"), "{}", board.log());
    assert_eq!(failed(&board.reload(&networks)), []);
    assert_eq!(board.machine.sh("ip -o link show type bridge | cut -d: -f2").trim(), "lan0");
    udhcpc(&one, board.run.path());
}

#[test]
fn what_the_kernel_refuses_is_named_and_the_other_networks_change() {
    if !can_run(&["ip"]) {
        return;
    }
    let mut networks = networks_with_uplink();
    let board = Board::start(Some(networks.clone()));
    board.machine.sh("ip link add lan0 type veth peer name other0");
    let mut bad = BridgeSpec::named(clipped("bad0"));
    // No port of any bridge.
    bad.external_interfaces = vec![clipped("lo")];
    networks.bridges[0].mtu = Some(1400);
    networks.bridges.extend([lan0(), bad]);
    let failed = failed(&board.reload(&networks));
    let of = |network: &str| -> Vec<&str> {
        failed.iter().filter(|(name, _)| name == network).map(|(_, reason)| reason.as_str()).collect()
    };
    assert!(matches!(of("lan0")[..], [reason] if reason.contains("another link has this name")), "{failed:?}");
    assert!(matches!(of("bad0")[..], [reason] if reason.contains("Invalid argument")), "{failed:?}");
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(board.machine.sh("ip -o link show yado0").contains("mtu 1400"));
    assert!(board.machine.sh("ip -o link show lan0").contains("state DOWN"), "it is left alone");
}

#[test]
fn what_a_network_gives_up_is_taken_back_from_the_kernel() {
    if !can_run(&["ip", "dnsmasq"]) {
        return;
    }
    let mut networks = networks_with_uplink();
    networks.bridges[0].external_interfaces = vec![clipped("ext0"), clipped("ext1")];
    let (board, outside) = Board::with_outside(networks.clone());
    board.machine.sh("ip link add ext0 type veth peer name other0 && ip link add ext1 type veth peer name other1");
    board.machine.wait_for("ip -o link show master yado0 | grep -c ext | grep -qx 2");
    let leased =
        || uplink_that(&board, &outside, "a lease", |uplink| uplink.lease_left_s.is_some() && has_route(uplink));
    leased();
    board.machine.sh("ip addr add 172.16.5.5/24 dev up0");
    let addresses = || board.machine.sh("ip -4 -o addr show dev up0");

    // From DHCP to an address that is said, on the same link.
    networks.uplinks[0].sources = said("192.168.77.9/24", Some("192.168.77.1"), &["192.168.77.1"]);
    networks.bridges[0].external_interfaces.truncate(1);
    assert_eq!(failed(&board.reload(&networks)), []);
    assert!(addresses().contains("192.168.77.9/24") && !addresses().contains("192.168.77.1"), "{}", addresses());
    assert!(board.machine.sh("ip route show default").contains("via 192.168.77.1 dev up0"));
    assert!(!board.machine.sh("ip -o link show master yado0").contains("ext1"));
    board.machine.sh("busybox ping -c 1 -W 5 192.168.77.1");

    // And back.
    networks.uplinks[0].sources = vec![AddressSource::Dhcp];
    assert_eq!(failed(&board.reload(&networks)), []);
    leased();
    assert!(!addresses().contains("192.168.77.9/24"), "{}", addresses());

    // Another link is the uplink now.
    networks.uplinks[0].link = LinkSelector::Name(clipped("other1"));
    assert_eq!(failed(&board.reload(&networks)), []);
    assert!(addresses().contains("172.16.5.5/24") && !addresses().contains("192.168.77"), "{}", addresses());
    assert_eq!(board.machine.sh("ip route show default"), "");

    // No uplink, and no bridge.
    let none = NetworksSpec { uplinks: Vec::new(), bridges: Vec::new() };
    assert_eq!(failed(&board.reload(&none)), []);
    assert_eq!(board.machine.sh("ip -o link show type bridge"), "");
    board.machine.sh("ip link show ext0");
}

#[test]
fn rules_of_our_own_are_there_as_long_as_they_are_wanted() {
    if !can_run(&["ip", "nft"]) {
        return;
    }
    let mut networks = networks_with_uplink();
    networks.bridges.push(lan0());
    let board = Board::start(Some(networks.clone()));
    let rules = || board.machine.sh("nft list table inet yado");
    for is_wanted in [true, false, true] {
        networks.bridges[1].ipv4.as_mut().unwrap().firewall = is_wanted;
        assert_eq!(failed(&board.reload(&networks)), []);
        let rules = rules();
        let accepts = rules.lines().any(|line| line.contains("\"lan0\"") && line.contains("dport 67 accept"));
        assert_eq!(accepts, is_wanted, "{rules}");
        assert!(rules.contains("\"yado0\""), "the other network has its own\n{rules}");
    }
}
