//! The raw partition `state`, which our own boot script for U-Boot reads and counts tries in.

use super::{Board, BootLoader, BootLoaderError, Boots, Counting};
use crate::boot_state::{BootState, Mark, PARTITION};
use crate::state_partition;
use std::fs::File;
use std::path::{Path, PathBuf};
use yado_sys::replace_file;

/// The partition, open.
#[derive(Debug)]
pub struct StatePartition {
    path: PathBuf,
    device: File,
}

impl StatePartition {
    /// The partition of that name on the system's disk.
    ///
    /// # Errors
    /// When there is none, or more than one disk has one, or it cannot be opened.
    pub fn on(board: &Board) -> Result<StatePartition, BootLoaderError> {
        StatePartition::at(&board.partition(&[PARTITION])?)
    }

    /// This device, or a file of the same bytes.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn at(path: &Path) -> Result<StatePartition, BootLoaderError> {
        let device = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|error| BootLoaderError::Absent { what: format!("open {}: {error}", path.display()) })?;
        Ok(StatePartition { path: path.to_owned(), device })
    }

    /// A file of the same bytes, with what a factory writes if it is not there: where no boot loader looks at it, as hosted and in
    /// tests.
    ///
    /// # Errors
    /// When it cannot be made or opened.
    pub fn in_file(path: &Path, b: Option<Mark>) -> Result<StatePartition, BootLoaderError> {
        if !path.exists() {
            let absent =
                |reason: String| BootLoaderError::Absent { what: format!("make {}: {reason}", path.display()) };
            let copy = BootState::factory(b).encode().map_err(|error| absent(error.to_string()))?;
            replace_file::replace(path, 0o600, &copy.repeat(2)).map_err(|error| absent(error.to_string()))?;
        }
        StatePartition::at(path)
    }

    fn read_state(&self) -> Result<BootState, BootLoaderError> {
        state_partition::read(&self.device).map_err(|error| BootLoaderError::Read {
            object: self.path.display().to_string(),
            reason: error.to_string(),
        })
    }
}

impl BootLoader for StatePartition {
    fn counting(&self) -> Counting {
        Counting::Tries
    }

    fn places(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn read(&mut self) -> Result<Boots, BootLoaderError> {
        let BootState { order, a, b, trial, blocked, sequence: _, others: _ } = self.read_state()?;
        Ok(Boots { order, a, b, trial, blocked })
    }

    fn prove_write(&mut self) -> Result<String, BootLoaderError> {
        let before = self.read_state()?;
        let boots = self.read()?;
        self.write(&boots, &boots)?;
        let after = self.read_state()?;
        match (before.sequence.checked_add(1) == Some(after.sequence), self.read()? == boots) {
            (true, true) => Ok(format!("change {} was written and read back", after.sequence)),
            (_, _) => Err(BootLoaderError::Write {
                object: self.path.display().to_string(),
                reason: format!("change {} was read back after {}", after.sequence, before.sequence),
            }),
        }
    }

    fn changes(&mut self) -> Result<Option<u32>, BootLoaderError> {
        Ok(Some(self.read_state()?.sequence))
    }

    fn write(&mut self, _before: &Boots, boots: &Boots) -> Result<(), BootLoaderError> {
        let found = self.read_state()?;
        let Boots { order, a, b, trial, blocked } = boots.clone();
        // A sequence that began again would be the older one.
        let sequence = found.sequence.checked_add(1).ok_or_else(|| BootLoaderError::Write {
            object: self.path.display().to_string(),
            reason: "its sequence is at its end; write a new boot state (yado system slots)".to_owned(),
        })?;
        let state = BootState { sequence, order, a, b, trial, blocked, others: found.others };
        state_partition::write(&self.device, &state).map_err(|error| BootLoaderError::Write {
            object: self.path.display().to_string(),
            reason: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::boot_loader::NotAllowed;
    use crate::boot_state::{Slot, Tries};

    fn partition(state: &BootState) -> (tempfile::NamedTempFile, StatePartition) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        state_partition::write(file.as_file(), state).unwrap();
        let partition = StatePartition::at(file.path()).unwrap();
        (file, partition)
    }

    /// What the boot script would find is read by another open of the file.
    #[test]
    fn an_update_from_denial_to_confirmation_is_on_the_partition_and_others_keys_stay() {
        let mut state = BootState::factory(Some(Mark::Empty));
        state.others = vec![("ethaddr".to_owned(), "52:54:00:12:34:56".to_owned())];
        let (file, mut partition) = partition(&state);
        let found = || state_partition::read(&File::open(file.path()).unwrap()).unwrap();

        partition.deny(Slot::B).unwrap();
        assert_eq!((found().sequence, found().b.mark, found().next()), (2, Some(Mark::Writing), Some(Slot::A)));
        partition.deny(Slot::B).unwrap();
        assert_eq!(found().sequence, 2, "what is so already is not written");
        partition.arm(Slot::B, Tries::FULL).unwrap();
        assert_eq!((found().trial, found().next()), (Some(Slot::B), Some(Slot::B)));
        let refused = partition.deny(Slot::A).unwrap_err();
        assert!(matches!(refused, BootLoaderError::NotAllowed(NotAllowed::OtherOnTrial { .. })), "{refused}");
        partition.confirm(Slot::B).unwrap();
        assert_eq!((found().trial, found().next(), found().others), (None, Some(Slot::B), state.others));
        partition.fail(Slot::B, Some(&[9; 32])).unwrap();
        assert_eq!((found().next(), found().blocked.fingerprints().to_vec()), (Some(Slot::A), vec![[9; 32]]));
    }

    #[test]
    fn a_file_is_made_once_and_keeps_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut file = StatePartition::in_file(&path, Some(Mark::Empty)).unwrap();
        assert_eq!(file.read().unwrap(), Boots::factory(Some(Mark::Empty)));
        file.arm(Slot::B, Tries::FULL).unwrap();
        let mut again = StatePartition::in_file(&path, Some(Mark::Empty)).unwrap();
        assert_eq!(again.read().unwrap().trial, Some(Slot::B));
    }

    #[test]
    fn a_partition_without_a_boot_state_is_not_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let mut partition = StatePartition::at(file.path()).unwrap();
        assert!(matches!(partition.deny(Slot::B), Err(BootLoaderError::Read { .. })));
        assert_eq!(std::fs::read(file.path()).unwrap(), vec![0; 1 << 20]);
    }
}
