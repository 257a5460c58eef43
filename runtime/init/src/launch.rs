//! One run of the launcher: its process, its report socket, and what it reported.

use crate::boot_clock::Moment;
use crate::deferred_close::{CloseBy, DeferredClose, Discarded};
use crate::process::{Output, Start};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;
use yado_spec::LaunchRequest;
use yado_spec::launch_request::{Command, DEV_FD, IMAGE_FD, LaunchTask, PAYLOAD_FD, REPORT_FD, REQUEST_FD};
use yado_sys::children::{self, Child, Ended, Session};
use yado_sys::{memfd, packet};
use yado_wire::{Failure, InstanceId, MAX_INSTANCES, Step};

/// The most launchers, and commands started by them, at once: half of all instances can be probed at the same time. A probe for
/// which there is no room is tried again later.
pub(crate) const MAX_LAUNCHES: usize = MAX_INSTANCES / 2;

/// Numbers launches; a number is never used twice.
pub(crate) type LaunchId = u32;

/// One run of the launcher.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) id: LaunchId,
    /// The instance whose task it does.
    pub(crate) instance: InstanceId,
    /// What the launcher is to do.
    pub(crate) task: TaskKind,
    /// Process id and pidfd of the launcher; `None` when it has ended.
    pub(crate) launcher: Option<(i32, OwnedFd)>,
    /// Where it reports; `None` when it has hung up.
    pub(crate) reports: Option<DeferredClose>,
    /// The pipe for standard error: the launcher writes there only when something is badly wrong, and so does a command without
    /// descriptors of its own.
    pub(crate) output: Output,
    /// It reported success.
    pub(crate) is_done: bool,
    /// It reported failure.
    pub(crate) failure: Option<Box<Failure>>,
    /// The command that it started, for [`TaskKind::Exec`].
    pub(crate) command: Option<(i32, OwnedFd)>,
    /// `None`: the command has not ended, or there is none.
    pub(crate) command_ended: Option<Ended>,
    /// When it is killed if it has not ended.
    pub(crate) limit: Limit,
    /// It has not reported yet that it has verified and mounted the image.
    pub(crate) awaits_image: bool,
}

/// How long a launch may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// No limit: its command runs.
    None,
    /// It is killed at this time, `after` its start.
    GiveUp { at: Moment, after: Duration },
    /// It was killed, and no longer counts. If it still exists at this time, the log says so.
    GivenUp { tell_at: Moment },
    /// It hangs in the kernel, and the log has said so.
    Stuck,
}

impl Limit {
    /// When the limit must be looked at again.
    pub(crate) fn deadline(self) -> Option<Moment> {
        match self {
            Limit::GiveUp { at, .. } | Limit::GivenUp { tell_at: at } => Some(at),
            Limit::None | Limit::Stuck => None,
        }
    }
}

impl Launch {
    /// It took too long: its task has failed, and only its process may still exist.
    pub(crate) fn is_given_up(&self) -> bool {
        matches!(self.limit, Limit::GivenUp { .. } | Limit::Stuck)
    }

    /// Kills the launcher, and the command that it started.
    pub(crate) fn kill(&self) {
        for (_, pidfd) in self.launcher.iter().chain(&self.command) {
            children::kill(pidfd.as_fd());
        }
    }

    /// The step that the launcher is in; it shows the step as its process name.
    pub(crate) fn step_shown(&self) -> Option<String> {
        let (pid, _) = self.launcher.as_ref()?;
        let shown = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some(shown.trim_end().to_owned())
    }
}

/// What the launcher is to do, without what it needs for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskKind {
    /// Start the instance.
    Run,
    /// Run a command for this client.
    Exec { client: u32 },
    /// Run the command that asks its init to power off.
    Stop,
    /// Try its probe once.
    Probe,
    /// Bring its devices up to date.
    Devices,
}

impl TaskKind {
    /// Whether a program of the instance writes to the launcher's output. Then no line of it counts as a line of ours.
    pub(crate) fn lends_its_output(self) -> bool {
        match self {
            TaskKind::Exec { .. } | TaskKind::Stop | TaskKind::Probe => true,
            TaskKind::Run | TaskKind::Devices => false,
        }
    }

