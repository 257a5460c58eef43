//! The values of the boot state: slots, their order, tries and marks, and the images that failed. Each has one text form,
//! which is what stands in the environment, and reads nothing else.

use std::fmt;
use yado_wire::hex;

/// One of the two places for a system image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// `slot-a`.
    A,
    /// `slot-b`.
    B,
}

/// The slots the boot loader tries, first first. There is always one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// Only A.
    A,
    /// Only B.
    B,
    /// A, then B.
    AThenB,
    /// B, then A.
    BThenA,
}

/// One slot, as the boot loader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotState {
    /// Tries left; at 0 the slot is passed over.
    pub left: Tries,
    /// Why it is not to be tried, if so.
    pub mark: Option<Mark>,
}

/// A number of tries: one digit, because U-Boot's `setexpr` counts in hexadecimal and its `test` compares in decimal, and
/// only below ten are they the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tries(pub(super) u8);

/// Why a slot is not to be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// Nothing was ever installed in it.
    Empty,
    /// It is being written, or the writing was cut.
    Writing,
    /// Its image did not pass its trial.
    Failed,
}

/// Fingerprints of blocked system images: at most [`Blocked::MAX`], the oldest is forgotten first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Blocked(pub(super) Vec<[u8; 32]>);

impl Slot {
    /// Both, in order.
    pub const ALL: [Slot; 2] = [Slot::A, Slot::B];

    /// Its letter.
    pub fn letter(self) -> char {
        match self {
            Slot::A => 'A',
            Slot::B => 'B',
        }
    }

    /// The other one.
    pub fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    /// The slot of this name.
    pub fn parse(text: &str) -> Option<Slot> {
        match text {
            "A" => Some(Slot::A),
            "B" => Some(Slot::B),
            _ => None,
        }
    }
}

impl Order {
    /// This one and no other.
    pub fn only(slot: Slot) -> Order {
        match slot {
            Slot::A => Order::A,
            Slot::B => Order::B,
        }
    }

    /// This one, then the other.
    pub fn both_from(slot: Slot) -> Order {
        match slot {
            Slot::A => Order::AThenB,
            Slot::B => Order::BThenA,
        }
    }

    /// The slots, first first.
    pub fn slots(self) -> &'static [Slot] {
        match self {
            Order::A => &[Slot::A],
            Order::B => &[Slot::B],
            Order::AThenB => &[Slot::A, Slot::B],
            Order::BThenA => &[Slot::B, Slot::A],
        }
    }

    /// The text of `BOOT_ORDER`.
    pub fn as_str(self) -> &'static str {
        match self {
            Order::A => "A",
            Order::B => "B",
            Order::AThenB => "A B",
            Order::BThenA => "B A",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Order> {
        [Order::A, Order::B, Order::AThenB, Order::BThenA].into_iter().find(|order| order.as_str() == text)
    }
}

impl Tries {
    /// None left: the slot is passed over.
    pub const NONE: Tries = Tries(0);
    /// What a good or newly armed slot has; RAUC's and U-Boot's default.
    pub const FULL: Tries = Tries(3);

    /// This many, if it is a digit.
    pub fn new(count: u8) -> Option<Tries> {
        (count < 10).then_some(Tries(count))
    }

    /// The number.
    pub fn count(self) -> u8 {
        self.0
    }

    pub(super) fn parse(text: &str) -> Option<Tries> {
        match text.as_bytes() {
            [digit @ b'0'..=b'9'] => Some(Tries(digit - b'0')),
            _ => None,
        }
    }
}

impl Mark {
    /// The mark's name, in the store and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Mark::Empty => "empty",
            Mark::Writing => "writing",
            Mark::Failed => "failed",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Mark> {
        [Mark::Empty, Mark::Writing, Mark::Failed].into_iter().find(|mark| mark.as_str() == text)
    }
}

impl Blocked {
    /// How many are remembered: 64 digits each, so they leave most of a copy's 4 KiB to others.
    pub const MAX: usize = 4;

    /// The fingerprints, oldest first.
    pub fn fingerprints(&self) -> &[[u8; 32]] {
        &self.0
    }

    /// Adds one; the oldest gives it its place.
    pub fn add(&mut self, fingerprint: &[u8; 32]) {
        if self.0.contains(fingerprint) {
            return;
        }
        if Blocked::MAX <= self.0.len() {
            self.0.remove(0);
        }
        self.0.push(*fingerprint);
    }

    /// Takes one out.
    pub fn remove(&mut self, fingerprint: &[u8; 32]) {
        self.0.retain(|other| other != fingerprint);
    }

    pub(super) fn parse(text: &str) -> Option<Blocked> {
        let all: Option<Vec<[u8; 32]>> = text.split(' ').map(hex::parse_digest).collect();
        all.filter(|all| all.len() <= Blocked::MAX).map(Blocked)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Slot::A => "A",
            Slot::B => "B",
        })
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fingerprint) in self.0.iter().enumerate() {
            if index != 0 {
                out.write_str(" ")?;
            }
            out.write_str(&hex::encode(fingerprint))?;
        }
        Ok(())
    }
}
