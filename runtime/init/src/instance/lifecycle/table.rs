//! The transitions of an instance's state, as one table: from state and event to the next state and an action. Pure: current
//! time, wanted state, and whether other instances allow a start are arguments.

use super::{Action, End, Event, Gate, Rules, State, Then, Wanted};
use crate::boot_clock::Moment;
use std::time::Duration;
use yado_spec::instance::{Readiness, RestartPolicy};

/// An instance that is ready for this long has settled: later crashes are counted from one again. LXD's tools take a minute as
/// "it stays up", too.
const SETTLED_AFTER_READY: Duration = Duration::from_secs(60);

/// A group that was killed and is still there is killed again: a fork may have slipped through on kernels without
/// `cgroup.kill`.
const KILL_AGAIN: Duration = Duration::from_secs(2);

/// After so many kills, over half a minute, what still exists hangs in the kernel. Some seconds are normal: the end of the last
/// mount writes back its data, to a card that may be slow.
const MAX_KILLS: u32 = 15;

/// Killed processes leave their group a moment after the init was reaped. The pause doubles from try to try, up to the longest.
const COLLECT_AGAIN: Duration = Duration::from_millis(5);
const LONGEST_COLLECT_PAUSE: Duration = Duration::from_secs(1);

/// After so many tries, some 5 s, a process hangs in the kernel.
const MAX_COLLECTIONS: u32 = 13;

/// A launcher may be about to report why a start failed: it is killed only after so many tries, about a second.
const GENTLE_COLLECTIONS: u32 = 9;

/// What hangs in the kernel ends in its own time, if ever: most such ends wake us anyway.
const STUCK_AGAIN: Duration = Duration::from_secs(30);

