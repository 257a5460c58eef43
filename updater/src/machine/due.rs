//! What is to be done next, from what is so. Where a phase has nothing left to do it ends here.

use super::ending::{blocked_by, end};
use super::{Action, Now, State};
use crate::record::{Cause, Kind, Outcome, Phase, StagingStep, Update};

/// The action that is due. Each call says the same until something has happened.
pub(super) fn due(state: &mut State, now: Now) -> Action {
    // Each round leads nearer to an end: the longest way is Staged, Trial; Confirming, Ended; Undoing, Ended.
    loop {
        match action(state, now) {
            Ok(action) => return action,
            Err(phase) => state.record.phase = phase,
        }
    }
}

/// The action of the phase, or the phase that follows at once.
fn action(state: &mut State, now: Now) -> Result<Action, Phase> {
    if let Some(image) = image_to_allow(state) {
        return Ok(Action::Allow { image });
    }
    if let Some(until) = state.wait.again_at.filter(|until| now.since_start < *until) {
        return Ok(Action::Wait { until });
    }
    state.wait.again_at = None;
    match state.record.phase.clone() {
        Phase::Idle => Ok(idle(state, now)),
        Phase::Candidate { source, .. } => Ok(Action::Admit { source }),
        Phase::Checking { update } => match update.slot() {
            Some(slot) => Ok(Action::Verify { slot }),
            None => Err(Phase::Staged { update }),
        },
        Phase::Staging { step, .. } => Ok(Action::Stage(step)),
        Phase::Staged { update } => staged(state, update, now),
        Phase::Armed { update, .. } => Ok(armed(state, &update)),
        Phase::Trial { update, is_switched, .. } => {
            if !is_switched && !update.instances.is_empty() {
                return Ok(Action::SwitchInstances);
            }
            let trial_until = match update.system {
                Some(_) => state.limits.trial,
                None => *state.wait.trial_until.get_or_insert(now.since_start + state.limits.trial),
            };
            Ok(Action::Watch { until: trial_until })
        }
        Phase::Judged { update, cause, is_other_bad } => judged(state, update, cause, is_other_bad, now),
        Phase::Confirming { update } => match update.slot() {
            Some(slot) if !state.is_confirmed(slot) => Ok(Action::Confirm { slot }),
            Some(_) | None if !update.instances.is_empty() => Ok(Action::KeepInstances),
            Some(_) | None => Err(end(state, update, Outcome::Confirmed, now)),
        },
        Phase::Undoing { update, cause, is_log_kept, returns: _ } => undoing(state, update, cause, is_log_kept, now),
        Phase::Ended { ended } => Ok(Action::End(Box::new(ended))),
    }
}

fn idle(state: &State, now: Now) -> Action {
    // The confirmed system had bad starts: if this one is good, they are forgotten.
    if state.record.bad_starts != 0 && !state.wait.is_unwell && now.since_start < state.limits.trial {
        return Action::Watch { until: state.limits.trial };
    }
    Action::Rest
}

fn staged(state: &mut State, update: Update, now: Now) -> Result<Action, Phase> {
    if state.record.is_held && update.kind == Kind::Install {
        return Ok(Action::Rest);
    }
    let Some(slot) = update.slot() else {
        if update.kind == Kind::Install {
            state.record.forget_previous();
        }
        return Err(Phase::Trial { update, arms: 0, starts: 0, is_switched: false });
    };
    let waited = state.wait.locked_since.is_some_and(|since| since + state.limits.lock <= now.since_start);
    if state.wait.may_reboot || waited {
        return Ok(Action::Arm { slot, tries: state.limits.tries });
    }
    Ok(Action::AskReboot)
}

/// An update without a system is never armed.
fn armed(state: &State, update: &Update) -> Action {
    match update.slot() {
        Some(slot) if state.boots.trial == Some(slot) => Action::Reboot { trial: Some(slot) },
        Some(slot) => Action::Arm { slot, tries: state.limits.tries },
        None => Action::Rest,
    }
}

fn judged(state: &mut State, update: Update, cause: Cause, is_other_bad: bool, now: Now) -> Result<Action, Phase> {
    let other = state.place.slot.other();
    match (state.boots.is_in_order(other), is_other_bad) {
        (true, false) => Ok(Action::Verify { slot: other }),
        // It would be started if this one's tries were used up, or be taken for something to fall back to.
        (true, true) => Ok(Action::KeepOnly { slot: state.place.slot }),
        (false, _) if state.boots.trial.is_some() => Ok(Action::KeepOnly { slot: state.place.slot }),
        (false, _) => Err(end(state, update, Outcome::Degraded(cause), now)),
    }
}

fn undoing(state: &mut State, update: Update, cause: Cause, is_log_kept: bool, now: Now) -> Result<Action, Phase> {
    if !is_log_kept {
        return Ok(Action::KeepLog);
    }
    if let Some(slot) = update.slot() {
        let running = state.place.slot;
        if state.wait.leave_by_tries {
            return Ok(Action::Reboot { trial: None });
        }
        if state.boots.is_in_order(slot) || state.boots.trial == Some(slot) {
            return Ok(match cause {
                // What runs is bootable, whatever the boot loader believes.
                _ if running != slot && !state.boots.is_in_order(running) => Action::KeepOnly { slot: running },
                Cause::Cancelled => Action::Deny { slot },
                _ => {
                    let blocked = blocked_by(state, &update, &cause);
                    Action::Fail { slot, image: blocked.and(update.system).and_then(|system| system.fingerprint) }
                }
            });
        }
        if running == slot {
            return Ok(Action::Reboot { trial: None });
        }
    }
    if !update.instances.is_empty() {
        return Ok(Action::UndoInstances);
    }
    Err(end(state, update, outcome_of(cause), now))
}

/// What an update that was taken back has come to.
pub(super) fn outcome_of(cause: Cause) -> Outcome {
    if cause == Cause::Cancelled { Outcome::Cancelled } else { Outcome::FellBack(cause) }
}

/// The image of the release that a user allows again, while the boot loader still has it.
fn image_to_allow(state: &mut State) -> Option<[u8; 32]> {
    let release = state.wait.allowed?;
    let image = state.record.blocked_for(&release).and_then(|blocked| blocked.system);
    let image = image.filter(|image| state.boots.blocked.fingerprints().contains(image));
    if image.is_none() {
        state.record.blocked.retain(|blocked| blocked.release.fingerprint != release);
        state.wait.allowed = None;
    }
    image
}

/// What is done first of an update.
pub(super) fn first_step(update: &Update) -> StagingStep {
    if update.system.is_some() { StagingStep::Deny } else { StagingStep::Images }
}

/// What is done after this step; None: all of it is done.
pub(super) fn step_after(step: StagingStep, update: &Update) -> Option<StagingStep> {
    match step {
        StagingStep::Deny => Some(StagingStep::Write),
        StagingStep::Write => Some(StagingStep::ReadBack),
        StagingStep::ReadBack => Some(StagingStep::BootFiles),
        StagingStep::BootFiles if update.instances.is_empty() => None,
        StagingStep::BootFiles => Some(StagingStep::Images),
        StagingStep::Images => None,
    }
}
