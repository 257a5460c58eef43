//! `yado rescue`, from outside, against an init that is played by the test.
#![allow(clippy::unwrap_used)]

mod command;

use command::{Workshop, text};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use yado_sys::packet;
use yado_wire::names::clipped;
use yado_wire::rescue::{
    Command as CommandFile, CommandUser, Event, EventKind, ExitStatus, LogRecord, MAX_COMMAND_BYTES, Mode, Reply,
    Request, SystemStatus, Verify,
};
use yado_wire::{Failure, InstanceName, MAX_FRAME_BYTES, Step};

/// How long the played init waits for the command before the test has failed.
const DEADLINE: Duration = Duration::from_secs(20);

/// Serves one connection: `play` gets the request, what came with it, and a function that answers.
fn init_that<T: Send + 'static>(
    socket: &Path,
    play: impl FnOnce(Request, Vec<OwnedFd>, &dyn Fn(&Reply, &[&OwnedFd])) -> T + Send + 'static,
) -> JoinHandle<T> {
    let listener = packet::listen(socket).unwrap();
    thread::spawn(move || {
        let mut polled = yado_sys::poll::PollSet::default();
        polled.add(&listener, yado_sys::poll::Interest::Read);
        polled.wait(Some(DEADLINE)).unwrap();
        let connection = packet::accept(&listener).unwrap().expect("nobody connected in time");
        polled.clear();
        polled.add(&connection, yado_sys::poll::Interest::Read);
        polled.wait(Some(DEADLINE)).unwrap();
        let mut buffer = vec![0; MAX_FRAME_BYTES];
        let packet = packet::recv(&connection, &mut buffer).unwrap().expect("no request in time");
        let request = yado_wire::decode(&buffer[..packet.len]).unwrap();
        let answer = |reply: &Reply, descriptors: &[&OwnedFd]| {
            let borrowed: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
            packet::send(&connection, &yado_wire::encode(reply).unwrap(), &borrowed).unwrap().unwrap();
        };
        play(request, packet.descriptors, &answer)
    })
}

fn rescue<'a>(words: &[&'a str]) -> Vec<&'a str> {
    ["rescue", "--socket", "init.sock"].iter().chain(words).copied().collect()
}

fn web() -> InstanceName {
    InstanceName::parse("web").unwrap()
}

#[test]
fn an_exec_carries_input_and_output_and_ends_with_the_commands_code() {
    let workshop = Workshop::new();
    let init = init_that(&workshop.path("init.sock"), |request, descriptors, answer| {
        let [stdin, stdout, stderr, command]: [OwnedFd; 4] = descriptors.try_into().unwrap();
        let mut input = String::new();
        File::from(stdin).read_to_string(&mut input).unwrap();
        File::from(stdout).write_all(format!("got {input}").as_bytes()).unwrap();
        File::from(stderr).write_all(b"complaint").unwrap();
        answer(&Reply::Exited(ExitStatus::Code(7)), &[]);
        let bytes = yado_sys::memfd::read_sealed(&command, MAX_COMMAND_BYTES as u64).unwrap();
        (request, CommandFile::decode(&bytes).unwrap())
    });
    let mut command = workshop.command(&rescue(&["exec", "web", "--", "cat", "-v"]));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("got hello", "complaint"));
    assert_eq!(output.status.code(), Some(7));
    let (request, CommandFile { argv, user, .. }) = init.join().unwrap();
    assert_eq!((request, user), (Request::Exec { instance: web() }, CommandUser::Ids { uid: 0, gid: 0 }));
    assert_eq!(argv, ["cat", "-v"]);
}

