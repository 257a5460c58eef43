//! Aborts FUSE connections before an instance is killed. A process that waits for a FUSE server that does not answer cannot be
//! killed: fuse(4) lets it wait even then, and the server may be in the same container and wait itself. On an aborted connection
//! the kernel answers for the server: every request fails.
//!
//! The owner of a connection's directory in sysfs says who mounted it, as an id of the host. A privileged instance's connections
//! cannot be told from ours, and are aborted only when the machine shuts down. Writing to `abort` does not block.

use crate::kernel_mounts;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use yado_sys::volume;
use yado_wire::rescue::Mode;

/// Where the kernel lists them, if it knows FUSE at all (its module may not be loaded).
const DIRECTORY: &str = "/sys/fs/fuse/connections";

/// As many are looked at in one call. More than a machine has memory for, where looking is slow.
const MAX_CONNECTIONS: usize = 65_536;

/// As many are aborted in one call. Then nothing waits for them any more, and the next call takes others.
const MAX_ABORTS: usize = 4096;

/// As many of those are aborted that nothing waits for: something may before it is killed. They are again found the next time.
const MAX_IDLE: usize = 1024;

/// Which FUSE mounts' connections are aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FuseMounts {
    /// Those that were mounted under an id of this range.
    Ids(Range<u32>),
    /// All but the one that the root is on.
    All,
}

/// Aborts connections. How many there were.
pub(crate) fn abort(whose: &FuseMounts, mode: Mode) -> usize {
    if !Path::new(DIRECTORY).exists() {
        return 0;
    }
    // A host mounts it itself, or not.
    if mode == Mode::System && kernel_mounts::FUSE.mount().is_err() {
        return 0;
    }
    let root = volume::device_number(Path::new("/")).map_or(0, |(_, minor)| minor).to_string();
    abort_below(Path::new(DIRECTORY), whose, &root)
}

fn abort_below(directory: &Path, whose: &FuseMounts, root: &str) -> usize {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let owned = entries.flatten().take(MAX_CONNECTIONS).filter(|entry| match whose {
        FuseMounts::Ids(ids) => entry.metadata().is_ok_and(|found| ids.contains(&found.uid())),
        FuseMounts::All => entry.file_name() != *root,
    });
    let mut idle = 0usize;
    let chosen = owned.map(|entry| entry.path()).filter(|connection| {
        if is_waited_for(connection) {
            return true;
        }
        idle = idle.saturating_add(1);
        idle <= MAX_IDLE
    });
    chosen.filter(|connection| fs::write(connection.join("abort"), "1").is_ok()).take(MAX_ABORTS).count()
}

fn is_waited_for(connection: &Path) -> bool {
    fs::read_to_string(connection.join("waiting")).is_ok_and(|requests| requests.trim() != "0")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::chown;

    #[test]
    fn connections_are_told_apart_by_who_mounted_them() {
        let directory = tempfile::TempDir::new().unwrap();
        let connection = |number: &str| directory.path().join(number);
        for (number, uid) in [("44", 0), ("45", 1_000_000), ("46", 1_065_535), ("47", 1_065_536)] {
            fs::create_dir(connection(number)).unwrap();
            fs::write(connection(number).join("abort"), "").unwrap();
            if chown(connection(number), Some(uid), None).is_err() {
                return println!("SKIPPED: needs root");
            }
        }
        let aborted = || {
            let is_aborted = |number: &&&str| fs::read_to_string(connection(number).join("abort")).unwrap() == "1";
            ["44", "45", "46", "47"].iter().filter(is_aborted).copied().collect::<Vec<_>>()
        };
        assert_eq!(abort_below(directory.path(), &FuseMounts::Ids(1_000_000..1_065_536), "44"), 2);
        assert_eq!(aborted(), ["45", "46"]);
        assert_eq!(abort_below(directory.path(), &FuseMounts::All, "44"), 3);
        assert_eq!(aborted(), ["45", "46", "47"]);
        assert_eq!(abort_below(&connection("none"), &FuseMounts::All, "44"), 0);
    }

    #[test]
    fn the_one_that_is_waited_for_is_found_among_any_number_of_others() {
        // In memory, where it can be: so many directories take long on a disk.
        let directory = tempfile::TempDir::new_in("/dev/shm").or_else(|_| tempfile::TempDir::new()).unwrap();
        // As the kernel lists them in any order, some would be behind the others.
        for number in 0..6000 {
            fs::create_dir(directory.path().join(number.to_string())).unwrap();
        }
        for (number, waiting) in (6000..6020).map(|number| (number, if number % 2 == 0 { "0\n" } else { "1\n" })) {
            let connection = directory.path().join(number.to_string());
            fs::create_dir(&connection).unwrap();
            fs::write(connection.join("abort"), "").unwrap();
            fs::write(connection.join("waiting"), waiting).unwrap();
            if chown(&connection, Some(1_000_000), None).is_err() {
                return println!("SKIPPED: needs root");
            }
        }
        assert_eq!(abort_below(directory.path(), &FuseMounts::Ids(1_000_000..1_065_536), "0"), 20);
    }
}