/// Which state follows, and what is to be done. Every combination of state, wanted state and event stands here.
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

        (
            Starting { .. } | Running { .. } | Ready { .. } | Unhealthy { .. },
            Down { .. },
            Ended(_) | DeviceAbsent { .. },
        ) => collected(Then::AsWanted, now),
        (Stopping { then, .. }, Down { .. } | Up { .. }, Ended(_) | DeviceAbsent { .. }) => collected(then, now),
        // There is nobody inside to be asked yet.
        (
            Starting { .. },
            Down { .. },
            Wake | DevicesChanged | Started | SaidReady | HealthLost | ProcessEnded | Remains | PartlyRemoved | Gone,
        ) => killed(now),
        (
            Running { .. } | Ready { .. } | Unhealthy { .. },
            Down { timeout },
            Wake | DevicesChanged | Started | SaidReady | HealthLost | ProcessEnded | Remains | PartlyRemoved | Gone,
        ) => asked(now, timeout),
        (
            Stopping { kill_at, kills, then },
            Down { timeout },
            Wake | DevicesChanged | Started | SaidReady | HealthLost | ProcessEnded | Remains | PartlyRemoved | Gone,
        ) => {
            // A timeout that got shorter counts until it is killed; between two kills there is always some time.
            let kill_at = if kills == 0 { kill_at.min(now.saturating_add(timeout)) } else { kill_at };
            overdue(kill_at, kills, then, now)
        }
        (
            Stopping { kill_at, kills, then },
            Up { .. },
            Wake | DevicesChanged | Started | SaidReady | HealthLost | ProcessEnded | Remains | PartlyRemoved | Gone,
        ) => overdue(kill_at, kills, then, now),

        (Starting { run: old, .. }, Up { run }, event) if old != run => match event {
            Ended(_) | DeviceAbsent { .. } => collected(Then::AsWanted, now),
            Wake | DevicesChanged | Started | SaidReady | HealthLost | ProcessEnded | Remains | PartlyRemoved
            | Gone => killed(now),
        },
        (Running { run: old, .. } | Ready { run: old, .. } | Unhealthy { run: old, .. }, Up { run }, event)
            if old != run =>
        {
            match event {
                Ended(_) | DeviceAbsent { .. } => collected(Then::AsWanted, now),
                Wake | DevicesChanged | Started | SaidReady | HealthLost | ProcessEnded | Remains | PartlyRemoved
                | Gone => asked(now, rules.stop_timeout),
            }
        }

        (Starting { run, crashes, since, .. }, Up { .. }, Started) => {
            (Running { run, crashes, since, ready_by: ready_by(now, rules) }, Action::None)
        }
        // Its datagram may overtake the launcher's report.
        (
            Starting { run, crashes, since, .. }
            | Running { run, crashes, since, .. }
            | Unhealthy { run, crashes, since },
            Up { .. },
            SaidReady,
        ) => (ready(run, crashes, since, now), Action::None),
        (Starting { run, crashes, since, device_until, look }, Up { .. }, DeviceAbsent { within }) => {
            let until = device_until.unwrap_or(since.saturating_add(within));
            match until <= now {
                true => collected(Then::AfterEnd { run, crashes, end: End::StartFailed }, now),
                false => collected(Then::WaitForDevice { run, crashes, until, look }, now),
            }
        }
        (
            Starting { run, crashes, .. } | Running { run, crashes, .. } | Unhealthy { run, crashes, .. },
            Up { .. },
            Ended(end),
        ) => collected(Then::AfterEnd { run, crashes, end }, now),
        (Running { run, crashes, .. } | Unhealthy { run, crashes, .. }, Up { .. }, DeviceAbsent { .. }) => {
            collected(Then::AfterEnd { run, crashes, end: End::StartFailed }, now)
        }
        (Starting { run, crashes, since, device_until, .. }, Up { .. }, DevicesChanged) => {
            (Starting { run, crashes, since, device_until, look: true }, Action::None)
        }
        (Starting { .. }, Up { .. }, Wake | HealthLost | ProcessEnded | Remains | PartlyRemoved | Gone)
        | (
            Unhealthy { .. },
            Up { .. },
            Wake | DevicesChanged | Started | HealthLost | ProcessEnded | Remains | PartlyRemoved | Gone,
        ) => (state, Action::None),
        (
            Running { run, crashes, since, ready_by },
            Up { .. },
            Wake | DevicesChanged | Started | HealthLost | ProcessEnded | Remains | PartlyRemoved | Gone,
        ) => match (ready_by <= now, &rules.ready) {
            (false, _) => (state, Action::None),
            (true, Readiness::Alive { .. }) => (Ready { run, crashes: 0, since, settled_at: now }, Action::None),
            (true, Readiness::Notify { .. } | Readiness::Probe { .. }) => unhealthy(run, crashes, since, now, rules),
        },
        (Ready { run, crashes, since, settled_at }, Up { .. }, HealthLost) => {
            let crashes = if settled_at <= now { 0 } else { crashes };
            unhealthy(run, crashes, since, now, rules)
        }
        (Ready { run, crashes, settled_at, .. }, Up { .. }, Ended(end)) => {
            let crashes = if settled_at <= now { 0 } else { crashes };
            collected(Then::AfterEnd { run, crashes, end }, now)
        }
        (Ready { run, crashes, .. }, Up { .. }, DeviceAbsent { .. }) => {
            collected(Then::AfterEnd { run, crashes, end: End::StartFailed }, now)
        }
        (
            Ready { run, since, settled_at, crashes },
            Up { .. },
            Wake | DevicesChanged | Started | SaidReady | ProcessEnded | Remains | PartlyRemoved | Gone,
        ) => match crashes != 0 && settled_at <= now {
            true => (Ready { run, crashes: 0, since, settled_at }, Action::None),
            false => (state, Action::None),
        },

        (Collecting { .. } | Stuck { .. }, Down { .. }, Gone) => (Stopped, Action::None),
        (Collecting { then, .. } | Stuck { then, .. }, Up { run }, Gone) => {
            (after_collection(then, run, now, rules), Action::None)
        }
        (Collecting { then, tries, .. }, Down { .. } | Up { .. }, Ended(end)) => (
            Collecting { then: then.told_by_launcher(end), tries, again_at: collect_again(tries, now) },
            collect(tries),
        ),
        (Collecting { then, tries, .. }, Down { .. } | Up { .. }, ProcessEnded) => {
            (Collecting { then, tries, again_at: collect_again(tries, now) }, collect(tries))
        }
        (Collecting { then, tries, .. }, Down { .. } | Up { .. }, DeviceAbsent { .. }) => {
            let then = then.told_by_launcher(End::StartFailed);
            (Collecting { then, tries, again_at: collect_again(tries, now) }, collect(tries))
        }
        (Collecting { then, tries, .. }, Down { .. } | Up { .. }, Remains) => {
            let again_at = collect_again(tries, now);
            let tries = tries.saturating_add(1);
            match tries < MAX_COLLECTIONS {
                true => (Collecting { then, tries, again_at }, Action::None),
                false => stuck(then, now),
            }
        }
        (Collecting { then, tries, again_at }, Down { .. } | Up { .. }, Wake | Started | SaidReady | HealthLost) => {
            match again_at <= now {
                true => (Collecting { then, tries, again_at: collect_again(tries, now) }, collect(tries)),
                false => (state, Action::None),
            }
        }
        (Collecting { then, tries, again_at }, Down { .. } | Up { .. }, DevicesChanged) => {
            (Collecting { then: then.looking_again(), tries, again_at }, Action::None)
        }
        (Stuck { then, .. }, Down { .. } | Up { .. }, Ended(_) | DeviceAbsent { .. } | ProcessEnded) => {
            (Stuck { then, again_at: now.saturating_add(STUCK_AGAIN) }, Action::CollectByForce)
        }
        (Stuck { .. }, Down { .. } | Up { .. }, Remains) => (state, Action::None),
        (Collecting { then, tries, .. }, Down { .. } | Up { .. }, PartlyRemoved) => {
            (Collecting { then, tries, again_at: now.saturating_add(COLLECT_AGAIN) }, Action::None)
        }
        (Stuck { then, .. }, Down { .. } | Up { .. }, PartlyRemoved) => {
            (Stuck { then, again_at: now.saturating_add(COLLECT_AGAIN) }, Action::None)
        }
        (Stuck { then, again_at }, Down { .. } | Up { .. }, Wake | Started | SaidReady | HealthLost) => {
            match again_at <= now {
                true => (Stuck { then, again_at: now.saturating_add(STUCK_AGAIN) }, Action::CollectByForce),
                false => (state, Action::None),
            }
        }
        (Stuck { then, again_at }, Down { .. } | Up { .. }, DevicesChanged) => {
            (Stuck { then: then.looking_again(), again_at }, Action::None)
        }
    }
}

