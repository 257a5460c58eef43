//! How often it is tried again, and how long after. A pause is drawn from a span, so that a thousand boards whose server was away do not
//! come back at one moment. Pure: chance comes as a number.

use super::Limits;
use std::time::Duration;

/// Attempts at one range.
#[derive(Debug)]
pub(crate) struct Attempts {
    in_vain_at_most: u32,
    first_pause: Duration,
    chance: u64,
    in_vain: u32,
    made: u32,
}

/// An attempt that brought less was in vain: who sends a byte and hangs up does not keep us.
const ENOUGH_BYTES: u64 = 64 << 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

impl Attempts {
    pub(crate) fn new(limits: &Limits, chance: u64) -> Attempts {
        let (in_vain_at_most, first_pause) = (limits.attempts, limits.first_pause);
        // Zero stays zero in the generator below.
        Attempts { in_vain_at_most, first_pause, chance: chance | 1, in_vain: 0, made: 0 }
    }

    /// The next are attempts at another range.
    pub(crate) fn begin(&mut self) {
        (self.in_vain, self.made) = (0, 0);
    }

    /// How many there were.
    pub(crate) fn made(&self) -> u32 {
        self.made
    }

    /// How long to wait after an attempt that brought so many bytes, `at_least` if the server said so. `None`: it was the last one.
    pub(crate) fn pause(&mut self, brought_bytes: u64, at_least: Option<Duration>) -> Option<Duration> {
        self.made = self.made.saturating_add(1);
        self.in_vain = if ENOUGH_BYTES <= brought_bytes { 1 } else { self.in_vain.saturating_add(1) };
        if self.in_vain_at_most <= self.in_vain {
            return None;
        }
        let doubled = self.first_pause.saturating_mul(1 << (self.in_vain - 1).min(16)).min(LONGEST_PAUSE);
        // From half of it to one and a half.
        let jitter = doubled.saturating_mul(self.next_chance() % 1024) / 1024;
        Some((doubled / 2).saturating_add(jitter).max(at_least.unwrap_or_default()))
    }

    /// xorshift64: enough to spread boards.
    fn next_chance(&mut self) -> u32 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn attempts(chance: u64) -> Attempts {
        Attempts::new(&Limits { attempts: 5, first_pause: Duration::from_secs(2), ..Limits::default() }, chance)
    }

    #[test]
    fn pauses_double_and_differ_and_end() {
        for chance in [0, 1, 77, u64::MAX] {
            let mut attempts = attempts(chance);
            for seconds in [2, 4, 8, 16] {
                let pause = attempts.pause(0, None).unwrap();
                let span = Duration::from_secs(seconds) / 2..=Duration::from_secs(seconds) * 3 / 2;
                assert!(span.contains(&pause), "{pause:?} of {span:?}");
            }
            assert_eq!(attempts.pause(0, None), None);
            attempts.begin();
            assert!(attempts.pause(0, None).is_some());
        }
        assert_ne!(attempts(1).pause(0, None), attempts(0x1234_5678_9abc).pause(0, None));
    }

    #[test]
    fn who_brings_enough_is_asked_again_and_who_brings_a_byte_is_not() {
        let mut patient = attempts(1);
        assert!((0..100).all(|_| patient.pause(ENOUGH_BYTES, None).is_some_and(|pause| pause.as_secs() < 4)));
        let mut other = attempts(1);
        assert_eq!((0..100).filter(|_| other.pause(1, None).is_some()).count(), 4);
    }

    #[test]
    fn a_server_that_wants_more_time_gets_it() {
        assert_eq!(attempts(1).pause(0, Some(Duration::from_secs(60))), Some(Duration::from_secs(60)));
    }
}
