//! When the guard measures the machine's memory, and what follows, as one table. Pure: the current time is an argument.

use super::shortage::Memory;
use crate::boot_clock::Moment;
use std::time::Duration;

/// While memory might be getting short it is looked at this often: a fast machine hands out an eighth of a small memory in
/// some tenths of a second.
const ROUND: Duration = Duration::from_millis(100);

/// So long after the kernel last said that somebody waits for memory. It says so again after half a second.
const WATCHED: Duration = Duration::from_secs(1);

/// The child takes a tenth of a second, or a second or two where somebody has all the sockets that he can have. It looks at
/// nothing more after three.
const WEIGHING_LIMIT: Duration = Duration::from_secs(4);

/// What was ended gives its memory back within this, mostly; if not, it is found again, and no harm is done.
const PAUSE: Duration = Duration::from_millis(500);

/// Doubled each time that nobody is found, up to the longest: instances stand still while it is looked.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// Where the guard is. `misses`: how often in a row nobody was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// The kernel will say when memory is short.
    #[default]
    Resting,
    /// It said so, and memory is looked at.
    Watching { look_at: Moment, until: Moment, misses: u32 },
    /// All instances are frozen, and the child is at work.
    Weighing { until: Moment, misses: u32 },
    /// The child is at its end.
    Judging { misses: u32 },
    /// Something was done, or nothing can be.
    Pausing { until: Moment, misses: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Time passed.
    Wake,
    /// The kernel says that somebody waits for memory.
    Pressure,
    /// Memory was looked at.
    Looked(Memory),
    /// The child has ended, or there is none.
    WeigherEnded,
    /// An instance was found and ended.
    Found,
    /// None was.
    FoundNobody,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing.
    None,
    /// Freeze all instances and start the child.
    Weigh,
    /// End the child, the instance that holds most by what the child said, and the freeze; say which it was.
    Judge,
}

impl State {
    /// When something is to be done though nothing happens.
    pub(super) fn deadline(self) -> Option<Moment> {
        match self {
            State::Resting | State::Judging { .. } => None,
            State::Watching { look_at, .. } => Some(look_at),
            State::Weighing { until, .. } | State::Pausing { until, .. } => Some(until),
        }
    }

    /// Whether memory is to be looked at now.
    pub(super) fn wants_look(self, now: Moment) -> bool {
        matches!(self, State::Watching { look_at, .. } if look_at <= now)
    }
}

