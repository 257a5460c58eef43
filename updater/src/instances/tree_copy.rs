//! A copy of the writable layer of an instance that does not run: owners, modes, times, extended attributes (the overlay's own among
//! them), device nodes, FIFOs, links, holes. Where the file system can, files share their blocks with the copy.
//!
//! What is copied stays as it is, and nobody reaches the copy while it is made. Nothing is synced here.

use super::tree_walk::{DIRECTORY, TreeError, Visit, at, refused, walk};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use yado_sys::directory_tree;

/// What a tree takes on its file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Blocks of files. What has several names counts in parts.
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
}

/// As much as one extended attribute can hold, and the names of all of one file.
const MAX_XATTR_BYTES: usize = 64 * 1024;

/// So much at a time, so that the kernel writes while it reads.
const COPIED_AT_ONCE: usize = 1 << 20;

/// Where it cannot copy by itself.
const BUFFER_BYTES: usize = 64 * 1024;

/// How much there is to copy.
pub(super) fn measure(top: &Path) -> Result<Size, TreeError> {
    struct Measure(Size);
    impl Visit for Measure {
        fn file(&mut self, _: &OwnedFd, _: &CStr, found: &Stat) -> Result<(), TreeError> {
            self.0.bytes += blocks_bytes(found);
            self.0.files += 1;
            Ok(())
        }
        fn enter(&mut self, _: &CStr) -> Result<(), TreeError> {
            Ok(())
        }
        fn leave(&mut self, directory: &OwnedFd) -> Result<(), TreeError> {
            let found = rustix::fs::fstat(directory).map_err(at("look at", b"."))?;
            self.0.bytes += found.st_blocks as u64 * 512;
            self.0.files += 1;
            Ok(())
        }
    }
    let mut measured = Measure(Size::default());
    walk(top, &mut measured)?;
    Ok(measured.0)
}

/// The share of one name in a file's blocks, which stat(2) counts in units of 512 bytes.
#[allow(clippy::unnecessary_cast, reason = "these types differ between architectures")]
fn blocks_bytes(found: &Stat) -> u64 {
    found.st_blocks as u64 * 512 / (found.st_nlink as u64).max(1)
}

/// Copies the directory `from`, which was measured before, to `to`, which must not be there. `links` is a place beside that for
/// names of files that have several; it is removed.
///
/// # Errors
/// The copy is there in part. Others may write to files of a layer, by descriptors that they were given: a tree that grows while it
/// is copied is an error.
pub(super) fn copy(from: &Path, to: &Path, links: &Path, measured: Size) -> Result<(), TreeError> {
    let make = |path: &Path| {
        let failed = |verb| at(verb, path.as_os_str().as_encoded_bytes());
        rustix::fs::mkdirat(CWD, path, Mode::RWXU).map_err(failed("create"))?;
        rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()).map_err(failed("open"))
    };
    let mut copy = Copy {
        out: make(to)?,
        depth: 0,
        links: make(links)?,
        is_sharing: true,
        // What was made since it was measured, within reason.
        left: Size { bytes: 2 * measured.bytes + (16 << 20), files: 2 * measured.files + 1024 },
        xattr_names: vec![0; MAX_XATTR_BYTES],
        xattr: vec![0; MAX_XATTR_BYTES],
    };
    walk(from, &mut copy)?;
    directory_tree::remove_all(links).map_err(|source| TreeError {
        verb: "remove",
        name: links.display().to_string(),
        source,
    })?;
    Ok(())
}

struct Copy {
    /// The directory that is filled.
    out: OwnedFd,
    /// How far it is below the top.
    depth: usize,
    /// A name for each file that has several, by its inode's number.
    links: OwnedFd,
    /// Nothing has said yet that blocks cannot be shared.
    is_sharing: bool,
    /// What may still come.
    left: Size,
    xattr_names: Vec<u8>,
    xattr: Vec<u8>,
}

