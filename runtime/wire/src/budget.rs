//! How often one source may be looked at, and how much of it: a bucket that empties with what is read and fills with time.
//! Whoever feeds a source decides what comes, but not what it costs us: over its budget it is not even polled, and its writers
//! wait. Pure: the time is an argument.

use std::time::Duration;

/// The budget of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// How long one unit takes to come back.
    refill: Duration,
    /// What may be spent at once, as the time that it takes to come back.
    burst: Duration,
    /// When all that was spent has come back.
    full_at: Duration,
    /// The source is not looked at before.
    look_at: Duration,
}

impl Budget {
    /// So many units a second, and at first so many at once. What a unit is, the source says.
    pub const fn per_second(units_per_second: u32, burst_units: u32) -> Budget {
        let second: u64 = 1_000_000_000;
        // Of none a second, none comes back.
        let interval = match second.checked_div(units_per_second as u64) {
            Some(nanoseconds) => Duration::from_nanos(nanoseconds),
            None => Duration::MAX,
        };
        Budget::each(burst_units, interval)
    }

    /// So many units at once, and then one each interval.
    pub const fn each(burst_units: u32, interval: Duration) -> Budget {
        let burst = interval.saturating_mul(burst_units);
        Budget { refill: interval, burst, full_at: Duration::ZERO, look_at: Duration::ZERO }
    }

    /// Units were used. More than there are may be used once: the time to come back is then the longer. Returns for how long
    /// the source is not looked at.
    pub fn spend(&mut self, units: u32, now: Duration) -> Duration {
        self.full_at = self.full_at.max(now).saturating_add(self.refill.saturating_mul(units));
        self.pause_until(self.full_at.saturating_sub(self.burst));
        self.look_at.saturating_sub(now)
    }

    /// The source is not looked at before this time.
    pub fn pause_until(&mut self, at: Duration) {
        self.look_at = self.look_at.max(at);
    }

    /// When the source is looked at again; `None`: it may be looked at now.
    pub fn paused(&self, now: Duration) -> Option<Duration> {
        (now < self.look_at).then_some(self.look_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Units that a source gets through which always has more, in looks of `units` each.
    fn spent_until(end: Duration, budget: &mut Budget, units: u32) -> u32 {
        let (mut now, mut spent) = (ms(1000), 0);
        while now < end {
            match budget.paused(now) {
                Some(at) => now = at,
                None => {
                    budget.spend(units, now);
                    spent += units;
                }
            }
        }
        spent
    }

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate_whatever_the_size_of_a_look() {
        for units in [1, 7, 100] {
            let mut budget = Budget::per_second(50, 200);
            let spent = spent_until(ms(11_000), &mut budget, units);
            // Ten seconds: 200 + 500, and the last look may go beyond.
            assert!((700..=700 + 2 * units).contains(&spent), "{units}: {spent}");
        }
    }

    #[test]
    fn a_quiet_source_has_its_burst_again_and_no_more() {
        let mut budget = Budget::per_second(10, 20);
        budget.spend(20, ms(0));
        assert_eq!(budget.paused(ms(0)), None);
        budget.spend(1, ms(0));
        assert_eq!(budget.paused(ms(0)), Some(ms(100)));
        assert_eq!(budget.paused(ms(100)), None);
        budget.spend(20, ms(1_000_000));
        assert_eq!(budget.paused(ms(1_000_000)), None);
        budget.spend(1, ms(1_000_000));
        assert_eq!(budget.paused(ms(1_000_000)), Some(ms(1_000_100)));
    }

    #[test]
    fn a_pause_is_kept_though_there_is_budget() {
        let mut budget = Budget::per_second(10, 20);
        budget.pause_until(ms(500));
        budget.pause_until(ms(300));
        budget.spend(1, ms(1));
        assert_eq!((budget.paused(ms(499)), budget.paused(ms(500))), (Some(ms(500)), None));
    }

    #[test]
    fn a_budget_allows_a_burst_and_then_one_each_interval() {
        let second = Duration::from_secs(1);
        let mut budget = Budget::each(3, second);
        let start = Duration::from_secs(100);
        assert_eq!([1, 1, 1].map(|count| budget.spend(count, start)), [Duration::ZERO; 3]);
        assert_eq!(budget.spend(1, start), second);
        assert_eq!(budget.spend(1, start + second), second);
        // Four are owed still; after two seconds two are.
        assert_eq!(budget.spend(1, start + 4 * second), Duration::ZERO);
        assert_eq!(budget.spend(2, start + 100 * second), Duration::ZERO, "whole again");
    }
}
