//! Processes by descriptor: no id is ever taken for another process's. Signals are sent by `children::send_signal`.

use crate::poll::{Interest, PollSet};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

pub use rustix::thread::ThreadNameSpaceType as NamespacesOf;

/// The process that has this id now.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Waits for the end of the process, which need not be a child of ours, and says whether it came in time.
pub fn ends_within(process: &impl AsFd, timeout: Duration) -> io::Result<bool> {
    let mut set = PollSet::default();
    set.add(process, Interest::Read);
    set.wait(Some(timeout))?;
    Ok(set.readiness(0).readable)
}

/// Moves us into namespaces of `process`. Its pid namespace becomes that of our children, not ours.
pub fn enter_namespaces(process: &impl AsFd, namespaces: NamespacesOf) -> io::Result<()> {
    Ok(rustix::thread::move_into_thread_name_spaces(process.as_fd(), namespaces)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_seen_to_run_and_to_be_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = open(child.id() as i32).unwrap();
        assert!(!ends_within(&process, Duration::ZERO).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(ends_within(&process, Duration::ZERO).unwrap());
    }
}
