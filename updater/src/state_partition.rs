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
    /// The device did not give the bytes of a copy, and the other one is no boot state.
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
    /// The device took this copy and gives other bytes back. The other copy was left alone.
    Different {
        /// Where the copy is.
        offset: u64,
    },
}

/// What holds the two copies; in the tests, sectors of which the power is cut.
trait Device {
    /// What is on the disk.
    fn read_copy(&self, offset: u64, copy: &mut [u8; COPY_BYTES]) -> io::Result<()>;
    /// Returns when it is on the disk.
    fn write_copy(&self, offset: u64, copy: &[u8; COPY_BYTES]) -> io::Result<()>;
}

impl Device for File {
    fn read_copy(&self, offset: u64, copy: &mut [u8; COPY_BYTES]) -> io::Result<()> {
        // Not from memory: what was written would be found there even if the disk did not take it.
        let length = std::num::NonZeroU64::new(COPY_BYTES as u64);
        let _ = rustix::fs::fadvise(self, offset, length, rustix::fs::Advice::DontNeed);
        self.read_exact_at(copy, offset)
    }

    fn write_copy(&self, offset: u64, copy: &[u8; COPY_BYTES]) -> io::Result<()> {
        self.write_all_at(copy, offset)?;
        self.sync_data()
    }
}

/// Reads the newer good copy. A copy that the device cannot read is a bad one.
pub fn read(device: &File) -> Result<BootState, ReadError> {
    read_newest(device)
}

/// Writes both copies, each until it is on the disk and was read back, the one first that is worth less: a bad one before a good
/// one, the older before the newer. So at every moment one copy is whole, whatever an earlier power cut left, and a torn copy is
/// healed before the other is touched. The change is real with the first copy: the boot script and [`read`] both believe the
/// higher sequence. The caller has raised the sequence.
pub fn write(device: &File, state: &BootState) -> Result<(), WriteError> {
    write_both(device, state)
}

fn read_newest(device: &impl Device) -> Result<BootState, ReadError> {
    let mut copies = [[0; COPY_BYTES]; 2];
    let mut unreadable = None;
    for (copy, offset) in copies.iter_mut().zip(COPY_OFFSETS) {
        if let Err(source) = device.read_copy(offset, copy) {
            // Half a copy must not be taken for one; zeroes have another checksum.
            *copy = [0; COPY_BYTES];
            unreadable.get_or_insert(ReadError::Copy { offset, source });
        }
    }
    BootState::parse(&copies[0], &copies[1]).map_err(|bad| unreadable.unwrap_or(ReadError::Bad(bad)))
}

fn write_both(device: &impl Device, state: &BootState) -> Result<(), WriteError> {
    let copy = state.encode().map_err(WriteError::TooLong)?;
    let sequences = COPY_OFFSETS.map(|offset| {
        let mut found = [0; COPY_BYTES];
        device.read_copy(offset, &mut found).ok()?;
        Some(BootState::parse_copy(&found).ok()?.sequence)
    });
    for offset in write_order(sequences).map(|index| COPY_OFFSETS[index]) {
        let mut found = [0; COPY_BYTES];
        device
            .write_copy(offset, &copy)
            .and_then(|()| device.read_copy(offset, &mut found))
            .map_err(|source| WriteError::Copy { offset, source })?;
        if found != copy {
            return Err(WriteError::Different { offset });
        }
    }
    Ok(())
}

/// Which copy is written first, of copies with these sequences; a bad one has none.
fn write_order(sequences: [Option<u32>; 2]) -> [usize; 2] {
    // `None` is less than any number. Of equals any: they hold the same.
    if sequences[0] < sequences[1] { [0, 1] } else { [1, 0] }
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
            WriteError::Different { offset } => {
                write!(out, "write copy at byte {offset}: the device gives other bytes back")
            }
        }
    }
}

impl std::error::Error for WriteError {}

#[cfg(test)]
mod tests;
