//! The life of an instance as one table: what state follows, and what is to be done, when something happens. Pure: the
//! clock, the wish and the gate (may it start now, for all that the others do?) are arguments.

use crate::moment::Moment;
use std::time::Duration;
use yado_spec::instance::{InstanceSpec, Readiness, Restart, RestartPolicy};
use yado_wire::rescue::InstanceState;

/// An instance that waits for `READY=1` has settled when it then stays alive for this long; ends after that count from
/// one again. LXD's tools take a minute as "it stays up", too.
pub(crate) const SETTLED_AFTER_READY: Duration = Duration::from_secs(60);

/// A group that was killed and is still there is killed again: a fork may have slipped through on kernels without
/// `cgroup.kill`.
pub(crate) const KILL_AGAIN: Duration = Duration::from_secs(2);

/// Where an instance is in its life. `run` is the wish that this run fulfils, `crashes` how many ends in a row there
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
    /// It was asked to stop.
    Stopping { kill_at: Moment, then: Then },
    /// It ended and will be started again.
    BackingOff { run: u32, crashes: u32, until: Moment },
    /// It ended in order by itself, and is not to be started again for that.
    Finished { run: u32 },
    /// It is not started again by itself.
    Failed { run: u32 },
}

/// What a stop was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Somebody's wish, which then says what follows.
    AsWished,
    /// Its health: the end counts as a crash.
    Crashed { run: u32, crashes: u32 },
}

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It does not run. `patience`: how long its init may take to end; zero kills at once.
    Down { patience: Duration },
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

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Time passed, or the wish or the gate changed.
    Wake,
    /// Devices came or went.
    DevicesChanged,
    /// The launcher says that its init runs.
    Started,
    /// It says that it is ready, or its probe says so.
    SaidReady,
    /// It was ready, and its probe or its watchdog says that it is not well.
    Unhealthy,
    /// Nothing of it is left.
    Ended(End),
}

/// How a run ended.
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
    /// The start failed because a required device is not there; it may be waited for this long in all.
    DeviceAbsent { within: Duration },
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
}

/// What the spec says of its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    /// When it is ready.
    pub(crate) ready: Readiness,
    /// When it is started again.
    pub(crate) restart: Restart,
    /// How long its init may take to end.
    pub(crate) patience: Duration,
}

impl Rules {
    /// The rules of `spec`.
    pub(crate) fn of(spec: &InstanceSpec) -> Rules {
        Rules {
            ready: spec.health.ready.clone(),
            restart: spec.restart.clone(),
            patience: spec.boot.shutdown_timeout,
        }
    }
}

impl State {
    /// What people are shown.
    pub(crate) fn shown(self) -> InstanceState {
        match self {
            State::Stopped | State::Finished { .. } => InstanceState::Stopped,
            State::Waiting { .. } | State::WaitingForDevice { .. } => InstanceState::Waiting,
            State::Starting { .. } => InstanceState::Starting,
            State::Running { .. } => InstanceState::Running,
            State::Ready { .. } => InstanceState::Ready,
            State::Stopping { .. } => InstanceState::Stopping,
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
            | State::Finished { .. }
            | State::Failed { .. } => None,
            State::WaitingForDevice { until, .. } | State::BackingOff { until, .. } => Some(until),
            State::Running { ready_by, .. } => (ready_by != Moment::MAX).then_some(ready_by),
            State::Ready { crashes, settled_at, .. } => (crashes != 0).then_some(settled_at),
            State::Stopping { kill_at, .. } => Some(kill_at),
        }
    }

    /// Since when it has been started, while it is.
    pub(crate) fn since(self) -> Option<Moment> {
        match self {
            State::Starting { since, .. } | State::Running { since, .. } | State::Ready { since, .. } => Some(since),
            State::Stopped
            | State::Waiting { .. }
            | State::WaitingForDevice { .. }
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::Finished { .. }
            | State::Failed { .. } => None,
        }
    }
}

