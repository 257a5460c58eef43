//! How often a source may wake netd. What comes beyond waits in the kernel, or is lost there. Pure; the time is on the boot
//! clock.

use std::time::Duration;

/// So many events at once, and then one each interval.
#[derive(Debug, Clone)]
pub struct Budget {
    burst: u32,
    interval: Duration,
    /// When the budget is whole again.
    whole_at: Duration,
}

impl Budget {
    /// A budget that is whole.
    pub fn new(burst: u32, interval: Duration) -> Budget {
        Budget { burst, interval, whole_at: Duration::ZERO }
    }

    /// Takes `count` out of the budget. Returns how long to wait until there is something in it again.
    pub fn spend(&mut self, count: u32, now: Duration) -> Duration {
        self.whole_at = self.whole_at.max(now) + self.interval.saturating_mul(count);
        self.whole_at.saturating_sub(now).saturating_sub(self.interval.saturating_mul(self.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_allows_a_burst_and_then_one_each_interval() {
        let second = Duration::from_secs(1);
        let mut budget = Budget::new(3, second);
        let start = Duration::from_secs(100);
        assert_eq!([1, 1, 1].map(|count| budget.spend(count, start)), [Duration::ZERO; 3]);
        assert_eq!(budget.spend(1, start), second);
        assert_eq!(budget.spend(1, start + second), second);
        // Four are owed still; after two seconds two are.
        assert_eq!(budget.spend(1, start + 4 * second), Duration::ZERO);
        assert_eq!(budget.spend(2, start + 100 * second), Duration::ZERO, "whole again");
    }
}
