//! Ports of instances that are left down for a while. Pure; the time is on the boot clock.

use std::collections::BTreeMap;
use std::time::Duration;

/// The ports that are down on purpose, by the name of the host's end.
#[derive(Debug, Default)]
pub struct HeldPorts {
    until: BTreeMap<String, (Duration, Reason)>,
}

/// Why a port is left down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its network has another address: who is behind it sees that the carrier went, and asks for a new lease.
    Moved,
}

impl HeldPorts {
    /// Leaves a port down for `pause`.
    pub fn hold(&mut self, port: &str, reason: Reason, until: Duration) {
        self.until.insert(port.to_owned(), (until, reason));
    }

    /// Lets those up whose time is over.
    pub fn release(&mut self, now: Duration) {
        self.until.retain(|_, (until, _)| now < *until);
    }

    /// When the next one is let up.
    pub fn deadline(&self) -> Option<Duration> {
        self.until.values().map(|(until, _)| *until).min()
    }

    /// Until when and why a port is left down.
    pub fn of(&self, port: &str) -> Option<(Duration, Reason)> {
        self.until.get(port).copied()
    }
}
