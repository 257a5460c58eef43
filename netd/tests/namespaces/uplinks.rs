//! The uplink: a lease from a real server, routes, NAT, and names from outside.

use crate::can_run;
use crate::machines::{
    Board, DEADLINE, Machine, Outside, address_of, gateway_of, has_route, networks_with_uplink, nic, said, text,
    udhcpc, uplink_that, wait_until, wait_within,
};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::time::Duration;
use yado_netd::saved::Saved;
use yado_wire::names::clipped;
use yado_wire::network::{LinkNote, LinkRole, NetReply};

#[test]
fn the_uplink_gets_a_lease_and_containers_reach_the_outside_through_it() {
    if !can_run(&["ip", "busybox", "dig", "dnsmasq", "nft"]) {
        return;
    }
    let (board, outside) = Board::with_outside(networks_with_uplink());
    let uplink = uplink_that(&board, &outside, "a lease", has_route);
    assert_eq!(gateway_of(&uplink).as_deref(), Some("192.168.77.1"));
    assert_eq!(uplink.nameservers.as_slice(), [IpAddr::from([192, 168, 77, 1])]);
    assert!(uplink.lease_left_s.is_some_and(|left| 100 < left && left <= 120), "{uplink:?}");
    let resolv_conf = std::fs::read_to_string(board.run.path().join("resolv.conf")).unwrap();
    assert_eq!(resolv_conf, "nameserver 192.168.77.1\nsearch outside.test\n");

    let one = Machine::container();
    assert_eq!(board.attach("one", &one, &[nic("yado0")]), NetReply::Attached);
    udhcpc(&one, board.run.path());
    assert_eq!(one.sh("dig +short @10.158.0.1 server.outside.test").trim(), "192.168.77.1");
    assert_eq!(one.sh("dig +tcp +short @10.158.0.1 long.outside.test TXT").trim(), "\"hello\"");
    // Names of one label and the keys of domains are somebody else's.
    assert_eq!(one.sh("dig +short @10.158.0.1 printer").trim(), "192.168.77.8");
    assert_eq!(one.sh("dig +short @10.158.0.1 one").trim(), board.leased("one").to_string());
    assert_eq!(one.sh("dig +short @10.158.0.1 one TXT").trim(), "\"outside\"");
    // Outside does not know the way back to 10.158.0.0/24: an answer proves the masquerade.
    one.sh("busybox ping -c 1 -W 5 192.168.77.1");
    let rules = board.machine.sh("nft list table inet yado");
    for rule in [
        "iifname \"yado0\" udp dport 67 accept",
        "iifname \"yado0\" tcp dport 53 accept",
        "oifname \"yado0\" accept",
        "ip saddr 10.158.0.0/24 ip daddr != 10.158.0.0/24 masquerade",
    ] {
        assert!(rules.contains(rule), "{rule} in\n{rules}");
    }
    // From outside nobody is answered, even who knows the way.
    let address = uplink.addresses[0].0;
    outside.machine.sh(&format!("ip route add 10.158.0.0/24 via {address}"));
    let asked = outside.machine.try_sh("dig +time=1 +tries=1 @10.158.0.1 one.lxd");
    assert!(!asked.status.success(), "{}", text(&asked.stdout));
}

#[test]
fn a_link_that_flaps_keeps_its_lease_and_a_restarted_netd_does_too() {
    if !can_run(&["ip", "dnsmasq"]) {
        return;
    }
    let (mut board, outside) = Board::with_outside(networks_with_uplink());
    let before = uplink_that(&board, &outside, "a lease", has_route).addresses;
    outside.machine.sh("ip link set out0 down");
    uplink_that(&board, &outside, "no carrier", |uplink| !uplink.is_up);
    assert_eq!(board.uplink().addresses, before, "kept without carrier");
    outside.machine.sh("ip link set out0 up");
    let after = uplink_that(&board, &outside, "up again", |uplink| uplink.is_up && has_route(uplink));
    assert_eq!(after.addresses, before);
    board.machine.sh("ip addr flush dev up0");
    board.machine.wait_for("ip -4 addr show dev up0 | grep 192.168.77 && ip route show default | grep via");
    board.kill_netd();
    assert!(board.machine.sh("ip route show default").contains("via 192.168.77.1"), "left as it was");
    board.start_netd();
    let after =
        uplink_that(&board, &outside, "the same lease", |uplink| has_route(uplink) && uplink.lease_left_s.is_some());
    assert_eq!(after.addresses, before);
    assert!(!board.log().contains("left alone"), "{}", board.log());
}

