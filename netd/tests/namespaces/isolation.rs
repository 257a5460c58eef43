//! Networks against each other: `ipv4.routing = false` isolates in whatever order the networks stand, and uplinks are not
//! routed to each other.

use crate::can_run;
use crate::machines::{Board, Machine, nic, said, text};
use yado_spec::NetworksSpec;
use yado_spec::network::{BridgeSpec, Ipv4Prefix, LinkSelector, UplinkSpec};
use yado_wire::names::clipped;
use yado_wire::network::NetReply;

/// Prints the chains and rules of the table, each rule as its links and what it does.
const READ_BACK: &str = r#"nft -j list table inet yado | python3 -c '
import json, sys
for entry in json.load(sys.stdin)["nftables"]:
    if "chain" in entry and "hook" in entry["chain"]:
        print("chain", entry["chain"]["name"], entry["chain"]["policy"])
    if "rule" in entry and entry["rule"]["chain"].startswith(("forward", "network-")):
        words = [entry["rule"]["chain"]]
        for part in entry["rule"]["expr"]:
            match = part.get("match")
            words += [match["left"]["meta"]["key"], match["right"]] if match else [
                key if value is None else key + " " + value["target"] for key, value in part.items()]
        print(*words)
'"#;

fn network(name: &str, third: u8, is_routed: bool) -> BridgeSpec {
    let mut bridge = BridgeSpec::named(clipped(name));
    let ipv4 = bridge.ipv4.as_mut().unwrap();
    ipv4.address = Ipv4Prefix::parse(&format!("10.158.{third}.1/24")).unwrap();
    ipv4.routing = is_routed;
    ipv4.nat = false;
    bridge
}

/// The rules of the forward hook and of the networks' chains that should stand.
fn expected(bridges: &[BridgeSpec]) -> Vec<String> {
    let mut lines = vec!["chain forward drop".to_owned()];
    for name in bridges.iter().map(|bridge| &bridge.name) {
        lines.push(format!("forward iifname {name} jump network-{name}"));
        lines.push(format!("forward oifname {name} jump network-{name}"));
    }
    for name in bridges.iter().map(|bridge| &bridge.name) {
        lines.push(format!("forward iifname {name} accept"));
        lines.push(format!("forward oifname {name} accept"));
    }
    for bridge in bridges.iter().filter(|bridge| !bridge.ipv4.as_ref().unwrap().routing) {
        let name = &bridge.name;
        lines.push(format!("network-{name} iifname {name} oifname {name} accept"));
        lines.push(format!("network-{name} drop"));
    }
    lines.sort();
    lines
}

#[test]
fn an_isolated_network_is_isolated_in_every_order_of_the_networks() {
    if !can_run(&["ip", "nft", "busybox", "python3"]) {
        return;
    }
    let (one, two, isolated) = (network("one0", 1, true), network("two0", 2, true), network("alone0", 3, false));
    let orders = [
        vec![&one, &two, &isolated],
        vec![&one, &isolated, &two],
        vec![&two, &one, &isolated],
        vec![&two, &isolated, &one],
        vec![&isolated, &one, &two],
        vec![&isolated, &two, &one],
        vec![&one, &isolated],
        vec![&isolated, &one],
    ];
    let networks = |order: &[&BridgeSpec]| NetworksSpec {
        uplinks: Vec::new(),
        bridges: order.iter().map(|bridge| (*bridge).clone()).collect(),
    };
    let board = Board::start(Some(networks(&orders[0])));
    let machines = [("one0", 1), ("two0", 2), ("alone0", 3)].map(|(network, third)| {
        let machine = Machine::container();
        assert_eq!(board.attach(network, &machine, &[nic(network)]), NetReply::Attached);
        machine.sh(&format!("ip addr add 10.158.{third}.9/24 dev eth0 && ip route add default via 10.158.{third}.1"));
        machine
    });
    for order in &orders {
        let networks = networks(order);
        if order.len() == 2 {
            // A network that is used would stay.
            assert_eq!(board.detach("two0"), NetReply::Done);
        }
        assert_eq!(board.reload(&networks), [NetReply::Done]);
        let found = board.machine.sh(READ_BACK);
        let is_of_forward = |line: &&str| !line.starts_with("chain ") || line.starts_with("chain forward ");
        let mut lines: Vec<&str> = found.lines().filter(is_of_forward).collect();
        lines.sort_unstable();
        assert_eq!(lines, expected(&networks.bridges), "{found}");
        // Each way: the isolated network and another, from both sides, and two that are routed.
        let is_there = |name: &str| networks.bridges.iter().any(|bridge| bridge.name == name);
        let pings = [(0, 3, false), (2, 1, false), (1, 3, false), (2, 2, false), (0, 2, true), (1, 1, true)];
        let names = ["one0", "two0", "alone0"];
        std::thread::scope(|scope| {
            for (from, third, is_reached) in pings {
                if !is_there(names[from]) || !is_there(names[third - 1]) {
                    continue;
                }
                let machine = &machines[from];
                scope.spawn(move || {
                    let ping = machine.try_sh(&format!("busybox ping -c 2 -W 1 10.158.{third}.9"));
                    let said = text(&ping.stdout);
                    assert_eq!(
                        ping.status.success(),
                        is_reached,
                        "{} to {third} with {order:?}\n{said}",
                        names[from]
                    );
                });
            }
        });
    }
}

