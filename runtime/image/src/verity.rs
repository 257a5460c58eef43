//! dm-verity's hash tree, version 1: SHA-256, blocks of 4 KiB, no salt, no superblock (the header says what it would).
//!
//! The leaf level is the list of the payload blocks' SHA-256, 128 to a block, the last block filled with zeros; each
//! level above lists the hashes of the blocks below; the level of one block is the top, and its SHA-256 is the root
//! hash. On disk the top comes first and the leaves last, as the kernel and `veritysetup` have it.

use crate::header::{BLOCK_BYTES, Header};
use crate::hex;
use core::fmt;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::thread;
use yado_wire::{Failure, Step};

/// How many hashes a tree block holds.
pub const HASHES_PER_BLOCK: u64 = BLOCK_BYTES / HASH_BYTES as u64;

/// The parameters of the kernel's `verity` target for an image on this block device, which is data and hash device at
/// once. The target's length is the payload's, in sectors of 512 bytes.
pub fn table_parameters(header: &Header, device: &str) -> String {
    let blocks = header.layout.payload_blocks();
    format!("1 {device} {device} 4096 4096 {blocks} {blocks} sha256 {} -", hex::encode(&header.root_hash))
}

/// One level of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Its first block, counted from the tree's first.
    pub first_block: u64,
    /// How many blocks it has.
    pub blocks: u64,
}

/// The levels of the tree over a payload of so many blocks: the leaves first, the top last.
pub fn levels(payload_blocks: u64) -> Vec<Level> {
    let mut levels = Vec::new();
    let mut below = payload_blocks;
    while 1 < below {
        below = below.div_ceil(HASHES_PER_BLOCK);
        levels.push(Level { first_block: 0, blocks: below });
    }
    let mut first_block = 0_u64;
    for level in levels.iter_mut().rev() {
        level.first_block = first_block;
        first_block = level.blocks.saturating_add(first_block);
    }
    levels
}

/// How many blocks the tree over a payload of so many blocks has.
pub fn tree_blocks(payload_blocks: u64) -> u64 {
    let mut total = 0_u64;
    let mut below = payload_blocks;
    while 1 < below {
        below = below.div_ceil(HASHES_PER_BLOCK);
        total = total.saturating_add(below);
    }
    total
}

/// Reads the whole tree and payload and compares each block with its hash, from the top down. The first wrong block
/// is named. This is for `image verify`, for kernels without device-mapper, and to explain an I/O error; it takes as
/// long as reading the image.
pub fn diagnose(file: &File, header: &Header) -> Result<(), Mismatch> {
    let layout = &header.layout;
    let tree_start = layout.payload_blocks();
    let levels = levels(layout.payload_blocks());
    let mut top = [0; BLOCK_BYTES as usize];
    read_block(file, tree_start, &mut top)?;
    if sha256(&top) != header.root_hash {
        return Err(Mismatch::Tree { level: levels.len(), block: 0 });
    }
    for (index, level) in levels.iter().enumerate().rev() {
        let hashes_at = tree_start.saturating_add(level.first_block);
        match index.checked_sub(1).and_then(|below| levels.get(below)) {
            Some(below) => check_blocks(file, hashes_at, tree_start.saturating_add(below.first_block), below.blocks)?
                .map_or(Ok(()), |block| Err(Mismatch::Tree { level: index, block }))?,
            None => check_blocks(file, hashes_at, 0, layout.payload_blocks())?
                .map_or(Ok(()), |block| Err(Mismatch::Payload { block }))?,
        }
    }
    Ok(())
}

/// Writes the tree of a payload behind it, into the same file; answers with the root hash. It reads the payload once
/// and holds only a few blocks.
#[cfg(feature = "pack")]
pub fn write_tree(file: &File, layout: &crate::header::Layout) -> io::Result<[u8; HASH_BYTES]> {
    let tree_start = layout.payload_blocks();
    let (mut below_start, mut below_blocks) = (0_u64, tree_start);
    let mut top = [0; BLOCK_BYTES as usize];
    for level in levels(tree_start) {
        let level_start = tree_start.saturating_add(level.first_block);
        for block in 0..level.blocks {
            let first = block.saturating_mul(HASHES_PER_BLOCK);
            let count = HASHES_PER_BLOCK.min(below_blocks.saturating_sub(first));
            let mut below = vec![0; count.saturating_mul(BLOCK_BYTES) as usize];
            file.read_exact_at(&mut below, below_start.saturating_add(first).saturating_mul(BLOCK_BYTES))?;
            top = [0; BLOCK_BYTES as usize];
            for (hash, block) in top.chunks_exact_mut(HASH_BYTES).zip(below.chunks_exact(BLOCK_BYTES as usize)) {
                hash.copy_from_slice(&sha256(block));
            }
            file.write_all_at(&top, level_start.saturating_add(block).saturating_mul(BLOCK_BYTES))?;
        }
        (below_start, below_blocks) = (level_start, level.blocks);
    }
    Ok(sha256(&top))
}

