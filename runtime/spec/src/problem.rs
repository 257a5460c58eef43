//! What is wrong with a configuration: the location, the key, the value, and what would be accepted. One line of text
//! each, so that a list of them is a file and a file is a list.

use core::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is said.
    pub location: Location,
    /// `limits.memory`, `devices.eth0.parent`; empty when it is about the file as a whole.
    pub key: String,
    /// What was said, if the fault is in it.
    pub value: Option<String>,
    /// Why it is wrong.
    pub fault: Fault,
}

/// Where something is said.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// In a file.
    File {
        /// The file as it was named to us.
        file: String,
        /// Counted from 1; 0 when it is about the file as a whole.
        line: usize,
    },
    /// In a request; it has no lines, and who sent it knows which.
    Request,
}

impl Location {
    /// The line, counted from 1; 0 without one.
    pub fn line(&self) -> usize {
        match self {
            Location::File { file: _, line } => *line,
            Location::Request => 0,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::File { file, line: 0 } => write!(out, "{file}"),
            Location::File { file, line } => write!(out, "{file}:{line}"),
            Location::Request => write!(out, "request"),
        }
    }
}

/// Why something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Not TOML.
    Syntax {
        /// The parser's words.
        message: String,
    },
    /// The file cannot be read.
    Unreadable {
        /// Why.
        message: String,
    },
    /// Nothing is called that.
    Unknown {
        /// `key`, `device type`, `profile`, …
        what: &'static str,
        /// The known name that is most like it.
        nearest: Option<String>,
    },
    /// The value is none that the key can have.
    Value {
        /// What would be accepted.
        expected: String,
    },
    /// Known, and refused by this runtime: nothing that was asked for is silently left out.
    Refused {
        /// Why, and what to do instead.
        reason: String,
    },
    /// Something that must be said is not.
    Missing {
        /// What to write.
        expected: String,
    },
    /// Right by itself, but not together with something else.
    Conflict {
        /// With what, and why.
        reason: String,
    },
    /// `after` leads back to where it began.
    Cycle {
        /// `a, b, a`.
        path: String,
    },
    /// An instance it comes after has problems of its own.
    Dependency {
        /// Which.
        instance: String,
    },
}

/// The longest part of a value that is shown.
const SHOWN_VALUE_CHARS: usize = 60;

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:", self.location)?;
        if !self.key.is_empty() {
            write!(out, " {}", self.key.escape_debug())?;
            if let Some(value) = &self.value {
                let shown: String = value.chars().take(SHOWN_VALUE_CHARS).collect();
                let more = if shown.len() < value.len() { "…" } else { "" };
                write!(out, " = {shown:?}{more}")?;
            }
            write!(out, ":")?;
        }
        write!(out, " {}", self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Syntax { message } => write!(out, "not TOML: {message}"),
            Fault::Unreadable { message } => write!(out, "{message}"),
            Fault::Unknown { what, nearest: None } => write!(out, "no such {what}"),
            Fault::Unknown { what, nearest: Some(nearest) } => {
                write!(out, "no such {what}; did you mean {nearest}?")
            }
            Fault::Value { expected } => write!(out, "must be {expected}"),
            Fault::Refused { reason } => write!(out, "not offered: {reason}"),
            Fault::Missing { expected } => write!(out, "missing: {expected}"),
            Fault::Conflict { reason } => write!(out, "{reason}"),
            Fault::Cycle { path } => write!(out, "a cycle: {path}"),
            Fault::Dependency { instance } => write!(out, "cannot start after {instance}, which has problems"),
        }
    }
}

impl std::error::Error for Problem {}