impl Then {
    /// What a launcher says of a start tells more than how the processes ended that were part of it.
    fn told_by_launcher(self, told: End) -> Then {
        match (self, told) {
            (
                Then::AfterEnd { run, crashes, end: End::InOrder | End::Reboot | End::Crash },
                End::StartFailed | End::StartRefused,
            ) => Then::AfterEnd { run, crashes, end: told },
            (Then::AsWanted | Then::AfterEnd { .. } | Then::WaitForDevice { .. }, _) => self,
        }
    }

    fn looking_again(self) -> Then {
        match self {
            Then::WaitForDevice { run, crashes, until, .. } => {
                Then::WaitForDevice { run, crashes, until, look: true }
            }
            Then::AsWanted | Then::AfterEnd { .. } => self,
        }
    }
}

fn collected(then: Then, now: Moment) -> (State, Action) {
    (State::Collecting { then, tries: 0, again_at: collect_again(0, now) }, Action::Collect)
}

fn collect(tries: u32) -> Action {
    if tries < GENTLE_COLLECTIONS { Action::Collect } else { Action::CollectByForce }
}

fn collect_again(tries: u32, now: Moment) -> Moment {
    let doubled = COLLECT_AGAIN.saturating_mul(2u32.saturating_pow(tries));
    now.saturating_add(doubled.min(LONGEST_COLLECT_PAUSE))
}

fn stuck(then: Then, now: Moment) -> (State, Action) {
    (State::Stuck { then, again_at: now.saturating_add(STUCK_AGAIN) }, Action::ReportStuck)
}

