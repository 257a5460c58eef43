//! What init and its datagram reader say to each other. The reader is the process of ours that receives from sockets on which
//! containers send, because whoever receives also gets, and has to close, whatever descriptors are sent along. Both are one
//! program, so the bytes are no promise.

use crate::names::Text;
use crate::rescue::LogRecord;
use serde::{Deserialize, Serialize};

/// What init tells the reader. Each packet is answered by one [`ReaderReport::Done`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReaderRequest {
    /// Receive from the socket that travels along, until it is discarded.
    Watch(DatagramSource),
    /// Hold the descriptor that travels along.
    Hold,
    /// Stop receiving from it, and close the own copy of it, which is not the last.
    Discard(DatagramSource),
    /// Close all that is held: init has closed its own copies meanwhile.
    Release,
    /// Only answer.
    Ping,
}

/// Whose socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DatagramSource {
    /// `$NOTIFY_SOCKET` of one run of an instance.
    Instance {
        /// Numbers the run among those of all instances; never used again. (A [`RunNumber`](crate::RunNumber)
        /// tells apart only the runs of one instance.)
        run: u32,
    },
    /// `$NOTIFY_SOCKET` of our own services.
    Services,
    /// journald's socket.
    Journal,
    /// `/dev/log`.
    Syslog,
}

/// What the reader tells init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReaderReport {
    /// A request was heard and done.
    Done,
    /// An instance said something of itself.
    Notification {
        /// Number of the run.
        run: u32,
        /// The sender's user id on the host, as the kernel attested it.
        uid: u32,
        /// It said `READY=1`: it has started.
        is_ready: bool,
        /// `STATUS=`, in its own words, cut to fit.
        status: Option<Text<128>>,
        /// `WATCHDOG=`; `None`: this datagram has none.
        ping: Option<WatchdogPing>,
    },
    /// A service said `READY=1`.
    ServiceReady {
        /// The sender's process id, as the kernel attested it.
        pid: i32,
    },
    /// Somebody logged.
    Record(LogRecord),
    /// Descriptors were sent to an instance's socket. Nothing is received from it any more.
    SentDescriptors {
        /// Number of the run.
        run: u32,
    },
}

/// `WATCHDOG=`: sd_notify(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchdogPing {
    /// `1`.
    Alive,
    /// `trigger`.
    Trigger,
}
