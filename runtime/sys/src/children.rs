//! Child processes of a supervisor: starting one (into a cgroup, with exactly the descriptors it is to have), and reaping
//! all of them, adopted ones too. Nothing here waits for a child.

use crate::clone::{CLONE_INTO_CGROUP, CloneArguments};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions};
use std::ffi::{CStr, CString};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// The most descriptors one child is given: standard ones, and what init has closed by a child of its own, 16 at a time.
pub const MAX_DESCRIPTORS: usize = 19;

/// What is to be started.
#[derive(Debug)]
pub struct Program<'a> {
    /// The file; not searched for.
    pub path: &'a CStr,
    /// Arguments, the name first.
    pub arguments: &'a [CString],
    /// `NAME=value` each: all of its environment.
    pub environment: &'a [CString],
    /// Which of our descriptors it gets as which number; at most [`MAX_DESCRIPTORS`]. Numbers 0 to 2 that are not listed
    /// are ours, so list them.
    pub descriptors: &'a [(BorrowedFd<'a>, RawFd)],
    /// The cgroup directory it starts in; `None`: ours.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Its relation to our session.
    pub session: Session,
}

/// The session of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// It stays in ours.
    Ours,
    /// Its own.
    Own,
    /// Its own, with the terminal on descriptor 0 as controlling terminal.
    OwnWithTerminal,
}

/// A started child.
#[derive(Debug)]
pub struct Child {
    /// Its process id.
    pub pid: i32,
    /// It; readable when it has ended.
    pub pidfd: OwnedFd,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Code(u8),
    /// It was killed by this signal.
    Signal(u8),
}

/// The exit code of a child whose program could not be executed, as shells have it.
pub const EXIT_NOT_EXECUTED: u8 = 127;

