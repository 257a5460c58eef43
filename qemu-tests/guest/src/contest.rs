//! What the benchmark's host gives to `guest-race` on the board, and what comes back: commands to be timed in turns, and
//! their times.

use serde::{Deserialize, Serialize};

/// Who is timed, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contest {
    /// How often each has its turn, after one that does not count.
    pub laps: u32,
    /// In the order of their turns.
    pub contestants: Vec<Contestant>,
}

/// A command, and when it counts as over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contestant {
    /// Its name in the results.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// What is added to its environment.
    pub environment: Vec<(String, String)>,
    /// When what it started is gone.
    pub gone: Gone,
}

/// When what a command started is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gone {
    /// When the command itself has ended.
    WhenItEnds,
    /// When the command has ended and this instance is told as stopped: its processes, mounts and control group are gone.
    WhenStopped(String),
}

/// What came of a contest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// Every turn that counts, in the order in which they were taken.
    pub laps: Vec<Lap>,
    /// Who failed, and has no more turns.
    pub disqualified: Vec<Disqualified>,
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lap {
    /// Whose.
    pub contestant: String,
    /// How long it took.
    pub micros: u64,
}

/// Who failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disqualified {
    /// Who.
    pub contestant: String,
    /// Why.
    pub reason: String,
}
