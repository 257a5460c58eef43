//! What the kernel kept of its log over a reset: the files of pstore. `dmesg-…` is the log up to a panic or an oops, which the first
//! line tells (`Panic#1 Part1`); `console-…` is what was printed last, whatever happened. The newest of each counts.

use std::cmp::Reverse;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;
use yado_sys::regular_file;

/// The log of the last system that did not end in order, on the data partition.
pub(super) const KEPT: &str = "log/last-kernel-log";

/// So much is kept of one: what the kernel said last stands at its end.
const MAX_KEPT_BYTES: usize = 32 << 10;

/// So much is read of one; kernels keep some 16 to 128 KiB.
const MAX_READ_BYTES: u64 = 256 << 10;

/// So many are looked at.
const MAX_FILES: usize = 64;

/// What there is.
#[derive(Debug, Default)]
pub(super) struct KernelLog {
    /// The log up to the last panic.
    pub(super) panic: Option<Vec<u8>>,
    /// What was printed last.
    console: Option<Vec<u8>>,
    names: Vec<String>,
}

impl KernelLog {
    /// Reads what is in this directory; without one there is nothing.
    pub(super) fn read(directory: &Path) -> KernelLog {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let named = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let written = entry.metadata().and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            (name.starts_with("dmesg-") || name.starts_with("console-")).then_some((name, written))
        });
        let mut files: Vec<(String, SystemTime)> = named.take(MAX_FILES).collect();
        // Where none has a time, the first of them: ramoops numbers a boot's records from 0.
        files.sort_by(|a, b| Reverse(a.1).cmp(&Reverse(b.1)).then_with(|| a.0.cmp(&b.0)));
        let names: Vec<String> = files.into_iter().map(|(name, _)| name).collect();
        let newest = |kind: &str, is_it: fn(&[u8]) -> bool| {
            let of_kind = names.iter().filter(|name| name.starts_with(kind));
            of_kind.filter_map(|name| read_file(&directory.join(name))).find(|log| is_it(log)).map(end_of)
        };
        KernelLog { panic: newest("dmesg-", is_panic), console: newest("console-", |_| true), names }
    }

    /// What tells most.
    pub(super) fn log(&self) -> Option<&[u8]> {
        self.panic.as_deref().or(self.console.as_deref())
    }

    /// Has the kernel forget it.
    pub(super) fn remove(&self, directory: &Path) {
        for name in &self.names {
            let _ = fs::remove_file(directory.join(name));
        }
    }
}

fn read_file(path: &Path) -> Option<Vec<u8>> {
    let mut log = Vec::new();
    regular_file::open(path).ok()?.take(MAX_READ_BYTES).read_to_end(&mut log).ok()?;
    Some(log)
}

/// The first line of a record says what made the kernel keep it.
fn is_panic(log: &[u8]) -> bool {
    log.split(|byte| *byte == b'\n').next().is_some_and(|line| line.starts_with(b"Panic#"))
}

fn end_of(log: Vec<u8>) -> Vec<u8> {
    log.get(log.len().saturating_sub(MAX_KEPT_BYTES)..).unwrap_or_default().to_vec()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::Duration;

    fn write(directory: &Path, name: &str, text: &str, written_s: u64) {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(written_s);
        File::options().write(true).open(path).unwrap().set_modified(written).unwrap();
    }

    #[test]
    fn the_newest_panic_is_found_among_older_ones_and_oopses() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        assert!(KernelLog::read(&at.join("none")).log().is_none());
        write(at, "dmesg-ramoops-0", "Panic#1 Part1\nthe older one\n", 100);
        write(at, "dmesg-ramoops-1", "Oops#2 Part1\nan oops\n", 300);
        write(at, "dmesg-ramoops-2", "Panic#3 Part1\nthe newer one\n", 200);
        write(at, "console-ramoops-0", "printed last\n", 400);
        write(at, "pmsg-ramoops-0", "not ours\n", 500);
        let log = KernelLog::read(at);
        assert_eq!(log.panic.as_deref(), Some(&b"Panic#3 Part1\nthe newer one\n"[..]));
        assert_eq!(log.log(), log.panic.as_deref());
        log.remove(at);
        let left: Vec<String> =
            fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(left, ["pmsg-ramoops-0"]);
    }

    #[test]
    fn without_a_panic_what_was_printed_last_is_the_log_and_its_end_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        write(at, "dmesg-efi-1", "Oops#1 Part1\nan oops\n", 100);
        let long = format!("{}the end", "x".repeat(2 * MAX_KEPT_BYTES));
        write(at, "console-ramoops-0", &long, 100);
        let log = KernelLog::read(at);
        assert!(log.panic.is_none());
        let kept = log.log().unwrap();
        assert_eq!((kept.len(), kept.ends_with(b"the end")), (MAX_KEPT_BYTES, true));
        // What is no file is no log.
        fs::create_dir(at.join("dmesg-ramoops-0")).unwrap();
        std::os::unix::fs::symlink("/proc/kmsg", at.join("dmesg-ramoops-1")).unwrap();
        assert!(KernelLog::read(at).panic.is_none());
    }
}
