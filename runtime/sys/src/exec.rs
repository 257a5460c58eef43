//! `execve(2)` into somebody else's program: it must not inherit what our own runtime did to signals.

use std::ffi::{CStr, CString};
use std::io;

/// Replaces this process by `file`. Returns only if that failed.
pub fn exec(file: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    reset_signals();
    match nix::unistd::execve(file, arguments, environment) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

/// What our own runtime did to signals, undone: it ignores SIGPIPE, and that survives an `execve`, as a mask does. What else
/// was ignored when init began, init has reset (by [`stop_ignoring`](crate::signals::stop_ignoring)).
fn reset_signals() {
    // SAFETY: all zero is the empty set on Linux.
    let none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: a default action runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: `none` is live; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::sys::signal::Signal;
    use nix::sys::wait::{WaitStatus, waitpid};

    #[test]
    fn a_program_inherits_no_ignored_signal() {
        let arguments = [c"sh", c"-c", c"kill -INT $$; exit 1"].map(CString::from);
        // SAFETY: the child only sets a signal and executes; what it needs was allocated before.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                // SAFETY: ignoring runs no code of ours.
                unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
                crate::signals::stop_ignoring();
                let _ = exec(c"/bin/sh", &arguments, &[]);
                // SAFETY: leaves without the parent's clean-up.
                unsafe { libc::_exit(99) }
            }
            nix::unistd::ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Signaled(child, Signal::SIGINT, false)));
            }
        }
    }
}
