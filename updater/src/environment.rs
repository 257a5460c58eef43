//! U-Boot's environment format in one fixed block: CRC-32 (little-endian) of what follows it, then `KEY=value` texts, each
//! ended by a NUL, then NULs to the end. What `env export -c -s 0x1000` writes and `env import -c` accepts.

use std::fmt;

/// One copy: the size both the boot script and we write.
pub const COPY_BYTES: usize = 4096;
/// What of it is text.
pub const TEXT_BYTES: usize = COPY_BYTES - CRC_BYTES;
const CRC_BYTES: usize = 4;

/// Why a block is not an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyError {
    /// Torn, blank, or never one.
    Checksum {
        /// What it says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// An entry without `=`, without a key, or that is no UTF-8.
    Entry {
        /// Where it starts in the block.
        offset: usize,
    },
    /// The same key twice.
    Twice {
        /// Where the second one starts in the block.
        offset: usize,
    },
    /// The last entry is not followed by an empty one.
    Unended,
}

/// The pairs of a block, in its order.
pub fn parse(copy: &[u8; COPY_BYTES]) -> Result<Vec<(String, String)>, CopyError> {
    let (crc, text) = copy.split_at(CRC_BYTES);
    let stored = u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]]);
    let computed = crc32fast::hash(text);
    if stored != computed {
        return Err(CopyError::Checksum { stored, computed });
    }
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut rest = text;
    while let Some(length) = rest.iter().position(|byte| *byte == 0) {
        if length == 0 {
            return Ok(pairs);
        }
        let offset = COPY_BYTES - rest.len();
        let (key, value) = parse_entry(&rest[..length]).ok_or(CopyError::Entry { offset })?;
        if pairs.iter().any(|(other, _)| other == key) {
            return Err(CopyError::Twice { offset });
        }
        pairs.push((key.to_owned(), value.to_owned()));
        rest = &rest[length + 1..];
    }
    Err(CopyError::Unended)
}

/// The block that holds `pairs`, or the bytes it would need when they are too many. The keys and values hold no NUL: they
/// come from [`parse`] or are ours.
pub fn encode(pairs: &[(String, String)]) -> Result<[u8; COPY_BYTES], usize> {
    let mut text = Vec::with_capacity(TEXT_BYTES);
    for (key, value) in pairs {
        text.extend_from_slice(key.as_bytes());
        text.push(b'=');
        text.extend_from_slice(value.as_bytes());
        text.push(0);
    }
    // The empty entry that ends the list.
    text.push(0);
    if TEXT_BYTES < text.len() {
        return Err(text.len());
    }
    text.resize(TEXT_BYTES, 0);
    let mut copy = [0; COPY_BYTES];
    copy[..CRC_BYTES].copy_from_slice(&crc32fast::hash(&text).to_le_bytes());
    copy[CRC_BYTES..].copy_from_slice(&text);
    Ok(copy)
}

fn parse_entry(entry: &[u8]) -> Option<(&str, &str)> {
    let (key, value) = std::str::from_utf8(entry).ok()?.split_once('=')?;
    (!key.is_empty()).then_some((key, value))
}

impl fmt::Display for CopyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyError::Checksum { stored, computed } => {
                write!(out, "checksum is {stored:08x}, the bytes give {computed:08x}")
            }
            CopyError::Entry { offset } => write!(out, "entry at byte {offset} is not KEY=value"),
            CopyError::Twice { offset } => write!(out, "entry at byte {offset} repeats a key"),
            CopyError::Unended => out.write_str("the list of entries has no end"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    fn block(text: &[u8]) -> [u8; COPY_BYTES] {
        let mut copy = [0; COPY_BYTES];
        copy[CRC_BYTES..CRC_BYTES + text.len()].copy_from_slice(text);
        let crc = crc32fast::hash(&copy[CRC_BYTES..]);
        copy[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
        copy
    }

    #[test]
    fn the_bytes_are_those_of_mkenvimage() {
        // `printf 'BOOT_ORDER=A B\nBOOT_A_LEFT=3\n' | mkenvimage -s 0x1000 -p 0 -o - -`, u-boot-tools 2023.01.
        let copy = encode(&[pair("BOOT_ORDER", "A B"), pair("BOOT_A_LEFT", "3")]).unwrap();
        assert_eq!(&copy[4..34], b"BOOT_ORDER=A B\0BOOT_A_LEFT=3\0\0");
        assert_eq!(copy[..4], [0x84, 0x72, 0x65, 0x67]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let pairs = [pair("A", "1"), pair("b.c", ""), pair("d", "x=y z")];
        assert_eq!(parse(&encode(&pairs).unwrap()).unwrap(), pairs);
        assert_eq!(parse(&encode(&[]).unwrap()).unwrap(), []);
    }

    #[test]
    fn a_block_of_another_kind_is_refused() {
        let zeroes = [0; COPY_BYTES];
        assert!(matches!(parse(&zeroes), Err(CopyError::Checksum { stored: 0, .. })));
        assert!(matches!(parse(&[0xff; COPY_BYTES]), Err(CopyError::Checksum { .. })));
        assert_eq!(parse(&block(b"A=1\0B\0")), Err(CopyError::Entry { offset: 8 }));
        assert_eq!(parse(&block(b"=1\0")), Err(CopyError::Entry { offset: 4 }));
        assert_eq!(parse(&block(b"A=\xff\0")), Err(CopyError::Entry { offset: 4 }));
        assert_eq!(parse(&block(b"A=1\0B=1\0A=2\0")), Err(CopyError::Twice { offset: 12 }));
        assert_eq!(parse(&block(&[b'x'; TEXT_BYTES])), Err(CopyError::Unended));
    }

    #[test]
    fn the_longest_text_fits_and_one_byte_more_does_not() {
        // "k=", the value, its NUL and the list's NUL.
        assert!(encode(&[pair("k", &"x".repeat(TEXT_BYTES - 4))]).is_ok());
        assert_eq!(encode(&[pair("k", &"x".repeat(TEXT_BYTES - 3))]), Err(TEXT_BYTES + 1));
    }
}
