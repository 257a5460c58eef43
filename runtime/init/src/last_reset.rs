//! Why the system was started. Three witnesses: the hardware watchdog, what the kernel kept of a panic ([`kernel_log`]), and a mark
//! of our own on the data partition ([`mark`]), written when the system is up and when it ends in order. From them one answer, for
//! the updater and the command, in a file in memory. Two small files are written in each boot, and one more after a panic.
//!
//! A child of PID 1's does it: the disk may be slow.

mod kernel_log;
pub(crate) mod mark;

use crate::booted_slot;
use crate::kernel_mounts;
use crate::modules::Loader;
use kernel_log::KernelLog;
use mark::{Ended, Mark};
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use yado_sys::replace_file;
use yado_wire::Text;
use yado_wire::booted_slot::{BootedSlot, RUNNING_FILE};
use yado_wire::last_reset::{FILE, LastReset, ResetCause};
use yado_wire::names::clipped;

/// By the devicetree's word for memory that keeps such records; the driver may be a module.
const RESERVED_MEMORY: &str = "/proc/device-tree/reserved-memory";

/// How this program is told, by PID 1, that the hardware watchdog did it.
pub(crate) const BY_WATCHDOG: &str = "watchdog";

/// What is known of the last reset.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Evidence {
    /// What the last boot left; `None`: nothing, or nothing that can be read.
    mark: Option<Mark>,
    /// The hardware says that its watchdog did it.
    was_watchdog: bool,
    /// The kernel kept the log of a panic.
    was_panic: bool,
}

/// The one answer. What the kernel and the hardware say is newer than any mark: it was taken away at the last boot, and a boot
/// that ends before it has a data partition leaves no mark.
fn judge(evidence: &Evidence) -> ResetCause {
    match evidence {
        Evidence { was_panic: true, .. } => ResetCause::Panic,
        Evidence { was_watchdog: true, .. } => ResetCause::Watchdog,
        Evidence { mark: Some(Mark { ended: Some(_), .. }), .. } => ResetCause::Asked,
        Evidence { mark: Some(Mark { ended: None, .. }), .. } => ResetCause::Power,
        Evidence { mark: None, .. } => ResetCause::Unknown,
    }
}

/// Notes, in a child of PID 1's, why the system was started, and that it is up: in `run` and on the data partition. What fails is
/// printed, and does not keep the rest from being done.
pub(crate) fn run(data: &Path, run: &Path, was_watchdog: bool, slot: Option<char>) -> ExitCode {
    if fs::read_dir(RESERVED_MEMORY).is_ok_and(|entries| entries.flatten().any(is_of_ramoops)) {
        Loader::new().load("ramoops");
    }
    let pstore = Path::new(kernel_mounts::PSTORE.target);
    if pstore.exists() {
        if let Err(error) = kernel_mounts::PSTORE.mount() {
            println!("{error}");
        }
    }
    let reset = note(data, run, pstore, was_watchdog, slot);
    println!("why the system was started: {}", words(&reset));
    ExitCode::SUCCESS
}

fn is_of_ramoops(entry: fs::DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b"ramoops")
}

fn note(data: &Path, run: &Path, pstore: &Path, was_watchdog: bool, slot: Option<char>) -> LastReset {
    let told =
        |what: &Path, done: io::Result<()>| done.map_err(|error| println!("{}: {error}", what.display())).is_ok();
    let path = mark::path(data);
    let mark = mark::read(&path);
    let kept = KernelLog::read(pstore);
    let cause = judge(&Evidence { mark: mark.clone(), was_watchdog, was_panic: kept.panic.is_some() });
    // Of a system that was asked to end nobody wants the log.
    let log = match cause {
        ResetCause::Asked => None,
        ResetCause::Panic | ResetCause::Watchdog | ResetCause::Power | ResetCause::Unknown => kept.log(),
    };
    let is_log_kept = log.is_some_and(|log| {
        let to = data.join(kernel_log::KEPT);
        let made = to.parent().map_or(Ok(()), fs::create_dir_all);
        told(&to, made.and_then(|()| replace_file::replace(&to, 0o600, log)))
    });
    // Also where it could not be kept: the next boot must not take it for its own.
    kept.remove(pstore);
    let Asked { by, reason } = match mark.as_ref().and_then(|mark| mark.ended.as_ref()) {
        Some(Ended { asked, .. }) if cause == ResetCause::Asked => asked.clone(),
        Some(_) | None => Asked::default(),
    };
    let reset = LastReset { cause, slot: mark.and_then(|mark| mark.slot), by, reason, is_log_kept };
    let file = run.join(FILE);
    told(&file, replace_file::replace_unsynced(&file, 0o644, reset.to_text().as_bytes()));
    let running = fs::read_to_string(run.join(RUNNING_FILE)).ok().and_then(|text| BootedSlot::parse(&text));
    let (lines, standing) = (Mark { slot, ended: None }.lines(), booted_slot::standing(running, &data.join("state")));
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    told(&path, made.and_then(|()| mark::write(&path, &lines, standing)));
    reset
}

