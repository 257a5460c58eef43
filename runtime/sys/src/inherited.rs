//! Descriptors that our parent placed at numbers agreed on.

use rustix::io::{Errno, FdFlags};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes the descriptor with this number; from now on it closes on exec. `EBADF`: our parent gave us none, or it was taken.
///
/// What comes over an `execve` never has close-on-exec set, and what this process opens always has, so nothing that
/// somebody here owns can be taken by mistake.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(Errno::BADF.into());
    }
    // SAFETY: the number is not negative, and borrowed for the two calls below only; if it is not open they say so.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    if rustix::io::fcntl_getfd(borrowed)?.contains(FdFlags::CLOEXEC) {
        return Err(Errno::BADF.into());
    }
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and nobody here owned it (see above).
    Ok(unsafe { OwnedFd::from_raw_fd(borrowed.as_raw_fd()) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn a_descriptor_is_taken_once_and_one_of_ours_never() {
        let (ours, _writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        assert_eq!(take(ours.as_raw_fd()).unwrap_err().raw_os_error(), Some(libc::EBADF));
        let given = rustix::io::dup(&ours).unwrap().into_raw_fd();
        let taken = take(given).unwrap();
        assert_eq!(taken.as_raw_fd(), given);
        assert_eq!(take(given).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(take(-1).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
