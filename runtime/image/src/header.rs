//! The image's header: one block of 4 KiB that says where everything lies and what it hashes to.
//!
//! The signatures are over this block and its SHA-256 is the image's fingerprint, so the layout below never changes;
//! a new format version gets its own. All numbers are little-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `YADO-IMG` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 2 | kind: 1 container, 2 system |
//! | 14 | 2 | architecture: 1 armhf, 2 arm64, 3 x86_64, 4 i386 |
//! | 16 | 8 | payload bytes: blocks of 4 KiB, two at least |
//! | 24 | 8 | tree bytes: what dm-verity needs for that payload |
//! | 32 | 32 | root hash of the tree |
//! | 64 | 4 | manifest bytes, without the zeros up to the next block |
//! | 68 | 4 | bytes of the signature area, 8192 |
//! | 72 | 32 | SHA-256 of the manifest |
//! | 104 | 8 | release |
//! | 112 | 4 | security epoch |
//! | 116 | 6 | minimum runtime: major, minor, patch, 2 bytes each |
//! | 122 | 3974 | zero |

use crate::image_target::{Architecture, ImageKind, Version};
use crate::{signatures, verity};
use core::fmt;
use sha2::{Digest, Sha256};

/// Every part of an image is a whole number of blocks.
pub const BLOCK_BYTES: u64 = 4096;

/// The header as it stands on disk.
pub type HeaderBlock = [u8; BLOCK_BYTES as usize];

/// What a valid header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// A container's root or a system.
    pub kind: ImageKind,
    /// The processor it is made for.
    pub architecture: Architecture,
    /// Where the parts lie.
    pub layout: Layout,
    /// dm-verity's root hash.
    pub root_hash: [u8; 32],
    /// SHA-256 of the manifest.
    pub manifest_sha256: [u8; 32],
    /// Grows with every image of one name: what is newer is told by it, and not by a date.
    pub release: u64,
    /// Raised when everything older must no longer be accepted.
    pub security_epoch: u32,
    /// The oldest runtime that can start it.
    pub minimum_runtime: Version,
}

impl Header {
    /// Reads a header block and checks it in itself. Whether the file is long enough is `open`'s question.
    pub fn parse(block: &HeaderBlock) -> Result<Header, HeaderError> {
        if block[..8] != MAGIC {
            return Err(HeaderError::BadMagic);
        }
        let version = u32_at(block, 8);
        if version != FORMAT_VERSION {
            return Err(HeaderError::UnknownVersion { found: version });
        }
        let layout = Layout::new(u64_at(block, 16), u32_at(block, 64))?;
        let tree_bytes = u64_at(block, 24);
        if tree_bytes != layout.tree_bytes() {
            return Err(HeaderError::TreeBytes { found: tree_bytes, needed: layout.tree_bytes() });
        }
        let signatures_bytes = u32_at(block, 68);
        if u64::from(signatures_bytes) != signatures::AREA_BYTES {
            return Err(HeaderError::SignaturesBytes { found: signatures_bytes });
        }
        if let Some(index) = block[PADDING_START..].iter().position(|&byte| byte != 0) {
            return Err(HeaderError::PaddingNotZero { offset: PADDING_START.saturating_add(index) });
        }
        let (kind, architecture) = (u16_at(block, 12), u16_at(block, 14));
        Ok(Header {
            kind: ImageKind::from_number(kind).ok_or(HeaderError::UnknownKind { found: kind })?,
            architecture: Architecture::from_number(architecture)
                .ok_or(HeaderError::UnknownArchitecture { found: architecture })?,
            layout,
            root_hash: digest_at(block, 32),
            manifest_sha256: digest_at(block, 72),
            release: u64_at(block, 104),
            security_epoch: u32_at(block, 112),
            minimum_runtime: Version {
                major: u16_at(block, 116),
                minor: u16_at(block, 118),
                patch: u16_at(block, 120),
            },
        })
    }