fn after_collection(then: Then, wanted_run: u32, now: Moment, rules: &Rules) -> State {
    match then {
        Then::AfterEnd { run, crashes, end } if run == wanted_run => after_end(run, crashes, end, now, rules),
        Then::WaitForDevice { run, crashes, until, look } if run == wanted_run => {
            State::WaitingForDevice { run, crashes, until, look }
        }
        Then::AsWanted | Then::AfterEnd { .. } | Then::WaitForDevice { .. } => {
            State::Waiting { run: wanted_run, crashes: 0 }
        }
    }
}

fn killed(now: Moment) -> (State, Action) {
    (State::Stopping { kill_at: now.saturating_add(KILL_AGAIN), kills: 1, then: Then::AsWanted }, Action::Kill)
}

fn asked(now: Moment, timeout: Duration) -> (State, Action) {
    match timeout.is_zero() {
        true => killed(now),
        false => {
            let kill_at = now.saturating_add(timeout);
            (State::Stopping { kill_at, kills: 0, then: Then::AsWanted }, Action::AskToStop)
        }
    }
}

fn overdue(kill_at: Moment, kills: u32, then: Then, now: Moment) -> (State, Action) {
    match kill_at <= now {
        true if MAX_KILLS <= kills => stuck(then, now),
        true => {
            let kill_at = now.saturating_add(KILL_AGAIN);
            (State::Stopping { kill_at, kills: kills.saturating_add(1), then }, Action::Kill)
        }
        false => (State::Stopping { kill_at, kills, then }, Action::None),
    }
}

fn ready(run: u32, crashes: u32, since: Moment, now: Moment) -> State {
    State::Ready { run, crashes, since, settled_at: now.saturating_add(SETTLED_AFTER_READY) }
}

fn unhealthy(run: u32, crashes: u32, since: Moment, now: Moment, rules: &Rules) -> (State, Action) {
    match rules.restart.policy {
        RestartPolicy::Never => (State::Unhealthy { run, crashes, since }, Action::ReportUnhealthy),
        RestartPolicy::OnFailure | RestartPolicy::Always => {
            let kill_at = now.saturating_add(rules.stop_timeout);
            let then = Then::AfterEnd { run, crashes, end: End::Crash };
            (State::Stopping { kill_at, kills: 0, then }, Action::StopUnhealthy)
        }
    }
}

