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

/// What the updater and the command that waits for it end with. Numbers are never given another meaning: scripts ask for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateExit {
    /// It is done.
    Done,
    /// Something else went wrong; the error says what.
    Failed,
    /// The command line is not understood.
    Usage,
    /// There is no newer release at the source, or nothing to do it with.
    NothingToDo,
    /// Another update is at work, or on trial.
    Busy,
    /// `yado update hold` keeps everything from being installed.
    Held,
    /// The source does not give the release: the network, the stick, the server.
    Source,
    /// No trusted key has signed it, or it is not what was signed.
    Signature,
    /// It is for another product, board or architecture.
    Incompatible,
    /// It is older than what this device has accepted, or below a floor.
    Older,
    /// It needs another release first, or a newer runtime or kernel.
    Requires,
    /// It does not fit: space in the slot, on the data partition, or memory.
    Space,
    /// It failed here before, and is not tried again until told.
    Blocked,
    /// What was written is not what is read back, or could not be written.
    Device,
    /// The boot loader's state cannot be read or written, or does not do what it must.
    BootLoader,
    /// It was tried, and what ran before it runs again.
    FellBack,
    /// Somebody stopped it.
    Stopped,
}

impl UpdateExit {
    /// All of them, in the order of their numbers.
    pub const ALL: [UpdateExit; 17] = [
        UpdateExit::Done,
        UpdateExit::Failed,
        UpdateExit::Usage,
        UpdateExit::NothingToDo,
        UpdateExit::Busy,
        UpdateExit::Held,
        UpdateExit::Source,
        UpdateExit::Signature,
        UpdateExit::Incompatible,
        UpdateExit::Older,
        UpdateExit::Requires,
        UpdateExit::Space,
        UpdateExit::Blocked,
        UpdateExit::Device,
        UpdateExit::BootLoader,
        UpdateExit::FellBack,
        UpdateExit::Stopped,
    ];

    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            UpdateExit::Done => 0,
            UpdateExit::Failed => 1,
            UpdateExit::Usage => 2,
            UpdateExit::NothingToDo => 3,
            UpdateExit::Busy => 4,
            UpdateExit::Held => 5,
            UpdateExit::Source => 10,
            UpdateExit::Signature => 11,
            UpdateExit::Incompatible => 12,
            UpdateExit::Older => 13,
            UpdateExit::Requires => 14,
            UpdateExit::Space => 15,
            UpdateExit::Blocked => 16,
            UpdateExit::Device => 20,
            UpdateExit::BootLoader => 21,
            UpdateExit::FellBack => 30,
            UpdateExit::Stopped => 31,
        }
    }

    /// What it means, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            UpdateExit::Done => "done",
            UpdateExit::Failed => "something else went wrong; the error says what",
            UpdateExit::Usage => "the command line is not understood",
            UpdateExit::NothingToDo => "nothing to do: no newer release, nothing to confirm, nothing to go back to",
            UpdateExit::Busy => "another update is at work, or on trial",
            UpdateExit::Held => "held: yado update unhold",
            UpdateExit::Source => "the source does not give the release: network, server, stick",
            UpdateExit::Signature => "no trusted key has signed it, or it is not what was signed",
            UpdateExit::Incompatible => "for another product, board or architecture",
            UpdateExit::Older => "older than what this device has accepted, or below a floor",
            UpdateExit::Requires => "needs another release first, or a newer runtime or kernel",
            UpdateExit::Space => "does not fit: slot, data partition or memory",
            UpdateExit::Blocked => "failed here before, and is not tried again until told",
            UpdateExit::Device => "could not be written, or something else is read back",
            UpdateExit::BootLoader => "the boot loader's state cannot be read or written",
            UpdateExit::FellBack => "it was tried, and what ran before runs again",
            UpdateExit::Stopped => "somebody stopped it",
        }
    }
}

/// With what a command ends whose updater ended like this. One that was killed has failed.
pub fn exit_code(status: ExitStatus) -> u8 {
    match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(_) => UpdateExit::Failed.code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_different_and_rise() {
        let codes: Vec<u8> = UpdateExit::ALL.into_iter().map(UpdateExit::code).collect();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
        // Shells have a meaning of their own for what is above.
        assert!(codes.iter().all(|code| *code < 125), "{codes:?}");
        assert_eq!(exit_code(ExitStatus::Signal(9)), 1);
        assert_eq!(exit_code(ExitStatus::Code(16)), 16);
    }
}