impl Visit for Copy {
    fn file(&mut self, directory: &OwnedFd, name: &CStr, found: &Stat) -> Result<(), TreeError> {
        self.count(name, blocks_bytes(found))?;
        let known = CString::new(found.st_ino.to_string()).unwrap_or_default();
        let has_others = 1 < found.st_nlink;
        if has_others && self.link_known(&known, name)? {
            return Ok(());
        }
        self.make(directory, name, found)?;
        self.take_attributes(directory, name, found)?;
        if has_others {
            match rustix::fs::linkat(&self.out, name, &self.links, &known, AtFlags::empty()) {
                // A file that has as many names as it can have, one short of them all: its last one is a file of its own.
                Ok(()) | Err(Errno::MLINK) => {}
                Err(errno) => return Err(at("link", name.to_bytes())(errno)),
            }
        }
        Ok(())
    }

    fn enter(&mut self, name: &CStr) -> Result<(), TreeError> {
        self.count(name, 0)?;
        let failed = |verb| at(verb, name.to_bytes());
        rustix::fs::mkdirat(&self.out, name, Mode::RWXU).map_err(failed("create"))?;
        self.out = rustix::fs::openat(&self.out, name, DIRECTORY, Mode::empty()).map_err(failed("open"))?;
        self.depth += 1;
        Ok(())
    }

    fn leave(&mut self, directory: &OwnedFd) -> Result<(), TreeError> {
        let found = rustix::fs::fstat(directory).map_err(at("look at", b"."))?;
        self.take_attributes(directory, c".", &found)?;
        if let Some(depth) = self.depth.checked_sub(1) {
            self.out = rustix::fs::openat(&self.out, c"..", DIRECTORY, Mode::empty()).map_err(at("open", b".."))?;
            self.depth = depth;
        }
        Ok(())
    }
}

impl Copy {
    fn count(&mut self, name: &CStr, bytes: u64) -> Result<(), TreeError> {
        match (self.left.bytes.checked_sub(bytes), self.left.files.checked_sub(1)) {
            (Some(bytes), Some(files)) => {
                self.left = Size { bytes, files };
                Ok(())
            }
            (None, _) | (_, None) => Err(refused(name, "somebody outside writes to the layer, and it grows")),
        }
    }

    /// Gives a file that was copied one more name.
    fn link_known(&self, known: &CStr, name: &CStr) -> Result<bool, TreeError> {
        match rustix::fs::linkat(&self.links, known, &self.out, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            // The name of ours was one too many.
            Err(Errno::MLINK) => rustix::fs::renameat(&self.links, known, &self.out, name)
                .map(|()| true)
                .map_err(at("link", name.to_bytes())),
            Err(errno) => Err(at("link", name.to_bytes())(errno)),
        }
    }

