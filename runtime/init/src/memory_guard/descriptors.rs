//! Memory behind an instance's descriptors that is in no table of sockets: sockets of a namespace without threads, descriptors
//! under way in local sockets, and the queues of TUN devices.

use super::scan_limit::Looks;
use super::sockets::{link_number, thread_place};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use yado_sys::descriptor_table;

/// A descriptor on its way may be a local socket's with others on their way to that: `SCM_MAX_FD` of one message, and it itself.
/// Hardly anybody leaves one waiting.
const MAX_BEHIND: u64 = 254;

/// A TUN device's queue holds so many packets unless somebody asks for more (`txqueuelen`).
const TUN_PACKETS: u64 = 1000;

/// What a packet of the usual 1500 bytes takes.
const TUN_PACKET_BYTES: u64 = 2304;

/// A TUN device queues packets of up to 64 KiB.
const MAX_TUN_PACKET_BYTES: u64 = 65_536;

/// What an instance's descriptors hold.
#[derive(Debug, Default)]
pub(super) struct HiddenSockets {
    /// Sockets that are in no table.
    sockets: u64,
    /// Descriptors that wait in local sockets.
    waiting: u64,
    /// TUN devices, by name: several processes of a virtual network's may share one.
    tuns: BTreeSet<String>,
    /// There was too much to look at all of it.
    pub(super) is_hiding: bool,
}

/// What the kernel says of a descriptor in its `fdinfo`.
#[derive(Debug, PartialEq, Eq)]
enum About {
    /// A local socket, with so many descriptors in its queue. Linux tells since 5.6, of every local socket and no other file.
    Local { waiting: u64 },
    /// A queue of this TUN device.
    Tun(String),
    /// Anything else.
    Other,
}

impl HiddenSockets {
    /// What it could hold if each socket and each descriptor on its way were a queue of so many bytes, full.
    pub(super) fn unseen_bytes(&self, queue_bytes: u64) -> u64 {
        self.bytes(queue_bytes, 1, TUN_PACKET_BYTES)
    }

    /// What it could hold at the very most.
    pub(super) fn deepest_bytes(&self, queue_bytes: u64) -> u64 {
        self.bytes(queue_bytes, MAX_BEHIND, MAX_TUN_PACKET_BYTES)
    }

    fn bytes(&self, queue_bytes: u64, behind: u64, packet_bytes: u64) -> u64 {
        if self.is_hiding {
            return u64::MAX;
        }
        let queues = self.sockets.saturating_add(self.waiting.saturating_mul(behind));
        let tuns = (self.tuns.len() as u64).saturating_mul(TUN_PACKETS).saturating_mul(packet_bytes);
        queues.saturating_mul(queue_bytes).saturating_add(tuns)
    }

    /// Adds what these threads have. `seen`: sockets that were counted already, or are in a table.
    pub(super) fn add_descriptors_of(
        &mut self,
        threads: &[i32],
        seen: &mut BTreeSet<u64>,
        looks: &mut Looks,
        steps: &mut u64,
    ) {
        let mut counted = BTreeSet::new();
        for id in with_own_tables(threads) {
            let place = thread_place(id);
            for entry in fs::read_dir(place.join("fd")).into_iter().flatten().flatten() {
                if !looks.step(steps) {
                    return;
                }
                let inode = link_number(&entry.path(), "socket:[");
                // Pipes and the like are no matter of ours; and a device may have any path.
                let may_count = match inode {
                    Some(inode) => counted.insert(inode),
                    None => fs::read_link(entry.path()).is_ok_and(|target| target.is_absolute()),
                };
                if !may_count {
                    continue;
                }
                if !looks.take(steps) {
                    return;
                }
                match (about(&place.join("fdinfo").join(entry.file_name())), inode) {
                    (About::Local { waiting }, _) => self.waiting = self.waiting.saturating_add(waiting),
                    (About::Tun(name), _) => {
                        self.tuns.insert(name);
                    }
                    (About::Other, Some(inode)) if seen.insert(inode) => {
                        self.sockets = self.sockets.saturating_add(1);
                    }
                    (About::Other, _) => {}
                }
            }
        }
    }
}