#[test]
fn an_exec_with_a_tty_gives_the_command_a_terminal() {
    let workshop = Workshop::new();
    let init = init_that(&workshop.path("init.sock"), |_, descriptors, answer| {
        let is_terminal = descriptors.iter().take(3).all(std::io::IsTerminal::is_terminal);
        File::from(descriptors[1].try_clone().unwrap()).write_all(b"prompt").unwrap();
        drop(descriptors);
        answer(&Reply::Exited(ExitStatus::Signal(15)), &[]);
        is_terminal
    });
    let output = workshop.run(&rescue(&["exec", "-t", "web", "sh"]));
    assert!(init.join().unwrap());
    assert_eq!((text(&output.stdout), output.status.code()), ("prompt", Some(128 + 15)));
}

#[test]
fn an_exec_that_is_refused_is_told_from_the_commands_own_failure() {
    let workshop = Workshop::new();
    let init = init_that(&workshop.path("init.sock"), |_, _, answer| {
        answer(&Reply::Refused(Failure::refused(Step::Request, "web", "it does not run")), &[]);
    });
    let output = workshop.run(&rescue(&["exec", "web", "true"]));
    init.join().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(125), "yado: request: web: it does not run\n"));
}

#[test]
fn a_program_that_is_not_there_is_told_as_a_shell_tells_it() {
    let workshop = Workshop::new();
    let init = init_that(&workshop.path("init.sock"), |_, _, answer| {
        let error = std::io::Error::from_raw_os_error(2);
        answer(&Reply::Refused(Failure::from_io(Step::Exec, "nonsense", &error)), &[]);
    });
    let output = workshop.run(&rescue(&["exec", "web", "nonsense"]));
    init.join().unwrap();
    assert_eq!(output.status.code(), Some(127));
}

#[test]
fn a_console_shows_what_comes_until_its_end() {
    let workshop = Workshop::new();
    let init = init_that(&workshop.path("init.sock"), |request, _, answer| {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut ours = File::from(OwnedFd::from(ours));
        answer(&Reply::Console, &[&OwnedFd::from(theirs)]);
        answer(&Reply::Done, &[]);
        ours.write_all(b"login: ").unwrap();
        request
    });
    let output = workshop.run(&rescue(&["console", "web"]));
    assert_eq!(init.join().unwrap(), Request::Console { instance: web(), force: false });
    assert_eq!((text(&output.stdout), output.status.success()), ("login: ", true));
}

#[test]
fn a_status_without_netd_is_shown_with_that_said() {
    let workshop = Workshop::new();
    let init = init_that(&workshop.path("init.sock"), |_, _, answer| {
        let system = SystemStatus {
            version: clipped("0.1.0"),
            mode: Mode::Hosted,
            fingerprint: None,
            slot: None,
            uptime_ms: 5,
            data: None,
            verify: Verify::Start,
        };
        answer(&Reply::System(system), &[]);
        answer(&Reply::Done, &[]);
    });
    let value = workshop.json(&rescue(&["status", "--format", "json"]));
    init.join().unwrap();
    assert_eq!((&value["system"]["mode"], &value["system"]["verify"]), (&"hosted".into(), &"start".into()));
    assert!(value["links_error"].as_str().unwrap().starts_with("netd does not answer on netd.sock"), "{value}");
}

#[test]
fn the_log_of_a_console_is_its_lines_only() {
    let workshop = Workshop::new();
    let init = init_that(&workshop.path("init.sock"), |_, _, answer| {
        for (identifier, message) in
            [("init", "started web"), ("instance/web", "Welcome"), ("instance/web", "\x1b[2J")]
        {
            let (identifier, message) = (clipped(identifier), clipped(message));
            answer(&Reply::Log(LogRecord { monotonic_ms: 1, priority: 6, identifier, pid: 0, message }), &[]);
        }
        answer(&Reply::Done, &[]);
    });
    let output = workshop.succeed(&rescue(&["console", "web", "--show-log"]));
    init.join().unwrap();
    assert_eq!(text(&output.stdout), "Welcome\n\\u{1b}[2J\n");
}

