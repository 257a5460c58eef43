//! U-Boot's redundant environment as bytes: two copies, each of them a CRC-32 (little-endian) over the text alone, one byte that counts,
//! and `KEY=value` texts that are ended by a NUL each, and by an empty one. The good copy with the higher count is the newer; 0 follows
//! after 255. A change is written to the other copy, with the next count: so one of them is whole at any moment. Pure.
//!
//! Texts of others are kept byte for byte and in their order, also where they are no UTF-8.

use std::fmt;

const CRC_BYTES: usize = 4;
const HEADER_BYTES: usize = CRC_BYTES + 1;

/// The smallest that is taken for one, and the largest: what U-Boot's configurations have is from 4 KiB to 256 KiB.
pub const BYTES: std::ops::RangeInclusive<usize> = 64..=1 << 20;

/// The texts, in their order: what is before the first `=`, and what is after it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Texts(Vec<(Vec<u8>, Vec<u8>)>);

/// One of the two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// The one that is named first.
    First,
    /// The other one.
    Second,
}

/// What both copies say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which is the newer.
    pub newer: Copy,
    /// Its count.
    pub count: u8,
    /// Its texts.
    pub texts: Texts,
}

/// Why a copy is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyError {
    /// Torn, blank, of another size, or never one.
    Checksum {
        /// What it says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A text without `=`, or without a key.
    Text {
        /// Where it begins in the copy.
        offset: usize,
    },
    /// The last text is not followed by an empty one.
    Unended,
    /// It is shorter than any.
    TooShort,
}

impl Copy {
    /// The one that is written next.
    pub fn other(self) -> Copy {
        match self {
            Copy::First => Copy::Second,
            Copy::Second => Copy::First,
        }
    }
}

impl Texts {
    /// The value of this key. Of several the last, as U-Boot takes it.
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(other, _)| other == key.as_bytes()).map(|(_, value)| value.as_slice())
    }

    /// Sets the key, in its place if it has one; None takes it out.
    pub fn set(&mut self, key: &str, value: Option<&str>) {
        let place = self.0.iter().position(|(other, _)| other == key.as_bytes());
        let Some(value) = value else { return self.0.retain(|(other, _)| other != key.as_bytes()) };
        match place {
            Some(place) => {
                self.0[place].1 = value.as_bytes().to_vec();
                let mut index = 0;
                self.0.retain(|(other, _)| {
                    index += 1;
                    index - 1 <= place || other != key.as_bytes()
                });
            }
            None => self.0.push((key.as_bytes().to_vec(), value.as_bytes().to_vec())),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }
}

/// Reads both copies. Of two with the same count the first: U-Boot's own tools take that one.
///
/// # Errors
/// When neither is one.
pub fn parse(first: &[u8], second: &[u8]) -> Result<Found, [CopyError; 2]> {
    match (parse_copy(first), parse_copy(second)) {
        (Ok(first), Ok(second)) => {
            let is_second_newer = match (first.0, second.0) {
                (255, 0) => true,
                (0, 255) => false,
                (first, second) => first < second,
            };
            Ok(if is_second_newer { found(Copy::Second, second) } else { found(Copy::First, first) })
        }
        (Ok(first), Err(_)) => Ok(found(Copy::First, first)),
        (Err(_), Ok(second)) => Ok(found(Copy::Second, second)),
        (Err(first), Err(second)) => Err([first, second]),
    }
}

fn found(newer: Copy, (count, texts): (u8, Texts)) -> Found {
    Found { newer, count, texts }
}

/// The count and the texts of one copy.
///
/// # Errors
/// When it is none.
pub fn parse_copy(copy: &[u8]) -> Result<(u8, Texts), CopyError> {
    let (header, text) = copy.split_at_checked(HEADER_BYTES).ok_or(CopyError::TooShort)?;
    let stored = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let computed = crc32fast::hash(text);
    if stored != computed {
        return Err(CopyError::Checksum { stored, computed });
    }
    let mut texts = Texts::default();
    let mut rest = text;
    while let Some(length) = rest.iter().position(|byte| *byte == 0) {
        if length == 0 {
            return Ok((header[CRC_BYTES], texts));
        }
        let offset = copy.len() - rest.len();
        let split = rest[..length].iter().position(|byte| *byte == b'=').filter(|at| *at != 0);
        let at = split.ok_or(CopyError::Text { offset })?;
        texts.0.push((rest[..at].to_vec(), rest[at + 1..length].to_vec()));
        rest = &rest[length + 1..];
    }
    Err(CopyError::Unended)
}

/// A copy of so many bytes with this count, or the bytes that the texts would need.
///
/// # Errors
/// When they do not fit.
pub fn encode(texts: &Texts, count: u8, bytes: usize) -> Result<Vec<u8>, usize> {
    let mut copy = vec![0; HEADER_BYTES];
    for (key, value) in &texts.0 {
        copy.extend_from_slice(key);
        copy.push(b'=');
        copy.extend_from_slice(value);
        copy.push(0);
    }
    copy.push(0);
    if bytes < copy.len() {
        return Err(copy.len());
    }
    copy.resize(bytes, 0);
    copy[CRC_BYTES] = count;
    let checksum = crc32fast::hash(&copy[HEADER_BYTES..]);
    copy[..CRC_BYTES].copy_from_slice(&checksum.to_le_bytes());
    Ok(copy)
}

