//! The boot state: which slot the boot loader tries, in what order, how often, and what was found bad. Two checked copies
//! of 4 KiB at the start of the raw `state` partition, in U-Boot's own environment format, so that the boot script reads
//! them with `env import -c` and writes them with `env export -c`. Bytes in, a state out; no I/O here.
//!
//! | key | value | absent means |
//! |---|---|---|
//! | `BOOT_ORDER` | slots to try, first first: `A B`, `B A`, `A`, `B` (RAUC's name) | the copy is bad |
//! | `BOOT_A_LEFT`, `BOOT_B_LEFT` | tries left, one digit; a slot with 0 is passed over (RAUC's names) | the copy is bad |
//! | `BOOT_SEQ` | hexadecimal, as `setexpr` counts; one more with each write | 0 |
//! | `BOOT_TRIAL` | `A` or `B`: this slot is on trial, and only then does the boot script count its tries down | no trial |
//! | `BOOT_A_MARK`, `BOOT_B_MARK` | `empty`, `writing`, `failed`: why a slot is not to be tried | nothing is wrong |
//! | `BOOT_BLOCKED` | fingerprints of system images that failed a trial, oldest first | none |
//!
//! Any other key is kept as it is. The boot script must import and export all of [`VARIABLES`], or it would forget the
//! rest.

mod values;

use crate::environment::{self, CopyError};
use std::fmt;

pub use values::{Blocked, Mark, Order, Slot, SlotState, Tries};

/// The partition's name in the GPT.
pub const PARTITION: &str = "state";
/// Where the two copies are, in bytes from the start of the partition.
pub const COPY_OFFSETS: [u64; 2] = [0, environment::COPY_BYTES as u64];
/// The keys the boot script imports and exports.
pub const VARIABLES: &str =
    "BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT BOOT_SEQ BOOT_TRIAL BOOT_A_MARK BOOT_B_MARK BOOT_BLOCKED";

/// What the boot loader needs to know, and what it must not forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootState {
    /// One more with each write: of two good copies the higher one is the newer.
    pub sequence: u32,
    /// Which slots are tried, and in what order.
    pub order: Order,
    /// Slot A.
    pub a: SlotState,
    /// Slot B.
    pub b: SlotState,
    /// The slot that was armed and is not confirmed yet.
    pub trial: Option<Slot>,
    /// System images that failed a trial; not tried again until told.
    pub blocked: Blocked,
    /// Keys of others (or of a newer release), kept byte for byte.
    pub others: Vec<(String, String)>,
}

/// Why one good copy (the checksum holds) is still no boot state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadValue {
    /// The key.
    pub key: &'static str,
    /// What it says; `None`: it is not there.
    pub found: Option<String>,
    /// What it may say.
    pub expected: &'static str,
}

/// Why one of the two copies is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFault {
    /// Torn, blank or foreign.
    Bytes(CopyError),
    /// Whole, but not a boot state.
    Value(BadValue),
}

/// Neither copy holds a boot state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BothCopiesBad {
    /// What is wrong with the first.
    pub first: CopyFault,
    /// What is wrong with the second.
    pub second: CopyFault,
}

/// The state is too long for a copy: too many keys of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// The bytes it would need.
    pub bytes: usize,
}

impl BootState {
    /// What a factory image starts with. `b` is [`None`] when both slots hold a system, else the mark of the one that
    /// does not.
    pub fn factory(b: Option<Mark>) -> BootState {
        let order = if b.is_none() { Order::AThenB } else { Order::A };
        let left_b = if b.is_none() { Tries::FULL } else { Tries::NONE };
        BootState {
            sequence: 1,
            order,
            a: SlotState { left: Tries::FULL, mark: None },
            b: SlotState { left: left_b, mark: b },
            trial: None,
            blocked: Blocked::default(),
            others: Vec::new(),
        }
    }

    /// Reads both copies: the newer of two good ones, or the only good one.
    pub fn parse(
        first: &[u8; environment::COPY_BYTES],
        second: &[u8; environment::COPY_BYTES],
    ) -> Result<BootState, BothCopiesBad> {
        match (BootState::parse_copy(first), BootState::parse_copy(second)) {
            (Ok(first), Ok(second)) if first.sequence < second.sequence => Ok(second),
            (Ok(first), _) => Ok(first),
            (Err(_), Ok(second)) => Ok(second),
            (Err(first), Err(second)) => Err(BothCopiesBad { first, second }),
        }
    }

    /// Reads one copy.
    pub fn parse_copy(copy: &[u8; environment::COPY_BYTES]) -> Result<BootState, CopyFault> {
        let mut pairs = environment::parse(copy).map_err(CopyFault::Bytes)?;
        BootState::from_pairs(&mut pairs).map_err(CopyFault::Value)
    }

    /// The bytes of one copy; both copies are the same.
    pub fn encode(&self) -> Result<[u8; environment::COPY_BYTES], TooLong> {
        let own = self.own_pairs().into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let pairs: Vec<(String, String)> = own.chain(self.others.iter().cloned()).collect();
        environment::encode(&pairs).map_err(|bytes| TooLong { bytes })
    }

