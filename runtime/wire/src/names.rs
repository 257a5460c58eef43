//! Bounded text, and by what an instance and a run of it are known.

use serde::{Deserialize, Serialize};

/// Text of at most `N` bytes.
pub type Text<const N: usize> = heapless::String<N>;

/// What the restart of a machine says to its boot loader: a Raspberry Pi takes its other system once by `0 tryboot`. The kernel takes
/// up to 255 bytes.
pub type RebootArgument = Text<63>;

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

/// The full name of an instance: `NAME` in the project `default`, `PROJECT_NAME` in every other one, as LXD names its
/// directories. Both parts follow LXD's rule for instances: 1 to 63 ASCII letters, digits and dashes; a part starts with a
/// letter and does not end with a dash. So no two mean the same instance, and the whole is a file name and a cgroup name as it
/// stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Text<127>", into = "Text<127>")]
pub struct InstanceName(Text<{ InstanceName::MAX_LEN }>);

/// The project of all instances that name none.
pub const DEFAULT_PROJECT: &str = "default";

/// Between a project and a name. Neither can contain it.
const SEPARATOR: char = '_';

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

/// Which run of an instance: microseconds since the machine's boot at which init began it. A later run's
/// number is higher, also when init itself was started again between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct RunNumber(pub u64);

/// The instance that something is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AboutInstance {
    /// Its id.
    pub id: InstanceId,
    /// Its name at that time.
    pub name: InstanceName,
}

/// Why a text is no instance name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// A part is empty, or over [`InstanceName::MAX_PART_LEN`].
    Length {
        /// Its length in bytes.
        len: usize,
    },
    /// A part does not start with a letter, or ends with a dash.
    Ends,
    /// A byte that is no ASCII letter, digit or dash.
    Byte {
        /// The first such byte.
        byte: u8,
    },
    /// It names the project [`DEFAULT_PROJECT`], which is never written.
    DefaultProject,
}

impl InstanceName {
    /// The longest label of a domain name (RFC 1035, 2.3.4).
    pub const MAX_PART_LEN: usize = 63;

    /// Two parts and what is between them.
    pub const MAX_LEN: usize = 2 * InstanceName::MAX_PART_LEN + 1;

    /// Checks `text` against the rule above.
    pub fn parse(text: &str) -> Result<InstanceName, NameError> {
        let Ok(name) = Text::try_from(text) else {
            return Err(NameError::Length { len: text.len() });
        };
        InstanceName::try_from(name)
    }

    /// The instance of this name in this project, which may be [`DEFAULT_PROJECT`].
    pub fn in_project(project: &str, name: &str) -> Result<InstanceName, NameError> {
        check_part(project)?;
        check_part(name)?;
        match project {
            DEFAULT_PROJECT => InstanceName::parse(name),
            _ => InstanceName::parse(&format!("{project}{SEPARATOR}{name}")),
        }
    }

    /// What `text` means in the file or to the client of an instance in this one's project: another instance of that project,
    /// or one of another project by its full name.
    pub fn beside(&self, text: &str) -> Result<InstanceName, NameError> {
        match text.split_once(SEPARATOR) {
            Some((project, name)) => InstanceName::in_project(project, name),
            None => InstanceName::in_project(self.project(), text),
        }
    }

    /// The full name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The project.
    pub fn project(&self) -> &str {
        self.0.split_once(SEPARATOR).map_or(DEFAULT_PROJECT, |(project, _)| project)
    }

    /// The name without the project: the instance's host name.
    pub fn name(&self) -> &str {
        self.0.split_once(SEPARATOR).map_or(self.as_str(), |(_, name)| name)
    }
}

fn check_part(part: &str) -> Result<(), NameError> {
    let bytes = part.as_bytes();
    let (Some(first), Some(last), 1..=InstanceName::MAX_PART_LEN) = (bytes.first(), bytes.last(), bytes.len()) else {
        return Err(NameError::Length { len: bytes.len() });
    };
    if let Some(byte) = bytes.iter().find(|byte| !byte.is_ascii_alphanumeric() && **byte != b'-') {
        return Err(NameError::Byte { byte: *byte });
    }
    if !first.is_ascii_alphabetic() || *last == b'-' {
        return Err(NameError::Ends);
    }
    Ok(())
}

impl TryFrom<Text<{ InstanceName::MAX_LEN }>> for InstanceName {
    type Error = NameError;

    fn try_from(text: Text<{ InstanceName::MAX_LEN }>) -> Result<InstanceName, NameError> {
        match text.split_once(SEPARATOR) {
            Some((DEFAULT_PROJECT, _)) => return Err(NameError::DefaultProject),
            Some((project, name)) => {
                check_part(project)?;
                check_part(name)?;
            }
            None => check_part(&text)?,
        }
        Ok(InstanceName(text))
    }
}

impl From<InstanceName> for Text<{ InstanceName::MAX_LEN }> {
    fn from(name: InstanceName) -> Text<{ InstanceName::MAX_LEN }> {
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
            NameError::DefaultProject => {
                write!(out, "instance name: what is in the project {DEFAULT_PROJECT} is named without it")
            }
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
        let long = "x".repeat(63);
        let longest = format!("{long}_{long}");
        for good in ["a", "debian", "web-1", "A9", &long, "lab_web", "defaults_a", &longest] {
            assert_eq!(InstanceName::parse(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        let refused: &[(&str, NameError)] = &[
            ("", NameError::Length { len: 0 }),
            (&"x".repeat(64), NameError::Length { len: 64 }),
            (&"x".repeat(128), NameError::Length { len: 128 }),
            ("1a", NameError::Ends),
            ("-a", NameError::Ends),
            ("a-", NameError::Ends),
            ("a/b", NameError::Byte { byte: b'/' }),
            ("..", NameError::Byte { byte: b'.' }),
            ("ä", NameError::Byte { byte: 0xc3 }),
            ("lab_", NameError::Length { len: 0 }),
            ("_web", NameError::Length { len: 0 }),
            ("lab_1", NameError::Ends),
            ("1_web", NameError::Ends),
            ("a_b_c", NameError::Byte { byte: b'_' }),
            ("default_web", NameError::DefaultProject),
        ];
        for (text, why) in refused {
            assert_eq!(InstanceName::parse(text), Err(*why), "{text:?}");
        }
    }

    #[test]
    fn a_name_has_a_project_and_names_beside_it_are_in_the_same() {
        let parse = |text| InstanceName::parse(text).unwrap();
        let parts = |name: &InstanceName| (name.project().to_owned(), name.name().to_owned());
        let (web, lab) = (parse("web"), parse("lab_web"));
        assert_eq!(parts(&web), ("default".to_owned(), "web".to_owned()));
        assert_eq!(parts(&lab), ("lab".to_owned(), "web".to_owned()));
        assert_eq!(InstanceName::in_project("default", "web"), Ok(web.clone()));
        assert_eq!(InstanceName::in_project("lab", "web"), Ok(lab.clone()));
        assert_eq!(InstanceName::in_project("lab", "x_y"), Err(NameError::Byte { byte: b'_' }));
        assert_eq!(InstanceName::in_project("default", "lab_web"), Err(NameError::Byte { byte: b'_' }));
        assert_eq!((web.beside("db"), lab.beside("db")), (Ok(parse("db")), Ok(parse("lab_db"))));
        assert_eq!((web.beside("lab_db"), lab.beside("default_db")), (Ok(parse("lab_db")), Ok(parse("db"))));
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
