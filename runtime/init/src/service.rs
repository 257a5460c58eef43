//! Services: long-running processes of the system itself (netd, and what the image lists). Their states as one table, and the
//! record of one.

pub(crate) mod group;

use crate::boot_clock::Moment;
use crate::process::Output;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// The first pause after an end; it doubles each time. There is no last attempt: without netd nobody could come and help.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The pause between two starts doubles up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A run of this length was a good one.
const STABLE_WINDOW: Duration = Duration::from_secs(30);

/// How long it may take to end when it is asked.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It does not run.
    Stopped,
    /// It runs.
    Running { since: Moment, crashes: u32 },
    /// It was asked to end.
    Stopping { kill_at: Moment },
    /// It ended and is started again.
    BackingOff { until: Moment, crashes: u32 },
}

/// What we want of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It runs.
    Up,
    /// It does not.
    Down,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Time passed, or the wanted state changed.
    Wake,
    /// It ended, or could not be started.
    Exited,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing.
    None,
    /// Start it.
    Spawn,
    /// Send it `SIGTERM`.
    Terminate,
    /// Kill it and all that it started.
    Kill,
}

/// Which state follows, and what is to be done. Every combination of state, wanted state and event stands here.
pub(crate) fn step(state: State, wanted: Wanted, event: Event, now: Moment) -> (State, Action) {
    use {Event::*, State::*, Wanted::*};
    match (state, wanted, event) {
        (Stopped, Up, _) => (Running { since: now, crashes: 0 }, Action::Spawn),
        (Running { since, crashes }, Up, Exited) => {
            let crashes = if since.saturating_add(STABLE_WINDOW) <= now { 0 } else { crashes };
            let pause = FIRST_PAUSE.saturating_mul(2u32.saturating_pow(crashes)).min(LONGEST_PAUSE);
            (BackingOff { until: now.saturating_add(pause), crashes: crashes.saturating_add(1) }, Action::None)
        }
        (Running { .. }, Down, Wake) => (Stopping { kill_at: now.saturating_add(STOP_GRACE) }, Action::Terminate),
        (Stopping { kill_at }, _, Wake) if kill_at <= now => {
            (Stopping { kill_at: now.saturating_add(STOP_GRACE) }, Action::Kill)
        }
        (BackingOff { until, crashes }, Up, _) if until <= now => (Running { since: now, crashes }, Action::Spawn),
        (Running { .. } | Stopping { .. }, _, Exited) | (BackingOff { .. }, Down, _) => (Stopped, Action::None),
        (Stopped, Down, _) | (Running { .. }, Up, Wake) | (Stopping { .. }, _, Wake) | (BackingOff { .. }, Up, _) => {
            (state, Action::None)
        }
    }
}

/// One service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Its arguments, the name first.
    pub(crate) arguments: Vec<OsString>,
    /// Where it is in its life.
    pub(crate) state: State,
    /// Process id and pidfd; `None`: it does not run.
    pub(crate) process: Option<(i32, OwnedFd)>,
    /// Its output, which becomes lines of the log.
    pub(crate) output: Option<Output>,
    /// It said `READY=1` in this run.
    pub(crate) is_ready: bool,
    /// How often it was started again.
    pub(crate) restarts: u32,
}

impl Service {
    /// A service that does not run yet.
    pub(crate) fn new(name: &str, path: PathBuf, arguments: Vec<OsString>) -> Service {
        Service {
            name: name.to_owned(),
            path,
            arguments,
            state: State::Stopped,
            process: None,
            output: None,
            is_ready: false,
            restarts: 0,
        }
    }

    /// When it wants to be woken.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Stopped | State::Running { .. } => None,
            State::Stopping { kill_at } => Some(kill_at),
            State::BackingOff { until, .. } => Some(until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Moment {
        Moment::from_millis(milliseconds)
    }

    #[test]
    fn a_service_that_dies_comes_back_later_each_time_and_at_once_after_a_good_run() {
        let mut state = State::Running { since: ms(0), crashes: 0 };
        let mut now = ms(10);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            state = step(state, Wanted::Up, Event::Exited, now).0;
            let State::BackingOff { until, .. } = state else { panic!("{state:?}") };
            assert_eq!(step(state, Wanted::Up, Event::Wake, until - ms(1)), (state, Action::None));
            pauses.push((until - now).as_millis());
            now = until;
            let (running, action) = step(state, Wanted::Up, Event::Wake, now);
            assert_eq!(action, Action::Spawn);
            state = running;
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        now += STABLE_WINDOW;
        let State::BackingOff { until, .. } = step(state, Wanted::Up, Event::Exited, now).0 else { panic!() };
        assert_eq!(until - now, FIRST_PAUSE);
    }

    #[test]
    fn a_service_is_asked_then_killed_and_then_stays_down() {
        let running = State::Running { since: ms(0), crashes: 3 };
        let (stopping, action) = step(running, Wanted::Down, Event::Wake, ms(100));
        assert_eq!((stopping, action), (State::Stopping { kill_at: ms(5100) }, Action::Terminate));
        assert_eq!(step(stopping, Wanted::Down, Event::Wake, ms(5000)), (stopping, Action::None));
        let (killed, action) = step(stopping, Wanted::Down, Event::Wake, ms(5100));
        assert_eq!((killed, action), (State::Stopping { kill_at: ms(10100) }, Action::Kill));
        assert_eq!(step(killed, Wanted::Down, Event::Exited, ms(5101)), (State::Stopped, Action::None));
        assert_eq!(step(State::Stopped, Wanted::Down, Event::Wake, ms(6000)), (State::Stopped, Action::None));
        // Wanted again while it is stopping: first it ends.
        let (stopped, _) = step(stopping, Wanted::Up, Event::Exited, ms(200));
        assert_eq!(step(stopped, Wanted::Up, Event::Wake, ms(200)).1, Action::Spawn);
    }
}
