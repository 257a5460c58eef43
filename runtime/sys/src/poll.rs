//! One poll(2) over everything a process waits for. The set is built anew for each wait: what is polled is then always
//! what is open now, and a table of a few dozen entries costs less than keeping two tables in step.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// What is waited for on a descriptor. An error or a hang-up always wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Something to read.
    Read,
    /// Room to write.
    Write,
    /// Either.
    ReadWrite,
    /// The file changed: cgroup's event files (`POLLPRI`).
    Change,
    /// Only a hang-up.
    HangUp,
}

/// What is true of a descriptor now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness {
    /// There is something to read, or a read would tell of the end or an error.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The file changed since it was last read.
    pub changed: bool,
    /// The other side has hung up.
    pub hung_up: bool,
}

impl Readiness {
    /// Nothing is true of it.
    pub fn is_none(self) -> bool {
        self == Readiness::default()
    }
}

/// The set. Its memory is kept from one wait to the next.
#[derive(Debug, Default)]
pub struct PollSet {
    entries: Vec<libc::pollfd>,
}

impl PollSet {
    /// Forgets all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Adds a descriptor, which must stay open until [`PollSet::wait`]. Its answer has the number of its call.
    pub fn add(&mut self, descriptor: &impl AsFd, interest: Interest) {
        let events = match interest {
            Interest::Read => libc::POLLIN,
            Interest::Write => libc::POLLOUT,
            Interest::ReadWrite => libc::POLLIN | libc::POLLOUT,
            Interest::Change => libc::POLLPRI,
            Interest::HangUp => 0,
        };
        self.entries.push(libc::pollfd { fd: descriptor.as_fd().as_raw_fd(), events, revents: 0 });
    }

    /// Waits until one of the entries is ready or `timeout` is over; `None` waits for ever. An interrupted wait ends as if
    /// nothing were ready.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout_ms = timeout.map_or(-1, |timeout| {
            // Rounded up: waking before the deadline would only mean another round.
            let ms =
                timeout.as_secs().saturating_mul(1000).saturating_add(timeout.subsec_micros().div_ceil(1000).into());
            i32::try_from(ms).unwrap_or(i32::MAX)
        });
        // SAFETY: the pointer and the length are those of one live, exclusively borrowed slice.
        let ready = unsafe { libc::poll(self.entries.as_mut_ptr(), self.entries.len() as libc::nfds_t, timeout_ms) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            for entry in &mut self.entries {
                entry.revents = 0;
            }
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(())
    }

    /// What is true of the entry with this number (0 is the first added). A number that was not given is never ready.
    pub fn readiness(&self, number: usize) -> Readiness {
        let revents = self.entries.get(number).map_or(0, |entry| entry.revents);
        // A file that changed says POLLPRI and POLLERR; elsewhere POLLERR is what the next read will report.
        Readiness {
            readable: revents & (libc::POLLIN | libc::POLLERR | libc::POLLNVAL) != 0,
            writable: revents & libc::POLLOUT != 0,
            changed: revents & libc::POLLPRI != 0,
            hung_up: revents & libc::POLLHUP != 0,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_has_its_own_answer() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut set = PollSet::default();
        set.add(&reader, Interest::Read);
        set.add(&writer, Interest::Write);
        set.wait(Some(Duration::ZERO)).unwrap();
        assert!(set.readiness(0).is_none());
        assert!(set.readiness(1).writable);
        assert!(set.readiness(2).is_none());

        rustix::io::write(&writer, b"x").unwrap();
        drop(writer);
        set.clear();
        set.add(&reader, Interest::Read);
        set.wait(None).unwrap();
        assert_eq!(set.readiness(0), Readiness { readable: true, hung_up: true, ..Readiness::default() });
    }
}
