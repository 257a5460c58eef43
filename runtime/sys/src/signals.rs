//! Signals as something to read. All that a supervisor acts on are blocked and come from one descriptor; everything else
//! keeps its default action.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// A signal a supervisor acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A child ended.
    Child,
    /// Somebody asks us to end.
    Terminate,
    /// The same from a terminal; for PID 1: ctrl-alt-del.
    Interrupt,
    /// Somebody asks us to read our configuration again.
    HangUp,
    /// The power fails, or somebody asks for power off.
    Power,
}

const ALL: [(libc::c_int, Signal); 5] = [
    (libc::SIGCHLD, Signal::Child),
    (libc::SIGTERM, Signal::Terminate),
    (libc::SIGINT, Signal::Interrupt),
    (libc::SIGHUP, Signal::HangUp),
    (libc::SIGPWR, Signal::Power),
];

/// The last real-time signal.
const LAST: libc::c_int = 64;

/// What somebody made us ignore, neither we nor programs that we execute ignore any longer: a shell that starts a program in
/// the background has it ignore SIGINT and SIGQUIT, `nohup` SIGHUP. SIGPIPE is ours: Rust's runtime ignores it.
pub fn stop_ignoring() {
    for signal in (1..=LAST).filter(|signal| *signal != libc::SIGPIPE) {
        // SAFETY: all zero is a valid `sigaction`; the action is only asked for, into a live value.
        let (asked, action) = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            (libc::sigaction(signal, std::ptr::null(), &mut action), action)
        };
        // Of libc's own two signals even the question is refused.
        if asked == 0 && action.sa_sigaction == libc::SIG_IGN {
            // SAFETY: a default action runs no code of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

/// Blocks all signals of [`Signal`] and opens the descriptor they come from. It does not block.
pub fn signal_fd() -> io::Result<OwnedFd> {
    let mut set = empty_set();
    for (number, _) in ALL {
        // SAFETY: `set` is initialised and exclusively borrowed; `number` is a valid signal.
        unsafe { libc::sigaddset(&mut set, number) };
    }
    // SAFETY: `set` is a live reference that the call only reads; no old mask is asked for.
    if unsafe { libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: `set` is a live reference; the kernel copies it before returning.
    let raw = unsafe { libc::signalfd(-1, &set, flags) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us `raw`, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The next pending signal. `None`: there is none.
pub fn read_signal(descriptor: &impl AsFd) -> io::Result<Option<Signal>> {
    loop {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let len = size_of::<libc::signalfd_siginfo>();
        // SAFETY: `info` has room for exactly `len` bytes.
        let got = unsafe { libc::read(descriptor.as_fd().as_raw_fd(), info.as_mut_ptr().cast(), len) };
        if got < 0 {
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::WouldBlock => return Ok(None),
                _ => return Err(error),
            }
        }
        if got as usize != len {
            return Ok(None);
        }
        // SAFETY: the kernel filled all `len` bytes of `info`.
        let number = unsafe { info.assume_init() }.ssi_signo;
        if let Some((_, signal)) = ALL.iter().find(|(ours, _)| *ours as u32 == number) {
            return Ok(Some(*signal));
        }
    }
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the whole set it is given, and cannot fail with a valid pointer.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
    }
    // SAFETY: it was initialised just above.
    unsafe { set.assume_init() }
}
