//! What is asked of init, and of `yado apply`, about instances.

use super::{InstancesError, Places};
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use yado_spec::file::MAX_FILE_BYTES;
use yado_sys::{packet, regular_file};
use yado_wire::rescue::{InstanceState, InstanceStatus, Reply, Request};
use yado_wire::{InstanceName, MAX_FRAME_BYTES};

/// How long init may take to take a connection, and for an answer from its own tables.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a start is waited for. What becomes of it later is a question of its health.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long somebody else's apply, or the rest of a start of the system, is waited for.
const APPLY_TIMEOUT: Duration = Duration::from_secs(180);

/// Nobody tells when another apply is over.
const APPLY_AGAIN: Duration = Duration::from_millis(500);

/// What of the words of a child is kept for an error.
const MAX_REASON_BYTES: u64 = 4096;

/// `yado`: at least one instance is as it was, or worse; which, and why, is asked of init.
const EXIT_SOME_ARE_BAD: i32 = yado_spec::file::EXIT_SOME_ARE_BAD as i32;

/// An instance, if init knows one of this name.
pub(super) fn status(places: &Places, instance: &InstanceName) -> Result<Option<InstanceStatus>, InstancesError> {
    let mut found = None;
    each(places, |status| {
        if status.name == *instance {
            found = Some(status);
        }
    })?;
    Ok(found)
}

/// The images that instances run with, or would.
pub(super) fn images(places: &Places) -> Result<Vec<[u8; 32]>, InstancesError> {
    let mut images = Vec::new();
    each(places, |status| images.extend(status.fingerprint))?;
    Ok(images)
}

fn each(places: &Places, mut take: impl FnMut(InstanceStatus)) -> Result<(), InstancesError> {
    let take = |reply| {
        if let Reply::Instance(status) = reply {
            take(status);
        }
    };
    match ask(places, &Request::Status, Some(ANSWER_TIMEOUT), take)? {
        true => Ok(()),
        false => Err(InstancesError::Init { socket: places.socket(), reason: "no answer in time".to_owned() }),
    }
}

/// Whether somebody wants the instance to run: it does, or it starts with the system. At a start of the system init has perhaps
/// not come to it yet; and what nobody has running cannot be judged.
pub(super) fn is_wanted(places: &Places, status: &InstanceStatus) -> bool {
    is_up(status) || starts_with_system(places, &status.name)
}

/// Whether it runs, or would if it could.
pub(super) fn is_up(status: &InstanceStatus) -> bool {
    match status.state {
        InstanceState::Stopped | InstanceState::Stopping => false,
        InstanceState::Waiting
        | InstanceState::Starting
        | InstanceState::Running
        | InstanceState::Ready
        | InstanceState::BackingOff
        | InstanceState::Failed
        | InstanceState::Unhealthy
        | InstanceState::Stuck => true,
    }
}

/// By what was compiled last.
fn starts_with_system(places: &Places, instance: &InstanceName) -> bool {
    [&places.run, &places.system].into_iter().any(|place| {
        let path = place.join("specs").join(format!("{instance}.bin"));
        let mut bytes = Vec::new();
        let read =
            regular_file::open(&path).and_then(|file| file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes));
        let spec = read.ok().and_then(|_| yado_spec::file::decode(&bytes).ok());
        spec.is_some_and(|(spec, _)| spec.boot.autostart && !spec.security.protection_start)
    })
}

/// Until it is gone. How long that may take says the instance, and init ends it.
pub(super) fn stop(places: &Places, instance: &InstanceName) -> Result<(), InstancesError> {
    ask(places, &Request::Stop { instance: instance.clone(), timeout_s: None, force: false }, None, |_| {}).map(drop)
}

/// Until its init runs, or for as long as that takes usually: it may wait for others, or for a device.
pub(super) fn start(places: &Places, instance: &InstanceName) -> Result<(), InstancesError> {
    ask(places, &Request::Start(instance.clone()), Some(START_TIMEOUT), |_| {}).map(drop)
}

/// Compiles what is configured and has init take it, as a user does.
pub(super) fn apply(places: &Places) -> Result<(), InstancesError> {
    let until = Instant::now() + APPLY_TIMEOUT;
    loop {
        match apply_once(places) {
            Err(reason) if until <= Instant::now() => return Err(InstancesError::Apply { reason }),
            Err(_) => std::thread::sleep(APPLY_AGAIN),
            Ok(()) => return Ok(()),
        }
    }
}

fn apply_once(places: &Places) -> Result<(), String> {
    let program = places.yado.display();
    let mut command = Command::new(&places.yado);
    command.args(["apply", "--format", "json", "--socket"]).arg(places.socket());
    // So that it is the command, whatever the program is called here.
    std::os::unix::process::CommandExt::arg0(&mut command, "yado");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("start {program}: {error}"))?;
    let mut said = Vec::new();
    if let Some(mut errors) = child.stderr.take() {
        let _ = errors.by_ref().take(MAX_REASON_BYTES).read_to_end(&mut said);
        // What it says beyond that it must be able to say.
        let _ = std::io::copy(&mut errors, &mut std::io::sink());
    }
    let ended = child.wait().map_err(|error| format!("wait for {program}: {error}"))?;
    match ended.code() {
        Some(0 | EXIT_SOME_ARE_BAD) => Ok(()),
        _ => Err(format!("{ended}: {}", String::from_utf8_lossy(&said).trim().replace('\n', "; "))),
    }
}

/// One exchange, and whether it came to its end: without a timeout init says when it is over.
fn ask(
    places: &Places,
    request: &Request,
    timeout: Option<Duration>,
    mut take: impl FnMut(Reply),
) -> Result<bool, InstancesError> {
    let socket = places.socket();
    let failed = |reason: String| InstancesError::Init { socket: socket.clone(), reason };
    let broken = |error: std::io::Error| failed(error.to_string());
    let connection = packet::connect_within(&socket, ANSWER_TIMEOUT).map_err(broken)?;
    match timeout {
        Some(timeout) => packet::set_timeout(&connection, timeout),
        None => packet::set_no_timeout(&connection),
    }
    .map_err(broken)?;
    let frame = yado_wire::encode(request).ok_or_else(|| failed("the request is too long".to_owned()))?;
    let mut buffer = vec![0; MAX_FRAME_BYTES];
    packet::send(&connection, &frame, &[]).map_err(broken)?;
    loop {
        let received = packet::recv(&connection, &mut buffer).map_err(broken)?;
        let Some(received) = received else { return Ok(false) };
        if received.is_end() {
            return Err(failed("it hung up".to_owned()));
        }
        match yado_wire::decode(&buffer[..received.len]).map_err(|error| failed(error.to_string()))? {
            Reply::Done => return Ok(true),
            Reply::Refused(failure) => return Err(InstancesError::Refused(Box::new(failure))),
            reply => take(reply),
        }
    }
}
