//! What can go wrong while the machine is made ready.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::arch::Arch;
use crate::cache::CacheError;
use crate::command::CommandError;

/// Why something that a board needs is not there.
#[derive(Debug)]
pub enum ProvisionError {
    /// The cache could not be read or written.
    Cache(CacheError),
    /// A tool failed; a download that failed is apt's failure.
    Command(CommandError),
    /// A file outside the cache's own work failed.
    Io {
        /// What we tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The machine's own apt configuration names no mirror to take packages from.
    NoMirror {
        /// The label of the archive that we looked for.
        label: &'static str,
    },
    /// The mirror has no such package.
    NoPackage {
        /// Its name.
        name: String,
        /// For this architecture.
        arch: Arch,
        /// In this suite.
        suite: &'static str,
    },
    /// The package is there, but not with the content that we know.
    Unexpected {
        /// What we looked for.
        wanted: String,
        /// Where.
        place: PathBuf,
    },
}

impl ProvisionError {
    /// For `map_err`: `verb` failed on `path`.
    pub(crate) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ProvisionError {
        let path = path.to_owned();
        move |source| ProvisionError::Io { verb, path, source }
    }
}

impl fmt::Display for ProvisionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProvisionError::Cache(error) => error.fmt(out),
            ProvisionError::Command(error) => error.fmt(out),
            ProvisionError::Io { verb, path, source } => write!(out, "{verb} {}: {source}", path.display()),
            ProvisionError::NoMirror { label } => write!(
                out,
                "apt knows no mirror of {label:?} here: set YADO_DEBIAN_MIRROR (and YADO_SECURITY_MIRROR) to one"
            ),
            ProvisionError::NoPackage { name, arch, suite } => write!(out, "{suite} has no {name}:{arch}"),
            ProvisionError::Unexpected { wanted, place } => write!(out, "no {wanted} in {}", place.display()),
        }
    }
}

impl std::error::Error for ProvisionError {}

impl From<CacheError> for ProvisionError {
    fn from(error: CacheError) -> ProvisionError {
        ProvisionError::Cache(error)
    }
}

impl From<CommandError> for ProvisionError {
    fn from(error: CommandError) -> ProvisionError {
        ProvisionError::Command(error)
    }
}
