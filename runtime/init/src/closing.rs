//! Closes, in processes of their own, what PID 1 must not close itself: whoever closes a socket last waits for what its queue
//! holds, in the kernel and for seconds. The last close of a packet socket waits for all processors in turn, and no signal ends
//! that; before Linux 6.9 the last close of any Unix socket may have to collect everybody's unreachable sockets
//! (`unix_release_sock()` in net/unix/af_unix.c).
//!
//! A closer gets copies, exits as soon as ours are closed, and nobody waits for it.

use crate::log::Priority;
use crate::moment::Moment;
use crate::process::Start;
use crate::supervisor::Supervisor;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use yado_sys::children::{self, Child, MAX_DESCRIPTORS, Session};
use yado_sys::poll::{Interest, PollSet};
use yado_sys::{inherited, packet};

/// What one closer closes; besides it has standard input, output and error.
const MAX_BATCH: usize = MAX_DESCRIPTORS - 3;

/// The most closers at once: so many hang, the others wait for one that does not.
const MAX_CLOSERS: usize = 32;

/// So much may wait for a closer. With more, no instance starts.
const MAX_WAITING: usize = 64;

/// With so many in the list, a socket of our own is closed here after all: clients that come and go while all closers hang
/// must not take all descriptors, nor keep instances from starting.
const MAX_OWN_WAITING: usize = MAX_WAITING / 2;

/// What nobody waits for is collected for so long: a process is started for many, not for each.
const COLLECTING: Duration = Duration::from_secs(30);

/// A closer that could not be started is tried again after this.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// As a closer: exits, and so closes all that it was given, as soon as init has closed its copies, which ends our input.
pub(crate) fn run() -> ExitCode {
    if let Ok(input) = inherited::take(0) {
        let mut set = PollSet::default();
        set.add(&input, Interest::Read);
        let _ = set.wait(None);
    }
    ExitCode::SUCCESS
}

/// What is to be closed, and who does it.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    /// With the time until which it may wait.
    waiting: VecDeque<(Moment, OwnedFd)>,
    /// Closers that have not ended.
    closers: Vec<i32>,
    retry_at: Option<Moment>,
}

impl Closing {
    /// Has a descriptor closed now.
    pub(crate) fn put(&mut self, descriptor: OwnedFd, now: Moment) {
        self.waiting.push_front((now, descriptor));
    }

    /// Hangs up on a Unix socket's peer now, and has the socket closed some time.
    pub(crate) fn hang_up(&mut self, socket: OwnedFd, now: Moment) {
        packet::hang_up(&socket);
        if MAX_OWN_WAITING <= self.waiting.len() {
            return;
        }
        self.waiting.push_back((now.saturating_add(COLLECTING), socket));
    }

    /// Too much waits to be closed.
    pub(crate) fn is_overdue(&self) -> bool {
        MAX_WAITING <= self.waiting.len()
    }

    /// When something is to be done though nothing happens. While all closers hang, that is nothing.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        if MAX_CLOSERS <= self.closers.len() {
            return None;
        }
        let due = self.waiting.iter().map(|(due, _)| *due).min()?;
        Some(self.retry_at.map_or(due, |at| at.max(due)))
    }

    /// Whether it was a closer that ended.
    pub(crate) fn note_end(&mut self, pid: i32) -> bool {
        let before = self.closers.len();
        self.closers.retain(|closer| *closer != pid);
        self.closers.len() != before
    }

    fn is_due(&self, now: Moment) -> bool {
        self.closers.len() < MAX_CLOSERS
            && self.retry_at.is_none_or(|at| at <= now)
            && (MAX_BATCH <= self.waiting.len() || self.waiting.iter().any(|(due, _)| *due <= now))
    }

    /// Starts as many closers as there is work for.
    fn advance(&mut self, now: Moment) -> io::Result<()> {
        while self.is_due(now) {
            self.retry_at = None;
            if let Err(error) = self.start() {
                self.retry_at = Some(now.saturating_add(RETRY_PAUSE));
                return Err(error);
            }
        }
        Ok(())
    }

    fn start(&mut self) -> io::Result<()> {
        // Only a pipe: its end is told without closing a Unix socket.
        let (theirs, ours) = children::output_pipe()?;
        let mut descriptors: Vec<(BorrowedFd<'_>, RawFd)> = vec![(theirs.as_fd(), 0)];
        descriptors.extend(self.waiting.iter().take(MAX_BATCH).map(|(_, descriptor)| descriptor.as_fd()).zip(3..));
        let Child { pid, .. } = Start {
            // As for the datagram reader.
            path: Path::new("/proc/self/exe"),
            arguments: &[OsStr::new("yado-init"), OsStr::new("--close")],
            environment: &[],
            descriptors: &descriptors,
            group: None,
            session: Session::Own,
        }
        .start()?;
        self.closers.push(pid);
        // It holds all of it since it exists, being a copy of us.
        self.waiting.drain(..MAX_BATCH.min(self.waiting.len()));
        drop(ours);
        Ok(())
    }
}

impl Supervisor {
    /// Has closed what others do not hold any more.
    pub(crate) fn advance_closing(&mut self, now: Moment) {
        for socket in self.reader.take_forgotten() {
            self.closing.put(socket, now);
        }
        if let Err(error) = self.closing.advance(now) {
            self.log.say(Priority::Error, format_args!("start what closes sockets: {error}"));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::File;

    const NOW: Moment = Moment::from_secs(100);

    fn descriptor() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn what_an_instance_sent_to_is_closed_at_once_and_our_own_sockets_are_collected() {
        let mut closing = Closing::default();
        assert_eq!((closing.deadline(), closing.is_due(NOW)), (None, false));
        closing.hang_up(descriptor(), NOW);
        assert_eq!((closing.deadline(), closing.is_due(NOW)), (Some(NOW + COLLECTING), false));
        assert!(closing.is_due(NOW + COLLECTING));
        closing.put(descriptor(), NOW);
        assert_eq!((closing.deadline(), closing.is_due(NOW)), (Some(NOW), true));
        closing.retry_at = Some(NOW + RETRY_PAUSE);
        assert_eq!((closing.deadline(), closing.is_due(NOW)), (Some(NOW + RETRY_PAUSE), false));
    }

    #[test]
    fn while_all_closers_hang_our_own_sockets_neither_pile_up_nor_keep_instances_from_starting() {
        let mut closing = Closing { closers: (1..=MAX_CLOSERS as i32).collect(), ..Closing::default() };
        for _ in 0..1000 {
            closing.hang_up(descriptor(), NOW);
        }
        assert_eq!(closing.waiting.len(), MAX_OWN_WAITING);
        assert!(!closing.is_overdue() && !closing.is_due(NOW) && closing.deadline().is_none());
        for _ in MAX_OWN_WAITING..MAX_WAITING {
            closing.put(descriptor(), NOW);
        }
        assert!(closing.is_overdue());
        assert!(closing.note_end(7) && !closing.note_end(7));
        assert!(closing.is_due(NOW));
    }
}
