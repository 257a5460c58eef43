//! A descriptor of which somebody else decides how long its close takes. Dropped, wherever that is, it goes into a list, and
//! from there to whoever closes it for PID 1: see [`CloseQueue`](crate::close_queue::CloseQueue), which has the table of all of them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use yado_sys::packet;
use yado_wire::datagrams::DatagramSource;

/// How a descriptor is closed after it was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseBy {
    /// By a closer, soon.
    Closer,
    /// By a closer, when the datagram reader has closed its copy of this socket.
    AfterReader(DatagramSource),
    /// By the datagram reader, at once: it is there anyway, and somebody may wait for the end.
    Reader,
    /// It is a socket between us and a peer: the peer is hung up on at once, and a closer closes it together with others.
    HangUp,
}

/// A descriptor that PID 1 does not close itself: dropping it hands it over.
pub(crate) struct DeferredClose {
    /// Shared only with the list, and only while this is being dropped.
    descriptor: Rc<OwnedFd>,
    /// `None`: it is closed where it is dropped after all.
    way: Option<CloseBy>,
    discarded: Discarded,
}

/// Descriptors that were dropped, the first one first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Discarded(Rc<RefCell<Dropped>>);

type Dropped = VecDeque<(CloseBy, Rc<OwnedFd>)>;

/// A packet of somebody else's.
#[derive(Debug)]
pub(crate) struct Received {
    /// How many bytes of the buffer it fills; 0: the peer has hung up.
    pub(crate) len: usize,
    pub(crate) descriptors: Vec<DeferredClose>,
}

impl DeferredClose {
    /// Another descriptor that goes to the same list.
    pub(crate) fn beside(&self, descriptor: OwnedFd, way: CloseBy) -> DeferredClose {
        self.discarded.hold(descriptor, way)
    }

    /// The descriptor itself, of a kind whose close waits for nobody: a pidfd, a mount that was used up. `None` cannot be.
    pub(crate) fn into_harmless(mut self) -> Option<OwnedFd> {
        self.way = None;
        let descriptor = Rc::clone(&self.descriptor);
        drop(self);
        Rc::into_inner(descriptor)
    }

    /// Receives one packet. Its descriptors, also those of a packet that is refused, are closed in this way. `None`: nothing is
    /// there. After an error the packet may still be there: the connection is of no use any more.
    pub(crate) fn recv(&self, buffer: &mut [u8], way: CloseBy) -> io::Result<Option<Received>> {
        match packet::next_has_room(self)? {
            None => return Ok(None),
            // What has no room is dropped by the kernel inside recvmsg(2), which then waits here.
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
    /// Takes a descriptor, which comes into this list when it is dropped.
    pub(crate) fn hold(&self, descriptor: OwnedFd, way: CloseBy) -> DeferredClose {
        DeferredClose { descriptor: Rc::new(descriptor), way: Some(way), discarded: self.clone() }
    }

    /// The one that has waited longest.
    pub(crate) fn take_first(&self) -> Option<(CloseBy, Rc<OwnedFd>)> {
        self.0.try_borrow_mut().ok().and_then(|mut list| list.pop_front())
    }

    fn put(&self, way: CloseBy, descriptor: Rc<OwnedFd>) {
        match self.0.try_borrow_mut() {
            Ok(mut list) => list.push_back((way, descriptor)),
            // It cannot be; but a descriptor that stays open harms less than one that is closed here.
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
