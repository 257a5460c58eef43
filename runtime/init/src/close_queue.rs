//! Closes for PID 1 what it must not close itself, because somebody else decides how long that takes. Whoever closes a socket
//! last waits for what its queue holds, in the kernel and for seconds; the last close of a packet socket waits for all
//! processors in turn, and no signal ends that. So all that instances and clients have a hand in is an [`DeferredClose`], which
//! goes, wherever it is dropped, to a closer: a process that gets copies, exits as soon as ours are closed, and is waited for
//! by nobody.
//!
//! | descriptor | who has a hand in it | closed by |
//! |---|---|---|
//! | `$NOTIFY_SOCKET`, the journal's socket, `/dev/log` | whoever sends to it: descriptors in its queue | the datagram reader, then a closer |
//! | console: master and slave of the pty | processes inside a write to it, which `tty_ldisc_hangup()` waits for | a closer |
//! | our mount of an instance's `/dev` | the instance: as many files as its memory holds | a closer |
//! | our mount of an instance's root | whoever writes to the data partition, all of which is written back then | a closer |
//! | the mount of an image, the watch of its file | the kernel: devices go with it, and it waits for all processors | a closer |
//! | a client's connection | the client (root): descriptors in its queue | a closer |
//! | descriptors that a client sent | the client: any file at all | the datagram reader; a closer where 64 wait for it already |
//! | both ends of a viewer's stream | the client: descriptors in its queue | a closer; the client's end the datagram reader |
//! | a launcher's reports, and what came with them | our own process, at work on an instance | a closer |
//! | netd's connection, the reader's link | our own processes | a closer |
//! | pidfds, pipes of output, files of control groups | nobody: their close waits for nothing that an instance does | PID 1 |
//! | the far end of a pair that a child was just given | nobody yet: nothing is in its queue, and the child has a copy | PID 1 |
//!
//! Receiving drops, too: what has no room the kernel drops inside the call. [`DeferredClose::recv`] looks first, and the datagram
//! reader receives what instances send. (A file of FUSE is flushed at each close, not only the last: the copy that PID 1 had of
//! what a client sent, too. That is a choice of the host's root.)
//!
//! About the kernel's collection of descriptors that only wait in each other's queues (`unix_gc()`, net/unix/garbage.c): since
//! Linux 6.9, and by what was taken over into 6.1.141 and so Debian's 6.1.147-1, a worker of the kernel's does it. The last close
//! of a Unix socket only asks for it, and of the senders only those wait who send Unix sockets and whose user on the host has
//! 8 × 253 or more descriptors in flight (`wait_for_unix_gc()`, read in Debian's 6.1.192). PID 1 sends sockets to the reader
//! alone, as the host's root; an unprivileged instance's are counted as its own users'. On older kernels whoever closes or
//! sends may have to do the collection.
//!
//! [`DeferredClose`]: crate::deferred_close::DeferredClose
//! [`DeferredClose::recv`]: crate::deferred_close::DeferredClose::recv

use crate::boot_clock::Moment;
use crate::deferred_close::{CloseBy, Discarded};
use crate::process::Start;
use crate::reader_link::ReaderLink;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use yado_sys::children::{self, Child, MAX_DESCRIPTORS, Session};
use yado_sys::inherited;
use yado_sys::poll::{Interest, PollSet};
use yado_wire::datagrams::ReaderRequest;

/// What one closer closes; besides it has standard input, output and error.
const MAX_BATCH: usize = MAX_DESCRIPTORS - 3;

/// The most closers at once of what instances have a hand in: so many hang, the others wait for one that does not.
const MAX_CLOSERS: usize = 32;

/// The most closers at once of what only clients and our own processes have a hand in.
const MAX_OWN_CLOSERS: usize = 4;

/// So much may wait for a closer, or for the reader. With more of it from instances no instance starts; with more from
/// clients, no client is heard.
pub(crate) const MAX_WAITING: usize = 64;

/// What nobody waits for is collected for so long: a process is started for many, not for each.
const COLLECTING: Duration = Duration::from_secs(30);

/// What an instance leaves comes within some milliseconds: that is for one closer, not for two.
const GATHERING: Duration = Duration::from_millis(20);

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

