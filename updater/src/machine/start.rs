//! The machine has started: what the boot loader chose, against what is remembered, says what became of an update.

use super::due::first_step;
use super::ending::end;
use super::{Now, Place, Refused, ResetCause, State};
use crate::boot_loader::Counting;
use crate::boot_state::{Slot, Tries};
use crate::record::{Cause, Kind, Line, Outcome, Phase, SystemPart, Update};

/// How often a failed system may be started against the boot loader's own state before nothing more is done about it.
const MAX_RETURNS: u8 = 3;

pub(super) fn started(state: &mut State, place: Place, reset: ResetCause, now: Now) -> Result<(), Refused> {
    state.place = place;
    state.wait = super::Wait::default();
    let phase = std::mem::take(&mut state.record.phase);
    state.record.phase = after_start(state, phase, reset, now);
    Ok(())
}

/// What was over before the machine started does not hide what the start says.
pub(super) fn recorded(state: &mut State, now: Now) -> Result<(), Refused> {
    if let Phase::Ended { ended } = &state.record.phase {
        state.record.next_update = ended.update.number.saturating_add(1);
        let reset = state.wait.reset.take().unwrap_or(ResetCause::Unknown);
        state.record.phase = nothing_known(state, reset, now).unwrap_or(Phase::Idle);
    }
    Ok(())
}

fn after_start(state: &mut State, phase: Phase, reset: ResetCause, now: Now) -> Phase {
    match phase {
        Phase::Idle => nothing_known(state, reset, now).unwrap_or_else(|| confirmed_started(state, reset, now)),
        Phase::Candidate { .. } | Phase::Checking { .. } => nothing_known(state, reset, now).unwrap_or(phase),
        Phase::Staging { update, step: _, failures, rewrites } => {
            if let Some(found) = nothing_known(state, reset, now) {
                return found;
            }
            if update.slot() == Some(state.place.slot) {
                let reason = Line::cut("the slot that was being written is the one that runs");
                return end(state, update, Outcome::Failed(reason), now);
            }
            // From the first step on: each looks at what is there, and writes what is not.
            Phase::Staging { step: first_step(&update), update, failures, rewrites }
        }
        Phase::Staged { update } => staged(state, update, reset),
        Phase::Armed { update, arms } => match update.slot() {
            Some(slot) if slot == state.place.slot => trial(state, update, arms, 0, false),
            Some(_) | None => not_started(state, update, arms, reset),
        },
        Phase::Trial { update, arms, starts, is_switched } => match update.slot() {
            Some(slot) if slot == state.place.slot => trial(state, update, arms, starts, is_switched),
            Some(_) => not_started(state, update, arms, reset),
            None => trial_without_reboot(state, update, starts, is_switched, reset),
        },
        Phase::Judged { update, cause, is_other_bad } => match update.slot() {
            Some(slot) if slot != state.place.slot => undo(update, cause),
            Some(_) | None => Phase::Judged { update, cause, is_other_bad },
        },
        Phase::Confirming { update } => match update.slot() {
            // It was good, and the other one runs: it could not be started again, or its last try was cut.
            Some(slot) if slot != state.place.slot => undo(update, cause_of(state, slot, reset)),
            Some(_) | None => Phase::Confirming { update },
        },
        Phase::Undoing { update, cause, is_log_kept, returns } => {
            let came_back = update.slot() == Some(state.place.slot) && !state.boots.is_in_order(state.place.slot);
            match came_back {
                true if MAX_RETURNS <= returns => end(state, update, Outcome::Degraded(cause), now),
                true => Phase::Undoing { update, cause, is_log_kept, returns: returns + 1 },
                false => Phase::Undoing { update, cause, is_log_kept, returns },
            }
        }
        Phase::Ended { .. } => {
            state.wait.reset = Some(reset);
            phase
        }
    }
}

/// What the boot loader does that is not remembered: a trial, or one that has failed.
fn nothing_known(state: &State, reset: ResetCause, now: Now) -> Option<Phase> {
    let here = state.place.slot;
    let other = here.other();
    let is_trial = match state.counting {
        Counting::Tries => state.boots.trial == Some(here),
        // It has forgotten the trial by now, and would take another slot next.
        Counting::Once => state.boots.next() == Some(other) && state.boots.trial != Some(other),
    };
    let found = |slot: Slot, kind| Update {
        number: state.record.next_update,
        kind,
        release: None,
        system: Some(SystemPart { slot, fingerprint: state.place.fingerprint.filter(|_| slot == here) }),
        instances: Vec::new(),
        needs_uplink: false,
        source: Line::default(),
        asked_unix: now.unix,
    };
    if is_trial {
        let update = found(here, Kind::Found);
        return Some(Phase::Trial { update, arms: 0, starts: 1, is_switched: false });
    }
    if state.boots.trial == Some(other) {
        return Some(undo(found(other, Kind::Found), cause_of(state, other, reset)));
    }
    (state.boots.next() == Some(other)).then(|| undo(found(other, Kind::Leave), Cause::NotStarted))
}

