//! What one request costs netd, counted and not timed: a container decides how many it makes, and the limits in
//! `firewall/limits.rs` are derived from what each takes.

use crate::can_run;
use crate::machines::{Board, Machine, networks_with_uplink, nic, udhcpc, wait_until};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use yado_wire::network::NetReply;

/// Counts netd's system calls, by strace.
struct Count {
    strace: Child,
    path: std::path::PathBuf,
}

impl Count {
    fn start(board: &Board) -> Count {
        let path = board.run.path().join("strace");
        let strace = Command::new("strace")
            .args(["-f", "-c", "-U", "name,calls", "-o"])
            .arg(&path)
            .args(["-p", &board.netd_pid().to_string()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let tracer = format!("TracerPid:\t{}\n", strace.id());
        // All of its threads: the last one is the last to be attached to.
        wait_until("strace is attached", || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", board.netd_pid())).unwrap();
            let status = |task: std::path::PathBuf| std::fs::read_to_string(task.join("status")).unwrap();
            let is_traced = tasks.into_iter().all(|task| status(task.unwrap().path()).contains(&tracer));
            is_traced.then_some(()).ok_or_else(|| "not attached".to_owned())
        });
        Count { strace, path }
    }

    /// How often each was called.
    fn end(mut self) -> BTreeMap<String, u32> {
        Command::new("kill").args(["-INT", &self.strace.id().to_string()]).status().unwrap();
        self.strace.wait().unwrap();
        let table = std::fs::read_to_string(&self.path).unwrap();
        let rows = table.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, calls) = (words.next()?, words.next()?.parse().ok()?);
            (name != "total").then(|| (name.to_owned(), calls))
        });
        rows.collect()
    }
}

/// How often netd's threads have gone to sleep.
fn sleeps(board: &Board) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", board.netd_pid())).unwrap();
    let status = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    let of = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap().trim();
        line.parse::<u64>().unwrap()
    };
    status.map(of).sum()
}

/// Waits until what was done before is over: netd looks at late changes of links after half a second.
fn wait_for_quiet(board: &Board) {
    let mut last = (sleeps(board), Instant::now());
    wait_until("netd has nothing to do", || {
        let now = sleeps(board);
        if now != last.0 {
            last = (now, Instant::now());
        }
        let quiet = last.1.elapsed();
        if Duration::from_secs(1) < quiet { Ok(()) } else { Err(format!("quiet for {quiet:?}")) }
    });
}

