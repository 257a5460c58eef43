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

/// Nothing blocked, and SIGPIPE at its default: both survive an `execve`, and Rust's runtime ignores SIGPIPE.
fn reset_signals() {
    // SAFETY: all zero is the empty set on Linux.
    let none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: a default action runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: `none` is live; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
}
