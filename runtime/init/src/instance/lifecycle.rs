//! The life of an instance: its states, the events that change them, and the actions that follow. The transitions are in `table`.

mod table;

use crate::boot_clock::Moment;
use std::time::Duration;
use yado_spec::instance::{InstanceSpec, Readiness, Restart};
use yado_wire::rescue::InstanceState;

pub(crate) use table::step;

/// The state of an instance. `run`: the number of the start or restart that was asked for; `crashes`: how many runs have crashed
/// in a row before this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody wants it to run.
    Stopped,
    /// It may not start yet.
    Waiting { run: u32, crashes: u32 },
    /// A required device was absent. The instance is started again when devices change. `look`: devices have changed, but the gate
    /// was closed.
    WaitingForDevice { run: u32, crashes: u32, until: Moment, look: bool },
    /// The launcher runs. `device_until`: an earlier attempt found a device absent, which is waited for until then. `look`: devices
    /// have changed, perhaps after the launcher looked at them.
    Starting { run: u32, crashes: u32, since: Moment, device_until: Option<Moment>, look: bool },
    /// Its init runs. `ready_by`: when it counts as ready or as unhealthy.
    Running { run: u32, crashes: u32, since: Moment, ready_by: Moment },
    /// It is ready. `settled_at`: when earlier crashes no longer count.
    Ready { run: u32, crashes: u32, since: Moment, settled_at: Moment },
    /// Its init runs, but it is unhealthy, and `boot.restart` is `never`. It is left running, so that somebody can look at it.
    Unhealthy { run: u32, crashes: u32, since: Moment },
    /// It was asked to stop. `kills`: how often it was killed since.
    Stopping { kill_at: Moment, kills: u32, then: Then },
    /// Its init has ended. Its other processes and its control groups are being removed. `tries`: how often that was tried.
    Collecting { then: Then, tries: u32, again_at: Moment },
    /// A process of it was killed and does not end. Until it does, the instance is not started.
    Stuck { then: Then, again_at: Moment },
    /// It ended, and is started again at `until`.
    BackingOff { run: u32, crashes: u32, until: Moment },
    /// It ended by itself with success, and `boot.restart` does not start it again.
    Finished { run: u32 },
    /// It failed, and is started again only when somebody asks for it or changes its configuration.
    Failed { run: u32 },
}

/// What follows when a run is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The state that is wanted by then.
    AsWanted,
    /// If the run is still wanted, `boot.restart` decides by how it ended.
    AfterEnd { run: u32, crashes: u32, end: End },
    /// If the run is still wanted, it waits for a required device.
    WaitForDevice { run: u32, crashes: u32, until: Moment, look: bool },
}

/// What users and the boot want of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It is to be stopped. `timeout`: how long its init may take to end; zero kills at once.
    Down { timeout: Duration },
    /// It is to run. Each start or restart that somebody asks for is a run with a new number.
    Up { run: u32 },
}

/// Whether it may start now: the instances that it comes `after` are ready, the parts of the boot that it needs are done, and its
/// turn in the boot order has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It may.
    Open,
    /// Not yet.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Time passed, or the wanted state or the gate changed.
    Wake,
    /// Devices came or went.
    DevicesChanged,
    /// The launcher says that its init runs.
    Started,
    /// It said `READY=1`, or its probe passed.
    SaidReady,
    /// It was ready, and its probe failed or its watchdog was silent.
    HealthLost,
    /// Its first process has ended, or its start has failed.
    Ended(End),
    /// The start has failed because a required device is absent. `within`: how long it may be waited for in all.
    DeviceAbsent { within: Duration },
    /// Another process of it has ended.
    ProcessEnded,
    /// Processes or control groups of it are still there.
    Remains,
    /// Some of its control groups were removed; another call removes more.
    PartlyRemoved,
    /// Its processes and control groups are removed.
    Gone,
}

/// How a run ended, as far as `boot.restart` tells ends apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Exit code 0, or it powered itself off.
    InOrder,
    /// It restarted itself.
    Reboot,
    /// Any other end.
    Crash,
    /// The start failed, and trying again may help.
    StartFailed,
    /// The start failed, and will fail until somebody changes something.
    StartRefused,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing.
    None,
    /// Start the launcher.
    Launch,
    /// Ask its init to power off, by its stop method.
    AskToStop,
    /// Kill all its processes.
    Kill,
    /// Record why it is unhealthy, and leave it running.
    ReportUnhealthy,
    /// Record why it is unhealthy, and ask it to stop.
    StopUnhealthy,
    /// Remove its processes and control groups, and report whether some remain. A launcher that still runs may finish.
    Collect,
    /// The same, and kill the launcher too.
    CollectByForce,
    /// Record which killed processes do not end.
    ReportStuck,
}

