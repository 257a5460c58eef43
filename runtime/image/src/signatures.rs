//! The signature area: 64 places of 128 bytes, filled from the first, the rest zero. Its length never changes, so a
//! signature can be added later without touching the header and hence the fingerprint.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | algorithm, little-endian: 0 empty place, 1 ed25519 |
//! | 4 | 28 | zero |
//! | 32 | 32 | key id: SHA-256 of the public key |
//! | 64 | 64 | the signature over the header block |

use crate::trust::KeyId;
use core::fmt;

/// How many signatures an image can carry.
pub const MAX_SIGNATURES: usize = 64;

/// Length of the area.
pub const AREA_BYTES: u64 = (MAX_SIGNATURES * PLACE_BYTES) as u64;

/// One signature and whose it says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The key that made it.
    pub key: KeyId,
    /// Its 64 bytes.
    pub bytes: [u8; 64],
}

/// Reads the area.
pub fn parse(area: &[u8; AREA_BYTES as usize]) -> Result<Vec<Signature>, SignaturesError> {
    let mut signatures = Vec::new();
    for (index, place) in area.chunks_exact(PLACE_BYTES).enumerate() {
        match place[..4] {
            [0, 0, 0, 0] => {
                let rest = &area[index * PLACE_BYTES..];
                let clean = rest.iter().all(|&byte| byte == 0);
                return if clean { Ok(signatures) } else { Err(SignaturesError::NotZero { place: index }) };
            }
            [ED25519, 0, 0, 0] => {
                if place[4..32].iter().any(|&byte| byte != 0) {
                    return Err(SignaturesError::NotZero { place: index });
                }
                signatures.push(Signature {
                    key: KeyId(core::array::from_fn(|at| place[32 + at])),
                    bytes: core::array::from_fn(|at| place[64 + at]),
                });
            }
            _ => return Err(SignaturesError::UnknownAlgorithm { place: index }),
        }
    }
    Ok(signatures)
}

/// The area that holds these signatures; `None` if they are more than it has places for.
pub fn encode(signatures: &[Signature]) -> Option<Box<[u8; AREA_BYTES as usize]>> {
    if MAX_SIGNATURES < signatures.len() {
        return None;
    }
    let mut area = Box::new([0; AREA_BYTES as usize]);
    for (place, Signature { key, bytes }) in area.chunks_exact_mut(PLACE_BYTES).zip(signatures) {
        place[0] = ED25519;
        place[32..64].copy_from_slice(&key.0);
        place[64..].copy_from_slice(bytes);
    }
    Some(area)
}

/// Where in the area the signature of this number stands, counted from 0.
pub fn place_of(index: usize) -> core::ops::Range<usize> {
    index * PLACE_BYTES..(index + 1) * PLACE_BYTES
}

/// Why the area cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignaturesError {
    /// A place holds a kind of signature that this version does not know.
    UnknownAlgorithm {
        /// Counted from 0.
        place: usize,
    },
    /// Bytes that must be zero are not.
    NotZero {
        /// Counted from 0.
        place: usize,
    },
}

impl fmt::Display for SignaturesError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignaturesError::UnknownAlgorithm { place } => write!(out, "signature {place}: unknown algorithm"),
            SignaturesError::NotZero { place } => write!(out, "signature {place}: stray bytes"),
        }
    }
}

impl std::error::Error for SignaturesError {}

const PLACE_BYTES: usize = 128;
const ED25519: u8 = 1;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn signatures(count: usize) -> Vec<Signature> {
        (0..count).map(|index| Signature { key: KeyId([index as u8; 32]), bytes: [0x55; 64] }).collect()
    }

    #[test]
    fn any_number_up_to_the_limit_survives_the_way_through_bytes() {
        for count in [0, 1, 2, 63, 64] {
            assert_eq!(parse(&encode(&signatures(count)).unwrap()).unwrap(), signatures(count));
        }
        assert_eq!(encode(&signatures(65)), None);
    }

    #[test]
    fn version_1_bytes_are_frozen() {
        let area = encode(&[Signature { key: KeyId([0xaa; 32]), bytes: [0xbb; 64] }]).unwrap();
        assert_eq!(area[..32], [[1].as_slice(), &[0; 31]].concat());
        assert_eq!(area[32..64], [0xaa; 32]);
        assert_eq!(area[64..128], [0xbb; 64]);
        assert!(area[128..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn stray_bytes_and_unknown_algorithms_are_refused() {
        let refusals = [
            (0, 2, SignaturesError::UnknownAlgorithm { place: 0 }),
            (1, 1, SignaturesError::UnknownAlgorithm { place: 0 }),
            (4, 1, SignaturesError::NotZero { place: 0 }),
            (31, 1, SignaturesError::NotZero { place: 0 }),
            (128, 7, SignaturesError::UnknownAlgorithm { place: 1 }),
            (132, 1, SignaturesError::NotZero { place: 1 }),
            (256, 1, SignaturesError::NotZero { place: 1 }),
            (8191, 1, SignaturesError::NotZero { place: 1 }),
        ];
        for (offset, byte, refusal) in refusals {
            let mut area = encode(&signatures(1)).unwrap();
            area[offset] = byte;
            assert_eq!(parse(&area), Err(refusal), "{byte} at {offset}");
        }
    }
}
