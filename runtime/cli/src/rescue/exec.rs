//! `yado rescue exec`: a command in a running instance, with its input and output carried here. The instance gets pipes
//! or a pty of ours and never the caller's own descriptors, through which it could reach the caller's files and terminal.

use super::connection::{Connection, ExchangeError};
use super::parse_instance;
use super::relay::{Flow, Relay, Wake};
use super::terminal::{Pty, RawTerminal, copy_window_size};
use crate::command_line::Outcome;
use clap::Args;
use nix::sys::signal::Signal;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::Winsize;
use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use yado_wire::rescue::{ExitStatus, MAX_VARIABLES, MAX_WORDS, Reply, Request};
use yado_wire::{InstanceName, Step, Text};

/// The code for a failure of ours, to tell it from the command's own; podman and docker have the same.
const OWN_FAILURE: u8 = 125;

/// What a command wrote before it ended arrives within this, even through a pty.
const LAST_WORDS_PAUSE: Duration = Duration::from_millis(200);

/// What a terminal has had since the VT100, for a pty behind which there is none.
const DEFAULT_SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// With a terminal of its own, even if ours is none
    #[arg(long, short, conflicts_with = "no_tty")]
    tty: bool,
    /// With pipes, even if ours is a terminal
    #[arg(long, short = 'T')]
    no_tty: bool,
    #[arg(long, short, value_name = "NAME=VALUE", help = format!("Add to its environment; up to {MAX_VARIABLES} times"))]
    env: Vec<String>,
    /// Working directory inside
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// User id inside
    #[arg(long, value_name = "UID", default_value_t = 0)]
    user: u32,
    /// Group id inside
    #[arg(long, value_name = "GID", default_value_t = 0)]
    group: u32,
    /// The instance's name
    #[arg(value_name = "NAME", value_parser = parse_instance)]
    instance: InstanceName,
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND",
        help = format!("Program and arguments; up to {MAX_WORDS} words")
    )]
    command: Vec<String>,
}

/// Why a command line does not fit into a request.
#[derive(Debug, PartialEq, Eq)]
enum RequestError {
    TooManyWords,
    TooManyVariables,
    TooLong { text: String, limit: usize },
    NoEqualsSign { text: String },
}

pub(super) fn run(socket: &Path, arguments: Arguments) -> Outcome {
    let both_terminals = io::stdin().is_terminal() && io::stdout().is_terminal();
    let on_pty = arguments.tty || (!arguments.no_tty && both_terminals);
    let run = if on_pty { run_on_pty } else { run_on_pipes };
    let terminal = if on_pty { std::env::var("TERM").ok() } else { None };
    match request(arguments, terminal).map_err(Into::into).and_then(|request| run(socket, &request)) {
        Ok(status) => Ok(ExitCode::from(code_of(status))),
        Err(error) => {
            eprintln!("yado: {error}");
            Ok(ExitCode::from(code_of_failure(error.as_ref())))
        }
    }
}