    /// The block that parses to this header.
    pub fn encode(&self) -> HeaderBlock {
        let Header {
            kind,
            architecture,
            layout,
            root_hash,
            manifest_sha256,
            release,
            security_epoch,
            minimum_runtime: Version { major, minor, patch },
        } = self;
        let mut block = [0; BLOCK_BYTES as usize];
        block[..8].copy_from_slice(&MAGIC);
        block[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        block[12..14].copy_from_slice(&kind.number().to_le_bytes());
        block[14..16].copy_from_slice(&architecture.number().to_le_bytes());
        block[16..24].copy_from_slice(&layout.payload_bytes.to_le_bytes());
        block[24..32].copy_from_slice(&layout.tree_bytes().to_le_bytes());
        block[32..64].copy_from_slice(root_hash);
        block[64..68].copy_from_slice(&layout.manifest_bytes.to_le_bytes());
        block[68..72].copy_from_slice(&(signatures::AREA_BYTES as u32).to_le_bytes());
        block[72..104].copy_from_slice(manifest_sha256);
        block[104..112].copy_from_slice(&release.to_le_bytes());
        block[112..116].copy_from_slice(&security_epoch.to_le_bytes());
        block[116..118].copy_from_slice(&major.to_le_bytes());
        block[118..120].copy_from_slice(&minor.to_le_bytes());
        block[120..PADDING_START].copy_from_slice(&patch.to_le_bytes());
        block
    }

    /// The image's identity.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.encode())
    }
}

/// The identity of the image with this header block: its SHA-256.
pub fn fingerprint(block: &HeaderBlock) -> [u8; 32] {
    Sha256::digest(block).into()
}

/// Where an image's parts lie, counted from its first byte. Any value of this type fits into a `u64` and a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    payload_bytes: u64,
    manifest_bytes: u32,
}

impl Layout {
    /// The longest payload.
    pub const MAX_PAYLOAD_BYTES: u64 = 64 << 30;
    /// One block would have no tree at all; the second block spares every reader that case.
    pub const MIN_PAYLOAD_BYTES: u64 = 2 * BLOCK_BYTES;
    /// The longest manifest.
    pub const MAX_MANIFEST_BYTES: u32 = 256 << 10;

    /// The layout for these lengths, if they are within the limits.
    pub fn new(payload_bytes: u64, manifest_bytes: u32) -> Result<Layout, HeaderError> {
        if payload_bytes % BLOCK_BYTES != 0 {
            return Err(HeaderError::PayloadUnaligned { bytes: payload_bytes });
        }
        if payload_bytes < Self::MIN_PAYLOAD_BYTES {
            return Err(HeaderError::PayloadTooSmall { bytes: payload_bytes });
        }
        if Self::MAX_PAYLOAD_BYTES < payload_bytes {
            return Err(HeaderError::PayloadTooBig { bytes: payload_bytes });
        }
        if manifest_bytes == 0 {
            return Err(HeaderError::ManifestEmpty);
        }
        if Self::MAX_MANIFEST_BYTES < manifest_bytes {
            return Err(HeaderError::ManifestTooBig { bytes: manifest_bytes });
        }
        Ok(Layout { payload_bytes, manifest_bytes })
    }

    /// Length of the payload, which begins at 0.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Number of the payload's blocks, and so the block at which the tree begins.
    pub fn payload_blocks(&self) -> u64 {
        self.payload_bytes / BLOCK_BYTES
    }

    /// Where the tree begins.
    pub fn tree_offset(&self) -> u64 {
        self.payload_bytes
    }

    /// Length of the tree.
    pub fn tree_bytes(&self) -> u64 {
        verity::tree_blocks(self.payload_blocks()).saturating_mul(BLOCK_BYTES)
    }

    /// Where the manifest begins.
    pub fn manifest_offset(&self) -> u64 {
        self.tree_offset().saturating_add(self.tree_bytes())
    }

    /// Length of the manifest's text.
    pub fn manifest_bytes(&self) -> u32 {
        self.manifest_bytes
    }

    /// Length of the manifest with the zeros up to the next block.
    pub fn manifest_area_bytes(&self) -> u64 {
        u64::from(self.manifest_bytes).next_multiple_of(BLOCK_BYTES)
    }

    /// Where the signatures begin.
    pub fn signatures_offset(&self) -> u64 {
        self.manifest_offset().saturating_add(self.manifest_area_bytes())
    }

    /// Where the header begins.
    pub fn header_offset(&self) -> u64 {
        self.signatures_offset().saturating_add(signatures::AREA_BYTES)
    }

