//! Adds a signature to an image that is already made. The header and so the fingerprint stay as they are.

use crate::open::{OpenError, read_header, read_signatures};
use crate::secret::SecretKey;
use crate::signatures;
use core::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What became of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It stands in the image now.
    New,
    /// It stood there before.
    AlreadySigned,
}

/// Signs an image in place. One place of the signature area is written, which lies within one sector: so the image has
/// the new signature or not, but is never torn.
pub fn add_signature(path: &Path, key: &SecretKey) -> Result<Added, SignError> {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|source| SignError::Open(OpenError::Open { source }))?;
    let (header, block) = read_header(&file).map_err(SignError::Open)?;
    let mut all = read_signatures(&file, &header).map_err(SignError::Open)?;
    let signature = key.sign(&block);
    if all.contains(&signature) {
        return Ok(Added::AlreadySigned);
    }
    all.push(signature);
    let area = signatures::encode(&all).ok_or(SignError::Full)?;
    let place = signatures::place_of(all.len() - 1);
    file.write_all_at(&area[place.clone()], header.layout.signatures_offset() + place.start as u64)
        .and_then(|()| file.sync_all())
        .map_err(|source| SignError::Write { source })?;
    Ok(Added::New)
}

/// Why an image could not be signed.
#[derive(Debug)]
pub enum SignError {
    /// It is no image.
    Open(OpenError),
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
            SignError::Open(source) => write!(out, "{source}"),
            SignError::Full => write!(out, "the image already has {} signatures", signatures::MAX_SIGNATURES),
            SignError::Write { source } => write!(out, "write the signature: {source}"),
        }
    }
}

impl std::error::Error for SignError {}
