//! Makes a signed release of its manifest, and adds signatures to one that is made already: then header and fingerprint stay.

use super::{Header, MAX_RELEASE_BYTES, Manifest, ManifestError, ReleaseError, describe};
use crate::header::BLOCK_BYTES;
use crate::secret::SecretKey;
use crate::sign::{Added, add};
use crate::signatures;
use core::fmt;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The bytes of a release, signed by these keys. See [`Header::oldest_before`] and [`Header::security_epoch`] for the numbers.
pub fn encode(
    manifest: &Manifest,
    oldest_before: u64,
    security_epoch: u32,
    keys: &[SecretKey],
) -> Result<Vec<u8>, EncodeError> {
    let text = manifest.encode().map_err(|source| EncodeError::Manifest { source })?;
    let header = Header {
        architecture: manifest.architecture,
        manifest_bytes: text.len() as u32,
        manifest_sha256: Sha256::digest(&text).into(),
        release: manifest.release,
        oldest_before,
        security_epoch,
        minimum_runtime: manifest.requires.runtime,
    };
    let block = header.encode();
    Header::parse(&block).map_err(|source| EncodeError::Header { source })?;
    let signatures: Vec<_> = keys.iter().map(|key| key.sign(&block)).collect();
    let area = signatures::encode(&signatures).ok_or(EncodeError::TooManyKeys { keys: keys.len() })?;
    let mut release = text;
    release.resize(header.signatures_offset() as usize, 0);
    release.extend_from_slice(&area[..]);
    release.extend_from_slice(&block);
    Ok(release)
}

/// Signs a release in place, by each of these keys; answers for each in its order. A place of the signature area is written at a
/// time, which lies within one sector: so the release has a new signature or not, but is never torn.
///
/// `range` is where in the file it stands: all of it, or in a bundle behind the first member's header.
pub fn add_signatures(
    path: &Path,
    range: core::ops::Range<u64>,
    keys: &[SecretKey],
) -> Result<Vec<Added>, SignError> {
    let file = File::options().read(true).write(true).open(path).map_err(|source| SignError::Open { source })?;
    let mut release = vec![0; range.end.saturating_sub(range.start).min(MAX_RELEASE_BYTES) as usize];
    file.read_exact_at(&mut release, range.start).map_err(|source| SignError::Open { source })?;
    let header = describe(&release).map_err(|source| SignError::Release { source })?.header;
    let no_header = || SignError::Release { source: ReleaseError::Changed };
    let (rest, block) = release.split_last_chunk::<{ BLOCK_BYTES as usize }>().ok_or_else(no_header)?;
    let area = rest.last_chunk().ok_or_else(no_header)?;
    let mut signatures = signatures::parse(area)
        .map_err(|source| SignError::Release { source: ReleaseError::Signatures { source } })?;
    let (outcome, new) = add(&mut signatures, keys, block).ok_or(SignError::Full)?;
    for (place, bytes) in new {
        let offset = range.start.saturating_add(header.signatures_offset()).saturating_add(place as u64);
        file.write_all_at(&bytes, offset)
            .and_then(|()| file.sync_all())
            .map_err(|source| SignError::Write { source })?;
    }
    Ok(outcome)
}

/// Why there is no release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncodeError {
    /// The manifest breaks a rule.
    Manifest {
        /// Which.
        source: ManifestError,
    },
    /// The header would break a rule.
    Header {
        /// Which.
        source: super::HeaderError,
    },
    /// More keys than a release has places for.
    TooManyKeys {
        /// How many.
        keys: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::Manifest { source } => write!(out, "{source}"),
            EncodeError::Header { source } => write!(out, "{source}"),
            EncodeError::TooManyKeys { keys } => {
                write!(out, "{keys} keys, but a release has places for {} signatures", signatures::MAX_SIGNATURES)
            }
        }
    }
}

impl std::error::Error for EncodeError {}

/// Why a release could not be signed.
#[derive(Debug)]
pub enum SignError {
    /// It cannot be read.
    Open {
        /// The kernel's answer.
        source: io::Error,
    },
    /// It is no release.
    Release {
        /// Why.
        source: ReleaseError,
    },
    /// It carries as many signatures as it can.
    Full,
    /// It cannot be written.
    Write {
        /// The kernel's answer.
        source: io::Error,
    },
}

impl fmt::Display for SignError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignError::Open { source } => write!(out, "read the release: {source}"),
            SignError::Release { source } => write!(out, "{source}"),
            SignError::Full => write!(out, "the release already has {} signatures", signatures::MAX_SIGNATURES),
            SignError::Write { source } => write!(out, "write the signature: {source}"),
        }
    }
}

impl std::error::Error for SignError {}
