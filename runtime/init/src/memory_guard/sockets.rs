//! Estimates how much memory the sockets of each instance hold that is charged to no control group. A child of init reads the
//! socket tables of every network namespace in which the instance has a thread. Sockets that are in no table may be in a
//! namespace without threads, or under way in a local socket: they are counted by descriptors, and each is assumed to be full.
//!
//! The instances are frozen meanwhile, so that nothing moves from a place not read yet to one that was read. The child only
//! reads, and only what no instance can write: names that an instance chose are neither needed nor believed.

use super::descriptors::HiddenSockets;
use super::scan_limit::Looks;
use crate::instance::cgroup;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the kernel does not say how long a queue may be: `SK_RMEM_MAX`.
const DEFAULT_QUEUE_BYTES: u64 = 212_992;

/// The kernel doubles what is asked for (`SO_RCVBUF`), up to twice what it says.
const QUEUE_FACTOR: u64 = 2;

/// Tables of sockets in `/proc/PID/net`. That of local sockets is none of them: its lines end with names that may hold any byte.
const TABLES: [Table; 11] = [
    // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
    Table { name: "netlink", inode: 9, queued: Queued::Bytes(4) },
    // sk RefCnt Type Proto Iface R Rmem User Inode
    Table { name: "packet", inode: 8, queued: Queued::Bytes(6) },
    // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
    Table { name: "raw", inode: 9, queued: Queued::SentAndReceived(4) },
    Table { name: "raw6", inode: 9, queued: Queued::SentAndReceived(4) },
    Table { name: "icmp", inode: 9, queued: Queued::SentAndReceived(4) },
    Table { name: "icmp6", inode: 9, queued: Queued::SentAndReceived(4) },
    // The same. These the group is charged with.
    Table { name: "udp", inode: 9, queued: Queued::Charged },
    Table { name: "udp6", inode: 9, queued: Queued::Charged },
    Table { name: "tcp", inode: 9, queued: Queued::Charged },
    Table { name: "tcp6", inode: 9, queued: Queued::Charged },
    Table { name: "udplite", inode: 9, queued: Queued::Charged },
];

/// A table of sockets, one to a line: in which column what is.
#[derive(Debug, Clone, Copy)]
struct Table {
    name: &'static str,
    inode: usize,
    queued: Queued,
}

/// How a table tells how long a queue is.
#[derive(Debug, Clone, Copy)]
enum Queued {
    /// In decimal digits.
    Bytes(usize),
    /// Two queues in hexadecimal digits, with a colon between.
    SentAndReceived(usize),
    /// The control group is charged with it.
    Charged,
}

/// As the child: prints what each of the instances `names`, with groups in `groups`, holds. `missing` is what is looked for:
/// where tables show most of it, nothing else is looked at.
pub(crate) fn run(missing: u64, groups: &Path, names: &[String]) -> ExitCode {
    let queue_bytes = cgroup::read_number(Path::new("/proc/sys/net/core"), "rmem_max").unwrap_or(DEFAULT_QUEUE_BYTES);
    let queue_bytes = queue_bytes.saturating_mul(QUEUE_FACTOR);
    let mut looks = Looks::new();
    let mut seen = Seen::default();
    let mut sums: Vec<Sum> = names.iter().map(|name| Sum::new(name, &groups.join(name), &mut looks)).collect();
    // Each word at once: who is asked for an answer before the end has what is known by then.
    for sum in &mut sums {
        sum.add_tables(&mut seen, &mut looks);
        sum.say(queue_bytes);
    }
    if sums.iter().all(|sum| sum.queued_bytes < missing / 2) {
        for sum in &mut sums {
            sum.found.add_descriptors_of(&sum.threads, &mut seen.sockets, &mut looks, &mut sum.steps);
            sum.say(queue_bytes);
        }
    }
    // Whoever has most that is looked at has it to hide something.
    let most = sums.iter_mut().max_by_key(|sum| sum.steps);
    if let Some(sum) = most.filter(|sum| looks.is_spent_on(sum.steps)) {
        sum.found.is_hiding = true;
        sum.say(queue_bytes);
    }
    ExitCode::SUCCESS
}

/// What was looked at already, by inode: what several share is one instance's.
#[derive(Debug, Default)]
struct Seen {
    namespaces: BTreeSet<u64>,
    sockets: BTreeSet<u64>,
}

/// One instance's.
#[derive(Debug, Default)]
struct Sum {
    name: String,
    threads: Vec<i32>,
    queued_bytes: u64,
    found: HiddenSockets,
    /// What was done to look at it.
    steps: u64,
}

