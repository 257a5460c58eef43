//! The board's watchdog: it resets the machine if PID 1 stops feeding it.

use crate::boot_clock::Moment;
use crate::log::{Log, Priority};
use std::path::Path;
use std::time::Duration;
use yado_sys::watchdog::{Timeout, Watchdog};

/// The watchdog resets a machine whose PID 1 is not heard of for so long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A watchdog that resets the machine unless it is fed.
#[derive(Debug)]
pub(crate) struct HardwareWatchdog {
    device: Watchdog,
    fed_at: Moment,
}

impl HardwareWatchdog {
    /// A board with a watchdog has it armed. Without one there is nothing to say.
    pub(crate) fn arm(log: &mut Log) -> Option<HardwareWatchdog> {
        let path = Path::new("/dev/watchdog");
        if !path.exists() {
            return None;
        }
        match Watchdog::arm(path, TIMEOUT) {
            Ok(device) => {
                match device.timeout() {
                    Timeout::Known(timeout) => {
                        log.say(Priority::Info, format_args!("watchdog: {} s", timeout.as_secs()));
                    }
                    Timeout::Assumed => log.say(
                        Priority::Warning,
                        format_args!("watchdog: its timeout is unknown: it is fed every second"),
                    ),
                }
                Some(HardwareWatchdog { device, fed_at: Moment::ZERO })
            }
            Err(error) => {
                log.say(Priority::Warning, format_args!("open {}: {error}", path.display()));
                None
            }
        }
    }

    /// Whether it has reset the machine last.
    pub(crate) fn did_reset(&self) -> bool {
        self.device.did_reset()
    }

    /// When it is fed next.
    pub(crate) fn next_feed(&self) -> Moment {
        // Three chances before it bites.
        self.fed_at.saturating_add(self.device.feeding_pause())
    }

    /// Feeds it when it is time.
    pub(crate) fn feed_when_due(&mut self, log: &mut Log, now: Moment) {
        if self.next_feed() <= now {
            self.feed(log, now);
        }
    }

    /// Feeds it.
    pub(crate) fn feed(&mut self, log: &mut Log, now: Moment) {
        self.fed_at = now;
        if let Err(error) = self.device.feed() {
            log.say(Priority::Error, format_args!("feed the watchdog: {error}"));
        }
    }
}
