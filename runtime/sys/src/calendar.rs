//! The calendar: the system's idea of the date. In 64 bits, since 2038 is inside a device's life. What must not jump is
//! measured by [`crate::clock`].

use rustix::time::{ClockId, Timespec};
use std::io;

/// Seconds since 1970.
pub fn now_s() -> i64 {
    rustix::time::clock_gettime(ClockId::Realtime).tv_sec
}

/// Sets the system's clock.
pub fn set_s(seconds: i64) -> io::Result<()> {
    Ok(rustix::time::clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: 0 })?)
}
