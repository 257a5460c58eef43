//! What users and timers want, and when they cannot have it. What is refused changes nothing, but that a candidate is forgotten.

use super::due::first_step;
use super::ending::end;
use super::start::undo;
use super::{Now, Offer, Refused, State};
use crate::record::{Cause, Kind, Line, Outcome, Phase, SystemPart, Update};

pub(super) fn asked(state: &mut State, source: Line, now: Now) -> Result<(), Refused> {
    match &state.record.phase {
        Phase::Idle if state.record.is_held => Err(Refused::Held),
        Phase::Idle => {
            let number = state.record.next_update;
            state.record.phase = Phase::Candidate { number, source, asked_unix: now.unix, failures: 0 };
            Ok(())
        }
        // Asked again, it goes on at once.
        Phase::Candidate { source: known, .. } if *known == source => {
            state.wait.again_at = None;
            Ok(())
        }
        Phase::Staging { update, .. } | Phase::Staged { update } if update.source == source => {
            state.wait.again_at = None;
            Ok(())
        }
        Phase::Candidate { .. } | Phase::Checking { .. } | Phase::Staging { .. } | Phase::Staged { .. } => {
            Err(Refused::Busy)
        }
        Phase::Armed { .. }
        | Phase::Trial { .. }
        | Phase::Judged { .. }
        | Phase::Confirming { .. }
        | Phase::Undoing { .. } => Err(Refused::TrialGoesOn),
        Phase::Ended { .. } => Err(Refused::Busy),
    }
}

pub(super) fn admitted(state: &mut State, offer: Offer) -> Result<(), Refused> {
    let phase = std::mem::take(&mut state.record.phase);
    let Phase::Candidate { number, source, asked_unix, failures: _ } = phase else {
        state.record.phase = phase;
        return Ok(());
    };
    let Offer { release, system, instances, needs_uplink } = offer;
    let record = &state.record;
    let is_image_blocked = |image: &[u8; 32]| state.boots.blocked.fingerprints().contains(image);
    if record.blocked_for(&release.fingerprint).is_some() || system.as_ref().is_some_and(is_image_blocked) {
        return Err(Refused::Blocked);
    }
    if release.number < record.floors.release {
        return Err(Refused::BelowFloor);
    }
    if release.security_epoch < record.floors.security_epoch {
        return Err(Refused::EpochBelowFloor);
    }
    let system = system
        // A system that runs and is not good is mended by a second one of it.
        .filter(|image| state.place.fingerprint != Some(*image) || record.degraded.is_some())
        .map(|image| SystemPart { slot: state.place.slot.other(), fingerprint: Some(image) });
    if system.is_none() && instances.is_empty() {
        return Err(Refused::NothingToDo);
    }
    if system.is_some() {
        state.record.forget_previous();
    }
    let update = Update {
        number,
        kind: Kind::Install,
        release: Some(release),
        system,
        instances,
        needs_uplink,
        source,
        asked_unix,
    };
    state.record.phase = Phase::Staging { step: first_step(&update), update, failures: 0, rewrites: 0 };
    Ok(())
}

pub(super) fn not_admitted(state: &mut State) -> Result<(), Refused> {
    match state.record.phase {
        Phase::Candidate { .. } => {
            state.record.phase = Phase::Idle;
            Err(Refused::NotAdmitted)
        }
        Phase::Idle
        | Phase::Checking { .. }
        | Phase::Staging { .. }
        | Phase::Staged { .. }
        | Phase::Armed { .. }
        | Phase::Trial { .. }
        | Phase::Judged { .. }
        | Phase::Confirming { .. }
        | Phase::Undoing { .. }
        | Phase::Ended { .. } => Ok(()),
    }
}

