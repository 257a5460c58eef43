//! The release's header: one block of 4 KiB, over which the signatures are; its SHA-256 is the release's fingerprint. So the layout
//! below never changes; a new format version gets its own. All numbers are little-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `YADO-REL` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 2 | architecture, as in an image's header |
//! | 14 | 2 | zero |
//! | 16 | 4 | manifest bytes, without the zeros up to the next block |
//! | 20 | 4 | bytes of the signature area, 8192 |
//! | 24 | 32 | SHA-256 of the manifest |
//! | 56 | 8 | release, from 1 |
//! | 64 | 8 | the oldest release that it may follow, less than itself; 0 for any |
//! | 72 | 4 | security epoch |
//! | 76 | 6 | minimum runtime: major, minor, patch, 2 bytes each |
//! | 82 | 4014 | zero |

use super::Manifest;
use crate::header::{BLOCK_BYTES, HeaderBlock, bytes_at, digest_at, u16_at, u32_at, u64_at};
use crate::image_target::{Architecture, Version};
use crate::signatures;
use core::fmt;

/// What a valid header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The processor of the boards that it is for.
    pub architecture: Architecture,
    /// Length of the manifest's text.
    pub manifest_bytes: u32,
    /// SHA-256 of the manifest's text.
    pub manifest_sha256: [u8; 32],
    /// Grows with every release of one product.
    pub release: u64,
    /// What a board must have confirmed before: older ones take a release between first (a stepping stone). 0 for any.
    pub oldest_before: u64,
    /// Raised when everything older must no longer be accepted.
    pub security_epoch: u32,
    /// The oldest runtime that can install and start it.
    pub minimum_runtime: Version,
}

impl Header {
    /// Reads a header block and checks it in itself.
    pub fn parse(block: &HeaderBlock) -> Result<Header, HeaderError> {
        if bytes_at(block, 0) != MAGIC {
            return Err(HeaderError::BadMagic { is_image: bytes_at(block, 0) == crate::header::MAGIC });
        }
        let version = u32_at(block, 8);
        if version != FORMAT_VERSION {
            return Err(HeaderError::UnknownVersion { found: version });
        }
        let architecture = u16_at(block, 12);
        let manifest_bytes = u32_at(block, 16);
        if !(1..=Manifest::MAX_BYTES).contains(&manifest_bytes) {
            return Err(HeaderError::ManifestBytes { found: manifest_bytes });
        }
        let signatures_bytes = u32_at(block, 20);
        if u64::from(signatures_bytes) != signatures::AREA_BYTES {
            return Err(HeaderError::SignaturesBytes { found: signatures_bytes });
        }
        let (release, oldest_before) = (u64_at(block, 56), u64_at(block, 64));
        if release <= oldest_before {
            return Err(HeaderError::OldestBefore { release, oldest_before });
        }
        let zero = [14..16, PADDING_START..block.len()];
        let is_set = |offset: &usize| block.get(*offset) != Some(&0);
        if let Some(offset) = zero.into_iter().flatten().find(is_set) {
            return Err(HeaderError::PaddingNotZero { offset });
        }
        Ok(Header {
            architecture: Architecture::from_number(architecture)
                .ok_or(HeaderError::UnknownArchitecture { found: architecture })?,
            manifest_bytes,
            manifest_sha256: digest_at(block, 24),
            release,
            oldest_before,
            security_epoch: u32_at(block, 72),
            minimum_runtime: Version { major: u16_at(block, 76), minor: u16_at(block, 78), patch: u16_at(block, 80) },
        })
    }

