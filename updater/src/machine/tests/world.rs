//! A board for the machine: two slots, a boot loader, images of one instance, a disk that keeps each write, and a driver that does
//! what the machine says and can be cut after every one of its writes. It is small enough to be walked as a whole.
//!
//! Release 1 is what the factory put there. Release 2 is a system and an image, release 3 an image alone.

mod driver;

use crate::boot_loader::{Boots, Counting};
use crate::boot_state::{Mark, Order, Slot, SlotState, Tries};
use crate::machine::{Action, Event, Limits, Now, Offer, Place, ResetCause, State, Step, step};
use crate::record::{Cause, Line, Outcome, Phase, Record, Release, Update};
use std::time::Duration;
use yado_wire::InstanceName;

/// What is on the media.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    pub(super) record: Record,
    pub(super) loader: Loader,
    pub(super) slots: [Content; 2],
    pub(super) instance: Instance,
    /// The last of the history.
    pub(super) history: Option<(u32, Outcome)>,
}

/// What a boot loader keeps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Loader {
    /// As our boot script.
    Tries(Boots),
    /// As the firmware with `BootNext`.
    Once { order: Order, next: Option<Slot> },
}

/// What is in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Content {
    Nothing,
    /// Some of its blocks were written.
    Partly,
    /// The system of this release. Whether it is any good is seen when it runs.
    Whole(u64),
    /// It was whole, and does not verify any more.
    Rotten(u64),
}

/// The image of the one instance, with what it had before the update of this number. One write changes both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Instance {
    pub(super) image: u64,
    pub(super) kept: Option<(u32, u64)>,
}

/// A board at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) disk: Disk,
    pub(super) power: Power,
    /// What really ended the runs of the slot that is not the good one, since it was armed: causes that may be told.
    pub(super) seen: Seen,
    pub(super) budget: Budget,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Power {
    /// Nothing runs; the next start finds this cause.
    Off(ResetCause),
    /// A system runs, and its driver is about to do this.
    On {
        state: Box<State>,
        action: Action,
        /// The start of the machine was told, and the record has what became of it; until then its cause is told again.
        unknown: Option<ResetCause>,
    },
}

/// What happened, so that nothing else may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Seen {
    pub(super) panic: bool,
    pub(super) watchdog: bool,
    pub(super) unhealthy: bool,
    pub(super) deadline: bool,
    pub(super) user: bool,
    pub(super) damage: bool,
    /// A confirmed system was left, or stays though it is bad: what runs is no longer what was asked for.
    pub(super) is_left: bool,
}

/// How much may still be wanted or broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub(super) asks: u8,
    pub(super) whims: u8,
    pub(super) rots: u8,
    pub(super) failures: u8,
}

/// One thing that may happen next: what it is, and what the board is then.
pub(super) struct Next {
    pub(super) what: &'static str,
    pub(super) world: World,
}

/// Small numbers: what happens twice happens three times.
pub(super) fn limits() -> Limits {
    Limits { tries: Tries::new(2).expect("a digit"), arms: 2, bad_starts: 2, source_failures: 1, ..Limits::default() }
}

const NOW: Now = Now { since_start: Duration::from_secs(10), unix: 1_800_000_000 };

pub(super) fn system_image(release: u64) -> [u8; 32] {
    [release as u8; 32]
}

pub(super) fn release(number: u64) -> Release {
    Release {
        fingerprint: [0x80 | number as u8; 32],
        number,
        security_epoch: number as u32,
        version: Line::default(),
    }
}

pub(super) fn offer(number: u64) -> Offer {
    Offer {
        release: release(number),
        system: (number != 3).then(|| system_image(number)),
        instances: vec![InstanceName::parse("web").expect("a name")],
        needs_uplink: false,
    }
}

fn source(number: u64) -> Line {
    Line::cut(&number.to_string())
}

impl World {
    /// A new board: `b` is what the factory left in slot B.
    pub(super) fn new(counting: Counting, b: Content, budget: Budget) -> World {
        let mark = if b == Content::Nothing { Some(Mark::Empty) } else { None };
        let boots = Boots::factory(mark);
        let loader = match counting {
            Counting::Tries => Loader::Tries(boots),
            Counting::Once => Loader::Once { order: boots.order, next: None },
        };
        let disk = Disk {
            record: Record { next_update: 1, ..Record::default() },
            loader,
            slots: [Content::Whole(1), b],
            instance: Instance { image: 1, kept: None },
            history: None,
        };
        World { disk, power: Power::Off(ResetCause::PowerOn), seen: Seen::default(), budget }
    }

