//! The driver of the board: it does what the machine says, one write after the other, and tells what became of it.

use super::{Content, Instance, NOW, Next, Power, Seen, World, offer, system_image};
use crate::boot_loader::Boots;
use crate::machine::{Action, Event, Now, ResetCause, State};
use crate::record::{Kind, Line, Outcome, Phase, StagingStep, Unwell};
use std::time::Duration;

impl World {
    /// The driver's next write, or what it tells when there is nothing to write.
    pub(super) fn acts(&self, state: &State, action: &Action) -> Vec<Next> {
        if state.record != self.disk.record {
            let mut world = self.clone();
            if state.record.phase == Phase::Idle && matches!(self.disk.record.phase, Phase::Ended { .. }) {
                world.seen = Seen { is_left: self.seen.is_left, ..Seen::default() };
            }
            world.disk.record = state.record.clone();
            world.power = Power::On { state: Box::new(state.clone()), action: action.clone(), unknown: None };
            return vec![Next { what: "the record is written", world }];
        }
        let tells = |what, event| vec![Next { what, world: self.told(state, event, NOW) }];
        match action {
            Action::Rest => Vec::new(),
            Action::Wait { until } => {
                let later = Now { since_start: *until, ..NOW };
                vec![Next { what: "the time comes", world: self.told(state, Event::Tick, later) }]
            }
            Action::Admit { source } => {
                let number = source.as_str().parse().expect("we wrote it");
                let mut next = tells("the release is admitted", Event::Admitted(offer(number)));
                next.extend(tells("the release is not admitted", Event::NotAdmitted));
                next.extend(self.source_fails(state));
                next
            }
            Action::Stage(step) => self.stages(state, *step),
            Action::AskReboot => {
                let mut next = tells("nobody minds a reboot", Event::MayReboot);
                next.extend(tells("somebody holds the lock", Event::MustWait));
                next
            }
            Action::Arm { slot, tries } => self.tells_loader(state, state.boots.armed(*slot, *tries).ok()),
            Action::Confirm { slot } => self.tells_loader(state, Some(state.boots.confirmed(*slot))),
            Action::Fail { slot, image } => self.tells_loader(state, state.boots.failed(*slot, image.as_ref()).ok()),
            Action::Deny { slot } => self.tells_loader(state, state.boots.denied(*slot).ok()),
            Action::KeepOnly { slot } => self.tells_loader(state, Some(state.boots.kept_only(*slot))),
            Action::Allow { image } => self.tells_loader(state, Some(state.boots.allowing(image))),
            Action::Reboot { trial: _ } => vec![self.cut("it reboots", ResetCause::Asked)],
            Action::SwitchInstances => self.switches(state),
            Action::Watch { until } => self.watches(state, *until),
            Action::Verify { slot } => match self.disk.slots[*slot as usize] {
                Content::Whole(image) => {
                    let event = Event::Verified { fingerprint: system_image(image), security_epoch: image as u32 };
                    tells("the other slot verifies", event)
                }
                Content::Nothing | Content::Partly | Content::Rotten(_) => {
                    tells("the other slot does not verify", Event::NotVerified)
                }
            },
            Action::KeepInstances => tells("what was before is kept", Event::Kept),
            Action::KeepLog => tells("the log is kept", Event::LogKept),
            Action::UndoInstances => self.undoes(state),
            Action::End(ended) => {
                let entry = (ended.update.number, ended.outcome.clone());
                if self.disk.history.as_ref() == Some(&entry) {
                    return tells("the end is recorded", Event::Recorded);
                }
                let mut world = self.clone();
                world.disk.history = Some(entry);
                // A firmware that forgets its trials cannot say that it passed over a system.
                let is_found = matches!(ended.update.kind, Kind::Leave | Kind::Found);
                world.seen.is_left |= is_found || matches!(ended.outcome, Outcome::Degraded(_));
                vec![Next { what: "the history is written", world }]
            }
        }
    }

    fn source_fails(&self, state: &State) -> Vec<Next> {
        [false, true]
            .into_iter()
            .filter(|_| 0 < self.budget.failures)
            .map(|is_final| {
                let event = Event::SourceFailed { reason: Line::cut("gone"), is_final };
                let mut world = self.told(state, event, NOW);
                world.budget.failures -= 1;
                Next { what: "the source fails", world }
            })
            .collect()
    }

