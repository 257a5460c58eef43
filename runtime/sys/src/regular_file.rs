//! Opening a file that lies where others may have put something else: a FIFO keeps whoever opens it waiting for ever, and a link
//! leads to files of which reading may never end.

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// What makes the opening of anything but a regular file end at once. Of a regular file it changes nothing.
pub(crate) const AT_ONCE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK);

/// Opens a file for reading. A link, or what is no regular file, is an error.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(CWD, path, AT_ONCE, ResolveFlags::empty())
}

/// As [`open`], but links are followed: for who has no more rights than whoever made them. Links of `/proc` to what a process has
/// open are errors, because they lead out of any root.
pub fn open_linked(path: &Path) -> io::Result<File> {
    open_with(CWD, path, AT_ONCE.difference(OFlags::NOFOLLOW), ResolveFlags::NO_MAGICLINKS)
}

/// Opens a file below what `directory` is open on, where nobody's word is trusted: no link is followed, no other mount entered.
pub fn open_below(directory: &impl AsFd, path: &Path) -> io::Result<File> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    open_with(directory.as_fd(), path, AT_ONCE, resolve)
}

fn open_with(directory: BorrowedFd<'_>, path: &Path, flags: OFlags, resolve: ResolveFlags) -> io::Result<File> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve)?;
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn below_a_directory_nothing_leads_out_or_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("top/below")).unwrap();
        std::fs::write(at("outside"), "it").unwrap();
        std::fs::write(at("top/below/file"), "it").unwrap();
        symlink("below/file", at("top/link")).unwrap();
        symlink("below", at("top/way")).unwrap();
        let top = File::open(at("top")).unwrap();
        assert_eq!(io::read_to_string(open_below(&top, Path::new("below/file")).unwrap()).unwrap(), "it");
        let outside = at("outside");
        for path in ["link", "way/file", "../outside", "below", "none", outside.to_str().unwrap()] {
            assert!(open_below(&top, Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn only_a_regular_file_is_opened_and_nobody_waits() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("file"), "it").unwrap();
        assert_eq!(io::read_to_string(open(&at("file")).unwrap()).unwrap(), "it");
        symlink("/proc/kmsg", at("link")).unwrap();
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        for name in ["link", "fifo", "none", "."] {
            assert!(open(&at(name)).is_err(), "{name}");
        }
        symlink("file", at("link-to-file")).unwrap();
        symlink("fifo", at("link-to-fifo")).unwrap();
        assert_eq!(io::read_to_string(open_linked(&at("link-to-file")).unwrap()).unwrap(), "it");
        assert!(open_linked(&at("link-to-fifo")).is_err());
        let opened = File::open(at("file")).unwrap();
        symlink(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&opened)), at("magic")).unwrap();
        assert_eq!(
            open_linked(&at("magic")).unwrap_err().raw_os_error(),
            Some(rustix::io::Errno::LOOP.raw_os_error())
        );
    }
}
