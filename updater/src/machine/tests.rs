//! The machine by tables: what each of the usual ways leads to, step by step.
#![allow(clippy::unwrap_used)]

mod random;
mod walk;
mod world;

use super::*;
use crate::boot_state::Mark;
use crate::record::{Cause, Kind, Outcome, Phase};
use yado_wire::formats::Standing;

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

fn now(seconds: u64) -> Now {
    Now { since_start: Duration::from_secs(seconds), unix: 1_800_000_000 + seconds }
}

fn place(slot: Slot, fingerprint: [u8; 32]) -> Place {
    Place { slot, fingerprint: Some(fingerprint) }
}

fn idle(counting: Counting) -> State {
    let record = Record { next_update: 1, ..Record::default() };
    State::new(record, Boots::factory(Some(Mark::Empty)), counting, place(Slot::A, OLD), Limits::default())
}

fn release(number: u64) -> Release {
    let version = Line::cut(&format!("release {number}"));
    Release { fingerprint: [number as u8; 32], number, security_epoch: 1, version }
}

fn offer() -> Offer {
    let instances = vec![InstanceName::parse("web").unwrap()];
    Offer { release: release(7), system: Some(NEW), instances, needs_uplink: false }
}

/// A driver: it does to the boot loader what is said, and tells it.
struct Run {
    state: State,
    actions: Vec<Action>,
}

impl Run {
    fn new(state: State) -> Run {
        Run { state, actions: Vec::new() }
    }

    fn tell(&mut self, event: Event) -> Action {
        self.tell_at(event, now(10))
    }

    fn tell_at(&mut self, event: Event, now: Now) -> Action {
        let step = step(&self.state, event, now);
        assert_eq!(step.refused, None);
        self.state = step.state;
        self.actions.push(step.action.clone());
        step.action
    }

    fn refused(&self, event: Event) -> Refused {
        step(&self.state, event, now(10)).refused.unwrap()
    }

    /// As far as nothing but the machine's own will is needed.
    fn go_on(&mut self, mut action: Action) -> Action {
        loop {
            let boots = &self.state.boots;
            let event = match &action {
                Action::Stage(StagingStep::Deny) => Event::Changed(boots.denied(self.staged_slot()).unwrap()),
                Action::Stage(step) => Event::Staged(*step),
                Action::AskReboot => Event::MayReboot,
                Action::Arm { slot, tries } => Event::Changed(boots.armed(*slot, *tries).unwrap()),
                Action::SwitchInstances => Event::Switched,
                Action::Confirm { slot } => Event::Changed(boots.confirmed(*slot)),
                Action::KeepInstances => Event::Kept,
                Action::KeepLog => Event::LogKept,
                Action::Fail { slot, image } => Event::Changed(boots.failed(*slot, image.as_ref()).unwrap()),
                Action::Deny { slot } => Event::Changed(boots.denied(*slot).unwrap()),
                Action::KeepOnly { slot } => Event::Changed(boots.kept_only(*slot)),
                Action::Allow { image } => Event::Changed(boots.allowing(image)),
                Action::UndoInstances => Event::Undone,
                Action::End(_) => Event::Recorded,
                Action::Rest
                | Action::Wait { .. }
                | Action::Admit { .. }
                | Action::Reboot { .. }
                | Action::Watch { .. }
                | Action::Verify { .. } => return action,
            };
            action = self.tell(event);
        }
    }

    fn staged_slot(&self) -> Slot {
        self.state.record.phase.update().unwrap().slot().unwrap()
    }

    /// From the question to the first start of the new system.
    fn to_trial(counting: Counting) -> Run {
        let mut run = Run::new(idle(counting));
        run.tell(Event::Started { place: place(Slot::A, OLD), reset: ResetCause::PowerOn });
        let source = Line::cut("http://127.0.0.1/release-7/");
        assert_eq!(run.tell(Event::Asked { source: source.clone() }), Action::Admit { source });
        let action = run.tell(Event::Admitted(offer()));
        assert_eq!(run.go_on(action), Action::Reboot { trial: Some(Slot::B) });
        run
    }

    fn start(&mut self, slot: Slot, reset: ResetCause) -> Action {
        let fingerprint = if slot == Slot::A { OLD } else { NEW };
        let action = self.tell(Event::Started { place: place(slot, fingerprint), reset });
        self.go_on(action)
    }