impl Sum {
    fn new(name: &str, group: &Path, looks: &mut Looks) -> Sum {
        let mut sum = Sum { name: name.to_owned(), ..Sum::default() };
        let mut groups = vec![group.to_owned()];
        while let Some(group) = groups.pop() {
            // Of every kind of group, and with threads that are in another namespace than their process.
            let threads = fs::read_to_string(group.join("cgroup.threads")).unwrap_or_default();
            for id in threads.lines().filter_map(|line| line.parse().ok()) {
                if looks.take(&mut sum.steps) {
                    sum.threads.push(id);
                }
            }
            let below = fs::read_dir(&group).into_iter().flatten().flatten();
            groups.extend(below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
        }
        sum
    }

    fn say(&self, queue_bytes: u64) {
        let Sum { name, queued_bytes, found, .. } = self;
        let (unseen_bytes, deepest_bytes) = (found.unseen_bytes(queue_bytes), found.deepest_bytes(queue_bytes));
        // Whom there is nobody to tell is not missed.
        let _ = writeln!(io::stdout(), "{name} {queued_bytes} {unseen_bytes} {deepest_bytes}");
    }

    /// Adds what the tables of its network namespaces say.
    fn add_tables(&mut self, seen: &mut Seen, looks: &mut Looks) {
        for id in std::mem::take(&mut self.threads) {
            let thread = thread_place(id);
            let namespace = link_number(&thread.join("ns/net"), "net:[");
            if namespace.is_some_and(|namespace| seen.namespaces.insert(namespace)) {
                for table in TABLES {
                    if let Ok(file) = File::open(thread.join("net").join(table.name)) {
                        self.add_table(table, BufReader::new(file), seen, looks);
                    }
                }
            }
            self.threads.push(id);
        }
    }

    fn add_table(&mut self, table: Table, mut lines: impl BufRead, seen: &mut Seen, looks: &mut Looks) {
        let mut line = String::new();
        while looks.take(&mut self.steps) && lines.read_line(&mut line).is_ok_and(|len| len != 0) {
            if let Some((inode, bytes)) = table.parse(&line) {
                self.queued_bytes = self.queued_bytes.saturating_add(bytes);
                seen.sockets.insert(inode);
            }
            line.clear();
        }
    }
}

/// Where the kernel tells of a thread.
pub(super) fn thread_place(id: i32) -> PathBuf {
    Path::new("/proc").join(id.to_string())
}

impl Table {
    /// A socket's inode and the bytes in its queues. `None`: a heading, or not a socket's line.
    fn parse(&self, line: &str) -> Option<(u64, u64)> {
        let word = |number| line.split_ascii_whitespace().nth(number);
        let inode = word(self.inode)?.parse().ok()?;
        let bytes = match self.queued {
            // The kernel prints an int that it may have got negative for a moment.
            Queued::Bytes(number) => word(number)?.parse::<i64>().ok()?.try_into().unwrap_or(0),
            Queued::SentAndReceived(number) => {
                let (sent, received) = word(number)?.split_once(':')?;
                let [sent, received] = [sent, received].map(|digits| u64::from_str_radix(digits, 16));
                sent.ok()?.saturating_add(received.ok()?)
            }
            Queued::Charged => 0,
        };
        Some((inode, bytes))
    }
}

/// The number in a link such as `socket:[4711]`.
pub(super) fn link_number(path: &Path, start: &str) -> Option<u64> {
    let target = fs::read_link(path).ok()?;
    target.to_str()?.strip_prefix(start)?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    /// Lines of Linux 6.1's tables: the heading, and a socket.
    const LINES: [(&str, &str, &str, u64, u64); 3] = [
        (
            "netlink",
            "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode",
            "0000000000000000 0   1234       00000440 132352   0        0     2        17       34256",
            34_256,
            132_352,
        ),
        (
            "packet",
            "sk       RefCnt Type Proto  Iface R Rmem   User   Inode",
            "0000000000000000 3      3    0003   2     1 768    0      33081",
            33_081,
            768,
        ),
        (
            "raw",
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops",
            "    1: 00000000:0001 00000000:0000 07 00000300:00001A00 00:00000000 00000000     0        0 35001 2 0000000000000000 0",
            35_001,
            0x1D00,
        ),
    ];

    #[test]
    fn the_kernels_tables_are_understood_by_column() {
        for (name, heading, line, inode, bytes) in LINES {
            let table = TABLES.into_iter().find(|table| table.name == name).unwrap();
            assert_eq!(table.parse(heading), None, "{name}");
            assert_eq!(table.parse(line), Some((inode, bytes)), "{name}");
        }
    }

    #[test]
    fn any_text_is_a_table_of_nothing_worse_than_sockets() {
        let seeds = LINES.map(|(_, heading, line, _, _)| format!("{heading}\n{line}\n").into_bytes());
        fuzz("tables of sockets", &seeds, &[" ", ":", "\n", "ffffffffffffffff", "-1"], |bytes| {
            for table in TABLES {
                let mut sum = Sum::default();
                sum.add_table(table, bytes, &mut Seen::default(), &mut Looks::new());
                assert!(sum.steps <= bytes.len() as u64 + 1);
            }
        });
    }
}
