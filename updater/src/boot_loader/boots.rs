//! What a boot loader will do, and the changes that an update makes to it. Pure: none of them leaves nothing to start.

use crate::boot_state::{Blocked, Mark, Order, Slot, SlotState, Tries};
use std::fmt;

/// What a boot loader will do at the next start.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Boots {
    /// The slots that it tries, first first. A slot on trial is the first.
    pub order: Order,
    /// Slot A.
    pub a: SlotState,
    /// Slot B.
    pub b: SlotState,
    /// The slot that was armed and is not confirmed yet.
    pub trial: Option<Slot>,
    /// System images that failed, where the boot loader's state has a place for them.
    pub blocked: Blocked,
}

/// Why a change is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotAllowed {
    /// Without this slot there would be no other to start.
    NothingElse {
        /// The slot that the change is about.
        slot: Slot,
    },
    /// The other slot is on trial, and this one is what it falls back to.
    OtherOnTrial {
        /// The slot that the change is about.
        slot: Slot,
    },
}

impl Boots {
    /// What a factory image begins with. `b` is [`None`] when both slots hold a system, else the mark of the one that does not.
    pub fn factory(b: Option<Mark>) -> Boots {
        let (order, left_b) = if b.is_none() { (Order::AThenB, Tries::FULL) } else { (Order::A, Tries::NONE) };
        Boots {
            order,
            a: SlotState { left: Tries::FULL, mark: None },
            b: SlotState { left: left_b, mark: b },
            trial: None,
            blocked: Blocked::default(),
        }
    }

    /// The slot's own state.
    pub fn slot(&self, slot: Slot) -> &SlotState {
        match slot {
            Slot::A => &self.a,
            Slot::B => &self.b,
        }
    }

    /// Whether the slot may be started at all.
    pub fn is_in_order(&self, slot: Slot) -> bool {
        self.order.slots().contains(&slot)
    }

    /// The slot that the boot loader takes now; `None`: no slot of the order has a try left, and a boot script refills them.
    pub fn next(&self) -> Option<Slot> {
        self.order.slots().iter().copied().find(|slot| self.slot(*slot).left != Tries::NONE)
    }

    /// The slot is about to be written.
    ///
    /// # Errors
    /// When the board would have nothing else to start.
    pub fn denied(&self, slot: Slot) -> Result<Boots, NotAllowed> {
        self.without(slot, Mark::Writing)
    }

    /// The slot failed: it is not tried again, and its system image is blocked.
    ///
    /// # Errors
    /// When the board would have nothing else to start.
    pub fn failed(&self, slot: Slot, image: Option<&[u8; 32]>) -> Result<Boots, NotAllowed> {
        let mut boots = self.without(slot, Mark::Failed)?;
        if let Some(image) = image {
            boots.blocked.add(image);
        }
        Ok(boots)
    }

    /// The slot is tried next, and the other one takes over when its tries are used up.
    ///
    /// # Errors
    /// When there is no other one.
    pub fn armed(&self, slot: Slot, tries: Tries) -> Result<Boots, NotAllowed> {
        if !self.is_in_order(slot.other()) {
            return Err(NotAllowed::NothingElse { slot });
        }
        if self.trial == Some(slot.other()) {
            return Err(NotAllowed::OtherOnTrial { slot });
        }
        let mut boots = self.clone();
        boots.order = Order::both_from(slot);
        boots.trial = Some(slot);
        *boots.slot_mut(slot) = SlotState { left: tries, mark: None };
        boots.slot_mut(slot.other()).left = Tries::FULL;
        Ok(boots)
    }

    /// The slot is the first for good. The other one stays behind it if it is in the order, and not on trial.
    pub fn confirmed(&self, slot: Slot) -> Boots {
        let is_other_good = self.is_in_order(slot.other()) && self.trial != Some(slot.other());
        let mut boots = self.clone();
        boots.order = if is_other_good { Order::both_from(slot) } else { Order::only(slot) };
        boots.trial = None;
        *boots.slot_mut(slot) = SlotState { left: Tries::FULL, mark: None };
        boots
    }

    /// The slot is the only one: the other does not verify.
    pub fn kept_only(&self, slot: Slot) -> Boots {
        let mut boots = self.clone();
        boots.order = Order::only(slot);
        boots.trial = None;
        *boots.slot_mut(slot) = SlotState { left: Tries::FULL, mark: None };
        let other = boots.slot_mut(slot.other());
        *other = SlotState { left: Tries::NONE, mark: other.mark.or(Some(Mark::Failed)) };
        boots
    }

    /// This system image is no longer blocked.
    pub fn allowing(&self, image: &[u8; 32]) -> Boots {
        let mut boots = self.clone();
        boots.blocked.remove(image);
        boots
    }