/// The table.
pub(crate) fn step(
    state: State,
    wanted: Wanted,
    gate: Gate,
    event: Event,
    now: Moment,
    rules: &Rules,
) -> (State, Action) {
    use {Event::*, State::*, Wanted::*};
    match (state, wanted, event) {
        (Stopped, Up { run }, _) => (Waiting { run, crashes: 0 }, Action::None),
        (Stopped, Down { .. }, _) => (Stopped, Action::None),

        (Finished { run: old } | Failed { run: old }, Up { run }, _) => match old == run {
            true => (state, Action::None),
            false => (Waiting { run, crashes: 0 }, Action::None),
        },
        (
            Waiting { .. } | WaitingForDevice { .. } | BackingOff { .. } | Finished { .. } | Failed { .. },
            Down { .. },
            _,
        ) => (Stopped, Action::None),

        (
            Waiting { run: old, .. } | WaitingForDevice { run: old, .. } | BackingOff { run: old, .. },
            Up { run },
            _,
        ) if old != run => (Waiting { run, crashes: 0 }, Action::None),
        (Waiting { run, crashes }, Up { .. }, _) => match gate {
            Gate::Open => (Starting { run, crashes, since: now, device_until: None, look: false }, Action::Launch),
            Gate::Closed => (state, Action::None),
        },
        (WaitingForDevice { run, crashes, until, look }, Up { .. }, event) => {
            match (look || event == DevicesChanged, gate) {
                (true, Gate::Open) => {
                    let device_until = Some(until);
                    (Starting { run, crashes, since: now, device_until, look: false }, Action::Launch)
                }
                _ if until <= now => (after_end(run, crashes, End::StartFailed, now, rules), Action::None),
                (look, _) => (WaitingForDevice { run, crashes, until, look }, Action::None),
            }
        }
        (BackingOff { run, crashes, until }, Up { .. }, _) => match until <= now {
            true => (Waiting { run, crashes }, Action::None),
            false => (state, Action::None),
        },

        (Starting { .. } | Running { .. } | Ready { .. } | Stopping { .. }, Down { .. }, Ended(_)) => {
            (Stopped, Action::None)
        }
        // There is nobody inside to be asked yet.
        (Starting { .. }, Down { .. }, _) => killed(now),
        (Running { .. } | Ready { .. }, Down { patience }, _) => asked(now, patience),
        (Stopping { kill_at, then }, Down { patience }, _) => {
            overdue(kill_at.min(now.saturating_add(patience)), then, now)
        }

        (Starting { run: old, .. }, Up { run }, event) if old != run => match event {
            Ended(_) => (Waiting { run, crashes: 0 }, Action::None),
            Wake | DevicesChanged | Started | SaidReady | Unhealthy => killed(now),
        },
        (Running { run: old, .. } | Ready { run: old, .. }, Up { run }, event) if old != run => match event {
            Ended(_) => (Waiting { run, crashes: 0 }, Action::None),
            Wake | DevicesChanged | Started | SaidReady | Unhealthy => asked(now, rules.patience),
        },

        (Starting { run, crashes, since, .. }, Up { .. }, Started) => {
            (Running { run, crashes, since, ready_by: ready_by(now, rules) }, Action::None)
        }
        // Its datagram may overtake the launcher's report.
        (Starting { run, crashes, since, .. } | Running { run, crashes, since, .. }, Up { .. }, SaidReady) => {
            (ready(run, crashes, since, now), Action::None)
        }
        (Starting { run, crashes, since, device_until, look }, Up { .. }, Ended(End::DeviceAbsent { within })) => {
            let until = device_until.unwrap_or(since.saturating_add(within));
            match until <= now {
                true => (after_end(run, crashes, End::StartFailed, now, rules), Action::None),
                false => (WaitingForDevice { run, crashes, until, look }, Action::None),
            }
        }
        (Starting { run, crashes, .. } | Running { run, crashes, .. }, Up { .. }, Ended(end)) => {
            (after_end(run, crashes, end, now, rules), Action::None)
        }
        (Starting { run, crashes, since, device_until, .. }, Up { .. }, DevicesChanged) => {
            (Starting { run, crashes, since, device_until, look: true }, Action::None)
        }
        (Starting { .. }, Up { .. }, Wake | Unhealthy) => (state, Action::None),
        (Running { run, crashes, since, ready_by }, Up { .. }, Wake | DevicesChanged | Started | Unhealthy) => {
            match (ready_by <= now, &rules.ready) {
                (false, _) => (state, Action::None),
                (true, Readiness::Alive { .. }) => (Ready { run, crashes: 0, since, settled_at: now }, Action::None),
                (true, Readiness::Notify { .. } | Readiness::Probe { .. }) => {
                    unhealthy(run, crashes, since, now, rules)
                }
            }
        }
        (Ready { run, crashes, since, settled_at }, Up { .. }, Unhealthy) => {
            let crashes = if settled_at <= now { 0 } else { crashes };
            unhealthy(run, crashes, since, now, rules)
        }
        (Ready { run, crashes, settled_at, .. }, Up { .. }, Ended(end)) => {
            let crashes = if settled_at <= now { 0 } else { crashes };
            (after_end(run, crashes, end, now, rules), Action::None)
        }
        (Ready { run, since, settled_at, crashes }, Up { .. }, Wake | DevicesChanged | Started | SaidReady) => {
            match crashes != 0 && settled_at <= now {
                true => (Ready { run, crashes: 0, since, settled_at }, Action::None),
                false => (state, Action::None),
            }
        }

        (Stopping { then, .. }, Up { run: wish }, Ended(_)) => match then {
            Then::Crashed { run, crashes } if run == wish => {
                (after_end(run, crashes, End::Crash, now, rules), Action::None)
            }
            Then::Crashed { .. } | Then::AsWished => (Waiting { run: wish, crashes: 0 }, Action::None),
        },
        (Stopping { kill_at, then }, Up { .. }, Wake | DevicesChanged | Started | SaidReady | Unhealthy) => {
            overdue(kill_at, then, now)
        }
    }
}

