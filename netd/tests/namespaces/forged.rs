//! Frames with hardware addresses that are not their sender's: the bridge learns none of them, and reaches everybody.

use crate::can_run;
use crate::machines::{Board, Machine, nic, udhcpc};
use yado_wire::network::NetReply;

/// As many as `forge` sends, and more than anybody here has addresses.
const FORGED: usize = 3000;

/// Sends frames out of `eth0`, each from an address of its own, and then one from `stolen`.
fn forge(from: &Machine, stolen: &str) {
    from.sh(&format!(
        "python3 - <<'END'
import os, socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('eth0', 0))
for n in range({FORGED}):
    s.send(b'\\xff' * 6 + b'\\x02\\x00\\x00' + n.to_bytes(3, 'big') + b'\\x88\\xb5' + bytes(46))
s.send(b'\\xff' * 6 + bytes.fromhex('{stolen}'.replace(':', '')) + b'\\x88\\xb5' + bytes(46))
END"
    ));
}

fn hwaddr(machine: &Machine) -> String {
    machine.sh("ip -o link show eth0 | sed 's/.*ether \\([0-9a-f:]*\\).*/\\1/'").trim().to_owned()
}

/// The bridge's table: address and port, one a line.
fn table(board: &Board) -> Vec<String> {
    board.machine.sh("bridge fdb show br yado0").lines().map(str::to_owned).collect()
}

/// The line of the address, once for each port that has it.
fn entries<'a>(table: &'a [String], hwaddr: &str) -> Vec<&'a str> {
    assert_eq!(hwaddr.len(), 17, "{hwaddr}");
    table.iter().map(String::as_str).filter(|line| line.starts_with(hwaddr) && !line.contains("self")).collect()
}

#[test]
fn a_bridge_keeps_one_address_of_each_container_and_reaches_all_others_too() {
    if !can_run(&["ip", "bridge", "busybox", "python3"]) {
        return;
    }
    let board = Board::start(None);
    let (bad, good, outer) = (Machine::container(), Machine::container(), Machine::new());
    for (name, machine) in [("bad", &bad), ("good", &good), ("outer", &outer)] {
        assert_eq!(board.attach(name, machine, &[nic("yado0")]), NetReply::Attached);
    }
    udhcpc(&good, board.run.path());
    let of_good = hwaddr(&good);
    let before = entries(&table(&board), &of_good).join("\n");
    assert!(before.contains("static") && before.contains("sticky"), "{before}");
    forge(&bad, &of_good);
    let after = table(&board);
    assert!(after.len() < 50, "{} entries", after.len());
    assert_eq!(entries(&after, &of_good), [before]);
    good.sh("busybox ping -c 1 -W 5 10.158.0.1");

    // A container in the container, with an address of its own behind the same port.
    let nested = Machine::new();
    outer.sh(&format!("ip link add link eth0 name eth1 netns {} type macvlan mode bridge", nested.pid()));
    nested.sh("ip link set eth1 name eth0 && ip link set eth0 up && ip addr add 10.158.0.240/24 dev eth0");
    nested.sh("busybox ping -c 1 -W 5 10.158.0.1");
    good.sh("busybox ping -c 1 -W 5 10.158.0.240");
    board.machine.sh("busybox ping -c 1 -W 5 10.158.0.240");
    assert!(entries(&table(&board), &hwaddr(&nested)).is_empty());
    // And one that took another address.
    good.sh("ip link set eth0 down && ip link set eth0 address 02:00:00:00:00:99 && ip link set eth0 up");
    good.sh("busybox ping -c 1 -W 5 10.158.0.1");
    board.machine.sh(&format!("busybox ping -c 1 -W 5 {}", board.leased("good")));
}

#[test]
fn a_port_that_learned_before_forgets_it_once_netd_runs() {
    if !can_run(&["ip", "bridge", "python3"]) {
        return;
    }
    let mut board = Board::start(None);
    let (bad, good) = (Machine::container(), Machine::container());
    assert_eq!(board.attach("bad", &bad, &[nic("yado0")]), NetReply::Attached);
    assert_eq!(board.attach("good", &good, &[nic("yado0")]), NetReply::Attached);
    let of_good = hwaddr(&good);
    let as_it_was = entries(&table(&board), &of_good).join("\n");
    board.kill_netd();
    let each_port = "for link in $(ip -o link | sed -n 's/.*\\(veth[0-9a-f]*\\)@.*/\\1/p'); do";
    board.machine.sh(&format!(
        "{each_port} bridge link set dev $link learning on; bridge fdb del {of_good} dev $link master; done; true"
    ));
    forge(&bad, &of_good);
    let learned = table(&board);
    assert!(FORGED < learned.len(), "{} entries", learned.len());
    assert_ne!(entries(&learned, &of_good), [as_it_was.as_str()], "stolen");
    board.start_netd();
    let after = table(&board);
    assert!(after.len() < 50, "{} entries", after.len());
    assert_eq!(entries(&after, &of_good), [as_it_was]);
    // While it runs, it sees that somebody lets a port learn.
    board.machine.sh(&format!("{each_port} bridge link set dev $link learning on; done"));
    board.machine.wait_for("! bridge -d link show | grep -q 'learning on'");
}
