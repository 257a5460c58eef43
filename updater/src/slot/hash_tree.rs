//! The image's hash tree as the target holds it. A hash of it counts only after the block that it stands in was checked by the
//! hash above, and so on up to the signed root hash: so neither a source nor a bad disk can lead us astray, and nothing grows with
//! the image.

use super::aligned_buffer::AlignedBuffer;
use super::error::WriteImageError;
use super::storage::Storage;
use sha2::{Digest, Sha256};
use yado_image::Header;
use yado_image::header::BLOCK_BYTES;
use yado_image::verity::{self, HASHES_PER_BLOCK};

/// Length of SHA-256.
pub(crate) const HASH_BYTES: usize = 32;
/// One block.
pub(crate) const BLOCK: usize = BLOCK_BYTES as usize;
/// The blocks of one group, whose hashes stand in one block of the level above.
pub(crate) const GROUP_BLOCKS: usize = HASHES_PER_BLOCK as usize;
/// The longest group.
pub(crate) const GROUP_BYTES: usize = GROUP_BLOCKS * BLOCK;

/// So many blocks of a level are read at once: small reads are slow.
const RUN_BLOCKS: u64 = 16;

/// The hashes of a group's blocks, as they stand in their block.
pub(crate) type Hashes = [u8; BLOCK];

/// Blocks that lie side by side in the image, of which one level of the tree has the hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its level: 0 is the payload, 1 the leaves.
    pub(crate) level: usize,
    /// Its first block, counted from the image's first.
    pub(crate) first_block: u64,
    /// How many blocks it has.
    pub(crate) blocks: u64,
}

impl Part {
    /// How many groups it has.
    pub(crate) fn groups(&self) -> u64 {
        self.blocks.div_ceil(HASHES_PER_BLOCK)
    }

    /// How many blocks this group has: all but the last are full.
    pub(crate) fn blocks_of(&self, group: u64) -> usize {
        HASHES_PER_BLOCK.min(self.blocks.saturating_sub(group * HASHES_PER_BLOCK)) as usize
    }

    /// Where this group begins in the image.
    pub(crate) fn offset_of(&self, group: u64) -> u64 {
        (self.first_block + group * HASHES_PER_BLOCK) * BLOCK_BYTES
    }
}

/// The tree.
#[derive(Debug)]
pub(crate) struct HashTree {
    root_hash: [u8; HASH_BYTES],
    /// The payload, the leaves, …, the top.
    parts: Vec<Part>,
    /// What was last read of each.
    read: Vec<Option<Run>>,
}

#[derive(Debug)]
struct Run {
    buffer: AlignedBuffer,
    first: u64,
    blocks: u64,
}

impl HashTree {
    pub(crate) fn of(header: &Header) -> HashTree {
        let payload_blocks = header.layout.payload_blocks();
        let mut parts = vec![Part { level: 0, first_block: 0, blocks: payload_blocks }];
        for (index, level) in verity::levels(payload_blocks).into_iter().enumerate() {
            let first_block = payload_blocks + level.first_block;
            parts.push(Part { level: index + 1, first_block, blocks: level.blocks });
        }
        let read = parts.iter().map(|_| None).collect();
        HashTree { root_hash: header.root_hash, parts, read }
    }

    /// The payload, the leaves, …, the top.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The hashes of this group of this part.
    pub(crate) fn hashes(
        &mut self,
        storage: &dyn Storage,
        part: Part,
        group: u64,
    ) -> Result<Hashes, WriteImageError> {
        let mut hashes = [0; BLOCK];
        let Some(above) = self.parts.get(part.level + 1).copied() else {
            hashes[..HASH_BYTES].copy_from_slice(&self.root_hash);
            return Ok(hashes);
        };
        let is_read =
            |run: &Option<Run>| run.as_ref().is_some_and(|run| (run.first..run.first + run.blocks).contains(&group));
        if !is_read(&self.read[above.level]) {
            self.read_run(storage, above, group)?;
        }
        if let Some(run) = &self.read[above.level] {
            hashes.copy_from_slice(block_of(&run.buffer, (group - run.first) as usize));
        }
        Ok(hashes)
    }

    /// Reads and checks some blocks of a level, this one among them, and remembers them.
    fn read_run(&mut self, storage: &dyn Storage, part: Part, block: u64) -> Result<(), WriteImageError> {
        let first = block - block % RUN_BLOCKS;
        let blocks = RUN_BLOCKS.min(part.blocks - first);
        // A run never reaches into the next group, because a group's length is a multiple of it.
        let expected = self.hashes(storage, part, first / HASHES_PER_BLOCK)?;
        let forgotten = self.read[part.level].take();
        let mut buffer = forgotten.map_or_else(|| AlignedBuffer::new(RUN_BLOCKS as usize * BLOCK), |run| run.buffer);
        let offset = (part.first_block + first) * BLOCK_BYTES;
        storage.read(offset, &mut buffer[..blocks as usize * BLOCK]).map_err(|source| WriteImageError::Read {
            path: storage.path().to_owned(),
            offset,
            source,
        })?;
        for index in 0..blocks as usize {
            let place = (first % HASHES_PER_BLOCK) as usize + index;
            if sha256(block_of(&buffer, index)) != hash_of(&expected, place) {
                let offset = offset + index as u64 * BLOCK_BYTES;
                return Err(WriteImageError::Different { path: storage.path().to_owned(), offset });
            }
        }
        self.read[part.level] = Some(Run { buffer, first, blocks });
        Ok(())
    }
}

/// SHA-256 of a block.
pub(crate) fn sha256(block: &[u8]) -> [u8; HASH_BYTES] {
    Sha256::digest(block).into()
}

/// The hash of this block of a group.
pub(crate) fn hash_of(hashes: &Hashes, index: usize) -> [u8; HASH_BYTES] {
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(&hashes[index * HASH_BYTES..][..HASH_BYTES]);
    hash
}

/// This block of several.
pub(crate) fn block_of(buffer: &[u8], index: usize) -> &[u8] {
    &buffer[index * BLOCK..][..BLOCK]
}
