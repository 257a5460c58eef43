//! What the updater and its processes that fetch, that read sticks and that write boot files say to each other, over a stream socket:
//! a byte for the kind, four for the length, and that many bytes. All are one program of one version; the updater does not trust what
//! comes from there all the same.

use crate::source::fetch_process::Limits;
use crate::source::{FileName, SourceError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Read, Write};

/// The most bytes of a file in one message.
pub(crate) const MAX_DATA_BYTES: usize = 32 << 10;
/// Of all others; the longest is the set-up, with the certificates of all authorities.
pub(crate) const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// What an answer beside data may have: the updater reads no longer one.
pub(crate) const MAX_ANSWER_BYTES: usize = 4096;

/// The first message: all that it needs to know, so that it opens no file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The folder of the release.
    pub(crate) url: String,
    /// `http://[USER:PASSWORD@]HOST:PORT`
    pub(crate) proxy: Option<String>,
    /// Certificates of authorities, as PEM. Empty: no TLS.
    pub(crate) authorities: Vec<u8>,
    /// Our certificate and its key, as PEM.
    pub(crate) identity: Option<Vec<u8>>,
    /// It is later than this, in seconds since 1970, whatever the clock says.
    pub(crate) not_before_seconds: u64,
    /// What bounds a fetch.
    pub(crate) limits: Limits,
    /// Any number, another one on each board.
    pub(crate) chance: u64,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Whether the source gives parts of this file, and how long it is.
    Look { file: FileName },
    /// These bytes of this file: data, and then an answer.
    Read { file: FileName, start: u64, end: u64 },
}

/// What is answered, after the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// All of it was sent.
    Done,
    /// To [`Ask::Look`].
    Seen { gives_ranges: bool, bytes: Option<u64> },
    /// Not all of it was sent.
    Failed(Failure),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// There is no such file.
    Missing,
    /// The file ends before.
    Short { bytes: u64 },
    /// Anything else, in words.
    Broken { reason: String },
}

/// Why no answer came.
#[derive(Debug)]
pub(crate) enum AnswerError {
    /// The other has ended, or the time for it is over.
    Link(io::Error),
    /// What came is no message of ours.
    NotOurs,
    /// More bytes of the file than were asked for.
    TooMuch,
    /// Whoever takes the bytes has stopped it; more of them may be under way.
    Stopped(io::Error),
}

/// What is in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes of the file.
    Data,
    /// One of the above.
    Message,
}

/// Length of what stands before each.
pub(crate) const HEAD_BYTES: usize = 5;

/// What stands before a message of this length.
pub(crate) fn head(kind: Kind, bytes: usize) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = (bytes as u32).to_le_bytes();
    let kind = match kind {
        Kind::Data => 0,
        Kind::Message => 1,
    };
    [kind, a, b, c, d]
}

/// Kind and length of what follows; `None` if it is neither, or longer than it may be.
pub(crate) fn parse_head(head: [u8; HEAD_BYTES], max_message_bytes: usize) -> Option<(Kind, usize)> {
    let [kind, a, b, c, d] = head;
    let bytes = u32::from_le_bytes([a, b, c, d]) as usize;
    match kind {
        0 if (1..=MAX_DATA_BYTES).contains(&bytes) => Some((Kind::Data, bytes)),
        1 if bytes <= max_message_bytes => Some((Kind::Message, bytes)),
        _ => None,
    }
}

/// Reads the next one. `None`: no message of ours.
pub(crate) fn read(link: &mut impl Read, max_message_bytes: usize) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut head = [0; HEAD_BYTES];
    link.read_exact(&mut head)?;
    let Some((kind, bytes)) = parse_head(head, max_message_bytes) else { return Ok(None) };
    let mut body = vec![0; bytes];
    link.read_exact(&mut body)?;
    Ok(Some((kind, body)))
}

