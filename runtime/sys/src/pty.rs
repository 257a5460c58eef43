//! Pseudo-terminals, from the side of whoever keeps the master.

use rustix::pty::OpenptFlags;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// The slave side of `master`, opened without looking for its path, which may be in a container's mount namespace. While
/// we hold it, a console that everybody inside has closed is quiet, and not for ever "hung up".
pub fn open_slave(master: &impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    Ok(rustix::pty::ioctl_tiocgptpeer(master, flags)?)
}
