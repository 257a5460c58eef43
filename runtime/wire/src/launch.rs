//! What the launcher (`yado-container`) tells init while it works: packets on the report socket that init gave it.

use crate::failure::{Failure, Step};
use serde::{Deserialize, Serialize};

/// How many steps' times a start can have: a few more than there are names for.
pub const MAX_STEP_TIMES: usize = 40;

/// How long each step of a start took, in their order.
pub type StepTimes = heapless::Vec<StepTime, MAX_STEP_TIMES>;

/// How many nodes one change of devices names on each side.
pub const MAX_NAMED_NODES: usize = 32;

/// One packet from the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LaunchReport {
    /// The payload's first process exists. With it travel, in this order: its pidfd, and for `run` the master side of its
    /// console pty (absent for `exec`). It is a child of init already.
    Payload {
        /// Its process id as init sees it.
        pid: i32,
    },
    /// `run`, `exec`: `execve` succeeded: everything is in place. The launcher is about to exit. For `run` two mounts travel
    /// with it: of the instance's `/dev`, for the job `devices`; and of its root, because whoever closes that one last waits
    /// until the whole file system of the layer is written back.
    Started {
        /// For the benchmark and for `yado rescue events --format json`.
        steps: StepTimes,
    },
    /// It failed: of a start nothing is left over but what init itself made (the cgroup).
    Failed(Failure),
    /// `probe`: the instance's probe has passed.
    ProbePassed,
    /// `devices`: the devices of the running instance are as its spec and sysfs say now.
    DevicesSynced {
        /// Nodes that were added.
        added: heapless::Vec<crate::Text<64>, MAX_NAMED_NODES>,
        /// Nodes that were removed.
        removed: heapless::Vec<crate::Text<64>, MAX_NAMED_NODES>,
    },
    /// `run`: the image is verified and mounted.
    Image(ImageMount),
}

/// What init can keep of an image for the next start of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageMount {
    /// The mount that init gave was used. Where the kernel cannot copy a mount that is attached nowhere (before Linux 6.15),
    /// that one is used up, and a copy travels with the report.
    Given,
    /// The mount that travels with the report, while the image's file is this one. After it may come an inotify instance,
    /// readable as soon as somebody changes, renames or removes the file.
    New(FileIdentity),
    /// Nothing: what was verified may already have been changed.
    Nothing,
}

/// By what a file is known again: the same file, and nobody has written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// The file system's device number, `st_dev` of stat(2).
    pub device: u64,
    /// The file's number there, `st_ino`. A removed file's can be given again, so the times below are compared too.
    pub inode: u64,
    /// Its length, `st_size`.
    pub size_bytes: u64,
    /// When its content last changed, `st_mtime`. Its owner can set it to anything.
    pub modified: FileTime,
    /// When anything of it last changed. Only the clock can put this one back.
    pub changed: FileTime,
}

/// A time of a file since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileTime {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds to be added, less than a second.
    pub nanoseconds: u32,
}

/// The time one step of a start took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTime {
    /// Which step, by the name that a failure of it would have.
    pub step: Step,
    /// Microseconds, on the monotonic clock.
    pub micros: u32,
}
