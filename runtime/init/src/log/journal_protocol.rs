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

/// Reads an entry. `None`: there is no message in it, or a length points outside.
pub fn parse_journal_entry(mut bytes: &[u8]) -> Option<JournalEntry<'_>> {
    let mut entry = JournalEntry { priority: 6, identifier: None, message: Cow::Borrowed("") };
    let mut has_message = false;
    while !bytes.is_empty() {
        let (name, value, rest) = split_field(bytes)?;
        bytes = rest;
        match name {
            b"MESSAGE" => {
                entry.message = String::from_utf8_lossy(value);
                has_message = true;
            }
            b"PRIORITY" => {
                if let [digit @ b'0'..=b'7'] = value {
                    entry.priority = digit - b'0';
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

fn split_field(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at(end);
    let rest = rest.get(1..).unwrap_or(&[]);
    if let Some(at) = line.iter().position(|&byte| byte == b'=') {
        return Some((line.get(..at)?, line.get(at + 1..)?, rest));
    }
    let (len, rest) = rest.split_first_chunk::<8>()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
    let value = rest.get(..len)?;
    let after = rest.get(len..)?;
    Some((line, value, after.strip_prefix(b"\n")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracing_journalds_datagram_is_understood() {
        // tracing-journald 0.3 writes every field in the long form but the priority.
        let mut bytes = b"PRIORITY=5\nTARGET\n\x0b\0\0\0\0\0\0\0yado_netd::a\n".to_vec();
        assert_eq!(parse_journal_entry(&bytes), None, "a length that is one short leaves a tail");
        bytes.truncate(11);
        bytes
            .extend_from_slice(b"SYSLOG_IDENTIFIER\n\x04\0\0\0\0\0\0\0netd\nMESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n");
        let entry = parse_journal_entry(&bytes);
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
        let entry = parse_journal_entry(&bytes);
        let fields = entry.map(|entry| (entry.priority, entry.identifier, entry.message));
        assert_eq!(fields, Some((4, Some(Cow::Borrowed("init")), Cow::Borrowed("a=b\nc"))));
    }

    #[test]
    fn short_fields_do_and_hostile_lengths_do_not() {
        let short = parse_journal_entry(b"MESSAGE=a=b\nPRIORITY=9\nMESSAGE_ID=x");
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
            assert_eq!(parse_journal_entry(hostile), None, "{}", hostile.escape_ascii());
        }
    }
}
