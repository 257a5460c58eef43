//! A socket on which others send: held here, received from and closed only by the datagram reader.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use yado_wire::datagrams::{DatagramSource, ReaderRequest};

/// A socket on which others send: we hold it, and never receive from it. Dropped, it is closed by the reader.
#[derive(Debug)]
pub(crate) struct UntrustedSocket {
    /// Whose it is.
    pub(crate) source: DatagramSource,
    /// `None` only while it is dropped.
    pub(crate) socket: Option<OwnedFd>,
    /// Which reader was told of it.
    pub(crate) told: u32,
    /// Where it goes when it is dropped.
    pub(crate) discarded: Discarded,
}

/// What is to be closed by the reader.
#[derive(Debug, Clone, Default)]
pub(crate) struct Discarded(pub(crate) Rc<RefCell<VecDeque<(ReaderRequest, OwnedFd)>>>);

impl Discarded {
    /// Puts it at the end of the list.
    pub(crate) fn put(&self, request: ReaderRequest, descriptor: OwnedFd) {
        match self.0.try_borrow_mut() {
            Ok(mut list) => list.push_back((request, descriptor)),
            // It cannot be; but a descriptor that stays open harms less than one that is closed here.
            Err(_) => std::mem::forget(descriptor),
        }
    }
}

impl Drop for UntrustedSocket {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            self.discarded.put(ReaderRequest::Discard(self.source), socket);
        }
    }
}

impl UntrustedSocket {
    /// Whether it is the socket of this run.
    pub(crate) fn is_of(&self, number: u32) -> bool {
        self.source == (DatagramSource::Instance { run: number })
    }
}
