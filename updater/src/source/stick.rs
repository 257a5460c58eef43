//! A source on a USB stick: the folder `yado-release` at the top of a partition, or of a disk without partitions, as `yado release
//! build` writes one. Which partition it is, is found by where it is plugged in, never by a name that stands on it. It is mounted
//! read-only, at no place, and gone with the source, by a process of its own ([`process`]). What it says is trusted no more than a web
//! server; but the kernel reads its file system, and that is why no stick is looked at unless `update.toml` says so, or somebody asks
//! for it.

mod devices;
mod file_system;
pub(crate) mod process;
mod selected;

use super::directory::Directory;
use super::{FileName, Ranges, Source, SourceError};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

pub use devices::{NotTaken, Stick, plugged_in};
pub use file_system::MountError;
pub use selected::{Selected, Specs};

/// What people write for it, and what is remembered.
pub const ADDRESS: &str = "usb";

/// Where a stick has its release.
pub const FOLDER: &str = "yado-release";

/// A stick that is mounted, with a release on it.
#[derive(Debug)]
pub struct StickSource {
    name: String,
    directory: Directory,
}

/// Why there is no source.
#[derive(Debug)]
pub enum OpenError {
    /// It is none of those that are taken.
    NotTaken(NotTaken),
    /// There is nothing to mount, or it cannot be mounted.
    Mount(MountError),
    /// Mounted, it has no such folder, or one that cannot be read.
    NoRelease(io::Error),
}

impl Stick {
    /// Mounts it, and looks for the release. Whatever is not so: it is unmounted again.
    ///
    /// # Errors
    /// It is as it was.
    pub fn open(&self) -> Result<StickSource, OpenError> {
        if let Some(why) = &self.not_taken {
            return Err(OpenError::NotTaken(why.clone()));
        }
        let mount = file_system::mount(self).map_err(OpenError::Mount)?;
        let folder = open_folder(&mount).map_err(OpenError::NoRelease)?;
        let mut directory = Directory::below(folder);
        match directory.length(FileName::Release) {
            Some(_) => Ok(StickSource { name: self.name.clone(), directory }),
            None => Err(OpenError::NoRelease(io::ErrorKind::NotFound.into())),
        }
    }
}

/// What it is open on keeps the file system mounted.
fn open_folder(mount: &OwnedFd) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(mount, FOLDER, flags, Mode::empty(), resolve)?)
}

impl Source for StickSource {
    fn ranges(&self) -> Ranges {
        self.directory.ranges()
    }

    fn length(&mut self, file: FileName) -> Option<u64> {
        self.directory.length(file)
    }

    fn read(
        &mut self,
        file: FileName,
        range: Range<u64>,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), SourceError> {
        self.directory.read(file, range, take).map_err(|error| match error {
            // Mostly somebody has pulled it.
            SourceError::Broken { file, reason } => {
                SourceError::Broken { file, reason: format!("the stick {}: {reason}", self.name) }
            }
            error => error,
        })
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::NotTaken(why) => why.fmt(out),
            OpenError::Mount(error) => error.fmt(out),
            OpenError::NoRelease(error) => match error.kind() {
                io::ErrorKind::NotFound => write!(out, "it has no {FOLDER}/{}", FileName::Release),
                _ => write!(out, "{FOLDER}: {error}"),
            },
        }
    }
}

impl std::error::Error for OpenError {}
