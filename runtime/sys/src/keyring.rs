//! Keyrings: keyctl(2).

use rustix::io::Errno;
use std::io;

/// Leaves the session keyring, which is that of whoever logged in and started all this, for a new and empty one. Where
/// the kernel has no keys, or a filter around us all forbids the call, there is nothing to leave.
pub fn join_new_session() -> io::Result<()> {
    // SAFETY: a null name asks for a keyring without one; the call takes no other pointer.
    let serial = unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, core::ptr::null::<libc::c_char>())
    };
    if 0 <= serial {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(errno) if [Errno::NOSYS, Errno::PERM].map(Errno::raw_os_error).contains(&errno) => Ok(()),
        Some(_) | None => Err(error),
    }
}