    /// The block that parses to this header.
    pub fn encode(&self) -> HeaderBlock {
        let Header {
            architecture,
            manifest_bytes,
            manifest_sha256,
            release,
            oldest_before,
            security_epoch,
            minimum_runtime: Version { major, minor, patch },
        } = self;
        let mut block = [0; BLOCK_BYTES as usize];
        block[..8].copy_from_slice(&MAGIC);
        block[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        block[12..14].copy_from_slice(&architecture.number().to_le_bytes());
        block[16..20].copy_from_slice(&manifest_bytes.to_le_bytes());
        block[20..24].copy_from_slice(&(signatures::AREA_BYTES as u32).to_le_bytes());
        block[24..56].copy_from_slice(manifest_sha256);
        block[56..64].copy_from_slice(&release.to_le_bytes());
        block[64..72].copy_from_slice(&oldest_before.to_le_bytes());
        block[72..76].copy_from_slice(&security_epoch.to_le_bytes());
        block[76..78].copy_from_slice(&major.to_le_bytes());
        block[78..80].copy_from_slice(&minor.to_le_bytes());
        block[80..PADDING_START].copy_from_slice(&patch.to_le_bytes());
        block
    }

    /// The release's identity.
    pub fn fingerprint(&self) -> [u8; 32] {
        crate::header::fingerprint(&self.encode())
    }

    /// Where the signatures begin: behind the manifest and its zeros.
    pub fn signatures_offset(&self) -> u64 {
        u64::from(self.manifest_bytes).next_multiple_of(BLOCK_BYTES)
    }

    /// Length of the whole release, which holds no image.
    pub fn release_bytes(&self) -> u64 {
        self.signatures_offset().saturating_add(signatures::AREA_BYTES).saturating_add(BLOCK_BYTES)
    }
}

/// Why a block is not a release's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderError {
    /// Something else stands in the last 4 KiB.
    BadMagic {
        /// An image's header, which was taken for a release.
        is_image: bool,
    },
    /// A later format.
    UnknownVersion {
        /// The format version in the block.
        found: u32,
    },
    /// An architecture this version does not know.
    UnknownArchitecture {
        /// The number in the block.
        found: u16,
    },
    /// None, or more than the limit.
    ManifestBytes {
        /// The length in the block.
        found: u32,
    },
    /// Not the one length that this format version has.
    SignaturesBytes {
        /// The length in the block.
        found: u32,
    },
    /// It could follow nothing.
    OldestBefore {
        /// Its number.
        release: u64,
        /// What it asks for.
        oldest_before: u64,
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
            HeaderError::BadMagic { is_image: true } => {
                write!(out, "this is an image, no release: `yado release build` makes one of images")
            }
            HeaderError::BadMagic { is_image: false } => write!(out, "no release header in the last 4 KiB"),
            HeaderError::UnknownVersion { found } => write!(out, "unknown release format version {found}"),
            HeaderError::UnknownArchitecture { found } => write!(out, "unknown architecture {found}"),
            HeaderError::ManifestBytes { found } => {
                write!(out, "manifest of {found} bytes where 1 to {} are allowed", Manifest::MAX_BYTES)
            }
            HeaderError::SignaturesBytes { found } => {
                write!(out, "signature area of {found} bytes instead of {}", signatures::AREA_BYTES)
            }
            HeaderError::OldestBefore { release, oldest_before } => {
                write!(out, "release {release} can not follow release {oldest_before}")
            }
            HeaderError::PaddingNotZero { offset } => write!(out, "header byte {offset} should be zero"),
        }
    }
}

impl std::error::Error for HeaderError {}

const MAGIC: [u8; 8] = *b"YADO-REL";
const FORMAT_VERSION: u32 = 1;
const PADDING_START: usize = 82;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn header() -> Header {
        Header {
            architecture: Architecture::Arm64,
            manifest_bytes: 4097,
            manifest_sha256: [0x22; 32],
            release: 0x0102_0304_0506_0708,
            oldest_before: 7,
            security_epoch: 0x0a0b_0c0d,
            minimum_runtime: Version { major: 1, minor: 2, patch: 0x0304 },
        }
    }

    #[test]
    fn version_1_bytes_are_frozen() {
        let block = header().encode();
        let expected: &[(usize, &[u8])] = &[
            (0, b"YADO-REL"),
            (8, &[1, 0, 0, 0]),
            (12, &[2, 0]),
            (14, &[0, 0]),
            (16, &[1, 0x10, 0, 0]),
            (20, &[0, 0x20, 0, 0]),
            (24, &[0x22; 32]),
            (56, &[8, 7, 6, 5, 4, 3, 2, 1]),
            (64, &[7, 0, 0, 0, 0, 0, 0, 0]),
            (72, &[0x0d, 0x0c, 0x0b, 0x0a]),
            (76, &[1, 0, 2, 0, 4, 3]),
            (82, &[0; 4014]),
        ];
        assert_eq!(expected.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(), block.len());
        for &(offset, bytes) in expected {
            assert_eq!(&block[offset..offset + bytes.len()], bytes, "offset {offset}");
        }
        assert_eq!(Header::parse(&block), Ok(header()));
        assert_eq!((header().signatures_offset(), header().release_bytes()), (8192, 8192 + 8192 + 4096));
    }

    #[test]
    fn each_wrong_field_is_refused_by_its_name() {
        let set = |offset: usize, bytes: &[u8]| {
            let mut block = header().encode();
            block[offset..offset + bytes.len()].copy_from_slice(bytes);
            Header::parse(&block).unwrap_err()
        };
        let refusals: [(usize, &[u8], HeaderError); 12] = [
            (0, b"x", HeaderError::BadMagic { is_image: false }),
            (0, b"YADO-IMG", HeaderError::BadMagic { is_image: true }),
            (8, &[2], HeaderError::UnknownVersion { found: 2 }),
            (12, &[9], HeaderError::UnknownArchitecture { found: 9 }),
            (14, &[1], HeaderError::PaddingNotZero { offset: 14 }),
            (16, &[0; 4], HeaderError::ManifestBytes { found: 0 }),
            (16, &[1, 0, 4, 0], HeaderError::ManifestBytes { found: (256 << 10) + 1 }),
            (20, &[1], HeaderError::SignaturesBytes { found: 8193 }),
            (56, &[7, 0, 0, 0, 0, 0, 0, 0], HeaderError::OldestBefore { release: 7, oldest_before: 7 }),
            (64, &[0xff; 8], HeaderError::OldestBefore { release: header().release, oldest_before: u64::MAX }),
            (82, &[1], HeaderError::PaddingNotZero { offset: 82 }),
            (4095, &[1], HeaderError::PaddingNotZero { offset: 4095 }),
        ];
        for (offset, bytes, refusal) in refusals {
            assert_eq!(set(offset, bytes), refusal, "{bytes:?} at {offset}");
        }
    }
}
