//! What a benchmark gives to `guest-turn` on a board, and what comes back: one command, and what it cost the board.

use crate::Ended;
use serde::{Deserialize, Serialize};

/// One command to be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// What is added to its environment.
    pub environment: Vec<(String, String)>,
    /// The disk and one of its partitions, by the kernel's names: what is written to both is counted.
    pub disk: String,
    /// See `disk`.
    pub partition: String,
    /// Control groups of services that work for the command: their memory counts as its own.
    pub services: Vec<String>,
    /// Whether memory is looked at. That takes time from who is measured.
    pub memory: Memory,
}

/// Whether memory is looked at while the command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Memory {
    /// All the time.
    Sampled,
    /// Never.
    NotSampled,
}

/// What it cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turned {
    /// How it ended.
    pub ended: Ended,
    /// The end of what it said.
    pub said: String,
    /// From before it was started until it had ended and all that it had written was on the disk.
    pub micros: u64,
    /// Of its processes and its services': what the processors worked for them outside of the kernel.
    pub user_micros: u64,
    /// The same inside of the kernel. What the kernel's own threads do for them is not in it.
    pub system_micros: u64,
    /// What the kernel wrote to the disk meanwhile.
    pub disk_written_bytes: u64,
    /// Of that, to the partition.
    pub partition_written_bytes: u64,
    /// What the kernel read from the disk meanwhile.
    pub disk_read_bytes: u64,
    /// If it was looked at.
    pub peaks: Option<Peaks>,
}

/// The most memory that its processes and its services' had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peaks {
    /// How many processes there were at most.
    pub processes: u64,
    /// `Rss` of proc_pid_smaps(5), summed over the processes: what they share counts for each of them.
    pub rss_kib: u64,
    /// `Pss`, summed: what they share counts once.
    pub pss_kib: u64,
    /// `VmHWM` of proc_pid_status(5): the most that the kernel saw of any single one.
    pub one_process_kib: u64,
}
