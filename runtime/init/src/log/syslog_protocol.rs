//! Parses what programs write to `/dev/log`: `<PRI>`, mostly a date, `program[pid]: message`. Pure, and never fails: text that
//! fits no form is all message.

use std::borrow::Cow;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogMessage<'a> {
    /// 0 to 7.
    pub priority: u8,
    /// The program's name before `[pid]:`.
    pub identifier: Option<&'a str>,
    /// What follows the priority, the date and the program.
    pub message: Cow<'a, str>,
}

/// `Nov 22 10:06:57 `: what syslog(3) of glibc and musl writes after the priority.
const DATE_BYTES: usize = 16;

/// Reads one message.
pub fn parse_syslog(bytes: &[u8]) -> SyslogMessage<'_> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let (priority, rest) = split_priority(bytes).unwrap_or((6, bytes));
    let Ok(text) = core::str::from_utf8(rest) else {
        return SyslogMessage { priority, identifier: None, message: String::from_utf8_lossy(rest) };
    };
    let text = match text.get(..DATE_BYTES) {
        Some(date) if is_date(date) => text.get(DATE_BYTES..).unwrap_or(""),
        Some(_) | None => text,
    };
    match text.split_once(": ") {
        Some((tag, message)) if !tag.is_empty() && !tag.contains(' ') => {
            let identifier = tag.split_once('[').map_or(tag, |(name, _)| name);
            SyslogMessage { priority, identifier: Some(identifier), message: Cow::Borrowed(message) }
        }
        Some(_) | None => SyslogMessage { priority, identifier: None, message: Cow::Borrowed(text) },
    }
}

fn split_priority(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let rest = bytes.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|&byte| byte == b'>')?;
    let number: u16 = core::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()?;
    // The lower three bits are the priority, the rest the facility.
    Some(((number & 7) as u8, rest.get(end..)?.get(1..)?))
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.get(3) == Some(&b' ')
        && bytes.get(9) == Some(&b':')
        && bytes.get(12) == Some(&b':')
        && bytes.last() == Some(&b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_libcs_and_of_nobody() {
        let table: &[(&[u8], u8, Option<&str>, &str)] = &[
            (b"<30>Nov 22 10:06:57 chronyd[12]: clock set", 6, Some("chronyd"), "clock set"),
            (b"<11>logger: oops\n", 3, Some("logger"), "oops"),
            (b"no head at all", 6, None, "no head at all"),
            (b"<999999>x", 6, None, "<999999>x"),
            (b"<4>two words: x", 4, None, "two words: x"),
            (b"<", 6, None, "<"),
            (b"", 6, None, ""),
        ];
        for (bytes, priority, identifier, message) in table {
            let expected =
                SyslogMessage { priority: *priority, identifier: *identifier, message: Cow::Borrowed(message) };
            assert_eq!(parse_syslog(bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}
