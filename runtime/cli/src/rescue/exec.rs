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
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use yado_sys::memfd;
use yado_wire::rescue::{Command, CommandUser, ExitStatus, MAX_COMMAND_BYTES, Reply, Request};
use yado_wire::{InstanceName, Step};

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
    /// Add to its environment; there may be several
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Working directory inside [default: $HOME, or / where there is none]
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// Who runs it: an id, or a name of the instance's own /etc/passwd, which brings its groups, home and shell
    #[arg(long, value_name = "USER", default_value = "0", value_parser = parse_user)]
    user: User,
    /// Group id inside [default: 0 beside an id, its own beside a name]
    #[arg(long, value_name = "GID")]
    group: Option<u32>,
    /// The instance's name
    #[arg(value_name = "NAME", value_parser = parse_instance)]
    pub(super) instance: InstanceName,
    /// Program and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// `yado rescue shell`.
#[derive(Debug, Args)]
pub(super) struct ShellArguments {
    /// Whose: an id, or a name of the instance's own /etc/passwd
    #[arg(long, value_name = "USER", default_value = "0", value_parser = parse_user)]
    user: User,
    /// The instance's name
    #[arg(value_name = "NAME", value_parser = parse_instance)]
    pub(super) instance: InstanceName,
}

/// Who runs a command inside, as the command line says it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum User {
    Id(u32),
    Name(String),
}

/// Why a command line does not fit into a request.
#[derive(Debug, PartialEq, Eq)]
enum RequestError {
    TooLong,
    NoEqualsSign { text: String },
}

/// The user's own shell, as at a login.
pub(super) fn run_shell(socket: &Path, arguments: ShellArguments) -> Outcome {
    let ShellArguments { user, instance } = arguments;
    let (env, command) = (Vec::new(), Vec::new());
    run(socket, Arguments { tty: false, no_tty: false, env, cwd: None, user, group: None, instance, command })
}

pub(super) fn run(socket: &Path, arguments: Arguments) -> Outcome {
    let both_terminals = io::stdin().is_terminal() && io::stdout().is_terminal();
    let on_pty = arguments.tty || (!arguments.no_tty && both_terminals);
    let run = if on_pty { run_on_pty } else { run_on_pipes };
    let terminal = if on_pty { std::env::var("TERM").ok() } else { None };
    match request(arguments, terminal).map_err(Into::into).and_then(|(request, command)| {
        let command = memfd::sealed("command", &command)?;
        run(socket, &request, &command)
    }) {
        Ok(status) => Ok(ExitCode::from(code_of(status))),
        Err(error) => {
            eprintln!("yado: {error}");
            Ok(ExitCode::from(code_of_failure(error.as_ref())))
        }
    }
}

