//! The life of an instance: its states, what happens to it, and what is to be done. Which state follows which is `table`'s.

mod table;

use crate::boot_clock::Moment;
use std::time::Duration;
use yado_spec::instance::{InstanceSpec, Readiness, Restart};
use yado_wire::rescue::InstanceState;

pub(crate) use table::step;

/// Where an instance is in its life. `run` numbers the request that this run fulfils, `crashes` how many ends in a row there
/// were before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody wants it to run.
    Stopped,
    /// It may not start yet.
    Waiting { run: u32, crashes: u32 },
    /// A required device was absent; it is looked for again when devices change. `look`: they have changed, but it might
    /// not start.
    WaitingForDevice { run: u32, crashes: u32, until: Moment, look: bool },
    /// The launcher is at work. `device_until`: since an earlier attempt found a device absent. `look`: devices have
    /// changed, perhaps after the launcher looked at them.
    Starting { run: u32, crashes: u32, since: Moment, device_until: Option<Moment>, look: bool },
    /// Its init runs. `ready_by`: when its health is decided.
    Running { run: u32, crashes: u32, since: Moment, ready_by: Moment },
    /// It is healthy. `settled_at`: when earlier crashes are forgotten.
    Ready { run: u32, crashes: u32, since: Moment, settled_at: Moment },
    /// Its init runs, and it is decided that it is not healthy. It is left as it is: nobody would start it again, and
    /// somebody may want to look at it.
    Unhealthy { run: u32, crashes: u32, since: Moment },
    /// It was asked to stop. `kills`: how often it was killed since.
    Stopping { kill_at: Moment, kills: u32, then: Then },
    /// It has ended, and what is left of it is being removed. `tries`: how often that was tried.
    Collecting { then: Then, tries: u32, again_at: Moment },
    /// Something of it does not end though it was killed. Until it does, nothing is started in its place.
    Stuck { then: Then, again_at: Moment },
    /// It ended and will be started again.
    BackingOff { run: u32, crashes: u32, until: Moment },
    /// It ended in order by itself, and is not to be started again for that.
    Finished { run: u32 },
    /// It is not started again by itself.
    Failed { run: u32 },
}

/// What follows when nothing is left of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// What is wanted by then.
    AsWanted,
    /// If the run is still wanted, what its end says.
    AfterEnd { run: u32, crashes: u32, end: End },
    /// If the run is still wanted, a required device is waited for.
    WaitForDevice { run: u32, crashes: u32, until: Moment, look: bool },
}

/// What users and the boot want of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It does not run. `timeout`: how long its init may take to end; zero kills at once.
    Down { timeout: Duration },
    /// It runs. Each start or restart that somebody asks for is a run with a new number.
    Up { run: u32 },
}

/// Whether it may start now: those it comes after are ready, what it needs is up, and its turn has come.
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
    /// It says that it is ready, or its probe says so.
    SaidReady,
    /// It was ready, and its probe or its watchdog says that it is unhealthy.
    HealthLost,
    /// Its first process has ended, or its start has failed.
    Ended(End),
    /// The start has failed because a required device is not there; it may be waited for this long in all.
    DeviceAbsent { within: Duration },
    /// Another process of it has ended.
    ProcessEnded,
    /// Something of it is still there.
    Remains,
    /// Some of its control groups were removed; another call removes more.
    PartlyRemoved,
    /// Nothing of it is left.
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
    /// Send its init the halt signal.
    AskToStop,
    /// Kill all of it.
    Kill,
    /// Record that it is not healthy; it is left as it is.
    ReportUnhealthy,
    /// Record that it is not healthy, and ask it to stop.
    StopUnhealthy,
    /// Remove what is left of it, and say whether something remains. A launcher that is still at work is let finish.
    Collect,
    /// The same, and kill the launcher too.
    CollectByForce,
    /// Record that something of it does not end.
    ReportStuck,
}

/// What the spec says of its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    /// `health.ready`.
    pub(crate) ready: Readiness,
    /// When it is started again.
    pub(crate) restart: Restart,
    /// How long its init may take to end.
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
    /// By other rules: until when its health is decided counts from its start, by those that hold now.
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

    /// When it wants to be woken at the latest.
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

    /// Whether it waits for what is done inside the instance, until its [`deadline`](State::deadline).
    pub(crate) fn waits_for_inside(self) -> bool {
        self.later_by(Duration::MAX) != self
    }

    /// The instance stood still for so long: what it is to do inside it may do later by as much.
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

    /// Since when it has been started, while it is.
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
