//! Reports to init: how long each step took, the payload, and success or failure.

use crate::cached_image::Keep;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ffi::CString;
use std::io;
use std::time::{Duration, Instant};
use yado_spec::launch_request::REPORT_FD;
use yado_sys::mount::NewMountError;
use yado_sys::packet;
use yado_wire::launch::{ImageMount, LaunchReport, MAX_NAMED_NODES, StepTime, StepTimes};
use yado_wire::{Failure, Step, names::clipped};

/// Turns the kernel's refusal of one step on one object into a [`Failure`].
pub(crate) fn at<E: Into<io::Error>>(step: Step, object: &str) -> impl FnOnce(E) -> Failure {
    move |error| Failure::from_io(step, object, &error.into())
}

/// As [`at`], for a refusal that would be the same at the next try.
pub(crate) fn at_in_vain<E: Into<io::Error>>(step: Step, object: &str) -> impl FnOnce(E) -> Failure {
    move |error| Failure::from_io(step, object, &error.into()).in_vain()
}

/// As [`at`], for a new file system: the kernel's messages about it are in the reason.
pub(crate) fn at_new(step: Step, object: &str) -> impl FnOnce(NewMountError) -> Failure {
    move |error| Failure { reason: clipped(&error.to_string()), ..Failure::from_io(step, object, &error.source) }
}

/// Shows the current step as the name of this process: init tells it when it has to kill the launcher, and a process list shows
/// it. Executing a program ends it.
pub(crate) fn show(step: Step) {
    if let Ok(name) = CString::new(step.name()) {
        // It can fail for a bad address only.
        let _ = rustix::thread::set_name(&name);
    }
}

/// How long the steps took; those for which there is no room are dropped.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    times: StepTimes,
}

impl Stopwatch {
    /// Does one step. Its time counts also when it failed.
    pub(crate) fn step<T>(&mut self, step: Step, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        show(step);
        let begin = Instant::now();
        let outcome = work();
        let micros = u32::try_from(begin.elapsed().as_micros()).unwrap_or(u32::MAX);
        // Full only if a start had more steps than there are names for.
        let _ = self.times.push(StepTime { step, micros });
        outcome
    }

    /// Adds what another process measured.
    pub(crate) fn add(&mut self, times: &[StepTime]) {
        let room = self.times.capacity() - self.times.len();
        // It fits: no more than the room is taken.
        let _ = self.times.extend_from_slice(&times[..times.len().min(room)]);
    }

    /// All so far.
    pub(crate) fn times(&self) -> &StepTimes {
        &self.times
    }
}

/// init reads reports at once, unless it is being executed again.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The report socket that init gave us.
#[derive(Debug)]
pub(crate) struct Reporter {
    socket: OwnedFd,
}

impl Reporter {
    /// The one that init gave us.
    pub(crate) fn inherited() -> io::Result<Reporter> {
        let socket = yado_sys::inherited::take(REPORT_FD)?;
        packet::set_timeout(&socket, TIMEOUT)?;
        Ok(Reporter { socket })
    }

    /// The payload exists: its pidfd, and the master side of its console if it has one.
    pub(crate) fn payload(&mut self, pid: i32, pidfd: &OwnedFd, console: Option<&OwnedFd>) -> Result<(), Failure> {
        let descriptors: heapless::Vec<BorrowedFd<'_>, 2> =
            [Some(pidfd), console].into_iter().flatten().map(AsFd::as_fd).collect();
        self.send(&LaunchReport::Payload { pid }, &descriptors)
    }

    /// The image is mounted. `keep`: what init keeps of it.
    pub(crate) fn image(&mut self, keep: &Keep) -> Result<(), Failure> {
        let (kept, descriptors) = match keep {
            Keep::Given(successor) => (ImageMount::Given, [successor.as_ref(), None]),
            Keep::New { mount, identity, watch } => {
                (ImageMount::New((*identity).into()), [Some(mount), watch.as_ref()])
            }
            Keep::Nothing => (ImageMount::Nothing, [None, None]),
        };
        let descriptors: heapless::Vec<BorrowedFd<'_>, 2> =
            descriptors.into_iter().flatten().map(AsFd::as_fd).collect();
        self.send(&LaunchReport::Image(kept), &descriptors)
    }

    /// The instance's init runs. `dev`: our mount of its `/dev`. `root`: of its root.
    pub(crate) fn started(&mut self, stopwatch: &Stopwatch, dev: &OwnedFd, root: &OwnedFd) -> Result<(), Failure> {
        self.send(&LaunchReport::Started { steps: stopwatch.times().clone() }, &[dev.as_fd(), root.as_fd()])
    }

    /// The command runs.
    pub(crate) fn command_started(&mut self, stopwatch: &Stopwatch) -> Result<(), Failure> {
        self.send(&LaunchReport::Started { steps: stopwatch.times().clone() }, &[])
    }

    /// The instance's probe has passed.
    pub(crate) fn probe_passed(&mut self) -> Result<(), Failure> {
        self.send(&LaunchReport::ProbePassed, &[])
    }

    /// The devices are updated.
    pub(crate) fn devices_synced(&mut self, added: &[String], removed: &[String]) -> Result<(), Failure> {
        // Nodes that have no room in the report were made all the same.
        let named = |names: &[String]| names.iter().take(MAX_NAMED_NODES).map(|name| clipped(name)).collect();
        self.send(&LaunchReport::DevicesSynced { added: named(added), removed: named(removed) }, &[])
    }

    /// The launcher has failed. If init cannot be told, the failure goes to standard error.
    pub(crate) fn failed(&mut self, failure: Failure) {
        if let Err(error) = self.send(&LaunchReport::Failed(failure.clone()), &[]) {
            eprintln!("yado-container: {failure}; {error}");
        }
    }

    fn send(&mut self, report: &LaunchReport, descriptors: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        let too_long = || Failure::refused(Step::Launcher, "report", "longer than a packet");
        let bytes = yado_wire::encode(report).ok_or_else(too_long)?;
        let sent = packet::send(&self.socket, &bytes, descriptors).map_err(at(Step::Launcher, "report to init"))?;
        sent.ok_or_else(|| Failure::refused(Step::Launcher, "report to init", "it takes none"))
    }
}
