//! Digests as hexadecimal text, both ways: fingerprints and root hashes are shown, named and typed in this form.

/// The bytes as lower case hexadecimal digits.
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|nibble| DIGITS[usize::from(nibble)] as char).collect()
}

/// Exactly 64 hexadecimal digits, of either case, as a digest; else `None`.
pub fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
    }
    Some(digest)
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_the_way_through_text_and_anything_else_is_refused() {
        let digest: [u8; 32] = core::array::from_fn(|index| (index * 9) as u8);
        assert_eq!(parse_digest(&encode(&digest)), Some(digest));
        assert_eq!(parse_digest(&encode(&digest).to_uppercase()), Some(digest));
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65), &"é".repeat(32)] {
            assert_eq!(parse_digest(bad), None, "{bad}");
        }
    }
}