    fn make(&mut self, directory: &OwnedFd, name: &CStr, found: &Stat) -> Result<(), TreeError> {
        let failed = |verb| at(verb, name.to_bytes());
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => self.copy_file(directory, name, found),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new()).map_err(failed("read"))?;
                rustix::fs::symlinkat(target, &self.out, name).map_err(failed("create"))
            }
            kind @ (FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice) => {
                rustix::fs::mknodat(&self.out, name, kind, Mode::RUSR, found.st_rdev).map_err(failed("create"))
            }
            FileType::Directory | FileType::Unknown => Err(refused(name, "it is of no kind of file that is known")),
        }
    }

    /// As long as it was when it was opened: whoever writes to it meanwhile is no reason to go on for ever.
    fn copy_file(&mut self, directory: &OwnedFd, name: &CStr, found: &Stat) -> Result<(), TreeError> {
        let failed = |verb| at(verb, name.to_bytes());
        // Something else may be there by now, of which opening waits for somebody.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOATIME | OFlags::CLOEXEC;
        let file = rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(failed("open"))?;
        let opened = rustix::fs::fstat(&file).map_err(failed("look at"))?;
        if (opened.st_dev, opened.st_ino) != (found.st_dev, found.st_ino) {
            return Err(refused(name, "somebody outside has put another file there"));
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let out = rustix::fs::openat(&self.out, name, flags, Mode::RUSR).map_err(failed("create"))?;
        let bytes = opened.st_size.try_into().unwrap_or(0);
        if self.is_sharing && 0 < bytes {
            match rustix::fs::ioctl_ficlone(&out, &file) {
                Ok(()) => return Ok(()),
                Err(Errno::NOSPC | Errno::IO | Errno::DQUOT) => {}
                Err(_) => self.is_sharing = false,
            }
        }
        copy_data(&file, &out, bytes).and_then(|()| rustix::fs::ftruncate(&out, bytes)).map_err(failed("copy"))
    }

    fn copy_xattrs(&mut self, from: &Path, to: &Path, name: &CStr) -> Result<(), TreeError> {
        let failed = |verb| at(verb, name.to_bytes());
        let length = match rustix::fs::llistxattr(from, &mut self.xattr_names[..]) {
            Err(Errno::OPNOTSUPP) => 0,
            listed => listed.map_err(failed("list attributes of"))?,
        };
        for attribute in self.xattr_names[..length].split_inclusive(|byte| *byte == 0) {
            let Ok(attribute) = CStr::from_bytes_with_nul(attribute) else { continue };
            let value = rustix::fs::lgetxattr(from, attribute, &mut self.xattr[..])
                .map_err(failed("read an attribute of"))?;
            rustix::fs::lsetxattr(to, attribute, &self.xattr[..value], XattrFlags::empty())
                .map_err(failed("set an attribute of"))?;
        }
        Ok(())
    }

    /// Owner first, which takes set-user-id bits and capabilities away, and the time last, which all else changes.
    fn take_attributes(&mut self, directory: &OwnedFd, name: &CStr, found: &Stat) -> Result<(), TreeError> {
        let failed = || at("set owner, mode and time of", name.to_bytes());
        let (uid, gid) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
        rustix::fs::chownat(&self.out, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed())?;
        self.copy_xattrs(&below(directory, name), &below(&self.out, name), name)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Symlink {
            let mode = Mode::from_raw_mode(found.st_mode & 0o7777);
            rustix::fs::chmodat(&self.out, name, mode, AtFlags::empty()).map_err(failed())?;
        }
        let times = Timestamps {
            last_access: Timespec { tv_sec: found.st_atime as _, tv_nsec: found.st_atime_nsec as _ },
            last_modification: Timespec { tv_sec: found.st_mtime as _, tv_nsec: found.st_mtime_nsec as _ },
        };
        rustix::fs::utimensat(&self.out, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed())
    }
}

/// A path to something in an open directory, for calls that take no descriptor.
fn below(directory: &OwnedFd, name: &CStr) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(OsStr::from_bytes(name.to_bytes()))
}

/// Only what has been written: between are holes.
fn copy_data(from: &OwnedFd, to: &OwnedFd, bytes: u64) -> Result<(), Errno> {
    let mut at = 0;
    while at < bytes {
        let data = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            // Behind it is nothing but a hole.
            Err(Errno::NXIO) => return Ok(()),
            found => found?,
        };
        if bytes <= data {
            return Ok(());
        }
        let end = rustix::fs::seek(from, SeekFrom::Hole(data))?.min(bytes);
        at = copy_range(from, to, data..end)?;
    }
    Ok(())
}

/// Gives where it came to: the end of the range or, of a file that became shorter, that of the file.
fn copy_range(from: &OwnedFd, to: &OwnedFd, range: Range<u64>) -> Result<u64, Errno> {
    let (mut read_at, mut write_at) = (range.start, range.start);
    let mut buffer = Vec::new();
    while read_at < range.end {
        let length = (range.end - read_at).min(COPIED_AT_ONCE as u64) as usize;
        let copied = if buffer.is_empty() {
            match rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), length) {
                Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                    buffer.resize(BUFFER_BYTES, 0);
                    continue;
                }
                copied => copied?,
            }
        } else {
            let length = rustix::io::pread(from, &mut buffer[..length.min(BUFFER_BYTES)], read_at)?;
            let written = rustix::io::pwrite(to, &buffer[..length], read_at)?;
            read_at += written as u64;
            written
        };
        if copied == 0 {
            return Ok(u64::MAX);
        }
    }
    Ok(range.end)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