    /// Length of the whole image.
    pub fn image_bytes(&self) -> u64 {
        self.header_offset().saturating_add(BLOCK_BYTES)
    }
}

/// Why a block is not a header of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderError {
    /// Something else stands in the last 4 KiB: no image, or one cut short.
    BadMagic,
    /// A later format.
    UnknownVersion {
        /// The format version in the block.
        found: u32,
    },
    /// Neither container nor system.
    UnknownKind {
        /// The number in the block.
        found: u16,
    },
    /// An architecture this version does not know.
    UnknownArchitecture {
        /// The number in the block.
        found: u16,
    },
    /// Not a whole number of blocks.
    PayloadUnaligned {
        /// The length in the block.
        bytes: u64,
    },
    /// Less than two blocks.
    PayloadTooSmall {
        /// The length in the block.
        bytes: u64,
    },
    /// More than the limit.
    PayloadTooBig {
        /// The length in the block.
        bytes: u64,
    },
    /// Not the tree that this payload needs.
    TreeBytes {
        /// The length in the block.
        found: u64,
        /// The length that follows from the payload's.
        needed: u64,
    },
    /// No manifest.
    ManifestEmpty,
    /// More than the limit.
    ManifestTooBig {
        /// The length in the block.
        bytes: u32,
    },
    /// Not the one length that this format version has.
    SignaturesBytes {
        /// The length in the block.
        found: u32,
    },
    /// The rest of the block must be zero.
    PaddingNotZero {
        /// The first byte that is not.
        offset: usize,
    },
}

impl fmt::Display for HeaderError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::BadMagic => write!(out, "no image header in the last 4 KiB"),
            HeaderError::UnknownVersion { found } => write!(out, "unknown image format version {found}"),
            HeaderError::UnknownKind { found } => write!(out, "unknown image kind {found}"),
            HeaderError::UnknownArchitecture { found } => write!(out, "unknown architecture {found}"),
            HeaderError::PayloadUnaligned { bytes } => {
                write!(out, "payload of {bytes} bytes is not a whole number of 4 KiB blocks")
            }
            HeaderError::PayloadTooSmall { bytes } => write!(out, "payload of {bytes} bytes is too small"),
            HeaderError::PayloadTooBig { bytes } => write!(out, "payload of {bytes} bytes is more than 64 GiB"),
            HeaderError::TreeBytes { found, needed } => {
                write!(out, "hash tree of {found} bytes where the payload needs {needed}")
            }
            HeaderError::ManifestEmpty => write!(out, "no manifest"),
            HeaderError::ManifestTooBig { bytes } => write!(out, "manifest of {bytes} bytes is more than 256 KiB"),
            HeaderError::SignaturesBytes { found } => {
                write!(out, "signature area of {found} bytes instead of {}", signatures::AREA_BYTES)
            }
            HeaderError::PaddingNotZero { offset } => write!(out, "header byte {offset} should be zero"),
        }
    }
}

impl std::error::Error for HeaderError {}

pub(crate) const MAGIC: [u8; 8] = *b"YADO-IMG";
const FORMAT_VERSION: u32 = 1;
const PADDING_START: usize = 122;