    fn stages(&self, state: &State, step: StagingStep) -> Vec<Next> {
        let update = state.record.phase.update().expect("it is being staged");
        let Some(slot) = update.slot().filter(|_| step != StagingStep::Images) else {
            return vec![Next { what: "an image is there", world: self.told(state, Event::Staged(step), NOW) }];
        };
        let content = self.disk.slots[slot as usize];
        let wanted = Content::Whole(update.release.as_ref().expect("it is an install").number);
        match step {
            StagingStep::Deny => return self.tells_loader(state, state.boots.denied(slot).ok()),
            StagingStep::Write if content != wanted => {
                let mut world = self.clone();
                let is_begun = content == Content::Partly;
                world.disk.slots[slot as usize] = if is_begun { wanted } else { Content::Partly };
                let what = if is_begun { "the rest is written" } else { "the first block is written" };
                let mut next = vec![Next { what, world }];
                if is_begun {
                    next.extend(self.source_fails(state));
                    next.extend(self.fails(state, Event::StageFailed { reason: Line::cut("full") }));
                }
                return next;
            }
            StagingStep::Write | StagingStep::ReadBack | StagingStep::BootFiles | StagingStep::Images => {}
        }
        let mut next = vec![Next { what: "a step is done", world: self.told(state, Event::Staged(step), NOW) }];
        if step == StagingStep::ReadBack {
            for mut bad in self.fails(state, Event::NotReadBack { reason: Line::cut("other bytes") }) {
                bad.world.disk.slots[slot as usize] = Content::Partly;
                next.push(bad);
            }
        }
        next
    }

    /// One of the failures that are allowed.
    fn fails(&self, state: &State, event: Event) -> Vec<Next> {
        if self.budget.failures == 0 {
            return Vec::new();
        }
        let mut world = self.told(state, event, NOW);
        world.budget.failures -= 1;
        vec![Next { what: "something fails", world }]
    }

    fn tells_loader(&self, state: &State, boots: Option<Boots>) -> Vec<Next> {
        let failed = Event::LoaderFailed { reason: Line::cut("no medium") };
        let Some(boots) = boots else {
            return vec![Next { what: "the boot loader may not", world: self.told(state, failed, NOW) }];
        };
        let loader = self.disk.loader.with(&boots);
        if loader != self.disk.loader {
            let mut world = self.clone();
            world.disk.loader = loader;
            // What the driver knows is as before: it has not been told yet.
            let mut next = vec![Next { what: "the boot loader's state is written", world }];
            next.extend(self.fails(state, failed));
            return next;
        }
        let event = Event::Changed(self.disk.loader.view());
        vec![Next { what: "the boot loader's state is read back", world: self.told(state, event, NOW) }]
    }

    fn switches(&self, state: &State) -> Vec<Next> {
        let update = state.record.phase.update().expect("it is on trial");
        let Instance { image, kept } = self.disk.instance;
        if kept.is_some_and(|(number, _)| number == update.number) {
            return vec![Next { what: "the images are new", world: self.told(state, Event::Switched, NOW) }];
        }
        let mut world = self.clone();
        let new = match (update.kind, &update.release, kept) {
            (Kind::Rollback, _, Some((_, before))) => before,
            (_, Some(release), _) => release.number,
            (_, None, _) => image,
        };
        world.disk.instance = Instance { image: new, kept: Some((update.number, image)) };
        vec![Next { what: "the images are exchanged", world }]
    }

    fn undoes(&self, state: &State) -> Vec<Next> {
        let number = state.record.phase.update().expect("it is undone").number;
        match self.disk.instance.kept {
            Some((of, before)) if of == number => {
                let mut world = self.clone();
                world.disk.instance = Instance { image: before, kept: Some((0, self.disk.instance.image)) };
                vec![Next { what: "the images are put back", world }]
            }
            Some(_) | None => {
                vec![Next { what: "the images are old", world: self.told(state, Event::Undone, NOW) }]
            }
        }
    }

    fn watches(&self, state: &State, until: Duration) -> Vec<Next> {
        let unwell = Unwell { instance: None, reason: Line::cut("not ready") };
        let mut next = vec![
            Next { what: "all is well", world: self.told(state, Event::Healthy, NOW) },
            Next { what: "something is not well", world: self.told(state, Event::Unhealthy(unwell), NOW) },
        ];
        next[1].world.seen.unhealthy = true;
        let later = Now { since_start: until, ..NOW };
        let mut late = Next { what: "the deadline passes", world: self.told(state, Event::Tick, later) };
        late.world.seen.deadline = true;
        next.push(late);
        next
    }
}
