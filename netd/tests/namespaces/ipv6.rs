//! IPv6, which networks do not have: containers speak it with each other over their bridge, and the host does not listen.

use crate::can_run;
use crate::machines::{Board, Machine, nic, text, udhcpc, wait_until};
use yado_spec::NetworksSpec;
use yado_wire::network::NetReply;

/// A router advertisement (RFC 4861, 4.2) to all on the link of `eth0`: a default router for half an hour, with the prefix
/// 2001:db8:bad::/64, on the link and for addresses. The kernel adds the checksum.
const ADVERTISE: &str = "python3 - <<'END'
import socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
router = struct.pack('>BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0)
prefix = struct.pack('>BBBBIII', 3, 4, 64, 0xc0, 86400, 86400, 0) + socket.inet_pton(socket.AF_INET6, '2001:db8:bad::')
s.sendto(router + prefix, ('ff02::1', 0, 0, socket.if_nametoindex('eth0')))
END";

fn has_ipv6() -> bool {
    let has_ipv6 = std::path::Path::new("/proc/sys/net/ipv6").exists();
    if !has_ipv6 {
        eprintln!("SKIPPED: this kernel has no IPv6");
    }
    has_ipv6
}

/// Advertises from `from` until `link` of `to` has an address and a default route of it.
fn advertise_until_believed(from: &Machine, to: &Machine, link: &str) {
    wait_until("an advertisement that is believed", || {
        // Refused until the sender's own address has been found to be free.
        let sent = from.try_sh(ADVERTISE);
        let seen = to.sh(&format!("ip -6 -o addr show dev {link}; ip -6 -o route show default dev {link}"));
        if seen.contains("2001:db8:bad:") && seen.contains("default") {
            return Ok(());
        }
        Err(format!("{seen}{}", text(&sent.stderr)))
    });
}

/// IPv6 addresses and routes of every link but the loopback.
fn ipv6_of(machine: &Machine) -> Vec<String> {
    let lines = machine.sh("ip -6 -o addr show; ip -6 -o route show");
    lines.lines().filter(|line| !line.contains(" lo ")).map(str::to_owned).collect()
}

#[test]
fn the_host_takes_neither_address_nor_route_from_a_container() {
    if !can_run(&["ip", "busybox", "python3"]) || !has_ipv6() {
        return;
    }
    let board = Board::start(None);
    let (bad, other) = (Machine::container(), Machine::container());
    assert_eq!(board.attach("bad", &bad, &[nic("yado0")]), NetReply::Attached);
    assert_eq!(board.attach("other", &other, &[nic("yado0")]), NetReply::Attached);
    // The neighbour, a port further than the host, believes it: so it was sent well and has passed the bridge.
    advertise_until_believed(&bad, &other, "eth0");
    assert_eq!(ipv6_of(&board.machine), [""; 0]);
    let local = other.sh("ip -6 -o addr show dev eth0 scope link");
    let local = local.split_whitespace().find_map(|word| word.strip_suffix("/64")).unwrap();
    bad.sh(&format!("busybox ping6 -c 1 -W 5 {local}%eth0"));
}

#[test]
fn what_a_bridge_took_before_is_gone_once_netd_runs() {
    if !can_run(&["ip", "busybox", "python3"]) || !has_ipv6() {
        return;
    }
    let mut board = Board::start(None);
    let bad = Machine::container();
    assert_eq!(board.attach("bad", &bad, &[nic("yado0")]), NetReply::Attached);
    board.kill_netd();
    board.machine.sh("for link in yado0 $(ip -o link | sed -n 's/.*\\(veth[0-9a-f]*\\)@.*/\\1/p'); do \
                      echo 0 > /proc/sys/net/ipv6/conf/$link/disable_ipv6; done");
    advertise_until_believed(&bad, &board.machine, "yado0");
    board.start_netd();
    assert_eq!(ipv6_of(&board.machine), [""; 0]);
}

#[test]
fn a_bridge_too_small_for_ipv6_serves_all_the_same_and_has_none_when_it_grows() {
    if !can_run(&["ip", "busybox"]) || !has_ipv6() {
        return;
    }
    let mut networks = NetworksSpec::default_networks();
    networks.uplinks.clear();
    // Below 1280 bytes the kernel has no IPv6 on a link, as if it had none at all.
    networks.bridges[0].mtu = Some(1200);
    let board = Board::start(Some(networks.clone()));
    let one = Machine::container();
    assert_eq!(board.attach("one", &one, &[nic("yado0")]), NetReply::Attached);
    udhcpc(&one, board.run.path());
    assert!(!board.machine.try_sh("cat /proc/sys/net/ipv6/conf/yado0/disable_ipv6").status.success());
    networks.bridges[0].mtu = Some(1500);
    std::fs::write(board.run.path().join("networks.bin"), networks.encode()).unwrap();
    board.machine.sh(&format!("kill -HUP {}", board.netd_pid()));
    board.machine.wait_for("grep -x 1 /proc/sys/net/ipv6/conf/yado0/disable_ipv6");
    one.sh("busybox ping -c 1 -W 5 10.158.0.1");
}