fn killed(now: Moment) -> (State, Action) {
    (State::Stopping { kill_at: now.saturating_add(KILL_AGAIN), then: Then::AsWished }, Action::Kill)
}

fn asked(now: Moment, patience: Duration) -> (State, Action) {
    match patience.is_zero() {
        true => killed(now),
        false => (State::Stopping { kill_at: now.saturating_add(patience), then: Then::AsWished }, Action::AskToStop),
    }
}

fn overdue(kill_at: Moment, then: Then, now: Moment) -> (State, Action) {
    match kill_at <= now {
        true => (State::Stopping { kill_at: now.saturating_add(KILL_AGAIN), then }, Action::Kill),
        false => (State::Stopping { kill_at, then }, Action::None),
    }
}

fn ready(run: u32, crashes: u32, since: Moment, now: Moment) -> State {
    State::Ready { run, crashes, since, settled_at: now.saturating_add(SETTLED_AFTER_READY) }
}

fn unhealthy(run: u32, crashes: u32, since: Moment, now: Moment, rules: &Rules) -> (State, Action) {
    match rules.restart.policy {
        // Nobody would start it again, and somebody may want to look at it.
        RestartPolicy::Never => {
            (State::Running { run, crashes, since, ready_by: Moment::MAX }, Action::ReportUnhealthy)
        }
        RestartPolicy::OnFailure | RestartPolicy::Always => {
            let kill_at = now.saturating_add(rules.patience);
            (State::Stopping { kill_at, then: Then::Crashed { run, crashes } }, Action::StopUnhealthy)
        }
    }
}

fn ready_by(now: Moment, rules: &Rules) -> Moment {
    let (Readiness::Notify { timeout: time }
    | Readiness::Probe { timeout: time }
    | Readiness::Alive { window: time }) = rules.ready;
    now.saturating_add(time)
}

fn after_end(run: u32, crashes: u32, end: End, now: Moment, rules: &Rules) -> State {
    let again = match (end, rules.restart.policy) {
        (End::StartRefused, _) => return State::Failed { run },
        // A restart from inside is no failure, and always granted; but it counts as an end, and is slowed down as any other.
        (End::Reboot, _) => return back_off(run, crashes, now, rules),
        (End::InOrder, RestartPolicy::Never | RestartPolicy::OnFailure) => return State::Finished { run },
        (_, RestartPolicy::Never) => false,
        (_, RestartPolicy::OnFailure | RestartPolicy::Always) => crashes.saturating_add(1) < rules.restart.attempts,
    };
    match again {
        true => back_off(run, crashes, now, rules),
        false => State::Failed { run },
    }
}

