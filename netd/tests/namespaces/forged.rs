//! Frames with hardware addresses that are not their sender's: the bridge learns none of them, and reaches everybody. And
//! errors that are not true.

use crate::can_run;
use crate::machines::{Board, Machine, networks_with_uplink, nic, said, udhcpc};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
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

/// A name server that tells the port that it was asked from, and replies once it is told to.
const SLOW_SERVER: &str = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('192.168.77.8', 53))
print('ready', flush=True)
query, asker = s.recvfrom(2000)
print(asker[1], flush=True)
input()
s.sendto(query[:2] + bytes([0x81, 0x80]) + query[4:], asker)
";

/// Asks, and prints the reply's code.
const ASK: &str = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(20)
s.connect(('10.158.0.1', 53))
s.send(bytes([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4]) + b'slow' + bytes([4]) + b'test' + bytes([0, 0, 1, 0, 1]))
print(s.recv(2000)[3] & 15, flush=True)
";

/// Told a port of the uplink's, says to it that the name server does not know it: port unreachable, parameter problem; both also
/// about a header with options.
const REFUSE: &str = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
print('ready', flush=True)
port = int(input())
for kind, code in ((3, 3), (12, 0)):
    for words in (5, 6):
        quoted = bytes([0x40 + words, 0, 0, 60, 0, 0, 0, 0, 64, 17, 0, 0, 192, 168, 77, 9, 192, 168, 77, 8])
        quoted += bytes([1]) * (4 * words - 20) + port.to_bytes(2, 'big') + bytes([0, 53, 0, 40, 0, 0])
        icmp = lambda sum: bytes([kind, code]) + sum.to_bytes(2, 'big') + bytes(4) + quoted
        total = sum(int.from_bytes(icmp(0)[at:at + 2], 'big') for at in range(0, len(icmp(0)), 2))
        while total >> 16: total = (total & 0xffff) + (total >> 16)
        s.sendto(icmp(0xffff - total), ('192.168.77.9', 0))
print('said', flush=True)
";

/// A script that speaks with the test line by line.
struct Script {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Script {
    fn start(mut python: Command, text: &str) -> Script {
        let mut child = python.args(["-c", text]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Script { child, lines }
    }

    fn hear(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_container_does_not_end_others_questions_by_errors_about_the_name_server() {
    if !can_run(&["ip", "busybox", "dnsmasq", "python3"]) {
        return;
    }
    let mut networks = networks_with_uplink();
    networks.uplinks[0].sources = said("192.168.77.9/24", Some("192.168.77.1"), &["192.168.77.8"]);
    let (board, outside) = Board::with_outside(networks);
    // On a link that dnsmasq does not serve.
    outside.machine.sh("ip link add other0 type bridge && ip link set other0 up");
    outside.machine.sh("ip addr add 192.168.77.8/32 dev other0");
    board.machine.wait_for("busybox ping -c 1 -W 1 192.168.77.8");
    let (bad, good) = (Machine::container(), Machine::container());
    for (name, machine, address) in [("bad", &bad, "10.158.0.250"), ("good", &good, "10.158.0.251")] {
        assert_eq!(board.attach(name, machine, &[nic("yado0")]), NetReply::Attached);
        machine.sh(&format!("ip addr add {address}/24 dev eth0 && ip route add default via 10.158.0.1"));
        machine.wait_for("busybox ping -c 1 -W 1 192.168.77.9");
    }
    let mut server = Script::start(outside.machine.command("python3"), SLOW_SERVER);
    let mut refuse = Script::start(bad.command("python3"), REFUSE);
    assert_eq!([server.hear(), refuse.hear()], ["ready", "ready"]);
    let mut ask = Script::start(good.command("python3"), ASK);
    let port = server.hear();
    refuse.tell(&port);
    assert_eq!(refuse.hear(), "said");
    server.tell("reply");
    assert_eq!(ask.hear(), "0", "as the server replied");
    // A neighbour's own refusal is heard: nobody listens there.
    let refused = board.machine.try_sh(
        "python3 -c \"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.connect(('10.158.0.250', 9))
s.send(b'x')
try: s.recv(9)
except ConnectionRefusedError: print('refused')
\"",
    );
    assert_eq!(refused.stdout, b"refused\n", "{refused:?}");
}