/// Starts `program`. That it could not be executed shows as its exit with [`EXIT_NOT_EXECUTED`].
///
/// Only for a process with one thread: the child runs a few system calls of ours before it executes.
///
/// The child has a copy of our memory until it executes, which costs about a tenth of a millisecond (of a start's four). To share
/// the memory instead (`CLONE_VM`) would save that, and is not safe for a supervisor: what the child's group is denied or
/// suffers would be ours. The kernel kills with a process all that share its memory when its group is out of memory
/// (`__oom_kill_process()`), and until Linux 5.16 also when it dumps core; one that waits, as it may in a frozen group, keeps its
/// stack and arguments for as long; and to wait for it (`CLONE_VFORK`) is to wait for the disk.
pub fn start(program: &Program<'_>) -> io::Result<Child> {
    if MAX_DESCRIPTORS < program.descriptors.len() {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    // Everything the child needs is laid out before it exists: between clone and exec it only makes system calls.
    let arguments = pointers(program.arguments);
    let environment = pointers(program.environment);
    let mut pidfd: RawFd = -1;
    let mut args = CloneArguments {
        flags: libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArguments::default()
    };
    if let Some(cgroup) = program.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` is laid out as the kernel's struct of that size; without CLONE_VM and without a stack the child gets
    // a copy of our memory and stack, as by fork(2); `pidfd` outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArguments>()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        // SAFETY: we are the child of a process with one thread, and the pointer tables end with a null pointer and point
        // to strings that live in our copy of the memory.
        unsafe { become_program(program, &arguments, &environment) }
    }
    // SAFETY: the kernel stored a new descriptor there, and nothing else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: pid as i32, pidfd })
}

/// The next child that has ended, whoever started it. `None`: none has (or there is none at all).
pub fn reap() -> io::Result<Option<(i32, Ended)>> {
    loop {
        return match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let ended = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Ended::Code(code as u8),
                    (None, Some(signal)) => Ended::Signal(signal as u8),
                    (None, None) => continue,
                };
                Ok(Some((pid.as_raw_nonzero().get(), ended)))
            }
            Ok(None) | Err(rustix::io::Errno::CHILD) => Ok(None),
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => Err(errno.into()),
        };
    }
}

/// Whether there is any child, running or ended and not reaped yet. For a subreaper and for PID 1: any descendant.
pub fn has_any() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(rustix::process::waitid(WaitId::All, options), Err(rustix::io::Errno::CHILD))
}

/// Sends a signal to a child that was not reaped, whose id is therefore still its own.
pub fn signal_child(pid: i32, signal: u8) {
    // Anything else would mean a group of processes, or all.
    if 1 < pid {
        // SAFETY: kill(2) touches no memory of ours.
        unsafe { libc::kill(pid, libc::c_int::from(signal)) };
    }
}

/// Sends a signal to every process but ourselves. Only PID 1 may: `EPERM` for anybody else.
pub fn signal_all_others(signal: u8) -> io::Result<()> {
    if std::process::id() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    // SAFETY: kill(2) touches no memory of ours.
    let sent = unsafe { libc::kill(-1, libc::c_int::from(signal)) };
    let error = io::Error::last_os_error();
    // ESRCH: there is nobody else.
    if sent < 0 && error.raw_os_error() != Some(libc::ESRCH) { Err(error) } else { Ok(()) }
}

/// A pipe for what a child prints: our end, which does not block, and the child's.
pub fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok((reader, writer))
}

/// Orphans among our descendants become our children.
pub fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Pid::from_raw(1))?)
}

/// A terminal hung up: signal(7). Of a pid namespace: it wants to start again (reboot(2)).
pub const SIGHUP: u8 = 1;

/// ctrl-C: signal(7). Of a pid namespace: it wants to be off (reboot(2)).
pub const SIGINT: u8 = 2;

/// The signal that cannot be refused: signal(7).
pub const SIGKILL: u8 = 9;

/// Asks a process to end: signal(7).
pub const SIGTERM: u8 = 15;

/// What ends a process that made a system call which its filter does not allow: seccomp(2).
pub const SIGSYS: u8 = 31;

/// Kills the process that `pidfd` stands for. Root is refused it for no process but one that has ended, which is as well.
pub fn kill(pidfd: BorrowedFd<'_>) {
    let _ = send_signal(pidfd, SIGKILL);
}

/// Sends a signal to the process that `pidfd` stands for. That it has ended already is no error.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: u8) -> io::Result<()> {
    // SAFETY: the descriptor is live for the call, no siginfo is given, and the kernel checks the signal's number.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::c_int::from(signal),
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result < 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ESRCH) {
            return Err(error);
        }
    }
    Ok(())
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// The child's part: signals as a new program expects them, descriptors in place, exec.
///
/// # Safety
/// Only in a fresh child that shares no memory with its parent; both tables end with a null pointer.
unsafe fn become_program(
    program: &Program<'_>,
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
) -> ! {
    // SAFETY: plain system calls on values of our own; nothing here allocates or takes a lock.
    unsafe {
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        if program.session != Session::Ours {
            libc::setsid();
        }
        // First above all targets, so that no target overwrites a source that is still needed.
        let mut sources = [-1; MAX_DESCRIPTORS];
        for (source, (descriptor, _)) in sources.iter_mut().zip(program.descriptors) {
            *source = libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 64);
            if *source < 0 {
                libc::_exit(libc::c_int::from(EXIT_NOT_EXECUTED));
            }
        }
        for (source, (_, target)) in sources.iter().zip(program.descriptors) {
            if libc::dup2(*source, *target) < 0 {
                libc::_exit(libc::c_int::from(EXIT_NOT_EXECUTED));
            }
        }
        if program.session == Session::OwnWithTerminal {
            libc::ioctl(0, libc::TIOCSCTTY as _, 1);
        }
        libc::execve(program.path.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        libc::_exit(libc::c_int::from(EXIT_NOT_EXECUTED))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::poll::{Interest, PollSet};
    use std::os::fd::AsFd;

    fn run(arguments: &[&str], descriptors: &[(BorrowedFd<'_>, RawFd)]) -> Child {
        let arguments: Vec<CString> = arguments.iter().map(|text| CString::new(*text).unwrap()).collect();
        start(&Program {
            path: &arguments[0],
            arguments: &arguments,
            environment: &[CString::new("A=b").unwrap()],
            descriptors,
            cgroup: None,
            session: Session::Own,
        })
        .unwrap()
    }

    #[test]
    fn only_pid_1_may_signal_all_and_nobody_is_signalled_by_an_odd_id() {
        assert_eq!(signal_all_others(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
        for pid in [-1, 0, 1] {
            // Signal 15 would end this test.
            signal_child(pid, 15);
        }
    }

    fn wait(child: &Child) -> Ended {
        let mut set = PollSet::default();
        set.add(&child.pidfd, Interest::Read);
        set.wait(Some(std::time::Duration::from_secs(10))).unwrap();
        let pid = Pid::from_raw(child.pid);
        let (_, status) = rustix::process::waitpid(pid, WaitOptions::NOHANG).unwrap().unwrap();
        match status.exit_status() {
            Some(code) => Ended::Code(code as u8),
            None => Ended::Signal(status.terminating_signal().unwrap() as u8),
        }
    }

    #[test]
    fn a_child_gets_its_descriptors_and_environment_and_nothing_else() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let script = "echo $A >&5; ls /proc/self/fd >&5";
        let child = run(&["/bin/sh", "-c", script], &[(writer.as_fd(), 5), (writer.as_fd(), 3)]);
        assert_eq!(wait(&child), Ended::Code(0));
        drop(writer);
        let mut text = [0; 256];
        let len = rustix::io::read(&reader, &mut text).unwrap();
        let text = String::from_utf8_lossy(&text[..len]).into_owned();
        assert!(text.starts_with("b\n"), "{text}");
        assert!(!text.contains("64"), "{text}");
    }

    #[test]
    fn a_program_that_is_not_there_ends_with_127_and_a_signal_is_told_from_a_code() {
        assert_eq!(wait(&run(&["/nonexistent"], &[])), Ended::Code(EXIT_NOT_EXECUTED));
        let child = run(&["/bin/sh", "-c", "sleep 100"], &[]);
        kill(child.pidfd.as_fd());
        assert_eq!(wait(&child), Ended::Signal(SIGKILL));
        send_signal(child.pidfd.as_fd(), SIGKILL).unwrap();
    }
}
