//! The clock of all deadlines and tables of this process: time since the boot.

use std::time::Duration;

/// Time since the kernel started, as [`yado_sys::clock::since_boot`] reads it.
pub(crate) type Moment = Duration;

/// Whole milliseconds of a duration.
pub(crate) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// When sources that are looked at once a `round` are looked at next: at the same time for all of them, so that ten that
/// never stop wake us as often as one.
pub(crate) fn next_round(now: Moment, round: Duration) -> Moment {
    // In 64 bits, which are enough for centuries: PID 1 has no other use for a division of 128 bits.
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let gone = nanos(now).checked_rem(nanos(round)).unwrap_or(0);
    now.saturating_sub(Duration::from_nanos(gone)).saturating_add(round)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_a_round_waits_for_the_same_one_and_never_longer_than_it_is() {
        let round = Duration::from_millis(200);
        for (now_ms, next_ms) in [(0, 200), (1, 200), (199, 200), (200, 400), (86_400_123, 86_400_200)] {
            assert_eq!(next_round(Moment::from_millis(now_ms), round), Moment::from_millis(next_ms), "{now_ms}");
        }
        assert_eq!(next_round(Moment::from_millis(5), Duration::ZERO), Moment::from_millis(5));
        assert_eq!(next_round(Moment::MAX, round), Moment::MAX);
    }
}
