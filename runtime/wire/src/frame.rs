//! One message as one packet: a version byte, then the postcard body.
//!
//! Kinds are appended and never reordered, so the version only rises when a peer of an older release must not guess.

use serde::{Serialize, de::DeserializeOwned};

/// Version of every frame: the first byte of each packet.
pub const VERSION: u8 = 1;

/// The longest packet we send or accept. A status line, a log record and an exec request with all its arguments fit;
/// anything larger travels as a descriptor.
pub const MAX_FRAME_BYTES: usize = 16 * 1024;

/// Why a packet is not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// A packet without even a version byte.
    Empty,
    /// The peer is of another release.
    Version {
        /// What the first byte said.
        found: u8,
    },
    /// The body is not a message of this kind, is cut off, breaks a bound, or is followed by more bytes.
    Body,
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            DecodeError::Empty => out.write_str("message: empty packet"),
            DecodeError::Version { found } => write!(out, "message: version {found}, this program speaks {VERSION}"),
            DecodeError::Body => out.write_str("message: malformed body"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Writes `message` as one packet. `None` when it would be longer than [`MAX_FRAME_BYTES`], which the bounds of the
/// message types rule out for all messages of this crate (a test holds them to it).
pub fn encode<M: Serialize>(message: &M) -> Option<Vec<u8>> {
    let frame = postcard::to_extend(message, vec![VERSION]).ok()?;
    (frame.len() <= MAX_FRAME_BYTES).then_some(frame)
}

/// Reads one packet. Trailing bytes are an error: a longer message of a newer release is not half understood.
pub fn decode<M: DeserializeOwned>(packet: &[u8]) -> Result<M, DecodeError> {
    let (&version, body) = packet.split_first().ok_or(DecodeError::Empty)?;
    if version != VERSION {
        return Err(DecodeError::Version { found: version });
    }
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok((_, _)) | Err(_) => Err(DecodeError::Body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_is_not_one_of_ours_is_refused() {
        assert_eq!(decode::<u32>(&[]), Err(DecodeError::Empty));
        assert_eq!(decode::<u32>(&[9, 1]), Err(DecodeError::Version { found: 9 }));
        assert_eq!(decode::<u32>(&[VERSION]), Err(DecodeError::Body));
        assert_eq!(decode::<u32>(&[VERSION, 1, 1]), Err(DecodeError::Body), "trailing bytes");
        assert_eq!(decode::<u32>(&[VERSION, 1]), Ok(1));
    }

    #[test]
    fn a_message_over_the_limit_is_not_written() {
        assert_eq!(encode(&vec![0u8; MAX_FRAME_BYTES]), None);
        assert!(encode(&vec![0u8; MAX_FRAME_BYTES - 8]).is_some());
    }
}
