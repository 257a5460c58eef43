//! Asking an instance's init to end. The first process of a pid namespace is not reached by a signal that it has no handler
//! for, and an init that was started a moment ago has none yet: the signal would be lost, and all patience with it. So a
//! young init is asked more than once. (Its masks in `/proc` do not tell: busybox waits by sigtimedwait(2), which shows
//! its signals as neither caught nor blocked.)

use crate::instance::lifecycle::State;
use crate::log::Priority;
use crate::moment::Moment;
use crate::supervisor::Supervisor;
use std::os::fd::AsFd;
use std::time::Duration;
use yado_sys::children;
use yado_wire::InstanceId;

/// Between questions: an init has its handlers within some hundred milliseconds, even on a slow board.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// So long after its start an init is asked more than once; an init that is older listens.
const YOUNG: Duration = Duration::from_secs(5);

impl Supervisor {
    /// Sends an instance's init its halt signal.
    pub(crate) fn ask_to_stop(&mut self, number: InstanceId, now: Moment) {
        let Some(instance) = self.instances.get_mut(number) else { return };
        let Some(signal) = instance.actual().map(|spec| spec.halt_signal) else { return };
        let Some(run) = &mut instance.run else { return };
        let Some((_, pidfd)) = &run.payload else { return };
        let is_young = run.started.is_none_or(|at| now < at.saturating_add(YOUNG));
        run.ask_at = is_young.then(|| now.saturating_add(ASK_AGAIN));
        if let Err(error) = children::send_signal(pidfd.as_fd(), signal) {
            let name = instance.name.clone();
            self.log.say(Priority::Warning, format_args!("{name}: send signal {signal}: {error}"));
        }
    }

    /// Asks a young init again.
    pub(crate) fn ask_again(&mut self, number: InstanceId, now: Moment) {
        let Some(instance) = self.instances.get_mut(number) else { return };
        let Some(run) = &mut instance.run else { return };
        let Some(at) = run.ask_at else { return };
        if !matches!(instance.state, State::Stopping { .. }) {
            run.ask_at = None;
        } else if at <= now {
            self.ask_to_stop(number, now);
        }
    }
}
