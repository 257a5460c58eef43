//! How a trial, a check or a confirmed system is judged, and what an update leaves in the record when it is over.

use super::due::outcome_of;
use super::start::{leave, undo};
use super::{Now, Refused, State};
use crate::boot_state::Slot;
use crate::record::{Cause, Changed, Ended, Floors, Kind, Outcome, Phase, Release, Unwell, Update};

impl State {
    /// Whether the boot loader starts this slot for good.
    pub(super) fn is_confirmed(&self, slot: Slot) -> bool {
        self.boots.trial.is_none() && self.boots.order.slots().first() == Some(&slot)
    }
}

pub(super) fn tick(state: &mut State, now: Now) -> Result<(), Refused> {
    let phase = std::mem::take(&mut state.record.phase);
    state.record.phase = match phase {
        Phase::Trial { update, arms, starts, is_switched } => {
            let until = match update.system {
                Some(_) => Some(state.limits.trial),
                None => state.wait.trial_until,
            };
            match until.is_some_and(|until| until <= now.since_start) {
                true => judge(update, Cause::Deadline),
                false => Phase::Trial { update, arms, starts, is_switched },
            }
        }
        Phase::Idle
        | Phase::Candidate { .. }
        | Phase::Checking { .. }
        | Phase::Staging { .. }
        | Phase::Staged { .. }
        | Phase::Armed { .. }
        | Phase::Judged { .. }
        | Phase::Confirming { .. }
        | Phase::Undoing { .. }
        | Phase::Ended { .. } => phase,
    };
    Ok(())
}

pub(super) fn healthy(state: &mut State) -> Result<(), Refused> {
    let phase = std::mem::take(&mut state.record.phase);
    state.record.phase = match phase {
        Phase::Trial { update, is_switched, .. } if is_switched || update.instances.is_empty() => {
            Phase::Confirming { update }
        }
        Phase::Idle => {
            state.record.bad_starts = 0;
            Phase::Idle
        }
        Phase::Trial { .. }
        | Phase::Candidate { .. }
        | Phase::Checking { .. }
        | Phase::Staging { .. }
        | Phase::Staged { .. }
        | Phase::Armed { .. }
        | Phase::Judged { .. }
        | Phase::Confirming { .. }
        | Phase::Undoing { .. }
        | Phase::Ended { .. } => phase,
    };
    Ok(())
}

pub(super) fn unhealthy(state: &mut State, unwell: Unwell) -> Result<(), Refused> {
    match &state.record.phase {
        Phase::Trial { update, .. } => state.record.phase = judge(update.clone(), Cause::Unwell(unwell)),
        Phase::Idle => state.wait.is_unwell = true,
        Phase::Candidate { .. }
        | Phase::Checking { .. }
        | Phase::Staging { .. }
        | Phase::Staged { .. }
        | Phase::Armed { .. }
        | Phase::Judged { .. }
        | Phase::Confirming { .. }
        | Phase::Undoing { .. }
        | Phase::Ended { .. } => {}
    }
    Ok(())
}

/// A system is left only for another that verifies; instances have their old images beside the new ones.
pub(super) fn judge(update: Update, cause: Cause) -> Phase {
    match update.system {
        Some(_) => Phase::Judged { update, cause, is_other_bad: false },
        None => undo(update, cause),
    }
}

pub(super) fn damaged(state: &mut State, now: Now) -> Result<(), Refused> {
    let phase = std::mem::take(&mut state.record.phase);
    state.record.phase = match phase {
        Phase::Idle | Phase::Candidate { .. } | Phase::Checking { .. } => match state.record.degraded {
            None => leave(state, Cause::Damaged, now),
            Some(_) => phase,
        },
        Phase::Trial { update, .. } if update.system.is_some() => judge(update, Cause::Damaged),
        // The other slot is being written, or is about to be tried: that is the way out.
        Phase::Trial { .. }
        | Phase::Staging { .. }
        | Phase::Staged { .. }
        | Phase::Armed { .. }
        | Phase::Judged { .. }
        | Phase::Confirming { .. }
        | Phase::Undoing { .. }
        | Phase::Ended { .. } => phase,
    };
    Ok(())
}

pub(super) fn verified(state: &mut State, fingerprint: [u8; 32], security_epoch: u32) -> Result<(), Refused> {
    let phase = std::mem::take(&mut state.record.phase);
    state.record.phase = match phase {
        Phase::Checking { .. } if security_epoch < state.record.floors.security_epoch => {
            return Err(Refused::EpochBelowFloor);
        }
        Phase::Checking { mut update } => {
            if let Some(system) = &mut update.system {
                system.fingerprint = Some(fingerprint);
            }
            Phase::Staged { update }
        }
        Phase::Judged { update, cause, is_other_bad: false } => undo(update, cause),
        other => other,
    };
    Ok(())
}

