//! Replaces and removes files of a directory; an error names the file.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use yado_sys::replace_file;

/// Why a file was not replaced. The old one is as it was.
#[derive(Debug)]
pub(crate) struct ReplaceError {
    path: PathBuf,
    source: io::Error,
}

/// Writes `NAME` in `directory`.
pub(crate) fn replace(directory: &Path, name: &str, content: &[u8]) -> Result<(), ReplaceError> {
    let path = directory.join(name);
    replace_file::replace(&path, 0o666, content).map_err(|source| ReplaceError { path, source })
}

/// Removes `NAME` from `directory`, if it is there.
pub(crate) fn remove(directory: &Path, name: &str) -> Result<(), ReplaceError> {
    let path = directory.join(name);
    match fs::remove_file(&path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(ReplaceError { path, source }),
    }
}

impl fmt::Display for ReplaceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "write {}: {}", self.path.display(), self.source)
    }
}

impl std::error::Error for ReplaceError {}
