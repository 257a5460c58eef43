//! What an image is made for: its kind, the processor, the runtime. They stand in the header as numbers and in the
//! manifest as text.

use core::fmt;

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    /// The root of a container.
    Container,
    /// The root of the device, for a slot.
    System,
}

impl ImageKind {
    /// The name shown to people.
    pub fn name(self) -> &'static str {
        match self {
            ImageKind::Container => "container",
            ImageKind::System => "system",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<ImageKind> {
        [ImageKind::Container, ImageKind::System].into_iter().find(|kind| kind.name() == name)
    }

    /// The number in the header.
    pub(crate) fn number(self) -> u16 {
        match self {
            ImageKind::Container => 1,
            ImageKind::System => 2,
        }
    }

    /// The kind with this number.
    pub(crate) fn from_number(number: u16) -> Option<ImageKind> {
        [ImageKind::Container, ImageKind::System].into_iter().find(|kind| kind.number() == number)
    }
}

/// The processor an image is made for, by Debian's names (which say more than the kernel's: armhf has an FPU).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// 32-bit ARM, v7 with hard float.
    Armhf,
    /// 64-bit ARM.
    Arm64,
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    I386,
}

impl Architecture {
    const ALL: [Architecture; 4] =
        [Architecture::Armhf, Architecture::Arm64, Architecture::X86_64, Architecture::I386];

    /// The name shown to people.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Armhf => "armhf",
            Architecture::Arm64 => "arm64",
            Architecture::X86_64 => "x86_64",
            Architecture::I386 => "i386",
        }
    }

    /// The architecture of this name: ours, the kernel's (which LXD uses) or Debian's.
    pub fn parse(name: &str) -> Option<Architecture> {
        match name {
            "armhf" | "armv7l" | "armv7" => Some(Architecture::Armhf),
            "arm64" | "aarch64" => Some(Architecture::Arm64),
            "x86_64" | "amd64" => Some(Architecture::X86_64),
            "i386" | "i686" => Some(Architecture::I386),
            _ => None,
        }
    }

    /// The number in the header.
    pub(crate) fn number(self) -> u16 {
        match self {
            Architecture::Armhf => 1,
            Architecture::Arm64 => 2,
            Architecture::X86_64 => 3,
            Architecture::I386 => 4,
        }
    }

    /// Whether its programs expect a machine of 32 bits.
    pub fn is_32_bit(self) -> bool {
        match self {
            Architecture::Armhf | Architecture::I386 => true,
            Architecture::Arm64 | Architecture::X86_64 => false,
        }
    }

    /// The architecture with this number.
    pub(crate) fn from_number(number: u16) -> Option<Architecture> {
        Self::ALL.into_iter().find(|architecture| architecture.number() == number)
    }
}

/// A version of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Version {
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
    /// Third number.
    pub patch: u16,
}

impl Version {
    /// `1.2.3`, all three numbers, nothing else.
    pub fn parse(text: &str) -> Option<Version> {
        let mut numbers = text.split('.').map(parse_number);
        let version = Version { major: numbers.next()??, minor: numbers.next()??, patch: numbers.next()?? };
        numbers.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The version of a runtime, which may be one before a release: `1.2.0-rc1` is later than `1.1.9` and not yet `1.2.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuntimeVersion {
    /// Those of the release, or of the one that it leads to.
    pub numbers: Version,
    /// What stands behind the hyphen: not a release yet.
    pub pre_release: Option<&'static str>,
}

impl RuntimeVersion {
    /// The runtime that this code belongs to.
    pub fn this() -> RuntimeVersion {
        // Cargo takes no other form, and a test sees to the numbers.
        RuntimeVersion::parse(env!("CARGO_PKG_VERSION")).unwrap_or_default()
    }

    /// A version as Cargo writes it: three numbers, and perhaps `-` with a pre-release's name and `+` with a build's, which says
    /// nothing about the order.
    pub fn parse(text: &'static str) -> Option<RuntimeVersion> {
        let (text, _) = text.split_once('+').unwrap_or((text, ""));
        let (numbers, pre_release) = match text.split_once('-') {
            None => (text, None),
            Some((_, "")) => return None,
            Some((numbers, pre_release)) => (numbers, Some(pre_release)),
        };
        Some(RuntimeVersion { numbers: Version::parse(numbers)?, pre_release })
    }

    /// Whether what needs `minimum` runs on it.
    pub fn is_at_least(&self, minimum: Version) -> bool {
        minimum < self.numbers || (minimum == self.numbers && self.pre_release.is_none())
    }
}

impl fmt::Display for RuntimeVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RuntimeVersion { numbers, pre_release } = self;
        match pre_release {
            None => write!(out, "{numbers}"),
            Some(pre_release) => write!(out, "{numbers}-{pre_release}"),
        }
    }
}

/// `u16::from_str` would also take a sign.
fn parse_number(digits: &str) -> Option<u16> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_three_plain_numbers_and_compare_as_such() {
        assert_eq!(Version::parse("1.20.3"), Some(Version { major: 1, minor: 20, patch: 3 }));
        assert!(Version::parse("0.9.9") < Version::parse("0.10.0"));
        for bad in ["", "1", "1.2", "1.2.3.4", "1.2.", "+1.2.3", "1.2.70000", "1.2.3-rc1", " 1.2.3"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pre_release_is_earlier_than_its_release_and_later_than_the_one_before() {
        let version = |major, minor, patch| Version { major, minor, patch };
        for text in ["1.2.0-rc1", "1.2.0-alpha.1+build.5"] {
            let runtime = RuntimeVersion::parse(text);
            let is_at_least = |minimum| runtime.map(|runtime| runtime.is_at_least(minimum));
            assert_eq!(is_at_least(version(1, 1, 9)), Some(true), "{text}");
            assert_eq!(is_at_least(version(1, 2, 0)), Some(false), "{text}");
        }
        let release = RuntimeVersion::parse("1.2.0+build-5");
        assert_eq!(release, Some(RuntimeVersion { numbers: version(1, 2, 0), pre_release: None }));
        assert_eq!(release.map(|release| release.is_at_least(version(1, 2, 0))), Some(true));
        assert_eq!(
            RuntimeVersion::parse("1.2.0-rc1").map(|version| version.to_string()),
            Some("1.2.0-rc1".to_owned())
        );
        for bad in ["", "1.2-rc1", "1.2.0-", "-rc1", "1.2.0rc1"] {
            assert_eq!(RuntimeVersion::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_workspace_has_a_version_that_is_understood() {
        assert_eq!(
            RuntimeVersion::this().to_string(),
            env!("CARGO_PKG_VERSION").split('+').next().unwrap_or_default()
        );
    }
}
