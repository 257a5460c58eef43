//! A system slot as a worn flash or a forger would leave it. What is done here is done to a disk, in place; one after the
//! other on the same slot each is noticed at an earlier check than the one before.

use crate::board::disk::Extent;
use crate::board::keys::Keys;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use yado_image::header::{BLOCK_BYTES, Header, HeaderBlock};
use yado_image::secret::SecretKey;
use yado_image::signatures;

/// What is done to the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoiling {
    /// One byte of the file system, in the block that every mount reads first.
    Payload,
    /// One byte of the root hash in the header.
    RootHash,
    /// The only signature is good, for the header as it is, and by a key that the board does not trust.
    Stranger,
}

/// Behind erofs's superblock, in its block.
const PAYLOAD_OFFSET: u64 = 1500;
/// Inside the root hash of a header.
const ROOT_HASH_OFFSET: u64 = 40;

impl Spoiling {
    /// Does it to the system in `slot` of `disk`.
    pub fn apply(self, disk: &Path, slot: Extent, keys: &Keys) -> io::Result<()> {
        let disk = File::options().read(true).write(true).open(disk)?;
        let header_offset = slot.offset + slot.bytes - BLOCK_BYTES;
        match self {
            Spoiling::Payload => flip(&disk, slot.offset + PAYLOAD_OFFSET),
            Spoiling::RootHash => flip(&disk, header_offset + ROOT_HASH_OFFSET),
            Spoiling::Stranger => {
                let mut block: HeaderBlock = [0; BLOCK_BYTES as usize];
                disk.read_exact_at(&mut block, header_offset)?;
                let header = Header::parse(&block).map_err(|error| io::Error::other(error.to_string()))?;
                let stranger = SecretKey::read_file(&keys.stranger_secret())
                    .map_err(|error| io::Error::other(error.to_string()))?;
                let area = signatures::encode(&[stranger.sign(&block)]).expect("an area has room for one");
                disk.write_all_at(area.as_slice(), slot.offset + header.layout.signatures_offset())
            }
        }
    }
}

fn flip(disk: &File, offset: u64) -> io::Result<()> {
    let mut byte = [0];
    disk.read_exact_at(&mut byte, offset)?;
    byte[0] ^= 0x10;
    disk.write_all_at(&byte, offset)
}