/// So many clients that nobody knows look for a server, one after the other, and each is offered an address.
const CLIENTS: u32 = 8;
const DISCOVER: &str = "python3 -c '
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.bind((\"0.0.0.0\", 68))
s.settimeout(5)
for i in range(8):
    xid = os.urandom(4)
    discover = bytes([1, 1, 6, 0]) + xid + bytes([0, 0, 128, 0]) + bytes(16) + bytes([2]) + os.urandom(5) + bytes(202)
    s.sendto(discover + bytes([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255]), (\"10.158.0.1\", 67))
    while s.recv(2000)[4:8] != xid: pass
'";

/// So many questions that somebody else answers, one after the other, and slower than netd makes pauses between them.
const QUESTIONS: u32 = 48;
const ASK: &str = "python3 -c '
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((\"10.158.0.1\", 53))
s.settimeout(5)
for i in range(48):
    name = b\"\\x04n%03d\\x07outside\\x04test\\x00\" % i
    s.send(bytes([0, i, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]) + name + bytes([0, 1, 0, 1]))
    while s.recv(2000)[1] != i: pass
    time.sleep(0.005)
'";

#[test]
fn a_client_that_nobody_knows_and_a_name_that_is_passed_on_cost_few_system_calls_and_no_file() {
    if !can_run(&["ip", "busybox", "dig", "dnsmasq", "python3", "strace"]) {
        return;
    }
    let (board, outside) = Board::with_outside(networks_with_uplink());
    let (one, bad) = (Machine::container(), Machine::container());
    assert_eq!(board.attach("one", &one, &[nic("yado0")]), NetReply::Attached);
    assert_eq!(board.attach("bad", &bad, &[nic("yado0")]), NetReply::Attached);
    bad.sh("ip addr add 10.158.0.250/24 dev eth0");
    udhcpc(&one, board.run.path());
    one.wait_for("dig +short +time=1 @10.158.0.1 server.outside.test | grep -q 192.168.77.1");

    // Every write replaces the file by another one.
    let state = || std::fs::metadata(board.run.path().join("netd.state")).map(|file| (file.ino(), file.ctime_nsec()));
    let before = (state().unwrap(), sleeps(&board));
    for (what, line, requests, max_calls) in [("client", DISCOVER, CLIENTS, 5), ("question", ASK, QUESTIONS, 9)] {
        wait_for_quiet(&board);
        let count = Count::start(&board);
        bad.sh(line);
        let calls = count.end();
        let all: u32 = calls.values().sum();
        // What the attaching interrupts is called again.
        assert!(all <= requests * max_calls + 12, "{requests} times {what}: {all}, {calls:?}");
        let of = |names: &[&str]| names.iter().filter_map(|name| calls.get(*name)).sum::<u32>();
        assert_eq!(of(&["openat", "rename", "fsync"]), 0, "{what}: {calls:?}");
    }
    assert_eq!(state().unwrap(), before.0, "netd.state was written");

    // Sixteen questions share a port at most, and the ports are others each time.
    let log = outside.log();
    let ports = log.lines().filter(|line| line.contains("query[A] n0")).filter_map(|line| {
        let from = line.split_whitespace().find(|word| word.starts_with("192.168.77.") && word.contains('/'))?;
        from.split_once('/')?.1.parse::<u16>().ok()
    });
    let mut asked: BTreeMap<u16, u32> = BTreeMap::new();
    ports.for_each(|port| *asked.entry(port).or_default() += 1);
    assert_eq!(asked.values().sum::<u32>(), QUESTIONS, "{log}");
    assert!(asked.values().all(|&count| count <= 16) && 3 <= asked.len(), "{asked:?}");

    // A renewal that comes soon is answered without a file, too; who waits is not woken for anything else.
    let before = (state().unwrap(), sleeps(&board));
    udhcpc(&one, board.run.path());
    assert_eq!(state().unwrap(), before.0, "netd.state was written");
    let slept = sleeps(&board) - before.1;
    assert!(slept <= 8, "netd went to sleep {slept} times for one lease");
}

/// Not so often that the port is left down.
const FLAPS: u32 = 18;

#[test]
fn a_link_that_goes_up_and_down_is_not_looked_at_each_time() {
    if !can_run(&["ip", "strace"]) {
        return;
    }
    let board = Board::start(None);
    let bad = Machine::container();
    assert_eq!(board.attach("bad", &bad, &[nic("yado0")]), NetReply::Attached);
    wait_for_quiet(&board);
    let count = Count::start(&board);
    let began = Instant::now();
    bad.sh(&format!("for i in $(seq {FLAPS}); do ip link set eth0 down; ip link set eth0 up; sleep 0.1; done"));
    let calls = count.end();
    // Each look asks for links, addresses and routes; at ten changes a second it takes two looks in a second. A machine with other
    // things to do takes longer for the changes, and each has its own look when it takes very long.
    let seconds = began.elapsed().as_secs_f64().ceil() as u32;
    let asked = calls["sendto"];
    assert!((3..=3 * (2 * seconds + 2)).contains(&asked), "{seconds} s: {calls:?}");
}

/// How much of netd's program the kernel has mapped for it, in KiB.
fn mapped_program(board: &Board) -> u64 {
    let process = std::path::PathBuf::from(format!("/proc/{}", board.netd_pid()));
    let program = std::fs::read_link(process.join("exe")).unwrap();
    let maps = std::fs::read_to_string(process.join("smaps")).unwrap();
    let mut is_program = false;
    let mut sum = 0;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Rss:") if is_program => sum += words.next().unwrap().parse::<u64>().unwrap(),
            Some(word) if !word.ends_with(':') => is_program = line.ends_with(program.to_str().unwrap()),
            _ => {}
        }
    }
    sum
}

/// The last pause between looks ends when there is nothing more to look at.
#[test]
fn who_is_woken_for_nothing_gives_its_memory_back_again() {
    if !can_run(&["ip"]) {
        return;
    }
    let board = Board::start(None);
    let bad = Machine::container();
    assert_eq!(board.attach("bad", &bad, &[nic("yado0")]), NetReply::Attached);
    wait_for_quiet(&board);
    let mut at_rest = mapped_program(&board);
    for _ in 0..3 {
        bad.sh(&format!("for i in $(seq {FLAPS}); do ip link set eth0 down; ip link set eth0 up; done"));
        wait_until("netd has given back what it mapped", || {
            // Who wakes it soon after has it wait for longer each time, up to five seconds.
            wait_for_quiet(&board);
            let now = mapped_program(&board);
            at_rest = at_rest.min(now);
            if now * 2 <= at_rest * 3 { Ok(()) } else { Err(format!("{now} KiB, at rest {at_rest}")) }
        });
    }
}
