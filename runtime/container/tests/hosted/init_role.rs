//! What init does with a launcher: start it in the instance's cgroup with a request and a report socket, take its reports,
//! and reap.

use crate::fixture::Fixture;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use yado_spec::LaunchRequest;
use yado_spec::file_identity::FileIdentity;
use yado_spec::launch_request::{
    Command, CommandUser, DEV_FD, IMAGE_FD, LaunchTask, PAYLOAD_FD, REPORT_FD, REQUEST_FD,
};
use yado_sys::children::{self, Child, Ended, Program, Session};
use yado_sys::{memfd, packet};
use yado_wire::Failure;
use yado_wire::launch::{ImageMount, LaunchReport, StepTime};

/// Nothing here takes a tenth of it.
const DEADLINE: Duration = Duration::from_secs(20);

/// A started payload.
pub(crate) struct Payload {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) console: Option<File>,
    /// Our mount of its `/dev`; a command brings none.
    dev: Option<OwnedFd>,
    /// A mount of its root, closed after its end; a command brings none.
    pub(crate) root: Option<OwnedFd>,
    /// What may be kept of its image, and what travelled with that.
    pub(crate) image: Option<(ImageMount, Vec<OwnedFd>)>,
    pub(crate) steps: Vec<StepTime>,
    /// From the decision to the report that it runs.
    pub(crate) until_started: Duration,
}

/// Runs a request of the task `Run` or `Exec` until the payload executes.
pub(crate) fn launch(request: &LaunchRequest) -> Result<Payload, Failure> {
    launch_with(request, None, &null(), || ())
}

/// The same with the image's mount from an earlier start.
pub(crate) fn launch_cached(
    request: &LaunchRequest,
    cached: FileIdentity,
    mount: &OwnedFd,
) -> Result<Payload, Failure> {
    let request = LaunchRequest { cached_image: Some(cached), ..request.clone() };
    let (reports, launcher) = start(&request, None, &null(), Some(mount));
    take_reports(Instant::now(), &reports, &launcher)
}

/// The same, while somebody else does what the launcher waits for.
pub(crate) fn launch_beside(request: &LaunchRequest, meanwhile: impl FnOnce()) -> Result<Payload, Failure> {
    launch_with(request, None, &null(), meanwhile)
}

/// The request's instance runs `command`; gives its exit code and output.
pub(crate) fn exec(request: &LaunchRequest, running: &Payload, command: &[&str]) -> Result<(Ended, String), Failure> {
    exec_as(request, running, command, 0)
}

pub(crate) fn exec_as(
    request: &LaunchRequest,
    running: &Payload,
    command: &[&str],
    id: u32,
) -> Result<(Ended, String), Failure> {
    let command = Command {
        argv: command.iter().map(|part| (*part).to_owned()).collect(),
        environment: vec!["ADDED=by exec".to_owned()],
        cwd: Some("/tmp".to_owned()),
        user: CommandUser::Ids { uid: id, gid: id },
    };
    exec_whole(request, running, command)
}

pub(crate) fn exec_whole(
    request: &LaunchRequest,
    running: &Payload,
    command: Command,
) -> Result<(Ended, String), Failure> {
    let request = LaunchRequest { task: LaunchTask::Exec(command), ..request.clone() };
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let command = launch_with(&request, Some(running), &writer, || ())?;
    drop(writer);
    let mut output = String::new();
    File::from(reader).read_to_string(&mut output).unwrap();
    Ok((wait(command.pid, &command.pidfd), output))
}

/// Brings the devices of the running instance up to date.
pub(crate) fn sync_devices(
    request: &LaunchRequest,
    running: &Payload,
) -> Result<(Vec<String>, Vec<String>), Failure> {
    let request = LaunchRequest { task: LaunchTask::Devices, ..request.clone() };
    let (reports, launcher) = start(&request, Some(running), &null(), None);
    let mut outcome = None;
    while let Some((report, _)) = next_report(&reports) {
        outcome = Some(match report {
            LaunchReport::DevicesSynced { added, removed } => Ok((texts(&added), texts(&removed))),
            LaunchReport::Failed(failure) => Err(failure),
            other => panic!("devices: {other:?}"),
        });
    }
    wait(launcher.pid, &launcher.pidfd);
    outcome.expect("a report")
}

