//! The signature area: 64 places of 128 bytes, filled from the first, the rest zero. Its length never changes, so a
//! signature can be added later without touching the header and hence the fingerprint.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | algorithm, little-endian: 0 empty place, 1 ed25519 |
//! | 4 | 28 | zero |
//! | 32 | 32 | key id: SHA-256 of the public key |
//! | 64 | 64 | the signature over the header block |
//!
//! A place with another algorithm's number is passed over: so images can carry signatures of a new one beside those that
//! older devices know. What stands behind the number is that algorithm's own; one that needs more than a place takes
//! several, each with its number. A signature that is passed over counts for nothing.

use crate::trust::KeyId;
use core::fmt;

/// How many signatures an image can carry: the area is two blocks.
pub const MAX_SIGNATURES: usize = 64;

/// Length of a place: algorithm, zeros, key id and signature, as in the table above.
pub const PLACE_BYTES: usize = 128;

/// Length of the area.
pub const AREA_BYTES: u64 = (MAX_SIGNATURES * PLACE_BYTES) as u64;

/// One signature and whose it says it is; neither is believed before it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The key that made it.
    pub key: KeyId,
    /// Its 64 bytes.
    pub bytes: [u8; 64],
}

/// What stands in the area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signatures {
    /// Those of the algorithms that this version knows, in their order.
    pub known: Vec<Signature>,
    /// How many places are taken, also by algorithms that it does not know; the next signature goes behind them.
    pub taken_places: usize,
}

/// Reads the area.
pub fn parse(area: &[u8; AREA_BYTES as usize]) -> Result<Signatures, SignaturesError> {
    let mut known = Vec::new();
    for (index, place) in area.chunks_exact(PLACE_BYTES).enumerate() {
        let Some(place) = place.first_chunk::<PLACE_BYTES>() else { continue };
        match place[..4] {
            [0, 0, 0, 0] => {
                let mut rest = area.chunks_exact(PLACE_BYTES).skip(index).flatten();
                let clean = rest.all(|&byte| byte == 0);
                return if clean {
                    Ok(Signatures { known, taken_places: index })
                } else {
                    Err(SignaturesError::NotZero { place: index })
                };
            }
            [ED25519, 0, 0, 0] => {
                if place[4..32].iter().any(|&byte| byte != 0) {
                    return Err(SignaturesError::NotZero { place: index });
                }
                let (mut key, mut bytes) = ([0; 32], [0; 64]);
                key.copy_from_slice(&place[32..64]);
                bytes.copy_from_slice(&place[64..]);
                known.push(Signature { key: KeyId(key), bytes });
            }
            _ => {}
        }
    }
    Ok(Signatures { known, taken_places: MAX_SIGNATURES })
}

/// The bytes of the place that holds this signature.
pub fn encode_place(Signature { key, bytes }: &Signature) -> [u8; PLACE_BYTES] {
    let mut place = [0; PLACE_BYTES];
    place[0] = ED25519;
    place[32..64].copy_from_slice(&key.0);
    place[64..].copy_from_slice(bytes);
    place
}

/// The area that holds these signatures; `None` if they are more than it has places for.
pub fn encode(signatures: &[Signature]) -> Option<Box<[u8; AREA_BYTES as usize]>> {
    if MAX_SIGNATURES < signatures.len() {
        return None;
    }
    let mut area = Box::new([0; AREA_BYTES as usize]);
    for (place, signature) in area.chunks_exact_mut(PLACE_BYTES).zip(signatures) {
        place.copy_from_slice(&encode_place(signature));
    }
    Some(area)
}

/// Where in the area the signature of this number stands, counted from 0.
pub fn place_of(index: usize) -> core::ops::Range<usize> {
    let start = index.saturating_mul(PLACE_BYTES);
    start..start.saturating_add(PLACE_BYTES)
}

/// Why the area cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignaturesError {
    /// Bytes that must be zero are not.
    NotZero {
        /// Counted from 0.
        place: usize,
    },
}

impl fmt::Display for SignaturesError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignaturesError::NotZero { place } => write!(out, "signature {place}: stray bytes"),
        }
    }
}

impl std::error::Error for SignaturesError {}

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
            let parsed = Signatures { known: signatures(count), taken_places: count };
            assert_eq!(parse(&encode(&signatures(count)).unwrap()), Ok(parsed));
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
    fn a_signature_of_an_unknown_algorithm_is_passed_over_and_keeps_its_place() {
        let mut area = encode(&signatures(3)).unwrap();
        let (at, end) = (place_of(1).start, place_of(1).end);
        area[at] = 2;
        area[at + 4..end].fill(0x99);
        let [first, _, third] = signatures(3).try_into().unwrap();
        assert_eq!(parse(&area), Ok(Signatures { known: vec![first, third], taken_places: 3 }));
        for (offset, byte) in [(0, 2), (1, 1), (3, 0x80)] {
            let mut area = encode(&signatures(1)).unwrap();
            area[offset] = byte;
            assert_eq!(parse(&area), Ok(Signatures { known: Vec::new(), taken_places: 1 }), "{byte} at {offset}");
        }
    }

    #[test]
    fn stray_bytes_are_refused() {
        let refusals = [
            (4, 1, SignaturesError::NotZero { place: 0 }),
            (31, 1, SignaturesError::NotZero { place: 0 }),
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
