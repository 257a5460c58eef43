//! Where a release comes from: a source gives the bytes of files by name. It is trusted with nothing: whoever asks checks each
//! byte by a signature or a hash.

pub mod bundle;
pub mod directory;
pub mod fetch_process;
mod http;
pub mod open;
pub mod stick;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::ops::Range;
use yado_image::release::{MAX_RELEASE_BYTES, Part};
use yado_wire::hex;

/// A file of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileName {
    /// The signed release itself: `release`.
    Release,
    /// The image with this fingerprint, whole: `images/FINGERPRINT`.
    Image([u8; 32]),
    /// The boot file with this SHA-256: `boot/SHA256`.
    Boot([u8; 32]),
}

/// In which order a source can give the bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranges {
    /// Any part at any time.
    Any,
    /// From the first byte to the last, once; a part costs all before it.
    Whole,
}

/// Where a release comes from.
pub trait Source {
    /// What can be asked for.
    fn ranges(&self) -> Ranges;

    /// How long a file is, where that can be told without giving it. It is trusted no more than the bytes.
    fn length(&mut self, file: FileName) -> Option<u64> {
        let _ = file;
        None
    }

    /// Gives the bytes of `range` in order, piece by piece, to `take`; whoever takes may stop it.
    ///
    /// # Errors
    /// What was given before the error is good for nothing but what the taker checked itself.
    fn read(
        &mut self,
        file: FileName,
        range: Range<u64>,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), SourceError>;
}

/// The bytes of the release, whatever they are: at most as many as a release can have, which is less than 300 KiB.
pub fn read_release(source: &mut dyn Source) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let mut take = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    // One byte more, so that one that is too long is seen as such.
    match source.read(FileName::Release, 0..MAX_RELEASE_BYTES + 1, &mut take) {
        Ok(()) | Err(SourceError::Short { .. }) => Ok(bytes),
        Err(error) => Err(error),
    }
}

impl From<Part> for FileName {
    fn from(part: Part) -> FileName {
        match part {
            Part::Image(fingerprint) => FileName::Image(fingerprint),
            Part::Boot(sha256) => FileName::Boot(sha256),
        }
    }
}

/// Why a source did not give what was asked for.
#[derive(Debug)]
pub enum SourceError {
    /// It has no such file.
    Missing {
        /// Which.
        file: FileName,
    },
    /// The file ends before the range does.
    Short {
        /// Which.
        file: FileName,
        /// Where it ends.
        bytes: u64,
    },
    /// It gives files in order only, and this one is not the next.
    OutOfOrder {
        /// Which.
        file: FileName,
    },
    /// The connection, the disk, the stick. Trying again later may help.
    Broken {
        /// Which file.
        file: FileName,
        /// What happened.
        reason: String,
    },
    /// The taker stopped it.
    Stopped(io::Error),
}

impl fmt::Display for FileName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileName::Release => out.write_str("release"),
            FileName::Image(fingerprint) => write!(out, "images/{}", hex::encode(fingerprint)),
            FileName::Boot(sha256) => write!(out, "boot/{}", hex::encode(sha256)),
        }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceError::Missing { file } => write!(out, "{file}: the source has no such file"),
            SourceError::Short { file, bytes } => write!(out, "{file}: it ends after {bytes} bytes"),
            SourceError::OutOfOrder { file } => {
                write!(out, "{file}: the source gives its files once and in order, and this one is not the next")
            }
            SourceError::Broken { file, reason } => write!(out, "{file}: {reason}"),
            SourceError::Stopped(reason) => write!(out, "{reason}"),
        }
    }
}

impl std::error::Error for SourceError {}