pub(super) fn confirm(state: &mut State) -> Result<(), Refused> {
    let phase = std::mem::take(&mut state.record.phase);
    let (phase, result) = match phase {
        Phase::Trial { update, is_switched, .. } if is_switched || update.instances.is_empty() => {
            (Phase::Confirming { update }, Ok(()))
        }
        Phase::Confirming { .. } => (phase, Ok(())),
        // Somebody looked at it, and it is good enough.
        Phase::Idle if state.record.degraded.is_some() => {
            state.record.degraded = None;
            state.record.bad_starts = 0;
            (phase, Ok(()))
        }
        Phase::Trial { .. }
        | Phase::Idle
        | Phase::Candidate { .. }
        | Phase::Checking { .. }
        | Phase::Staging { .. }
        | Phase::Staged { .. }
        | Phase::Armed { .. }
        | Phase::Judged { .. }
        | Phase::Undoing { .. }
        | Phase::Ended { .. } => (phase, Err(Refused::NoTrial)),
    };
    state.record.phase = phase;
    result
}

pub(super) fn roll_back(state: &mut State, now: Now) -> Result<(), Refused> {
    let phase = std::mem::take(&mut state.record.phase);
    let (phase, result) = match phase {
        Phase::Idle => match rollback(state, now) {
            Some(update) => (Phase::Checking { update }, Ok(())),
            None => (Phase::Idle, Err(Refused::NothingBefore)),
        },
        Phase::Trial { update, .. } => (super::ending::judge(update, Cause::User), Ok(())),
        Phase::Checking { .. } => (phase, Ok(())),
        Phase::Judged { .. } | Phase::Undoing { .. } => (phase, Ok(())),
        Phase::Candidate { .. }
        | Phase::Staging { .. }
        | Phase::Staged { .. }
        | Phase::Armed { .. }
        | Phase::Confirming { .. }
        | Phase::Ended { .. } => (phase, Err(Refused::Busy)),
    };
    state.record.phase = phase;
    result
}

/// What goes back to before the last confirmed update. None: there was none, or what was before is overwritten.
fn rollback(state: &State, now: Now) -> Option<Update> {
    let other = state.place.slot.other();
    let changed = &state.record.changed;
    let is_nothing = !changed.system && changed.instances.is_empty();
    if is_nothing || changed.system && !state.boots.is_in_order(other) {
        return None;
    }
    Some(Update {
        number: state.record.next_update,
        kind: Kind::Rollback,
        release: state.record.previous.clone(),
        system: changed.system.then_some(SystemPart { slot: other, fingerprint: None }),
        instances: changed.instances.clone(),
        needs_uplink: false,
        source: Line::default(),
        asked_unix: now.unix,
    })
}

pub(super) fn hold(state: &mut State, is_held: bool) -> Result<(), Refused> {
    state.record.is_held = is_held;
    Ok(())
}

pub(super) fn cancel(state: &mut State, now: Now) -> Result<(), Refused> {
    let phase = std::mem::take(&mut state.record.phase);
    let (phase, result) = match phase {
        Phase::Candidate { .. } | Phase::Checking { .. } => (Phase::Idle, Ok(())),
        Phase::Staging { update, .. } => (end(state, update, Outcome::Cancelled, now), Ok(())),
        // It may have been armed just before the record could say so.
        Phase::Staged { update } | Phase::Armed { update, .. } => (undo(update, Cause::Cancelled), Ok(())),
        Phase::Trial { .. } | Phase::Judged { .. } | Phase::Confirming { .. } | Phase::Undoing { .. } => {
            (phase, Err(Refused::TooLate))
        }
        Phase::Idle | Phase::Ended { .. } => (phase, Err(Refused::NothingGoesOn)),
    };
    state.wait.again_at = None;
    state.record.phase = phase;
    result
}

pub(super) fn allow(state: &mut State, release: &[u8; 32]) -> Result<(), Refused> {
    if state.record.blocked_for(release).is_none() {
        return Err(Refused::NotBlocked);
    }
    match &state.record.phase {
        Phase::Idle => {
            state.wait.allowed = Some(*release);
            Ok(())
        }
        Phase::Candidate { .. }
        | Phase::Checking { .. }
        | Phase::Staging { .. }
        | Phase::Staged { .. }
        | Phase::Armed { .. }
        | Phase::Trial { .. }
        | Phase::Judged { .. }
        | Phase::Confirming { .. }
        | Phase::Undoing { .. }
        | Phase::Ended { .. } => Err(Refused::Busy),
    }
}