/// The confirmed system has started. Only what is known to be its own failure counts: pulling the plug is none.
fn confirmed_started(state: &mut State, reset: ResetCause, now: Now) -> Phase {
    match reset {
        ResetCause::Panic | ResetCause::Watchdog => {
            state.record.bad_starts = state.record.bad_starts.saturating_add(1).min(state.limits.bad_starts)
        }
        ResetCause::PowerOn | ResetCause::Asked | ResetCause::Unknown => {}
    }
    let is_bad = state.limits.bad_starts <= state.record.bad_starts;
    if is_bad && state.record.degraded.is_none() { leave(state, Cause::BadStarts, now) } else { Phase::Idle }
}

/// The running system was confirmed, and is left if the other one verifies.
pub(super) fn leave(state: &State, cause: Cause, now: Now) -> Phase {
    let Place { slot, fingerprint } = state.place;
    let update = Update {
        number: state.record.next_update,
        kind: Kind::Leave,
        release: state.record.current.clone(),
        system: Some(SystemPart { slot, fingerprint }),
        instances: Vec::new(),
        needs_uplink: false,
        source: Line::default(),
        asked_unix: now.unix,
    };
    Phase::Judged { update, cause, is_other_bad: false }
}

/// It may have been armed just before the record could say so.
fn staged(state: &mut State, update: Update, reset: ResetCause) -> Phase {
    match update.slot() {
        Some(slot) if slot == state.place.slot => trial(state, update, 1, 0, false),
        Some(slot) if state.boots.trial == Some(slot) => not_started(state, update, 1, reset),
        Some(_) | None => {
            // Nobody has begun anything yet that a reboot could spoil.
            state.wait.may_reboot = true;
            Phase::Staged { update }
        }
    }
}

fn trial(state: &State, update: Update, arms: u8, starts: u8, is_switched: bool) -> Phase {
    let armed = update.system.as_ref().and_then(|system| system.fingerprint);
    if let (Some(armed), Some(running)) = (armed, state.place.fingerprint) {
        if armed != running {
            return Phase::Judged { update, cause: Cause::OtherSystem, is_other_bad: false };
        }
    }
    // Its starts are counted by the boot loader; more than it allows mean nothing.
    let starts = starts.saturating_add(1).min(state.limits.tries.count());
    Phase::Trial { update, arms, starts, is_switched }
}

/// What was armed does not run.
fn not_started(state: &State, update: Update, arms: u8, reset: ResetCause) -> Phase {
    let Some(slot) = update.slot() else { return undo(update, Cause::NotStarted) };
    let is_inconclusive = match (state.counting, reset) {
        (Counting::Tries, _) | (Counting::Once, ResetCause::Panic | ResetCause::Watchdog) => false,
        (Counting::Once, ResetCause::PowerOn | ResetCause::Asked | ResetCause::Unknown) => true,
    };
    if is_inconclusive && arms < state.limits.arms {
        return Phase::Armed { update, arms: arms + 1 };
    }
    undo(update, cause_of(state, slot, reset))
}

fn trial_without_reboot(state: &State, update: Update, starts: u8, is_switched: bool, reset: ResetCause) -> Phase {
    let starts = starts.saturating_add(1);
    match reset {
        ResetCause::Panic => undo(update, Cause::Panic),
        ResetCause::Watchdog => undo(update, Cause::Watchdog),
        ResetCause::PowerOn | ResetCause::Asked | ResetCause::Unknown if state.limits.tries.count() < starts => {
            undo(update, Cause::TriesUsedUp)
        }
        ResetCause::PowerOn | ResetCause::Asked | ResetCause::Unknown => {
            Phase::Trial { update, arms: 0, starts, is_switched }
        }
    }
}

/// Why the slot was left, when it could not say so itself.
fn cause_of(state: &State, slot: Slot, reset: ResetCause) -> Cause {
    match reset {
        ResetCause::Panic => Cause::Panic,
        ResetCause::Watchdog => Cause::Watchdog,
        ResetCause::PowerOn | ResetCause::Asked | ResetCause::Unknown => match state.counting {
            Counting::Tries if state.boots.slot(slot).left != Tries::NONE => Cause::NotStarted,
            Counting::Tries | Counting::Once => Cause::TriesUsedUp,
        },
    }
}

pub(super) fn undo(update: Update, cause: Cause) -> Phase {
    Phase::Undoing { update, cause, is_log_kept: false, returns: 0 }
}
