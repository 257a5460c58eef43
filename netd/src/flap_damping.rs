//! Flap damping: a port of an instance whose carrier changes too often is left down for a while. Pure; the time is on the boot
//! clock.

use crate::link::observed::Link;
use std::collections::BTreeMap;
use std::time::Duration;
use yado_wire::Budget;

/// The ports that are down on purpose, by the name of the host's end.
#[derive(Debug, Default)]
pub struct FlapDamping {
    until: BTreeMap<String, Duration>,
    carriers: BTreeMap<u32, Carrier>,
}

/// How often the carrier of a port came and went.
#[derive(Debug)]
struct Carrier {
    changes: u32,
    budget: Budget,
    holds: u32,
}

/// Changes of the carrier at once, and the pause between those that follow: a container that starts has two or four.
const CHANGES: u32 = 40;
const CHANGE_PAUSE: Duration = Duration::from_secs(3);
/// How long a port is left down whose carrier changed more often, for the first time, and at most.
const FIRST_HOLD: Duration = Duration::from_secs(30);
const MAX_HOLD: Duration = Duration::from_secs(480);

impl FlapDamping {
    /// Leaves a port down until this time.
    pub fn hold(&mut self, port: &str, until: Duration) {
        self.until.insert(port.to_owned(), until);
    }

    /// Looks at the ports of instances. Returns those that are held from now on, and how long.
    pub fn look<'a>(&mut self, ports: impl Iterator<Item = &'a Link>, now: Duration) -> Vec<(String, Duration)> {
        let mut flapping = Vec::new();
        let mut carriers = std::mem::take(&mut self.carriers);
        for port in ports {
            // A link that is made anew has another index.
            let mut carrier = carriers.remove(&port.index).unwrap_or_else(|| Carrier {
                changes: port.carrier_changes,
                budget: Budget::each(CHANGES, CHANGE_PAUSE),
                holds: 0,
            });
            let changes = port.carrier_changes.wrapping_sub(carrier.changes);
            carrier.changes = port.carrier_changes;
            if !carrier.budget.spend(changes, now).is_zero() && !self.until.contains_key(&port.name) {
                let pause = FIRST_HOLD.saturating_mul(1 << carrier.holds.min(4)).min(MAX_HOLD);
                carrier.holds = carrier.holds.saturating_add(1);
                // What it owes is paid by the time it is down, and its going down and up is our own doing.
                carrier.budget = Budget::each(CHANGES, CHANGE_PAUSE);
                self.hold(&port.name, now + pause);
                flapping.push((port.name.clone(), pause));
            }
            self.carriers.insert(port.index, carrier);
        }
        flapping
    }

    /// Lets those up whose time is over.
    pub fn release(&mut self, now: Duration) {
        self.until.retain(|_, until| now < *until);
    }

    /// The port is made anew, for another run of its instance.
    pub fn forget(&mut self, port: &str) {
        self.until.remove(port);
    }

    /// When the next one is let up.
    pub fn deadline(&self) -> Option<Duration> {
        self.until.values().min().copied()
    }

    /// Until when a port is left down.
    pub fn of(&self, port: &str) -> Option<Duration> {
        self.until.get(port).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::observed::LinkKind;

    fn port(index: u32, carrier_changes: u32) -> Link {
        Link { carrier_changes, ..Link::example(index, "veth1", LinkKind::Veth) }
    }

    #[test]
    fn a_port_that_flaps_is_down_ever_longer_and_one_that_starts_is_not() {
        let mut held = FlapDamping::default();
        let mut now = Duration::from_secs(100);
        let look = |held: &mut FlapDamping, port: Link, now| held.look([port].iter(), now);
        assert_eq!(look(&mut held, port(5, 2), now), []);
        assert_eq!(look(&mut held, port(5, 20), now), []);
        let mut changes = 20;
        for seconds in [30, 60, 120, 240, 480, 480] {
            changes += CHANGES + 1;
            assert_eq!(look(&mut held, port(5, changes), now), [("veth1".to_owned(), Duration::from_secs(seconds))]);
            assert_eq!(held.deadline(), Some(now + Duration::from_secs(seconds)));
            assert_eq!(look(&mut held, port(5, changes + 2), now), [], "once");
            now += Duration::from_secs(seconds);
            held.release(now);
            assert_eq!(held.of("veth1"), None);
            changes += 2;
        }
        // Another run of the instance has another link of the same name.
        assert_eq!(look(&mut held, port(5, changes + CHANGES + 1), now).len(), 1);
        held.forget("veth1");
        assert_eq!(look(&mut held, port(6, 3), now), []);
        assert_eq!(held.of("veth1"), None);
    }
}
