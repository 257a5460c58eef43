//! A descriptor whose close could block for as long as somebody else decides. Dropping it does not close it, but puts it on a
//! list; from there it goes to a process that closes it for PID 1. [`CloseQueue`](crate::close_queue::CloseQueue) has the table
//! of all such descriptors.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use yado_sys::packet;
use yado_wire::datagrams::DatagramSource;

/// Who closes a dropped descriptor, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseBy {
    /// By a closer, soon.
    Closer,
    /// By a closer, when the datagram reader has closed its copy of this socket.
    AfterReader(DatagramSource),
    /// By the datagram reader, at once: it runs anyway, and somebody may wait for the close.
    Reader,
    /// A socket between us and a peer: it is shut down at once, and a closer closes it later together with others.
    HangUp,
}

/// A descriptor that PID 1 does not close itself.
pub(crate) struct DeferredClose {
    /// Shared only with the list, and only while it is being dropped.
    descriptor: Rc<OwnedFd>,
    /// `None`: dropping it closes it.
    way: Option<CloseBy>,
    discarded: Discarded,
}

/// Dropped descriptors, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Discarded(Rc<RefCell<Dropped>>);

type Dropped = VecDeque<(CloseBy, Rc<OwnedFd>)>;

/// A packet from a peer.
#[derive(Debug)]
pub(crate) struct Received {
    /// How many bytes of the buffer it fills; 0: the peer has hung up.
    pub(crate) len: usize,
    pub(crate) descriptors: Vec<DeferredClose>,
}

impl DeferredClose {
    /// Holds another descriptor that goes to the same list.
    pub(crate) fn beside(&self, descriptor: OwnedFd, way: CloseBy) -> DeferredClose {
        self.discarded.hold(descriptor, way)
    }

    /// Takes out the descriptor, if it is of a kind whose close never blocks: a pidfd, a mount that was used up. Never `None`.
    pub(crate) fn into_harmless(mut self) -> Option<OwnedFd> {
        self.way = None;
        let descriptor = Rc::clone(&self.descriptor);
        drop(self);
        Rc::into_inner(descriptor)
    }

    /// Receives one packet. `way`: how its descriptors are closed, also those of a packet that is refused. `None`: there is no
    /// packet. After an error the packet may still be there: give up the connection.
    pub(crate) fn recv(&self, buffer: &mut [u8], way: CloseBy) -> io::Result<Option<Received>> {
        match packet::next_has_room(self)? {
            None => return Ok(None),
            // The kernel would drop descriptors inside recvmsg(2), and could block here.
            Some(false) => return Err(io::ErrorKind::InvalidData.into()),
            Some(true) => {}
        }
        let mut descriptors = Vec::new();
        let len = packet::recv_into(self, buffer, &mut descriptors);
        let descriptors = descriptors.into_iter().map(|descriptor| self.beside(descriptor, way)).collect();
        Ok(len?.map(|len| Received { len, descriptors }))
    }
}

impl Received {
    /// The peer has hung up; nothing more will come.
    pub(crate) fn is_end(&self) -> bool {
        self.len == 0
    }
}

impl AsFd for DeferredClose {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl fmt::Debug for DeferredClose {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "DeferredClose({:?}, {:?})", self.descriptor, self.way)
    }
}

impl Drop for DeferredClose {
    fn drop(&mut self) {
        let Some(way) = self.way else { return };
        if way == CloseBy::HangUp {
            packet::hang_up(self);
        }
        self.discarded.put(way, Rc::clone(&self.descriptor));
    }
}

impl Discarded {
    /// Wraps a descriptor, so that it goes to this list when it is dropped.
    pub(crate) fn hold(&self, descriptor: OwnedFd, way: CloseBy) -> DeferredClose {
        DeferredClose { descriptor: Rc::new(descriptor), way: Some(way), discarded: self.clone() }
    }

    /// Takes the oldest descriptor.
    pub(crate) fn take_first(&self) -> Option<(CloseBy, Rc<OwnedFd>)> {
        self.0.try_borrow_mut().ok().and_then(|mut list| list.pop_front())
    }

    fn put(&self, way: CloseBy, descriptor: Rc<OwnedFd>) {
        match self.0.try_borrow_mut() {
            Ok(mut list) => list.push_back((way, descriptor)),
            // Cannot happen. If it did, a descriptor that stays open would harm less than one that is closed here.
            Err(_) => std::mem::forget(descriptor),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    use std::fs::File;
    use std::io::Read;
    use std::mem::MaybeUninit;
    use yado_sys::children;

    /// Our end of a pipe, which tells when the other one is closed.
    fn pipe() -> (File, OwnedFd) {
        let (reader, writer) = children::output_pipe().unwrap();
        (File::from(reader), writer)
    }

    fn send_many(socket: &OwnedFd, descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        let bytes = [io::IoSlice::new(b"x")];
        rustix::net::sendmsg(socket, &bytes, &mut control, SendFlags::empty()).unwrap();
    }

    fn is_open(mut reader: &File) -> bool {
        matches!(reader.read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    #[test]
    fn what_is_dropped_stays_open_and_comes_into_the_list_in_order() {
        let discarded = Discarded::default();
        let (reader, writer) = pipe();
        let first = discarded.hold(writer, CloseBy::Closer);
        let second = first.beside(File::open("/dev/null").unwrap().into(), CloseBy::Reader);
        drop((first, second));
        let (way, descriptor) = discarded.take_first().unwrap();
        assert_eq!((way, is_open(&reader)), (CloseBy::Closer, true));
        assert_eq!(discarded.take_first().unwrap().0, CloseBy::Reader);
        assert!(discarded.take_first().is_none());
        drop(descriptor);
        assert!(!is_open(&reader), "the list had the only one");
    }

    #[test]
    fn what_is_harmless_is_had_back_and_closed_where_it_is_dropped() {
        let discarded = Discarded::default();
        let (reader, writer) = pipe();
        let own = discarded.hold(writer, CloseBy::Closer).into_harmless().unwrap();
        assert!(discarded.take_first().is_none() && is_open(&reader));
        drop(own);
        assert!(!is_open(&reader));
    }

    #[test]
    fn descriptors_of_a_packet_that_is_refused_are_not_closed_here() {
        let discarded = Discarded::default();
        let (ours, theirs) = packet::socketpair().unwrap();
        let ours = discarded.hold(ours, CloseBy::HangUp);
        // Too long; and, as by somebody who does not use our sender, with more than there is room for.
        let (reader, writer) = pipe();
        packet::send(&theirs, b"far too long", &[writer.as_fd()]).unwrap().unwrap();
        drop(writer);
        assert!(ours.recv(&mut [0; 4], CloseBy::Closer).is_err() && is_open(&reader));
        assert_eq!(discarded.take_first().unwrap().0, CloseBy::Closer);
        assert!(!is_open(&reader));
        let (reader, writer) = pipe();
        send_many(&theirs, &[writer.as_fd(); 8]);
        drop(writer);
        for _ in 0..2 {
            assert!(ours.recv(&mut [0; 4], CloseBy::Closer).is_err() && is_open(&reader), "it stays in the queue");
        }
        assert!(discarded.take_first().is_none());
        drop(ours);
        assert!(matches!(packet::recv(&theirs, &mut [0; 4]), Ok(Some(end)) if end.is_end()), "it was hung up on");
        assert_eq!(discarded.take_first().map(|(way, _)| way), Some(CloseBy::HangUp));
        assert!(!is_open(&reader));
    }
}
