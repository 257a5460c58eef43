//! The time namespace of an instance with `security.time_namespace`: time_namespaces(7).

use crate::report::at;
use rustix::time::{ClockId, clock_gettime};
use yado_sys::clone::{self, Namespaces};
use yado_wire::{Failure, Step};

/// Makes the clocks since boot of our next child begin at zero, to within a second. Our own clocks do not change.
pub(crate) fn begin_anew() -> Result<(), Failure> {
    clone::unshare(Namespaces::NEWTIME).map_err(at(Step::Namespaces, "time"))?;
    // Whole seconds: a clock may not become negative.
    let seconds = |clock| clock_gettime(clock).tv_sec;
    let offsets =
        format!("monotonic -{} 0\nboottime -{} 0\n", seconds(ClockId::Monotonic), seconds(ClockId::Boottime));
    std::fs::write("/proc/self/timens_offsets", offsets).map_err(at(Step::Namespaces, "timens_offsets"))
}