    /// All that may happen next.
    pub(super) fn next(&self) -> Vec<Next> {
        match &self.power {
            Power::Off(reset) => self.starts(*reset),
            Power::On { state, action, unknown } => {
                let mut next = self.ends_of_power();
                next.push(self.updater_again(state.place, *unknown));
                next.extend(self.acts(state, action));
                // Who does something hears nothing until it is done and told.
                if state.boots == self.disk.loader.view() {
                    next.extend(self.whims(state));
                }
                next
            }
        }
    }

    /// What happens when nothing more goes wrong and nobody wants anything.
    pub(super) fn next_by_itself(&self) -> Vec<Next> {
        match &self.power {
            Power::Off(reset) => self.starts(*reset),
            Power::On { state, action, .. } => {
                let damage = self.damage_is_seen(state);
                if damage.is_empty() { self.acts(state, action) } else { damage }
            }
        }
    }

    /// The plug, the kernel and the watchdog, at any moment.
    fn ends_of_power(&self) -> Vec<Next> {
        vec![self.cut("the power is cut", ResetCause::PowerOn), self.panics(), self.hangs()]
    }

    /// The process was killed, or had ended, in the same start of the machine.
    fn updater_again(&self, place: Place, unknown: Option<ResetCause>) -> Next {
        let event = unknown.map_or(Event::Resumed, |reset| Event::Started { place, reset });
        Next { what: "the updater is started again", world: self.told(&self.state(place), event, NOW) }
    }

    fn state(&self, place: Place) -> State {
        let boots = self.disk.loader.view();
        State::new(self.disk.record.clone(), boots, self.disk.loader.counting(), place, limits())
    }

    fn cut(&self, what: &'static str, reset: ResetCause) -> Next {
        Next { what, world: World { power: Power::Off(reset), ..self.clone() } }
    }

    fn panics(&self) -> Next {
        let mut next = self.cut("the kernel panics", ResetCause::Panic);
        next.world.seen.panic = true;
        next
    }

    fn hangs(&self) -> Next {
        let mut next = self.cut("the watchdog resets it", ResetCause::Watchdog);
        next.world.seen.watchdog = true;
        next
    }

    /// What the boot loader does, and how far the system comes that it takes.
    fn starts(&self, reset: ResetCause) -> Vec<Next> {
        let mut next = Vec::new();
        let mut world = self.clone();
        let candidates: Vec<Slot> = match &mut world.disk.loader {
            Loader::Tries(boots) => {
                let Some(slot) = boots.next() else {
                    // As the boot script: who gives up is of no use to anybody.
                    for slot in boots.order.slots() {
                        boots.slot_mut(*slot).left = Tries::FULL;
                    }
                    return vec![Next { what: "the boot script refills the tries", world }];
                };
                if boots.trial == Some(slot) {
                    let left = boots.slot(slot).left.count();
                    boots.slot_mut(slot).left = Tries::new(left - 1).expect("it was not none");
                }
                boots.order.slots().iter().copied().skip_while(|other| *other != slot).collect()
            }
            Loader::Once { order, next } => {
                let first = next.take();
                first.into_iter().chain(order.slots().iter().copied()).collect()
            }
        };
        if world.disk != self.disk {
            next.push(world.cut("the power is cut when the try is counted", ResetCause::PowerOn));
        }
        for (index, slot) in candidates.iter().enumerate() {
            match world.disk.slots[*slot as usize] {
                Content::Whole(image) | Content::Rotten(image) => {
                    next.push(world.cut("the power is cut before anything of ours runs", ResetCause::PowerOn));
                    next.push(world.panics());
                    next.push(world.hangs());
                    next.push(Next { what: "the system starts", world: world.started(*slot, image, reset) });
                }
                // Its boot files may be there, and then the initramfs finds that it does not verify.
                Content::Nothing | Content::Partly => next.push(world.panics()),
            }
            // Its boot files may be gone, too. (Not those from the factory, or two slots could take turns for ever.)
            let is_good = matches!(world.disk.slots[*slot as usize], Content::Whole(1) | Content::Rotten(1));
            if is_good || index + 1 == candidates.len() {
                break;
            }
        }
        next
    }

    fn started(&self, slot: Slot, image: u64, reset: ResetCause) -> World {
        let place = Place { slot, fingerprint: Some(system_image(image)) };
        self.told(&self.state(place), Event::Started { place, reset }, NOW)
    }

