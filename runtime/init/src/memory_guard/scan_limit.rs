//! How much the child reads at most, for all instances together: they are frozen meanwhile.

use std::time::{Duration, Instant};

/// As many threads, lines of tables and different files are looked at. Who has more has them to hide something.
const MAX_LOOKS: u32 = 100_000;

/// And for so long: less than the child is given.
const MAX_TIME: Duration = Duration::from_secs(3);

/// What is left of both.
#[derive(Debug)]
pub(super) struct Looks {
    left: u32,
    until: Instant,
}

impl Looks {
    /// All of it.
    pub(super) fn new() -> Looks {
        let now = Instant::now();
        Looks { left: MAX_LOOKS, until: now.checked_add(MAX_TIME).unwrap_or(now) }
    }

    /// Whether nothing is looked at any more because of one who took so many steps: at least half of what all may. That time
    /// is over, on a slow and busy machine, says nothing of an instance with less.
    pub(super) fn is_spent_on(&self, steps: u64) -> bool {
        self.left == 0 && u64::from(MAX_LOOKS / 2) <= steps
    }

    /// One step in a look that was taken, if there is time for it. It is counted in `steps`.
    pub(super) fn step(&mut self, steps: &mut u64) -> bool {
        *steps = steps.saturating_add(1);
        if self.until <= Instant::now() {
            self.left = 0;
        }
        self.left != 0
    }

    /// One more look.
    pub(super) fn take(&mut self, steps: &mut u64) -> bool {
        let may_look = self.step(steps);
        self.left = self.left.saturating_sub(1);
        may_look
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_bounded_for_all_together_by_number_and_by_time() {
        let (mut one, mut other) = (0, 0);
        let mut looks = Looks::new();
        // Nobody waits for as long as that takes.
        looks.until += Duration::from_secs(600);
        for _ in 0..MAX_LOOKS - 1 {
            assert!(looks.take(&mut one) && looks.step(&mut one));
        }
        assert!(!looks.is_spent_on(one) && looks.take(&mut other));
        assert!(looks.is_spent_on(one) && !looks.is_spent_on(other));
        assert!(!looks.take(&mut other) && !looks.step(&mut other));
        assert_eq!((one, other), (u64::from(MAX_LOOKS - 1) * 2, 3));

        let mut looks = Looks { left: 7, until: Instant::now() };
        let few = u64::from(MAX_LOOKS / 2 - 1);
        assert!(!looks.step(&mut one) && looks.is_spent_on(one) && !looks.is_spent_on(few));
    }
}