pub(crate) fn bytes_at<const N: usize>(block: &HeaderBlock, offset: usize) -> [u8; N] {
    // The offsets are those of the table above: there are always so many bytes.
    block.get(offset..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

pub(crate) fn u16_at(block: &HeaderBlock, offset: usize) -> u16 {
    u16::from_le_bytes(bytes_at(block, offset))
}

pub(crate) fn u32_at(block: &HeaderBlock, offset: usize) -> u32 {
    u32::from_le_bytes(bytes_at(block, offset))
}

pub(crate) fn u64_at(block: &HeaderBlock, offset: usize) -> u64 {
    u64::from_le_bytes(bytes_at(block, offset))
}

pub(crate) fn digest_at(block: &HeaderBlock, offset: usize) -> [u8; 32] {
    bytes_at(block, offset)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn example() -> Header {
        Header {
            kind: ImageKind::System,
            architecture: Architecture::Arm64,
            layout: Layout::new(129 * BLOCK_BYTES, 5000).unwrap(),
            root_hash: [0x11; 32],
            manifest_sha256: [0x22; 32],
            release: 0x0807_0605_0403_0201,
            security_epoch: 0x0403_0201,
            minimum_runtime: Version { major: 1, minor: 2, patch: 0x0304 },
        }
    }

    #[test]
    fn version_1_bytes_are_frozen() {
        let mut frozen = [0; 4096];
        let mut at = 0;
        for part in [
            b"YADO-IMG".as_slice(),
            &[1, 0, 0, 0],
            &[2, 0],
            &[2, 0],
            &[0, 0x10, 0x08, 0, 0, 0, 0, 0],
            &[0, 0x30, 0, 0, 0, 0, 0, 0],
            &[0x11; 32],
            &[0x88, 0x13, 0, 0],
            &[0, 0x20, 0, 0],
            &[0x22; 32],
            &[1, 2, 3, 4, 5, 6, 7, 8],
            &[1, 2, 3, 4],
            &[1, 0, 2, 0, 4, 3],
        ] {
            frozen[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        assert_eq!(example().encode(), frozen);
        assert_eq!(Header::parse(&frozen), Ok(example()));
        assert_eq!(
            crate::hex::encode(&example().fingerprint()),
            "523f253a0d2241351505541a004d83a3172df53390bc021a02593a555cca0143"
        );
    }

    #[test]
    fn each_wrong_field_is_refused_by_its_own_name() {
        let refusals: &[(usize, &[u8], HeaderError)] = &[
            (0, b"y", HeaderError::BadMagic),
            (7, b"g", HeaderError::BadMagic),
            (8, &[2], HeaderError::UnknownVersion { found: 2 }),
            (11, &[1], HeaderError::UnknownVersion { found: 0x0100_0001 }),
            (12, &[0], HeaderError::UnknownKind { found: 0 }),
            (12, &[3], HeaderError::UnknownKind { found: 3 }),
            (14, &[5], HeaderError::UnknownArchitecture { found: 5 }),
            (16, &[1], HeaderError::PayloadUnaligned { bytes: 129 * 4096 + 1 }),
            (16, &[0, 0x10, 0], HeaderError::PayloadTooSmall { bytes: 4096 }),
            (16, &[0, 0, 0], HeaderError::PayloadTooSmall { bytes: 0 }),
            (16, &[0, 0x10, 0, 0, 0x10], HeaderError::PayloadTooBig { bytes: (64 << 30) + 4096 }),
            (16, &[0, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], HeaderError::PayloadTooBig { bytes: !4095 }),
            (24, &[0, 0x40], HeaderError::TreeBytes { found: 0x4000, needed: 0x3000 }),
            (31, &[0x80], HeaderError::TreeBytes { found: 0x8000_0000_0000_3000, needed: 0x3000 }),
            (64, &[0, 0, 0, 0], HeaderError::ManifestEmpty),
            (64, &[1, 0, 4, 0], HeaderError::ManifestTooBig { bytes: 0x40001 }),
            (68, &[0, 0x10], HeaderError::SignaturesBytes { found: 4096 }),
            (122, &[1], HeaderError::PaddingNotZero { offset: 122 }),
            (4095, &[0x80], HeaderError::PaddingNotZero { offset: 4095 }),
        ];
        for (offset, bytes, refusal) in refusals {
            let mut block = example().encode();
            block[*offset..offset + bytes.len()].copy_from_slice(bytes);
            assert_eq!(Header::parse(&block).as_ref(), Err(refusal), "{bytes:?} at {offset}");
        }
    }

    #[test]
    fn every_single_bit_of_the_block_changes_the_header_or_is_refused() {
        let header = example();
        for bit in 0..4096 * 8 {
            let mut block = header.encode();
            block[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Header::parse(&block).as_ref(), Ok(&header), "bit {bit}");
        }
    }

    #[test]
    fn the_parts_follow_each_other_in_whole_blocks() {
        let layout = Layout::new(Layout::MAX_PAYLOAD_BYTES, Layout::MAX_MANIFEST_BYTES).unwrap();
        assert_eq!(layout.tree_offset(), 64 << 30);
        assert_eq!(layout.manifest_offset() % BLOCK_BYTES, 0);
        assert_eq!(layout.signatures_offset(), layout.manifest_offset() + (256 << 10));
        assert_eq!(layout.image_bytes(), layout.signatures_offset() + 8192 + 4096);
    }
}
