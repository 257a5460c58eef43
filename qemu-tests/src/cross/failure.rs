//! What can go wrong in a cross build.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::cache::CacheError;
use crate::command::CommandError;
use crate::provision::ProvisionError;

/// Why there is no program.
#[derive(Debug)]
pub enum BuildError {
    /// The compiler, the linker or musl could not be had.
    Provision(ProvisionError),
    /// cargo or rustc failed.
    Command(CommandError),
    /// A file failed.
    Io {
        /// What we tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The toolchain brings no linker of its own; rustup's does.
    NoLinker {
        /// Where we looked.
        sysroot: PathBuf,
    },
    /// cargo was content, but made no program of the wanted name.
    NoProgram {
        /// The package.
        package: String,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Provision(error) => error.fmt(out),
            BuildError::Command(error) => error.fmt(out),
            BuildError::Io { verb, path, source } => write!(out, "{verb} {}: {source}", path.display()),
            BuildError::NoLinker { sysroot } => {
                write!(out, "no rust-lld in {}: the build is driven by rustup's default toolchain", sysroot.display())
            }
            BuildError::NoProgram { package } => write!(out, "package {package} has no such program"),
        }
    }
}

impl std::error::Error for BuildError {}

impl From<ProvisionError> for BuildError {
    fn from(error: ProvisionError) -> BuildError {
        BuildError::Provision(error)
    }
}

impl From<CacheError> for BuildError {
    fn from(error: CacheError) -> BuildError {
        BuildError::Provision(ProvisionError::Cache(error))
    }
}

impl From<CommandError> for BuildError {
    fn from(error: CommandError) -> BuildError {
        BuildError::Command(error)
    }
}