/// When a closer is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// When what goes together is together.
    Gather,
    /// At once: the data partition is to be unmounted, and some of it may be in the way.
    AtOnce,
}

/// What is to be closed, and who does it.
#[derive(Debug, Default)]
pub(crate) struct CloseQueue {
    discarded: Discarded,
    /// Waits to be handed to the reader, or, of sockets that it has, to be closed by it.
    for_reader: VecDeque<(ReaderRequest, Rc<OwnedFd>)>,
    /// Sockets whose copies the reader was asked to close, and perhaps did not yet.
    asked_of_reader: Vec<Rc<OwnedFd>>,
    /// The reader holds what we have closed, and was not told so yet.
    is_holding: bool,
    /// Of what instances have a hand in.
    foreign: Queue,
    /// Of the rest: closers that hang for an instance must not keep our own sockets from being closed.
    own: Queue,
}

/// What waits for a closer, and the closers.
#[derive(Debug, Default)]
struct Queue {
    /// With the time until which it may wait.
    waiting: VecDeque<(Moment, Rc<OwnedFd>)>,
    /// Closers that have not ended.
    closers: Vec<i32>,
    retry_at: Option<Moment>,
}

impl CloseQueue {
    /// Where descriptors go that are dropped.
    pub(crate) fn discarded(&self) -> &Discarded {
        &self.discarded
    }

    /// Too much of what instances have a hand in waits to be closed.
    pub(crate) fn is_overdue(&self) -> bool {
        MAX_WAITING <= self.for_reader.len() || MAX_WAITING <= self.foreign.waiting.len()
    }

    /// Too much of what clients and our own processes have a hand in waits to be closed.
    pub(crate) fn is_own_overdue(&self) -> bool {
        MAX_WAITING <= self.own.waiting.len()
    }

    /// When something is to be done though nothing happens. While all closers hang, that is nothing.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        [self.foreign.deadline(MAX_CLOSERS), self.own.deadline(MAX_OWN_CLOSERS)].into_iter().flatten().min()
    }

    /// Whether it was a closer that ended.
    pub(crate) fn note_end(&mut self, pid: i32) -> bool {
        self.foreign.note_end(pid) || self.own.note_end(pid)
    }

    /// Has closed what was dropped.
    pub(crate) fn advance(&mut self, reader: &mut ReaderLink, pace: Pace, now: Moment) -> io::Result<()> {
        self.sort(now);
        self.hand_over(reader, now);
        if reader.is_caught_up() {
            let due = now.saturating_add(GATHERING);
            self.foreign.waiting.extend(self.asked_of_reader.drain(..).map(|descriptor| (due, descriptor)));
        }
        if pace == Pace::AtOnce {
            self.foreign.waiting.iter_mut().for_each(|(due, _)| *due = now);
        }
        self.foreign.advance(MAX_CLOSERS, now).and(self.own.advance(MAX_OWN_CLOSERS, now))
    }

    fn sort(&mut self, now: Moment) {
        while let Some((way, descriptor)) = self.discarded.take_first() {
            match way {
                CloseBy::Closer => self.foreign.waiting.push_back((now.saturating_add(GATHERING), descriptor)),
                CloseBy::AfterReader(source) => {
                    self.for_reader.push_back((ReaderRequest::Discard(source), descriptor))
                }
                CloseBy::Reader if self.for_reader.len() < MAX_WAITING => {
                    self.for_reader.push_back((ReaderRequest::Hold, descriptor));
                }
                CloseBy::Reader => self.own.waiting.push_back((now, descriptor)),
                CloseBy::HangUp => self.own.waiting.push_back((now.saturating_add(COLLECTING), descriptor)),
            }
        }
    }

    /// The reader closes its copies of sockets at once, since it is not the last; of what clients sent our own copies go while
    /// the reader certainly has its own, and only then it is told to close them.
    fn hand_over(&mut self, reader: &mut ReaderLink, now: Moment) {
        while let Some((request, descriptor)) = self.for_reader.pop_front() {
            let is_discard = matches!(request, ReaderRequest::Discard(_));
            if !reader.ask(&request, (!is_discard).then_some(descriptor.as_fd()), now) {
                self.for_reader.push_front((request, descriptor));
                break;
            }
            if is_discard {
                self.asked_of_reader.push(descriptor);
            } else {
                self.is_holding = true;
            }
        }
        if self.is_holding && reader.ask(&ReaderRequest::Release, None, now) {
            self.is_holding = false;
        }
    }
}