fn texts(names: &[yado_wire::Text<64>]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

/// Tries the probe of the running instance.
pub(crate) fn probe(request: &LaunchRequest, running: &Payload) -> Result<(), Failure> {
    probe_beside(request, running, |_| ())
}

/// The same, while somebody else looks at the process that tries it.
pub(crate) fn probe_beside(
    request: &LaunchRequest,
    running: &Payload,
    meanwhile: impl FnOnce(i32),
) -> Result<(), Failure> {
    let request = LaunchRequest { task: LaunchTask::Probe, ..request.clone() };
    let (reports, launcher) = start(&request, Some(running), &null(), None);
    meanwhile(launcher.pid);
    let report = next_report(&reports).map(|(report, _)| report);
    wait(launcher.pid, &launcher.pidfd);
    match report {
        Some(LaunchReport::ProbePassed) => Ok(()),
        Some(LaunchReport::Failed(failure)) => Err(failure),
        other => panic!("probe: {other:?}"),
    }
}

fn launch_with(
    request: &LaunchRequest,
    running: Option<&Payload>,
    output: &OwnedFd,
    meanwhile: impl FnOnce(),
) -> Result<Payload, Failure> {
    let begin = Instant::now();
    let (reports, launcher) = start(request, running, output, None);
    meanwhile();
    take_reports(begin, &reports, &launcher)
}

fn take_reports(begin: Instant, reports: &OwnedFd, launcher: &Child) -> Result<Payload, Failure> {
    let (mut payload, mut image) = (None, None);
    let outcome = loop {
        match next_report(reports) {
            Some((LaunchReport::Image(told), descriptors)) => image = Some((told, descriptors)),
            Some((LaunchReport::Payload { pid }, descriptors)) => {
                let mut descriptors = descriptors.into_iter();
                let pidfd = descriptors.next().expect("a pidfd travels with the payload");
                payload = Some((pid, pidfd, descriptors.next().map(File::from)));
            }
            Some((LaunchReport::Started { steps }, descriptors)) => {
                let mut descriptors = descriptors.into_iter();
                break Ok((steps.to_vec(), descriptors.next(), descriptors.next()));
            }
            Some((LaunchReport::Failed(failure), _)) => break Err(failure),
            Some((report @ (LaunchReport::DevicesSynced { .. } | LaunchReport::ProbePassed), _)) => {
                panic!("{report:?}")
            }
            None => panic!("the launcher ended without a report"),
        }
    };
    let until_started = begin.elapsed();
    wait(launcher.pid, &launcher.pidfd);
    let (steps, dev, root) = outcome?;
    let (pid, pidfd, console) = payload.expect("the payload is reported before the start");
    Ok(Payload { pid, pidfd, console, dev, root, image, steps, until_started })
}

/// The program that is measured: the shipped one, where it is named, and not these tests.
const LAUNCHER: &str = "YADO_BENCH_LAUNCHER";

fn start(
    request: &LaunchRequest,
    running: Option<&Payload>,
    output: &OwnedFd,
    cached: Option<&OwnedFd>,
) -> (OwnedFd, Child) {
    let (reports, launchers_end) = packet::socketpair().unwrap();
    packet::set_timeout(&reports, DEADLINE).unwrap();
    let request_memory = memfd::sealed("request", &request.encode().unwrap()).unwrap();
    let (null, cgroup) = (null(), Fixture::cgroup_of(request));
    // What a running instance does to its own group must not hold the launcher up.
    let is_inside = request.task == LaunchTask::Run;
    let stderr = std::io::stderr();
    let mut descriptors: Vec<(BorrowedFd<'_>, i32)> = vec![
        (null.as_fd(), 0),
        (output.as_fd(), 1),
        (stderr.as_fd(), 2),
        (request_memory.as_fd(), REQUEST_FD),
        (launchers_end.as_fd(), REPORT_FD),
    ];
    descriptors.extend(cached.map(|mount| (mount.as_fd(), IMAGE_FD)));
    if let Some(running) = running {
        match (&request.task, &running.dev) {
            (LaunchTask::Devices, Some(dev)) => descriptors.push((dev.as_fd(), DEV_FD)),
            _ => descriptors.push((running.pidfd.as_fd(), PAYLOAD_FD)),
        }
    }
    let launcher = std::env::var(LAUNCHER).unwrap_or_else(|_| "/proc/self/exe".to_owned());
    let child = children::start(&Program {
        path: &CString::new(launcher).unwrap(),
        arguments: &[CString::new("yado-container").unwrap(), CString::new("run").unwrap()],
        environment: &[],
        descriptors: &descriptors,
        cgroup: is_inside.then(|| cgroup.as_fd()),
        session: Session::Own,
    });
    (reports, child.unwrap())
}

fn null() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").unwrap().into()
}

fn next_report(reports: &OwnedFd) -> Option<(LaunchReport, Vec<OwnedFd>)> {
    let mut buffer = vec![0; yado_wire::MAX_FRAME_BYTES];
    let packet = packet::recv(reports, &mut buffer).unwrap().expect("a report within the deadline");
    if packet.is_end() {
        return None;
    }
    Some((yado_wire::decode(&buffer[..packet.len]).unwrap(), packet.descriptors))
}

/// Ends that were reaped while somebody waited for another process.
static REAPED: Mutex<Option<HashMap<i32, Ended>>> = Mutex::new(None);

/// Waits for the end of a child and reaps it, and whatever else ends meanwhile: the end of an instance's init waits in turn
/// for all that is in its pid namespace, our own commands among them.
pub(crate) fn wait(pid: i32, pidfd: &OwnedFd) -> Ended {
    /// Something else may end without waking us.
    const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    let until = Instant::now() + DEADLINE;
    let mut guard = REAPED.lock().unwrap_or_else(PoisonError::into_inner);
    let reaped = guard.get_or_insert_default();
    loop {
        while let Some((pid, ended)) = children::reap().unwrap() {
            reaped.insert(pid, ended);
        }
        if let Some(ended) = reaped.remove(&pid) {
            return ended;
        }
        assert!(Instant::now() < until, "process {pid} does not end");
        rustix::event::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&LOOK_AGAIN)).unwrap();
    }
}

impl Payload {
    /// Waits for its end; gives what it wrote to its console too.
    pub(crate) fn finish(mut self) -> (Ended, String) {
        let ended = wait(self.pid, &self.pidfd);
        let mut output = Vec::new();
        // A pty whose other side is closed says EIO after its last byte.
        let _ = self.console.take().expect("a console").read_to_end(&mut output);
        (ended, String::from_utf8_lossy(&output).replace("\r\n", "\n"))
    }

    pub(crate) fn kill(self) {
        children::kill(self.pidfd.as_fd());
        wait(self.pid, &self.pidfd);
    }
}
