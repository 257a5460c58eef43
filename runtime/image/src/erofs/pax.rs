//! The records of a pax header: `LENGTH KEY=VALUE\n`, where the value is any bytes, newlines too (file capabilities
//! have them), so that only the length says where a record ends.

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'bytes> {
    /// Its name.
    pub key: &'bytes [u8],
    /// What it says.
    pub value: &'bytes [u8],
}

/// All records, or `None` if the bytes are not a sequence of them.
pub fn parse_pax(mut bytes: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().take(MAX_LENGTH_DIGITS + 1).position(|&byte| byte == b' ')?;
        let length = parse_length(&bytes[..space])?;
        let (record, rest) = bytes.split_at_checked(length)?;
        let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
        let equals = body.iter().position(|&byte| byte == b'=')?;
        records.push(Record { key: &body[..equals], value: &body[equals + 1..] });
        bytes = rest;
    }
    Some(records)
}

/// More digits than any header that fits into memory needs.
const MAX_LENGTH_DIGITS: usize = 9;

fn parse_length(digits: &[u8]) -> Option<usize> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| digits.iter().fold(0, |length, digit| length * 10 + usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_any_bytes() {
        let records = parse_pax(b"12 path=a/b\n15 x=1\n2\n\0=4 5\n").map(|records| records.len());
        assert_eq!(records, Some(2));
        assert_eq!(
            parse_pax(b"17 SCHILY.x=\n\n\n\xff\n"),
            Some(vec![Record { key: b"SCHILY.x", value: b"\n\n\n\xff" }])
        );
        assert_eq!(parse_pax(b""), Some(vec![]));
    }

    #[test]
    fn what_is_no_sequence_of_records_is_refused() {
        let bad: [&[u8]; 9] = [
            b"\0",
            b"12 path=a/b",
            b"11 path=a/b\n",
            b"13 path=a/b\n",
            b" path=a\n",
            b"-6 a=b\n",
            b"4 ab\n",
            b"3 \n",
            b"0 a=b\n",
        ];
        for bytes in bad {
            assert_eq!(parse_pax(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}
