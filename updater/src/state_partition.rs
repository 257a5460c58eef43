//! The `state` partition as a file or block device: reads both copies, writes them one after the other.

use crate::boot_state::{BootState, BothCopiesBad, COPY_OFFSETS, TooLong};
use crate::environment::COPY_BYTES;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Why the boot state could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// The device did not give the bytes of a copy.
    Copy {
        /// Where the copy is.
        offset: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The bytes are no boot state.
    Bad(BothCopiesBad),
}

/// Why the boot state was not written.
#[derive(Debug)]
pub enum WriteError {
    /// Nothing was written.
    TooLong(TooLong),
    /// This copy may be torn; the other one is whole.
    Copy {
        /// Where the copy is.
        offset: u64,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Reads the newer good copy.
pub fn read(device: &File) -> Result<BootState, ReadError> {
    let mut copies = [[0; COPY_BYTES]; 2];
    for (copy, offset) in copies.iter_mut().zip(COPY_OFFSETS) {
        device.read_exact_at(copy, offset).map_err(|source| ReadError::Copy { offset, source })?;
    }
    BootState::parse(&copies[0], &copies[1]).map_err(ReadError::Bad)
}

/// Writes the first copy, waits until it is on the disk, then the second one. The change is real with the first sync:
/// from then on both the boot script (which prefers the first copy) and [`read`] (which prefers the higher sequence) see it.
/// The caller has raised the sequence.
pub fn write(device: &File, state: &BootState) -> Result<(), WriteError> {
    let copy = state.encode().map_err(WriteError::TooLong)?;
    for offset in COPY_OFFSETS {
        device
            .write_all_at(&copy, offset)
            .and_then(|()| device.sync_data())
            .map_err(|source| WriteError::Copy { offset, source })?;
    }
    Ok(())
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Copy { offset, source } => write!(out, "read copy at byte {offset}: {source}"),
            ReadError::Bad(bad) => write!(out, "{bad}"),
        }
    }
}

impl std::error::Error for ReadError {}

impl fmt::Display for WriteError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::TooLong(too_long) => write!(out, "{too_long}"),
            WriteError::Copy { offset, source } => write!(out, "write copy at byte {offset}: {source}"),
        }
    }
}

impl std::error::Error for WriteError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::boot_state::Mark;

    fn blank_partition() -> File {
        let path =
            std::env::temp_dir().join(format!("yado-state-{}-{:?}", std::process::id(), std::thread::current().id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        file
    }

    #[test]
    fn a_blank_partition_has_no_state_and_a_written_one_has_it_twice() {
        let device = blank_partition();
        assert!(matches!(read(&device), Err(ReadError::Bad(_))));
        let state = BootState::factory(Some(Mark::Empty));
        write(&device, &state).unwrap();
        assert_eq!(read(&device).unwrap(), state);
        for offset in COPY_OFFSETS {
            device.write_all_at(&[0xff; 16], offset).unwrap();
            assert_eq!(read(&device).is_ok(), offset == COPY_OFFSETS[0], "after copy at {offset} is spoilt");
        }
    }

    #[test]
    fn a_partition_that_is_too_short_is_an_error_that_names_the_place() {
        let device = blank_partition();
        device.set_len(6000).unwrap();
        assert!(matches!(read(&device), Err(ReadError::Copy { offset: 4096, .. })));
    }
}
