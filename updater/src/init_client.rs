//! What the updater asks of init: how the instances are, what the log says, and to start the machine again.

use crate::places::Places;
use std::fmt;
use std::io;
use std::time::Duration;
use yado_sys::packet;
use yado_wire::names::clipped;
use yado_wire::rescue::{Reply, Request};
use yado_wire::{Failure, MAX_FRAME_BYTES};

/// It never blocks, so a second is long; a board under load gets more.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An answer has a reply for each instance and service, and a log as many as a ring holds lines: more is no answer of init's.
const MAX_REPLIES: usize = 100_000;

/// Why init did not do what it was asked.
#[derive(Debug)]
pub(crate) enum AskError {
    /// Nobody listens, or the connection broke.
    Io(io::Error),
    /// It said nothing in time, or something that is no answer.
    NoAnswer,
    /// It understood and refused.
    Refused(Box<Failure>),
}

/// Starts the machine again in order, with an argument for the boot loader if it needs one. `why` is shown by the next start.
pub(crate) fn reboot(places: &Places, why: &str, argument: Option<&str>) -> Result<(), AskError> {
    let (by, reason) = (clipped("updater"), clipped(why));
    let request = match argument {
        Some(argument) => Request::RebootWith { by, reason, argument: clipped(argument) },
        None => Request::RebootFor { by, reason },
    };
    ask(places, &request, |_| {})
}

/// Asks, and gives each reply to `take`, until the exchange is over.
pub(crate) fn ask(places: &Places, request: &Request, mut take: impl FnMut(Reply)) -> Result<(), AskError> {
    let frame = yado_wire::encode(request).ok_or(AskError::NoAnswer)?;
    let socket = packet::connect_within(&places.run.join("init.sock"), TIMEOUT).map_err(AskError::Io)?;
    packet::set_timeout(&socket, TIMEOUT).map_err(AskError::Io)?;
    packet::send(&socket, &frame, &[]).map_err(AskError::Io)?.ok_or(AskError::NoAnswer)?;
    let mut buffer = vec![0; MAX_FRAME_BYTES];
    for _ in 0..MAX_REPLIES {
        let received = packet::recv(&socket, &mut buffer).map_err(AskError::Io)?.ok_or(AskError::NoAnswer)?;
        if received.is_end() {
            return Err(AskError::NoAnswer);
        }
        let bytes = buffer.get(..received.len).ok_or(AskError::NoAnswer)?;
        match yado_wire::decode(bytes).map_err(|_| AskError::NoAnswer)? {
            Reply::Done => return Ok(()),
            Reply::Refused(failure) => return Err(AskError::Refused(Box::new(failure))),
            reply => take(reply),
        }
    }
    Err(AskError::NoAnswer)
}

impl fmt::Display for AskError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::Io(source) => write!(out, "ask init: {source}"),
            AskError::NoAnswer => out.write_str("ask init: it does not answer"),
            AskError::Refused(failure) => write!(out, "init refuses: {failure}"),
        }
    }
}

impl std::error::Error for AskError {}