    /// Whether such a launch mounts the image.
    pub(crate) fn mounts_image(self) -> bool {
        match self {
            TaskKind::Run => true,
            TaskKind::Exec { .. } | TaskKind::Stop | TaskKind::Probe | TaskKind::Devices => false,
        }
    }
}

/// What happens to launchers that still run when the run that they work for has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Launchers {
    /// They may go on: they may be about to report why it ended.
    LetFinish,
    /// They are killed.
    Kill,
}

/// What the launcher is to do.
#[derive(Debug)]
pub(crate) enum Task<'a> {
    /// Start the instance.
    Run,
    /// Run a command for this client.
    Exec { client: u32, command: Command, standard: &'a [DeferredClose] },
    /// Run the command that asks its init to power off.
    Stop { command: Command },
    /// Try its probe once.
    Probe,
    /// Bring its devices up to date.
    Devices,
}

/// The descriptors that a launcher inherits besides its request and its report socket.
#[derive(Debug)]
pub(crate) struct LaunchDescriptors<'a> {
    /// The pidfd of the running instance.
    pub(crate) payload: Option<BorrowedFd<'a>>,
    /// Our mount of its `/dev`.
    pub(crate) dev: Option<BorrowedFd<'a>>,
    /// The mount of its image from an earlier start.
    pub(crate) image: Option<BorrowedFd<'a>>,
    /// Standard input, output and error of a command.
    pub(crate) standard: &'a [DeferredClose],
}

/// Starts the launcher in `group`, or in ours.
pub(crate) fn start(
    yado: &Path,
    group: Option<&Path>,
    request: &LaunchRequest,
    given: &LaunchDescriptors<'_>,
    discarded: &Discarded,
) -> Result<(Child, DeferredClose, Output), Failure> {
    let failed = |object: &str, error: &io::Error| Failure::from_io(Step::Launcher, object, error);
    let bytes = request
        .encode()
        .ok_or_else(|| Failure::refused(Step::Launcher, request.spec.name.as_str(), "its request is too long"))?;
    let memory = memfd::sealed("request", &bytes).map_err(|error| failed("request", &error))?;
    let (reports, theirs) = packet::socketpair().map_err(|error| failed("report socket", &error))?;
    let reports = discarded.hold(reports, CloseBy::HangUp);
    packet::set_nonblocking(&reports).map_err(|error| failed("report socket", &error))?;
    let (output, writer) = Output::pipe().map_err(|error| failed("output pipe", &error))?;

    let mut descriptors: Vec<(BorrowedFd<'_>, RawFd)> =
        vec![(memory.as_fd(), REQUEST_FD), (theirs.as_fd(), REPORT_FD)];
    for (descriptor, number) in [(given.payload, PAYLOAD_FD), (given.dev, DEV_FD), (given.image, IMAGE_FD)] {
        descriptors.extend(descriptor.map(|descriptor| (descriptor, number)));
    }
    for (descriptor, number) in given.standard.iter().zip(0..) {
        descriptors.push((descriptor.as_fd(), number));
    }
    if given.standard.is_empty() {
        descriptors.push((writer.as_fd(), 2));
    }
    let task = match request.task {
        LaunchTask::Run => "run",
        LaunchTask::Exec(_) => "exec",
        LaunchTask::Probe => "probe",
        LaunchTask::Devices => "devices",
    };
    let group =
        group.map(|path| File::open(path).map_err(|error| failed(&path.to_string_lossy(), &error))).transpose()?;
    let child = Start {
        path: yado,
        arguments: &[OsStr::new("yado-container"), OsStr::new(task)],
        environment: &[],
        descriptors: &descriptors,
        group: group.as_ref().map(AsFd::as_fd),
        session: Session::Own,
    }
    .start()
    .map_err(|error| failed(&yado.to_string_lossy(), &error))?;
    Ok((child, reports, output))
}
