//! Opens and creates paths in the instance's root from outside. A symbolic link there never leads out of the root, and what is
//! created belongs to the instance's root user.

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::io;
use yado_sys::identity;

/// The instance's root as seen from outside.
#[derive(Debug)]
pub(crate) struct InstanceRoot<'a> {
    /// `O_PATH` descriptor of the root.
    pub(crate) root: &'a OwnedFd,
    /// The host id of id 0 inside.
    pub(crate) base: u32,
}

/// As what a missing mount point is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Directory,
    File,
}

impl InstanceRoot<'_> {
    /// Opens a path (`O_PATH`). It and its parent directories are made where they are missing.
    pub(crate) fn open_or_make(&self, path: &str, shape: Shape) -> Result<OwnedFd, Errno> {
        match self.open(path) {
            Err(Errno::NOENT) => {}
            answer => return answer,
        }
        let components: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let Some((last, above)) = components.split_last() else { return Err(Errno::INVAL) };
        let mut reached = String::from(".");
        let mut directory = self.open(&reached)?;
        for part in above {
            reached = format!("{reached}/{part}");
            directory = match self.open(&reached) {
                Err(Errno::NOENT) => {
                    self.make(&directory, part, Shape::Directory)?;
                    self.open(&reached)?
                }
                answer => answer?,
            };
        }
        self.make(&directory, last, shape)?;
        self.open(path)
    }

    /// Opens an existing path (`O_PATH`). Links are followed as a process inside would follow them.
    pub(crate) fn open(&self, path: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        // EAGAIN: something was renamed while the kernel looked; it asks us to try again: openat2(2).
        const ATTEMPTS: u32 = 16;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..ATTEMPTS {
            match rustix::fs::openat2(self.root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                answer => return answer,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Makes one entry in `directory`, under the id that will own it: the file system refuses ids that the map does not have.
    /// `EACCES`: links of the instance lead to a disk on which its root may not make this itself.
    fn make(&self, directory: &OwnedFd, name: &str, shape: Shape) -> Result<(), Errno> {
        let make = || match shape {
            Shape::Directory => rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o755)),
            Shape::File => rustix::fs::mknodat(directory, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0),
        };
        // In the root's own file system root inside may write everywhere: whose a directory is there is of no interest.
        let is_own = rustix::fs::fstat(directory)?.st_dev == rustix::fs::fstat(self.root)?.st_dev;
        let made = if is_own { as_ids(self.base, self.base, make) } else { with_rights_of(self.base, make) };
        match made.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::PERM))? {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// Runs `work` under these file system ids, but with our own privileges: files that it makes belong to these ids at once.
pub(crate) fn as_ids<T>(uid: u32, gid: u32, work: impl FnOnce() -> T) -> io::Result<T> {
    identity::set_file_ids(uid, gid)?;
    let outcome = work();
    identity::set_file_ids(0, 0)?;
    Ok(outcome)
}

/// As [`as_ids`], but without our own privileges for files.
fn with_rights_of<T>(id: u32, work: impl FnOnce() -> T) -> io::Result<T> {
    identity::set_file_ids_and_rights(id, id)?;
    let outcome = work();
    identity::set_file_ids(0, 0)?;
    Ok(outcome)
}
