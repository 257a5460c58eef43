//! Gives memory back to the kernel that is only needed for work, when there is no work.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use yado_sys::clock::since_boot;
use yado_sys::{code_pages::Unmapper, stack};

/// A request to give back the pages of our program. It is done when the runtime's thread sleeps: any earlier, what it runs on its way
/// to sleep would be mapped again, sixteen pages around each.
///
/// Whoever is woken after that maps some again, be it by a timer that leads to nothing: so that is told, and asked for again later.
#[derive(Debug, Clone, Default)]
pub(crate) struct IdleMemory(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    woken: Notify,
    /// Started when it is first needed, with the rights that we have then.
    unmapper: Mutex<Option<Unmapper>>,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// In use, and nobody has asked for it.
    #[default]
    Used,
    /// To be given back.
    Asked,
    /// Given back then.
    Given { at: Duration },
}

/// The runtime wakes itself once more as it goes to sleep.
const FALLING_ASLEEP: Duration = Duration::from_millis(20);

impl IdleMemory {
    /// Asks for it.
    pub(crate) fn ask(&self) {
        self.set(State::Asked);
    }

    /// It is in use, which its user knows.
    pub(crate) fn note_use(&self) {
        if let Some(unmapper) = &*self.unmapper() {
            unmapper.withdraw();
        }
        self.set(State::Used);
    }

    /// Waits until something was woken that nobody noted since it was given back.
    pub(crate) async fn woken(&self) {
        self.0.woken.notified().await;
    }

    /// Grants it.
    pub(crate) fn before_sleep(&self) {
        match self.state() {
            State::Used => {}
            State::Asked => {
                // A look at all links goes deep.
                stack::give_back_unused();
                if let Err(error) = self.unmap_asleep() {
                    tell(&error);
                }
                self.set(State::Given { at: since_boot() });
            }
            State::Given { at } if since_boot().saturating_sub(at) < FALLING_ASLEEP => {}
            State::Given { .. } => {
                self.set(State::Used);
                self.0.woken.notify_one();
            }
        }
    }

    fn unmap_asleep(&self) -> std::io::Result<()> {
        match &mut *self.unmapper() {
            Some(unmapper) => unmapper.ask(),
            none => none.insert(Unmapper::start(|error| tell(&error))?).ask(),
        }
        Ok(())
    }

    fn unmapper(&self) -> MutexGuard<'_, Option<Unmapper>> {
        self.0.unmapper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> State {
        *self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.0.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

fn tell(error: &std::io::Error) {
    tracing::warn!("give back memory: {error}");
}

/// After so long without an event netd takes no more memory than waiting needs. A second after work it is given back, also where the
/// look that follows an end takes its time. What is needed again is in the page cache.
const QUIET: Duration = Duration::from_millis(200);
/// What is given back is read in again at the next event. Who wakes us again and again soon after pays that so many times;
/// from then on the pause doubles each time.
const SHORT_RESTS: u32 = 3;
const MAX_QUIET: Duration = Duration::from_secs(5);
/// After such a rest, nobody does.
const LONG_REST: Duration = Duration::from_secs(5);

/// Whose work it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Asked for by init, its launchers or a command.
    Asked,
    /// What others can cause as often as they like: a container by a packet or its link, a neighbour on the cable. And what only
    /// time caused.
    Caused,
}

/// When the memory that work took is given back.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    /// When; `None`: it has been.
    due: Option<Duration>,
    /// When it was last.
    rests_since: Duration,
    short_rests: u32,
}

impl Pause {
    /// Work is done at `now`.
    pub(crate) fn work(&mut self, work: Work, now: Duration) {
        self.short_rests = match (work, self.due) {
            (Work::Asked, _) => 0,
            (Work::Caused, Some(_)) => self.short_rests,
            (Work::Caused, None) if LONG_REST <= now.saturating_sub(self.rests_since) => 0,
            (Work::Caused, None) => self.short_rests.saturating_add(1),
        };
        let doubled = 2_u32.saturating_pow(self.short_rests.saturating_sub(SHORT_RESTS));
        self.due = Some(now + QUIET.saturating_mul(doubled).min(MAX_QUIET));
    }

    /// When to give it back.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.due
    }

    /// Whether to give it back now.
    pub(crate) fn ends(&mut self, now: Duration) -> bool {
        let ends = self.due.is_some_and(|due| due <= now);
        if ends {
            *self = Pause { due: None, rests_since: now, short_rests: self.short_rests };
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often memory is given back in a minute in which there is such work each `every`.
    fn times_given_back(pause: &mut Pause, work: Work, every: u64) -> usize {
        let minute = (0..60_000_u64).map(Duration::from_millis);
        let given = minute.filter(|now| {
            if now.as_millis() as u64 % every == 0 {
                pause.work(work, *now);
            }
            pause.ends(*now)
        });
        given.count()
    }

    #[test]
    fn whoever_wakes_us_again_and_again_does_not_have_us_read_our_code_each_time() {
        for (every, most) in [(600, 4), (1100, 6), (2100, 8), (4100, 10), (5_100, 11)] {
            let given = times_given_back(&mut Pause::default(), Work::Caused, every);
            assert!((1..=most).contains(&given), "each {every} ms: {given} times");
        }
        // What is asked for keeps its second, and so does what comes after a rest.
        assert_eq!(times_given_back(&mut Pause::default(), Work::Asked, 600), 100);
        assert_eq!(times_given_back(&mut Pause::default(), Work::Caused, 6_000), 10);
    }

    #[test]
    fn after_a_long_rest_or_a_request_the_pause_is_short_again() {
        let mut pause = Pause::default();
        times_given_back(&mut pause, Work::Caused, 5_100);
        let now = Duration::from_secs(60);
        pause.work(Work::Caused, now);
        assert_eq!(pause.deadline(), Some(now + MAX_QUIET));
        pause.work(Work::Asked, now);
        assert_eq!(pause.deadline(), Some(now + QUIET));
        times_given_back(&mut pause, Work::Caused, 600);
        assert!(pause.ends(now + MAX_QUIET));
        pause.work(Work::Caused, now + MAX_QUIET + LONG_REST);
        assert_eq!(pause.deadline(), Some(now + MAX_QUIET + LONG_REST + QUIET));
    }
}
