//! The host's side of the agent on the board: typed calls with deadlines over the virtio-serial socket. Several calls can
//! be under way; each answer finds its caller by its number.

use qemu_guest::{Answer, Call, Ended, Presence, Ran, Reply, Request};
use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How much later than its own time limit a call is given up: the emulated board is slow, and the line is too.
const SLACK: Duration = Duration::from_secs(20);

/// A connection to the agent.
#[derive(Debug)]
pub struct Agent {
    writer: Mutex<Writer>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug)]
struct Writer {
    stream: UnixStream,
    next_id: u64,
}

/// Who waits for which answer; `None` once the line is closed, so that nobody starts to wait for ever.
type Waiting = Option<HashMap<u64, Sender<Reply>>>;

/// An answer that is still to come.
#[derive(Debug)]
pub struct Pending {
    replies: Receiver<Reply>,
    what: String,
    timeout: Duration,
}

/// Why there is no answer, or not the one that was wanted.
#[derive(Debug)]
pub enum AgentError {
    /// The line could not be written to.
    Io(io::Error),
    /// QEMU ended, or the board reset.
    Closed {
        /// What was being done.
        what: String,
    },
    /// No answer in time.
    Deadline {
        /// What was being done.
        what: String,
        /// How long we waited.
        waited: Duration,
    },
    /// The agent could not do it.
    Failed {
        /// What was being done.
        what: String,
        /// Its reason.
        reason: String,
    },
    /// The program ran and did not succeed.
    Unsuccessful {
        /// What was being done.
        what: String,
        /// How it ran.
        ran: Ran,
    },
}

/// Who answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The kernel's release.
    pub kernel: String,
    /// The machine's name.
    pub machine: String,
    /// Milliseconds since the kernel started.
    pub uptime_ms: u64,
}

impl Agent {
    /// Connects to QEMU's end. What is said before the agent is there waits in the socket.
    pub fn connect(socket: &Path) -> Result<Agent, AgentError> {
        let stream = UnixStream::connect(socket).map_err(AgentError::Io)?;
        let reader = BufReader::new(stream.try_clone().map_err(AgentError::Io)?);
        let waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let theirs = Arc::clone(&waiting);
        std::thread::spawn(move || deliver(reader, &theirs));
        Ok(Agent { writer: Mutex::new(Writer { stream, next_id: 1 }), waiting })
    }

    /// Waits until the agent speaks.
    pub fn hello(&self, timeout: Duration) -> Result<Hello, AgentError> {
        let pending = self.start("hello".to_owned(), Request::Hello, timeout)?;
        match pending.wait()? {
            (_, Reply::Hello { kernel, machine, uptime_ms }) => Ok(Hello { kernel, machine, uptime_ms }),
            (what, other) => Err(unexpected(what, &other)),
        }
    }

    /// Runs a program to its end, whatever that is.
    pub fn run(&self, argv: &[&str], timeout: Duration) -> Result<Ran, AgentError> {
        self.start_run(argv, "", timeout)?.ran()
    }

    /// Runs a program that must end with exit code 0, and gives back its standard output.
    pub fn output(&self, argv: &[&str], timeout: Duration) -> Result<String, AgentError> {
        Ok(self.run_well(argv, timeout)?.stdout)
    }

    /// Runs a program that must end with exit code 0.
    pub fn run_well(&self, argv: &[&str], timeout: Duration) -> Result<Ran, AgentError> {
        let ran = self.run(argv, timeout)?;
        match ran.ended {
            Ended::Code(0) => Ok(ran),
            Ended::Code(_) | Ended::Signal(_) | Ended::TimedOut => {
                Err(AgentError::Unsuccessful { what: argv.join(" "), ran })
            }
        }
    }

    /// Starts a program and returns at once; several can run side by side.
    pub fn start_run(&self, argv: &[&str], stdin: &str, timeout: Duration) -> Result<Pending, AgentError> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Run {
            argv: argv.iter().map(ToString::to_string).collect(),
            stdin: stdin.to_owned(),
            timeout_ms,
        };
        self.start(argv.join(" "), request, timeout + SLACK)
    }

    /// The text of a file.
    pub fn read_file(&self, path: &str) -> Result<String, AgentError> {
        let pending = self.start(format!("read {path}"), Request::ReadFile { path: path.to_owned() }, SLACK)?;
        match pending.wait()? {
            (_, Reply::Text(text)) => Ok(text),
            (what, other) => Err(unexpected(what, &other)),
        }
    }

    /// Makes or replaces a file.
    pub fn write_file(&self, path: &str, text: &str) -> Result<(), AgentError> {
        let request = Request::WriteFile { path: path.to_owned(), text: text.to_owned() };
        match self.start(format!("write {path}"), request, SLACK)?.wait()? {
            (_, Reply::Written) => Ok(()),
            (what, other) => Err(unexpected(what, &other)),
        }
    }

    /// Waits until a path is there or is not; an error if it stays otherwise.
    pub fn wait_path(&self, path: &str, wanted: Presence, timeout: Duration) -> Result<(), AgentError> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let what = format!("wait until {path} is {wanted:?}");
        let request = Request::WaitPath { path: path.to_owned(), wanted, timeout_ms };
        match self.start(what, request, timeout + SLACK)?.wait()? {
            (_, Reply::Seen(seen)) if seen == wanted => Ok(()),
            (what, Reply::Seen(_)) => Err(AgentError::Deadline { what, waited: timeout }),
            (what, other) => Err(unexpected(what, &other)),
        }
    }

    fn start(&self, what: String, request: Request, timeout: Duration) -> Result<Pending, AgentError> {
        let (sender, replies) = channel();
        let mut writer = locked(&self.writer);
        let id = writer.next_id;
        writer.next_id += 1;
        match locked(&self.waiting).as_mut() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(AgentError::Closed { what }),
        };
        let mut line = serde_json::to_vec(&Call { id, request }).map_err(|error| AgentError::Io(error.into()))?;
        line.push(b'\n');
        writer.stream.write_all(&line).map_err(AgentError::Io)?;
        Ok(Pending { replies, what, timeout })
    }
}

