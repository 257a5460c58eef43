//! Numbers of bytes: LXD's units, and the limits of memory and swap.

use super::{Expected, expected, parse_bool};

/// LXD's units: `kB` … `EB` count by 1000, `KiB` … `EiB` by 1024.
const UNITS: &[(&str, u64)] = &[
    ("B", 1),
    (" bytes", 1),
    ("kB", 1000),
    ("MB", 1000_u64.pow(2)),
    ("GB", 1000_u64.pow(3)),
    ("TB", 1000_u64.pow(4)),
    ("PB", 1000_u64.pow(5)),
    ("EB", 1000_u64.pow(6)),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
    ("EiB", 1 << 60),
];

/// A number of bytes with or without a unit.
pub fn parse_size(text: &str) -> Result<u64, Expected> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => Some(*factor),
        None if unit.is_empty() => Some(1),
        None => None,
    };
    let bytes = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    bytes.map_or_else(|| wrong_size(number, unit.trim()), Ok)
}

/// `32M` is the common slip: name both things it could mean.
fn wrong_size(number: &str, unit: &str) -> Result<u64, Expected> {
    let letter = unit.get(..1).map(str::to_ascii_uppercase).unwrap_or_default();
    if number.is_empty() || number.len() > 18 || letter.is_empty() || !"KMGT".contains(&letter) {
        return expected("a whole number with a unit, such as 64MiB or 64MB");
    }
    let decimal = if letter == "K" { "k" } else { &letter };
    expected(format!("a whole number with a unit: {number}{letter}iB (by 1024) or {number}{decimal}B (by 1000)"))
}

/// As [`parse_size`] reads it, in the unit with the smallest whole number.
pub fn show_size(bytes: u64) -> String {
    let whole = UNITS.iter().filter(|(name, factor)| bytes.checked_rem(*factor) == Some(0) && !name.starts_with(' '));
    match whole.max_by_key(|(_, factor)| *factor).filter(|(_, factor)| bytes != 0 && *factor != 1) {
        Some((name, factor)) => format!("{}{name}", bytes.checked_div(*factor).unwrap_or(bytes)),
        None => bytes.to_string(),
    }
}

/// Bytes, or percent of the machine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Bytes.
    Bytes(u64),
    /// 1 to 100.
    Percent(u8),
}

/// Less than this is a forgotten unit: no program starts in it.
pub const MIN_MEMORY_BYTES: u64 = 1 << 20;

/// `limits.memory`.
pub fn parse_memory(text: &str) -> Result<Memory, Expected> {
    if let Some(percent) = text.strip_suffix('%') {
        return match percent.parse() {
            Ok(percent @ 1..=100) => Ok(Memory::Percent(percent)),
            Ok(_) | Err(_) => expected("1% to 100% of the machine's memory"),
        };
    }
    match parse_size(text)? {
        bytes if bytes < MIN_MEMORY_BYTES => expected("at least 1MiB; was the unit forgotten?"),
        bytes => Ok(Memory::Bytes(bytes)),
    }
}

/// As [`parse_memory`] reads it.
pub fn show_memory(memory: Memory) -> String {
    match memory {
        Memory::Bytes(bytes) => show_size(bytes),
        Memory::Percent(percent) => format!("{percent}%"),
    }
}

/// `limits.memory.swap`: `None` is no limit.
pub fn parse_swap(text: &str) -> Result<Option<u64>, Expected> {
    match parse_bool(text) {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some(0)),
        Err(_) => match parse_size(text) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(_) => expected("true, false, or a size such as 64MiB"),
        },
    }
}

/// As [`parse_swap`] reads it.
pub fn show_swap(swap_bytes: Option<u64>) -> String {
    match swap_bytes {
        None => "true".to_owned(),
        Some(0) => "false".to_owned(),
        Some(bytes) => show_size(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use super::*;

    #[test]
    fn sizes_by_1000_and_by_1024() {
        let unit = "a whole number with a unit, such as 64MiB or 64MB";
        check(
            parse_size,
            &[
                ("0", "0"),
                ("512", "512"),
                ("512B", "512"),
                ("512 bytes", "512"),
                ("64kB", "64000"),
                ("64KiB", "65536"),
                ("64MB", "64000000"),
                ("64MiB", "67108864"),
                ("2GB", "2000000000"),
                ("2GiB", "2147483648"),
                ("3TB", "3000000000000"),
                ("1EiB", "1152921504606846976"),
                ("16EiB", unit),
                ("64M", "a whole number with a unit: 64MiB (by 1024) or 64MB (by 1000)"),
                ("64mb", "a whole number with a unit: 64MiB (by 1024) or 64MB (by 1000)"),
                ("64k", "a whole number with a unit: 64KiB (by 1024) or 64kB (by 1000)"),
                ("1.5GiB", unit),
                ("-1MiB", unit),
                ("+1MiB", unit),
                ("", unit),
                ("MiB", unit),
                ("64 MiB", "a whole number with a unit: 64MiB (by 1024)"),
                ("99999999999999999999", unit),
            ],
        );
    }

    #[test]
    fn sizes_are_shown_in_the_unit_with_the_smallest_whole_number() {
        for text in ["0", "1", "1023", "1KiB", "64kB", "64MiB", "64MB", "1500MB", "3TB", "1EiB", "18EB"] {
            assert_eq!(parse_size(text).map(show_size), Ok(text.to_owned()));
        }
        assert_eq!(show_size(u64::MAX), u64::MAX.to_string());
        assert_eq!(parse_size("1024MiB").map(show_size), Ok("1GiB".to_owned()));
    }

    #[test]
    fn memory_in_bytes_or_percent_and_never_in_a_handful_of_bytes() {
        check(
            parse_memory,
            &[
                ("64MiB", "Bytes(67108864)"),
                ("25%", "Percent(25)"),
                ("100%", "Percent(100)"),
                ("0%", "1% to 100%"),
                ("101%", "1% to 100%"),
                ("%", "1% to 100%"),
                ("64", "at least 1MiB; was the unit forgotten?"),
                ("0", "at least 1MiB"),
                ("1MiB", "Bytes(1048576)"),
            ],
        );
        check(
            parse_swap,
            &[
                ("true", "None"),
                ("false", "Some(0)"),
                ("32MiB", "Some(33554432)"),
                ("some", "true, false, or a size"),
            ],
        );
    }
}