#[test]
fn two_uplinks_are_not_routed_to_each_other_but_for_containers_they_are() {
    if !can_run(&["ip", "nft", "busybox"]) {
        return;
    }
    let uplink = |name: &str, third: u8| UplinkSpec {
        name: clipped(name),
        link: LinkSelector::Name(clipped(name)),
        sources: said(&format!("192.168.{third}.1/24"), None, &[]),
        mtu: None,
    };
    let networks =
        NetworksSpec { uplinks: vec![uplink("up0", 70), uplink("up1", 71)], bridges: vec![network("one0", 1, true)] };
    let board = Board::start(Some(networks));
    let outside = [("up0", 70), ("up1", 71)].map(|(name, third)| {
        let machine = Machine::new();
        board.machine.sh(&format!("ip link add {name} type veth peer name out0 netns {}", machine.pid()));
        machine.sh(&format!(
            "ip addr add 192.168.{third}.9/24 dev out0 && ip link set out0 up && ip route add default via 192.168.{third}.1"
        ));
        machine.wait_for(&format!("busybox ping -c 1 -W 1 192.168.{third}.1"));
        machine
    });
    let one = Machine::container();
    assert_eq!(board.attach("one", &one, &[nic("one0")]), NetReply::Attached);
    one.sh("ip addr add 10.158.1.9/24 dev eth0 && ip route add default via 10.158.1.1");
    assert_eq!(board.machine.sh("cat /proc/sys/net/ipv4/ip_forward").trim(), "1");
    for third in [70, 71] {
        one.sh(&format!("busybox ping -c 1 -W 5 192.168.{third}.9"));
    }
    assert!(!outside[0].try_sh("busybox ping -c 2 -W 1 192.168.71.9").status.success());
    assert!(!outside[1].try_sh("busybox ping -c 2 -W 1 192.168.70.9").status.success());
}

/// netd runs in a thread of the test program that has its test's name.
fn rights_of_netd(board: &Board) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", board.netd_pid())).unwrap();
    let statuses = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    let of_netd = statuses.into_iter().find(|status| status.starts_with("Name:\tnetd_itself\n")).unwrap();
    let is_of_rights = |line: &&str| ["CapPrm", "CapEff", "NoNewPrivs"].iter().any(|name| line.starts_with(name));
    of_netd.lines().filter(is_of_rights).map(str::to_owned).collect()
}

#[test]
fn netd_keeps_the_rights_that_links_and_low_ports_need_and_no_others() {
    if !can_run(&["ip"]) {
        return;
    }
    // capabilities(7): CAP_NET_BIND_SERVICE is 10, CAP_NET_ADMIN 12, CAP_NET_RAW 13; hosted also CAP_DAC_OVERRIDE, 1.
    let networks = NetworksSpec { uplinks: Vec::new(), bridges: vec![network("one0", 1, true)] };
    for (networks, rights) in [(Some(networks), "0000000000003400"), (None, "0000000000003402")] {
        let board = Board::start(networks);
        let expected = [format!("CapPrm:\t{rights}"), format!("CapEff:\t{rights}"), "NoNewPrivs:\t1".to_owned()];
        assert_eq!(rights_of_netd(&board), expected);
    }
}
