//! What the sockets of each instance hold that no control group is charged with, as far as it can be seen: a child of ours
//! reads the tables of sockets of every network namespace that one of the instance's threads is in. What is in no table can be
//! in a namespace that has no thread any more, or on its way over a local socket: it is counted by descriptors, and taken for
//! full.
//!
//! The instances are frozen meanwhile, so nothing moves from where we have not looked to where we have. We only read.

use crate::instance::cgroup;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// `ENOMEM`, the same on every architecture.
pub(super) const NO_MEMORY: i32 = 12;

/// As many lines of tables, threads and descriptors are looked at for one instance. Who has more has them to hide something.
const MAX_LOOKS: u32 = 100_000;

/// Who holds less than this part of what is missing is not why it is.
const LEAST_PART: u64 = 16;

/// A descriptor on its way may be a local socket's with others on their way to that: `SCM_MAX_FD` of one message, and it itself.
/// Hardly anybody leaves one waiting.
const MAX_BEHIND: u64 = 254;

/// Where the kernel does not say how long a queue may be: `SK_RMEM_MAX`.
const DEFAULT_QUEUE_BYTES: u64 = 212_992;

/// Tables of sockets in `/proc/PID/net`.
const TABLES: [Table; 12] = [
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
    // Num RefCount Protocol Flags Type St Inode Path
    Table { name: "unix", inode: 6, queued: Queued::Charged },
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

/// What the sockets of an instance hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Weight {
    /// The instance.
    pub(super) name: String,
    /// Seen in their queues.
    queued_bytes: u64,
    /// What those could hold that are in no table.
    unseen_bytes: u64,
}

impl Weight {
    /// Reads a line that the child printed; `None` for what is none.
    pub(super) fn parse(line: &str) -> Option<Weight> {
        let mut words = line.split(' ');
        let (name, queued, unseen) = (words.next()?, words.next()?, words.next()?);
        let (queued_bytes, unseen_bytes) = (queued.parse().ok()?, unseen.parse().ok()?);
        Some(Weight { name: name.to_owned(), queued_bytes, unseen_bytes })
    }

    /// How much of what is missing it may be.
    fn bytes(&self, missing: u64) -> u64 {
        self.queued_bytes.saturating_add(self.unseen_bytes.min(missing))
    }

    /// For people, why it was ended.
    pub(super) fn reason(&self, missing: u64) -> String {
        let mib = |bytes: u64| bytes >> 20;
        let held = if self.queued_bytes < self.unseen_bytes.min(missing) {
            "it has more sockets than others that cannot be looked into".to_owned()
        } else {
            format!("its sockets' queues hold {} MiB of memory that no limit counts", mib(self.queued_bytes))
        };
        format!("{held}, and the machine's ran short: {} MiB were missing", mib(missing))
    }
}

/// The one that holds most, if that can be why memory is missing.
pub(super) fn heaviest(weights: &[Weight], missing: u64) -> Option<&Weight> {
    let heaviest = weights.iter().max_by_key(|weight| weight.bytes(missing))?;
    (missing / LEAST_PART < heaviest.bytes(missing)).then_some(heaviest)
}

