//! When the board looks for a new release by itself: at a random moment soon after a boot, since fleets must not all ask at once, and
//! from then on about every `check.interval` of `update.toml`. Nobody waits for it: the moment is kept in the run directory, the process
//! ends, and init starts another. All goes by the time since the boot, which no clock's jump changes.

use super::{Driver, Next, check, requests, sticks};
use crate::exit_codes::DONE;
use crate::machine::Event;
use crate::places::Places;
use crate::record::{Line, Phase};
use crate::run_file::RunFile;
use std::fs;
use std::time::Duration;
use yado_sys::{clock, random};

/// The first check after a boot is made within this time, or within the interval if that is shorter.
const FIRST_WITHIN: Duration = Duration::from_secs(300);

/// In the updater's run directory: when the next check is due, in seconds since the boot.
const FILE: RunFile = RunFile { name: "next-check", mode: 0o644, max_bytes: RunFile::TIME_BYTES };

/// What the timer says. Times are since the boot, in whole seconds as they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// A check is due. After it, whatever it finds, the next one is at this time.
    Due { next: Duration },
    /// The next check is at this time.
    Wait { next: Duration },
}

/// `kept` is the time that was named before; `chance` is any number, each as likely as the others.
fn plan(interval: Duration, kept: Option<Duration>, now: Duration, chance: u32) -> Plan {
    let tenth = interval / 10;
    let after = |pause: Duration| Duration::from_secs(now.saturating_add(pause).as_secs());
    match kept {
        Some(next) if next <= now => Plan::Due { next: after(interval - tenth + share(2 * tenth, chance)) },
        Some(next) if next <= now.saturating_add(interval + tenth) => Plan::Wait { next },
        // It was meant for a longer interval, or is of another boot.
        Some(_) | None => Plan::Wait { next: after(share(interval.min(FIRST_WITHIN), chance)) },
    }
}

