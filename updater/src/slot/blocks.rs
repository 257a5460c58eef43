//! The blocks of one part of the image, the payload or a level of the tree: those that the target holds already stay, those that
//! an image on this device has are copied, and only the rest is fetched. Each block was compared with its hash before it is written.
//!
//! So an install that was cut goes on where it was: what it wrote is held. Blocks of zeros are neither fetched nor copied, and not
//! written where zeros are. Nothing is discarded (BLKDISCARD): what a device gives back for what was discarded is not told for
//! sure, and a slot that is full gains nothing by it.

use super::aligned_buffer::AlignedBuffer;
use super::block_set::{BlockSet, next_run};
use super::error::WriteImageError;
use super::fetch::Fetch;
use super::hash_tree::{BLOCK, GROUP_BYTES, HASH_BYTES, HashTree, Hashes, Part, block_of, hash_of, sha256};
use super::old_image::OldImage;
use super::write_image::Counts;
use super::writer::Writer;
use crate::progress::{Progress, Stage};
use crate::source::{FileName, Source};
use yado_image::header::BLOCK_BYTES;
use yado_image::verity::HASHES_PER_BLOCK;

/// So many groups are compared before what they lack is fetched: 64 MiB by one request, if all of it is lacking.
const GROUPS_AT_ONCE: u64 = 128;

/// Fewer blocks than a request and its answer take on the way are fetched with what is around them.
const MAX_GAP_BLOCKS: u64 = 4;

/// An image that is being written.
pub(crate) struct Blocks<'w> {
    pub(crate) writer: Writer<'w>,
    pub(crate) tree: HashTree,
    pub(crate) counts: Counts,
    source: &'w mut dyn Source,
    file: FileName,
    old: Option<OldImage<'w>>,
    pub(crate) progress: &'w mut dyn Progress,
    image_bytes: u64,
    hash_of_zeros: [u8; HASH_BYTES],
    /// The group before held nothing of the image: then one block of the next one is looked at first.
    is_foreign: bool,
    held: AlignedBuffer,
    gathered: AlignedBuffer,
}

impl<'w> Blocks<'w> {
    pub(crate) fn new(
        writer: Writer<'w>,
        tree: HashTree,
        (source, file): (&'w mut dyn Source, FileName),
        old: Option<OldImage<'w>>,
        progress: &'w mut dyn Progress,
        image_bytes: u64,
    ) -> Blocks<'w> {
        Blocks {
            writer,
            tree,
            counts: Counts::default(),
            source,
            file,
            old,
            progress,
            image_bytes,
            hash_of_zeros: sha256(&[0; BLOCK]),
            is_foreign: false,
            held: AlignedBuffer::new(GROUP_BYTES),
            gathered: AlignedBuffer::new(GROUP_BYTES),
        }
    }

    /// Makes the target hold all blocks of this part. The part above is there.
    pub(crate) fn complete(&mut self, part: Part) -> Result<(), WriteImageError> {
        let mut first = 0;
        while first < part.groups() {
            let end = part.groups().min(first + GROUPS_AT_ONCE);
            let mut lacking = Vec::with_capacity(GROUPS_AT_ONCE as usize);
            for group in first..end {
                lacking.push(self.complete_without_source(part, group)?);
                let done = (part.offset_of(group) + GROUP_BYTES as u64).min(self.image_bytes);
                self.progress.advance(Stage::Compare, done, self.image_bytes);
            }
            self.fetch(part, first, &lacking)?;
            first = end;
        }
        Ok(())
    }

    /// What is left and what is copied of a group. Answers with the blocks that have to be fetched.
    fn complete_without_source(&mut self, part: Part, group: u64) -> Result<BlockSet, WriteImageError> {
        let hashes = self.tree.hashes(self.writer.storage(), part, group)?;
        let all = BlockSet::first(part.blocks_of(group));
        let zeros = match part.level {
            0 => all.filter(|index| hash_of(&hashes, index) == self.hash_of_zeros),
            _ => BlockSet::NONE,
        };
        let kept = self.compare(part, group, &hashes, zeros);
        self.counts.kept_blocks += kept.len();
        let mut lacking = all.without(kept);

        let new_zeros = lacking.without(lacking.without(zeros));
        if !new_zeros.is_empty() {
            self.gathered.fill(0);
            self.copy(part, group, 0, new_zeros)?;
            lacking = lacking.without(new_zeros);
        }
        let Some(mut old) = self.old.take() else { return Ok(lacking) };
        if part.level == 0 {
            old.look_ahead(group * HASHES_PER_BLOCK);
        }
        let copied = self.copy_from(&old, part, group, &hashes, lacking);
        self.old = Some(old);
        Ok(lacking.without(copied?))
    }