/// What the spec says about starts, readiness and stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    /// `health.ready`.
    pub(crate) ready: Readiness,
    /// `boot.restart`.
    pub(crate) restart: Restart,
    /// `boot.host_shutdown_timeout`: how long its init may take to end.
    pub(crate) stop_timeout: Duration,
}

impl Rules {
    /// The rules of `spec`.
    pub(crate) fn of(spec: &InstanceSpec) -> Rules {
        Rules {
            ready: spec.health.ready.clone(),
            restart: spec.restart.clone(),
            stop_timeout: spec.boot.shutdown_timeout,
        }
    }
}

impl State {
    /// The same state under new rules: `ready_by` is counted anew from the start of the init.
    pub(crate) fn by_rules(self, started: Moment, rules: &Rules) -> State {
        let mut state = self;
        if let State::Running { ready_by, .. } = &mut state {
            *ready_by = table::ready_by(started, rules);
        }
        state
    }

    /// The state as `yado rescue status` shows it, which knows fewer.
    pub(crate) fn shown(self) -> InstanceState {
        match self {
            State::Stopped | State::Finished { .. } => InstanceState::Stopped,
            State::Waiting { .. } | State::WaitingForDevice { .. } => InstanceState::Waiting,
            State::Starting { .. } => InstanceState::Starting,
            State::Running { .. } => InstanceState::Running,
            State::Ready { .. } => InstanceState::Ready,
            State::Unhealthy { .. } => InstanceState::Unhealthy,
            State::Stopping { .. } | State::Collecting { .. } => InstanceState::Stopping,
            State::Stuck { .. } => InstanceState::Stuck,
            State::BackingOff { .. } => InstanceState::BackingOff,
            State::Failed { .. } => InstanceState::Failed,
        }
    }

    /// When the table must be asked again at the latest.
    pub(crate) fn deadline(self) -> Option<Moment> {
        match self {
            State::Stopped
            | State::Waiting { .. }
            | State::Starting { .. }
            | State::Unhealthy { .. }
            | State::Finished { .. }
            | State::Failed { .. } => None,
            State::WaitingForDevice { until, .. } | State::BackingOff { until, .. } => Some(until),
            State::Running { ready_by, .. } => Some(ready_by),
            State::Ready { crashes, settled_at, .. } => (crashes != 0).then_some(settled_at),
            State::Stopping { kill_at, .. } => Some(kill_at),
            State::Collecting { again_at, .. } | State::Stuck { again_at, .. } => Some(again_at),
        }
    }

    /// Whether it waits until its [`deadline`](State::deadline) for processes of the instance.
    pub(crate) fn waits_for_inside(self) -> bool {
        self.later_by(Duration::MAX) != self
    }

    /// The instance was frozen for `time`: what its processes have to do may come later by as much.
    pub(crate) fn later_by(self, time: Duration) -> State {
        let later = |at: Moment| at.saturating_add(time);
        match self {
            State::Running { run, crashes, since, ready_by } => {
                State::Running { run, crashes, since, ready_by: later(ready_by) }
            }
            State::Stopping { kill_at, kills, then } => State::Stopping { kill_at: later(kill_at), kills, then },
            State::Stopped
            | State::Waiting { .. }
            | State::WaitingForDevice { .. }
            | State::Starting { .. }
            | State::Ready { .. }
            | State::Unhealthy { .. }
            | State::Collecting { .. }
            | State::Stuck { .. }
            | State::BackingOff { .. }
            | State::Finished { .. }
            | State::Failed { .. } => self,
        }
    }

    /// When this run was started, while it is up.
    pub(crate) fn since(self) -> Option<Moment> {
        match self {
            State::Starting { since, .. }
            | State::Running { since, .. }
            | State::Ready { since, .. }
            | State::Unhealthy { since, .. } => Some(since),
            State::Stopped
            | State::Waiting { .. }
            | State::WaitingForDevice { .. }
            | State::Stopping { .. }
            | State::Collecting { .. }
            | State::Stuck { .. }
            | State::BackingOff { .. }
            | State::Finished { .. }
            | State::Failed { .. } => None,
        }
    }
}
