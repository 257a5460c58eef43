//! Blocks of an image that is on this device already: the same block is copied rather than fetched, wherever it lies there.
//!
//! Nothing of it is trusted. Its tree only says where a block may be; whoever copies it compares its hash.

use super::hash_tree::{BLOCK, GROUP_BLOCKS, HASH_BYTES, Hashes, hash_of};
use std::fs::File;
use std::os::unix::fs::FileExt;
use yado_image::header::BLOCK_BYTES;
use yado_image::verity::{self, HASHES_PER_BLOCK, Level};
use yado_image::{Header, open};

/// Entries of the table: with 4 bytes each it takes 1 MiB, and has room for the blocks of 1 GiB.
const BUCKETS: usize = 1 << 16;
const ENTRIES: usize = 4;
const EMPTY: u32 = u32::MAX;
/// A block's number has 24 bits, since a payload has at most 64 GiB; above it stand 8 bits of its hash.
const BLOCK_BITS: u32 = 24;

/// So far ahead of the place that is written the old image's blocks are in the table: of one up to 512 MiB all are there from the
/// beginning, of a larger one those around that place.
const AHEAD_BLOCKS: u64 = (BUCKETS * ENTRIES / 2) as u64;

/// The old image.
#[derive(Debug)]
pub(crate) struct OldImage<'f> {
    file: &'f File,
    header: Header,
    levels: Vec<Level>,
    table: Vec<u32>,
    /// The first block that is not in the table yet.
    next_block: u64,
}

impl<'f> OldImage<'f> {
    /// `None`: there is none that could help.
    pub(crate) fn open(file: &'f File) -> Option<OldImage<'f>> {
        let (header, _) = open::read_header(file).ok()?;
        let levels = verity::levels(header.layout.payload_blocks());
        Some(OldImage { file, header, levels, table: vec![EMPTY; BUCKETS * ENTRIES], next_block: 0 })
    }

    /// Takes into the table what lies around this block of the new image's payload.
    pub(crate) fn look_ahead(&mut self, block: u64) {
        let blocks = self.header.layout.payload_blocks();
        let until = blocks.min(block.saturating_add(AHEAD_BLOCKS));
        while self.next_block < until {
            let group = self.next_block / HASHES_PER_BLOCK;
            let count = HASHES_PER_BLOCK.min(blocks - self.next_block);
            if let Some(hashes) = self.hashes(0, group) {
                for index in 0..count {
                    self.remember(&hash_of(&hashes, index as usize), self.next_block + index);
                }
            }
            self.next_block += count;
        }
    }

    /// Where in the old image each block of this group may be, by the block's number there. First of all the same place.
    pub(crate) fn candidates(&self, level: usize, group: u64, expected: &Hashes) -> [Option<u64>; GROUP_BLOCKS] {
        let same_place = self.hashes(level, group);
        let (first, blocks) = match level.checked_sub(1).and_then(|index| self.levels.get(index)) {
            Some(level) => (self.header.layout.payload_blocks() + level.first_block, level.blocks),
            None if level == 0 => (0, self.header.layout.payload_blocks()),
            None => return [None; GROUP_BLOCKS],
        };
        std::array::from_fn(|index| {
            let hash = hash_of(expected, index);
            let number = group * HASHES_PER_BLOCK + index as u64;
            let is_same = same_place.as_ref().is_some_and(|hashes| hash_of(hashes, index) == hash);
            match level {
                _ if is_same && number < blocks => Some(first + number),
                0 => self.find(&hash),
                _ => None,
            }
        })
    }

    /// Reads blocks that lie side by side. One that cannot be read is fetched.
    pub(crate) fn read(&self, block: u64, buffer: &mut [u8]) -> bool {
        self.file.read_exact_at(buffer, block * BLOCK_BYTES).is_ok()
    }

    /// The hashes of a group of this level, as the old image's tree has them.
    fn hashes(&self, level: usize, group: u64) -> Option<Hashes> {
        let mut hashes = [0; BLOCK];
        let above = self.levels.get(level).filter(|above| group < above.blocks)?;
        let block = self.header.layout.payload_blocks() + above.first_block + group;
        self.file.read_exact_at(&mut hashes, block * BLOCK_BYTES).ok()?;
        Some(hashes)
    }

    fn remember(&mut self, hash: &[u8; HASH_BYTES], block: u64) {
        let (bucket, tag) = place_of(hash);
        let entries = &mut self.table[bucket * ENTRIES..][..ENTRIES];
        // The same content again, or else the oldest: the numbers only grow.
        let same = entries.iter().position(|entry| *entry != EMPTY && entry >> BLOCK_BITS == tag);
        let free = || entries.iter().position(|entry| *entry == EMPTY);
        let oldest = || (0..ENTRIES).min_by_key(|index| entries[*index] & ((1 << BLOCK_BITS) - 1));
        if let Some(index) = same.or_else(free).or_else(oldest) {
            entries[index] = tag << BLOCK_BITS | block as u32;
        }
    }

    fn find(&self, hash: &[u8; HASH_BYTES]) -> Option<u64> {
        let (bucket, tag) = place_of(hash);
        let entries = &self.table[bucket * ENTRIES..][..ENTRIES];
        let entry = entries.iter().find(|entry| **entry != EMPTY && **entry >> BLOCK_BITS == tag)?;
        Some(u64::from(entry & ((1 << BLOCK_BITS) - 1)))
    }
}

fn place_of(hash: &[u8; HASH_BYTES]) -> (usize, u32) {
    (usize::from(u16::from_le_bytes([hash[0], hash[1]])), u32::from(hash[2]))
}
