//! Whether what is on trial is well: each required instance must have been ready for the policy's window, without having been started
//! again meanwhile, and netd must run. Pure: what init says and the time in, a verdict out.

use crate::record::{Line, Unwell};
use std::time::Duration;
use yado_wire::rescue::{InstanceHealth, InstanceState, ServiceStatus};

/// So many starts of one instance during a trial are a storm: it never becomes well in time by itself.
const STORM: u32 = 5;

/// netd, as init calls it.
const NETD: &str = "netd";

/// What init said at one time.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// All instances.
    pub(crate) instances: Vec<InstanceHealth>,
    /// Our own processes.
    pub(crate) services: Vec<ServiceStatus>,
    /// Whether the machine has a way to the outside; asked only if the release needs it.
    pub(crate) has_uplink: bool,
}

/// What is to be thought of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not yet; and this is what is waited for, if it is one thing.
    Wait(Unwell),
    /// All is well, for as long as it must be.
    Healthy,
    /// Something is not, and will not be.
    Unhealthy(Unwell),
}

/// One trial.
#[derive(Debug)]
pub(crate) struct Trial {
    window: Duration,
    needs_uplink: bool,
    /// Since when netd runs, with this process.
    netd: Option<(Duration, i32)>,
}

impl Trial {
    /// Nothing was seen yet.
    pub(crate) fn new(window: Duration, needs_uplink: bool) -> Trial {
        Trial { window, needs_uplink, netd: None }
    }

    /// What is to be thought now.
    pub(crate) fn judge(&mut self, seen: &Seen, now: Duration) -> Verdict {
        // What is not well yet is worth more to tell than what has not been for long.
        let (mut waits_for, mut too_short) = (None, None);
        for health in seen.instances.iter().filter(|health| health.is_required) {
            let unwell =
                |reason: String| Unwell { instance: Some(health.instance.name.clone()), reason: Line::cut(&reason) };
            if let Some(reason) = hopeless(health) {
                return Verdict::Unhealthy(unwell(reason));
            }
            match health.ready_ms {
                None => {
                    waits_for.get_or_insert_with(|| unwell(format!("it is {}, not ready", health.state.name())));
                }
                Some(ms) if Duration::from_millis(ms) < self.window => {
                    too_short.get_or_insert_with(|| unwell("it has not been ready for long enough".to_owned()));
                }
                Some(_) => {}
            }
        }
        let system = |reason: &str| Unwell { instance: None, reason: Line::cut(reason) };
        let netd = seen.services.iter().find(|service| service.name.as_str() == NETD);
        match (netd.and_then(|service| service.pid), self.netd) {
            (Some(pid), Some((since, known))) if pid == known => {
                if now.saturating_sub(since) < self.window {
                    too_short.get_or_insert_with(|| system("netd has not run for long enough"));
                }
            }
            (Some(pid), _) => {
                self.netd = Some((now, pid));
                too_short.get_or_insert_with(|| system("netd has not run for long enough"));
            }
            (None, _) => {
                self.netd = None;
                waits_for.get_or_insert_with(|| system("netd does not run"));
            }
        }
        if self.needs_uplink && !seen.has_uplink {
            waits_for.get_or_insert_with(|| system("there is no way to the outside, which the release asks for"));
        }
        waits_for.or(too_short).map_or(Verdict::Healthy, Verdict::Wait)
    }
}

