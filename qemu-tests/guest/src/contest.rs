//! What a benchmark gives to `guest-race`, on the board or on its own machine, and what comes back: commands and requests to be
//! timed in turns, and their times.

use serde::{Deserialize, Serialize};

/// Who is timed, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contest {
    /// How often each has its turn, after one that does not count.
    pub laps: u32,
    /// Their turns are in another order in each lap.
    pub contestants: Vec<Contestant>,
}

/// A command or a request, and when it counts as over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contestant {
    /// Its name in the results.
    pub name: String,
    /// A command that is run before each turn and not timed; empty: none.
    pub before: Vec<String>,
    /// What is timed.
    pub start: Start,
    /// When what it started is gone.
    pub gone: Gone,
}

/// How something is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// By a command.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// What is added to its environment.
        environment: Vec<(String, String)>,
    },
    /// By a request to init, as from a program that runs already.
    Request {
        /// Init's socket.
        socket: String,
        /// The instance.
        instance: String,
    },
}

/// When what a command started is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gone {
    /// When the command itself has ended.
    WhenItEnds,
    /// When the command has ended, or the request was answered, and the instance is told as stopped: its processes, mounts and
    /// control group are gone.
    WhenStopped {
        /// The instance.
        instance: String,
        /// The command that prints init's events as lines of JSON.
        events: Vec<String>,
    },
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
