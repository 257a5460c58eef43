//! Whether a running instance is healthy, by its probe and its watchdog, as one table. Pure: the current time and the instance's
//! state are arguments. `lifecycle` decides what follows.

use crate::boot_clock::Moment;
use crate::instance::lifecycle::State;
use std::time::Duration;
use yado_spec::instance::{Health, Readiness};
use yado_wire::Failure;

/// How often the probe is tried until the instance is ready: others may wait for it.
const SOON: Duration = Duration::from_secs(1);

/// The health of an instance in this run.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// When the probe is tried next, unless a try runs.
    probe_at: Option<Moment>,
    /// A try runs. Its time limit is that of the launch.
    is_trying: bool,
    /// The instance was frozen during the try.
    is_disturbed: bool,
    /// It could not be tried the last time.
    is_postponed: bool,
    /// Tries in a row that did not pass, since it was ready.
    failures: u32,
    /// Why the last try did not pass.
    pub(crate) last_failure: Option<Box<Failure>>,
    /// When the next `WATCHDOG=1` is due.
    ping_by: Option<Moment>,
    /// Why it is unhealthy.
    pub(crate) unhealthy: Option<Cause>,
}

/// Why an instance is unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its probe did not pass, too often in a row.
    Probe,
    /// It did not say `WATCHDOG=1` in time.
    Silence,
    /// It said `WATCHDOG=trigger`.
    OwnWord,
}

/// The state of an instance, as far as its health depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It does not run, or is stopping: its health is not watched.
    Down,
    /// It is not ready yet.
    Starting,
    /// It is ready.
    Ready,
    /// It is unhealthy, and is left running.
    Overdue,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HealthAction {
    /// Nothing.
    Nothing,
    /// Try the probe.
    Probe,
    /// It is no longer healthy.
    Unhealthy,
}

/// What a result of the probe or a ping of the watchdog changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing new.
    AsBefore,
    /// It is ready, for the first time or again.
    Healthy,
    /// It is no longer healthy.
    Unhealthy,
}

/// What an instance says to its watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ping {
    /// `WATCHDOG=1`.
    Alive,
    /// `WATCHDOG=trigger`.
    Trigger,
}

impl Phase {
    /// The phase of this state.
    pub(crate) fn of(state: State) -> Phase {
        match state {
            State::Unhealthy { .. } => Phase::Overdue,
            State::Running { .. } => Phase::Starting,
            State::Ready { .. } => Phase::Ready,
            State::Stopped
            | State::Waiting { .. }
            | State::WaitingForDevice { .. }
            | State::Starting { .. }
            | State::Stopping { .. }
            | State::Collecting { .. }
            | State::Stuck { .. }
            | State::BackingOff { .. }
            | State::Finished { .. }
            | State::Failed { .. } => Phase::Down,
        }
    }
}

impl Watch {
    /// Returns what is due, and counts it as done.
    pub(crate) fn due(&mut self, health: &Health, phase: Phase, now: Moment) -> HealthAction {
        if phase == Phase::Down {
            return HealthAction::Nothing;
        }
        if let Some(longest) = health.watchdog.filter(|_| phase == Phase::Ready) {
            let by = *self.ping_by.get_or_insert(now.saturating_add(longest));
            if by <= now {
                return self.fall_ill(Cause::Silence);
            }
        }
        if health.probe.is_none() {
            // The probe is no longer configured: a try that was due is dropped.
            self.probe_at = None;
            return HealthAction::Nothing;
        }
        if self.is_trying {
            return HealthAction::Nothing;
        }
        if !is_probed(health, phase) && self.unhealthy != Some(Cause::Probe) {
            self.probe_at = None;
            return HealthAction::Nothing;
        }
        if now < *self.probe_at.get_or_insert(now) {
            return HealthAction::Nothing;
        }
        self.probe_at = None;
        self.is_trying = true;
        HealthAction::Probe
    }

