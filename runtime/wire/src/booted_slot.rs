//! A slot with the system image in it, as two lines of text: init's first stage says so which one runs, and the updater which one is
//! on trial, and in a third line for how long.

use crate::hex;
use crate::last_reset::parse_slot;
use std::time::Duration;

/// The name of the device-mapper device from which the running system is read.
pub const DEVICE: &str = "yado-system";

/// In the runtime directory: the one that runs.
pub const RUNNING_FILE: &str = "boot";

/// Below the folder `state` of the data partition: the one that is on trial, from before it is armed until the trial's end is known.
pub const TRIAL_FILE: &str = "trial";

/// Nobody writes a longer one.
pub const MAX_BYTES: usize = 256;

/// A slot, and the image that was verified in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootedSlot {
    /// `A` or `B`.
    pub name: char,
    /// SHA-256 of the image's header.
    pub fingerprint: [u8; 32],
}

impl BootedSlot {
    /// As the file has it.
    pub fn text(self) -> String {
        format!("slot={}\nfingerprint={}\n", self.name, hex::encode(&self.fingerprint))
    }

    /// Reads the file's text. `None`: it is none of ours, or not whole.
    pub fn parse(text: &str) -> Option<BootedSlot> {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        Some(BootedSlot { name: parse_slot(value("slot")?)?, fingerprint: hex::parse_digest(value("fingerprint")?)? })
    }
}

/// A slot that is on trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Which.
    pub slot: BootedSlot,
    /// So long after the machine's start the updater wants to have judged it. Whole seconds.
    pub judged_after: Duration,
}

impl Trial {
    /// As the file has it.
    pub fn text(self) -> String {
        format!("{}judged_after_s={}\n", self.slot.text(), self.judged_after.as_secs())
    }

    /// Reads the file's text. `None`: it is none of ours, or not whole.
    pub fn parse(text: &str) -> Option<Trial> {
        let seconds = text.lines().find_map(|line| line.strip_prefix("judged_after_s="))?.parse().ok()?;
        Some(Trial { slot: BootedSlot::parse(text)?, judged_after: Duration::from_secs(seconds) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_comes_out_the_same_again_and_names_its_slot_to_who_reads_only_that() {
        let slot = BootedSlot { name: 'A', fingerprint: [1; 32] };
        let trial = Trial { slot, judged_after: Duration::from_secs(600) };
        assert_eq!(Trial::parse(&trial.text()), Some(trial));
        assert_eq!(BootedSlot::parse(&trial.text()), Some(slot));
        for text in [slot.text(), format!("{}judged_after_s=-1\n", slot.text()), "judged_after_s=1\n".to_owned()] {
            assert_eq!(Trial::parse(&text), None, "{text:?}");
        }
    }

    #[test]
    fn a_slot_and_a_whole_fingerprint_come_out_the_same_again_and_anything_else_is_none() {
        let hex = "ab".repeat(32);
        let text = format!("slot=B\nfingerprint={hex}\n");
        let slot = BootedSlot { name: 'B', fingerprint: [0xab; 32] };
        assert_eq!((BootedSlot::parse(&text), slot.text()), (Some(slot), text));
        for text in
            ["", "slot=A\n", "slot=A\nfingerprint=ab\n", "fingerprint=ab", &format!("slot=C\nfingerprint={hex}\n")]
        {
            assert_eq!(BootedSlot::parse(text), None, "{text:?}");
        }
    }
}