    fn last_end(&self) -> Outcome {
        let ended = self.actions.iter().rev().find_map(|action| match action {
            Action::End(ended) => Some(ended.outcome.clone()),
            _ => None,
        });
        ended.unwrap()
    }
}

fn unwell() -> Unwell {
    Unwell { instance: Some(InstanceName::parse("web").unwrap()), reason: Line::cut("not ready in 60 s") }
}

#[test]
fn a_good_release_is_written_tried_and_confirmed_and_only_then_the_floors_rise() {
    let mut run = Run::to_trial(Counting::Tries);
    let stages: Vec<_> = run.actions.iter().filter(|action| matches!(action, Action::Stage(_))).collect();
    assert_eq!(stages.len(), 5);
    assert_eq!(run.start(Slot::B, ResetCause::Asked), Action::Watch { until: Limits::default().trial });
    assert_eq!(run.state.record.floors.release, 0);
    let action = run.tell(Event::Healthy);
    assert_eq!(run.go_on(action), Action::Rest);
    assert_eq!(run.last_end(), Outcome::Confirmed);
    assert_eq!((run.state.record.floors.release, run.state.record.floors.security_epoch), (7, 1));
    assert_eq!(run.state.boots.order.slots(), [Slot::B, Slot::A]);
    assert_eq!(run.state.record.next_update, 2);
}

#[test]
fn an_unhealthy_system_is_left_when_the_other_verifies_and_its_release_is_blocked() {
    let mut run = Run::to_trial(Counting::Tries);
    run.start(Slot::B, ResetCause::Asked);
    assert_eq!(run.tell(Event::Unhealthy(unwell())), Action::Verify { slot: Slot::A });
    let action = run.tell(Event::Verified { fingerprint: OLD, security_epoch: 1 });
    assert_eq!(run.go_on(action), Action::Reboot { trial: None });
    assert_eq!(run.start(Slot::A, ResetCause::Asked), Action::Rest);
    assert_eq!(run.last_end(), Outcome::FellBack(Cause::Unwell(unwell())));
    assert!(run.actions.contains(&Action::UndoInstances));
    assert_eq!(run.state.record.floors.release, 0);

    run.tell(Event::Asked { source: Line::cut("x") });
    assert_eq!(run.refused(Event::Admitted(offer())), Refused::Blocked);
    run.tell(Event::UserCancels);
    let action = run.tell(Event::UserAllows { release: [7; 32] });
    assert_eq!(action, Action::Allow { image: NEW });
    run.go_on(action);
    assert_eq!(run.state.record.blocked, []);
    run.tell(Event::Asked { source: Line::cut("x") });
    assert_eq!(run.tell(Event::Admitted(offer())), Action::Stage(StagingStep::Deny));
}

#[test]
fn with_nothing_to_fall_back_to_it_stays_up_and_says_so() {
    let mut run = Run::to_trial(Counting::Tries);
    run.start(Slot::B, ResetCause::Asked);
    run.tell(Event::Unhealthy(unwell()));
    let action = run.tell(Event::NotVerified);
    assert_eq!(run.go_on(action), Action::Rest);
    assert_eq!(run.last_end(), Outcome::Degraded(Cause::Unwell(unwell())));
    assert!(!run.actions.iter().any(|action| matches!(action, Action::Reboot { trial: None })));
    assert_eq!((run.state.boots.next(), run.state.boots.trial), (Some(Slot::B), None));
    // Nor does a start that it panics in make it reboot.
    for _ in 0..5 {
        run.start(Slot::B, ResetCause::Panic);
        assert_eq!(run.actions.last(), Some(&Action::Watch { until: Limits::default().trial }));
    }
}

#[test]
fn who_falls_back_without_a_word_is_told_apart_by_the_reset() {
    let causes = [
        (ResetCause::Panic, 0, Cause::Panic),
        (ResetCause::Watchdog, 0, Cause::Watchdog),
        (ResetCause::PowerOn, 0, Cause::TriesUsedUp),
        (ResetCause::Unknown, 0, Cause::TriesUsedUp),
        (ResetCause::Asked, 2, Cause::NotStarted),
    ];
    for (reset, left, cause) in causes {
        let mut run = Run::to_trial(Counting::Tries);
        run.state.boots.b.left = Tries::new(left).unwrap();
        assert_eq!(run.start(Slot::A, reset), Action::Rest);
        assert_eq!(run.last_end(), Outcome::FellBack(cause.clone()));
        assert_eq!(run.state.record.blocked[0].cause, cause);
        assert_eq!(run.state.boots.b.mark, Some(Mark::Failed));
    }
}