/// The part of `time` that `chance` is of all numbers.
fn share(time: Duration, chance: u32) -> Duration {
    let millis = (time.as_millis() * u128::from(chance)) >> u32::BITS;
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// When the next check is due, if that is known.
pub(crate) fn next_check(places: &Places) -> Option<Duration> {
    FILE.read_time(places)
}

impl Driver {
    /// There is nothing to do. A stick is looked at, and if that leads to nothing a check that is due is made, but by a process that has
    /// done nothing else: what it says is the check's.
    pub(super) fn rest(&mut self) -> Next {
        let found = match self.has_worked {
            true => None,
            // Sticks that come and go do not keep the check from being made.
            false => self.look_at_sticks().or_else(|| self.check_if_due()),
        };
        if let Some(source) = found {
            return Next::Event(Event::Asked { source });
        }
        self.keep_timer();
        // One came while something else went on, or too soon after another.
        if let Some(pause) = self.next_look_at_sticks().filter(|pause| self.has_worked || !pause.is_zero()) {
            let due = self.timer().and_then(|_| next_check(&self.places));
            self.start_again_in(due.map_or(pause, |due| pause.min(due.saturating_sub(clock::since_boot()))));
        }
        Next::End
    }

    /// Tells init when the next check is due, if the board makes any: whatever becomes of this process, somebody comes back for it. What
    /// has to be done earlier is told later, and counts instead.
    pub(super) fn keep_timer(&self) {
        let Some((interval, _)) = self.timer() else { return };
        let (now, kept) = (clock::since_boot(), next_check(&self.places));
        let next = match plan(interval, kept, now, chance()) {
            Plan::Due { .. } if self.state.record.phase == Phase::Idle => now,
            // Whoever goes on with the update comes to it.
            Plan::Due { next } => next,
            Plan::Wait { next } => {
                if kept != Some(next) {
                    self.keep_next_check(next);
                }
                next
            }
        };
        self.start_again_in(next.saturating_sub(now));
    }

    /// The source, if the check was due, has found something that may be installed, and the policy wants that.
    fn check_if_due(&mut self) -> Option<Line> {
        let (interval, source) = self.timer().filter(|_| self.state.record.phase == Phase::Idle)?;
        let Plan::Due { next } = plan(interval, next_check(&self.places), clock::since_boot(), chance()) else {
            return None;
        };
        // Before it is made: whatever becomes of it, the source is not asked again before.
        if !self.keep_next_check(next) {
            return None;
        }
        let found = self.check(&source);
        if found == Err(check::already()) {
            self.exit = DONE;
        }
        let is_taken = found.is_ok() && self.policy.is_automatic;
        if is_taken {
            sticks::choose_any(&self.places);
        }
        is_taken.then_some(source)
    }

    /// How often who is asked, if the policy says both.
    fn timer(&self) -> Option<(Duration, Line)> {
        let (interval, source) = (self.policy.check_interval?, self.policy.source.as_deref()?);
        let source = requests::source(source).map_err(|error| eprintln!("{error}")).ok()?;
        Some((interval, source))
    }

    /// False: it could not be kept. The next process then takes it for the first of this boot.
    fn keep_next_check(&self, next: Duration) -> bool {
        match FILE.write_time(&self.places, next) {
            Ok(()) => true,
            Err(error) => {
                let path = FILE.path(&self.places);
                eprintln!("{}: {error}", path.display());
                let _ = fs::remove_file(&path);
                false
            }
        }
    }
}

fn chance() -> u32 {
    // Without the kernel's random numbers, when the process came so far is one.
    random::random_bytes().map_or_else(|_| clock::since_boot().subsec_nanos() << 2, u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const HOUR: Duration = s(3600);
    const MIDDLE: u32 = 1 << 31;

    #[test]
    fn a_check_is_due_at_its_time_and_the_next_one_an_interval_later_more_or_less() {
        let due = |next| Plan::Due { next: s(next) };
        let wait = |next| Plan::Wait { next: s(next) };
        let cases = [
            // The first after a boot: within five minutes, or the interval.
            (HOUR, None, 20, 0, wait(20)),
            (HOUR, None, 20, MIDDLE, wait(170)),
            (HOUR, None, 20, u32::MAX, wait(319)),
            (s(60), None, 20, u32::MAX, wait(79)),
            (s(30 * 86_400), None, 20, u32::MAX, wait(319)),
            // What was named stays, whoever starts in between, and whatever chance says.
            (HOUR, Some(170), 20, 0, wait(170)),
            (HOUR, Some(170), 169, u32::MAX, wait(170)),
            (HOUR, Some(4130), 170, 7, wait(4130)),
            // Its time has come, now or long ago.
            (HOUR, Some(170), 170, MIDDLE, due(3770)),
            (HOUR, Some(170), 170, 0, due(3410)),
            (HOUR, Some(170), 170, u32::MAX, due(4129)),
            (HOUR, Some(170), 86_400, MIDDLE, due(90_000)),
            (HOUR, Some(0), 0, MIDDLE, due(3600)),
            (s(30 * 86_400), Some(170), 170, u32::MAX, due(170 + 33 * 86_400 - 1)),
            // Of a longer interval, or of another boot of a machine that keeps the file.
            (HOUR, Some(20 + 3960), 20, 0, wait(20 + 3960)),
            (HOUR, Some(20 + 3961), 20, MIDDLE, wait(170)),
            (HOUR, Some(u64::MAX), 20, 0, wait(20)),
            (s(60), Some(3600), 20, u32::MAX, wait(79)),
        ];
        for (interval, kept, now, chance, expected) in cases {
            assert_eq!(plan(interval, kept.map(s), s(now), chance), expected, "{interval:?} {kept:?} {now} {chance}");
        }
        assert_eq!(plan(HOUR, Some(s(9)), Duration::MAX, 7), due(u64::MAX), "nothing wraps");
    }

    #[test]
    fn checks_of_many_boards_are_spread_and_each_comes_in_its_time() {
        let chances = || (0..1000).map(|number: u32| number * (u32::MAX / 1000));
        let mut firsts = std::collections::BTreeSet::new();
        for chance in chances() {
            let Plan::Wait { next } = plan(HOUR, None, s(10), chance) else { panic!("{chance}") };
            assert!((s(10)..s(310)).contains(&next), "{next:?}");
            firsts.insert(next);
            // A day of it: neither early nor late by more than a tenth.
            let (mut now, mut checks) = (next, 0);
            while now < s(86_400) {
                let Plan::Due { next } = plan(HOUR, Some(now), now, chance) else { panic!("{chance}") };
                assert!((now + s(3239)..=now + s(3960)).contains(&next), "{now:?} {next:?}");
                (now, checks) = (next, checks + 1);
            }
            assert!((22..=27).contains(&checks), "{checks}");
        }
        assert_eq!(firsts.len(), 300);
    }
}