impl fmt::Display for CopyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyError::Checksum { stored, computed } => {
                write!(out, "checksum is {stored:08x}, the bytes give {computed:08x}")
            }
            CopyError::Text { offset } => write!(out, "text at byte {offset} is not KEY=value"),
            CopyError::Unended => out.write_str("the list of texts has no end"),
            CopyError::TooShort => out.write_str("it is too short"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> Texts {
        let mut texts = Texts::default();
        for (key, value) in pairs {
            texts.set(key, Some(value));
        }
        texts
    }

    #[test]
    fn the_bytes_are_those_of_mkenvimage() {
        // `printf 'BOOT_ORDER=A B\nBOOT_A_LEFT=3\n' | mkenvimage -r -s 0x1000 -p 0 -o - -`, u-boot-tools 2023.01.
        let copy = encode(&texts(&[("BOOT_ORDER", "A B"), ("BOOT_A_LEFT", "3")]), 1, 0x1000).unwrap();
        assert_eq!(copy[..5], MKENVIMAGE);
        assert_eq!(&copy[5..35], b"BOOT_ORDER=A B\0BOOT_A_LEFT=3\0\0");
    }

    const MKENVIMAGE: [u8; 5] = [0xbd, 0x38, 0x52, 0xb7, 1];

    #[test]
    fn the_higher_count_is_the_newer_and_0_follows_255() {
        let (old, new) = (texts(&[("a", "old")]), texts(&[("a", "new")]));
        for (lower, higher) in [(0, 1), (1, 2), (254, 255), (255, 0), (3, 200)] {
            let (older, newer) = (encode(&old, lower, 64).unwrap(), encode(&new, higher, 64).unwrap());
            assert_eq!(parse(&older, &newer).unwrap().newer, Copy::Second, "{lower} {higher}");
            assert_eq!(parse(&newer, &older).unwrap().newer, Copy::First, "{lower} {higher}");
        }
        let same = encode(&old, 7, 64).unwrap();
        assert_eq!(parse(&same, &encode(&new, 7, 64).unwrap()).unwrap().newer, Copy::First);
    }

    #[test]
    fn a_copy_that_is_torn_at_any_byte_leaves_the_other() {
        let old = encode(&texts(&[("a", "old"), ("b", "1")]), 9, 128).unwrap();
        let new = encode(&texts(&[("a", "a longer one"), ("c", "2")]), 10, 128).unwrap();
        for cut in 0..=new.len() {
            let torn = [&new[..cut], &old[cut..]].concat();
            let found = parse(&old, &torn).unwrap();
            let expected = if found.newer == Copy::First { &old } else { &new };
            assert_eq!(encode(&found.texts, found.count, 128).unwrap(), *expected, "cut at {cut}");
        }
    }

    #[test]
    fn texts_of_others_stay_byte_for_byte_and_in_order() {
        let raw = b"z=\xff\xfe\0BOOT_A_LEFT=3\0a=x=y\0empty=\0BOOT_A_LEFT=1\0\0";
        let mut copy = vec![0; 64];
        copy[HEADER_BYTES..HEADER_BYTES + raw.len()].copy_from_slice(raw);
        let checksum = crc32fast::hash(&copy[HEADER_BYTES..]).to_le_bytes();
        copy[..CRC_BYTES].copy_from_slice(&checksum);
        let (count, mut texts) = parse_copy(&copy).unwrap();
        assert_eq!((count, texts.value("BOOT_A_LEFT")), (0, Some(&b"1"[..])));
        assert_eq!(encode(&texts, 0, 64).unwrap(), copy);
        texts.set("BOOT_A_LEFT", Some("2"));
        texts.set("BOOT_TRIAL", Some("B"));
        let written = encode(&texts, 1, 64).unwrap();
        assert_eq!(&written[HEADER_BYTES..45], b"z=\xff\xfe\0BOOT_A_LEFT=2\0a=x=y\0empty=\0BOOT_TRI");
        texts.set("BOOT_TRIAL", None);
        assert_eq!(texts.value("BOOT_TRIAL"), None);
    }

    #[test]
    fn what_is_no_copy_is_refused() {
        assert_eq!(parse_copy(&[0; 4]), Err(CopyError::TooShort));
        assert!(matches!(parse_copy(&[0xff; 64]), Err(CopyError::Checksum { .. })));
        let copy_of = |text: &[u8]| {
            let mut copy = vec![0; HEADER_BYTES];
            copy.extend_from_slice(text);
            let checksum = crc32fast::hash(text).to_le_bytes();
            copy[..CRC_BYTES].copy_from_slice(&checksum);
            copy
        };
        assert_eq!(parse_copy(&copy_of(b"a=1\0b\0\0")), Err(CopyError::Text { offset: 9 }));
        assert_eq!(parse_copy(&copy_of(b"=1\0\0")), Err(CopyError::Text { offset: 5 }));
        assert_eq!(parse_copy(&copy_of(b"a=1")), Err(CopyError::Unended));
        assert_eq!(parse_copy(&copy_of(b"a=1\0")), Err(CopyError::Unended));
    }

    #[test]
    fn the_longest_texts_fit_and_one_byte_more_does_not() {
        // Header, "k=", the value, its NUL, and the NUL of the end.
        assert!(encode(&texts(&[("k", &"x".repeat(64 - 9))]), 0, 64).is_ok());
        assert_eq!(encode(&texts(&[("k", &"x".repeat(64 - 8))]), 0, 64), Err(65));
    }
}