    fn without(&self, slot: Slot, mark: Mark) -> Result<Boots, NotAllowed> {
        if !self.is_in_order(slot.other()) {
            return Err(NotAllowed::NothingElse { slot });
        }
        if self.trial == Some(slot.other()) {
            return Err(NotAllowed::OtherOnTrial { slot });
        }
        let mut boots = self.clone();
        boots.order = Order::only(slot.other());
        boots.trial = None;
        *boots.slot_mut(slot) = SlotState { left: Tries::NONE, mark: Some(mark) };
        // The only one left is one that is started: a boot loader that counted it down would pass over it.
        boots.slot_mut(slot.other()).left = Tries::FULL;
        Ok(boots)
    }

    pub(crate) fn slot_mut(&mut self, slot: Slot) -> &mut SlotState {
        match slot {
            Slot::A => &mut self.a,
            Slot::B => &mut self.b,
        }
    }
}

impl fmt::Display for NotAllowed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAllowed::NothingElse { slot } => {
                write!(
                    out,
                    "slot {slot}: slot {} is not bootable, so the board would have no other system",
                    slot.other()
                )
            }
            NotAllowed::OtherOnTrial { slot } => {
                write!(out, "slot {slot}: slot {} is on trial, and would have nothing to fall back to", slot.other())
            }
        }
    }
}

impl std::error::Error for NotAllowed {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// All that a boot loader can say, but for what is blocked.
    fn all() -> Vec<Boots> {
        let marks = [None, Some(Mark::Empty), Some(Mark::Writing), Some(Mark::Failed)];
        let states = || {
            marks
                .into_iter()
                .flat_map(|mark| [0, 1, 3].map(|left| SlotState { left: Tries::new(left).unwrap(), mark }))
        };
        let mut all = Vec::new();
        for order in [Order::A, Order::B, Order::AThenB, Order::BThenA] {
            for trial in [None, Some(Slot::A), Some(Slot::B)] {
                for a in states() {
                    all.extend(states().map(|b| Boots { order, a, b, trial, blocked: Blocked::default() }));
                }
            }
        }
        all
    }

    #[test]
    fn no_change_leaves_the_board_without_a_slot_that_is_not_on_trial() {
        let mut changes = 0;
        for boots in all() {
            for slot in Slot::ALL {
                let results = [boots.denied(slot), boots.failed(slot, None), boots.armed(slot, Tries::FULL)];
                for after in results.into_iter().flatten() {
                    let kept = slot.other();
                    assert!(after.is_in_order(kept) && after.slot(kept).left != Tries::NONE, "{boots:?} {after:?}");
                    assert_ne!(after.trial, Some(kept));
                    changes += 1;
                }
                for after in [boots.confirmed(slot), boots.kept_only(slot)] {
                    assert_eq!((after.next(), after.trial), (Some(slot), None));
                    changes += 1;
                }
            }
        }
        assert!(4000 < changes, "{changes}");
    }

    #[test]
    fn each_change_made_twice_is_the_same_as_once() {
        let image = [7; 32];
        for boots in all() {
            for slot in Slot::ALL {
                type Change = fn(&Boots, Slot, &[u8; 32]) -> Result<Boots, NotAllowed>;
                let changes: [Change; 5] = [
                    |boots, slot, _| boots.denied(slot),
                    |boots, slot, image| boots.failed(slot, Some(image)),
                    |boots, slot, _| boots.armed(slot, Tries::FULL),
                    |boots, slot, _| Ok(boots.confirmed(slot)),
                    |boots, slot, _| Ok(boots.kept_only(slot)),
                ];
                for change in changes {
                    if let Ok(once) = change(&boots, slot, &image) {
                        assert_eq!(change(&once, slot, &image).as_ref(), Ok(&once));
                    }
                }
            }
        }
    }

    #[test]
    fn what_the_trial_would_fall_back_to_is_neither_denied_nor_failed() {
        let armed = Boots::factory(None).armed(Slot::B, Tries::FULL).unwrap();
        assert_eq!(armed.denied(Slot::A), Err(NotAllowed::OtherOnTrial { slot: Slot::A }));
        assert_eq!(armed.failed(Slot::A, None), Err(NotAllowed::OtherOnTrial { slot: Slot::A }));
        assert_eq!(armed.armed(Slot::A, Tries::FULL), Err(NotAllowed::OtherOnTrial { slot: Slot::A }));
        let only = Boots::factory(Some(Mark::Empty));
        assert_eq!(only.denied(Slot::A), Err(NotAllowed::NothingElse { slot: Slot::A }));
    }

    #[test]
    fn an_image_that_failed_is_blocked_until_it_is_allowed() {
        let boots = Boots::factory(None).failed(Slot::B, Some(&[1; 32])).unwrap();
        assert_eq!(boots.blocked.fingerprints(), [[1; 32]]);
        assert_eq!(boots.allowing(&[1; 32]).blocked, Blocked::default());
        let mut many = boots;
        for number in 2..=6 {
            many.blocked.add(&[number; 32]);
        }
        assert_eq!(many.blocked.fingerprints(), [[3; 32], [4; 32], [5; 32], [6; 32]]);
    }
}
