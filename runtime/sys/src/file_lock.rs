//! Locks of files that their holders agree on.

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The kernel has no lock of a file that is waited for with a limit.
const AGAIN: Duration = Duration::from_millis(5);

/// Opens a file that is there to be locked, or makes it. Whoever may open a file may lock it, so only its owner may. A link, or what
/// is no regular file, is an error, and nobody waits for it.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// Locks the file for who has it open like this, until the last descriptor of that is closed (flock(2)).
///
/// [`WouldBlock`](io::ErrorKind::WouldBlock): somebody else has locked it.
pub fn try_lock(file: &impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)?)
}

/// The same, and waits so long for somebody else's lock to be released.
///
/// [`WouldBlock`](io::ErrorKind::WouldBlock): it was not.
pub fn lock_within(file: &impl AsFd, timeout: Duration) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match try_lock(file) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < timeout => {
                thread::sleep(AGAIN);
            }
            answer => return answer,
        }
    }
}

/// Whether anybody has locked this file, for itself or together with others. It is locked for a moment, to find out.
pub fn is_locked(file: &impl AsFd) -> io::Result<bool> {
    match try_lock(file) {
        Ok(()) => unlock(file).map(|()| false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// Unlocks it before that.
pub fn unlock(file: &impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::flock(file, FlockOperation::Unlock)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_for_a_lock_is_its_owners_and_nothing_else_is_taken_for_one() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        assert_eq!(open(&at("lock")).unwrap().metadata().unwrap().permissions().mode() & 0o077, 0);
        open(&at("lock")).unwrap();
        std::os::unix::fs::symlink(at("lock"), at("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for name in ["link", "fifo", "."] {
            assert!(open(&at(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn a_lock_of_any_kind_is_seen_until_its_last_holder_is_gone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let looked_at = File::open(file.path()).unwrap();
        let (one, other) = (File::open(file.path()).unwrap(), File::open(file.path()).unwrap());
        assert!(!is_locked(&looked_at).unwrap());
        for holder in [&one, &other] {
            rustix::fs::flock(holder, FlockOperation::NonBlockingLockShared).unwrap();
        }
        assert!(is_locked(&looked_at).unwrap());
        drop(one);
        assert!(is_locked(&looked_at).unwrap());
        // As a child of the holder has it.
        let inherited = other.try_clone().unwrap();
        drop(other);
        assert!(is_locked(&looked_at).unwrap());
        drop(inherited);
        assert!(!is_locked(&looked_at).unwrap());
    }

    #[test]
    fn a_lock_that_another_does_not_release_is_waited_for_with_a_limit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        lock_within(file.as_file(), Duration::ZERO).unwrap();
        let second = file.reopen().unwrap();
        let error = lock_within(&second, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(file);
        lock_within(&second, Duration::from_secs(10)).unwrap();
    }
}
