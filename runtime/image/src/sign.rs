//! Adds signatures to an image that is already made. The header and so the fingerprint stay as they are.

use crate::header::HeaderBlock;
use crate::inspect::{self, InspectError};
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

/// Signs an image in place, by each of these keys; answers for each in its order. A signature vouches for the whole image, so
/// manifest, tree and payload are compared with the header before: whoever received an image that was changed does not sign it.
///
/// A place of the signature area is written at a time, which lies within one sector: so the image has a new signature or not,
/// but is never torn.
pub fn add_signatures(path: &Path, keys: &[SecretKey]) -> Result<Vec<Added>, SignError> {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|source| SignError::Image(InspectError::Open(OpenError::Open { source })))?;
    inspect::check_parts(&file).map_err(SignError::Image)?;
    let at_open = |error| SignError::Image(InspectError::Open(error));
    let (header, block) = read_header(&file).map_err(at_open)?;
    let mut signatures = read_signatures(&file, &header).map_err(at_open)?;
    let (outcome, new) = add(&mut signatures, keys, &block).ok_or(SignError::Full)?;
    for (place, bytes) in new {
        file.write_all_at(&bytes, header.layout.signatures_offset().saturating_add(place as u64))
            .and_then(|()| file.sync_all())
            .map_err(|source| SignError::Write { source })?;
    }
    Ok(outcome)
}

/// For each key whether it is new, and where in the area which bytes are to be written.
pub(crate) type Additions = (Vec<Added>, Vec<(usize, [u8; signatures::PLACE_BYTES])>);

/// Signs a block by each key. `None` if the area has too few places: then none is to be taken.
pub(crate) fn add(
    signatures: &mut signatures::Signatures,
    keys: &[SecretKey],
    block: &HeaderBlock,
) -> Option<Additions> {
    let (mut outcome, mut new) = (Vec::new(), Vec::new());
    for signature in keys.iter().map(|key| key.sign(block)) {
        if signatures.known.contains(&signature) {
            outcome.push(Added::AlreadySigned);
            continue;
        }
        if signatures.taken_places == signatures::MAX_SIGNATURES {
            return None;
        }
        new.push((signatures::place_of(signatures.taken_places).start, signatures::encode_place(&signature)));
        signatures.taken_places = signatures.taken_places.saturating_add(1);
        signatures.known.push(signature);
        outcome.push(Added::New);
    }
    Some((outcome, new))
}

/// Why an image could not be signed.
#[derive(Debug)]
pub enum SignError {
    /// It is no image, or not the one that its header describes.
    Image(InspectError),
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
            SignError::Image(source) => write!(out, "{source}"),
            SignError::Full => write!(out, "the image already has {} signatures", signatures::MAX_SIGNATURES),
            SignError::Write { source } => write!(out, "write the signature: {source}"),
        }
    }
}

impl std::error::Error for SignError {}
