//! The signed release: one system image and images for named instances that belong together, and what they need.
//!
//! ```text
//! [ manifest, zeros up to a block ][ signatures, as an image's ][ header, the last 4 KiB ]
//! ```
//!
//! It holds no image: it names them by fingerprint and length, and boot files by their SHA-256. So whoever verified the few KiB of
//! the release can tell of each byte that comes after whether it belongs to it. The signatures are over the header, whose magic is
//! another than an image's, so that neither's signature is good for the other.

#[cfg(feature = "pack")]
mod build;
mod header;
mod manifest;
#[cfg(feature = "sign")]
mod sign;

#[cfg(feature = "pack")]
pub use build::{BuildError, BuildOptions, Built, build};
pub use header::{Header, HeaderError};
pub use manifest::{BootFile, ImageFile, Manifest, ManifestError, Part, Requires, System};
#[cfg(feature = "sign")]
pub use sign::{EncodeError, SignError, add_signatures, encode};

use crate::header::{BLOCK_BYTES, HeaderBlock, fingerprint};
use crate::signatures::{self, Signatures, SignaturesError};
use crate::trust::{KeyId, Keys, SignatureError};
use core::fmt;
use sha2::{Digest, Sha256};

/// The longest release: whoever reads one reads no more.
pub const MAX_RELEASE_BYTES: u64 = Manifest::MAX_BYTES as u64 + signatures::AREA_BYTES + BLOCK_BYTES;

/// A release that keys of ours have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The signed block.
    pub header: Header,
    /// SHA-256 of the header.
    pub fingerprint: [u8; 32],
    /// What belongs to it.
    pub manifest: Manifest,
    /// Of [`verify`]: the trusted keys that signed it. Of [`describe`]: the keys that it says have signed it.
    pub signers: Vec<KeyId>,
}

/// The release in these bytes, if at least `threshold` of the keys have signed it. The manifest is parsed after that.
pub fn verify(bytes: &[u8], keys: &Keys, threshold: usize) -> Result<Release, ReleaseError> {
    let parts = Parts::of(bytes)?;
    let signatures = parts.signatures()?;
    let signers = keys
        .verify(parts.block, &signatures.known, threshold)
        .map_err(|source| ReleaseError::Signature { source })?;
    parts.release(signers)
}

/// What a release says of itself. Nothing of it has been proved.
pub fn describe(bytes: &[u8]) -> Result<Release, ReleaseError> {
    let parts = Parts::of(bytes)?;
    let claimed = parts.signatures()?.known.into_iter().map(|signature| signature.key).collect();
    parts.release(claimed)
}

/// The parts of a release's bytes, all where the header says and of the length that it says.
struct Parts<'bytes> {
    header: Header,
    block: &'bytes HeaderBlock,
    area: &'bytes [u8; signatures::AREA_BYTES as usize],
    manifest_area: &'bytes [u8],
}

impl<'bytes> Parts<'bytes> {
    fn of(bytes: &'bytes [u8]) -> Result<Parts<'bytes>, ReleaseError> {
        let found = bytes.len() as u64;
        if MAX_RELEASE_BYTES < found {
            return Err(ReleaseError::TooLong);
        }
        let too_short = ReleaseError::TooShort { bytes: found };
        let Some((rest, block)) = bytes.split_last_chunk() else { return Err(too_short) };
        let header = Header::parse(block).map_err(|source| ReleaseError::Header { source })?;
        let Some((manifest_area, area)) = rest.split_last_chunk() else { return Err(too_short) };
        let named = header.release_bytes();
        if named != found {
            return Err(ReleaseError::Size { named, found });
        }
        Ok(Parts { header, block, area, manifest_area })
    }

    fn signatures(&self) -> Result<Signatures, ReleaseError> {
        signatures::parse(self.area).map_err(|source| ReleaseError::Signatures { source })
    }

    /// Compares the manifest with its digest before it is parsed.
    fn release(self, signers: Vec<KeyId>) -> Result<Release, ReleaseError> {
        let Parts { header, block, area: _, manifest_area } = self;
        let (text, padding) =
            manifest_area.split_at_checked(header.manifest_bytes as usize).ok_or(ReleaseError::Changed)?;
        let digest: [u8; 32] = Sha256::digest(text).into();
        if digest != header.manifest_sha256 || padding.iter().any(|&byte| byte != 0) {
            return Err(ReleaseError::Changed);
        }
        let manifest = Manifest::parse(text).map_err(|source| ReleaseError::Manifest { source })?;
        let same = [
            ("architecture", manifest.architecture == header.architecture),
            ("release", manifest.release == header.release),
            ("requires.runtime", manifest.requires.runtime == header.minimum_runtime),
        ];
        match same.into_iter().find(|(_, same)| !same) {
            Some((field, _)) => Err(ReleaseError::Disagreement { field }),
            None => Ok(Release { header, fingerprint: fingerprint(block), manifest, signers }),
        }
    }
}

/// Why bytes are no release that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseError {
    /// Not even header and signatures fit in.
    TooShort {
        /// How many there are.
        bytes: u64,
    },
    /// More than any release has.
    TooLong,
    /// The last 4 KiB are no release's header.
    Header {
        /// What is wrong with it.
        source: HeaderError,
    },
    /// Of another length than its header says.
    Size {
        /// What the header says.
        named: u64,
        /// How many bytes there are.
        found: u64,
    },
    /// The signature area cannot be read.
    Signatures {
        /// What is wrong with it.
        source: SignaturesError,
    },
    /// The signatures do not suffice.
    Signature {
        /// Why.
        source: SignatureError,
    },
    /// The manifest is not the one whose digest was signed.
    Changed,
    /// The manifest breaks a rule.
    Manifest {
        /// Which.
        source: ManifestError,
    },
    /// The manifest says something else than the header.
    Disagreement {
        /// About what.
        field: &'static str,
    },
}

impl ReleaseError {
    /// The rule that was broken, by the name that it has for programs.
    pub fn rule(&self) -> &'static str {
        match self {
            ReleaseError::TooShort { .. } | ReleaseError::TooLong | ReleaseError::Size { .. } => "release-size",
            ReleaseError::Header { .. } => "release-header",
            ReleaseError::Signatures { .. } | ReleaseError::Signature { .. } => "release-signature",
            ReleaseError::Changed | ReleaseError::Manifest { .. } | ReleaseError::Disagreement { .. } => {
                "release-manifest"
            }
        }
    }
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReleaseError::TooShort { bytes } => {
                write!(out, "{bytes} bytes are too short for a release: truncated or empty")
            }
            ReleaseError::TooLong => write!(out, "no release is longer than {MAX_RELEASE_BYTES} bytes"),
            ReleaseError::Header { source } => write!(out, "{source}"),
            ReleaseError::Size { named, found } if found < named => {
                write!(out, "truncated: the header names {named} bytes, there are {found}")
            }
            ReleaseError::Size { named, found } => write!(out, "the header names {named} bytes, there are {found}"),
            ReleaseError::Signatures { source } => write!(out, "{source}"),
            ReleaseError::Signature { source: SignatureError::Unsigned } => {
                write!(out, "the release is not signed with ed25519")
            }
            ReleaseError::Signature { source } => write!(out, "{source}"),
            ReleaseError::Changed => write!(out, "the manifest was changed: it does not match the header's digest"),
            ReleaseError::Manifest { source } => write!(out, "{source}"),
            ReleaseError::Disagreement { field } => write!(out, "manifest and header disagree about {field}"),
        }
    }
}

impl std::error::Error for ReleaseError {}

#[cfg(all(test, feature = "sign"))]
mod tests;