    /// Uses a new configuration of the health. Results and times of the old probe do not count for the new one.
    pub(crate) fn update_spec(&mut self, health: &Health, phase: Phase) -> Verdict {
        self.probe_at = None;
        self.failures = 0;
        let is_cured = health.probe.is_none() && self.unhealthy.take_if(|cause| *cause == Cause::Probe).is_some();
        if is_cured && phase == Phase::Overdue { Verdict::Healthy } else { Verdict::AsBefore }
    }

    /// A try could not be made for reasons outside of the instance, and does not count. `true`: it is the first one since a try was
    /// made.
    pub(crate) fn postpone(&mut self, now: Moment) -> bool {
        self.is_trying = false;
        self.is_disturbed = false;
        self.probe_at = Some(now.saturating_add(SOON));
        !std::mem::replace(&mut self.is_postponed, true)
    }

    /// The instance is frozen: if a try that runs does not pass, that does not count.
    pub(crate) fn disturb(&mut self) {
        self.is_disturbed = self.is_trying;
    }

    /// Whether the instance was frozen during this try.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.is_disturbed
    }

    /// It was frozen for this time: everything is due later by as much.
    pub(crate) fn delay(&mut self, time: Duration) {
        for due in [&mut self.probe_at, &mut self.ping_by].into_iter().flatten() {
            *due = due.saturating_add(time);
        }
    }

    /// When something is due at the latest.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        [self.probe_at, self.ping_by].into_iter().flatten().min()
    }

    /// How many tries in a row did not pass.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// A try is over. `failure`: why it did not pass.
    pub(crate) fn probed(
        &mut self,
        failure: Option<Box<Failure>>,
        health: &Health,
        phase: Phase,
        now: Moment,
    ) -> Verdict {
        self.is_trying = false;
        self.is_disturbed = false;
        self.is_postponed = false;
        let Some(probe) = health.probe.as_ref().filter(|_| phase != Phase::Down) else { return Verdict::AsBefore };
        let pause = if phase == Phase::Starting { SOON.min(probe.interval) } else { probe.interval };
        self.probe_at = Some(now.saturating_add(pause));
        match failure {
            None => {
                self.failures = 0;
                let is_cured = self.unhealthy.take_if(|cause| *cause == Cause::Probe).is_some();
                let is_first = phase != Phase::Ready && self.unhealthy.is_none() && is_probed(health, phase);
                if is_cured || is_first { Verdict::Healthy } else { Verdict::AsBefore }
            }
            Some(failure) => {
                self.last_failure = Some(failure);
                if phase != Phase::Ready {
                    return Verdict::AsBefore;
                }
                self.failures = self.failures.saturating_add(1);
                if self.failures < probe.failures {
                    return Verdict::AsBefore;
                }
                self.fall_ill(Cause::Probe);
                Verdict::Unhealthy
            }
        }
    }

    /// It said something to its watchdog.
    pub(crate) fn pinged(&mut self, ping: Ping, health: &Health, phase: Phase, now: Moment) -> Verdict {
        let Some(longest) = health.watchdog else { return Verdict::AsBefore };
        match (ping, phase) {
            (Ping::Trigger, Phase::Ready) => {
                self.fall_ill(Cause::OwnWord);
                Verdict::Unhealthy
            }
            (Ping::Alive, Phase::Ready) => {
                self.ping_by = Some(now.saturating_add(longest));
                Verdict::AsBefore
            }
            (Ping::Alive, Phase::Overdue) if matches!(self.unhealthy, Some(Cause::Silence | Cause::OwnWord)) => {
                self.unhealthy = None;
                Verdict::Healthy
            }
            (Ping::Trigger | Ping::Alive, _) => Verdict::AsBefore,
        }
    }

    fn fall_ill(&mut self, cause: Cause) -> HealthAction {
        self.unhealthy = Some(cause);
        self.failures = 0;
        self.ping_by = None;
        HealthAction::Unhealthy
    }
}