/// Where an image differs from what its header promises.
#[derive(Debug)]
pub enum Mismatch {
    /// A block could not be read at all.
    Read {
        /// Counted from the image's first.
        block: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A block of the tree.
    Tree {
        /// 1 is the level of the leaves.
        level: usize,
        /// Counted from that level's first.
        block: u64,
    },
    /// A block of the payload.
    Payload {
        /// Counted from the payload's first.
        block: u64,
    },
}

impl Mismatch {
    /// The step of a start that this fails.
    pub fn step(&self) -> Step {
        match self {
            Mismatch::Read { .. } => Step::ImageOpen,
            Mismatch::Tree { .. } => Step::ImageTree,
            Mismatch::Payload { .. } => Step::ImagePayload,
        }
    }

    /// How this fails a start. `path`: the image's.
    pub fn failure(&self, path: &str) -> Failure {
        let failure = Failure::refused(self.step(), path, &self.to_string());
        match self {
            Mismatch::Read { .. } => failure,
            Mismatch::Tree { .. } | Mismatch::Payload { .. } => failure.in_vain(),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Read { block, source } => write!(out, "read block {block}: {source}"),
            Mismatch::Tree { level, block } => {
                write!(out, "block {block} of level {level} of the hash tree was changed")
            }
            Mismatch::Payload { block } => write!(out, "block {block} of the payload was changed"),
        }
    }
}

impl std::error::Error for Mismatch {}

const HASH_BYTES: usize = 32;

/// How many blocks are read at once: 64 KiB keeps the number of system calls low and the memory small.
const BLOCKS_AT_ONCE: u64 = 16;

fn sha256(block: &[u8]) -> [u8; HASH_BYTES] {
    Sha256::digest(block).into()
}

fn read_block(file: &File, block: u64, buffer: &mut [u8]) -> Result<(), Mismatch> {
    file.read_exact_at(buffer, block.saturating_mul(BLOCK_BYTES)).map_err(|source| Mismatch::Read { block, source })
}

/// Below this a thread of its own costs more than it saves: 1 MiB.
const MIN_SHARE: u64 = 256;
/// Beyond so many the disk, or the memory, is what is waited for.
const MAX_THREADS: u64 = 8;
/// Of a thread: the frames below fit many times.
const STACK_BYTES: usize = 64 * 1024;

/// Compares `count` blocks from `first` on with the hashes that begin at block `hashes_at`; answers with the first
/// wrong one, counted from `first`. All processors that we may use share the work.
fn check_blocks(file: &File, hashes_at: u64, first: u64, count: u64) -> Result<Option<u64>, Mismatch> {
    // How many processors there are is asked only for two shares: std reads files of control groups for that.
    if count < 2 * MIN_SHARE {
        return check_range(file, hashes_at, first, 0..count);
    }
    let processors = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let share = count.div_ceil(processors.min(MAX_THREADS)).max(MIN_SHARE);
    check_shares(file, hashes_at, first, count, share)
}

/// [`check_blocks`] by threads that take about `share` blocks each.
fn check_shares(file: &File, hashes_at: u64, first: u64, count: u64, share: u64) -> Result<Option<u64>, Mismatch> {
    let share = share.next_multiple_of(HASHES_PER_BLOCK);
    let check = |start: u64| check_range(file, hashes_at, first, start..count.min(start.saturating_add(share)));
    thread::scope(|scope| {
        let begin = |start| {
            let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, move || check(start));
            (start, thread)
        };
        let others: Vec<_> = (1..count.div_ceil(share)).map(|number| begin(share.saturating_mul(number))).collect();
        let mut outcome = check(0);
        for (start, thread) in others {
            let outcome_of_share = match thread {
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // A limit on processes, or no memory: then we do it ourselves.
                Err(_) => check(start),
            };
            if let Ok(None) = outcome {
                outcome = outcome_of_share;
            }
        }
        outcome
    })
}

