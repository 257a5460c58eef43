//! What the launcher (`yado-container`) tells init while it works: packets on the report socket that init gave it.

use crate::failure::{Failure, Step};
use serde::{Deserialize, Serialize};

/// How many steps' times a start can have: a few more than there are names for.
pub const MAX_STEP_TIMES: usize = 40;

/// How long each step of a start took.
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
    /// `run`, `exec`: `execve` succeeded: everything is in place. The launcher is about to exit. For `run` a mount of the
    /// instance's `/dev` travels with it, for the job `devices`. After that one may come the mount of the image: as long as
    /// it is held, the image's verity device, file system and verified pages stay for the next start.
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
}

/// The time one step of a start took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTime {
    /// Which step.
    pub step: Step,
    /// Microseconds, on the monotonic clock.
    pub micros: u32,
}