impl Pending {
    /// Waits for the end of a program started by [`Agent::start_run`].
    pub fn ran(self) -> Result<Ran, AgentError> {
        match self.wait()? {
            (_, Reply::Ran(ran)) => Ok(ran),
            (what, other) => Err(unexpected(what, &other)),
        }
    }

    /// The same, if it comes so soon: nobody answers on a board that is starting.
    pub fn ran_within(self, time: Duration) -> Option<Ran> {
        match self.replies.recv_timeout(time) {
            Ok(Reply::Ran(ran)) => Some(ran),
            Ok(_) | Err(_) => None,
        }
    }

    fn wait(self) -> Result<(String, Reply), AgentError> {
        let Pending { replies, what, timeout } = self;
        match replies.recv_timeout(timeout) {
            Ok(Reply::Failed { reason }) => Err(AgentError::Failed { what, reason }),
            Ok(reply) => Ok((what, reply)),
            Err(RecvTimeoutError::Timeout) => Err(AgentError::Deadline { what, waited: timeout }),
            Err(RecvTimeoutError::Disconnected) => Err(AgentError::Closed { what }),
        }
    }
}

/// Hands each answer to its caller until the line ends; then nobody need wait any longer.
fn deliver(lines: BufReader<UnixStream>, waiting: &Mutex<Waiting>) {
    for line in lines.split(b'\n') {
        let Ok(line) = line else { break };
        // A board that resets can leave half a line: it is nobody's answer.
        let Ok(Answer { id, reply }) = serde_json::from_slice(&line) else { continue };
        if let Some(sender) = locked(waiting).as_mut().and_then(|waiting| waiting.remove(&id)) {
            let _ = sender.send(reply);
        }
    }
    *locked(waiting) = None;
}

fn unexpected(what: String, reply: &Reply) -> AgentError {
    AgentError::Failed { what, reason: format!("unexpected answer {reply:?}") }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for AgentError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AgentError::Io(source) => write!(out, "agent: {source}"),
            AgentError::Closed { what } => write!(out, "{what}: the board is gone"),
            AgentError::Deadline { what, waited } => write!(out, "{what}: no answer within {} s", waited.as_secs()),
            AgentError::Failed { what, reason } => write!(out, "{what}: {reason}"),
            AgentError::Unsuccessful { what, ran } => {
                write!(out, "{what}: {:?}: {}{}", ran.ended, ran.stdout.trim_end(), ran.stderr.trim_end())
            }
        }
    }
}

impl std::error::Error for AgentError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::net::UnixListener;

    /// An agent of the test's own, on a socket in a folder that goes with the test.
    fn connected() -> (tempfile::TempDir, Agent, BufReader<UnixStream>) {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("agent")).unwrap();
        let agent = Agent::connect(&folder.path().join("agent")).unwrap();
        let (stream, _) = listener.accept().unwrap();
        (folder, agent, BufReader::new(stream))
    }

    fn read_call(stream: &mut BufReader<UnixStream>) -> Call {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn answer(stream: &mut BufReader<UnixStream>, id: u64, stdout: &str) {
        let ran = Ran { ended: Ended::Code(0), stdout: stdout.to_owned(), stderr: String::new(), wall_ms: 1 };
        let mut line = serde_json::to_string(&Answer { id, reply: Reply::Ran(ran) }).unwrap();
        line.push('\n');
        stream.get_mut().write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn answers_find_their_callers_in_any_order() {
        let (_folder, agent, mut theirs) = connected();
        let first = agent.start_run(&["first"], "", Duration::from_secs(5)).unwrap();
        let second = agent.start_run(&["second"], "", Duration::from_secs(5)).unwrap();
        let (first_call, second_call) = (read_call(&mut theirs), read_call(&mut theirs));
        answer(&mut theirs, second_call.id, "2");
        answer(&mut theirs, first_call.id, "1");
        assert_eq!(first.ran().unwrap().stdout, "1");
        assert_eq!(second.ran().unwrap().stdout, "2");
    }

    #[test]
    fn nobody_waits_for_a_board_that_is_gone() {
        let (_folder, agent, theirs) = connected();
        let pending = agent.start_run(&["x"], "", Duration::from_secs(60)).unwrap();
        drop(theirs);
        assert!(matches!(pending.ran(), Err(AgentError::Closed { .. })));
    }
}