/// Stops the process of its first argument as soon as the link `up0` has an address.
const STOP_AT_ADDRESS: &str = "
import os, signal, socket, sys
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.bind((0, 1 << 4))
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
print('ready', flush=True)
index = None
while index is None or int.from_bytes(bytes[20:24], sys.byteorder) != index:
    bytes = s.recv(4096)
    index = socket.if_nametoindex('up0')
os.kill(int(sys.argv[1]), signal.SIGSTOP)
print('stopped', flush=True)
";

#[test]
fn a_netd_that_is_killed_once_the_address_stands_has_written_its_lease_down() {
    if !can_run(&["ip", "dnsmasq", "python3"]) {
        return;
    }
    let mut board = Board::start(Some(networks_with_uplink()));
    let pid = board.netd_pid().to_string();
    let mut stopping =
        board.machine.command("python3").args(["-c", STOP_AT_ADDRESS, &pid]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(stopping.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "ready");
    let outside = Outside::new(&board.machine);
    assert_eq!(lines.next().unwrap(), "stopped");
    stopping.wait().unwrap();
    let saved = Saved::decode(&std::fs::read(board.run.path().join("netd.state")).unwrap()).unwrap();
    let address = saved.uplinks.first().map(|(_, lease)| lease.address).expect("a lease in netd.state");
    assert!(board.machine.sh("ip -4 -o addr show dev up0").contains(&address.to_string()));
    board.kill_netd();
    board.start_netd();
    let after = uplink_that(&board, &outside, "its lease", |uplink| uplink.lease_left_s.is_some());
    assert_eq!(address_of(&after), Some(format!("{address}/24")));
}

#[test]
fn what_others_put_on_the_uplink_stays_and_what_is_ours_bears_our_number() {
    if !can_run(&["ip", "dnsmasq"]) {
        return;
    }
    let (board, mut outside) = Board::with_outside(networks_with_uplink());
    uplink_that(&board, &outside, "a lease", has_route);
    assert!(board.machine.sh("ip route show proto 89").contains("default via 192.168.77.1"));
    board.machine.sh("ip addr add 172.16.5.5/24 dev up0 && ip route add 172.16.6.0/24 via 172.16.5.1 proto dhcp");
    outside.machine.sh("ip link set out0 down");
    outside.machine.sh("ip addr flush dev out0 && ip addr add 192.168.78.1/24 dev out0");
    outside.machine.sh("ip link set out0 up");
    outside.start_dnsmasq("192.168.78");
    uplink_that(&board, &outside, "another lease", |uplink| gateway_of(uplink).as_deref() == Some("192.168.78.1"));
    let addresses = board.machine.wait_for("ip -4 -o addr show dev up0 | grep -v 192.168.77");
    assert!(addresses.contains("172.16.5.5/24") && addresses.contains("192.168.78."), "{addresses}");
    assert!(board.machine.sh("ip route show 172.16.6.0/24").contains("proto dhcp"));
}

#[test]
fn a_server_that_forgets_or_ends_a_lease_is_followed() {
    if !can_run(&["ip", "dnsmasq"]) {
        return;
    }
    let (board, mut outside) = Board::with_outside(networks_with_uplink());
    let before = uplink_that(&board, &outside, "a lease", |uplink| !uplink.addresses.is_empty());
    // Another network: the server refuses the old address when the link comes back.
    outside.machine.sh("ip link set out0 down");
    outside.machine.sh("ip addr flush dev out0 && ip addr add 192.168.78.1/24 dev out0");
    outside.machine.sh("ip link set out0 up");
    outside.start_dnsmasq("192.168.78");
    let after = uplink_that(&board, &outside, "another lease", |uplink| {
        address_of(uplink).is_some_and(|address| address.starts_with("192.168.78."))
            && gateway_of(uplink).as_deref() == Some("192.168.78.1")
    });
    assert_ne!(after.addresses, before.addresses);
    let addresses = board.machine.sh("ip -4 -o addr show dev up0");
    assert_eq!(addresses.lines().count(), 1, "{addresses}");
    let resolv_conf = std::fs::read_to_string(board.run.path().join("resolv.conf")).unwrap();
    assert!(resolv_conf.contains("nameserver 192.168.78.1"), "{resolv_conf}");
}

#[test]
fn a_network_moves_out_of_the_way_of_a_later_lease_and_its_containers_with_it() {
    if !can_run(&["ip", "dnsmasq", "busybox"]) {
        return;
    }
    let mut board = Board::start(Some(networks_with_uplink()));
    let one = Machine::container();
    let mut fixed = nic("yado0");
    fixed.ipv4_address = Some([10, 158, 0, 9]);
    assert_eq!(board.attach("one", &one, &[fixed]), NetReply::Attached);
    udhcpc(&one, board.run.path());
    assert_eq!(board.leased("one"), Ipv4Addr::new(10, 158, 0, 9));
    let changes = File::create(board.run.path().join("changes")).unwrap();
    let mut watching = one.command("ip").args(["monitor", "link"]).stdout(changes).spawn().unwrap();

    let mut outside = Outside::new(&board.machine);
    outside.machine.sh("ip addr flush dev out0 && ip addr add 10.158.0.1/24 dev out0");
    outside.start_dnsmasq("10.158.0");
    let uplink =
        uplink_that(&board, &outside, "a lease", |uplink| gateway_of(uplink).as_deref() == Some("10.158.0.1"));
    assert!(address_of(&uplink).is_some_and(|address| address.starts_with("10.158.0.")), "{uplink:?}");
    board.machine.wait_for("ip -4 -o addr show dev yado0 | grep -F 10.158.1.1/24");
    assert!(board.log().contains("it is 10.158.1.1/24 now"), "{}", board.log());
    let note = Some(LinkNote::Moved { from: ([10, 158, 0, 1].into(), 24) });
    let network = |board: &Board| board.status().into_iter().find(|link| link.role == LinkRole::Network).unwrap();
    assert_eq!((network(&board).note, address_of(&network(&board)).as_deref()), (note, Some("10.158.1.1/24")));
    // A container hears of it by its carrier.
    let heard = board.run.path().join("changes");
    wait_until("the carrier goes", || {
        let said = std::fs::read_to_string(&heard).unwrap();
        if said.contains("NO-CARRIER") { Ok(()) } else { Err(said) }
    });
    watching.kill().unwrap();
    watching.wait().unwrap();
    one.wait_for("ip link show eth0 | grep LOWER_UP");
    udhcpc(&one, board.run.path());
    assert_eq!(board.leased("one"), Ipv4Addr::new(10, 158, 1, 9));
    one.sh("busybox ping -c 1 -W 5 10.158.0.1");
    board.kill_netd();
    board.start_netd();
    assert_eq!(address_of(&network(&board)).as_deref(), Some("10.158.1.1/24"), "it stays where its containers are");
    one.sh("busybox ping -c 1 -W 5 10.158.1.1");
}

#[test]
fn a_lease_is_renewed_from_its_own_address_and_options_are_followed() {
    if !can_run(&["ip", "dnsmasq", "busybox"]) {
        return;
    }
    let (board, mut outside) = Board::with_outside(networks_with_uplink());
    outside.start_udhcpd();
    let count = |what: &str| outside.log().matches(what).count();
    // A lease is renewed after a minute at the earliest.
    let is_renewed = || if 2 <= count("sending ACK") { Ok(()) } else { Err(outside.log()) };
    wait_within(DEADLINE + Duration::from_secs(60), "a renewal", is_renewed);
    let log = outside.log();
    let after_first = log.split_once("sending ACK").map_or("", |(_, after)| after);
    assert!(!after_first.contains("OFFER"), "it began anew\n{log}");
    // Classless routes count instead of the router.
    let routes = board.machine.wait_for("ip route | grep default");
    assert!(routes.contains("via 192.168.77.3 dev up0"), "{routes}");
    assert!(board.machine.sh("ip route show 10.9.0.0/16").contains("via 192.168.77.9"));
    assert!(board.machine.sh("ip -o link show up0").contains("mtu 1400"));
    // A route is no network that the board is connected to: none of its own moves for it.
    assert!(board.machine.sh("ip route show 10.158.0.0/24 dev up0").contains("via 192.168.77.9"));
    let network = board.status().into_iter().find(|link| link.role == LinkRole::Network).unwrap();
    assert_eq!((address_of(&network).as_deref(), network.note), (Some("10.158.0.1/24"), None));
}

#[test]
fn a_static_uplink_needs_no_server_and_a_changed_configuration_is_followed() {
    if !can_run(&["ip", "nft"]) {
        return;
    }
    let mut networks = networks_with_uplink();
    networks.uplinks[0].sources = said("192.168.77.9/24", Some("192.168.77.1"), &["192.168.77.1"]);
    let board = Board::start(Some(networks.clone()));
    let outside = Outside::new(&board.machine);
    let uplink = uplink_that(&board, &outside, "its address", has_route);
    assert_eq!((address_of(&uplink).as_deref(), uplink.lease_left_s), (Some("192.168.77.9/24"), None));
    board.machine.sh("busybox ping -c 1 -W 5 192.168.77.1");

    let mut second = yado_spec::network::BridgeSpec::named(clipped("lan0"));
    second.external_interfaces = vec![clipped("ext0")];
    networks.bridges = vec![second];
    board.machine.sh("ip link add ext0 type veth peer name other0");
    std::fs::write(board.run.path().join("networks.bin"), networks.encode()).unwrap();
    board.machine.sh(&format!("kill -HUP {}", board.netd_pid()));
    board.machine.wait_for("ip -o link show master lan0 | grep ext0");
    board.machine.wait_for("! ip link show yado0");
    board.machine.wait_for("nft list table inet yado | grep lan0 && ! nft list table inet yado | grep yado0");
}

/// Prints what comes to UDP port 5301 of the address, until that is the word `own`.
const HEAR: &str = "
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 5301))
s.settimeout(30)
word = 'ready'
print(word, flush=True)
while word != 'own':
    word = s.recv(99).decode()
    print(word)
