//! Forking with `clone3(2)`: a new process with its pidfd, in new namespaces from its first instruction, and, if wanted, a
//! sibling of ours rather than a child. For single-threaded programs that go on in the child; starting another program is
//! `children`'s.

use rustix::io::Errno;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub use rustix::thread::UnshareFlags as Namespaces;

/// Who a new process is a child of, and so who is told of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// The caller.
    Caller,
    /// The caller's own parent.
    CallersParent,
}

/// On which side of the fork we are.
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The caller.
    Caller {
        /// The new process's id in our pid namespace.
        pid: i32,
        /// The process itself, whatever becomes of the id.
        pidfd: OwnedFd,
    },
}

/// Forks, into `cgroup` if one is given. Refused with `EINVAL` in a program that has several threads, whose locks the child
/// would inherit locked; with `EBUSY` if the cgroup has given controllers to its children, and takes no processes itself.
pub fn fork(namespaces: Namespaces, parent: Parent, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    // In a single-threaded process this changes nothing; with more threads the kernel answers EINVAL: unshare(2).
    // SAFETY: the flag shares or unshares nothing at all in the one case in which it succeeds.
    if unsafe { libc::unshare(libc::CLONE_THREAD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut pidfd: RawFd = -1;
    let mut arguments = CloneArguments {
        flags: libc::CLONE_PIDFD as u64 | u64::from(namespaces.bits()),
        pidfd: (&raw mut pidfd) as u64,
        ..CloneArguments::default()
    };
    match parent {
        Parent::Caller => arguments.exit_signal = libc::SIGCHLD as u64,
        // It takes over the caller's own exit signal; the kernel wants none to be named.
        Parent::CallersParent => arguments.flags |= libc::CLONE_PARENT as u64,
    }
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `arguments` is live and its size is given. Without CLONE_VM the child has its own copy of our memory, and
    // as there is one thread, that copy is consistent.
    let answer = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArguments>()) };
    match answer {
        0 => Ok(Forked::Child),
        pid if 0 < pid => {
            // SAFETY: the kernel stored a new descriptor there, and nothing else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            // A process id fits in 22 bits: PID_MAX_LIMIT.
            Ok(Forked::Caller { pid: pid as i32, pidfd })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// `struct clone_args` of the kernel's first version (5.3) up to `cgroup` (5.7); libc lacks it for 32-bit musl.
#[repr(C)]
#[derive(Default)]
pub(crate) struct CloneArguments {
    pub(crate) flags: u64,
    pub(crate) pidfd: u64,
    pub(crate) child_tid: u64,
    pub(crate) parent_tid: u64,
    pub(crate) exit_signal: u64,
    pub(crate) stack: u64,
    pub(crate) stack_size: u64,
    pub(crate) tls: u64,
    pub(crate) set_tid: u64,
    pub(crate) set_tid_size: u64,
    pub(crate) cgroup: u64,
}

/// `CLONE_INTO_CGROUP` does not fit the `c_int` that libc gives it on 32 bits.
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Moves the calling process into new namespaces. Refused with `EINVAL` where that needs a single thread and there are more.
pub fn unshare(namespaces: Namespaces) -> io::Result<()> {
    // Not sharing descriptors with other threads any more is the only way in which this could break them.
    if namespaces.contains(Namespaces::FILES) {
        return Err(Errno::INVAL.into());
    }
    // SAFETY: descriptors stay shared, checked above.
    Ok(unsafe { rustix::thread::unshare_unsafe(namespaces) }?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_with_threads_around_is_refused() {
        // The test runner's own thread makes two.
        let error = fork(Namespaces::empty(), Parent::Caller, None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
