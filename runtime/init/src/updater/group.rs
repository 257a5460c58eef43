//! The control group of the updater, beside that of all instances: an update takes what they leave of processor and disk, and no
//! more memory than is set here, whatever is fetched.

use crate::instance::cgroup;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// What all its processes may use together, pages of files that they read and write among it.
const MEMORY_BYTES: u32 = 32 << 20;

/// Less than a half of what all instances together have, 25, and a tenth of the kernel's default (cgroup-v2.rst, "cpu.weight").
const WEIGHT: u32 = 10;

/// It starts one more process, for what comes from a network.
const MAX_PROCESSES: u32 = 16;

/// So many earlier runs may have left processes that are killed and have not ended.
const MAX_LEFT: u32 = 8;

/// Makes the group, and in it one for the next run. What is left of an earlier run is killed.
pub(super) fn make(group: &Path) -> io::Result<File> {
    remove(group);
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let settings = [
        ("memory.max", MEMORY_BYTES.to_string()),
        ("memory.swap.max", "0".to_owned()),
        ("memory.oom.group", "1".to_owned()),
        ("cpu.weight", WEIGHT.to_string()),
        ("io.weight", WEIGHT.to_string()),
        ("pids.max", MAX_PROCESSES.to_string()),
    ];
    for (file, value) in settings {
        // Without the controller there is no such file, and no limit.
        let _ = fs::write(group.join(file), value);
    }
    make_of_run(group)
}

/// A group that is new: what is started in one that was killed once is killed too, by all kernels since 6.14 and those that took the
/// change over (`kill_seq` in kernel/cgroup/cgroup.c: clone3(2) compares the count of its caller's group with that of the new one).
fn make_of_run(group: &Path) -> io::Result<File> {
    for number in 0..MAX_LEFT {
        let run = group.join(format!("run-{number}"));
        match fs::create_dir(&run) {
            Ok(()) => return File::open(run),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Kills what is in the group, and takes it away if that is gone already; if not, the next start does.
pub(super) fn remove(group: &Path) {
    cgroup::kill(group);
    let _ = cgroup::remove(group);
}
