//! The record on the data partition. What cannot be read is told, and is as if there were none: the boot loader's state then says
//! what goes on.

use super::text::{MAGIC, VERSIONS};
use super::{MAX_BYTES, Record, RecordError};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use yado_sys::{regular_file, replace_file};
use yado_wire::formats::{self, Standing};

/// Below the folder `state` of the data partition.
pub const NAME: &str = "update";

/// The first line of any of ours is shorter.
const HEAD_BYTES: u64 = 64;

/// It names sources, and nobody else needs it.
const MODE: u32 = 0o600;

/// Why there is no record.
#[derive(Debug)]
pub enum ReadError {
    /// It is there, and cannot be read.
    Open {
        /// Where it is.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is longer than any of ours.
    TooLong {
        /// Where it is.
        path: PathBuf,
    },
    /// It is no record.
    Bad {
        /// Where it is.
        path: PathBuf,
        /// Why.
        why: RecordError,
    },
}

/// The record of this folder; None: nothing was ever written.
///
/// # Errors
/// When there is something that is no record.
pub fn read(state: &Path) -> Result<Option<Record>, ReadError> {
    let path = state.join(NAME);
    let Some(bytes) = read_bounded(&path, MAX_BYTES)? else { return Ok(None) };
    Record::parse(&bytes).map(Some).map_err(|why| ReadError::Bad { path, why })
}

/// Replaces the record of this folder: the old one or the new one is there, also after a power cut.
///
/// # Errors
/// What the kernel says; the old one is there.
pub fn write(state: &Path, record: &Record, standing: Standing) -> io::Result<()> {
    let path = state.join(NAME);
    let version = VERSIONS.to_write(standing, version_there(&path, MAGIC));
    replace_file::replace(&path, MODE, record.to_text_in(version).as_bytes())
}

/// The version of the file that is there.
pub(crate) fn version_there(path: &Path, magic: &str) -> Option<u32> {
    let mut head = Vec::new();
    regular_file::open(path).ok()?.take(HEAD_BYTES).read_to_end(&mut head).ok()?;
    formats::version(&String::from_utf8_lossy(&head), magic)
}

pub(super) fn read_bounded(path: &Path, max: usize) -> Result<Option<Vec<u8>>, ReadError> {
    let open = |source| ReadError::Open { path: path.to_owned(), source };
    let file: File = match regular_file::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(open(error)),
    };
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(open)?;
    if max < bytes.len() { Err(ReadError::TooLong { path: path.to_owned() }) } else { Ok(Some(bytes)) }
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Open { path, source } => write!(out, "open {}: {source}", path.display()),
            ReadError::TooLong { path } => write!(out, "{}: it is longer than any of ours", path.display()),
            ReadError::Bad { path, why } => write!(out, "{}: {why}", path.display()),
        }
    }
}

impl std::error::Error for ReadError {}