#[test]
fn a_stop_asks_for_each_and_goes_on_after_a_refusal() {
    let workshop = Workshop::new();
    let init = init_that(&workshop.path("init.sock"), |request, _, answer| {
        answer(&Reply::Done, &[]);
        request
    });
    let output = workshop.run(&rescue(&["stop", "--timeout", "3", "web", "gone"]));
    let asked = init.join().unwrap();
    assert_eq!(asked, Request::Stop { instance: web(), timeout_s: Some(3), force: false });
    // The played init serves one; the second finds nobody, and is named.
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("yado: gone: init"), "{output:?}");
}

#[test]
fn a_name_that_is_none_is_refused_before_anybody_is_asked() {
    let workshop = Workshop::new();
    let output = workshop.fail(&rescue(&["start", "../etc"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("'.' is not a letter, digit or dash"), "{output:?}");
}

/// Serves as many connections as there are answers, one after the other; each answer is the packets of one.
fn init_that_sends(socket: &Path, answers: Vec<Vec<Vec<u8>>>) -> JoinHandle<()> {
    let listener = packet::listen(socket).unwrap();
    thread::spawn(move || {
        let mut polled = yado_sys::poll::PollSet::default();
        // A hung-up connection would be another error.
        let mut connections = Vec::new();
        for packets in answers {
            polled.clear();
            polled.add(&listener, yado_sys::poll::Interest::Read);
            polled.wait(Some(DEADLINE)).unwrap();
            let connection = packet::accept(&listener).unwrap().expect("nobody connected in time");
            polled.clear();
            polled.add(&connection, yado_sys::poll::Interest::Read);
            polled.wait(Some(DEADLINE)).unwrap();
            let mut request = vec![0; MAX_FRAME_BYTES];
            packet::recv(&connection, &mut request).unwrap().expect("no request in time");
            for bytes in packets {
                packet::send(&connection, &bytes, &[]).unwrap().unwrap();
            }
            connections.push(connection);
        }
        // Until they have hung up.
        for connection in connections {
            polled.clear();
            polled.add(&connection, yado_sys::poll::Interest::Read);
            polled.wait(Some(DEADLINE)).unwrap();
        }
    })
}

#[test]
fn an_event_of_a_newer_init_does_not_end_the_stream() {
    let workshop = Workshop::new();
    let event = |sequence, kind| Reply::Event(Event { sequence, monotonic_us: 1, instance: None, kind: Some(kind) });
    let stage = |sequence, name| yado_wire::encode(&event(sequence, EventKind::Stage(clipped(name)))).unwrap();
    // Event 8 of kind 99, which carries five bytes.
    let newer = b"\x01\x04\x08\x01\x00\x06\x63\x04late".to_vec();
    let done = yado_wire::encode(&Reply::Done).unwrap();
    let packets = vec![stage(7, "data"), newer, stage(9, "netd"), done];
    let init = init_that_sends(&workshop.path("init.sock"), vec![packets]);
    let output = workshop.run(&rescue(&["events"]));
    init.join().unwrap();
    let shown = "[     0.000001] stage data\n\
                 [     0.000001] an event that this program does not know, number 8\n\
                 [     0.000001] stage netd\n";
    assert_eq!((text(&output.stdout), text(&output.stderr), output.status.code()), (shown, "", Some(0)));
}

#[test]
fn a_reply_of_a_newer_init_is_an_error_that_names_both_releases() {
    let workshop = Workshop::new();
    let status = SystemStatus {
        version: clipped("9.8.7"),
        mode: Mode::Hosted,
        fingerprint: None,
        slot: None,
        uptime_ms: 1,
        data: None,
        verify: Verify::Start,
    };
    let system = yado_wire::encode(&Reply::System(status)).unwrap();
    // A reply of kind 99.
    let answers = vec![vec![b"\x01\x63".to_vec()], vec![system]];
    let init = init_that_sends(&workshop.path("init.sock"), answers);
    let output = workshop.run(&rescue(&["events"]));
    init.join().unwrap();
    let said = format!(
        "yado: init on init.sock: message: malformed body; this program is of release {}, init of 9.8.7\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!((text(&output.stderr), output.status.code()), (&*said, Some(1)));
}