    /// The keys that are ours, each with its value; None: it is not there.
    pub(crate) fn own_pairs(&self) -> [(&'static str, Option<String>); 8] {
        let BootState { sequence, order, a, b, trial, blocked, others: _ } = self;
        let mark = |mark: Option<Mark>| mark.map(|mark| mark.as_str().to_owned());
        [
            ("BOOT_ORDER", Some(order.as_str().to_owned())),
            ("BOOT_A_LEFT", Some(a.left.0.to_string())),
            ("BOOT_B_LEFT", Some(b.left.0.to_string())),
            ("BOOT_SEQ", Some(format!("{sequence:x}"))),
            ("BOOT_TRIAL", trial.map(|slot| slot.to_string())),
            ("BOOT_A_MARK", mark(a.mark)),
            ("BOOT_B_MARK", mark(b.mark)),
            ("BOOT_BLOCKED", (!blocked.0.is_empty()).then(|| blocked.to_string())),
        ]
    }

    /// The state of one slot.
    pub fn slot(&self, slot: Slot) -> &SlotState {
        match slot {
            Slot::A => &self.a,
            Slot::B => &self.b,
        }
    }

    /// The slot the boot loader would take now; `None`: no slot in the order has a try left, and the boot script refills.
    pub fn next(&self) -> Option<Slot> {
        self.order.slots().iter().copied().find(|slot| self.slot(*slot).left != Tries::NONE)
    }

    /// Takes what is ours out of `pairs`; all that is left are keys of others.
    pub(crate) fn from_pairs(pairs: &mut Vec<(String, String)>) -> Result<BootState, BadValue> {
        let order = required(pairs, "BOOT_ORDER", "`A B`, `B A`, `A` or `B`", Order::parse)?;
        let left_a = required(pairs, "BOOT_A_LEFT", "one digit", Tries::parse)?;
        let left_b = required(pairs, "BOOT_B_LEFT", "one digit", Tries::parse)?;
        let sequence = optional(pairs, "BOOT_SEQ", "a hexadecimal number below 2^32", parse_hex)?.unwrap_or(0);
        let trial = optional(pairs, "BOOT_TRIAL", "`A` or `B`", Slot::parse)?;
        let mark_a = optional(pairs, "BOOT_A_MARK", "`empty`, `writing` or `failed`", Mark::parse)?;
        let mark_b = optional(pairs, "BOOT_B_MARK", "`empty`, `writing` or `failed`", Mark::parse)?;
        let blocked =
            optional(pairs, "BOOT_BLOCKED", "at most 4 fingerprints of 64 hexadecimal digits", Blocked::parse)?;
        Ok(BootState {
            sequence,
            order,
            a: SlotState { left: left_a, mark: mark_a },
            b: SlotState { left: left_b, mark: mark_b },
            trial,
            blocked: blocked.unwrap_or_default(),
            others: std::mem::take(pairs),
        })
    }
}

fn required<T>(
    pairs: &mut Vec<(String, String)>,
    key: &'static str,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, BadValue> {
    optional(pairs, key, expected, parse)?.ok_or(BadValue { key, found: None, expected })
}

/// Takes `key` out of `pairs`. U-Boot cannot hold an empty variable, so an empty value is one that is not there.
fn optional<T>(
    pairs: &mut Vec<(String, String)>,
    key: &'static str,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, BadValue> {
    let Some(at) = pairs.iter().position(|(name, _)| name == key) else {
        return Ok(None);
    };
    let (_, text) = pairs.remove(at);
    if text.is_empty() {
        return Ok(None);
    }
    match parse(&text) {
        Some(value) => Ok(Some(value)),
        None => Err(BadValue { key, found: Some(text), expected }),
    }
}

/// `setexpr` writes plain hexadecimal; a sign, which `from_str_radix` would take, it never writes.
fn parse_hex(text: &str) -> Option<u32> {
    if text.starts_with('+') { None } else { u32::from_str_radix(text, 16).ok() }
}

impl fmt::Display for BadValue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadValue { key, found, expected } = self;
        match found {
            Some(found) => write!(out, "{key} is \"{}\", expected {expected}", found.escape_default()),
            None => write!(out, "{key} is missing, expected {expected}"),
        }
    }
}

impl fmt::Display for CopyFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyFault::Bytes(fault) => write!(out, "{fault}"),
            CopyFault::Value(bad) => write!(out, "{bad}"),
        }
    }
}

impl fmt::Display for BothCopiesBad {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "no boot state: first copy: {}; second copy: {}", self.first, self.second)
    }
}

impl std::error::Error for BothCopiesBad {}

impl fmt::Display for TooLong {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "boot state: {} bytes, a copy holds {}", self.bytes, environment::TEXT_BYTES)
    }
}

impl std::error::Error for TooLong {}

#[cfg(test)]
mod tests;