#[test]
fn a_boot_loader_that_forgets_is_armed_again_after_a_power_cut_but_not_after_a_panic() {
    let mut run = Run::to_trial(Counting::Once);
    let before = Boots::factory(Some(Mark::Empty)).denied(Slot::B).unwrap();
    for _ in 1..Limits::default().arms {
        run.state.boots = before.clone();
        assert_eq!(run.start(Slot::A, ResetCause::PowerOn), Action::Reboot { trial: Some(Slot::B) });
    }
    run.state.boots = before.clone();
    assert_eq!(run.start(Slot::A, ResetCause::PowerOn), Action::Rest);
    assert_eq!(run.last_end(), Outcome::FellBack(Cause::TriesUsedUp));

    let mut run = Run::to_trial(Counting::Once);
    run.state.boots = before;
    run.start(Slot::A, ResetCause::Panic);
    assert_eq!(run.last_end(), Outcome::FellBack(Cause::Panic));
}

#[test]
fn a_confirmed_system_is_left_after_three_panics_in_a_row_and_never_for_a_pulled_plug() {
    let mut run = Run::to_trial(Counting::Tries);
    run.start(Slot::B, ResetCause::Asked);
    let action = run.tell(Event::Healthy);
    run.go_on(action);
    for _ in 0..10 {
        assert_eq!(run.start(Slot::B, ResetCause::PowerOn), Action::Rest);
    }
    run.start(Slot::B, ResetCause::Panic);
    run.start(Slot::B, ResetCause::Watchdog);
    assert_eq!(run.start(Slot::B, ResetCause::Panic), Action::Verify { slot: Slot::A });
    let action = run.tell(Event::Verified { fingerprint: OLD, security_epoch: 0 });
    assert_eq!(run.go_on(action), Action::Reboot { trial: None });
    assert_eq!(run.start(Slot::A, ResetCause::Asked), Action::Rest);
    assert_eq!(run.last_end(), Outcome::FellBack(Cause::BadStarts));
    assert_eq!(run.state.record.blocked[0].release, release(7));
}

#[test]
fn a_lock_delays_the_reboot_up_to_its_limit() {
    let mut run = Run::new(idle(Counting::Tries));
    run.tell(Event::Asked { source: Line::cut("x") });
    let mut action = run.tell(Event::Admitted(offer()));
    while action != Action::AskReboot {
        let event = match action {
            Action::Stage(StagingStep::Deny) => Event::Changed(run.state.boots.denied(Slot::B).unwrap()),
            Action::Stage(step) => Event::Staged(step),
            ref other => panic!("{other:?}"),
        };
        action = run.tell(event);
    }
    let limits = Limits::default();
    let mut at = 10;
    while action == Action::AskReboot {
        let Action::Wait { until } = run.tell_at(Event::MustWait, now(at)) else { break };
        at = until.as_secs();
        action = run.tell_at(Event::Tick, now(at));
    }
    assert_eq!(action, Action::Arm { slot: Slot::B, tries: limits.tries });
    assert_eq!(at, 10 + limits.lock.as_secs());
}

#[test]
fn a_release_of_instances_alone_is_tried_without_a_reboot_and_undone_as_one() {
    let mut run = Run::new(idle(Counting::Tries));
    run.tell(Event::Asked { source: Line::cut("x") });
    let action = run.tell(Event::Admitted(Offer { system: None, ..offer() }));
    assert_eq!(action, Action::Stage(StagingStep::Images));
    assert!(matches!(run.go_on(action), Action::Watch { .. }));
    let action = run.tell(Event::Unhealthy(unwell()));
    assert_eq!(run.go_on(action), Action::Rest);
    assert_eq!(run.last_end(), Outcome::FellBack(Cause::Unwell(unwell())));
    assert!(!run.actions.iter().any(|action| matches!(action, Action::Reboot { .. } | Action::Fail { .. })));
}

