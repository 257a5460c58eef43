//! What one container can make netd and the machine's tables do: little, and nothing that its neighbours notice.

use crate::can_run;
use crate::machines::{Board, Machine, networks_with_uplink, nic, text, udhcpc, wait_until};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use yado_wire::network::{LinkNote, LinkRole, LinkStatus, NetReply};

/// How long each flood lasts.
const FLOOD: Duration = Duration::from_secs(8);

/// Processor time that netd has had.
fn processor_time(board: &Board) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", board.netd_pid())).unwrap();
    // proc_pid_stat(5): utime and stime are the fields 14 and 15, in hundredths of a second; the name ends with `)`.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// What a container does without end; it ends with the test.
struct Flood(Child);

impl Flood {
    fn start(machine: &Machine, line: &str) -> Flood {
        let mut command = machine.command("timeout");
        Flood(command.args(["60", "sh", "-c", line]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // timeout(1) ends with what it started.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Changes the carrier without end, in pairs.
const FLAPS: &str = "while :; do ip link set eth0 down; ip link set eth0 up; sleep 0.01; done";

/// Asks for addresses without end, each time as another client.
const DHCP: &str = "python3 -c '
import os, socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
while True:
    discover = bytes([1, 1, 6, 0]) + os.urandom(4) + bytes(20) + bytes([2]) + os.urandom(5) + bytes(202)
    discover += bytes([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255])
    try: s.sendto(discover, (\"10.158.0.1\", 67))
    except OSError: pass
    time.sleep(0.0005)
'";

/// Asks for a name without end.
const DNS: &str = "python3 -c '
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
query = bytes([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4]) + b\"good\" + bytes([3]) + b\"lxd\" + bytes([0, 0, 1, 0, 1])
while True:
    try: s.sendto(query, (\"10.158.0.1\", 53))
    except OSError: pass
    time.sleep(0.0005)
'";

/// Asks for a name over TCP without end.
const DNS_TCP: &str = "python3 -c '
import socket
query = bytes([0, 26, 0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4]) + b\"good\" + bytes([3]) + b\"lxd\" + bytes([0, 0, 1, 0, 1])
while True:
    try:
        s = socket.create_connection((\"10.158.0.1\", 53))
        while True:
            s.sendall(query)
            s.recv(4096)
    except OSError: pass
'";

#[test]
fn a_flood_costs_netd_little_and_a_neighbour_is_served_meanwhile() {
    if !can_run(&["ip", "busybox", "dig", "python3"]) {
        return;
    }
    let mut results = Vec::new();
    for (what, flood) in [("link flaps", FLAPS), ("DHCP", DHCP), ("DNS", DNS), ("DNS over TCP", DNS_TCP)] {
        let board = Board::start(None);
        let (bad, good) = (Machine::container(), Machine::container());
        assert_eq!(board.attach("bad", &bad, &[nic("yado0")]), NetReply::Attached);
        assert_eq!(board.attach("good", &good, &[nic("yado0")]), NetReply::Attached);
        bad.sh("ip addr add 10.158.0.250/24 dev eth0");
        let before = processor_time(&board);
        let start = Instant::now();
        let flood = Flood::start(&bad, flood);
        let mut served = Vec::new();
        while start.elapsed() < FLOOD {
            let asked = Instant::now();
            good.sh("ip addr flush dev eth0");
            udhcpc(&good, board.run.path());
            good.sh("dig +short +time=1 +tries=5 @10.158.0.1 good.lxd | grep -q ^10.158");
            served.push(asked.elapsed());
        }
        let (spent, elapsed) = (processor_time(&board).saturating_sub(before), start.elapsed());
        if what == "link flaps" {
            let is_held = |link: &LinkStatus| matches!(link.note, Some(LinkNote::HeldDown { .. }));
            let status = board.status();
            let held: Vec<&LinkStatus> = status.iter().filter(|link| is_held(link)).collect();
            assert!(
                matches!(&held[..], [link] if matches!(&link.role, LinkRole::Nic { instance, .. } if instance.name.as_str() == "bad"))
            );
            assert!(board.log().contains("it is left down for 30 s"), "{}", board.log());
        }
        drop(flood);
        let slowest = *served.iter().max().unwrap();
        eprintln!(
            "{what}: netd had {spent:?} of {elapsed:?}; the slowest of {} leases took {slowest:?}",
            served.len()
        );
        results.push((what, spent, elapsed, slowest));
    }
    for (what, spent, elapsed, slowest) in results {
        assert!(spent < elapsed / 12, "{what}: netd had {spent:?} of {elapsed:?}");
        assert!(slowest < Duration::from_secs(8), "{what}: {slowest:?}");
    }
}

/// Asks without end for a name that nobody answers.
const SILENT: &str = "python3 -c '
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
query = bytes([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 6]) + b\"silent\" + bytes([4]) + b\"test\" + bytes([0, 0, 1, 0, 1])
while True:
    try: s.sendto(query, (\"10.158.0.1\", 53))
    except OSError: pass
    time.sleep(0.005)
'";

/// Has as many connections to the name server as it lets it, and says nothing.
const MUTE: &str = "python3 -c '
import select, socket
mute = []
while True:
    while len(mute) < 20:
        try: mute.append(socket.create_connection((\"10.158.0.1\", 53), 1))
        except OSError: break
    closed = select.select(mute, [], [], 0.1)[0]
    mute = [s for s in mute if s not in closed]
'";

#[test]
fn one_container_does_not_have_all_places_of_the_name_server() {
    if !can_run(&["ip", "busybox", "dig", "dnsmasq", "python3"]) {
        return;
    }
    let (board, _outside) = Board::with_outside(networks_with_uplink());
    let (bad, good) = (Machine::container(), Machine::container());
    assert_eq!(board.attach("bad", &bad, &[nic("yado0")]), NetReply::Attached);
    assert_eq!(board.attach("good", &good, &[nic("yado0")]), NetReply::Attached);
    bad.sh("ip addr add 10.158.0.250/24 dev eth0");
    udhcpc(&good, board.run.path());
    good.wait_for("dig +short +time=1 @10.158.0.1 server.outside.test | grep -q 192.168.77.1");
    for (flood, transport) in [(SILENT, "+notcp"), (MUTE, "+tcp")] {
        let _flood = Flood::start(&bad, flood);
        let start = Instant::now();
        let mut slowest = Duration::ZERO;
        while start.elapsed() < FLOOD / 2 {
            let asked = Instant::now();
            good.wait_for(&format!(
                "dig +short +time=1 +tries=1 {transport} @10.158.0.1 server.outside.test | grep -q 192.168.77.1"
            ));
            slowest = slowest.max(asked.elapsed());
        }
        assert!(slowest < Duration::from_secs(3), "{transport}: {slowest:?}");
    }
}

/// Asks at once as much as a port may, for names that nobody answers, as the neighbour of its argument.
const IN_ANOTHERS_NAME: &str = "
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
source, here = socket.inet_aton(sys.argv[1]), socket.inet_aton('10.158.0.1')
for i in range(48):
    query = bytes([0, i, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 6]) + b'silent' + bytes([4]) + b'test' + bytes([0, 0, 1, 0, 1])
    udp = bytes([0x30, i, 0, 53]) + (8 + len(query)).to_bytes(2, 'big') + bytes(2) + query
    ip = bytes([0x45, 0]) + (20 + len(udp)).to_bytes(2, 'big') + bytes([0, 0, 0, 0, 64, 17, 0, 0]) + source + here
    s.sendto(ip + udp, ('10.158.0.1', 0))
";

#[test]
fn who_asks_in_a_neighbours_name_leaves_it_places_of_the_name_server() {
    if !can_run(&["ip", "busybox", "dig", "dnsmasq", "python3"]) {
        return;
    }
    let (board, outside) = Board::with_outside(networks_with_uplink());
    let (bad, good) = (Machine::container(), Machine::container());
    assert_eq!(board.attach("bad", &bad, &[nic("yado0")]), NetReply::Attached);
    assert_eq!(board.attach("good", &good, &[nic("yado0")]), NetReply::Attached);
    bad.sh("ip addr add 10.158.0.250/24 dev eth0");
    bad.wait_for("busybox ping -c 1 -W 1 10.158.0.1");
    udhcpc(&good, board.run.path());
    good.wait_for("dig +short +time=1 @10.158.0.1 server.outside.test | grep -q 192.168.77.1");
    let source = board.leased("good").to_string();
    assert!(bad.command("python3").args(["-c", IN_ANOTHERS_NAME, &source]).status().unwrap().success());
    // Until the silent server's time is over, after two seconds.
    let answer = good.try_sh("dig +short +time=1 +tries=1 @10.158.0.1 server.outside.test");
    assert_eq!(text(&answer.stdout).trim(), "192.168.77.1", "{answer:?}\n{}", outside.log());
    assert!(30 < outside.log().matches("silent.test").count(), "they were asked\n{}", outside.log());
}

#[test]
fn a_bridge_of_somebody_else_on_the_machine_is_not_limited() {
    if !can_run(&["ip", "busybox", "python3"]) {
        return;
    }
    let board = Board::start(None);
    assert!(!board.log().contains("cannot limit"), "{}", board.log());
    let guest = Machine::new();
    board
        .machine
        .sh("ip link add other0 type bridge && ip addr add 10.77.0.1/24 dev other0 && ip link set other0 up");
    board.machine.sh(&format!("ip link add guest0 type veth peer name eth0 netns {}", guest.pid()));
    board.machine.sh("ip link set guest0 master other0 up");
    guest.sh("ip addr add 10.77.0.2/24 dev eth0 && ip link set eth0 up");
    guest.wait_for("busybox ping -c 1 -W 1 10.77.0.1");
    // Nobody listens there, and the kernel counts what came.
    let count = "awk '/^Udp: [0-9]/ { print $3 }' /proc/net/snmp";
    let before: u32 = board.machine.sh(count).trim().parse().unwrap();
    guest.sh("python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(100): s.sendto(bytes(240), (\"10.77.0.1\", 67))
'");
    wait_until("all have come", || {
        let came = board.machine.sh(count).trim().parse::<u32>().unwrap() - before;
        if came == 100 { Ok(()) } else { Err(format!("{came} of 100")) }
    });
}

/// Begins a connection to each port, over and over: of UDP, which nobody answers, or of TCP, which is refused.
fn connections(kind: &str) -> String {
    format!(
        "python3 -c '
import socket
while True:
    for port in range(1000, 60000):
        s = socket.socket(socket.AF_INET, socket.{kind})
        s.setblocking(False)
        try:
            s.connect((\"192.168.77.1\", port))
            s.send(b\"x\")
        except OSError: pass
        s.close()
'"
    )
}

#[test]
fn one_container_does_not_fill_the_table_of_connections() {
    fill_table(true, &["SOCK_DGRAM", "SOCK_STREAM"]);
}

#[test]
fn nor_does_one_of_a_network_whose_packets_are_not_filtered() {
    fill_table(false, &["SOCK_DGRAM"]);
}

fn fill_table(firewall: bool, kinds: &[&str]) {
    if !can_run(&["ip", "nft", "busybox", "dnsmasq", "python3"]) {
        return;
    }
    let mut networks = networks_with_uplink();
    networks.bridges[0].ipv4.as_mut().unwrap().firewall = firewall;
    let (board, outside) = Board::with_outside(networks);
    board.machine.wait_for("busybox ping -c 1 -W 1 192.168.77.1");
    let (bad, good) = (Machine::container(), Machine::container());
    for (name, machine) in [("bad", &bad), ("good", &good)] {
        assert_eq!(board.attach(name, machine, &[nic("yado0")]), NetReply::Attached);
        udhcpc(machine, board.run.path());
    }
    let count = || board.machine.sh("cat /proc/sys/net/netfilter/nf_conntrack_count").trim().parse::<u32>().unwrap();
    for kind in kinds {
        let flood = Flood::start(&bad, &connections(kind));
        let (start, mut most, mut pings) = (Instant::now(), 0, 0);
        while start.elapsed() < FLOOD {
            most = most.max(count());
            good.sh("busybox ping -c 1 -W 2 192.168.77.1");
            board.machine.sh("busybox ping -c 1 -W 2 192.168.77.1");
            pings += 1;
        }
        drop(flood);
        eprintln!("{kind}: {most} entries at most; {pings} pings of a neighbour and of the machine answered");
        // Half of a network's share is open, and as much was closed lately.
        assert!(most < 4096, "{kind}: {most} entries");
    }
    let own = board.machine.sh("ip -4 -o addr show dev up0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/'");
    let tracked = board
        .machine
        .sh(&format!("grep -c 'icmp.*src={} dst=192.168.77.1' /proc/net/nf_conntrack || true", own.trim()));
    assert_eq!(tracked.trim(), "0", "the machine's own pings take no room");
    assert_eq!(board.machine.sh("cat /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close").trim(), "2");
    assert!(!board.log().contains("cannot limit"), "{}", board.log());
    drop(outside);
}
