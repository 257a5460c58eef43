//! A timer for a loop that also waits for other things. It is only ever set to an earlier time: a loop that is woken too early
//! looks what is due, and sets it again.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// `None`: it is not set.
#[derive(Debug, Default)]
pub(crate) struct WakeupTimer(Option<(Duration, Pin<Box<Sleep>>)>);

impl WakeupTimer {
    /// Rings at `at` at the latest; `now` and `at` are on the boot clock.
    pub(crate) fn set_earlier(&mut self, at: Option<Duration>, now: Duration) {
        let Some(at) = at else { return };
        let when = || Instant::now() + at.saturating_sub(now);
        match &mut self.0 {
            Some((set, _)) if *set <= at => {}
            Some((set, sleep)) => {
                *set = at;
                sleep.as_mut().reset(when());
            }
            None => self.0 = Some((at, Box::pin(sleep_until(when())))),
        }
    }

    /// `Ready`: it rings, once.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((_, sleep)) = &mut self.0 else { return Poll::Pending };
        let rings = sleep.as_mut().poll(cx);
        if rings.is_ready() {
            self.0 = None;
        }
        rings
    }
}
