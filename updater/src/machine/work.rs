//! What became of an action, and what follows from it. What is told in another phase than that which asked for it changes nothing:
//! the action that is due is said again.

use super::due::{first_step, step_after};
use super::ending::end;
use super::{Now, Refused, State};
use crate::boot_loader::Boots;
use crate::record::{Line, Outcome, Phase, StagingStep};
use std::time::Duration;

/// How often a slot is written again that does not hold what was written.
const MAX_REWRITES: u8 = 2;
/// What failed for no reason that is known is done again after this.
const PAUSE: Duration = Duration::from_secs(60);
/// The longest pause before a source is asked again.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

pub(super) fn changed(state: &mut State, boots: Boots) -> Result<(), Refused> {
    state.boots = boots;
    let phase = std::mem::take(&mut state.record.phase);
    state.record.phase = match phase {
        Phase::Staging { update, step: StagingStep::Deny, failures, rewrites } => {
            let is_denied = update.slot().is_none_or(|slot| !state.boots.is_in_order(slot));
            let step = if is_denied { StagingStep::Write } else { StagingStep::Deny };
            Phase::Staging { update, step, failures, rewrites }
        }
        Phase::Staged { update } => match update.slot() {
            Some(slot) if state.boots.trial == Some(slot) => Phase::Armed { update, arms: 1 },
            Some(_) | None => Phase::Staged { update },
        },
        Phase::Staging { .. }
        | Phase::Idle
        | Phase::Candidate { .. }
        | Phase::Checking { .. }
        | Phase::Armed { .. }
        | Phase::Trial { .. }
        | Phase::Judged { .. }
        | Phase::Confirming { .. }
        | Phase::Undoing { .. }
        | Phase::Ended { .. } => phase,
    };
    Ok(())
}

pub(super) fn loader_failed(state: &mut State, reason: Line, now: Now) -> Result<(), Refused> {
    let phase = std::mem::take(&mut state.record.phase);
    state.record.phase = match phase {
        // Nothing has been started yet.
        Phase::Staging { update, .. } | Phase::Staged { update } => end(state, update, Outcome::Failed(reason), now),
        Phase::Idle
        | Phase::Candidate { .. }
        | Phase::Checking { .. }
        | Phase::Armed { .. }
        | Phase::Trial { .. }
        | Phase::Judged { .. }
        | Phase::Confirming { .. }
        | Phase::Ended { .. } => {
            state.wait.again_at = Some(now.since_start + PAUSE);
            phase
        }
        Phase::Undoing { update, cause, is_log_kept, returns } => {
            // Only a trial that runs has tries that end it: any other would be started again and again.
            let is_trial = update.slot() == Some(state.place.slot) && state.boots.trial == update.slot();
            match is_trial {
                true => state.wait.leave_by_tries = true,
                false => state.wait.again_at = Some(now.since_start + PAUSE),
            }
            Phase::Undoing { update, cause, is_log_kept, returns }
        }
    };
    state.wait.allowed = None;
    Ok(())
}

pub(super) fn staged(state: &mut State, done: StagingStep) -> Result<(), Refused> {
    let phase = std::mem::take(&mut state.record.phase);
    state.record.phase = match phase {
        Phase::Staging { update, step, failures, rewrites } if step == done && step != StagingStep::Deny => {
            match step_after(step, &update) {
                Some(step) => Phase::Staging { update, step, failures, rewrites },
                None => Phase::Staged { update },
            }
        }
        other => other,
    };
    Ok(())
}

pub(super) fn not_read_back(state: &mut State, reason: Line, now: Now) -> Result<(), Refused> {
    let phase = std::mem::take(&mut state.record.phase);
    state.record.phase = match phase {
        Phase::Staging { update, rewrites, .. } if MAX_REWRITES <= rewrites => {
            end(state, update, Outcome::Failed(reason), now)
        }
        Phase::Staging { update, step: _, failures, rewrites } => {
            Phase::Staging { step: first_step(&update), update, failures, rewrites: rewrites + 1 }
        }
        other => other,
    };
    Ok(())
}

pub(super) fn stage_failed(state: &mut State, reason: Line, now: Now) -> Result<(), Refused> {
    let phase = std::mem::take(&mut state.record.phase);
    state.record.phase = match phase {
        Phase::Staging { update, .. } => end(state, update, Outcome::Failed(reason), now),
        other => other,
    };
    Ok(())
}

pub(super) fn source_failed(state: &mut State, reason: Line, is_final: bool, now: Now) -> Result<(), Refused> {
    let limit = state.limits.source_failures;
    let phase = std::mem::take(&mut state.record.phase);
    state.record.phase = match phase {
        Phase::Candidate { failures, .. } if is_final || limit <= failures => return Err(Refused::SourceGaveNothing),
        Phase::Candidate { number, source, asked_unix, failures } => {
            state.wait.again_at = Some(now.since_start + pause(failures));
            Phase::Candidate { number, source, asked_unix, failures: failures + 1 }
        }
        Phase::Staging { update, failures, .. } if is_final || limit <= failures => {
            end(state, update, Outcome::Failed(reason), now)
        }
        Phase::Staging { update, step, failures, rewrites } => {
            state.wait.again_at = Some(now.since_start + pause(failures));
            Phase::Staging { update, step, failures: failures + 1, rewrites }
        }
        other => other,
    };
    Ok(())
}

pub(super) fn may_reboot(state: &mut State) -> Result<(), Refused> {
    state.wait.may_reboot = true;
    Ok(())
}

pub(super) fn must_wait(state: &mut State, now: Now) -> Result<(), Refused> {
    let since = *state.wait.locked_since.get_or_insert(now.since_start);
    let limit = since + state.limits.lock;
    if now.since_start < limit {
        state.wait.again_at = Some(limit.min(now.since_start + state.limits.lock_look));
    }
    Ok(())
}

pub(super) fn switched(state: &mut State, now: Now) -> Result<(), Refused> {
    if let Phase::Trial { update, is_switched, .. } = &mut state.record.phase {
        *is_switched = true;
        if update.system.is_none() {
            state.wait.trial_until = Some(now.since_start + state.limits.trial);
        }
    }
    Ok(())
}

fn pause(failures: u8) -> Duration {
    PAUSE.saturating_mul(1 << u32::from(failures).min(6)).min(LONGEST_PAUSE)
}