/// Whether its probe is to be tried although nothing was ever wrong.
fn is_probed(health: &Health, phase: Phase) -> bool {
    phase == Phase::Ready || matches!(health.ready, Readiness::Probe { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use yado_spec::instance::{Probe, ProbeAttempt};
    use yado_wire::Step;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn probed(ready: Readiness) -> Health {
        let attempt = ProbeAttempt::Exec(vec!["true".to_owned()]);
        let probe = Probe { attempt, interval: s(30), timeout: s(2), failures: 2 };
        Health { ready, probe: Some(probe), watchdog: None, required: true }
    }

    fn failed() -> Option<Box<Failure>> {
        Some(Box::new(Failure::refused(Step::Health, "exec:true", "it ended with code 1")))
    }

    #[test]
    fn a_probe_that_readiness_waits_for_is_tried_every_second_until_it_passes() {
        let health = probed(Readiness::Probe { timeout: s(90) });
        let mut watch = Watch::default();
        for at in [10, 11, 12] {
            assert_eq!(watch.due(&health, Phase::Starting, s(at)), HealthAction::Probe);
            assert_eq!(watch.due(&health, Phase::Starting, s(at)), HealthAction::Nothing, "one try at a time");
            let failure = if at < 12 { failed() } else { None };
            let verdict = if at < 12 { Verdict::AsBefore } else { Verdict::Healthy };
            assert_eq!(watch.probed(failure, &health, Phase::Starting, s(at)), verdict);
        }
        // Ready: at leisure.
        watch.probed(None, &health, Phase::Ready, s(12));
        assert_eq!(watch.deadline(), Some(s(42)));
        assert_eq!(watch.due(&health, Phase::Ready, s(41)), HealthAction::Nothing);
        assert_eq!(watch.due(&health, Phase::Ready, s(42)), HealthAction::Probe);
    }

    #[test]
    fn others_are_probed_once_they_are_ready() {
        let health = probed(Readiness::Alive { window: s(10) });
        let mut watch = Watch::default();
        assert_eq!(watch.due(&health, Phase::Starting, s(1)), HealthAction::Nothing);
        assert_eq!(watch.deadline(), None);
        assert_eq!(watch.due(&health, Phase::Ready, s(10)), HealthAction::Probe);
        assert_eq!(watch.probed(None, &health, Phase::Ready, s(10)), Verdict::AsBefore);
    }

    #[test]
    fn failures_in_a_row_make_it_ill_and_one_pass_makes_it_well() {
        let health = probed(Readiness::Notify { timeout: s(90) });
        let mut watch = Watch::default();
        let try_once = |watch: &mut Watch, failure, phase, at| {
            assert_eq!(watch.due(&health, phase, s(at)), HealthAction::Probe);
            watch.probed(failure, &health, phase, s(at))
        };
        assert_eq!(try_once(&mut watch, failed(), Phase::Ready, 0), Verdict::AsBefore);
        assert_eq!(try_once(&mut watch, None, Phase::Ready, 30), Verdict::AsBefore);
        assert_eq!(try_once(&mut watch, failed(), Phase::Ready, 60), Verdict::AsBefore);
        assert_eq!((watch.failures(), watch.unhealthy), (1, None));
        assert_eq!(try_once(&mut watch, failed(), Phase::Ready, 90), Verdict::Unhealthy);
        assert_eq!(watch.unhealthy, Some(Cause::Probe));
        // Left as it is, it is tried on.
        assert_eq!(try_once(&mut watch, failed(), Phase::Overdue, 120), Verdict::AsBefore);
        assert_eq!(try_once(&mut watch, None, Phase::Overdue, 150), Verdict::Healthy);
        assert_eq!(watch.unhealthy, None);
    }

    #[test]
    fn a_pass_does_not_stand_for_a_ready_that_was_never_said() {
        let health = probed(Readiness::Notify { timeout: s(90) });
        let mut watch = Watch::default();
        assert_eq!(watch.due(&health, Phase::Overdue, s(90)), HealthAction::Nothing);
        assert_eq!(watch.probed(None, &health, Phase::Overdue, s(90)), Verdict::AsBefore);
    }

    #[test]
    fn a_try_that_could_not_be_made_says_nothing_and_is_made_soon() {
        let health = probed(Readiness::Alive { window: s(10) });
        let mut watch = Watch::default();
        for at in 0..9 {
            assert_eq!(watch.due(&health, Phase::Ready, s(at)), HealthAction::Probe);
            assert_eq!(watch.postpone(s(at)), at == 0);
            assert_eq!((watch.failures(), watch.unhealthy, watch.deadline()), (0, None, Some(s(at + 1))));
        }
    }

    #[test]
    fn while_it_stands_still_nothing_runs_out_and_no_try_fails() {
        let health = Health { watchdog: Some(s(20)), ..probed(Readiness::Alive { window: s(10) }) };
        let mut watch = Watch::default();
        assert_eq!(watch.due(&health, Phase::Ready, s(10)), HealthAction::Probe);
        watch.disturb();
        assert!(watch.is_disturbed());
        watch.delay(s(4));
        assert!(watch.postpone(s(14)) && !watch.is_disturbed());
        assert_eq!(watch.due(&health, Phase::Ready, s(15)), HealthAction::Probe, "the try is made again");
        assert_eq!(watch.probed(None, &health, Phase::Ready, s(15)), Verdict::AsBefore);
        // WATCHDOG=1 was due at 30.
        watch.disturb();
        assert!(!watch.is_disturbed(), "nothing was tried");
        assert_eq!(watch.due(&health, Phase::Ready, s(33)), HealthAction::Nothing);
        assert_eq!(watch.due(&health, Phase::Ready, s(34)), HealthAction::Unhealthy);
    }

    #[test]
    fn silence_towards_the_watchdog_is_illness_and_a_word_is_health() {
        let health =
            Health { ready: Readiness::Notify { timeout: s(9) }, probe: None, watchdog: Some(s(20)), required: true };
        let mut watch = Watch::default();
        assert_eq!(watch.due(&health, Phase::Starting, s(0)), HealthAction::Nothing);
        assert_eq!(watch.deadline(), None, "it starts with READY=1");
        assert_eq!(watch.due(&health, Phase::Ready, s(10)), HealthAction::Nothing);
        assert_eq!(watch.deadline(), Some(s(30)));
        assert_eq!(watch.pinged(Ping::Alive, &health, Phase::Ready, s(25)), Verdict::AsBefore);
        assert_eq!(watch.due(&health, Phase::Ready, s(44)), HealthAction::Nothing);
        assert_eq!(watch.due(&health, Phase::Ready, s(45)), HealthAction::Unhealthy);
        assert_eq!((watch.unhealthy, watch.deadline()), (Some(Cause::Silence), None));
        assert_eq!(watch.pinged(Ping::Alive, &health, Phase::Overdue, s(50)), Verdict::Healthy);
        assert_eq!(watch.pinged(Ping::Trigger, &health, Phase::Ready, s(51)), Verdict::Unhealthy);
        assert_eq!(watch.unhealthy, Some(Cause::OwnWord));
        // What fell silent is not probed until it speaks again, and nothing wakes us for that.
        let both = Health { probe: probed(Readiness::Notify { timeout: s(9) }).probe, ..health.clone() };
        assert_eq!(watch.probed(None, &both, Phase::Overdue, s(52)), Verdict::AsBefore);
        assert_eq!(watch.due(&both, Phase::Overdue, s(52)), HealthAction::Nothing);
        assert_eq!(watch.deadline(), None);
        // Who declares no watchdog has none.
        let without = Health { watchdog: None, ..health };
        assert_eq!(Watch::default().pinged(Ping::Trigger, &without, Phase::Ready, s(0)), Verdict::AsBefore);
    }
}
