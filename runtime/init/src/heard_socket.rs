//! A socket on which others send: held here, received from only by the datagram reader, and closed by a closer.

use crate::untrusted::{Discarded, Untrusted, Way};
use std::os::fd::OwnedFd;
use yado_wire::datagrams::DatagramSource;

/// Such a socket. It is heard until it is dropped.
#[derive(Debug)]
pub(crate) struct HeardSocket {
    /// Whose it is.
    pub(crate) source: DatagramSource,
    /// Itself, to be sent to the reader.
    pub(crate) socket: Untrusted,
    /// Which reader was told of it.
    pub(crate) told: u32,
}

impl HeardSocket {
    /// A socket that no reader was told of.
    pub(crate) fn new(source: DatagramSource, socket: OwnedFd, discarded: &Discarded) -> HeardSocket {
        HeardSocket { source, socket: discarded.hold(socket, Way::AfterReader(source)), told: 0 }
    }

    /// Whether it is the socket of this run.
    pub(crate) fn is_of(&self, number: u32) -> bool {
        self.source == (DatagramSource::Instance { run: number })
    }
}
