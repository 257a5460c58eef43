//! Closes descriptors for PID 1 whose close could block it. The last close of a socket waits for what is in its queue, in the
//! kernel and for seconds; the last close of a packet socket waits for all processors in turn, and no signal ends that. So every
//! descriptor that instances or clients can influence is a [`DeferredClose`]. When it is dropped it goes to a closer: a process
//! that gets copies of descriptors and exits as soon as ours are closed. Nobody waits for a closer.
//!
//! | descriptor | who can make its close block | closed by |
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
//! Receiving can close, too: descriptors for which there is no room are dropped inside the call. [`DeferredClose::recv`] looks
//! first, and the datagram reader receives what instances send. (A file of FUSE is flushed at each close and not only the last
//! one, so closing PID 1's copy of a client's file can block. Only the host's root can send one.)
//!
//! About the kernel's garbage collection of Unix sockets that wait in each other's queues (`unix_gc()`, net/unix/garbage.c): since
//! Linux 6.9, backported to 6.1.141 and so in Debian's 6.1.147-1, a worker of the kernel does it. The last close of a Unix socket
//! only asks for it. A sender waits for it only if it sends Unix sockets and its user on the host has 8 × 253 or more descriptors
//! in flight (`wait_for_unix_gc()`, read in Debian's 6.1.192). PID 1 sends sockets only to the reader, as the host's root; those of
//! an unprivileged instance are counted for its own users. On older kernels any close or send may have to do the collection.
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

/// How many descriptors one closer gets, besides standard input, output and error.
const MAX_BATCH: usize = MAX_DESCRIPTORS - 3;

/// The most closers at once for descriptors that instances can block: if so many hang, the rest waits for one that ends.
const MAX_CLOSERS: usize = 32;

/// The most closers at once for descriptors that only clients and our own processes can block.
const MAX_OWN_CLOSERS: usize = 4;

/// How many descriptors may wait for a closer, or for the reader. With more from instances no instance starts; with more from
/// clients no client is heard.
pub(crate) const MAX_WAITING: usize = 64;

/// Descriptors for which nobody waits are collected for so long, so that one closer is started for many.
const COLLECTING: Duration = Duration::from_secs(30);

/// The descriptors of an instance that has ended come within some milliseconds: one closer gets them all.
const GATHERING: Duration = Duration::from_millis(20);

/// A closer that could not be started is tried again after this.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs as a closer: waits for the end of its input, by which init says that it has closed its copies. Then it exits, which
/// closes everything that it was given.
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
    /// After [`GATHERING`], so that one closer gets all descriptors of an instance.
    Gather,
    /// At once: the data partition is about to be unmounted, and a descriptor may keep it busy.
    AtOnce,
}

/// Descriptors that are to be closed, and the closers that do it.
#[derive(Debug, Default)]
pub(crate) struct CloseQueue {
    discarded: Discarded,
    /// Descriptors for the reader: it gets them, or closes its copy of a socket that it has.
    for_reader: VecDeque<(ReaderRequest, Rc<OwnedFd>)>,
    /// Sockets whose copies the reader was asked to close, and may not have closed yet.
    asked_of_reader: Vec<Rc<OwnedFd>>,
    /// The reader holds copies of what we have closed, and was not told yet to close them.
    is_holding: bool,
    /// Descriptors that instances can block.
    foreign: Queue,
    /// All others: closers that hang because of an instance must not keep our own sockets open.
    own: Queue,
}

/// Descriptors that wait for a closer, and the closers.
#[derive(Debug, Default)]
struct Queue {
    /// With the time until which it may wait.
    waiting: VecDeque<(Moment, Rc<OwnedFd>)>,
    /// Closers that have not ended.
    closers: Vec<i32>,
    retry_at: Option<Moment>,
}

impl CloseQueue {
    /// The list to which dropped descriptors go.
    pub(crate) fn discarded(&self) -> &Discarded {
        &self.discarded
    }

    /// Whether too many descriptors of instances wait to be closed.
    pub(crate) fn is_overdue(&self) -> bool {
        MAX_WAITING <= self.for_reader.len() || MAX_WAITING <= self.foreign.waiting.len()
    }

    /// Whether too many descriptors of clients and of our own processes wait to be closed.
    pub(crate) fn is_own_overdue(&self) -> bool {
        MAX_WAITING <= self.own.waiting.len()
    }

    /// When the next closer is to be started; `None` while all closers hang.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        [self.foreign.deadline(MAX_CLOSERS), self.own.deadline(MAX_OWN_CLOSERS)].into_iter().flatten().min()
    }

    /// Whether it was a closer that ended.
    pub(crate) fn note_end(&mut self, pid: i32) -> bool {
        self.foreign.note_end(pid) || self.own.note_end(pid)
    }

    /// Hands dropped descriptors to the reader and to closers.
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

    /// Sockets: the reader closes its copies at once, since they are not the last. Descriptors that clients sent: we close our
    /// copies while the reader holds its own, and only then it is told to close them.
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
            // Those that are due first.
            self.waiting.make_contiguous().sort_by_key(|(due, _)| *due);
            if let Err(error) = self.start() {
                self.retry_at = Some(now.saturating_add(RETRY_PAUSE));
                return Err(error);
            }
        }
        Ok(())
    }

    fn start(&mut self) -> io::Result<()> {
        // A pipe, so that telling the closer does not close a Unix socket.
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
        // The child is a copy of us, so it holds all of them from its start.
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