fn run_on_pipes(socket: &Path, request: &Request, command: &OwnedFd) -> Result<ExitStatus, Box<dyn Error>> {
    let (stdin, to_stdin) = pipe_with(PipeFlags::CLOEXEC)?;
    let (from_stdout, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (from_stderr, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    let given = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd(), command.as_fd()];
    let connection = Connection::ask_init(socket, request, &given)?;
    // Ours must be closed, or the ends of the command's output would never be seen.
    drop((stdin, stdout, stderr));
    let mut relay = Relay::new(vec![
        Flow::new(io::stdin().as_fd().try_clone_to_owned()?, to_stdin),
        Flow::new(from_stdout, io::stdout().as_fd().try_clone_to_owned()?),
        Flow::new(from_stderr, io::stderr().as_fd().try_clone_to_owned()?),
    ]);
    relay_until_exit(&connection, &mut relay, |_| Ok(None))
}

fn run_on_pty(socket: &Path, request: &Request, command: &OwnedFd) -> Result<ExitStatus, Box<dyn Error>> {
    let Pty { master, slave } = Pty::open()?;
    if io::stdin().is_terminal() {
        copy_window_size(&io::stdin(), &master)?;
    } else {
        rustix::termios::tcsetwinsize(&master, DEFAULT_SIZE)?;
    }
    let given = [slave.as_fd(), slave.as_fd(), slave.as_fd(), command.as_fd()];
    let connection = Connection::ask_init(socket, request, &given)?;
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

/// The request, and the command's file. `terminal`: our kind of terminal, which a command on a pty learns.
fn request(arguments: Arguments, terminal: Option<String>) -> Result<(Request, Vec<u8>), RequestError> {
    let Arguments { tty: _, no_tty: _, mut env, cwd, user, group, instance, command } = arguments;
    if let Some(text) = env.iter().find(|text| !text.contains('=')) {
        return Err(RequestError::NoEqualsSign { text: text.clone() });
    }
    if let Some(kind) = terminal {
        if !env.iter().any(|text| text.starts_with("TERM=")) {
            env.push(format!("TERM={kind}"));
        }
    }
    let user = match user {
        User::Id(uid) => CommandUser::Ids { uid, gid: group.unwrap_or(0) },
        User::Name(name) => CommandUser::Name { name, gid: group },
    };
    let command = Command { argv: command, environment: env, cwd, user };
    let bytes = command.encode().ok_or(RequestError::TooLong)?;
    Ok((Request::Exec { instance }, bytes))
}

/// For clap: a number is an id, everything else a name, which has no colon in passwd(5).
fn parse_user(text: &str) -> Result<User, String> {
    match text.parse() {
        Ok(uid) => Ok(User::Id(uid)),
        Err(_) if text.is_empty() || text.contains([':', '\n', '\0']) => {
            Err("expected a user's id or name".to_owned())
        }
        Err(_) => Ok(User::Name(text.to_owned())),
    }
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
            RequestError::TooLong => {
                write!(
                    out,
                    "the command and its variables: longer than {MAX_COMMAND_BYTES} bytes; put them into a script"
                )
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
            user: User::Id(0),
            group: None,
            instance: InstanceName::parse("web").unwrap(),
            command: command.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    fn command(env: &[&str], words: &[&str], terminal: Option<&str>) -> Result<Command, RequestError> {
        let (_, bytes) = request(arguments(env, words), terminal.map(str::to_owned))?;
        Ok(Command::decode(&bytes).unwrap())
    }

    #[test]
    fn a_command_becomes_a_request_with_a_file() {
        let (asked, _) = request(arguments(&[], &["ls"]), None).unwrap();
        assert_eq!(asked, Request::Exec { instance: InstanceName::parse("web").unwrap() });
        let Command { argv, environment, cwd, user } = command(&["A=1"], &["ls", "-l"], None).unwrap();
        assert_eq!((argv, environment), (vec!["ls".to_owned(), "-l".to_owned()], vec!["A=1".to_owned()]));
        assert_eq!((cwd, user), (None, CommandUser::Ids { uid: 0, gid: 0 }));
    }

    #[test]
    fn a_user_is_a_number_or_a_name_and_a_group_is_said_or_follows() {
        let user = |text: &str, group| {
            let arguments = Arguments { user: parse_user(text).unwrap(), group, ..arguments(&[], &["id"]) };
            Command::decode(&request(arguments, None).unwrap().1).unwrap().user
        };
        let name = |gid| CommandUser::Name { name: "www-data".to_owned(), gid };
        assert_eq!(user("1000", None), CommandUser::Ids { uid: 1000, gid: 0 });
        assert_eq!(user("1000", Some(5)), CommandUser::Ids { uid: 1000, gid: 5 });
        assert_eq!([user("www-data", None), user("www-data", Some(5))], [name(None), name(Some(5))]);
        for bad in ["", "a:b", "a\nb"] {
            assert!(parse_user(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_kind_of_terminal_is_told_where_nobody_said_another() {
        assert_eq!(command(&["A=1"], &["x"], Some("vt220")).unwrap().environment, ["A=1", "TERM=vt220"]);
        assert_eq!(command(&["TERM=dumb"], &["x"], Some("vt220")).unwrap().environment, ["TERM=dumb"]);
    }

    #[test]
    fn what_is_too_long_is_refused_with_the_limit() {
        assert_eq!(command(&[], &["x"; 1000], None).unwrap().argv.len(), 1000);
        let long = command(&[], &[&"é".repeat(20_000)], None).unwrap_err();
        assert!(long.to_string().contains("longer than 32768 bytes"), "{long}");
        assert!(command(&["A"], &["x"], None).is_err());
    }

    #[test]
    fn a_signal_becomes_a_code_as_in_a_shell() {
        assert_eq!([code_of(ExitStatus::Code(7)), code_of(ExitStatus::Signal(9))], [7, 137]);
    }
}
