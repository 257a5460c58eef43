//! What a process may still do and has open, as the kernel says.

use std::fs;
use std::path::{Path, PathBuf};

/// <linux/capability.h>: `CHOWN`, `DAC_OVERRIDE`, `FOWNER`, `FSETID`, `KILL`, `SETGID`, `SETUID`, `SETPCAP`, `SYS_ADMIN`, `MKNOD`,
/// `SETFCAP`.
pub(crate) const UPDATER: [u32; 11] = [0, 1, 3, 4, 5, 6, 7, 8, 21, 27, 31];
/// `DAC_OVERRIDE`, `SYS_ADMIN`.
pub(crate) const WRITER_OF_BOOT_FILES: [u32; 2] = [1, 21];

pub(crate) fn status(process: &Path, field: &str) -> String {
    let status = fs::read_to_string(process.join("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap();
    line.split_once(':').unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(crate) fn assert_confined(process: &Path, capabilities: &[u32]) {
    let all = u64::from_str_radix(&status(Path::new("/proc/self"), "CapPrm"), 16).unwrap();
    let expected = format!("{:016x}", all & capabilities.iter().map(|number| 1 << number).sum::<u64>());
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status(process, set), expected, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status(process, set), "0".repeat(16), "{set}");
    }
    assert_eq!((status(process, "NoNewPrivs"), status(process, "Seccomp")), ("1".to_owned(), "2".to_owned()));
}

/// The one that has started all others, and those.
pub(crate) fn parent_and_children(processes: Vec<PathBuf>) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let is_parent = |process: &PathBuf| {
        processes.iter().all(|other| other == process || Path::new("/proc").join(status(other, "PPid")) == *process)
    };
    processes.iter().cloned().partition(is_parent)
}

/// Files that are no devices, by their paths; what ends with the updater if nobody else has it open is among them.
pub(crate) fn open_files(process: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter(|target| target.is_absolute() && !target.starts_with("/dev")).collect()
}
