//! How far an update is: one line of JSON in `updater/status` in init's runtime directory. The updater writes it aside and renames it,
//! at most a few times a second; the command shows it. What the names mean is the same for programs that read `--format json`.

use crate::rescue::ExitStatus;
use serde::{Deserialize, Serialize};

/// The file's name in init's runtime directory.
pub const FILE: &str = "updater/status";

/// Nobody writes a longer one.
pub const MAX_BYTES: usize = 16 * 1024;

/// What the updater does. What a later release adds is passed over, and what is missing is not known.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateStatus {
    /// The process that writes it: what another one left is not its word.
    pub pid: u32,
    /// How far the update is, by the word of the record: `idle`, `candidate`, `checking`, `staging`, `staged`, `armed`, `trial`, `judged`,
    /// `confirming`, `undoing`; and `done`, when what was asked for is.
    pub phase: String,
    /// The number of the release.
    pub release: Option<u64>,
    /// Its version, for people.
    pub version: Option<String>,
    /// The slot that is written: `A` or `B`.
    pub slot: Option<char>,
    /// What is at work: `compare`, `write`, `read-back`, `boot-files`, `images`.
    pub stage: Option<String>,
    /// Bytes of this stage that are done.
    pub done: u64,
    /// All bytes of this stage; 0: it is not known.
    pub total: u64,
    /// Bytes per second, of the last seconds.
    pub rate: u64,
    /// Seconds that this stage still takes at this rate.
    pub left_s: Option<u64>,
    /// Where the release comes from, as the user wrote it.
    pub source: Option<String>,
    /// What is worth knowing and no error: what is waited for, what was found.
    pub note: Option<String>,
    /// What went wrong: object, rule and next step.
    pub error: Option<String>,
    /// The rule that refused it.
    pub rule: Option<String>,
    /// With what the updater ends; the last line has it.
    pub exit: Option<u8>,
}

/// A rule of updates, by its name for programs, its code, and what broke it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitCode {
    /// The process ends with it.
    pub code: u8,
    /// In JSON.
    pub rule: &'static str,
    /// For people.
    pub meaning: &'static str,
}

const fn row(code: u8, rule: &'static str, meaning: &'static str) -> ExitCode {
    ExitCode { code, rule, meaning }
}

/// What was asked for is done.
pub const DONE: u8 = 0;
/// Something went wrong that has no row.
pub const FAILED: u8 = 1;
/// The command line is not understood.
pub const MISUSED: u8 = 2;

/// All of them. 0 is success, 1 anything that has no row, 2 a wrong command line.
pub const EXIT_CODES: &[ExitCode] = &[
    row(10, "source-missing", "the source has no such file"),
    row(11, "source-short", "a file of the source ends early"),
    row(12, "source-order", "a bundle's files are in another order than the release's"),
    row(13, "source-broken", "the source cannot be read: network, server, disk, stick"),
    row(20, "release-size", "no release: truncated, or too long"),
    row(21, "release-header", "no release: its header is not of this format"),
    row(22, "release-signature", "not signed by enough of the keys that this board trusts"),
    row(23, "release-manifest", "its manifest is not the one that was signed, or breaks a rule"),
    row(24, "release-file", "one of its files is not the one that was signed"),
    row(30, "held", "updates are held"),
    row(31, "product", "another product's release"),
    row(32, "architecture", "made for another processor"),
    row(33, "board", "made for other boards"),
    row(34, "already", "it runs already"),
    row(35, "blocked", "it failed here before"),
    row(36, "security-epoch", "of an older security epoch than what was confirmed"),
    row(37, "older", "not newer than what was confirmed"),
    row(38, "stepping-stone", "another release has to be installed first"),
    row(39, "runtime", "needs a later runtime"),
    row(40, "instance", "has an image for an instance that is not here"),
    row(41, "kernel", "the kernel lacks options that it needs"),
    row(42, "memory", "needs more memory than the board has"),
    row(43, "no-slot", "there is no second slot"),
    row(44, "slot-space", "the system is larger than the slot"),
    row(45, "no-boot-partition", "the slot has no place for boot files"),
    row(46, "boot-space", "the boot files are larger than the slot's boot partition"),
    row(47, "data-space", "the data partition has too little room for the images"),
    row(50, "busy", "another update goes on"),
    row(51, "trial", "a trial goes on: it has to be confirmed or undone first"),
    row(52, "nothing-before", "there is nothing to go back to"),
    row(53, "before-is-bad", "what there is to go back to does not verify"),
    row(54, "no-trial", "no trial goes on"),
    row(55, "too-late", "it has been started already: only a rollback helps"),
    row(56, "nothing-goes-on", "nothing goes on that could be cancelled"),
    row(57, "not-blocked", "no such release is blocked"),
    row(60, "device", "it could not be written, or something else is read back"),
    row(61, "boot-loader", "the boot loader's state cannot be read or written"),
    row(62, "state", "the data partition does not take what has to be remembered"),
    row(63, "trust", "the keys that this board trusts cannot be read, or there are none"),
    row(64, "reboot", "init does not start the machine again"),
    row(65, "confinement", "the updater could not give up what it does not need"),
    row(70, "fell-back", "it was tried, and what ran before runs again"),
    row(71, "cancelled", "somebody stopped it"),
];

/// With what a command ends whose updater ended like this. One that was killed has failed.
pub fn exit_code(status: ExitStatus) -> u8 {
    match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(_) => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_different_and_rise() {
        let codes: Vec<u8> = EXIT_CODES.iter().map(|row| row.code).collect();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
        // Shells have a meaning of their own for what is above.
        assert!(codes.iter().all(|code| *code < 125), "{codes:?}");
        assert_eq!(exit_code(ExitStatus::Signal(9)), 1);
        assert_eq!(exit_code(ExitStatus::Code(16)), 16);
    }
}