#[test]
fn a_rollback_is_a_trial_too_and_blocks_what_it_left() {
    let mut run = Run::to_trial(Counting::Tries);
    run.start(Slot::B, ResetCause::Asked);
    let action = run.tell(Event::Healthy);
    run.go_on(action);
    assert_eq!(run.tell(Event::UserRollsBack), Action::Verify { slot: Slot::A });
    assert_eq!(run.refused(Event::Verified { fingerprint: OLD, security_epoch: 0 }), Refused::EpochBelowFloor);
    let action = run.tell(Event::Verified { fingerprint: OLD, security_epoch: 1 });
    assert_eq!(run.go_on(action), Action::Reboot { trial: Some(Slot::A) });
    assert!(matches!(run.start(Slot::A, ResetCause::Asked), Action::Watch { .. }));
    let action = run.tell(Event::Healthy);
    assert_eq!(run.go_on(action), Action::Rest);
    assert_eq!(run.state.record.blocked[0].cause, Cause::User);
    assert_eq!(run.state.record.floors.release, 7);
}

#[test]
fn a_trial_of_which_nothing_is_remembered_is_judged_all_the_same() {
    let mut state = idle(Counting::Tries);
    state.boots = state.boots.armed(Slot::B, Tries::FULL).unwrap();
    let mut run = Run::new(state.clone());
    assert!(matches!(run.start(Slot::B, ResetCause::Unknown), Action::Watch { .. }));
    assert_eq!(run.state.record.phase.update().unwrap().kind, Kind::Found);
    state.boots.b.left = Tries::NONE;
    let mut run = Run::new(state);
    assert_eq!(run.start(Slot::A, ResetCause::Watchdog), Action::Rest);
    assert_eq!(run.last_end(), Outcome::FellBack(Cause::Watchdog));
}

#[test]
fn what_is_refused_has_changed_nothing() {
    let trial = {
        let mut run = Run::to_trial(Counting::Tries);
        run.start(Slot::B, ResetCause::Asked);
        run
    };
    let source = Line::cut("http://127.0.0.1/other/");
    assert_eq!(trial.refused(Event::Asked { source: source.clone() }), Refused::TrialGoesOn);
    assert_eq!(trial.refused(Event::UserCancels), Refused::TooLate);
    let mut held = Run::new(idle(Counting::Tries));
    held.tell(Event::UserHolds);
    assert_eq!(held.refused(Event::Asked { source }), Refused::Held);
    assert_eq!(held.refused(Event::UserConfirms), Refused::NoTrial);
    assert_eq!(held.refused(Event::UserRollsBack), Refused::NothingBefore);
    assert_eq!(held.refused(Event::UserAllows { release: [1; 32] }), Refused::NotBlocked);
    assert_eq!(held.state.record.phase, Phase::Idle);
}

/// What the release before must be able to read is written from the first start of the trial until the boot loader keeps the new one, or
/// the old one runs again.
#[test]
fn a_system_is_on_trial_from_its_first_start_until_the_boot_loader_keeps_it() {
    for counting in [Counting::Tries, Counting::Once] {
        let mut run = Run::to_trial(counting);
        assert_eq!(run.state.standing(), Standing::Confirmed, "the old one runs");
        run.start(Slot::B, ResetCause::Asked);
        assert_eq!(run.state.standing(), Standing::OnTrial);
        let mut good = Run::new(run.state.clone());
        assert_eq!(good.tell(Event::Healthy), Action::Confirm { slot: Slot::B });
        assert_eq!(good.state.standing(), Standing::OnTrial, "it was not told to the boot loader yet");
        let boots = good.state.boots.confirmed(Slot::B);
        let action = good.tell(Event::Changed(boots));
        assert_eq!(good.state.standing(), Standing::Confirmed);
        good.go_on(action);
        assert_eq!((&good.state.record.phase, good.state.standing()), (&Phase::Idle, Standing::Confirmed));

        let unwell = Unwell { instance: None, reason: Line::cut("it is not") };
        let mut action = run.tell(Event::Unhealthy(unwell));
        while !matches!(action, Action::Reboot { .. }) {
            assert_eq!(run.state.standing(), Standing::OnTrial, "{action:?}");
            let verified = Event::Verified { fingerprint: OLD, security_epoch: 1 };
            action = if matches!(action, Action::Verify { .. }) { run.tell(verified) } else { run.go_on(action) };
        }
        assert_eq!(run.state.standing(), Standing::OnTrial, "it failed, and runs still");
        run.start(Slot::A, ResetCause::Asked);
        assert_eq!(run.state.standing(), Standing::Confirmed);
    }
}