fn run_on_pipes(socket: &Path, request: &Request) -> Result<ExitStatus, Box<dyn Error>> {
    let (stdin, to_stdin) = pipe_with(PipeFlags::CLOEXEC)?;
    let (from_stdout, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (from_stderr, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    let connection = Connection::ask_init(socket, request, &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
    // Ours must be closed, or the ends of the command's output would never be seen.
    drop((stdin, stdout, stderr));
    let mut relay = Relay::new(vec![
        Flow::new(io::stdin().as_fd().try_clone_to_owned()?, to_stdin),
        Flow::new(from_stdout, io::stdout().as_fd().try_clone_to_owned()?),
        Flow::new(from_stderr, io::stderr().as_fd().try_clone_to_owned()?),
    ]);
    relay_until_exit(&connection, &mut relay, |_| Ok(None))
}

fn run_on_pty(socket: &Path, request: &Request) -> Result<ExitStatus, Box<dyn Error>> {
    let Pty { master, slave } = Pty::open()?;
    if io::stdin().is_terminal() {
        copy_window_size(&io::stdin(), &master)?;
    } else {
        rustix::termios::tcsetwinsize(&master, DEFAULT_SIZE)?;
    }
    let connection = Connection::ask_init(socket, request, &[slave.as_fd(), slave.as_fd(), slave.as_fd()])?;
    drop(slave);
    let mut relay = Relay::new(vec![
        Flow::new(io::stdin().as_fd().try_clone_to_owned()?, master.try_clone()?),
        Flow::new(master.try_clone()?, io::stdout().as_fd().try_clone_to_owned()?),
    ]);
    // With the signals watched, even a kill leaves the terminal as it was.
    relay.watch(&[Signal::SIGWINCH, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT])?;
    let _raw = if io::stdin().is_terminal() { Some(RawTerminal::enter(&io::stdin())?) } else { None };
    relay_until_exit(&connection, &mut relay, |signal| match signal {
        Signal::SIGWINCH => copy_window_size(&io::stdin(), &master).map(|()| None),
        // We leave; init kills the command when we have hung up.
        other => Ok(Some(ExitStatus::Signal(other as u8))),
    })
}

/// `on_signal` says whether the signal ends us.
fn relay_until_exit(
    connection: &Connection<Reply>,
    relay: &mut Relay,
    mut on_signal: impl FnMut(Signal) -> io::Result<Option<ExitStatus>>,
) -> Result<ExitStatus, Box<dyn Error>> {
    const INPUT: usize = 0;
    loop {
        match relay.wait(Some(connection.as_fd()), None)? {
            Wake::Moved | Wake::Quiet => {}
            Wake::Signal(signal) => {
                if let Some(status) = on_signal(signal)? {
                    return Ok(status);
                }
            }
            Wake::Control => match connection.next()?.0 {
                Reply::Exited(status) => {
                    relay.close(INPUT);
                    relay.drain(LAST_WORDS_PAUSE)?;
                    return Ok(status);
                }
                Reply::Refused(failure) => return Err(ExchangeError::Refused(Box::new(failure)).into()),
                _ => return Err(connection.unexpected().into()),
            },
        }
    }
}

/// `terminal`: our kind of terminal, which a command on a pty learns if there is room for it.
fn request(arguments: Arguments, terminal: Option<String>) -> Result<Request, RequestError> {
    let Arguments { tty: _, no_tty: _, mut env, cwd, user, group, instance, command } = arguments;
    if let Some(text) = env.iter().find(|text| !text.contains('=')) {
        return Err(RequestError::NoEqualsSign { text: text.clone() });
    }
    if let Some(kind) = terminal {
        if env.len() < MAX_VARIABLES && !env.iter().any(|text| text.starts_with("TERM=")) {
            env.push(format!("TERM={kind}"));
        }
    }
    Ok(Request::Exec {
        instance,
        argv: texts(&command, RequestError::TooManyWords)?,
        environment: texts(&env, RequestError::TooManyVariables)?,
        cwd: cwd.as_deref().map(text).transpose()?,
        uid: user,
        gid: group,
    })
}

fn texts<const N: usize, const LIMIT: usize>(
    all: &[String],
    too_many: RequestError,
) -> Result<heapless::Vec<Text<N>, LIMIT>, RequestError> {
    if LIMIT < all.len() {
        return Err(too_many);
    }
    all.iter().map(|one| text(one)).collect()
}

fn text<const N: usize>(text: &str) -> Result<Text<N>, RequestError> {
    Text::try_from(text).map_err(|()| RequestError::TooLong { text: text.to_owned(), limit: N })
}

/// As a shell says it: 127 for a program that is not there, 126 for one that cannot be executed.
fn code_of_failure(error: &(dyn Error + 'static)) -> u8 {
    match error.downcast_ref::<ExchangeError>() {
        Some(ExchangeError::Refused(failure)) if failure.step == Step::Exec => match failure.errno {
            errno if errno == Errno::NOENT.raw_os_error() => 127,
            _ => 126,
        },
        _ => OWN_FAILURE,
    }
}

/// As a shell says it: 128 and the signal.
fn code_of(status: ExitStatus) -> u8 {
    match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(signal) => signal.saturating_add(128),
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::TooManyWords => {
                write!(out, "program and arguments: more than {MAX_WORDS} words; put them into a script")
            }
            RequestError::TooManyVariables => write!(out, "--env: more than {MAX_VARIABLES} times"),
            RequestError::TooLong { text, limit } => {
                let start: String = text.chars().take(20).collect();
                write!(out, "\"{start}…\": {} bytes long, at most {limit} can be sent", text.len())
            }
            RequestError::NoEqualsSign { text } => write!(out, "--env {text}: expected NAME=VALUE"),
        }
    }
}

impl Error for RequestError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn arguments(env: &[&str], command: &[&str]) -> Arguments {
        Arguments {
            tty: false,
            no_tty: false,
            env: env.iter().map(|text| (*text).to_owned()).collect(),
            cwd: None,
            user: 0,
            group: 0,
            instance: InstanceName::parse("web").unwrap(),
            command: command.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    #[test]
    fn a_command_becomes_a_request() {
        let Ok(Request::Exec { instance, argv, environment, cwd, uid, gid }) =
            request(arguments(&["A=1"], &["ls", "-l"]), None)
        else {
            panic!("no request");
        };
        assert_eq!((instance.as_str(), cwd, uid, gid), ("web", None, 0, 0));
        assert_eq!((argv[0].as_str(), argv[1].as_str(), environment[0].as_str()), ("ls", "-l", "A=1"));
    }

    #[test]
    fn the_kind_of_terminal_takes_no_room_from_what_was_asked_for() {
        let variables = |env: &[&str]| match request(arguments(env, &["x"]), Some("vt220".to_owned())) {
            Ok(Request::Exec { environment, .. }) => environment.iter().map(|text| text.to_string()).collect(),
            _ => Vec::new(),
        };
        assert_eq!(variables(&["A=1"]), ["A=1", "TERM=vt220"]);
        assert_eq!(variables(&["TERM=dumb"]), ["TERM=dumb"]);
        assert_eq!(variables(&["A=1"; MAX_VARIABLES]), ["A=1"; MAX_VARIABLES]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_limit() {
        let many = request(arguments(&[], &["x"; 13]), None).unwrap_err();
        assert_eq!(many.to_string(), "program and arguments: more than 12 words; put them into a script");
        let many = request(arguments(&["A=1"; 9], &["x"]), None).unwrap_err();
        assert_eq!(many.to_string(), "--env: more than 8 times");
        let long = request(arguments(&[], &[&"é".repeat(600)]), None).unwrap_err();
        assert!(long.to_string().ends_with("1200 bytes long, at most 1024 can be sent"), "{long}");
        assert!(request(arguments(&["A"], &["x"]), None).is_err());
    }

    #[test]
    fn a_signal_becomes_a_code_as_in_a_shell() {
        assert_eq!([code_of(ExitStatus::Code(7)), code_of(ExitStatus::Signal(9))], [7, 137]);
    }
}