/// Gives the data that comes to `take`, never more than `left_bytes`, until an answer comes.
pub(crate) fn read_answer<M: DeserializeOwned>(
    link: &mut impl Read,
    left_bytes: &mut u64,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<M, AnswerError> {
    loop {
        let message = read(link, MAX_ANSWER_BYTES).map_err(AnswerError::Link)?;
        match message.ok_or(AnswerError::NotOurs)? {
            (Kind::Data, bytes) => {
                *left_bytes = left_bytes.checked_sub(bytes.len() as u64).ok_or(AnswerError::TooMuch)?;
                take(&bytes).map_err(AnswerError::Stopped)?;
            }
            (Kind::Message, body) => return decode(&body).ok_or(AnswerError::NotOurs),
        }
    }
}

/// The same, for who asks again afterwards: what is under way is read to its end, also if the taker stopped it by this error.
pub(crate) fn read_whole_answer<M: DeserializeOwned>(
    link: &mut impl Read,
    left_bytes: &mut u64,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(M, Option<io::Error>), AnswerError> {
    let mut stopped = None;
    let mut take_or_pass = |bytes: &[u8]| {
        if stopped.is_none() {
            stopped = take(bytes).err();
        }
        Ok(())
    };
    let answer = read_answer(link, left_bytes, &mut take_or_pass)?;
    Ok((answer, stopped))
}

/// What whoever serves is told next. `None`: the other has hung up.
pub(crate) fn receive<M: DeserializeOwned>(link: &mut impl Read, max_message_bytes: usize) -> io::Result<Option<M>> {
    match read(link, max_message_bytes) {
        Ok(Some((Kind::Message, body))) => decode(&body).map(Some).ok_or_else(no_message),
        Ok(Some((Kind::Data, _)) | None) => Err(no_message()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn send(link: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    link.write_all(&encode(message).ok_or_else(no_message)?)
}

/// Bytes of a file.
pub(crate) fn send_data(link: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(MAX_DATA_BYTES) {
        link.write_all(&head(Kind::Data, piece.len()))?;
        link.write_all(piece)?;
    }
    Ok(())
}

pub(crate) fn no_message() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no message of ours")
}

/// A message with its head.
pub(crate) fn encode(message: &impl Serialize) -> Option<Vec<u8>> {
    let body = postcard::to_allocvec(message).ok().filter(|body| body.len() <= MAX_MESSAGE_BYTES)?;
    Some([&head(Kind::Message, body.len())[..], &body].concat())
}

/// The message of this body, which has no other bytes.
pub(crate) fn decode<M: DeserializeOwned>(body: &[u8]) -> Option<M> {
    postcard::take_from_bytes(body).ok().filter(|(_, rest)| rest.is_empty()).map(|(message, _)| message)
}

impl Failure {
    /// As whoever asked for the file has it. The reason is shown to people, and what a server says may be in it.
    pub(crate) fn about(self, file: FileName) -> SourceError {
        match self {
            Failure::Missing => SourceError::Missing { file },
            Failure::Short { bytes } => SourceError::Short { file, bytes },
            Failure::Broken { reason } => SourceError::Broken { file, reason: clipped(&reason) },
        }
    }
}

impl fmt::Display for AnswerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnswerError::Link(error) if is_timeout(error) => out.write_str("it does not answer"),
            AnswerError::Link(error) | AnswerError::Stopped(error) => error.fmt(out),
            AnswerError::NotOurs => out.write_str("its answer is none"),
            AnswerError::TooMuch => out.write_str("it gives more than was asked for"),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A text that an answer has room for.
pub(crate) fn clipped(text: &str) -> String {
    text.chars().take(MAX_ANSWER_BYTES / 8).map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn answers_of_any_bytes_are_refused_or_short() {
        let failure = Failure::Broken { reason: "no".to_owned() };
        let seeds = [Reply::Done, Reply::Seen { gives_ranges: true, bytes: Some(9) }, Reply::Failed(failure)];
        let seeds = seeds.map(|reply| encode(&reply).unwrap());
        crate::fuzzing::fuzz("answer of the process that fetches", &seeds, &[], |bytes| {
            let Some((first, rest)) = bytes.split_first_chunk() else { return };
            let Some((kind, length)) = parse_head(*first, MAX_ANSWER_BYTES) else { return };
            assert!(length <= MAX_DATA_BYTES.max(MAX_ANSWER_BYTES));
            let Some(body) = rest.get(..length).filter(|_| kind == Kind::Message) else { return };
            if let Some(reply) = decode::<Reply>(body) {
                assert!(format!("{reply:?}").len() < 8 * MAX_ANSWER_BYTES);
            }
        });
        assert!(clipped(&"\u{1f600}\u{1b}".repeat(9999)).len() < MAX_ANSWER_BYTES);
    }
}