    /// The blocks of a group that the target holds.
    fn compare(&mut self, part: Part, group: u64, hashes: &Hashes, zeros: BlockSet) -> BlockSet {
        let (all, offset) = (BlockSet::first(part.blocks_of(group)), part.offset_of(group));
        let with_content = all.without(zeros);
        let mut is_worth_hashing = !self.is_foreign;
        if let (true, Some(index)) = (self.is_foreign, with_content.indexes().next()) {
            let probe = &mut self.held[..BLOCK];
            let is_read = self.writer.storage().read(offset + index as u64 * BLOCK_BYTES, probe).is_ok();
            is_worth_hashing = is_read && sha256(probe) == hash_of(hashes, index);
        }
        if !is_worth_hashing && zeros.is_empty() {
            return BlockSet::NONE;
        }
        let held = &mut self.held[..all.len() as usize * BLOCK];
        // What cannot be read is not held. To write it may mend it.
        if self.writer.storage().read(offset, held).is_err() {
            return BlockSet::NONE;
        }
        let held = &*held;
        let kept = all.filter(|index| match zeros.contains(index) {
            true => block_of(held, index).iter().all(|byte| *byte == 0),
            false => is_worth_hashing && sha256(block_of(held, index)) == hash_of(hashes, index),
        });
        if !with_content.is_empty() {
            self.is_foreign = kept.without(zeros).is_empty();
        }
        kept
    }

    /// Copies what an older image has of these blocks; answers with those.
    fn copy_from(
        &mut self,
        old: &OldImage<'_>,
        part: Part,
        group: u64,
        hashes: &Hashes,
        lacking: BlockSet,
    ) -> Result<BlockSet, WriteImageError> {
        if lacking.is_empty() {
            return Ok(BlockSet::NONE);
        }
        let places = old.candidates(part.level, group, hashes);
        let mut copied = BlockSet::NONE;
        let mut index = 0;
        while let Some((start, place)) = (index..places.len())
            .filter(|index| lacking.contains(*index))
            .find_map(|index| Some((index, places[index]?)))
        {
            let is_next =
                |index: &usize| lacking.contains(*index) && places[*index] == Some(place + (*index - start) as u64);
            let length = (start..places.len()).take_while(is_next).count();
            index = start + length;
            let gathered = &mut self.gathered[..length * BLOCK];
            if !old.read(place, gathered) {
                continue;
            }
            let gathered = &*gathered;
            let right = BlockSet::first(index).without(BlockSet::first(start));
            let right = right.filter(|index| sha256(block_of(gathered, index - start)) == hash_of(hashes, index));
            self.copy(part, group, start, right)?;
            copied = copied.with(right);
        }
        Ok(copied)
    }

    /// Writes these blocks from what was gathered, which begins with the block of this index.
    fn copy(&mut self, part: Part, group: u64, first: usize, blocks: BlockSet) -> Result<(), WriteImageError> {
        for run in blocks.runs() {
            let bytes = &self.gathered[(run.start - first) * BLOCK..(run.end - first) * BLOCK];
            self.writer.write(part.offset_of(group) + (run.start * BLOCK) as u64, bytes)?;
        }
        self.counts.copied_blocks += blocks.len();
        Ok(())
    }

    fn fetch(&mut self, part: Part, first_group: u64, lacking: &[BlockSet]) -> Result<(), WriteImageError> {
        let mut next = 0;
        while let Some(run) = next_run(lacking, next, MAX_GAP_BLOCKS) {
            next = run.end;
            let mut fetch = Fetch::new(part, first_group, run, lacking, &mut self.gathered);
            let file = self.file;
            fetch.read(self.source, file, &mut self.writer, &mut self.tree, |offset| {
                self.progress.advance(Stage::Write, offset, self.image_bytes);
            })?;
            self.counts.fetched_blocks += fetch.wanted_blocks();
        }
        Ok(())
    }
}
