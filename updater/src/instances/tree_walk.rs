//! Goes through a tree of which others chose names, depth and kinds of files: the writable layer of an instance.
//!
//! Each step goes through a descriptor and a name of one component. One descriptor is open at a time, and of the way back some bytes
//! are remembered for each level. No link is followed, nothing is opened but directories, and what others move away meanwhile
//! is an error and no way out.

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, SeekFrom, Stat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Deeper than any program can name with a path (4096 bytes); each level costs us 16 bytes.
const MAX_DEPTH: usize = 64 * 1024;

/// How a directory is opened.
pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Who is told of what is in a tree.
pub(super) trait Visit {
    /// Something that is no directory.
    fn file(&mut self, directory: &OwnedFd, name: &CStr, found: &Stat) -> Result<(), TreeError>;
    /// From here on all is in this directory of the one before.
    fn enter(&mut self, name: &CStr) -> Result<(), TreeError>;
    /// That is all that is in this directory; next is the one above.
    fn leave(&mut self, directory: &OwnedFd) -> Result<(), TreeError>;
}

/// Why a tree could not be gone through, or copied.
#[derive(Debug)]
pub struct TreeError {
    /// What was tried.
    pub verb: &'static str,
    /// On what: the name of a file or directory somewhere in the tree.
    pub name: String,
    /// What the kernel answered, or what is wrong.
    pub source: io::Error,
}

/// A directory that is not done.
struct Above {
    /// Where its listing goes on.
    cookie: u64,
    inode: u64,
}

/// Tells `visit` of all in the directory `top`, each directory after what was found before it. The top itself is only left.
pub(super) fn walk(top: &Path, visit: &mut impl Visit) -> Result<(), TreeError> {
    let failed = |verb| at(verb, top.as_os_str().as_encoded_bytes());
    let mut current = rustix::fs::openat(CWD, top, DIRECTORY, Mode::empty()).map_err(failed("open"))?;
    let device = rustix::fs::fstat(&current).map_err(failed("look at"))?.st_dev;
    let (mut above, mut cookie) = (Vec::new(), 0);
    loop {
        let Some(name) = next_directory(&current, &mut cookie, visit)? else {
            visit.leave(&current)?;
            let Some(Above { cookie: next, inode }) = above.pop() else { return Ok(()) };
            let failed = || at("go back from", b"..");
            let up = rustix::fs::openat(&current, c"..", DIRECTORY, Mode::empty()).map_err(failed())?;
            if rustix::fs::fstat(&up).map_err(failed())?.st_ino != inode {
                return Err(refused(c"..", "a directory was moved away meanwhile"));
            }
            (current, cookie) = (up, next);
            continue;
        };
        if above.len() == MAX_DEPTH {
            return Err(refused(&name, "directories are nested too deep"));
        }
        let failed = |verb| at(verb, name.as_bytes());
        let below = rustix::fs::openat(&current, &name, DIRECTORY, Mode::empty()).map_err(failed("open"))?;
        if rustix::fs::fstat(&below).map_err(failed("look at"))?.st_dev != device {
            return Err(refused(&name, "another file system is mounted there"));
        }
        let inode = rustix::fs::fstat(&current).map_err(failed("look above"))?.st_ino;
        visit.enter(&name)?;
        above.push(Above { cookie, inode });
        (current, cookie) = (below, 0);
    }
}

/// The next directory in this one, and from where its listing goes on afterwards. All else before it is told.
fn next_directory(
    directory: &OwnedFd,
    cookie: &mut u64,
    visit: &mut impl Visit,
) -> Result<Option<CString>, TreeError> {
    let mut space = [MaybeUninit::uninit(); 8192];
    rustix::fs::seek(directory, SeekFrom::Start(*cookie)).map_err(at("list", b"."))?;
    let mut entries = RawDir::new(directory, &mut space);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(at("list", b"."))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let found =
            rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(at("look at", name.to_bytes()))?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            *cookie = entry.next_entry_cookie();
            return Ok(Some(name.to_owned()));
        }
        visit.file(directory, name, &found)?;
    }
    Ok(None)
}

/// An error of the kernel's.
pub(super) fn at(verb: &'static str, name: &[u8]) -> impl FnOnce(Errno) -> TreeError + use<> {
    let name = String::from_utf8_lossy(name).into_owned();
    move |errno| TreeError { verb, name, source: errno.into() }
}

/// One of ours.
pub(super) fn refused(name: &CStr, reason: &'static str) -> TreeError {
    let name = name.to_string_lossy().into_owned();
    TreeError { verb: "copy", name, source: io::Error::new(io::ErrorKind::InvalidData, reason) }
}

impl fmt::Display for TreeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}: {}", self.verb, self.name.escape_debug(), self.source)
    }
}

impl std::error::Error for TreeError {}
