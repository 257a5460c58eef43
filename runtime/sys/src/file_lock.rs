//! Locks of files that their holders agree on.

use rustix::fs::FlockOperation;
use std::io;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

/// The kernel has no lock of a file that is waited for with a limit.
const AGAIN: Duration = Duration::from_millis(5);

/// Locks the file for who has it open like this, until the last descriptor of that is closed (flock(2)).
///
/// [`WouldBlock`](io::ErrorKind::WouldBlock): somebody else has locked it.
pub fn try_lock(file: &impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)?)
}

/// The same, and waits so long for somebody else's lock to be released.
///
/// [`WouldBlock`](io::ErrorKind::WouldBlock): it was not.
pub fn lock_within(file: &impl AsFd, patience: Duration) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match try_lock(file) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < patience => {
                thread::sleep(AGAIN);
            }
            answer => return answer,
        }
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
