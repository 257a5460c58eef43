//! A socket to which others send. It is held here, only the datagram reader receives from it, and a closer closes it.

use crate::deferred_close::{CloseBy, DeferredClose, Discarded};
use std::os::fd::OwnedFd;
use yado_wire::datagrams::DatagramSource;

/// Such a socket. It is heard until it is dropped.
#[derive(Debug)]
pub(crate) struct ReaderSocket {
    /// Who sends on it.
    pub(crate) source: DatagramSource,
    /// Itself, to be sent to the reader.
    pub(crate) socket: DeferredClose,
    /// Which reader was told of it.
    pub(crate) told: u32,
}

impl ReaderSocket {
    /// A socket that no reader was told of.
    pub(crate) fn new(source: DatagramSource, socket: OwnedFd, discarded: &Discarded) -> ReaderSocket {
        ReaderSocket { source, socket: discarded.hold(socket, CloseBy::AfterReader(source)), told: 0 }
    }

    /// Whether it is the socket of this run.
    pub(crate) fn is_of(&self, number: u32) -> bool {
        self.source == (DatagramSource::Instance { run: number })
    }
}
