//! What the host's tests say to the agent inside the board, and what it answers: one JSON object a line, over a
//! virtio-serial port. Only the messages; the agent acts on them, and `qemu-tests` asks.
//!
//! These programs are part of the tests and of no product. They are a crate of their own so that the cross build of two
//! small programs does not drag the whole test harness through a foreign compiler.

pub mod attack;
pub mod contest;
pub mod denied_calls;
pub mod turn;

use serde::{Deserialize, Serialize};

/// The name of the virtio-serial port on which the agent listens, as QEMU's `name=` and the guest's sysfs have it.
pub const PORT_NAME: &str = "yado.agent.0";

/// One request, with the number that its answer will carry: the agent works on several at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Chosen by the host.
    pub id: u64,
    /// What to do.
    pub request: Request,
}

/// What the host asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Who is there.
    Hello,
    /// Run a program to its end.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
        /// What it finds on its standard input.
        stdin: String,
        /// When it is killed.
        timeout_ms: u64,
    },
    /// The text of a file.
    ReadFile {
        /// Which.
        path: String,
    },
    /// Make or replace a file; directories above it are made too.
    WriteFile {
        /// Which.
        path: String,
        /// Its new text.
        text: String,
    },
    /// Wait until a path exists, or until it does not.
    WaitPath {
        /// Which.
        path: String,
        /// What to wait for.
        wanted: Presence,
        /// When to give up.
        timeout_ms: u64,
    },
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// It is.
    Present,
    /// It is not.
    Absent,
}

/// The answer to the call with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The call's number.
    pub id: u64,
    /// What came of it.
    pub reply: Reply,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Hello`].
    Hello {
        /// The kernel's release.
        kernel: String,
        /// The machine's name (`aarch64`, `armv7l`).
        machine: String,
        /// Milliseconds since the kernel started.
        uptime_ms: u64,
    },
    /// To [`Request::Run`]: the program ran.
    Ran(Ran),
    /// To [`Request::ReadFile`].
    Text(String),
    /// To [`Request::WriteFile`].
    Written,
    /// To [`Request::WaitPath`]: how the path was last seen.
    Seen(Presence),
    /// The request could not be done.
    Failed {
        /// What was tried, on what, and what the kernel said.
        reason: String,
    },
}

/// How a program ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// How it ended.
    pub ended: Ended,
    /// Its standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Its standard error, likewise.
    pub stderr: String,
    /// How long it ran.
    pub wall_ms: u64,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was still running at its deadline, and was killed.
    TimedOut,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_call_is_one_line_of_json() {
        let call = Call {
            id: 7,
            request: Request::Run { argv: vec!["true".into()], stdin: "a\nb".into(), timeout_ms: 1000 },
        };
        let line = serde_json::to_string(&call).unwrap();
        assert_eq!(line, r#"{"id":7,"request":{"run":{"argv":["true"],"stdin":"a\nb","timeout_ms":1000}}}"#);
        assert_eq!(serde_json::from_str::<Call>(&line).unwrap(), call);
    }

    #[test]
    fn an_answer_names_how_the_program_ended() {
        let answer = Answer {
            id: 7,
            reply: Reply::Ran(Ran { ended: Ended::Signal(9), stdout: String::new(), stderr: "x".into(), wall_ms: 3 }),
        };
        let line = serde_json::to_string(&answer).unwrap();
        assert_eq!(line, r#"{"id":7,"reply":{"ran":{"ended":{"signal":9},"stdout":"","stderr":"x","wall_ms":3}}}"#);
        assert_eq!(serde_json::from_str::<Answer>(&line).unwrap(), answer);
    }
}
