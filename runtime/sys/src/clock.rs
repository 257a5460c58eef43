//! The clock that leases, restarts and reports are measured by.

use rustix::time::ClockId;
use std::time::Duration;

/// Time since the kernel started, suspended time included (`CLOCK_BOOTTIME`): never set, never turned back, and the same
/// for every process, so it can be written down for a successor.
pub fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Boottime);
    // Neither is ever negative on this clock.
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_does_not_go_back() {
        let first = super::since_boot();
        assert!(first <= super::since_boot());
        assert!(!first.is_zero());
    }
}
