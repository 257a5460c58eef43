//! The images of the data partition: `images/FINGERPRINT/image`, and `images/aliases/NAME`, a link to `../FINGERPRINT`. An image
//! comes into its place whole, by one rename, after it was written aside in a directory that the next one to add an image empties.

use crate::output::bytes;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use yado_sys::file_lock;
use yado_wire::hex;

/// The directory, which nobody else adds to meanwhile.
#[derive(Debug)]
pub(super) struct Images {
    directory: PathBuf,
    _lock: File,
}

impl Images {
    pub(super) fn open(data: &Path) -> Result<Images, PlaceError> {
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
        match file_lock::try_lock(&lock) {
            Ok(()) => Ok(Images { directory, _lock: lock }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(PlaceError::Busy),
            Err(error) => Err(at("lock", &path)(error)),
        }
    }

    /// An empty place for one more. What somebody who was killed has left there goes.
    pub(super) fn begin(&self) -> Result<Aside<'_>, PlaceError> {
        let directory = self.directory.join(".aside");
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("remove", &directory)(error)),
            _ => {}
        }
        fs::create_dir(&directory).map_err(at("create", &directory))?;
        let aside = Aside { images: self, directory };
        fs::set_permissions(&aside.directory, Permissions::from_mode(0o755))
            .map_err(at("chmod", &aside.directory))?;
        Ok(aside)
    }

    /// Gives an image a name; one of another image of the data partition is taken from it.
    pub(super) fn name(&self, alias: &str, fingerprint: &[u8; 32]) -> Result<(), PlaceError> {
        let (aside, path) = (self.directory.join(".alias"), self.directory.join("aliases").join(alias));
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("remove", &aside)(error)),
            _ => {}
        }
        symlink(format!("../{}", hex::encode(fingerprint)), &aside).map_err(at("create", &aside))?;
        fs::rename(&aside, &path).map_err(at("create", &path)).inspect_err(|_| drop(fs::remove_file(&aside)))?;
        sync(&self.directory.join("aliases"))
    }
}

/// An image that is not kept yet, and goes if it never is.
#[derive(Debug)]
pub(super) struct Aside<'i> {
    images: &'i Images,
    directory: PathBuf,
}

impl Aside<'_> {
    pub(super) fn path(&self) -> PathBuf {
        self.directory.join("image")
    }

    pub(super) fn create(&self) -> Result<File, PlaceError> {
        File::create_new(self.path()).map_err(at("create", &self.path()))
    }

    /// Whether it will fit is seen before it is received, where its size is known.
    pub(super) fn refuse_too_large(&self, size_bytes: u64) -> Result<(), PlaceError> {
        let disk =
            rustix::fs::statvfs(&self.directory).map_err(|errno| at("look at", &self.directory)(errno.into()))?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free_bytes < size_bytes {
            return Err(PlaceError::NoRoom { directory: self.images.directory.clone(), size_bytes, free_bytes });
        }
        Ok(())
    }

    pub(super) fn write_error(&self, source: io::Error) -> PlaceError {
        at("write", &self.path())(source)
    }

    /// Makes it the image of this fingerprint; the rename makes it real. One that is there has the same content, unless it was
    /// damaged: what runs from it goes on.
    pub(super) fn keep_as(self, fingerprint: &[u8; 32]) -> Result<(), PlaceError> {
        let path = self.images.directory.join(hex::encode(fingerprint));
        if path.is_dir() {
            fs::rename(self.path(), path.join("image")).map_err(at("create", &path))?;
            return sync(&path);
        }
        sync(&self.directory)?;
        fs::rename(&self.directory, &path).map_err(at("create", &path))?;
        sync(&self.images.directory)
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        // At worst the next one removes it. One that is kept is no longer here.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn sync(directory: &Path) -> Result<(), PlaceError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at("sync", directory))
}

fn at(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    let path = path.to_owned();
    move |source| PlaceError::Io { verb, path, source }
}

/// Why an image could not be kept.
#[derive(Debug)]
pub(super) enum PlaceError {
    /// There is no data partition, or something else in a place of ours.
    NoDirectory { path: PathBuf },
    /// Somebody else adds one.
    Busy,
    /// It does not fit.
    NoRoom { directory: PathBuf, size_bytes: u64, free_bytes: u64 },
    /// The file system.
    Io { verb: &'static str, path: PathBuf, source: io::Error },
}

impl fmt::Display for PlaceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlaceError::NoDirectory { path } => {
                write!(out, "{} is no directory: nothing can be kept", path.display())
            }
            PlaceError::Busy => out.write_str("another yado image add is at work: try again when it is over"),
            PlaceError::NoRoom { directory, size_bytes, free_bytes } => write!(
                out,
                "{}: the image takes {} and {} are free",
                directory.display(),
                bytes(*size_bytes),
                bytes(*free_bytes)
            ),
            PlaceError::Io { verb, path, source } => write!(out, "{verb} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for PlaceError {}
