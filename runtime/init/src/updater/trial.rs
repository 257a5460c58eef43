//! The trial of the system that runs, as the updater notes it on the data partition. The updater ends it, one way or the other; where
//! it cannot, because it crashes or hangs, the machine is restarted: the boot loader's tries, which count starts, then end it.

use super::NAME;
use crate::boot_clock::Moment;
use crate::booted_slot;
use crate::last_reset::Asked;
use crate::log::Priority;
use crate::shutdown::sequence::Goal;
use crate::supervisor::Supervisor;
use std::time::Duration;
use yado_wire::booted_slot::{BootedSlot, Trial};
use yado_wire::formats::Standing;
use yado_wire::names::clipped;

/// What the updater may need, after the time by which it wants to have judged, to put instances and their data back.
const GRACE: Duration = Duration::from_secs(1800);

impl Supervisor {
    /// When the trial of the system that runs must be over, if there is one.
    pub(super) fn trial_end(&self) -> Option<Moment> {
        end(&booted_slot::read_trial(&self.paths.state())?, self.slot)
    }

    /// Ends a trial that should be over: the updater hangs, or waits for what does not come.
    pub(super) fn end_late_trial(&mut self, now: Moment) {
        if self.shutdown.is_some() || self.updater.trial_ends.is_none_or(|end| now < end) {
            return;
        }
        // It may be over, or the system that runs wants more time for it than the one before.
        self.updater.trial_ends = self.trial_end();
        if self.updater.trial_ends.is_some_and(|end| end <= now) {
            self.updater.trial_ends = None;
            self.leave_trial("it has not judged the system that is on trial", now);
        }
    }

    /// Nobody is left to judge the running system: if it is on trial, the machine is restarted.
    pub(super) fn leave_trial(&mut self, reason: &str, now: Moment) {
        if booted_slot::standing(self.slot, &self.paths.state()) == Standing::OnTrial {
            self.log.say(Priority::Error, format_args!("{NAME}: {reason}: reboot"));
            let asked = Asked { by: clipped(NAME), reason: clipped(reason) };
            self.begin_shutdown(Goal::Reboot, asked, now);
        }
    }
}

/// When the trial in this text is over, if it is that of the slot that runs.
fn end(text: &str, running: Option<BootedSlot>) -> Option<Moment> {
    let trial = Trial::parse(text).filter(|trial| running == Some(trial.slot))?;
    Some(trial.judged_after.saturating_add(GRACE))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;
    use yado_wire::booted_slot::TRIAL_FILE;

    const RUNNING: BootedSlot = BootedSlot { name: 'B', fingerprint: [7; 32] };

    #[test]
    fn the_trial_of_what_runs_ends_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(TRIAL_FILE);
        let trial_end = || end(&booted_slot::read_trial(directory.path())?, Some(RUNNING));
        assert_eq!(trial_end(), None);
        let trial = |slot| Trial { slot, judged_after: Duration::from_secs(60) }.text();
        fs::write(&path, trial(RUNNING)).unwrap();
        assert_eq!(trial_end(), Some(Moment::from_secs(1860)));
        let others =
            [trial(BootedSlot { name: 'A', ..RUNNING }), trial(BootedSlot { fingerprint: [8; 32], ..RUNNING })];
        // An older updater names no time, and is not waited for with one.
        for text in others.iter().map(String::as_bytes).chain([RUNNING.text().as_bytes(), &[0xff; 1000], b""]) {
            fs::write(&path, text).unwrap();
            assert_eq!(trial_end(), None);
        }
    }
}