";

/// What `to` hears at `address` when `from` speaks to it as `forged`, and then with its own address.
fn heard(from: &Machine, forged: &str, to: &Machine, address: &str) -> Vec<String> {
    let mut hearing = to.command("python3").args(["-c", HEAR, address]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(hearing.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "ready");
    from.sh(&format!(
        "ip addr add {forged}/32 dev lo && python3 - <<'END'
import socket
for source, word in (('{forged}', b'forged'), ('', b'own')):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((source, 0))
    s.sendto(word, ('{address}', 5301))
END
ip addr del {forged}/32 dev lo"
    ));
    let lines = lines.collect();
    hearing.wait().unwrap();
    lines
}

#[test]
fn a_container_speaks_as_nobody_else_to_the_host_and_to_the_world() {
    if !can_run(&["ip", "busybox", "dnsmasq", "python3"]) {
        return;
    }
    let (board, outside) = Board::with_outside(networks_with_uplink());
    let uplink = uplink_that(&board, &outside, "a lease", has_route);
    let uplink = uplink.addresses[0].0.to_string();
    let one = Machine::container();
    assert_eq!(board.attach("one", &one, &[nic("yado0")]), NetReply::Attached);
    udhcpc(&one, board.run.path());
    // The machine's own setting is not what helps here.
    board.machine.sh("echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter");
    // As the name server outside, and from an address that is not masqueraded.
    assert_eq!(heard(&one, "192.168.77.1", &board.machine, &uplink), ["own"]);
    assert_eq!(heard(&one, "198.51.100.9", &outside.machine, "192.168.77.1"), ["own"]);
    for other in ["0", "2"] {
        board.machine.sh(&format!("echo {other} > /proc/sys/net/ipv4/conf/yado0/rp_filter"));
        board.machine.wait_for("grep -x 1 /proc/sys/net/ipv4/conf/yado0/rp_filter");
    }
}

#[test]
fn a_server_that_follows_a_network_does_not_make_it_move_again_and_again() {
    if !can_run(&["ip", "dnsmasq"]) {
        return;
    }
    let (board, mut outside) = Board::with_outside(networks_with_uplink());
    let network = |board: &Board| board.status().into_iter().find(|link| link.role == LinkRole::Network).unwrap();
    for follows in ["10.158.0", "10.158.1"] {
        outside.machine.sh("ip link set out0 down && ip addr flush dev out0");
        outside.machine.sh(&format!("ip addr add {follows}.254/24 dev out0 && ip link set out0 up"));
        outside.start_dnsmasq(follows);
        wait_until("the network has moved once", || {
            let (uplink, network) = (board.uplink(), network(&board));
            let is_leased = address_of(&uplink).is_some_and(|address| address.starts_with(&format!("{follows}.")));
            let is_told = network.note.is_some() && address_of(&network).as_deref() == Some("10.158.1.1/24");
            let is_followed = is_leased && is_told;
            if is_followed { Ok(()) } else { Err(format!("{uplink:?}\n{network:?}\n{}", board.log())) }
        });
    }
    wait_until("it is told", || match network(&board).note {
        Some(LinkNote::Collides { with: (IpAddr::V4(with), 24) }) if with.octets()[..3] == [10, 158, 1] => Ok(()),
        other => Err(format!("{other:?}\n{}", board.log())),
    });
    assert_eq!(address_of(&network(&board)).as_deref(), Some("10.158.1.1/24"));
}

/// A dozen names, three questions each, all at once; every one is answered within five seconds, after which a resolver asks again.
const ASK_AT_ONCE: &str = "python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((\"10.158.0.1\", 53))
s.settimeout(5)
name = b\"\\x06server\\x07outside\\x04test\\x00\"
for i in range(36): s.send(bytes([0, i, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]) + name + bytes([0, 1, 0, 1]))
replies = [s.recv(2000) for i in range(36)]
assert sorted(reply[1] for reply in replies) == list(range(36)), replies
assert all(reply[3] & 15 == 0 and reply[-4:] == bytes([192, 168, 77, 1]) for reply in replies), replies
'";

#[test]
fn a_dozen_names_at_once_are_answered_by_the_first_server_that_is_there_and_speaks() {
    if !can_run(&["ip", "dnsmasq", "python3"]) {
        return;
    }
    let mut networks = networks_with_uplink();
    // Nobody listens at the first, and the second takes what comes and says nothing.
    let nameservers = ["192.168.77.7", "192.168.77.8", "192.168.77.1"];
    networks.uplinks[0].sources = said("192.168.77.9/24", Some("192.168.77.1"), &nameservers);
    let (board, outside) = Board::with_outside(networks);
    // On a link that dnsmasq does not serve.
    outside.machine.sh("ip link add other0 type bridge && ip link set other0 up");
    outside.machine.sh("ip addr add 192.168.77.7/32 dev other0 && ip addr add 192.168.77.8/32 dev other0");
    let mut silent = outside.machine.command("python3");
    let silent = silent.args([
        "-c",
        "import socket, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('192.168.77.8', 53))\ntime.sleep(60)",
    ]);
    let mut silent = silent.spawn().unwrap();
    outside.machine.wait_for("grep -q '084DA8C0:0035' /proc/net/udp");
    uplink_that(&board, &outside, "its address", has_route);
    let one = Machine::container();
    assert_eq!(board.attach("one", &one, &[nic("yado0")]), NetReply::Attached);
    one.sh("ip addr add 10.158.0.250/24 dev eth0");
    one.wait_for("busybox ping -c 1 -W 1 10.158.0.1");
    let answered = one.try_sh(ASK_AT_ONCE);
    silent.kill().unwrap();
    silent.wait().unwrap();
    assert!(answered.status.success(), "{answered:?}\n{}", outside.log());
}
