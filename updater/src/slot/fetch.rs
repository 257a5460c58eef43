//! One request to the source: blocks that lie side by side come in pieces of any length, each is compared with its hash when it
//! is whole, and then written with its neighbours.

use super::block_set::BlockSet;
use super::error::WriteImageError;
use super::hash_tree::{BLOCK, GROUP_BLOCKS, HashTree, Hashes, Part, hash_of, sha256};
use super::writer::Writer;
use crate::source::{FileName, Source, SourceError};
use std::io;
use std::ops::Range;
use yado_image::header::BLOCK_BYTES;

/// A request.
pub(crate) struct Fetch<'f> {
    part: Part,
    first_group: u64,
    /// Counted from the first group's first block.
    run: Range<u64>,
    lacking: &'f [BlockSet],
    /// What is not written yet.
    buffer: &'f mut [u8],
    filled: usize,
    /// The block that `buffer` begins with.
    first: u64,
    hashes: Option<(u64, Hashes)>,
    wanted_blocks: u64,
}

impl<'f> Fetch<'f> {
    pub(crate) fn new(
        part: Part,
        first_group: u64,
        run: Range<u64>,
        lacking: &'f [BlockSet],
        buffer: &'f mut [u8],
    ) -> Fetch<'f> {
        let first = run.start;
        Fetch { part, first_group, run, lacking, buffer, filled: 0, first, hashes: None, wanted_blocks: 0 }
    }

    /// How many blocks were written.
    pub(crate) fn wanted_blocks(&self) -> u64 {
        self.wanted_blocks
    }

    /// Asks, and writes what comes. `at` is told how far in the image it is.
    pub(crate) fn read(
        &mut self,
        source: &mut dyn Source,
        file: FileName,
        writer: &mut Writer<'_>,
        tree: &mut HashTree,
        mut at: impl FnMut(u64),
    ) -> Result<(), WriteImageError> {
        let range = self.offset_of(self.run.start)..self.offset_of(self.run.end);
        let mut failed = None;
        let answer = source.read(file, range.clone(), &mut |bytes| {
            let taken = self.take(bytes, writer, tree);
            at(self.offset_of(self.first) + self.filled as u64);
            taken.map_err(|error| {
                failed = Some(error);
                io::Error::other("what came is not taken")
            })
        });
        if let Some(error) = failed {
            return Err(error);
        }
        if let Err(error) = answer {
            // What is whole was compared. Whoever goes on finds it.
            self.filled -= self.filled % BLOCK;
            self.write(writer)?;
            writer.flush()?;
            return Err(error.into());
        }
        let end = self.offset_of(self.first) + self.filled as u64;
        if end != range.end {
            return Err(SourceError::Short { file, bytes: end }.into());
        }
        self.write(writer)
    }

    fn take(
        &mut self,
        mut bytes: &[u8],
        writer: &mut Writer<'_>,
        tree: &mut HashTree,
    ) -> Result<(), WriteImageError> {
        while !bytes.is_empty() {
            if self.buffer.len() == self.filled {
                self.write(writer)?;
            }
            let room = BLOCK - self.filled % BLOCK;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer[self.filled..][..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled % BLOCK == 0 {
                self.check_last(writer, tree)?;
            }
        }
        Ok(())
    }

    /// Compares the block that has just become whole.
    fn check_last(&mut self, writer: &mut Writer<'_>, tree: &mut HashTree) -> Result<(), WriteImageError> {
        let block = self.first + (self.filled / BLOCK) as u64 - 1;
        if self.run.end <= block {
            return Err(WriteImageError::WrongBytes { offset: self.offset_of(block) });
        }
        let (group, index) = (block / GROUP_BLOCKS as u64, (block % GROUP_BLOCKS as u64) as usize);
        if !self.lacking[group as usize].contains(index) {
            // It came only because of its neighbours.
            self.filled -= BLOCK;
            self.write(writer)?;
            self.first = block + 1;
            return Ok(());
        }
        let hashes = match &self.hashes {
            Some((number, hashes)) if *number == group => hashes,
            Some(_) | None => {
                let hashes = tree.hashes(writer.storage(), self.part, self.first_group + group)?;
                &self.hashes.insert((group, hashes)).1
            }
        };
        match sha256(&self.buffer[self.filled - BLOCK..self.filled]) == hash_of(hashes, index) {
            true => Ok(()),
            false => Err(WriteImageError::WrongBytes { offset: self.offset_of(block) }),
        }
    }

    /// Writes all that is whole.
    fn write(&mut self, writer: &mut Writer<'_>) -> Result<(), WriteImageError> {
        let blocks = (self.filled / BLOCK) as u64;
        if blocks != 0 {
            writer.write(self.offset_of(self.first), &self.buffer[..self.filled])?;
        }
        self.first += blocks;
        self.filled = 0;
        self.wanted_blocks += blocks;
        Ok(())
    }

    fn offset_of(&self, block: u64) -> u64 {
        self.part.offset_of(self.first_group) + block * BLOCK_BYTES
    }
}
