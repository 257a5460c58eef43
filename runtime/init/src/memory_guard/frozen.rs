//! What freezing means for deadlines: those of processes inside are later by as long as the instances were frozen, and a try of
//! a probe that did not pass meanwhile does not count.

use crate::launch::Limit;
use crate::supervisor::Supervisor;
use std::time::Duration;

impl Supervisor {
    /// Whether all instances stand still, so that nothing is expected of them.
    pub(crate) fn is_frozen(&self) -> bool {
        self.memory_guard.freezer.is_frozen()
    }

    /// All instances stand still from now on.
    pub(super) fn begin_freeze(&mut self) {
        for run in self.instances.iter_mut().filter_map(|instance| instance.run.as_mut()) {
            run.watch.disturb();
        }
    }

    /// They stood still for so long.
    pub(super) fn end_freeze(&mut self, time: Duration) {
        for instance in self.instances.iter_mut() {
            instance.state = instance.state.later_by(time);
            if let Some(run) = &mut instance.run {
                run.watch.delay(time);
            }
        }
        for launch in &mut self.launches {
            launch.limit = launch.limit.later_by(time);
        }
    }
}

impl Limit {
    fn later_by(self, time: Duration) -> Limit {
        match self {
            Limit::GiveUp { at, after } => Limit::GiveUp { at: at.saturating_add(time), after },
            Limit::None | Limit::GivenUp { .. } | Limit::Stuck => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_still_expected_is_expected_later() {
        let s = Duration::from_secs;
        let limit = Limit::GiveUp { at: s(100), after: s(60) };
        assert_eq!(limit.later_by(s(3)), Limit::GiveUp { at: s(103), after: s(60) });
        for limit in [Limit::None, Limit::GivenUp { tell_at: s(100) }, Limit::Stuck] {
            assert_eq!(limit.later_by(s(3)), limit);
        }
    }
}
