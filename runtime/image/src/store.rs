//! The images of the data partition: `images/FINGERPRINT/image`, and `images/aliases/NAME`, a link to `../FINGERPRINT`. An image
//! is received into a file without a name, which goes with whoever has it open, also if that is killed or the power is cut
//! (`O_TMPFILE`). Verified, it is given a name aside, and its place by one rename, which makes it real.
//!
//! One that is fetched piece by piece, and goes on after a cut, has a name all the while: `images/.incoming-FINGERPRINT`
//! ([`incoming`]).

pub mod incoming;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use yado_sys::file_lock;
use yado_sys::replace_file::put_in_place;
use yado_sys::volume::{self, Usage};
use yado_wire::amounts::bytes;
use yado_wire::hex;

/// What images leave free on the data partition: a tenth of it, for what instances and init write, within these.
const MIN_KEPT_BYTES: u64 = 4 << 20;
const MAX_KEPT_BYTES: u64 = 512 << 20;

/// The directory, which nobody else adds to meanwhile.
#[derive(Debug)]
pub struct Images {
    directory: PathBuf,
    _lock: File,
}

impl Images {
    /// That of this data partition. One that is not there yet is made.
    pub fn open(data: &Path) -> Result<Images, PlaceError> {
        Images::open_within(data, Duration::ZERO)
    }

    /// The same, and waits so long for whoever adds another one.
    pub fn open_within(data: &Path, timeout: Duration) -> Result<Images, PlaceError> {
        if !data.is_dir() {
            return Err(PlaceError::NoDirectory { path: data.to_owned() });
        }
        let directory = data.join("images");
        let aliases = directory.join("aliases");
        // What lies on the data partition may be another's: a link would lead us out of it.
        for directory in [&directory, &aliases] {
            match fs::symlink_metadata(directory) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(PlaceError::NoDirectory { path: directory.clone() }),
                Err(_) => fs::create_dir(directory).map_err(at("create", directory))?,
            }
        }
        let path = directory.join(".lock");
        let lock = file_lock::open(&path).map_err(at("open", &path))?;
        match file_lock::lock_within(&lock, timeout) {
            Ok(()) => Ok(Images { directory, _lock: lock }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(PlaceError::Busy),
            Err(error) => Err(at("lock", &path)(error)),
        }
    }

    /// A place for one more.
    pub fn begin(&self) -> Result<Aside<'_>, PlaceError> {
        // What was killed between two calls has left it.
        remove(&self.aside())?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let file = rustix::fs::open(&self.directory, flags, mode)
            .map_err(|errno| at("make a file without a name in", &self.directory)(errno.into()))?;
        Ok(Aside { images: self, file: File::from(file) })
    }

    fn aside(&self) -> PathBuf {
        self.directory.join(".aside")
    }

    /// Whether so much more will fit is seen before it is written: root could write to the last block.
    fn refuse_without_room(&self, more_bytes: u64) -> Result<(), PlaceError> {
        let directory = &self.directory;
        let Usage { total_bytes, free_bytes, .. } = volume::usage(directory).map_err(at("look at", directory))?;
        let kept_bytes = (total_bytes / 10).clamp(MIN_KEPT_BYTES, MAX_KEPT_BYTES);
        match more_bytes <= free_bytes.saturating_sub(kept_bytes) {
            true => Ok(()),
            false => Err(PlaceError::NoRoom { directory: directory.clone(), more_bytes, free_bytes, kept_bytes }),
        }
    }

    /// The directory of the image of this fingerprint, made if it is not there.
    fn directory_of(&self, fingerprint: &[u8; 32]) -> Result<PathBuf, PlaceError> {
        let directory = self.directory.join(hex::encode(fingerprint));
        if fs::symlink_metadata(&directory).is_ok_and(|found| !found.is_dir()) {
            remove(&directory)?;
        }
        match fs::create_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => created
                .and_then(|()| fs::set_permissions(&directory, Permissions::from_mode(0o755)))
                .map_err(at("create", &directory))?,
        }
        Ok(directory)
    }

    /// Syncs what was put into it.
    fn sync(&self) -> Result<(), PlaceError> {
        let directory = &self.directory;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(at("sync", directory))
    }

    /// The image of this fingerprint, if there is something that can be one.
    pub fn find(&self, fingerprint: &[u8; 32]) -> Option<PathBuf> {
        let directory = self.directory.join(hex::encode(fingerprint));
        let image = directory.join("image");
        let is_dir = fs::symlink_metadata(directory).is_ok_and(|found| found.is_dir());
        (is_dir && fs::symlink_metadata(&image).is_ok_and(|found| found.is_file())).then_some(image)
    }

    /// Gives an image a name; one of another image of the data partition is taken from it.
    pub fn name(&self, alias: &str, fingerprint: &[u8; 32]) -> Result<(), PlaceError> {
        let (aside, path) = (self.directory.join(".alias"), self.directory.join("aliases").join(alias));
        remove(&aside)?;
        symlink(format!("../{}", hex::encode(fingerprint)), &aside).map_err(at("create", &aside))?;
        put_in_place(&aside, &path).map_err(at("create", &path)).inspect_err(|_| drop(fs::remove_file(&aside)))
    }
}