/// Why this instance will not become well by itself.
fn hopeless(health: &InstanceHealth) -> Option<String> {
    let last = || health.last_failure.as_ref().map_or_else(String::new, |failure| format!(": {failure}"));
    match health.state {
        InstanceState::Failed | InstanceState::Unhealthy | InstanceState::Stuck => {
            Some(format!("it is {}{}", health.state.name(), last()))
        }
        InstanceState::BackingOff | InstanceState::Running | InstanceState::Starting if STORM <= health.restarts => {
            Some(format!("it was started again {} times{}", health.restarts, last()))
        }
        InstanceState::Stopped
        | InstanceState::Waiting
        | InstanceState::Starting
        | InstanceState::Running
        | InstanceState::Ready
        | InstanceState::Stopping
        | InstanceState::BackingOff => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use yado_wire::names::AboutInstance;
    use yado_wire::names::clipped;
    use yado_wire::{InstanceId, InstanceName};

    fn instance(name: &str, state: InstanceState, ready_s: Option<u64>) -> InstanceHealth {
        InstanceHealth {
            instance: AboutInstance { id: InstanceId(1), name: InstanceName::parse(name).unwrap() },
            is_required: true,
            is_wanted: true,
            state,
            ready_ms: ready_s.map(|seconds| seconds * 1000),
            restarts: 0,
            unhealthy: 0,
            holds_update: false,
            fingerprint: None,
            last_failure: None,
        }
    }

    fn seen(instances: Vec<InstanceHealth>) -> Seen {
        let netd = ServiceStatus { name: clipped(NETD), pid: Some(7), restarts: 0 };
        Seen { instances, services: vec![netd], has_uplink: false }
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn waits(verdict: &Verdict) -> Option<String> {
        match verdict {
            Verdict::Wait(Unwell { instance, reason }) => {
                Some(format!("{}: {reason}", instance.as_ref().map_or("", |name| name.as_str())))
            }
            Verdict::Healthy | Verdict::Unhealthy(_) => None,
        }
    }

    #[test]
    fn all_that_are_required_must_have_been_ready_for_the_window() {
        let mut trial = Trial::new(s(10), false);
        let ready = |a, b| {
            let other = InstanceHealth { is_required: false, ..instance("other", InstanceState::Failed, None) };
            seen(vec![instance("a", InstanceState::Ready, a), instance("b", InstanceState::Ready, b), other])
        };
        let one =
            seen(vec![instance("a", InstanceState::Ready, Some(1)), instance("b", InstanceState::Starting, None)]);
        assert!(waits(&trial.judge(&one, s(0))).unwrap().starts_with("b: it is starting"));
        assert!(
            waits(&trial.judge(&ready(Some(12), Some(9)), s(12))).unwrap().starts_with("b: it has not been ready")
        );
        assert_eq!(trial.judge(&ready(Some(13), Some(10)), s(13)), Verdict::Healthy);
    }

    #[test]
    fn what_has_failed_or_is_started_again_and_again_is_the_end() {
        let table = [
            (InstanceState::Failed, 0, "failed"),
            (InstanceState::Unhealthy, 0, "unhealthy"),
            (InstanceState::Stuck, 0, "stuck"),
            (InstanceState::BackingOff, STORM, "5 times"),
        ];
        for (state, restarts, word) in table {
            let mut trial = Trial::new(s(10), false);
            let one = InstanceHealth { restarts, ..instance("a", state, None) };
            match trial.judge(&seen(vec![one]), s(0)) {
                Verdict::Unhealthy(Unwell { instance, reason }) => {
                    assert_eq!(instance, InstanceName::parse("a").ok());
                    assert!(reason.as_str().contains(word), "{reason}");
                }
                other => panic!("{state:?}: {other:?}"),
            }
        }
        let mut trial = Trial::new(s(10), false);
        let once = InstanceHealth { restarts: 1, ..instance("a", InstanceState::BackingOff, None) };
        assert!(waits(&trial.judge(&seen(vec![once]), s(0))).is_some());
    }

    #[test]
    fn netd_and_the_way_outside_count_too() {
        let mut trial = Trial::new(s(10), true);
        let none = Seen { services: Vec::new(), ..seen(Vec::new()) };
        assert_eq!(waits(&trial.judge(&none, s(0))).unwrap(), ": netd does not run");
        trial.judge(&seen(Vec::new()), s(5));
        assert!(waits(&trial.judge(&seen(Vec::new()), s(20))).unwrap().contains("outside"));
        assert_eq!(trial.judge(&Seen { has_uplink: true, ..seen(Vec::new()) }, s(21)), Verdict::Healthy);
    }
}
