//! One try of the instance's probe, from inside: in its namespaces, as its root, and confined like its init, because what
//! answers is not trusted. A probe that passes is reported as success; one that does not is a failure of the step `health`.

use crate::account::become_user;
use crate::confinement;
use crate::exec::{enter, fork_command};
use crate::launch_request;
use crate::report::{Reporter, at, show};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use yado_spec::LaunchRequest;
use yado_spec::instance::{Probe, ProbeAttempt};
use yado_spec::launch_request::Command;
use yado_sys::children::{self, Ended};
use yado_sys::clone::Parent;
use yado_sys::pidfd;
use yado_wire::printable::is_obeyed;
use yado_wire::{Failure, Step};

/// A status line is a version, a number and a short phrase.
const MAX_STATUS_LINE_BYTES: usize = 512;

/// Tries it.
pub(crate) fn probe(request: &LaunchRequest, reporter: &mut Reporter) -> Result<(), Failure> {
    let Some(Probe { attempt, timeout, .. }) = &request.spec.health.probe else {
        return Err(Failure::refused(Step::Health, request.spec.name.as_str(), "it has no probe"));
    };
    show(Step::Health);
    let deadline = Instant::now() + *timeout;
    let object = attempt.to_string();
    let failed = |error: io::Error| match error.kind() {
        // What a socket's timeout looks like.
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::refused(Step::Health, &object, &too_slow(*timeout)),
        _ => Failure::from_io(Step::Health, &object, &error),
    };
    match attempt {
        ProbeAttempt::Exec(argv) => {
            let cwd = Some("/".to_owned());
            let command = Command { argv: argv.clone(), cwd, ..Command::default() };
            let bad_end = match run(request, &command, deadline)? {
                Some(Ended::Code(0)) => None,
                Some(Ended::Code(code)) => Some(format!("it ended with code {code}")),
                Some(Ended::Signal(signal)) => Some(format!("it was killed by signal {signal}")),
                None => Some(too_slow(*timeout)),
            };
            if let Some(reason) = bad_end {
                return Err(Failure::refused(Step::Health, &object, &reason));
            }
        }
        ProbeAttempt::Tcp(address) => {
            enter_confined(request)?;
            connect(*address, deadline).map_err(failed)?;
        }
        ProbeAttempt::Http(address, path) => {
            enter_confined(request)?;
            let line = connect(*address, deadline).and_then(|stream| ask(stream, *address, path, deadline));
            check_status(&line.map_err(failed)?)
                .map_err(|reason| Failure::refused(Step::Health, &object, &reason))?;
        }
    }
    reporter.probe_passed()
}

fn too_slow(timeout: Duration) -> String {
    format!("not within {timeout:?}")
}

/// Gives up the system's rights: what follows reads what somebody inside has written.
fn enter_confined(request: &LaunchRequest) -> Result<(), Failure> {
    enter(request, &launch_request::running_payload()?)?;
    confinement::confine(&request.spec.security)?;
    become_user(0, 0, &[])?;
    // Nothing is executed, so no label would come into force.
    confinement::finish(&request.spec.security, None)
}

/// Runs the program; `None`: it took too long, and was killed.
fn run(request: &LaunchRequest, command: &Command, deadline: Instant) -> Result<Option<Ended>, Failure> {
    let timeout = || deadline.saturating_duration_since(Instant::now());
    // A socket takes no timeout of zero.
    let forked = fork_command(request, command, Parent::Caller, timeout().max(Duration::from_millis(1)))?;
    forked.wait_for_exec()?;
    let program = command.argv.first().map_or("", String::as_str);
    if !pidfd::ends_within(&forked.pidfd, timeout()).map_err(at(Step::Health, program))? {
        // Its own children are reaped by the instance's init.
        children::kill(forked.pidfd.as_fd());
        return Ok(None);
    }
    // We have no other child.
    Ok(children::reap().map_err(at(Step::Health, program))?.map(|(_, ended)| ended))
}

fn connect(address: SocketAddr, deadline: Instant) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&address, time_left(deadline)?)
}

/// Sockets take no timeout of zero.
fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Asks for `path`, and reads the first line of the answer: RFC 9112, sections 3 and 4.
fn ask(mut stream: TcpStream, address: SocketAddr, path: &str, deadline: Instant) -> io::Result<Vec<u8>> {
    stream.set_write_timeout(Some(time_left(deadline)?))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: yadokari-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut line = Vec::new();
    let mut buffer = [0; 128];
    while line.len() < MAX_STATUS_LINE_BYTES && !line.contains(&b'\n') {
        stream.set_read_timeout(Some(time_left(deadline)?))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => line.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(line)
}

/// Whether the first line of an answer means success; if not, what it says.
fn check_status(answer: &[u8]) -> Result<(), String> {
    let line = answer.split(|&byte| byte == b'\n').next().unwrap_or(&[]);
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\r');
    let code = text.strip_prefix("HTTP/1.").and_then(|rest| {
        let (version, rest) = rest.split_once(' ')?;
        let code = rest.split(' ').next()?;
        let is_digits = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        (is_digits(version, 1) && is_digits(code, 3)).then(|| code.parse::<u16>().ok()).flatten()
    });
    match code {
        Some(200..400) => Ok(()),
        // What stands there is somebody else's text: nothing of it that a terminal would obey reaches one.
        Some(_) => Err(text.chars().map(|letter| if is_obeyed(letter) { '?' } else { letter }).collect()),
        None => Err("no answer in HTTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    #[test]
    fn answers_of_any_bytes_are_taken_for_a_status_or_shown_harmlessly() {
        let seeds = [b"HTTP/1.1 200 OK\r\nServer: x\r\n".to_vec(), b"HTTP/1.0 503 Busy\n".to_vec()];
        fuzz("status line", &seeds, &["HTTP/1.", " ", "399", "\r\n", "\x1b[2J", "\u{9b}", "\u{202e}"], |bytes| {
            if let Err(reason) = check_status(bytes) {
                assert!(!reason.chars().any(is_obeyed), "{reason:?}");
                assert!(reason == "no answer in HTTP" || bytes.starts_with(b"HTTP/1."), "{reason:?}");
            }
        });
    }

    #[test]
    fn an_answer_is_judged_by_its_status() {
        let table: &[(&[u8], Result<(), &str>)] = &[
            (b"HTTP/1.1 200 OK\r\nServer: x\r\n", Ok(())),
            (b"HTTP/1.0 204\r\n", Ok(())),
            (b"HTTP/1.1 399 ?\n", Ok(())),
            (b"HTTP/1.1 404 Not Found\r\n", Err("HTTP/1.1 404 Not Found")),
            (b"HTTP/1.1 503 \x1b[2J\xff\r\n", Err("HTTP/1.1 503 ?[2J\u{fffd}")),
            ("HTTP/1.1 503 \u{202e}KO\u{2066}\r\n".as_bytes(), Err("HTTP/1.1 503 ?KO?")),
            (b"HTTP/1.1 199 Early\r\n", Err("HTTP/1.1 199 Early")),
            (b"HTTP/1.1 +20 OK\r\n", Err("no answer in HTTP")),
            (b"HTTP/1.1 2000 OK\r\n", Err("no answer in HTTP")),
            (b"HTTP/2 200\r\n", Err("no answer in HTTP")),
            (b"SSH-2.0-OpenSSH\r\n", Err("no answer in HTTP")),
            (b"", Err("no answer in HTTP")),
        ];
        for (answer, expected) in table {
            assert_eq!(check_status(answer), expected.map_err(str::to_owned), "{}", answer.escape_ascii());
        }
    }
}