/// One thread of all that share a table of descriptors.
fn with_own_tables(threads: &[i32]) -> Vec<i32> {
    let mut with_own: Vec<i32> = Vec::new();
    for thread in threads {
        let mut is_uncomparable = false;
        let place = with_own.binary_search_by(|other| {
            descriptor_table::compare(*other, *thread).unwrap_or_else(|_| {
                is_uncomparable = true;
                std::cmp::Ordering::Equal
            })
        });
        match place {
            // Rather looked at twice than not at all.
            Ok(place) if is_uncomparable => with_own.insert(place, *thread),
            Ok(_) => {}
            Err(place) => with_own.insert(place, *thread),
        }
    }
    with_own
}

fn about(fdinfo: &Path) -> About {
    parse_about(&String::from_utf8_lossy(&fs::read(fdinfo).unwrap_or_default()))
}

fn parse_about(fdinfo: &str) -> About {
    for line in fdinfo.lines() {
        if let Some(count) = line.strip_prefix("scm_fds:") {
            return About::Local { waiting: count.trim().parse().unwrap_or(0) };
        }
        if let Some(name) = line.strip_prefix("iff:") {
            return About::Tun(name.trim().to_owned());
        }
    }
    About::Other
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    #[test]
    fn what_the_kernel_says_of_descriptors_is_understood() {
        let local = "pos:\t0\nflags:\t02\nmnt_id:\t10\nino:\t7\nscm_fds: 12\n";
        assert_eq!(parse_about(local), About::Local { waiting: 12 });
        assert_eq!(parse_about("pos:\t0\nflags:\t02\nmnt_id:\t10\niff:\ttun0\n"), About::Tun("tun0".to_owned()));
        assert_eq!(parse_about("pos:\t0\n"), About::Other);
        let (one, _other) = UnixStream::pair().unwrap();
        let of = |descriptor: i32| about(&Path::new("/proc/self/fdinfo").join(descriptor.to_string()));
        assert_eq!(of(one.as_raw_fd()), About::Local { waiting: 0 });
        assert_eq!(of(File::open("/dev/null").unwrap().as_raw_fd()), About::Other);
    }

    #[test]
    fn one_on_its_way_is_one_queue_and_many_only_at_the_very_most() {
        let queue = 400_000;
        let found = |sockets, waiting, tuns: &[&str]| HiddenSockets {
            sockets,
            waiting,
            tuns: tuns.iter().map(|name| (*name).to_owned()).collect(),
            is_hiding: false,
        };
        for (found, unseen, deepest) in [
            (found(0, 0, &[]), 0, 0),
            (found(3, 0, &[]), 3 * queue, 3 * queue),
            (found(0, 1, &[]), queue, 254 * queue),
            (found(2, 1, &[]), 3 * queue, 256 * queue),
            (found(0, 0, &["tun0"]), 2_304_000, 65_536_000),
            (found(u64::MAX, u64::MAX, &[]), u64::MAX, u64::MAX),
            (HiddenSockets { is_hiding: true, ..HiddenSockets::default() }, u64::MAX, u64::MAX),
        ] {
            assert_eq!((found.unseen_bytes(queue), found.deepest_bytes(queue)), (unseen, deepest), "{found:?}");
        }
    }

    #[test]
    fn threads_that_share_a_table_are_looked_at_once() {
        let mut children = [0; 3].map(|_| Command::new("sleep").arg("60").spawn().unwrap());
        let own = std::process::id() as i32;
        let [one, two, three] = children.each_ref().map(|child| child.id() as i32);
        let threads: Vec<i32> = fs::read_dir("/proc/self/task")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .chain([one, own, two, three, one])
            .collect();
        let mut found = with_own_tables(&threads);
        if descriptor_table::compare(own, own).is_ok() {
            // Whichever of our threads was the first.
            found.retain(|id| [one, two, three].contains(id));
            found.sort_unstable();
            let mut expected = [one, two, three];
            expected.sort_unstable();
            assert_eq!(found, expected);
            assert_eq!(with_own_tables(&threads).len(), 4);
        }
        // Where nothing can be compared, all are looked at.
        let gone = [i32::MAX - 1, i32::MAX - 2];
        assert_eq!(with_own_tables(&gone).len(), 2);
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