    /// The board after the machine was told something. The record is written before the action, which is a moment of its own.
    fn told(&self, state: &State, event: Event, now: Now) -> World {
        let unknown = match (&event, &self.power) {
            (Event::Started { reset, .. }, _) => Some(*reset),
            (_, Power::On { unknown, .. }) => *unknown,
            (_, Power::Off(_)) => None,
        };
        let Step { state, action, refused: _ } = step(state, event, now);
        // What need not be written is there already.
        let unknown = unknown.filter(|_| state.record != self.disk.record);
        World { power: Power::On { state: Box::new(state), action, unknown }, ..self.clone() }
    }

    /// What users want, and what breaks by itself.
    fn whims(&self, state: &State) -> Vec<Next> {
        let mut next = Vec::new();
        if 0 < self.budget.asks && state.record.phase == Phase::Idle {
            for number in [2, 3] {
                let mut world = self.told(state, Event::Asked { source: source(number) }, NOW);
                world.budget.asks -= 1;
                next.push(Next { what: "a release is asked for", world });
            }
        }
        if 0 < self.budget.whims {
            let whims = [
                ("a user confirms", Event::UserConfirms),
                ("a user rolls back", Event::UserRollsBack),
                ("a user holds", Event::UserHolds),
                ("a user releases", Event::UserReleases),
                ("a user cancels", Event::UserCancels),
                ("a user allows release 2", Event::UserAllows { release: release(2).fingerprint }),
            ];
            for (what, event) in whims {
                let is_user = event == Event::UserRollsBack;
                let mut world = self.told(state, event, NOW);
                world.budget.whims -= 1;
                world.seen.user |= is_user;
                if let Power::On { state: after, .. } = &world.power {
                    if **after != *state {
                        next.push(Next { what, world });
                    }
                }
            }
        }
        if 0 < self.budget.rots {
            for slot in Slot::ALL {
                if let Content::Whole(image) = self.disk.slots[slot as usize] {
                    let mut world = self.clone();
                    world.budget.rots -= 1;
                    world.disk.slots[slot as usize] = Content::Rotten(image);
                    next.push(Next { what: "a slot rots", world });
                }
            }
        }
        next.extend(self.damage_is_seen(state));
        next
    }

    fn damage_is_seen(&self, state: &State) -> Vec<Next> {
        if !matches!(self.disk.slots[state.place.slot as usize], Content::Rotten(_)) {
            return Vec::new();
        }
        let mut world = self.told(state, Event::Damaged, NOW);
        world.seen.damage = true;
        if world.power == self.power { Vec::new() } else { vec![Next { what: "damage is seen", world }] }
    }
}

impl Loader {
    pub(super) fn counting(&self) -> Counting {
        match self {
            Loader::Tries(_) => Counting::Tries,
            Loader::Once { .. } => Counting::Once,
        }
    }

    /// What a back end reads.
    pub(super) fn view(&self) -> Boots {
        match self {
            Loader::Tries(boots) => boots.clone(),
            Loader::Once { order, next } => {
                let state = |slot| {
                    let is_started = order.slots().contains(&slot) || *next == Some(slot);
                    SlotState { left: if is_started { Tries::FULL } else { Tries::NONE }, mark: None }
                };
                Boots {
                    order: next.map_or(*order, Order::both_from),
                    a: state(Slot::A),
                    b: state(Slot::B),
                    trial: *next,
                    blocked: Default::default(),
                }
            }
        }
    }

    /// What a back end writes.
    fn with(&self, boots: &Boots) -> Loader {
        match self {
            Loader::Tries(_) => Loader::Tries(boots.clone()),
            // What is on trial stays behind what is good: the firmware takes it where that cannot be loaded.
            Loader::Once { .. } => Loader::Once {
                order: boots.trial.map_or(boots.order, |slot| Order::both_from(slot.other())),
                next: boots.trial,
            },
        }
    }
}

/// Whether the cause can have been.
pub(super) fn is_true(cause: &Cause, seen: Seen) -> bool {
    match cause {
        Cause::Panic => seen.panic,
        Cause::Watchdog => seen.watchdog,
        Cause::BadStarts => seen.panic || seen.watchdog,
        Cause::Unwell(_) => seen.unhealthy,
        Cause::Deadline => seen.deadline,
        Cause::User => seen.user,
        Cause::Damaged => seen.damage,
        Cause::TriesUsedUp | Cause::NotStarted | Cause::Cancelled => true,
        // No such thing happens on this board.
        Cause::OtherSystem => false,
    }
}

/// The update of this state, if it is not over.
pub(super) fn going_on(state: &State) -> Option<&Update> {
    match &state.record.phase {
        Phase::Ended { .. } => None,
        phase => phase.update(),
    }
}
