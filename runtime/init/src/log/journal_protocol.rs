//! Journald's native protocol: what `sd_journal_send` and `tracing-journald` write. Pure.
//!
//! A datagram is a list of fields. A field is `NAME=value\n`, or, for values with line ends in them, `NAME\n`, the value's
//! length as 64 bits little-endian, the value, `\n`.

use std::borrow::Cow;

/// One entry, as far as we keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry<'a> {
    /// `PRIORITY`, 0 to 7; 6 (informational) when it says nothing.
    pub priority: u8,
    /// `SYSLOG_IDENTIFIER`.
    pub identifier: Option<Cow<'a, str>>,
    /// `MESSAGE`.
    pub message: Cow<'a, str>,
}

/// How much of an entry there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Its end is missing.
    Beginning,
}

/// Reads an entry. `None`: there is no message in it, or in a whole one a length points outside. A message that is cut off is
/// better than none.
pub fn parse_journal_entry(mut bytes: &[u8], extent: Extent) -> Option<JournalEntry<'_>> {
    let mut entry = JournalEntry { priority: 6, identifier: None, message: Cow::Borrowed("") };
    let mut has_message = false;
    while !bytes.is_empty() {
        let (name, value, rest) = match (split_field(bytes), extent) {
            (Some(field), _) => field,
            (None, Extent::Whole) => return None,
            (None, Extent::Beginning) => match split_cut_field(bytes) {
                Some(field) => field,
                None => break,
            },
        };
        bytes = rest;
        match name {
            b"MESSAGE" => {
                entry.message = String::from_utf8_lossy(value);
                has_message = true;
            }
            b"PRIORITY" => {
                if let [digit @ b'0'..=b'7'] = value {
                    entry.priority = digit.saturating_sub(b'0');
                }
            }
            b"SYSLOG_IDENTIFIER" => entry.identifier = Some(String::from_utf8_lossy(value)),
            _ => {}
        }
    }
    has_message.then_some(entry)
}

/// The fields of an entry of ours, for a journald of the host's.
pub(crate) fn write_journal_entry(priority: u8, identifier: &str, message: &str) -> Vec<u8> {
    let mut bytes = format!("PRIORITY={}\nSYSLOG_IDENTIFIER={identifier}\nMESSAGE\n", priority.min(7)).into_bytes();
    bytes.extend_from_slice(&(message.len() as u64).to_le_bytes());
    bytes.extend_from_slice(message.as_bytes());
    bytes.push(b'\n');
    bytes
}

/// Its name, its value, and what follows.
type Field<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn split_field(bytes: &[u8]) -> Option<Field<'_>> {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at(end);
    let rest = rest.get(1..).unwrap_or(&[]);
    if let Some(at) = line.iter().position(|&byte| byte == b'=') {
        return Some((line.get(..at)?, line.get(at..)?.get(1..)?, rest));
    }
    let (len, rest) = rest.split_first_chunk::<8>()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
    let value = rest.get(..len)?;
    let after = rest.get(len..)?;
    Some((line, value, after.strip_prefix(b"\n")?))
}

/// A field of the long form whose value goes on beyond the end.
fn split_cut_field(bytes: &[u8]) -> Option<Field<'_>> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let (name, rest) = bytes.split_at(end);
    let value = rest.get(1..)?.get(size_of::<u64>()..)?;
    Some((name, value, b""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracing_journalds_datagram_is_understood() {
        // tracing-journald 0.3 writes every field in the long form but the priority.
        let mut bytes = b"PRIORITY=5\nTARGET\n\x0b\0\0\0\0\0\0\0yado_netd::a\n".to_vec();
        assert_eq!(parse_journal_entry(&bytes, Extent::Whole), None, "a length that is one short leaves a tail");
        bytes.truncate(11);
        bytes
            .extend_from_slice(b"SYSLOG_IDENTIFIER\n\x04\0\0\0\0\0\0\0netd\nMESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n");
        let entry = parse_journal_entry(&bytes, Extent::Whole);
        assert_eq!(
            entry,
            Some(JournalEntry {
                priority: 5,
                identifier: Some(Cow::Borrowed("netd")),
                message: Cow::Borrowed("two\nlines"),
            })
        );
    }

    #[test]
    fn what_we_write_reads_back() {
        let bytes = write_journal_entry(4, "init", "a=b\nc");
        let entry = parse_journal_entry(&bytes, Extent::Whole);
        let fields = entry.map(|entry| (entry.priority, entry.identifier, entry.message));
        assert_eq!(fields, Some((4, Some(Cow::Borrowed("init")), Cow::Borrowed("a=b\nc"))));
    }

    #[test]
    fn short_fields_do_and_hostile_lengths_do_not() {
        let short = parse_journal_entry(b"MESSAGE=a=b\nPRIORITY=9\nMESSAGE_ID=x", Extent::Whole);
        assert_eq!(short.map(|entry| (entry.priority, entry.message)), Some((6, Cow::Borrowed("a=b"))));
        for hostile in [
            &b"MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xffx\n"[..],
            b"MESSAGE\n\x02\0\0\0\0\0\0\0x\n",
            b"MESSAGE\n\x01\0\0",
            b"MESSAGE",
            b"PRIORITY=3\n",
            b"\n",
            b"",
        ] {
            assert_eq!(parse_journal_entry(hostile, Extent::Whole), None, "{}", hostile.escape_ascii());
        }
    }
    #[test]
    fn a_message_that_is_cut_off_is_kept_as_far_as_it_goes() {
        let whole = write_journal_entry(3, "netd", "a long story");
        let message = |len: usize| {
            let entry = parse_journal_entry(&whole[..len], Extent::Beginning);
            entry.map(|entry| (entry.priority, entry.message.into_owned()))
        };
        let begins = whole.len() - "a long story\n".len();
        for len in 0..begins {
            assert_eq!(message(len), None, "{len} bytes");
        }
        for (more, wanted) in [(0, ""), (1, "a"), (6, "a long"), (12, "a long story"), (13, "a long story")] {
            assert_eq!(message(begins + more), Some((3, wanted.to_owned())));
        }
        let short = parse_journal_entry(b"PRIORITY=4\nMESSAGE=a lo", Extent::Beginning);
        assert_eq!(short.map(|entry| (entry.priority, entry.message)), Some((4, Cow::Borrowed("a lo"))));
    }
}
