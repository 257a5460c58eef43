//! The file system as it grows, block by block.

use super::BLOCK;
use super::write::Problem;
use crate::header::Layout;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// Appends to a file that begins with the superblock's block, which is written last.
pub(super) struct Output<'file> {
    buffer: BufWriter<&'file File>,
    bytes: u64,
}

impl<'file> Output<'file> {
    /// An empty file system in an empty file.
    pub(super) fn new(file: &'file File) -> Result<Output<'file>, Problem> {
        let mut buffer = BufWriter::with_capacity(BUFFER_BYTES, file);
        buffer.seek(SeekFrom::Start(BLOCK as u64)).map_err(|source| Problem::Write { source })?;
        Ok(Output { buffer, bytes: BLOCK as u64 })
    }

    /// The block that comes next. To be asked between blocks; the limit on the length keeps it within 32 bits.
    pub(super) fn block(&self) -> u32 {
        (self.bytes / BLOCK as u64) as u32
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.bytes += bytes.len() as u64;
        if Layout::MAX_PAYLOAD_BYTES < self.bytes {
            return Err(Problem::TooBig);
        }
        self.buffer.write_all(bytes).map_err(|source| Problem::Write { source })
    }

    /// Appends zeros up to the next block.
    pub(super) fn pad(&mut self) -> Result<(), Problem> {
        let missing = self.bytes.next_multiple_of(BLOCK as u64) - self.bytes;
        self.write(&[0; BLOCK][..missing as usize])
    }

    /// Writes the first block, which completes the file system.
    pub(super) fn finish(mut self, superblock: &[u8]) -> Result<(), Problem> {
        let write_problem = |source| Problem::Write { source };
        self.buffer.flush().map_err(write_problem)?;
        self.buffer.get_ref().write_all_at(superblock, 0).map_err(write_problem)
    }
}

const BUFFER_BYTES: usize = 1 << 20;