/// Which state follows, and what is to be done. Every pair of state and event stands here.
pub(super) fn step(state: State, event: Event, now: Moment) -> (State, Action) {
    use {Event::*, State::*};
    let watched_until = now.saturating_add(WATCHED);
    match (state, event) {
        (Resting, Pressure) => (Watching { look_at: now, until: watched_until, misses: 0 }, Action::None),
        (Resting, Wake | Looked(_) | WeigherEnded | Found | FoundNobody) => (state, Action::None),

        (Watching { look_at, misses, .. }, Pressure) => {
            (Watching { look_at, until: watched_until, misses }, Action::None)
        }
        (Watching { .. }, Looked(Memory::Plenty)) => (Resting, Action::None),
        (Watching { until, misses, .. }, Looked(Memory::Enough)) => match until <= now {
            true => (Resting, Action::None),
            false => (Watching { look_at: now.saturating_add(ROUND), until, misses }, Action::None),
        },
        (Watching { misses, .. }, Looked(Memory::Missing { .. })) => {
            (Weighing { until: now.saturating_add(WEIGHING_LIMIT), misses }, Action::Weigh)
        }
        (Watching { .. }, Wake | WeigherEnded | Found | FoundNobody) => (state, Action::None),

        (Weighing { misses, .. }, WeigherEnded) => (Judging { misses }, Action::Judge),
        (Weighing { until, misses }, Wake) => match until <= now {
            true => (Judging { misses }, Action::Judge),
            false => (state, Action::None),
        },
        (Weighing { .. }, Pressure | Looked(_) | Found | FoundNobody) => (state, Action::None),

        (Judging { .. }, Found) => (Pausing { until: now.saturating_add(PAUSE), misses: 0 }, Action::None),
        (Judging { misses }, FoundNobody) => {
            let pause = PAUSE.saturating_mul(2u32.saturating_pow(misses)).min(LONGEST_PAUSE);
            (Pausing { until: now.saturating_add(pause), misses: misses.saturating_add(1) }, Action::None)
        }
        (Judging { .. }, Wake | Pressure | Looked(_) | WeigherEnded) => (state, Action::None),

        (Pausing { until, misses }, Wake | Pressure) => match until <= now {
            true => (Watching { look_at: now, until: watched_until, misses }, Action::None),
            false => (state, Action::None),
        },
        (Pausing { .. }, Looked(_) | WeigherEnded | Found | FoundNobody) => (state, Action::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    const MISSING: Event = Event::Looked(Memory::Missing { bytes: 1 });

    #[test]
    fn memory_is_watched_for_a_second_after_the_kernels_last_word() {
        let watching = |look_at, until| State::Watching { look_at: ms(look_at), until: ms(until), misses: 0 };
        let mut state = State::default();
        assert_eq!((state.deadline(), state.wants_look(ms(5))), (None, false));
        for (event, at, after) in [
            (Event::Wake, 0, State::Resting),
            (Event::Pressure, 10, watching(10, 1010)),
            (Event::Looked(Memory::Enough), 10, watching(110, 1010)),
            (Event::Wake, 60, watching(110, 1010)),
            (Event::Pressure, 100, watching(110, 1100)),
            (Event::Looked(Memory::Enough), 110, watching(210, 1100)),
            (Event::Looked(Memory::Enough), 1100, State::Resting),
            (Event::Pressure, 2000, watching(2000, 3000)),
            (Event::Looked(Memory::Plenty), 2000, State::Resting),
        ] {
            let (next, action) = step(state, event, ms(at));
            assert_eq!((next, action), (after, Action::None), "{state:?} {event:?} {at}");
            state = next;
        }
        let state = watching(110, 1010);
        assert_eq!(state.deadline(), Some(ms(110)));
        assert!(state.wants_look(ms(110)) && !state.wants_look(ms(109)));
    }

    #[test]
    fn what_is_missing_is_looked_for_and_found_and_then_memory_is_looked_at_again() {
        let watching = State::Watching { look_at: ms(0), until: ms(1000), misses: 2 };
        let weighing = State::Weighing { until: ms(4000), misses: 2 };
        assert_eq!(step(watching, MISSING, ms(0)), (weighing, Action::Weigh));
        for event in [Event::Wake, Event::Pressure, MISSING] {
            assert_eq!(step(weighing, event, ms(3999)), (weighing, Action::None), "{event:?}");
        }
        let judging = State::Judging { misses: 2 };
        assert_eq!(step(weighing, Event::WeigherEnded, ms(7)), (judging, Action::Judge));
        assert_eq!(step(weighing, Event::Wake, ms(4000)), (judging, Action::Judge));
        let pausing = State::Pausing { until: ms(507), misses: 0 };
        assert_eq!(step(judging, Event::Found, ms(7)), (pausing, Action::None));
        assert_eq!(step(pausing, Event::Wake, ms(506)), (pausing, Action::None));
        let again = State::Watching { look_at: ms(507), until: ms(1507), misses: 0 };
        assert_eq!(step(pausing, Event::Wake, ms(507)), (again, Action::None));
    }

    #[test]
    fn where_nobody_is_found_instances_stand_still_less_and_less_often() {
        let mut pauses = Vec::new();
        let mut state = State::Judging { misses: 0 };
        for _ in 0..8 {
            let (next, _) = step(state, Event::FoundNobody, ms(0));
            pauses.push(next.deadline().map_or(0, |at| at.as_millis()));
            let State::Pausing { misses, .. } = next else { panic!("{next:?}") };
            state = State::Judging { misses };
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 16_000, 16_000]);
    }
}