fn back_off(run: u32, crashes: u32, now: Moment, rules: &Rules) -> State {
    let doubled = rules.restart.first_pause.saturating_mul(2u32.saturating_pow(crashes));
    let until = now.saturating_add(doubled.min(rules.restart.longest_pause));
    State::BackingOff { run, crashes: crashes.saturating_add(1), until }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn rules(policy: RestartPolicy, ready: Readiness) -> Rules {
        Rules {
            ready,
            restart: Restart { policy, first_pause: s(1), longest_pause: s(8), attempts: 5 },
            patience: s(30),
        }
    }

    fn notify(policy: RestartPolicy) -> Rules {
        rules(policy, Readiness::Notify { timeout: s(90) })
    }

    const UP: Wanted = Wanted::Up { run: 1 };
    const DOWN: Wanted = Wanted::Down { patience: s(10) };

    /// Runs a script of (wish, event, second) and checks state and action after each.
    fn play(rules: &Rules, script: &[(Wanted, Event, u64, State, Action)]) {
        let mut state = State::Stopped;
        for (number, (wanted, event, at, expected, action)) in script.iter().enumerate() {
            let before = state;
            let got = step(state, *wanted, Gate::Open, *event, s(*at), rules);
            assert_eq!(got, (*expected, *action), "line {number}: {before:?} {wanted:?} {event:?}");
            state = got.0;
        }
    }

    #[test]
    fn a_good_start_and_an_orderly_stop() {
        use {Event::*, State::*};
        play(
            &notify(RestartPolicy::Always),
            &[
                (UP, Wake, 0, Waiting { run: 1, crashes: 0 }, Action::None),
                (
                    UP,
                    Wake,
                    1,
                    Starting { run: 1, crashes: 0, since: s(1), device_until: None, look: false },
                    Action::Launch,
                ),
                (UP, Started, 2, Running { run: 1, crashes: 0, since: s(1), ready_by: s(92) }, Action::None),
                (UP, SaidReady, 9, Ready { run: 1, crashes: 0, since: s(1), settled_at: s(69) }, Action::None),
                (DOWN, Wake, 100, Stopping { kill_at: s(110), then: Then::AsWished }, Action::AskToStop),
                (DOWN, Wake, 109, Stopping { kill_at: s(110), then: Then::AsWished }, Action::None),
                (DOWN, Ended(End::Crash), 109, Stopped, Action::None),
            ],
        );
    }

    #[test]
    fn who_does_not_end_when_asked_is_killed_and_killed_again() {
        use {Event::*, State::*};
        let mut state = Ready { run: 1, crashes: 0, since: s(0), settled_at: s(60) };
        for (at, kill_at, action) in [
            (100, 110, Action::AskToStop),
            (110, 112, Action::Kill),
            (111, 112, Action::None),
            (112, 114, Action::Kill),
        ] {
            let got = step(state, DOWN, Gate::Open, Wake, s(at), &notify(RestartPolicy::Never));
            assert_eq!(got, (Stopping { kill_at: s(kill_at), then: Then::AsWished }, action), "at {at}");
            state = got.0;
        }
        // Losing patience while it is stopping.
        let stopping = Stopping { kill_at: s(110), then: Then::AsWished };
        let force = Wanted::Down { patience: Duration::ZERO };
        let got = step(stopping, force, Gate::Open, Wake, s(101), &notify(RestartPolicy::Never));
        assert_eq!(got, (Stopping { kill_at: s(103), then: Then::AsWished }, Action::Kill));
    }

    #[test]
    fn crashes_back_off_longer_each_time_and_fail_in_the_end() {
        let rules = notify(RestartPolicy::OnFailure);
        let mut pauses = Vec::new();
        let mut crashes = 0;
        let failed = loop {
            let running = State::Running { run: 1, crashes, since: s(0), ready_by: s(90) };
            match step(running, UP, Gate::Open, Event::Ended(End::Crash), s(5), &rules).0 {
                State::BackingOff { run: 1, crashes: more, until } => {
                    pauses.push((until - s(5)).as_secs());
                    crashes = more;
                }
                other => break other,
            }
        };
        assert_eq!((pauses, failed), (vec![1, 2, 4, 8], State::Failed { run: 1 }));
        // A new wish starts it again.
        let again = step(failed, Wanted::Up { run: 2 }, Gate::Open, Event::Wake, s(6), &rules);
        assert_eq!(again.0, State::Waiting { run: 2, crashes: 0 });
        assert_eq!(step(failed, UP, Gate::Open, Event::Wake, s(6), &rules).0, failed);
    }

    #[test]
    fn an_end_after_the_stable_window_counts_from_one_again() {
        let rules = notify(RestartPolicy::Always);
        let settled = State::Ready { run: 1, crashes: 4, since: s(0), settled_at: s(60) };
        let got = step(settled, UP, Gate::Open, Event::Ended(End::Crash), s(61), &rules).0;
        assert_eq!(got, State::BackingOff { run: 1, crashes: 1, until: s(62) });
        let got = step(settled, UP, Gate::Open, Event::Ended(End::Crash), s(59), &rules).0;
        assert_eq!(got, State::Failed { run: 1 });
        let got = step(settled, UP, Gate::Open, Event::Wake, s(61), &rules).0;
        assert_eq!(got, State::Ready { run: 1, crashes: 0, since: s(0), settled_at: s(60) });
    }

    #[test]
    fn what_follows_an_end_is_the_policys_to_say() {
        use RestartPolicy::*;
        let off = State::BackingOff { run: 1, crashes: 1, until: s(6) };
        let (failed, finished) = (State::Failed { run: 1 }, State::Finished { run: 1 });
        let table = [
            (Never, End::InOrder, finished),
            (Never, End::Crash, failed),
            (Never, End::StartFailed, failed),
            (Never, End::Reboot, off),
            (OnFailure, End::InOrder, finished),
            (OnFailure, End::Crash, off),
            (OnFailure, End::StartFailed, off),
            (OnFailure, End::StartRefused, failed),
            (Always, End::InOrder, off),
            (Always, End::Crash, off),
            (Always, End::StartRefused, failed),
        ];
        for (policy, end, expected) in table {
            let running = State::Running { run: 1, crashes: 0, since: s(0), ready_by: s(90) };
            let got = step(running, UP, Gate::Open, Event::Ended(end), s(5), &notify(policy));
            assert_eq!(got, (expected, Action::None), "{policy:?} {end:?}");
        }
    }

    #[test]
    fn a_required_device_is_waited_for_and_found_or_not() {
        use {Event::*, State::*};
        let absent = Ended(End::DeviceAbsent { within: s(20) });
        play(
            &notify(RestartPolicy::Never),
            &[
                (UP, Wake, 0, Waiting { run: 1, crashes: 0 }, Action::None),
                (
                    UP,
                    Wake,
                    0,
                    Starting { run: 1, crashes: 0, since: s(0), device_until: None, look: false },
                    Action::Launch,
                ),
                (UP, absent, 1, WaitingForDevice { run: 1, crashes: 0, until: s(20), look: false }, Action::None),
                (UP, Wake, 2, WaitingForDevice { run: 1, crashes: 0, until: s(20), look: false }, Action::None),
                (
                    UP,
                    DevicesChanged,
                    5,
                    Starting { run: 1, crashes: 0, since: s(5), device_until: Some(s(20)), look: false },
                    Action::Launch,
                ),
                (UP, absent, 6, WaitingForDevice { run: 1, crashes: 0, until: s(20), look: false }, Action::None),
                (UP, Wake, 20, Failed { run: 1 }, Action::None),
            ],
        );
        // It may come while the launcher looks, or while it may not start.
        let rules = notify(RestartPolicy::Never);
        let starting = Starting { run: 1, crashes: 0, since: s(0), device_until: None, look: false };
        let (seen, _) = step(starting, UP, Gate::Open, DevicesChanged, s(1), &rules);
        let (waiting, _) = step(seen, UP, Gate::Closed, absent, s(2), &rules);
        assert_eq!(waiting, WaitingForDevice { run: 1, crashes: 0, until: s(20), look: true });
        let (again, action) = step(waiting, UP, Gate::Open, Wake, s(3), &rules);
        assert_eq!((again.since(), action), (Some(s(3)), Action::Launch));
        let waiting = WaitingForDevice { run: 1, crashes: 0, until: s(20), look: false };
        let (waiting, _) = step(waiting, UP, Gate::Closed, DevicesChanged, s(4), &rules);
        assert_eq!(step(waiting, UP, Gate::Open, Wake, s(5), &rules).1, Action::Launch);
        // Without patience the first absence is the failure.
        let starting = Starting { run: 1, crashes: 0, since: s(0), device_until: None, look: false };
        let absent = Ended(End::DeviceAbsent { within: Duration::ZERO });
        let got = step(starting, UP, Gate::Open, absent, s(0), &notify(RestartPolicy::Never));
        assert_eq!(got.0, Failed { run: 1 });
    }

    #[test]
    fn health_that_does_not_come_stops_or_only_tells() {
        let running = State::Running { run: 1, crashes: 2, since: s(0), ready_by: s(90) };
        let got = step(running, UP, Gate::Open, Event::Wake, s(90), &notify(RestartPolicy::Never));
        let told = State::Running { run: 1, crashes: 2, since: s(0), ready_by: Moment::MAX };
        assert_eq!(got, (told, Action::ReportUnhealthy));
        assert_eq!(told.deadline(), None);

        let rules = notify(RestartPolicy::OnFailure);
        let (stopping, action) = step(running, UP, Gate::Open, Event::Wake, s(90), &rules);
        assert_eq!(action, Action::StopUnhealthy);
        let got = step(stopping, UP, Gate::Open, Event::Ended(End::InOrder), s(95), &rules).0;
        assert_eq!(got, State::BackingOff { run: 1, crashes: 3, until: s(99) });

        let alive = rules_alive();
        let got = step(running, UP, Gate::Open, Event::Wake, s(90), &alive).0;
        assert_eq!(got, State::Ready { run: 1, crashes: 0, since: s(0), settled_at: s(90) });
    }

    #[test]
    fn who_was_ready_and_is_no_longer_well_is_stopped_or_left_and_may_get_well() {
        let ready = State::Ready { run: 1, crashes: 2, since: s(0), settled_at: s(60) };
        let (left, action) = step(ready, UP, Gate::Open, Event::Unhealthy, s(30), &notify(RestartPolicy::Never));
        assert_eq!(left, State::Running { run: 1, crashes: 2, since: s(0), ready_by: Moment::MAX });
        assert_eq!(action, Action::ReportUnhealthy);
        let (well, _) = step(left, UP, Gate::Open, Event::SaidReady, s(40), &notify(RestartPolicy::Never));
        assert_eq!(well, State::Ready { run: 1, crashes: 2, since: s(0), settled_at: s(100) });

        let rules = notify(RestartPolicy::OnFailure);
        let (stopping, action) = step(ready, UP, Gate::Open, Event::Unhealthy, s(61), &rules);
        assert_eq!(stopping, State::Stopping { kill_at: s(91), then: Then::Crashed { run: 1, crashes: 0 } });
        assert_eq!(action, Action::StopUnhealthy);
        // It may be told once more while it stops.
        let again = step(stopping, UP, Gate::Open, Event::Unhealthy, s(62), &rules);
        assert_eq!(again, (stopping, Action::None));
    }

    fn rules_alive() -> Rules {
        rules(RestartPolicy::Never, Readiness::Alive { window: s(3) })
    }

    #[test]
    fn a_wish_is_never_lost() {
        let rules = notify(RestartPolicy::Never);
        let restart = Wanted::Up { run: 2 };
        let ready = State::Ready { run: 1, crashes: 0, since: s(0), settled_at: s(60) };
        let (stopping, action) = step(ready, restart, Gate::Open, Event::Wake, s(70), &rules);
        assert_eq!(
            (stopping, action),
            (State::Stopping { kill_at: s(100), then: Then::AsWished }, Action::AskToStop)
        );
        // Wanted down and up again while it is stopping: it still ends first.
        let (still, _) = step(stopping, DOWN, Gate::Open, Event::Wake, s(71), &rules);
        let (waiting, _) = step(still, restart, Gate::Open, Event::Ended(End::InOrder), s(72), &rules);
        assert_eq!(waiting, State::Waiting { run: 2, crashes: 0 });
        // A start that is no longer wanted is killed: nobody is inside yet who could be asked.
        let starting = State::Starting { run: 1, crashes: 0, since: s(0), device_until: None, look: false };
        assert_eq!(step(starting, DOWN, Gate::Open, Event::Wake, s(1), &rules).1, Action::Kill);
        assert_eq!(step(starting, restart, Gate::Open, Event::Started, s(1), &rules).1, Action::Kill);
        // A closed gate keeps it waiting.
        let got = step(waiting, restart, Gate::Closed, Event::Wake, s(80), &rules);
        assert_eq!(got, (waiting, Action::None));
    }
}