pub(super) fn ready_by(now: Moment, rules: &Rules) -> Moment {
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
    use yado_spec::instance::Restart;
    use yado_wire::rescue::InstanceState;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn rules(policy: RestartPolicy, ready: Readiness) -> Rules {
        Rules {
            ready,
            restart: Restart { policy, first_pause: s(1), longest_pause: s(8), attempts: 5 },
            stop_timeout: s(30),
        }
    }

    fn notify(policy: RestartPolicy) -> Rules {
        rules(policy, Readiness::Notify { timeout: s(90) })
    }

    const UP: Wanted = Wanted::Up { run: 1 };
    const DOWN: Wanted = Wanted::Down { timeout: s(10) };

    /// Runs a script of (wanted state, event, second) and checks state and action after each.
    fn play(rules: &Rules, script: &[(Wanted, Event, u64, State, Action)]) {
        let mut state = State::Stopped;
        for (number, (wanted, event, at, expected, action)) in script.iter().enumerate() {
            let before = state;
            let got = step(state, *wanted, Gate::Open, *event, s(*at), rules);
            assert_eq!(got, (*expected, *action), "line {number}: {before:?} {wanted:?} {event:?}");
            state = got.0;
        }
    }

    /// The state after an end of which nothing is left.
    fn after(state: State, wanted: Wanted, event: Event, at: u64, rules: &Rules) -> State {
        let (collecting, action) = step(state, wanted, Gate::Open, event, s(at), rules);
        assert!(matches!(collecting, State::Collecting { tries: 0, .. }), "{state:?} {event:?} {collecting:?}");
        assert_eq!((collecting.shown(), action), (InstanceState::Stopping, Action::Collect));
        let (next, action) = step(collecting, wanted, Gate::Closed, Event::Gone, s(at), rules);
        assert_eq!(action, Action::None);
        next
    }

    fn ended(state: State, end: End, at: u64, rules: &Rules) -> State {
        after(state, UP, Event::Ended(end), at, rules)
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
                (DOWN, Wake, 100, Stopping { kill_at: s(110), kills: 0, then: Then::AsWanted }, Action::AskToStop),
                (DOWN, Wake, 109, Stopping { kill_at: s(110), kills: 0, then: Then::AsWanted }, Action::None),
                (
                    DOWN,
                    Ended(End::Crash),
                    109,
                    Collecting { then: Then::AsWanted, tries: 0, again_at: s(109) + COLLECT_AGAIN },
                    Action::Collect,
                ),
                (DOWN, Gone, 109, Stopped, Action::None),
            ],
        );
    }

    #[test]
    fn who_does_not_end_when_asked_is_killed_and_killed_again() {
        use {Event::*, State::*};
        let mut state = Ready { run: 1, crashes: 0, since: s(0), settled_at: s(60) };
        let rules = notify(RestartPolicy::Never);
        for (at, kill_at, kills, action) in [
            (100, 110, 0, Action::AskToStop),
            (110, 112, 1, Action::Kill),
            (111, 112, 1, Action::None),
            (112, 114, 2, Action::Kill),
        ] {
            let got = step(state, DOWN, Gate::Open, Wake, s(at), &rules);
            assert_eq!(got, (Stopping { kill_at: s(kill_at), kills, then: Then::AsWanted }, action), "at {at}");
            state = got.0;
        }
        // A timeout of zero does not kill more often.
        let force = Wanted::Down { timeout: Duration::ZERO };
        assert_eq!(step(state, force, Gate::Open, Wake, s(113), &rules), (state, Action::None));
        for kills in 3..=15 {
            let at = s(108 + u64::from(kills) * 2);
            let got = step(state, force, Gate::Open, Wake, at, &rules);
            assert_eq!(got, (Stopping { kill_at: at + KILL_AGAIN, kills, then: Then::AsWanted }, Action::Kill));
            state = got.0;
        }
        // In the end that is told, and nothing takes its place until it is gone.
        let (stuck, action) = step(state, DOWN, Gate::Open, Wake, s(140), &rules);
        assert_eq!((stuck.shown(), action), (InstanceState::Stuck, Action::ReportStuck));
        assert_eq!(step(stuck, UP, Gate::Open, Wake, s(169), &rules), (stuck, Action::None));
        let (still, action) = step(stuck, UP, Gate::Open, Wake, s(170), &rules);
        assert_eq!((still.deadline(), action), (Some(s(200)), Action::CollectByForce));
        assert_eq!(step(still, UP, Gate::Open, Remains, s(170), &rules), (still, Action::None));
        // Its first process has ended after all.
        let (still, action) = step(still, UP, Gate::Open, Ended(End::Crash), s(180), &rules);
        assert_eq!((still.deadline(), action), (Some(s(210)), Action::CollectByForce));
        assert_eq!(step(still, UP, Gate::Open, Gone, s(180), &rules).0, Waiting { run: 1, crashes: 0 });
        assert_eq!(step(still, DOWN, Gate::Open, Gone, s(180), &rules).0, Stopped);
        // A shorter timeout while it is stopping.
        let stopping = Stopping { kill_at: s(110), kills: 0, then: Then::AsWanted };
        let got = step(stopping, force, Gate::Open, Wake, s(101), &notify(RestartPolicy::Never));
        assert_eq!(got, (Stopping { kill_at: s(103), kills: 1, then: Then::AsWanted }, Action::Kill));
    }

    #[test]
    fn crashes_back_off_longer_each_time_and_fail_in_the_end() {
        let rules = notify(RestartPolicy::OnFailure);
        let mut pauses = Vec::new();
        let mut crashes = 0;
        let failed = loop {
            let running = State::Running { run: 1, crashes, since: s(0), ready_by: s(90) };
            match ended(running, End::Crash, 5, &rules) {
                State::BackingOff { run: 1, crashes: more, until } => {
                    pauses.push((until - s(5)).as_secs());
                    crashes = more;
                }
                other => break other,
            }
        };
        assert_eq!((pauses, failed), (vec![1, 2, 4, 8], State::Failed { run: 1 }));
        // A new request starts it again.
        let again = step(failed, Wanted::Up { run: 2 }, Gate::Open, Event::Wake, s(6), &rules);
        assert_eq!(again.0, State::Waiting { run: 2, crashes: 0 });
        assert_eq!(step(failed, UP, Gate::Open, Event::Wake, s(6), &rules).0, failed);
    }

    #[test]
    fn an_end_after_the_stable_window_counts_from_one_again() {
        let rules = notify(RestartPolicy::Always);
        let settled = State::Ready { run: 1, crashes: 4, since: s(0), settled_at: s(60) };
        let got = ended(settled, End::Crash, 61, &rules);
        assert_eq!(got, State::BackingOff { run: 1, crashes: 1, until: s(62) });
        let got = ended(settled, End::Crash, 59, &rules);
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
            assert_eq!(ended(running, end, 5, &notify(policy)), expected, "{policy:?} {end:?}");
        }
    }

    #[test]
    fn a_required_device_is_waited_for_and_found_or_not() {
        use {Event::*, State::*};
        let absent = DeviceAbsent { within: s(20) };
        let then = Then::WaitForDevice { run: 1, crashes: 0, until: s(20), look: false };
        let collecting = |at| Collecting { then, tries: 0, again_at: s(at) + COLLECT_AGAIN };
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
                (UP, absent, 1, collecting(1), Action::Collect),
                (UP, Gone, 1, WaitingForDevice { run: 1, crashes: 0, until: s(20), look: false }, Action::None),
                (UP, Wake, 2, WaitingForDevice { run: 1, crashes: 0, until: s(20), look: false }, Action::None),
                (
                    UP,
                    DevicesChanged,
                    5,
                    Starting { run: 1, crashes: 0, since: s(5), device_until: Some(s(20)), look: false },
                    Action::Launch,
                ),
                (UP, absent, 6, collecting(6), Action::Collect),
                (UP, Gone, 6, WaitingForDevice { run: 1, crashes: 0, until: s(20), look: false }, Action::None),
                (UP, Wake, 20, Failed { run: 1 }, Action::None),
            ],
        );
        // It may come while the launcher looks, or while it may not start.
        let rules = notify(RestartPolicy::Never);
        let starting = Starting { run: 1, crashes: 0, since: s(0), device_until: None, look: false };
        let (seen, _) = step(starting, UP, Gate::Open, DevicesChanged, s(1), &rules);
        let waiting = after(seen, UP, absent, 2, &rules);
        assert_eq!(waiting, WaitingForDevice { run: 1, crashes: 0, until: s(20), look: true });
        let (again, action) = step(waiting, UP, Gate::Open, Wake, s(3), &rules);
        assert_eq!((again.since(), action), (Some(s(3)), Action::Launch));
        let waiting = WaitingForDevice { run: 1, crashes: 0, until: s(20), look: false };
        let (waiting, _) = step(waiting, UP, Gate::Closed, DevicesChanged, s(4), &rules);
        assert_eq!(step(waiting, UP, Gate::Open, Wake, s(5), &rules).1, Action::Launch);
        // Without a timeout the first absence is the failure.
        let starting = Starting { run: 1, crashes: 0, since: s(0), device_until: None, look: false };
        let absent = DeviceAbsent { within: Duration::ZERO };
        assert_eq!(after(starting, UP, absent, 0, &notify(RestartPolicy::Never)), Failed { run: 1 });
        // Nor while what is left of the attempt is removed.
        let (seen, action) = step(collecting(7), UP, Gate::Closed, DevicesChanged, s(7), &rules);
        assert_eq!(action, Action::None);
        let got = step(seen, UP, Gate::Closed, Gone, s(7), &rules).0;
        assert_eq!(got, WaitingForDevice { run: 1, crashes: 0, until: s(20), look: true });
    }

    #[test]
    fn health_that_does_not_come_stops_or_only_tells() {
        let running = State::Running { run: 1, crashes: 2, since: s(0), ready_by: s(90) };
        let got = step(running, UP, Gate::Open, Event::Wake, s(90), &notify(RestartPolicy::Never));
        let told = State::Unhealthy { run: 1, crashes: 2, since: s(0) };
        assert_eq!(got, (told, Action::ReportUnhealthy));
        assert_eq!(told.deadline(), None);

        let rules = notify(RestartPolicy::OnFailure);
        let (stopping, action) = step(running, UP, Gate::Open, Event::Wake, s(90), &rules);
        assert_eq!(action, Action::StopUnhealthy);
        let got = ended(stopping, End::InOrder, 95, &rules);
        assert_eq!(got, State::BackingOff { run: 1, crashes: 3, until: s(99) });

        let alive = rules_alive();
        let got = step(running, UP, Gate::Open, Event::Wake, s(90), &alive).0;
        assert_eq!(got, State::Ready { run: 1, crashes: 0, since: s(0), settled_at: s(90) });
    }

    #[test]
    fn who_was_ready_and_is_no_longer_well_is_stopped_or_left_and_may_get_well() {
        let ready = State::Ready { run: 1, crashes: 2, since: s(0), settled_at: s(60) };
        let (left, action) = step(ready, UP, Gate::Open, Event::HealthLost, s(30), &notify(RestartPolicy::Never));
        assert_eq!(left, State::Unhealthy { run: 1, crashes: 2, since: s(0) });
        assert_eq!(action, Action::ReportUnhealthy);
        let (well, _) = step(left, UP, Gate::Open, Event::SaidReady, s(40), &notify(RestartPolicy::Never));
        assert_eq!(well, State::Ready { run: 1, crashes: 2, since: s(0), settled_at: s(100) });

        let rules = notify(RestartPolicy::OnFailure);
        let (stopping, action) = step(ready, UP, Gate::Open, Event::HealthLost, s(61), &rules);
        assert_eq!(
            stopping,
            State::Stopping {
                kill_at: s(91),
                kills: 0,
                then: Then::AfterEnd { run: 1, crashes: 0, end: End::Crash }
            }
        );
        assert_eq!(action, Action::StopUnhealthy);
        // It may be told once more while it stops.
        let again = step(stopping, UP, Gate::Open, Event::HealthLost, s(62), &rules);
        assert_eq!(again, (stopping, Action::None));
    }

    fn rules_alive() -> Rules {
        rules(RestartPolicy::Never, Readiness::Alive { window: s(3) })
    }

    #[test]
    fn what_is_wanted_is_never_lost() {
        let rules = notify(RestartPolicy::Never);
        let restart = Wanted::Up { run: 2 };
        let ready = State::Ready { run: 1, crashes: 0, since: s(0), settled_at: s(60) };
        let (stopping, action) = step(ready, restart, Gate::Open, Event::Wake, s(70), &rules);
        assert_eq!(
            (stopping, action),
            (State::Stopping { kill_at: s(100), kills: 0, then: Then::AsWanted }, Action::AskToStop)
        );
        // Wanted down and up again while it is stopping: it still ends first.
        let (still, _) = step(stopping, DOWN, Gate::Open, Event::Wake, s(71), &rules);
        let waiting = after(still, restart, Event::Ended(End::InOrder), 72, &rules);
        assert_eq!(waiting, State::Waiting { run: 2, crashes: 0 });
        // A start that is no longer wanted is killed: nobody is inside yet who could be asked.
        let starting = State::Starting { run: 1, crashes: 0, since: s(0), device_until: None, look: false };
        assert_eq!(step(starting, DOWN, Gate::Open, Event::Wake, s(1), &rules).1, Action::Kill);
        assert_eq!(step(starting, restart, Gate::Open, Event::Started, s(1), &rules).1, Action::Kill);
        // A closed gate keeps it waiting.
        let got = step(waiting, restart, Gate::Closed, Event::Wake, s(80), &rules);
        assert_eq!(got, (waiting, Action::None));
    }

    #[test]
    fn what_remains_of_an_end_is_collected_ever_more_slowly_and_then_told() {
        use Event::*;
        let rules = notify(RestartPolicy::OnFailure);
        let ready = State::Ready { run: 1, crashes: 0, since: s(0), settled_at: s(60) };
        let (mut state, action) = step(ready, UP, Gate::Open, Ended(End::Crash), s(0), &rules);
        assert_eq!(action, Action::Collect);
        let (mut now, mut actions) = (s(0), Vec::new());
        let told = loop {
            assert_eq!(state.shown(), InstanceState::Stopping, "dead, and not ready");
            let (next, action) = step(state, UP, Gate::Open, Remains, now, &rules);
            if action != Action::None {
                break (next, action);
            }
            now = next.deadline().unwrap();
            assert_eq!(step(next, UP, Gate::Open, Wake, now - COLLECT_AGAIN / 2, &rules), (next, Action::None));
            let (next, action) = step(next, UP, Gate::Open, Wake, now, &rules);
            actions.push(action);
            state = next;
        };
        assert_eq!(actions, [vec![Action::Collect; 8], vec![Action::CollectByForce; 4]].concat());
        assert!(s(4) <= now && now <= s(6), "{now:?}");
        assert_eq!((told.0.shown(), told.1), (InstanceState::Stuck, Action::ReportStuck));
        // What its end says still holds when it is gone.
        let got = step(told.0, UP, Gate::Open, Gone, s(100), &rules).0;
        assert_eq!(got, State::BackingOff { run: 1, crashes: 1, until: s(101) });
    }

    #[test]
    fn what_a_launcher_says_of_a_failed_start_counts_more_than_how_its_payload_ended() {
        use Event::*;
        let rules = notify(RestartPolicy::OnFailure);
        let starting = State::Starting { run: 1, crashes: 0, since: s(0), device_until: None, look: false };
        let (ended, _) = step(starting, UP, Gate::Open, Ended(End::Crash), s(1), &rules);
        let (told, action) = step(ended, UP, Gate::Open, Ended(End::StartRefused), s(1), &rules);
        assert_eq!(action, Action::Collect);
        assert_eq!(step(told, UP, Gate::Open, Gone, s(1), &rules).0, State::Failed { run: 1 });
        // And not the other way round.
        let (refused, _) = step(starting, UP, Gate::Open, Ended(End::StartRefused), s(1), &rules);
        let (still, _) = step(refused, UP, Gate::Open, Ended(End::InOrder), s(1), &rules);
        assert_eq!(step(still, UP, Gate::Open, Gone, s(1), &rules).0, State::Failed { run: 1 });
    }
    #[test]
    fn who_stood_still_has_as_much_time_as_others() {
        let rules = notify(RestartPolicy::OnFailure);
        let running = State::Running { run: 1, crashes: 0, since: s(0), ready_by: s(90) };
        let stopping = State::Stopping { kill_at: s(90), kills: 0, then: Then::AsWanted };
        for (state, wanted) in [(running, UP), (stopping, Wanted::Down { timeout: s(5) })] {
            let later = state.later_by(s(4));
            assert!(state.waits_for_inside() && later.since() == state.since());
            assert_eq!(later.deadline(), Some(s(94)));
            assert_eq!(step(later, wanted, Gate::Open, Event::Wake, s(93), &rules), (later, Action::None));
            assert_ne!(step(later, wanted, Gate::Open, Event::Wake, s(94), &rules).1, Action::None);
        }
        // Pauses of our own go on.
        let backing_off = State::BackingOff { run: 1, crashes: 1, until: s(90) };
        let collecting = State::Collecting { then: Then::AsWanted, tries: 0, again_at: s(90) };
        for state in [backing_off, collecting, State::Ready { run: 1, crashes: 1, since: s(0), settled_at: s(90) }] {
            assert!(!state.waits_for_inside() && state.later_by(s(4)) == state);
        }
    }
}