/// Who asked for the end of the system, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Asked {
    pub(crate) by: Text<31>,
    /// In their words; may be empty.
    pub(crate) reason: Text<200>,
}

impl Asked {
    /// Somebody who gives no reason.
    pub(crate) fn by(who: &str) -> Asked {
        Asked { by: clipped(who), reason: Text::new() }
    }
}

fn words(reset: &LastReset) -> String {
    let mut text = reset.cause.name().to_owned();
    for (word, said) in [("by", reset.by.as_str()), ("for", reset.reason.as_str())] {
        if !said.is_empty() {
            text.push_str(&format!(" {word} {said}"));
        }
    }
    if reset.is_log_kept {
        text.push_str(&format!(" ({} on the data partition has what the kernel said)", kernel_log::KEPT));
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use mark::Goal;
    use yado_wire::formats::Standing;

    fn asked() -> Mark {
        let asked = Asked { by: clipped("updater"), reason: clipped("release 2 goes on trial") };
        Mark { slot: Some('A'), ended: Some(Ended { goal: Goal::Reboot, asked }) }
    }

    const UP: Mark = Mark { slot: Some('A'), ended: None };

    #[test]
    fn from_what_is_known_there_is_one_answer() {
        use ResetCause::{Asked, Panic, Power, Unknown, Watchdog};
        let table = [
            // (mark, watchdog, panic) → why
            (None, false, false, Unknown),
            (None, true, false, Watchdog),
            (None, false, true, Panic),
            (Some(UP), false, false, Power),
            (Some(UP), true, false, Watchdog),
            (Some(UP), false, true, Panic),
            // A panic that the watchdog ended, because `panic=` was not set.
            (Some(UP), true, true, Panic),
            (Some(asked()), false, false, Asked),
            // It hung on its way down, or the system after it hung before it had a data partition.
            (Some(asked()), true, false, Watchdog),
            // The system that was asked for panicked before it had a data partition.
            (Some(asked()), false, true, Panic),
            (Some(asked()), true, true, Panic),
        ];
        for (mark, was_watchdog, was_panic, cause) in table {
            let evidence = Evidence { mark, was_watchdog, was_panic };
            assert_eq!(judge(&evidence), cause, "{evidence:?}");
        }
    }

    #[test]
    fn each_boot_finds_what_the_one_before_left() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let (data, run, pstore) = (at("data"), at("run"), at("pstore"));
        for path in [&data, &run, &pstore] {
            fs::create_dir(path).unwrap();
        }
        let boot = |was_watchdog, slot| {
            let reset = note(&data, &run, &pstore, was_watchdog, slot);
            let read = fs::read_to_string(run.join(FILE)).unwrap();
            assert_eq!(LastReset::parse(&read), Some(reset.clone()));
            reset
        };
        let kept = || fs::read_to_string(data.join(kernel_log::KEPT)).unwrap_or_default();
        let first = boot(false, Some('A'));
        assert_eq!((first.cause, first.slot, first.is_log_kept), (ResetCause::Unknown, None, false));
        let cut = boot(false, Some('A'));
        assert_eq!((cut.cause, cut.slot), (ResetCause::Power, Some('A')));
        mark::write(&mark::path(&data), &asked().lines(), Standing::Confirmed).unwrap();
        let rebooted = boot(false, Some('B'));
        assert_eq!((rebooted.cause, rebooted.by.as_str()), (ResetCause::Asked, "updater"));
        assert_eq!(rebooted.reason.as_str(), "release 2 goes on trial");
        // Slot B panics, and its mark is still there.
        fs::write(pstore.join("dmesg-ramoops-0"), "Panic#1 Part1\n<0>[    3.1] Kernel panic - not syncing\n")
            .unwrap();
        let fallen = boot(false, Some('A'));
        assert_eq!((fallen.cause, fallen.slot, fallen.by.as_str()), (ResetCause::Panic, Some('B'), ""));
        assert!(fallen.is_log_kept && kept().contains("not syncing"), "{}", kept());
        assert_eq!(fs::read_dir(&pstore).unwrap().count(), 0);
        assert_eq!(boot(true, None).cause, ResetCause::Watchdog);
        assert!(kept().contains("not syncing"), "nothing newer was kept");
        // Nothing can be written: the answer is the same.
        fs::remove_dir_all(&data).unwrap();
        fs::write(&data, "no directory").unwrap();
        assert_eq!(boot(true, None).cause, ResetCause::Watchdog);
    }
}