/// An image that is not kept yet, and goes if it never is.
#[derive(Debug)]
pub struct Aside<'i> {
    images: &'i Images,
    file: File,
}

impl Aside<'_> {
    /// To write to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What opens it once more, as long as it is open here.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// Whether so much more will fit.
    pub fn refuse_without_room(&self, more_bytes: u64) -> Result<(), PlaceError> {
        self.images.refuse_without_room(more_bytes)
    }

    /// That of a write to it.
    pub fn write_error(&self, source: io::Error) -> PlaceError {
        at("write an image in", &self.images.directory)(source)
    }

    /// Makes it the image of this fingerprint. What runs from one that it takes the place of goes on.
    pub fn keep_as(self, fingerprint: &[u8; 32]) -> Result<(), PlaceError> {
        let (aside, directory) = (self.images.aside(), self.images.directory_of(fingerprint)?);
        rustix::fs::linkat(CWD, self.path(), CWD, &aside, AtFlags::SYMLINK_FOLLOW)
            .map_err(io::Error::from)
            .and_then(|()| put_in_place(&aside, &directory.join("image")))
            .map_err(at("create", &directory.join("image")))
            // The directory stays if it is another's. At worst the next one removes what is aside.
            .inspect_err(|_| drop((fs::remove_file(&aside), fs::remove_dir(&directory))))?;
        self.images.sync()
    }
}

/// Removes what may be there by this name, if that is no directory.
fn remove(path: &Path) -> Result<(), PlaceError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

fn at(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    let path = path.to_owned();
    move |source| PlaceError::Io { verb, path, source }
}

/// Why an image could not be kept.
#[derive(Debug)]
pub enum PlaceError {
    /// There is no data partition, or something else in a place of ours.
    NoDirectory {
        /// Which.
        path: PathBuf,
    },
    /// Somebody else adds one.
    Busy,
    /// It does not fit.
    NoRoom {
        /// Where.
        directory: PathBuf,
        /// What would be added.
        more_bytes: u64,
        /// Free for ordinary users.
        free_bytes: u64,
        /// What is left to others.
        kept_bytes: u64,
    },
    /// The file system.
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl fmt::Display for PlaceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlaceError::NoDirectory { path } => {
                write!(out, "{} is no directory: nothing can be kept", path.display())
            }
            PlaceError::Busy => out.write_str("another image is being added: try again when it is over"),
            PlaceError::NoRoom { directory, more_bytes, free_bytes, kept_bytes } => write!(
                out,
                "{}: there is no room for {} more: {} are free, and images leave {} of them",
                directory.display(),
                bytes(*more_bytes),
                bytes(*free_bytes),
                bytes(*kept_bytes)
            ),
            PlaceError::Io { verb, path, source } => write!(out, "{verb} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for PlaceError {}
