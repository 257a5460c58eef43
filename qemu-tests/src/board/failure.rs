//! Why a board could not be put together, and why one did not do what was asked.

use crate::board::agent::AgentError;
use crate::board::boot_modules::ModulesError;
use crate::board::disk::DiskError;
use crate::board::qemu::QemuError;
use crate::board::tree::TreeError;
use crate::cache::CacheError;
use crate::command::CommandError;
use crate::cross;
use crate::provision::ProvisionError;
use crate::steps::NoSuchStep;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why there is no board to boot.
#[derive(Debug)]
pub enum BuildError {
    /// Something that it needs could not be fetched or built.
    Provision(ProvisionError),
    /// Our own programs could not be built for the board.
    Cross(cross::BuildError),
    /// The cache could not be used.
    Cache(CacheError),
    /// A tool failed.
    Command(CommandError),
    /// A tree could not be laid out.
    Tree(TreeError),
    /// The kernel's modules could not be chosen.
    Modules(ModulesError),
    /// The disk could not be made.
    Disk(DiskError),
    /// The step that was asked for is none.
    Step(NoSuchStep),
    /// A file could not be read or written.
    Io {
        /// Which.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl BuildError {
    /// For `map_err`: something failed on `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> BuildError + use<> {
        let path = path.to_owned();
        move |source| BuildError::Io { path, source }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Provision(error) => error.fmt(out),
            BuildError::Cross(error) => error.fmt(out),
            BuildError::Cache(error) => error.fmt(out),
            BuildError::Command(error) => error.fmt(out),
            BuildError::Tree(error) => error.fmt(out),
            BuildError::Modules(error) => error.fmt(out),
            BuildError::Disk(error) => error.fmt(out),
            BuildError::Step(error) => error.fmt(out),
            BuildError::Io { path, source } => write!(out, "{}: {source}", path.display()),
        }
    }
}

impl std::error::Error for BuildError {}

macro_rules! from {
    ($($error:ty => $variant:ident),* $(,)?) => {
        $(impl From<$error> for BuildError {
            fn from(error: $error) -> BuildError {
                BuildError::$variant(error)
            }
        })*
    };
}

from! {
    ProvisionError => Provision,
    cross::BuildError => Cross,
    CacheError => Cache,
    CommandError => Command,
    TreeError => Tree,
    ModulesError => Modules,
    DiskError => Disk,
    NoSuchStep => Step,
}

/// Why a board did not boot, or did not do what was asked.
#[derive(Debug)]
pub enum BoardError {
    /// Its disk could not be made.
    Disk(DiskError),
    /// A directory of it could not be made.
    Directory {
        /// Which.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// EDK II's flash could not be made or read.
    Flash {
        /// Which.
        path: PathBuf,
        /// What the kernel answered, or what is wrong with it.
        source: io::Error,
    },
    /// A slot of it could not be spoilt.
    Spoil {
        /// Its disk.
        path: PathBuf,
        /// What the kernel answered, or what is wrong with the image in the slot.
        source: io::Error,
    },
    /// Its disk could not be served, or its content after a loss of power not be written.
    Serve {
        /// Its disk.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The emulator failed.
    Qemu(QemuError),
    /// The agent failed.
    Agent(AgentError),
    /// A command answered with something that is no JSON.
    NotJson {
        /// Which command.
        what: String,
        /// What it said.
        said: String,
    },
    /// What was waited for did not come.
    Deadline {
        /// What was waited for.
        waited_for: String,
        /// What was seen last.
        last_seen: String,
    },
}

impl fmt::Display for BoardError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BoardError::Disk(error) => error.fmt(out),
            BoardError::Directory { path, source } => write!(out, "create {}: {source}", path.display()),
            BoardError::Flash { path, source } => write!(out, "{}: {source}", path.display()),
            BoardError::Spoil { path, source } => write!(out, "spoil a slot of {}: {source}", path.display()),
            BoardError::Serve { path, source } => write!(out, "serve {} to the board: {source}", path.display()),
            BoardError::Qemu(error) => error.fmt(out),
            BoardError::Agent(error) => error.fmt(out),
            BoardError::NotJson { what, said } => write!(out, "{what}: not JSON: {said}"),
            BoardError::Deadline { waited_for, last_seen } => write!(out, "no {waited_for}; last seen: {last_seen}"),
        }
    }
}

impl std::error::Error for BoardError {}
