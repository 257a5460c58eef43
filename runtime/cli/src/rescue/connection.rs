//! One exchange with init (or netd): a request packet goes out, reply packets come back until one that ends it.

use crate::output::printable;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use yado_sys::packet;
use yado_wire::rescue::{Reply, Request};
use yado_wire::{DecodeError, Failure, MAX_FRAME_BYTES, Text};

/// How long init may take for an answer that it can give from its own tables. It never blocks, so a second is long; a board
/// under load gets more.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer may take to take a connection: one that hangs has a full queue of them.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long init is asked for its release when it was not understood.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// The release of this program.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// The bytes of a packet, and what came with it.
type Packet = (Vec<u8>, Vec<OwnedFd>);

/// A connection on which replies of type `R` come.
pub(super) struct Connection<R> {
    socket: OwnedFd,
    peer: Peer,
    replies: PhantomData<R>,
}

/// Who is at the other end, for the words of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    who: Daemon,
    /// Its socket.
    path: PathBuf,
}

/// Whom we ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Daemon {
    Init,
    Netd,
}

/// Why there is no answer, or not the one that was wanted.
#[derive(Debug)]
pub(crate) enum ExchangeError {
    /// Nobody listens there.
    Connect { peer: Peer, source: io::Error },
    /// The connection broke.
    Talk { peer: Peer, source: io::Error },
    /// No packet came in time.
    Silent { peer: Peer },
    /// The peer hung up before it was done.
    HungUp { peer: Peer },
    /// The peer is of another release, or no init at all.
    Decode {
        peer: Peer,
        source: DecodeError,
        /// The release that the peer says it is of, if it is an init that can be asked.
        release: Option<Text<32>>,
    },
    /// An answer that does not belong to the question.
    Unexpected { peer: Peer },
    /// An answer that does not come to its end.
    Endless { peer: Peer },
    /// The request is longer than a packet.
    TooLong,
    /// The peer understood and refused.
    Refused(Box<Failure>),
}