pub(super) fn not_verified(state: &mut State) -> Result<(), Refused> {
    let phase = std::mem::take(&mut state.record.phase);
    state.record.phase = match phase {
        Phase::Checking { .. } => return Err(Refused::BeforeIsBad),
        Phase::Judged { update, cause, is_other_bad: _ } => Phase::Judged { update, cause, is_other_bad: true },
        other => other,
    };
    Ok(())
}

pub(super) fn kept(state: &mut State, now: Now) -> Result<(), Refused> {
    let phase = std::mem::take(&mut state.record.phase);
    state.record.phase = match phase {
        Phase::Confirming { update } if update.slot().is_none_or(|slot| state.is_confirmed(slot)) => {
            end(state, update, Outcome::Confirmed, now)
        }
        other => other,
    };
    Ok(())
}

pub(super) fn log_kept(state: &mut State) -> Result<(), Refused> {
    if let Phase::Undoing { is_log_kept, .. } = &mut state.record.phase {
        *is_log_kept = true;
    }
    Ok(())
}

/// It counts only where the failed system is neither what runs nor what would be started.
pub(super) fn undone(state: &mut State, now: Now) -> Result<(), Refused> {
    let phase = std::mem::take(&mut state.record.phase);
    state.record.phase = match phase {
        Phase::Undoing { update, cause, is_log_kept: true, returns } => match update.slot() {
            Some(slot) if slot == state.place.slot || state.boots.is_in_order(slot) => {
                Phase::Undoing { update, cause, is_log_kept: true, returns }
            }
            Some(_) | None => end(state, update, outcome_of(cause), now),
        },
        other => other,
    };
    Ok(())
}

/// The update is over. What the record says from now on is written with this phase, in one piece.
pub(super) fn end(state: &mut State, update: Update, outcome: Outcome, now: Now) -> Phase {
    match &outcome {
        Outcome::Confirmed => confirmed(state, &update),
        Outcome::FellBack(cause) => fell_back(state, &update, cause),
        Outcome::Degraded(cause) => degraded(state, &update, cause),
        Outcome::Cancelled | Outcome::Failed(_) => {}
    }
    Phase::Ended { ended: Ended { update, outcome, ended_unix: now.unix } }
}

fn confirmed(state: &mut State, update: &Update) {
    let record = &mut state.record;
    record.bad_starts = 0;
    record.degraded = None;
    match update.kind {
        Kind::Install | Kind::Found | Kind::Leave => {
            if let Some(Release { number, security_epoch, .. }) = update.release {
                record.floors = record.floors.max(Floors { release: number, security_epoch });
            }
            record.previous = std::mem::replace(&mut record.current, update.release.clone());
        }
        // Another rollback leads back again, which only a user can want.
        Kind::Rollback => {
            if let Some(left) = record.current.clone() {
                record.block(left, None, Cause::User);
            }
            std::mem::swap(&mut record.current, &mut record.previous);
        }
    }
    record.changed = Changed { system: update.system.is_some(), instances: update.instances.clone() };
}

fn fell_back(state: &mut State, update: &Update, cause: &Cause) {
    block(state, update, cause);
    let record = &mut state.record;
    match update.kind {
        // What was confirmed before it runs again.
        Kind::Leave => {
            record.current = record.previous.take();
            record.changed = Changed::default();
            record.bad_starts = 0;
            record.degraded = None;
        }
        Kind::Install | Kind::Rollback | Kind::Found => {}
    }
}

/// It runs on, but nothing that was good before is left. The floors stay.
fn degraded(state: &mut State, update: &Update, cause: &Cause) {
    block(state, update, cause);
    let record = &mut state.record;
    record.degraded = Some(cause.clone());
    record.changed = Changed::default();
    record.previous = None;
    match update.kind {
        Kind::Install | Kind::Rollback | Kind::Found => record.current = update.release.clone(),
        Kind::Leave => {}
    }
}

fn block(state: &mut State, update: &Update, cause: &Cause) {
    if let Some(release) = blocked_by(state, update, cause) {
        let system = update.system.as_ref().and_then(|system| system.fingerprint);
        state.record.block(release, system, cause.clone());
    }
}

/// The release that is at fault when the update ends by this cause.
pub(super) fn blocked_by(state: &State, update: &Update, cause: &Cause) -> Option<Release> {
    match update.kind {
        Kind::Install if *cause == Cause::Damaged || *cause == Cause::Cancelled => None,
        Kind::Install => update.release.clone(),
        // Its files or blocks are spoilt: the medium is at fault.
        Kind::Leave if *cause == Cause::BadStarts => state.record.current.clone(),
        Kind::Leave => None,
        // What was good once may be so again.
        Kind::Rollback | Kind::Found => None,
    }
}