impl Queue {
    fn deadline(&self, max_closers: usize) -> Option<Moment> {
        if max_closers <= self.closers.len() {
            return None;
        }
        let due = self.waiting.iter().map(|(due, _)| *due).min()?;
        Some(self.retry_at.map_or(due, |at| at.max(due)))
    }

    fn note_end(&mut self, pid: i32) -> bool {
        let before = self.closers.len();
        self.closers.retain(|closer| *closer != pid);
        self.closers.len() != before
    }

    fn is_due(&self, max_closers: usize, now: Moment) -> bool {
        self.closers.len() < max_closers
            && self.retry_at.is_none_or(|at| at <= now)
            && (MAX_BATCH <= self.waiting.len() || self.waiting.iter().any(|(due, _)| *due <= now))
    }

    /// Starts as many closers as there is work for.
    fn advance(&mut self, max_closers: usize, now: Moment) -> io::Result<()> {
        while self.is_due(max_closers, now) {
            self.retry_at = None;
            // What waits for nothing more first.
            self.waiting.make_contiguous().sort_by_key(|(due, _)| *due);
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
    fn what_an_instance_had_a_hand_in_is_closed_soon_and_our_own_sockets_are_collected() {
        let mut close_queue = CloseQueue::default();
        close_queue.sort(NOW);
        assert_eq!(close_queue.deadline(), None);
        drop(close_queue.discarded.hold(descriptor(), CloseBy::HangUp));
        close_queue.sort(NOW);
        assert_eq!((close_queue.deadline(), close_queue.own.is_due(1, NOW)), (Some(NOW + COLLECTING), false));
        assert!(close_queue.own.is_due(1, NOW + COLLECTING));
        drop(close_queue.discarded.hold(descriptor(), CloseBy::Closer));
        close_queue.sort(NOW);
        assert_eq!((close_queue.deadline(), close_queue.foreign.is_due(1, NOW)), (Some(NOW + GATHERING), false));
        assert!(close_queue.foreign.is_due(1, NOW + GATHERING));
        close_queue.foreign.retry_at = Some(NOW + RETRY_PAUSE);
        assert_eq!((close_queue.deadline(), close_queue.foreign.is_due(1, NOW)), (Some(NOW + RETRY_PAUSE), false));
    }

    #[test]
    fn closers_that_hang_for_instances_do_not_keep_our_own_sockets_open() {
        let mut close_queue = CloseQueue::default();
        close_queue.foreign.closers = (1..=MAX_CLOSERS as i32).collect();
        for _ in 0..MAX_WAITING {
            drop(close_queue.discarded.hold(descriptor(), CloseBy::Closer));
        }
        close_queue.sort(NOW);
        assert!(
            close_queue.is_overdue()
                && !close_queue.foreign.is_due(MAX_CLOSERS, NOW)
                && close_queue.deadline().is_none()
        );
        for _ in 0..MAX_BATCH {
            drop(close_queue.discarded.hold(descriptor(), CloseBy::HangUp));
        }
        close_queue.sort(NOW);
        assert!(!close_queue.is_own_overdue() && close_queue.own.is_due(MAX_OWN_CLOSERS, NOW));
        assert!(close_queue.note_end(7) && !close_queue.note_end(7));
        assert!(close_queue.foreign.is_due(MAX_CLOSERS, NOW));
    }

    #[test]
    fn what_clients_sent_goes_to_the_reader_and_what_is_too_much_for_it_to_a_closer() {
        let mut close_queue = CloseQueue::default();
        for _ in 0..MAX_WAITING + 3 {
            drop(close_queue.discarded.hold(descriptor(), CloseBy::Reader));
        }
        close_queue.sort(NOW);
        assert_eq!((close_queue.for_reader.len(), close_queue.own.waiting.len()), (MAX_WAITING, 3));
        assert_eq!(close_queue.deadline(), Some(NOW));
        // Without a reader that stays so.
        close_queue.hand_over(&mut ReaderLink::default(), NOW);
        assert_eq!((close_queue.for_reader.len(), close_queue.is_holding), (MAX_WAITING, false));
    }
}
