//! Replaces a file as a whole: written aside, synced, renamed, and the directory synced. The rename makes it real.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a file was not replaced. The old one is as it was.
#[derive(Debug)]
pub(crate) struct ReplaceError {
    path: PathBuf,
    source: io::Error,
}

/// Writes `NAME` in `directory`.
pub(crate) fn replace(directory: &Path, name: &str, content: &[u8]) -> Result<(), ReplaceError> {
    let path = directory.join(name);
    let aside = directory.join(format!(".{name}.new"));
    let written = write_synced(&aside, content)
        .and_then(|()| fs::rename(&aside, &path))
        .and_then(|()| File::open(directory)?.sync_all());
    written.map_err(|source| {
        // Best effort: what was written aside is overwritten next time anyhow.
        let _ = fs::remove_file(&aside);
        ReplaceError { path, source }
    })
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

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

impl fmt::Display for ReplaceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "write {}: {}", self.path.display(), self.source)
    }
}

impl std::error::Error for ReplaceError {}
