//! A socket on which others send: held here, received from only by the datagram reader, and closed by neither.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use yado_wire::datagrams::{DatagramSource, ReaderRequest};

/// A socket on which others send: we hold it, and never receive from it. Dropped, it goes to
/// [`Closing`](crate::closing::Closing) after the reader's copy is gone.
#[derive(Debug)]
pub(crate) struct UntrustedSocket {
    source: DatagramSource,
    socket: Option<OwnedFd>,
    /// Which reader was told of it.
    pub(crate) told: u32,
    /// Descriptors were sent to it: no reader gets it any more.
    pub(crate) is_refused: bool,
    discarded: Discarded,
}

impl UntrustedSocket {
    /// A socket that no reader was told of. Dropped, it goes to `discarded`.
    pub(crate) fn new(source: DatagramSource, socket: OwnedFd, discarded: &Discarded) -> UntrustedSocket {
        UntrustedSocket { source, socket: Some(socket), told: 0, is_refused: false, discarded: discarded.clone() }
    }

    /// Whose it is.
    pub(crate) fn source(&self) -> DatagramSource {
        self.source
    }

    /// Itself, to be sent to the reader; there is one until it is dropped.
    pub(crate) fn socket(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    /// Whether it is the socket of this run.
    pub(crate) fn is_of(&self, number: u32) -> bool {
        self.source == (DatagramSource::Instance { run: number })
    }
}

impl Drop for UntrustedSocket {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            self.discarded.put(ReaderRequest::Discard(self.source), socket);
        }
    }
}

/// What is to be closed by the reader, and the request with which it goes there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Discarded(Rc<RefCell<VecDeque<(ReaderRequest, OwnedFd)>>>);

impl Discarded {
    /// How many descriptors wait.
    pub(crate) fn len(&self) -> usize {
        self.0.try_borrow().map_or(0, |list| list.len())
    }

    /// Adds a descriptor.
    pub(crate) fn put(&self, request: ReaderRequest, descriptor: OwnedFd) {
        match self.0.try_borrow_mut() {
            Ok(mut list) => list.push_back((request, descriptor)),
            // It cannot be; but a descriptor that stays open harms less than one that is closed here.
            Err(_) => std::mem::forget(descriptor),
        }
    }

    /// The one that has waited longest.
    pub(crate) fn take_first(&self) -> Option<(ReaderRequest, OwnedFd)> {
        self.0.try_borrow_mut().ok().and_then(|mut list| list.pop_front())
    }

    /// Puts back what was taken as the first, and could not be handed over.
    pub(crate) fn put_back(&self, request: ReaderRequest, descriptor: OwnedFd) {
        match self.0.try_borrow_mut() {
            Ok(mut list) => list.push_front((request, descriptor)),
            // As above.
            Err(_) => std::mem::forget(descriptor),
        }
    }
}
