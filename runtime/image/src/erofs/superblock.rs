//! The superblock, in the first block from byte 1024 on.

use super::BLOCK;

/// What the superblock says besides what is always the same.
#[derive(Debug)]
pub(super) struct Superblock {
    /// The root's place in the metadata area, in units of 32 bytes.
    pub(super) root: u16,
    /// How many inodes there are.
    pub(super) inodes: u64,
    /// The time of every file, in seconds since 1970.
    pub(super) timestamp: u64,
    /// Length of the file system.
    pub(super) blocks: u32,
    /// Where the metadata area begins.
    pub(super) metadata_block: u32,
    /// The most blocks a cluster has; 0 if nothing is compressed.
    pub(super) cluster_blocks: u16,
}

impl Superblock {
    /// The file system's first block.
    pub(super) fn encode(&self) -> Vec<u8> {
        let Superblock { root, inodes, timestamp, blocks, metadata_block, cluster_blocks } = self;
        let incompatible = match cluster_blocks {
            0 => 0,
            1 => LZ4_AT_END,
            _ => LZ4_AT_END | BIG_CLUSTERS,
        };
        // With big clusters the field is the set of algorithms (bit 0 is LZ4), without them LZ4's window.
        let algorithms = match cluster_blocks {
            0 => 0,
            1 => LZ4_WINDOW,
            _ => 1,
        };
        let mut block = vec![0; START];
        block.extend(MAGIC.to_le_bytes());
        block.extend([0; 4]);
        block.extend(CHECKSUM.to_le_bytes());
        block.extend([BLOCK_BITS, 0]);
        block.extend(root.to_le_bytes());
        block.extend(inodes.to_le_bytes());
        block.extend(timestamp.to_le_bytes());
        block.extend([0; 4]);
        block.extend(blocks.to_le_bytes());
        block.extend(metadata_block.to_le_bytes());
        block.extend([0; 4]);
        block.extend(UUID);
        block.extend([0; 16]);
        block.extend(u32::to_le_bytes(incompatible));
        block.extend(u16::to_le_bytes(algorithms));
        block.resize(START + SUPERBLOCK_BYTES, 0);
        if 1 < *cluster_blocks {
            block.extend(LZ4_SETTINGS_BYTES.to_le_bytes());
            block.extend(LZ4_WINDOW.to_le_bytes());
            block.extend(cluster_blocks.to_le_bytes());
        }
        block.resize(BLOCK, 0);
        let checksum = crc32c(&block[START..]);
        block[START + 4..START + 8].copy_from_slice(&checksum.to_le_bytes());
        block
    }
}

const START: usize = 1024;
const SUPERBLOCK_BYTES: usize = 128;
const MAGIC: u32 = 0xe0f5_e1e2;
const BLOCK_BITS: u8 = 12;

/// Compatible feature: the superblock's block has a checksum.
const CHECKSUM: u32 = 1;
/// Incompatible feature: compressed data end with their block instead of beginning with it.
const LZ4_AT_END: u32 = 1;
/// Incompatible feature: clusters of several blocks, and settings behind the superblock.
const BIG_CLUSTERS: u32 = 2;

const LZ4_WINDOW: u16 = 65535;
const LZ4_SETTINGS_BYTES: u16 = 14;

/// The same in every image, since equal trees give equal bytes: the letters "yadokaRi" and "erofs" (version 5 in form).
const UUID: [u8; 16] =
    [0x79, 0x61, 0x64, 0x6f, 0x6b, 0x61, 0x52, 0x69, 0x80, 0x65, 0x72, 0x6f, 0x66, 0x73, 0x00, 0x01];

/// CRC-32C as the kernel computes it here: all ones at the start, nothing inverted at the end.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        // The check value of CRC-32C, which is inverted at the end.
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }
}
