//! Whether what is on trial is well: each instance that is wanted must have been ready for the policy's window, without having been
//! started again meanwhile, and netd must run. Pure: what init says and the time in, a verdict out.

use crate::record::{Line, Unwell};
use std::collections::BTreeMap;
use std::time::Duration;
use yado_wire::InstanceName;
use yado_wire::rescue::{InstanceState, InstanceStatus, ServiceStatus};

/// So many starts of one instance during a trial are a storm: it never becomes well in time by itself.
const STORM: u32 = 5;

/// netd, as init calls it.
const NETD: &str = "netd";

/// What init said at one time.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// All instances.
    pub(crate) instances: Vec<InstanceStatus>,
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
    /// Since when each instance has been ready, and how often it had been started again then.
    ready: BTreeMap<InstanceName, (Duration, u32)>,
    /// Since when netd runs, with this process.
    netd: Option<(Duration, i32)>,
}

impl Trial {
    /// Nothing was seen yet.
    pub(crate) fn new(window: Duration, needs_uplink: bool) -> Trial {
        Trial { window, needs_uplink, ready: BTreeMap::new(), netd: None }
    }

    /// What is to be thought now.
    pub(crate) fn judge(&mut self, seen: &Seen, now: Duration) -> Verdict {
        let wanted = seen.instances.iter().filter(|status| status.state != InstanceState::Stopped);
        // What is not well yet is worth more to tell than what has not been for long.
        let (mut waits_for, mut too_short) = (None, None);
        for status in wanted {
            let unwell = |reason: String| Unwell { instance: Some(status.name.clone()), reason: Line::cut(&reason) };
            if let Some(reason) = hopeless(status) {
                return Verdict::Unhealthy(unwell(reason));
            }
            if status.state != InstanceState::Ready {
                self.ready.remove(&status.name);
                waits_for.get_or_insert_with(|| unwell(format!("it is {}, not ready", status.state.name())));
                continue;
            }
            let (since, restarts) = self.ready.entry(status.name.clone()).or_insert((now, status.restarts));
            if *restarts != status.restarts {
                (*since, *restarts) = (now, status.restarts);
            }
            if now.saturating_sub(*since) < self.window {
                too_short.get_or_insert_with(|| unwell("it has not been ready for long enough".to_owned()));
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
fn hopeless(status: &InstanceStatus) -> Option<String> {
    let last = || status.last_failure.as_ref().map_or_else(String::new, |failure| format!(": {failure}"));
    match status.state {
        InstanceState::Failed | InstanceState::Unhealthy | InstanceState::Stuck => {
            Some(format!("it is {}{}", status.state.name(), last()))
        }
        InstanceState::BackingOff | InstanceState::Running | InstanceState::Starting if STORM <= status.restarts => {
            Some(format!("it was started again {} times{}", status.restarts, last()))
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
    use yado_wire::InstanceId;
    use yado_wire::names::clipped;

    fn instance(name: &str, state: InstanceState, restarts: u32) -> InstanceStatus {
        InstanceStatus {
            id: InstanceId(1),
            name: InstanceName::parse(name).unwrap(),
            state,
            pid: None,
            fingerprint: None,
            uptime_ms: None,
            restarts,
            start_us: None,
            memory_bytes: None,
            memory_limit_bytes: None,
            processes: None,
            oom_kills: 0,
            last_failure: None,
            waits_for_restart: false,
            refused: None,
        }
    }

    fn seen(instances: Vec<InstanceStatus>) -> Seen {
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
    fn all_must_be_ready_for_the_window_and_none_is_looked_at_that_nobody_wants() {
        let mut trial = Trial::new(s(10), false);
        let ready = || {
            seen(vec![
                instance("a", InstanceState::Ready, 0),
                instance("b", InstanceState::Ready, 0),
                instance("off", InstanceState::Stopped, 0),
            ])
        };
        let one = seen(vec![instance("a", InstanceState::Ready, 0), instance("b", InstanceState::Starting, 0)]);
        assert!(waits(&trial.judge(&one, s(0))).unwrap().starts_with("b: it is starting"));
        assert!(waits(&trial.judge(&ready(), s(5))).is_some());
        assert!(waits(&trial.judge(&ready(), s(12))).unwrap().starts_with("b: it has not been ready for long"));
        assert_eq!(trial.judge(&ready(), s(15)), Verdict::Healthy);
    }

    #[test]
    fn who_was_started_again_or_was_not_ready_meanwhile_begins_anew() {
        let mut trial = Trial::new(s(10), false);
        let one = |state, restarts| seen(vec![instance("a", state, restarts)]);
        trial.judge(&one(InstanceState::Ready, 0), s(0));
        assert!(waits(&trial.judge(&one(InstanceState::Ready, 1), s(20))).is_some());
        trial.judge(&one(InstanceState::Running, 1), s(25));
        assert!(waits(&trial.judge(&one(InstanceState::Ready, 1), s(31))).is_some());
        assert_eq!(trial.judge(&one(InstanceState::Ready, 1), s(41)), Verdict::Healthy);
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
            match trial.judge(&seen(vec![instance("a", state, restarts)]), s(0)) {
                Verdict::Unhealthy(Unwell { instance, reason }) => {
                    assert_eq!(instance, InstanceName::parse("a").ok());
                    assert!(reason.as_str().contains(word), "{reason}");
                }
                other => panic!("{state:?}: {other:?}"),
            }
        }
        let mut trial = Trial::new(s(10), false);
        assert!(waits(&trial.judge(&seen(vec![instance("a", InstanceState::BackingOff, 1)]), s(0))).is_some());
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
