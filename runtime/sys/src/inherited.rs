//! Descriptors that come from our parent: those that it placed at numbers agreed on, and those that a forked child has and must
//! not have.

use rustix::io::{Errno, FdFlags};
use std::convert::Infallible;
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

/// The rest of the life of a forked child, without any descriptor but standard input, output, error and `kept`: through `/proc` a
/// path leads to whatever else is open, and on to all that lies beside it. `life` must not use what others own; they never come
/// back to it.
pub fn live_with_only(kept: impl IntoIterator<Item = RawFd>, life: impl FnOnce() -> Infallible) -> ! {
    let mut numbers: Vec<u32> = kept.into_iter().filter_map(|number| u32::try_from(number).ok()).collect();
    numbers.sort_unstable();
    let mut first = FIRST_BEHIND_STANDARD;
    for number in numbers.into_iter().filter(|number| FIRST_BEHIND_STANDARD <= *number).chain([u32::MAX]) {
        if first < number {
            // SAFETY: whoever owns what is closed is in a frame to which `life` never returns. It fails for no numbers in order
            // (close_range(2), Linux 5.9).
            unsafe { libc::syscall(libc::SYS_close_range, first, number.saturating_sub(1), 0) };
        }
        first = number.saturating_add(1);
    }
    match life() {}
}

const FIRST_BEHIND_STANDARD: u32 = 3;

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

    #[test]
    fn a_child_lives_with_what_it_keeps_and_nothing_else() {
        use std::os::unix::process::CommandExt;
        let (_reader, writer) = rustix::pipe::pipe().unwrap();
        let (_first, _second) = (std::fs::File::open("/").unwrap(), std::fs::File::open("/").unwrap());
        let kept = writer.as_raw_fd();
        let mut command = std::process::Command::new("/bin/false");
        let child = move || -> io::Result<()> {
            live_with_only([kept], || {
                // SAFETY: it is only looked at.
                let is_open = |number: &i32| unsafe { libc::fcntl(*number, libc::F_GETFD) } != -1;
                let is_right = (3..100).all(|number| is_open(&number) == (number == kept));
                // SAFETY: the child of a process with threads ends without what others have registered.
                unsafe { libc::_exit(if is_right { 7 } else { 1 }) }
            })
        };
        // SAFETY: it calls the kernel, and allocates before any thread of the child could.
        unsafe { command.pre_exec(child) };
        assert_eq!(command.status().unwrap().code(), Some(7));
    }
}
