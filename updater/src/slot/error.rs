//! Why an image was not written, and what is left then.

use crate::source::SourceError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use yado_image::OpenError;

/// Whatever it is, a slot that was begun has no header: nobody takes what is in it for an image.
#[derive(Debug)]
pub enum WriteImageError {
    /// The source did not give it.
    Source(SourceError),
    /// What the source gave is not the image that was asked for, or not signed by whom we trust.
    Image(OpenError),
    /// The image does not fit. Nothing was written.
    TooBig {
        /// Where it was to be written.
        path: PathBuf,
        /// Length of the image.
        image_bytes: u64,
        /// How much fits.
        target_bytes: u64,
    },
    /// The source gave other bytes than those that were signed. They were not written.
    WrongBytes {
        /// Where in the image.
        offset: u64,
    },
    /// The target cannot be read.
    Read {
        /// Which.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The target cannot be written.
    Write {
        /// Which.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The target did not take what was written.
    Flush {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The target gives other bytes than those that were signed. If the source gives its files in order, it may have been the source.
    Different {
        /// Which.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
}

impl fmt::Display for WriteImageError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteImageError::Source(error) => write!(out, "{error}"),
            WriteImageError::Image(error) => write!(out, "the image at the source: {error}"),
            WriteImageError::TooBig { path, image_bytes, target_bytes } => {
                write!(out, "{}: the image has {image_bytes} bytes, {target_bytes} fit", path.display())
            }
            WriteImageError::WrongBytes { offset } => {
                write!(out, "the image at the source: the bytes from {offset} on are not those that were signed")
            }
            WriteImageError::Read { path, offset, source } => {
                write!(out, "read {} at byte {offset}: {source}", path.display())
            }
            WriteImageError::Write { path, offset, source } => {
                write!(out, "write {} at byte {offset}: {source}", path.display())
            }
            WriteImageError::Flush { path, source } => write!(out, "flush {}: {source}", path.display()),
            WriteImageError::Different { path, offset } => {
                write!(out, "{}: the bytes from {offset} on read back are not those that were signed", path.display())
            }
        }
    }
}

impl std::error::Error for WriteImageError {}

impl From<SourceError> for WriteImageError {
    fn from(error: SourceError) -> WriteImageError {
        WriteImageError::Source(error)
    }
}
