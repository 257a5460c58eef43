//! A container's image, beside the one that it will take the place of: in the store on the data partition, put together in a file of
//! its own, and in its place only when all of it was read back. The instance that runs notices nothing.

use super::error::WriteImageError;
use super::storage::Target;
use super::write_image::{Counts, ImageToWrite, Written, write_image};
use crate::progress::Progress;
use crate::source::Source;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;
use yado_image::header::BLOCK_BYTES;
use yado_image::store::incoming::Incoming;
use yado_image::store::{Images, PlaceError};
use yado_image::{Keys, Wanted, open, verity};

/// Somebody who adds an image by hand is waited for: what was fetched would be kept for the next time, but the next time may be
/// tomorrow.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// Puts the image of a release into the store below `data`; answers with its path. `old` is an image of which equal blocks are taken.
///
/// # Errors
/// The store is as it was. What a source did not give to the end is there for the next time; anything else leaves nothing.
pub fn write_container_image(
    image: &ImageToWrite,
    keys: &Keys,
    source: &mut dyn Source,
    data: &Path,
    old: Option<&File>,
    progress: &mut dyn Progress,
) -> Result<(PathBuf, Written), ContainerImageError> {
    let images = Images::open_within(data, LOCK_TIMEOUT).map_err(ContainerImageError::Place)?;
    if let Some(place) = images.find(&image.fingerprint) {
        if let Some(written) = verify(&place, image, keys) {
            return Ok((place, written));
        }
    }
    let incoming = images.incoming(&image.fingerprint, image.bytes, old).map_err(ContainerImageError::Place)?;
    // Fetching may take hours. Nobody else touches the file: one updater works at a time.
    drop(images);
    let written = match write_to(&incoming, image, keys, source, old, progress) {
        Ok(written) => written,
        Err(error) => {
            if !matches!(error, WriteImageError::Source(_)) {
                // The error of the image is the one to tell.
                let _ = incoming.remove();
            }
            return Err(ContainerImageError::Write(error));
        }
    };
    let images = Images::open_within(data, LOCK_TIMEOUT).map_err(ContainerImageError::Place)?;
    let place = images.keep(incoming).map_err(ContainerImageError::Place)?;
    Ok((place, written))
}

fn write_to(
    incoming: &Incoming,
    image: &ImageToWrite,
    keys: &Keys,
    source: &mut dyn Source,
    old: Option<&File>,
    progress: &mut dyn Progress,
) -> Result<Written, WriteImageError> {
    let path = incoming.path();
    let target = incoming.file().try_clone().and_then(|file| Target::of_file(file, path));
    let mut target = target.map_err(|source| WriteImageError::Read { path: path.to_owned(), offset: 0, source })?;
    write_image(image, keys, source, &mut target, old, progress)
}

/// The image that is there, if it is whole and good.
fn verify(place: &Path, image: &ImageToWrite, keys: &Keys) -> Option<Written> {
    let wanted = Wanted { threshold: image.threshold, ..Wanted::container(image.fingerprint) };
    let trusted = open::open_trusted(place, keys, &wanted).ok()?;
    verity::diagnose(&trusted.file, &trusted.header).ok()?;
    let manifest = open::read_manifest(&trusted.file, &trusted.header).ok()?;
    let layout = &trusted.header.layout;
    let kept_blocks = layout.payload_blocks() + layout.tree_bytes() / BLOCK_BYTES;
    let counts = Counts { kept_blocks, ..Counts::default() };
    Some(Written { header: trusted.header, manifest, signers: trusted.signers, counts })
}

/// Why the store has no new image.
#[derive(Debug)]
pub enum ContainerImageError {
    /// The store.
    Place(PlaceError),
    /// The image.
    Write(WriteImageError),
}

impl fmt::Display for ContainerImageError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContainerImageError::Place(error) => write!(out, "{error}"),
            ContainerImageError::Write(error) => write!(out, "{error}"),
        }
    }
}

impl std::error::Error for ContainerImageError {}