impl<R: DeserializeOwned> Connection<R> {
    /// Connects and sends `request` with `descriptors`. A peer that takes no connection for [`CONNECT_TIMEOUT`] does not answer.
    pub(super) fn ask<M: Serialize>(
        who: Daemon,
        path: &Path,
        request: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Connection<R>, ExchangeError> {
        let peer = Peer { who, path: path.to_owned() };
        let frame = yado_wire::encode(request).ok_or(ExchangeError::TooLong)?;
        let socket = packet::connect_within(path, CONNECT_TIMEOUT)
            .map_err(|source| ExchangeError::Connect { peer: peer.clone(), source })?;
        match packet::send(&socket, &frame, descriptors) {
            Ok(Some(())) => {
                // From here on some wait for as long as it takes.
                packet::set_no_timeout(&socket)
                    .map_err(|source| ExchangeError::Talk { peer: peer.clone(), source })?;
                Ok(Connection { socket, peer, replies: PhantomData })
            }
            Ok(None) => Err(ExchangeError::Silent { peer }),
            Err(source) => Err(ExchangeError::Talk { peer, source }),
        }
    }

    /// From now on a reply that takes longer than `timeout` is an error; without it, [`Connection::next`] waits.
    pub(super) fn set_timeout(&self, timeout: Duration) -> Result<(), ExchangeError> {
        packet::set_timeout(&self.socket, timeout)
            .map_err(|source| ExchangeError::Talk { peer: self.peer.clone(), source })
    }

    /// The next reply and what came with it.
    pub(super) fn next(&self) -> Result<(R, Vec<OwnedFd>), ExchangeError> {
        self.next_or_silence()?.ok_or_else(|| ExchangeError::Silent { peer: self.peer.clone() })
    }

    /// The next reply; `None` when the time is over.
    pub(super) fn next_or_silence(&self) -> Result<Option<(R, Vec<OwnedFd>)>, ExchangeError> {
        let Some((bytes, descriptors)) = self.receive()? else {
            return Ok(None);
        };
        let reply = yado_wire::decode(&bytes).map_err(|source| ExchangeError::Decode {
            peer: self.peer.clone(),
            source,
            release: self.peer.release(),
        })?;
        Ok(Some((reply, descriptors)))
    }

    fn receive(&self) -> Result<Option<Packet>, ExchangeError> {
        let mut buffer = vec![0; MAX_FRAME_BYTES];
        let received = packet::recv(&self.socket, &mut buffer)
            .map_err(|source| ExchangeError::Talk { peer: self.peer.clone(), source })?;
        let Some(packet) = received else {
            return Ok(None);
        };
        if packet.is_end() {
            return Err(ExchangeError::HungUp { peer: self.peer.clone() });
        }
        buffer.truncate(packet.len);
        Ok(Some((buffer, packet.descriptors)))
    }

    /// The error for replies that do not end.
    pub(super) fn endless(&self) -> ExchangeError {
        ExchangeError::Endless { peer: self.peer.clone() }
    }

    /// The error for a reply that does not belong here.
    pub(super) fn unexpected(&self) -> ExchangeError {
        ExchangeError::Unexpected { peer: self.peer.clone() }
    }
}

impl Connection<Reply> {
    /// Sends `request` to init.
    pub(super) fn ask_init(
        socket: &Path,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Connection<Reply>, ExchangeError> {
        Connection::ask(Daemon::Init, socket, request, descriptors)
    }

    /// Waits for `Done`, for a request whose only other answer is a refusal.
    pub(super) fn wait_until_done(&self) -> Result<(), ExchangeError> {
        match self.next()? {
            (Reply::Done, _) => Ok(()),
            (Reply::Refused(failure), _) => Err(ExchangeError::Refused(Box::new(failure))),
            _ => Err(self.unexpected()),
        }
    }
}

impl<R> AsFd for Connection<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Peer {
    /// The first reply to a question for the status names it. Every release has said that in the same bytes.
    fn release(&self) -> Option<Text<32>> {
        match self.who {
            Daemon::Netd => None,
            Daemon::Init => {
                let connection = Connection::ask_init(&self.path, &Request::Status, &[]).ok()?;
                connection.set_timeout(RELEASE_TIMEOUT).ok()?;
                let (bytes, _) = connection.receive().ok()??;
                match yado_wire::decode(&bytes) {
                    Ok(Reply::System(system)) => Some(system.version),
                    Ok(_) | Err(_) => None,
                }
            }
        }
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Daemon::Init => "init",
            Daemon::Netd => "netd",
        })
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExchangeError::Connect { peer: Peer { who, path }, source }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                write!(out, "only root may ask {who} on {}: {source}; run it as root", path.display())
            }
            ExchangeError::Connect { peer: Peer { who, path }, source } => {
                write!(out, "{who} does not answer on {}: {source}", path.display())?;
                match who {
                    Daemon::Init => {
                        out.write_str("; is yado-init running? (hosted: give --socket DIR/run/init.sock)")
                    }
                    Daemon::Netd => Ok(()),
                }
            }
            ExchangeError::Talk { peer: Peer { who, path }, source } => {
                write!(out, "talk to {who} on {}: {source}", path.display())
            }
            ExchangeError::Silent { peer: Peer { who, path } } => {
                write!(out, "{who} took the request on {} and did not answer in time", path.display())
            }
            ExchangeError::HungUp { peer: Peer { who, path } } => {
                write!(out, "{who} hung up on {} before it was done", path.display())
            }
            ExchangeError::Decode { peer: Peer { who, path }, source, release } => {
                write!(out, "{who} on {}: {source}; this program is of release {RELEASE}, ", path.display())?;
                match release {
                    Some(release) => write!(out, "{who} of {}", printable(release)),
                    None => write!(out, "is {who} of another one?"),
                }
            }
            ExchangeError::Unexpected { peer: Peer { who, path } } => {
                write!(out, "{who} on {} sent an answer to another question", path.display())
            }
            ExchangeError::Endless { peer: Peer { who, path } } => {
                write!(out, "{who} on {} stopped in the middle of its answer", path.display())
            }
            ExchangeError::TooLong => write!(out, "the request is longer than {MAX_FRAME_BYTES} bytes"),
            ExchangeError::Refused(failure) => out.write_str(&printable(&failure.to_string())),
        }
    }
}

impl std::error::Error for ExchangeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_that_is_not_there_is_said_with_what_to_do() {
        let path = Path::new("/nonexistent/init.sock");
        let error = Connection::ask_init(path, &Request::Status, &[]).err().map(|error| error.to_string());
        let expected = "init does not answer on /nonexistent/init.sock: No such file or directory (os error 2); \
                        is yado-init running? (hosted: give --socket DIR/run/init.sock)";
        assert_eq!(error.as_deref(), Some(expected));
    }

    #[test]
    fn who_may_not_ask_is_told_who_may() {
        let peer = Peer { who: Daemon::Init, path: PathBuf::from("/run/yado/init.sock") };
        let error = ExchangeError::Connect { peer, source: rustix::io::Errno::ACCESS.into() };
        let expected =
            "only root may ask init on /run/yado/init.sock: Permission denied (os error 13); run it as root";
        assert_eq!(error.to_string(), expected);
    }
}
