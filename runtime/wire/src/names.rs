//! Bounded text and the instance's name.

use serde::{Deserialize, Serialize};

/// Text of at most `N` bytes.
pub type Text<const N: usize> = heapless::String<N>;

/// As much of `text` as fits, cut at a character boundary; a message about a failure must never itself fail.
pub fn clipped<const N: usize>(text: &str) -> Text<N> {
    let mut end = text.len().min(N);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let mut out = Text::new();
    // A prefix of at most N bytes always fits.
    let _ = out.push_str(text.get(..end).unwrap_or_default());
    out
}

/// The name of an instance, by LXD's rule: 1 to 63 ASCII letters, digits and dashes; it starts with a letter and does not
/// end with a dash. So it is a host name, a file name and a cgroup name as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Text<63>", into = "Text<63>")]
pub struct InstanceName(Text<63>);

/// The most instances of one system. Every table of theirs has this bound, or one that is made from it. What one of them costs us
/// is memory and descriptors: a machine of 64 MiB has room for some ten.
pub const MAX_INSTANCES: usize = 256;

/// Which instance: a number that is never given twice on a system, so that it means the same instance whatever becomes of its
/// name. Zero is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceId(pub u32);

impl InstanceId {
    /// The id after this one.
    pub fn following(self) -> InstanceId {
        InstanceId(self.0.saturating_add(1))
    }
}

impl core::fmt::Display for InstanceId {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(out)
    }
}

/// Why a text is no instance name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// Empty, or over [`InstanceName::MAX_LEN`].
    Length {
        /// Its length in bytes.
        len: usize,
    },
    /// It does not start with a letter, or ends with a dash.
    Ends,
    /// A byte that is no ASCII letter, digit or dash.
    Byte {
        /// The first such byte.
        byte: u8,
    },
}

impl InstanceName {
    /// The longest label of a domain name (RFC 1035, 2.3.4).
    pub const MAX_LEN: usize = 63;

    /// Checks `text` against the rule above.
    pub fn parse(text: &str) -> Result<InstanceName, NameError> {
        let Ok(name) = Text::try_from(text) else {
            return Err(NameError::Length { len: text.len() });
        };
        InstanceName::try_from(name)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<Text<63>> for InstanceName {
    type Error = NameError;

    fn try_from(name: Text<63>) -> Result<InstanceName, NameError> {
        let (Some(first), Some(last)) = (name.bytes().next(), name.bytes().last()) else {
            return Err(NameError::Length { len: 0 });
        };
        if let Some(byte) = name.bytes().find(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-') {
            return Err(NameError::Byte { byte });
        }
        if !first.is_ascii_alphabetic() || last == b'-' {
            return Err(NameError::Ends);
        }
        Ok(InstanceName(name))
    }
}

impl From<InstanceName> for Text<63> {
    fn from(name: InstanceName) -> Text<63> {
        name.0
    }
}

impl core::fmt::Display for InstanceName {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str(&self.0)
    }
}

impl core::fmt::Display for NameError {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            NameError::Length { len } => write!(out, "instance name: {len} bytes long, allowed are 1 to 63"),
            NameError::Ends => out.write_str("instance name: must start with a letter and not end with a dash"),
            NameError::Byte { byte } => write!(
                out,
                "instance name: character '{}' is not a letter, digit or dash",
                core::ascii::escape_default(*byte)
            ),
        }
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_lxds_rule() {
        for good in ["a", "debian", "web-1", "A9", &"x".repeat(63)] {
            assert_eq!(InstanceName::parse(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        let refused: &[(&str, NameError)] = &[
            ("", NameError::Length { len: 0 }),
            (&"x".repeat(64), NameError::Length { len: 64 }),
            ("1a", NameError::Ends),
            ("-a", NameError::Ends),
            ("a-", NameError::Ends),
            ("a/b", NameError::Byte { byte: b'/' }),
            ("..", NameError::Byte { byte: b'.' }),
            ("ä", NameError::Byte { byte: 0xc3 }),
        ];
        for (text, why) in refused {
            assert_eq!(InstanceName::parse(text), Err(*why), "{text:?}");
        }
    }

    #[test]
    fn a_bad_name_does_not_come_in_by_the_wire_either() {
        let packet = crate::encode(&"../x").unwrap();
        assert_eq!(crate::decode::<InstanceName>(&packet), Err(crate::DecodeError::Body));
    }

    #[test]
    fn clipping_keeps_whole_characters() {
        assert_eq!(clipped::<4>("abc").as_str(), "abc");
        assert_eq!(clipped::<4>("abcää").as_str(), "abc");
        assert_eq!(clipped::<5>("abcää").as_str(), "abcä");
    }
}
