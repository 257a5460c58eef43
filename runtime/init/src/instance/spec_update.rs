//! Gives an instance a new configuration while it runs, and writes down by which spec it runs.

use super::lifecycle::{State, Wanted};
use super::{Instance, cgroup};
use crate::boot_clock::Moment;
use crate::paths::Paths;
use crate::specs::Configured;
use std::path::Path;
use std::rc::Rc;
use yado_spec::InstanceSpec;
use yado_spec::instance::Limits;
use yado_spec::{apply, file};
use yado_sys::{machine, replace_file};
use yado_wire::rescue::ApplyOutcome;

/// What becomes of an instance whose configuration was read again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SpecUpdate {
    /// It is as it was.
    Unchanged,
    /// This, at once.
    Now(ApplyOutcome),
    /// This, when these limits are written.
    WithLimits(ApplyOutcome, Vec<cgroup::CgroupWrite>, Box<Limits>),
}

impl Instance {
    /// Takes on what it is to be. What applies to a running one at once, but for limits, does when this returns.
    pub(crate) fn update_spec(
        &mut self,
        configured: Configured,
        processors: &[u16],
        paths: &Paths,
        now: Moment,
    ) -> SpecUpdate {
        let Configured { name: _, spec, image } = configured;
        let desired = match spec {
            Ok(desired) => desired,
            Err(failure) => {
                let is_known = self.refused.as_ref() == Some(&failure) || self.spec.as_ref().err() == Some(&failure);
                if let Err(known) = &mut self.spec {
                    *known = failure.clone();
                    self.last_failure = Some(failure.clone());
                } else {
                    self.refused = Some(failure.clone());
                }
                return if is_known {
                    SpecUpdate::Unchanged
                } else {
                    SpecUpdate::Now(ApplyOutcome::Refused(*failure))
                };
            }
        };
        let was_refused = self.refused.take().is_some();
        let is_same = self.spec.as_ref().is_ok_and(|before| *before == desired) && self.image == image;
        let next = self.run.as_ref().map(|run| apply::split(&run.spec, &desired));
        // What could not be written the last time is tried again.
        let is_applied = self.run.as_ref().map(|run| &*run.spec) == next.as_ref();
        if is_same && is_applied {
            return if was_refused { SpecUpdate::Now(self.as_changed()) } else { SpecUpdate::Unchanged };
        }
        self.image = image;
        if std::mem::replace(&mut self.spec, Ok(desired.clone())).is_err() {
            // It had none, and could not be started.
            self.last_failure = None;
            self.is_queued = self.is_to_start_by_itself();
            let run = self.next_run();
            if self.is_queued {
                self.wanted = Wanted::Up { run };
            }
            self.state = State::Stopped;
            return SpecUpdate::Now(ApplyOutcome::Changed);
        }
        let runtime = paths.runtime(&self.directory_name());
        let (Some(run), Some(next)) = (&mut self.run, next) else { return SpecUpdate::Now(ApplyOutcome::Changed) };
        let next = Rc::new(next);
        let actual = std::mem::replace(&mut run.spec, next.clone());
        let machine_bytes = machine::memory_bytes();
        let writes = cgroup::limit_changes(
            &cgroup::limit_writes(&actual.limits, machine_bytes, processors),
            &cgroup::limit_writes(&next.limits, machine_bytes, processors),
        );
        if next.devices != actual.devices {
            run.devices_due = Some(now);
        }
        leave_actual(&runtime, &next);
        let outcome = self.as_changed();
        match writes.is_empty() {
            true => SpecUpdate::Now(outcome),
            false => SpecUpdate::WithLimits(outcome, writes, Box::new(actual.limits.clone())),
        }
    }

    fn as_changed(&self) -> ApplyOutcome {
        if self.waits_for_restart() { ApplyOutcome::WaitsForRestart } else { ApplyOutcome::Changed }
    }
}

/// Leaves the spec that an instance runs by in its runtime directory, where whoever asks finds it for the time that it runs.
pub(crate) fn leave_actual(runtime: &Path, spec: &InstanceSpec) {
    let Ok(bytes) = file::encode(spec, file::Digest([0; 32])) else { return };
    // People are shown what is configured then, and the updater takes no stick by itself, as it might be this instance's.
    let _ = replace_file::replace_unsynced(&runtime.join(file::ACTUAL), 0o600, &bytes);
}
