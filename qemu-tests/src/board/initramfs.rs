//! The initramfs: init, the keys it trusts, and the modules it needs to reach the slot. Nothing else: no shell, no library.

use crate::board::boot_modules::{self, BootModules, ModulesError};
use crate::board::cpio::Archive;
use crate::provision::Kernel;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Tells init that it runs in the initramfs.
const MARKER: &str = "etc/yado/initramfs";

/// Why there is no initramfs.
#[derive(Debug)]
pub enum InitramfsError {
    /// A file could not be read or written.
    Io {
        /// Which.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel's modules could not be chosen.
    Modules(ModulesError),
}

/// Writes the archive to `to`.
pub fn make(to: &Path, init: &Path, trusted: &[PathBuf], kernel: &Kernel) -> Result<(), InitramfsError> {
    let modules =
        boot_modules::choose(kernel, boot_modules::INITRAMFS.iter().copied()).map_err(InitramfsError::Modules)?;
    let bytes = assemble(init, trusted, &modules)?;
    fs::write(to, bytes).map_err(|source| InitramfsError::Io { path: to.to_owned(), source })
}

fn assemble(init: &Path, trusted: &[PathBuf], modules: &BootModules) -> Result<Vec<u8>, InitramfsError> {
    let read = |path: &Path| fs::read(path).map_err(|source| InitramfsError::Io { path: path.to_owned(), source });
    let mut archive = Archive::new();
    for directory in ["dev", "proc", "sys", "run"] {
        archive.directory(directory);
    }
    archive.file("init", 0o755, &read(init)?);
    archive.file(MARKER, 0o644, b"");
    for key in trusted {
        let name = key.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        archive.file(&format!("etc/yado/trust/{name}"), 0o644, &read(key)?);
    }
    for (path, from) in &modules.files {
        archive.file(&modules.place(path), 0o644, &read(from)?);
    }
    Ok(archive.finish())
}

impl fmt::Display for InitramfsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InitramfsError::Io { path, source } => write!(out, "initramfs: {}: {source}", path.display()),
            InitramfsError::Modules(error) => write!(out, "initramfs: {error}"),
        }
    }
}

impl std::error::Error for InitramfsError {}