/// As the child: prints what each of the instances `names`, with groups in `groups`, holds. `missing` is what is looked for:
/// where tables show most of it, nothing else is looked at.
pub(crate) fn run(missing: u64, groups: &Path, names: &[String]) -> ExitCode {
    let queue_bytes = cgroup::read_number(Path::new("/proc/sys/net/core"), "rmem_max").unwrap_or(DEFAULT_QUEUE_BYTES);
    let mut seen = Seen::default();
    let mut sums: Vec<Sum> = names.iter().map(|name| Sum::new(name, &groups.join(name))).collect();
    // Each word at once: who is asked for an answer before the end has what is known by then.
    for sum in &mut sums {
        sum.add_tables(&mut seen);
        sum.say(queue_bytes);
    }
    if sums.iter().all(|sum| sum.queued_bytes < missing / 2) {
        for sum in &mut sums {
            sum.add_descriptors(&mut seen);
            sum.say(queue_bytes);
        }
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
#[derive(Debug)]
struct Sum {
    name: String,
    threads: Vec<PathBuf>,
    queued_bytes: u64,
    /// Sockets that are in no table, and descriptors on their way.
    unseen: u64,
    looks: u32,
}

impl Sum {
    fn new(name: &str, group: &Path) -> Sum {
        let mut sum = Sum { name: name.to_owned(), threads: Vec::new(), queued_bytes: 0, unseen: 0, looks: 0 };
        let mut groups = vec![group.to_owned()];
        while let Some(group) = groups.pop() {
            // Of every kind of group, and with threads that are in another namespace than their process.
            let threads = fs::read_to_string(group.join("cgroup.threads")).unwrap_or_default();
            for id in threads.lines() {
                if sum.may_look() {
                    sum.threads.push(Path::new("/proc").join(id));
                }
            }
            let below = fs::read_dir(&group).into_iter().flatten().flatten();
            groups.extend(below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
        }
        sum
    }

    fn say(&self, queue_bytes: u64) {
        let Sum { name, queued_bytes, unseen, looks, .. } = self;
        let unseen_bytes = if MAX_LOOKS <= *looks { u64::MAX } else { queue_bytes.saturating_mul(*unseen) };
        // Whom there is nobody to tell is not missed.
        let _ = writeln!(io::stdout(), "{name} {queued_bytes} {unseen_bytes}");
    }

    /// One more look, if that is not too many.
    fn may_look(&mut self) -> bool {
        self.looks = self.looks.saturating_add(1).min(MAX_LOOKS);
        self.looks < MAX_LOOKS
    }

    /// Adds what the tables of its network namespaces say.
    fn add_tables(&mut self, seen: &mut Seen) {
        for thread in std::mem::take(&mut self.threads) {
            let namespace = link_number(&thread.join("ns/net"), "net:[");
            if namespace.is_some_and(|namespace| seen.namespaces.insert(namespace)) {
                for table in TABLES {
                    if let Ok(file) = File::open(thread.join("net").join(table.name)) {
                        self.add_table(table, BufReader::new(file), seen);
                    }
                }
            }
            self.threads.push(thread);
        }
    }

    fn add_table(&mut self, table: Table, mut lines: impl BufRead, seen: &mut Seen) {
        let mut line = String::new();
        while self.may_look() && lines.read_line(&mut line).is_ok_and(|len| len != 0) {
            if let Some((inode, bytes)) = table.parse(&line) {
                self.queued_bytes = self.queued_bytes.saturating_add(bytes);
                seen.sockets.insert(inode);
            }
            line.clear();
        }
    }

    /// Adds the sockets that its threads have and that are in no table, and the descriptors that wait in local sockets.
    fn add_descriptors(&mut self, seen: &mut Seen) {
        let mut counted = BTreeSet::new();
        for thread in std::mem::take(&mut self.threads) {
            // Threads may have descriptors of their own.
            for entry in fs::read_dir(thread.join("fd")).into_iter().flatten().flatten() {
                if !self.may_look() {
                    return;
                }
                let Some(inode) = link_number(&entry.path(), "socket:[") else { continue };
                if !counted.insert(inode) {
                    continue;
                }
                if seen.sockets.insert(inode) {
                    self.unseen = self.unseen.saturating_add(1);
                }
                let about = thread.join("fdinfo").join(entry.file_name());
                let about = fs::read_to_string(about).unwrap_or_default();
                self.unseen = self.unseen.saturating_add(waiting_descriptors(&about).saturating_mul(MAX_BEHIND));
            }
        }
    }
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
fn link_number(path: &Path, start: &str) -> Option<u64> {
    let target = fs::read_link(path).ok()?;
    target.to_str()?.strip_prefix(start)?.strip_suffix(']')?.parse().ok()
}

/// How many descriptors wait in a local socket's queue to be received, by its `fdinfo`.
fn waiting_descriptors(fdinfo: &str) -> u64 {
    let count = fdinfo.lines().find_map(|line| line.strip_prefix("scm_fds:")?.trim().parse().ok());
    count.unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    const MIB: u64 = 1 << 20;

    fn weight(name: &str, queued_mib: u64, unseen_mib: u64) -> Weight {
        Weight { name: name.to_owned(), queued_bytes: queued_mib * MIB, unseen_bytes: unseen_mib * MIB }
    }

    #[test]
    fn the_one_that_holds_most_is_found_and_nobody_who_holds_next_to_nothing() {
        let missing = 64 * MIB;
        let nobody: &[Weight] = &[];
        for (weights, found) in [
            (nobody, None),
            (&[weight("a", 3, 0), weight("b", 60, 0)], Some("b")),
            // A full table counts for more than sockets that might be full, unless there are many of these.
            (&[weight("a", 0, 30), weight("b", 40, 0)], Some("b")),
            (&[weight("a", 0, 600), weight("b", 40, 0)], Some("a")),
            (&[weight("a", 65, 0), weight("b", 0, 4000)], Some("a")),
            (&[weight("a", 4, 0), weight("b", 0, 4)], None),
            (&[weight("a", 0, 5)], Some("a")),
        ] {
            let name = heaviest(weights, missing).map(|weight| weight.name.as_str());
            assert_eq!(name, found, "{weights:?}");
        }
    }

    #[test]
    fn the_reason_says_what_was_seen_and_no_more() {
        let reason = weight("a", 102, 3).reason(110 * MIB);
        assert_eq!(
            reason,
            "its sockets' queues hold 102 MiB of memory that no limit counts, and the machine's ran short: 110 MiB were \
             missing"
        );
        let reason = weight("a", 1, 999).reason(110 * MIB);
        assert!(reason.starts_with("it has more sockets than others that cannot be looked into, and"), "{reason}");
    }

    #[test]
    fn what_the_child_says_is_understood() {
        assert_eq!(Weight::parse("one 2097152 1048576"), Some(weight("one", 2, 1)));
        for wrong in ["", "one", "one 2", "one two three", "one -1 2"] {
            assert_eq!(Weight::parse(wrong), None, "{wrong}");
        }
    }

    /// Lines of Linux 6.1's tables: the heading, and a socket.
    const LINES: [(&str, &str, &str, u64, u64); 4] = [
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
        (
            "unix",
            "Num       RefCount Protocol Flags    Type St Inode Path",
            "0000000000000000: 00000002 00000000 00010000 0001 01 21763 /run/systemd/private",
            21_763,
            0,
        ),
    ];

    #[test]
    fn the_kernels_tables_are_understood_by_column() {
        for (name, heading, line, inode, bytes) in LINES {
            let table = TABLES.into_iter().find(|table| table.name == name).unwrap();
            assert_eq!(table.parse(heading), None, "{name}");
            assert_eq!(table.parse(line), Some((inode, bytes)), "{name}");
        }
        assert_eq!(waiting_descriptors("pos:\t0\nflags:\t02\nmnt_id:\t10\nino:\t7\nscm_fds: 12\n"), 12);
        assert_eq!(waiting_descriptors("pos:\t0\n"), 0);
    }

    #[test]
    fn any_text_is_a_table_of_nothing_worse_than_sockets() {
        let seeds = LINES.map(|(_, heading, line, _, _)| format!("{heading}\n{line}\n").into_bytes());
        fuzz("tables of sockets", &seeds, &[" ", ":", "\n", "ffffffffffffffff", "-1"], |bytes| {
            for table in TABLES {
                let mut sum = Sum { name: String::new(), threads: Vec::new(), queued_bytes: 0, unseen: 0, looks: 0 };
                sum.add_table(table, bytes, &mut Seen::default());
                assert!(sum.looks as usize <= bytes.len() + 1);
            }
        });
    }
}
