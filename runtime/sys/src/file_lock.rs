//! Locks of files that their holders agree on.

use rustix::fs::FlockOperation;
use std::io;
use std::os::fd::AsFd;

/// Locks the file for who has it open like this, until the last descriptor of that is closed (flock(2)).
///
/// [`WouldBlock`](io::ErrorKind::WouldBlock): somebody else has locked it.
pub fn try_lock(file: &impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)?)
}

/// Unlocks it before that.
pub fn unlock(file: &impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::flock(file, FlockOperation::Unlock)?)
}
