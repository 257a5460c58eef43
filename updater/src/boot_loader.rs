//! What decides which system boots, whichever boot loader a board has: one trait over what can be asked of all of them. The
//! changes that an update makes are pure ([`Boots`]); a back end reads them and writes them, and each change is one durable write
//! that leaves the whole old or the whole new state, and is read back.
//!
//! | back end | what is written | tries |
//! |---|---|---|
//! | [`StatePartition`] | two checked copies on the raw partition `state`, for our boot script | counted by the boot script |
//! | [`UBootEnvironment`] | the copy of U-Boot's redundant environment that is not the newer | counted by U-Boot |
//! | [`Tryboot`] | `autoboot.txt` of a Raspberry Pi, one sector in place | one, and forgotten |
//! | [`Efi`] | `BootOrder`, `BootNext`, and which slots' options are active, through efivarfs | one, and forgotten |
//! | [`StatePartition::in_file`] | a file, which nobody starts by | nobody's |
//!
//! Each change can be made again: what is so already is not written. Which of them a board has, and where it is, says its policy
//! ([`open()`]).

mod boots;
mod efi;
pub mod efi_variable;
pub mod fat_file;
mod open;
pub mod redundant_environment;
mod state_partition;
pub mod tryboot;
pub mod u_boot_environment;

use crate::boot_state::{Slot, Tries};
use std::fmt;
use std::path::PathBuf;

pub use boots::{Boots, NotAllowed};
pub use efi::Efi;
pub use open::{Board, open};
pub use state_partition::StatePartition;
pub use tryboot::Tryboot;
pub use u_boot_environment::UBootEnvironment;

/// How a boot loader ends a trial that never says that it is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counting {
    /// It counts tries down, and takes the other slot when none is left.
    Tries,
    /// It starts the armed slot once, and has forgotten it by then: after a power cut nobody can say whether it was good.
    Once,
}

/// A boot loader whose wishes can be read and changed.
pub trait BootLoader {
    /// How it ends a trial.
    fn counting(&self) -> Counting;

    /// The files, devices and directories that it opens to read and to write.
    fn places(&self) -> Vec<PathBuf>;

    /// What it will do at the next start.
    ///
    /// # Errors
    /// When what it reads cannot be read or is none of its own.
    fn read(&mut self) -> Result<Boots, BootLoaderError>;

    /// Writes this, durably and at once, and reads it back. `before` is what [`BootLoader::read`] gave last.
    ///
    /// # Errors
    /// When it is not on the medium: what was there before is whole.
    fn write(&mut self, before: &Boots, boots: &Boots) -> Result<(), BootLoaderError>;

    /// Writes what changes nothing, durably, and reads it back: so a change will reach the medium. Says what was written.
    ///
    /// # Errors
    /// When a change would not be on the medium: what was there before is whole.
    fn prove_write(&mut self) -> Result<String, BootLoaderError>;

    /// How many changes were made, where that is counted.
    ///
    /// # Errors
    /// As [`BootLoader::read`].
    fn changes(&mut self) -> Result<Option<u32>, BootLoaderError> {
        Ok(None)
    }

    /// What the restart of the machine must say for the armed slot to be tried: the argument of `LINUX_REBOOT_CMD_RESTART2`, reboot(2).
    fn restart_argument(&self) -> Option<&'static str> {
        None
    }

    /// Takes a slot out of the order before its first byte changes.
    ///
    /// # Errors
    /// When nothing else would be left to start, or another slot is on trial; and as [`BootLoader::write`].
    fn deny(&mut self, slot: Slot) -> Result<Boots, BootLoaderError> {
        change(self, |boots| boots.denied(slot))
    }

    /// Lets the next start try this slot, and the other one take over.
    ///
    /// # Errors
    /// When there is no other one to take over; and as [`BootLoader::write`].
    fn arm(&mut self, slot: Slot, tries: Tries) -> Result<Boots, BootLoaderError> {
        change(self, |boots| boots.armed(slot, tries))
    }

    /// Makes the slot the first one for good. The other stays behind it if it was in the order.
    ///
    /// # Errors
    /// As [`BootLoader::write`].
    fn confirm(&mut self, slot: Slot) -> Result<Boots, BootLoaderError> {
        change(self, |boots| Ok(boots.confirmed(slot)))
    }

    /// Marks the slot as failed and makes the other the only one. The system image with this fingerprint is blocked where the boot
    /// loader's state has a place for that.
    ///
    /// # Errors
    /// When the other one is out of the order; and as [`BootLoader::write`].
    fn fail(&mut self, slot: Slot, image: Option<&[u8; 32]>) -> Result<Boots, BootLoaderError> {
        change(self, |boots| boots.failed(slot, image))
    }

    /// Makes the slot the only one, because the other one does not verify.
    ///
    /// # Errors
    /// As [`BootLoader::write`].
    fn keep_only(&mut self, slot: Slot) -> Result<Boots, BootLoaderError> {
        change(self, |boots| Ok(boots.kept_only(slot)))
    }

    /// Takes a system image from the blocked ones.
    ///
    /// # Errors
    /// As [`BootLoader::write`].
    fn allow(&mut self, image: &[u8; 32]) -> Result<Boots, BootLoaderError> {
        change(self, |boots| Ok(boots.allowing(image)))
    }
}

/// Reads, changes, and writes if that makes a difference.
fn change(
    loader: &mut (impl BootLoader + ?Sized),
    change: impl Fn(&Boots) -> Result<Boots, NotAllowed>,
) -> Result<Boots, BootLoaderError> {
    let before = loader.read()?;
    let after = change(&before).map_err(BootLoaderError::NotAllowed)?;
    if after != before {
        loader.write(&before, &after)?;
    }
    Ok(after)
}

/// Why the boot loader's wishes were not read or changed.
#[derive(Debug)]
pub enum BootLoaderError {
    /// There is none of this kind here.
    Absent {
        /// What was looked for, and where.
        what: String,
    },
    /// What it keeps cannot be read, or is none of its own.
    Read {
        /// The file or device.
        object: String,
        /// What is wrong.
        reason: String,
    },
    /// It is not on the medium. What was there before is whole.
    Write {
        /// The file or device.
        object: String,
        /// What is wrong.
        reason: String,
    },
    /// The change would leave the board without a system to start.
    NotAllowed(NotAllowed),
}

impl fmt::Display for BootLoaderError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootLoaderError::Absent { what } => out.write_str(what),
            BootLoaderError::Read { object, reason } | BootLoaderError::Write { object, reason } => {
                write!(out, "{object}: {reason}")
            }
            BootLoaderError::NotAllowed(rule) => write!(out, "{rule}"),
        }
    }
}

impl std::error::Error for BootLoaderError {}