/// [`check_blocks`] of those in `range`, whose start is the first of a hash block.
fn check_range(file: &File, hashes_at: u64, first: u64, range: Range<u64>) -> Result<Option<u64>, Mismatch> {
    let mut hashes = [0; BLOCK_BYTES as usize];
    let mut buffer = vec![0; (BLOCKS_AT_ONCE * BLOCK_BYTES) as usize];
    for start in range.clone().step_by(BLOCKS_AT_ONCE as usize) {
        if start % HASHES_PER_BLOCK == 0 {
            read_block(file, hashes_at.saturating_add(start / HASHES_PER_BLOCK), &mut hashes)?;
        }
        // The last ones are fewer than fit.
        let left = range.end.saturating_sub(start).saturating_mul(BLOCK_BYTES);
        buffer.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        read_block(file, first.saturating_add(start), &mut buffer)?;
        let expected = hashes.chunks_exact(HASH_BYTES).skip((start % HASHES_PER_BLOCK) as usize);
        let wrong =
            buffer.chunks_exact(BLOCK_BYTES as usize).zip(expected).position(|(block, hash)| sha256(block) != hash);
        if let Some(index) = wrong {
            return Ok(Some(start.saturating_add(index as u64)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::header::Layout;
    use crate::image_target::{Architecture, ImageKind, Version};

    #[test]
    fn the_top_comes_first_and_the_leaves_last() {
        let level = |first_block, blocks| Level { first_block, blocks };
        assert_eq!(levels(2), [level(0, 1)]);
        assert_eq!(levels(128), [level(0, 1)]);
        assert_eq!(levels(129), [level(1, 2), level(0, 1)]);
        assert_eq!(levels(128 * 128 + 1), [level(3, 129), level(1, 2), level(0, 1)]);
        for blocks in [2, 3, 128, 129, 16_384, 16_385, 16 << 20] {
            assert_eq!(tree_blocks(blocks), levels(blocks).iter().map(|level| level.blocks).sum::<u64>(), "{blocks}");
        }
    }

    #[cfg(feature = "pack")]
    #[test]
    fn the_first_wrong_block_is_named_however_the_work_is_shared() {
        const BLOCKS: u64 = 1000;
        let file = tempfile::tempfile().unwrap();
        file.set_len(BLOCKS * BLOCK_BYTES).unwrap();
        let layout = Layout::new(BLOCKS * BLOCK_BYTES, 1).unwrap();
        write_tree(&file, &layout).unwrap();
        let leaves_at = BLOCKS + levels(BLOCKS)[0].first_block;
        let shares = [1, HASHES_PER_BLOCK, 300, BLOCKS, u64::from(u32::MAX)];
        for share in shares {
            assert_eq!(check_shares(&file, leaves_at, 0, BLOCKS, share).unwrap(), None, "{share}");
        }
        for (flipped, first) in [(999, 999), (700, 700), (850, 700), (127, 127), (128, 127), (0, 0)] {
            file.write_all_at(b"x", flipped * BLOCK_BYTES + 7).unwrap();
            for share in shares {
                assert_eq!(check_shares(&file, leaves_at, 0, BLOCKS, share).unwrap(), Some(first), "{share}");
            }
        }
        file.set_len(500 * BLOCK_BYTES).unwrap();
        assert!(matches!(check_shares(&file, leaves_at, 0, BLOCKS, 300), Err(Mismatch::Read { .. })));
    }

    #[test]
    fn the_table_names_the_device_twice_and_no_salt() {
        let header = Header {
            kind: ImageKind::Container,
            architecture: Architecture::Arm64,
            layout: Layout::new(300 * BLOCK_BYTES, 1).unwrap(),
            root_hash: [0xab; 32],
            manifest_sha256: [0; 32],
            release: 1,
            security_epoch: 0,
            minimum_runtime: Version::default(),
        };
        let expected = format!("1 /dev/loop7 /dev/loop7 4096 4096 300 300 sha256 {} -", "ab".repeat(32));
        assert_eq!(table_parameters(&header, "/dev/loop7"), expected);
    }
}
