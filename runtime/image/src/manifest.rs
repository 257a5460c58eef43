//! The manifest: what an image says about itself to people, the API and policy. Nothing in it is needed to start the
//! image safely; that is the header's part.
//!
//! It is canonical JSON: the keys in order, no spaces, nothing twice. Reading refuses any other form, so one manifest
//! has one digest.

use crate::header::Layout;
use crate::hex;
use crate::image_target::{Architecture, Version};
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;

/// What stands in a manifest. The fields are in the order of their names, which is the order of the canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The processor, as in the header.
    #[serde(serialize_with = "architecture_name", deserialize_with = "parse_architecture")]
    pub architecture: Architecture,
    /// Files for the boot partition of this system's slot, and their SHA-256 in hexadecimal digits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub boot: BTreeMap<String, String>,
    /// Boards (of a system) or runtimes (of a container) that it is made for; empty if it does not matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compatible: Vec<String>,
    /// When it was made, in seconds since 1970; 0 if that was left out for the sake of equal bytes.
    pub created: u64,
    /// The command that is run in a container to stop it, for example `/sbin/init 0`; empty if a signal asks its init.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub halt_command: Vec<String>,
    /// The signal that asks a container's init to stop, for example `SIGRTMIN+3`; never beside a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halt_signal: Option<String>,
    /// What a container starts with, and its arguments; empty for `/sbin/init`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init: Vec<String>,
    /// What it is: the same for all its versions.
    pub name: String,
    /// Profiles that suit it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// LXD's image properties: os, release, variant, description …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// Grows with every version, as in the header.
    pub release: u64,
    /// What it needs.
    pub requires: Requires,
    /// SHA-256 of its list of parts (SBOM), in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbom: Option<String>,
    /// The version for people.
    pub version: String,
}

/// What an image needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requires {
    /// Kernel options, by their names without `CONFIG_`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel: Vec<String>,
    /// The oldest runtime, as in the header.
    #[serde(serialize_with = "version_text", deserialize_with = "parse_version")]
    pub runtime: Version,
}

impl Manifest {
    /// The longest name and the longest of all other texts but properties.
    pub const MAX_TEXT_BYTES: usize = 256;
    /// The longest value of a property.
    pub const MAX_PROPERTY_BYTES: usize = 4096;
    /// The most entries in a list.
    pub const MAX_ENTRIES: usize = 256;

    /// A manifest with no more than it must have, for the first release.
    pub fn new(name: &str, architecture: Architecture) -> Manifest {
        Manifest {
            architecture,
            boot: BTreeMap::new(),
            compatible: Vec::new(),
            created: 0,
            halt_command: Vec::new(),
            halt_signal: None,
            init: Vec::new(),
            name: name.to_owned(),
            profiles: Vec::new(),
            properties: BTreeMap::new(),
            release: 1,
            requires: Requires { kernel: Vec::new(), runtime: Version { major: 0, minor: 1, patch: 0 } },
            sbom: None,
            version: "1".to_owned(),
        }
    }

    /// Reads the canonical form.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        if (Layout::MAX_MANIFEST_BYTES as usize) < bytes.len() {
            return Err(ManifestError::TooBig { bytes: bytes.len() });
        }
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|error| ManifestError::Json { reason: error.to_string() })?;
        if manifest.encode()? != bytes {
            return Err(ManifestError::NotCanonical);
        }
        Ok(manifest)
    }

    /// The canonical form.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        let bytes = serde_json::to_vec(self).map_err(|error| ManifestError::Json { reason: error.to_string() })?;
        if (Layout::MAX_MANIFEST_BYTES as usize) < bytes.len() {
            return Err(ManifestError::TooBig { bytes: bytes.len() });
        }
        Ok(bytes)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let Manifest {
            architecture: _,
            boot,
            compatible,
            created: _,
            halt_command,
            halt_signal,
            init,
            name,
            profiles,
            properties,
            release: _,
            requires: Requires { kernel, runtime: _ },
            sbom,
            version,
        } = self;
        if !is_name(name) {
            return Err(ManifestError::Field {
                field: "name",
                rule: "letters, digits and . _ + - (not first), 1 to 63",
            });
        }
        check_text("version", version)?;
        check_list("compatible", compatible)?;
        check_list("init", init)?;
        check_list("profiles", profiles)?;
        check_list("requires.kernel", kernel)?;
        check_list("halt_command", halt_command)?;
        check_list("halt_signal", halt_signal.as_slice())?;
        if halt_signal.is_some() && !halt_command.is_empty() {
            return Err(ManifestError::Field { field: "halt_signal", rule: "no signal beside halt_command" });
        }
        check_count("properties", properties.len())?;
        check_count("boot", boot.len())?;
        for (key, value) in properties {
            check_text("properties", key)?;
            if Self::MAX_PROPERTY_BYTES < value.len() {
                return Err(ManifestError::Field { field: "properties", rule: "values of at most 4096 bytes" });
            }
        }
        if boot.keys().any(|file| !is_name(file)) {
            return Err(ManifestError::Field { field: "boot", rule: "names of files, without a directory" });
        }
        check_digests("boot", boot.values())?;
        check_digests("sbom", sbom.iter())
    }
}

/// Why something is not a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestError {
    /// More than the header can name.
    TooBig {
        /// Its length.
        bytes: usize,
    },
    /// No JSON, or a field is missing, unknown or of another type.
    Json {
        /// The parser's words.
        reason: String,
    },
    /// Right in content, but not in the one form: spaces, order, something twice.
    NotCanonical,
    /// A field breaks its rule.
    Field {
        /// Which.
        field: &'static str,
        /// What it may be.
        rule: &'static str,
    },
}

impl fmt::Display for ManifestError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestError::TooBig { bytes } => write!(out, "manifest of {bytes} bytes is more than 256 KiB"),
            ManifestError::Json { reason } => write!(out, "manifest: {reason}"),
            ManifestError::NotCanonical => write!(out, "manifest is not in canonical form"),
            ManifestError::Field { field, rule } => write!(out, "manifest: {field}: expected {rule}"),
        }
    }
}

impl std::error::Error for ManifestError {}

/// A name that can stand in a path and on a command line.
pub(crate) fn is_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    first && name.len() <= 63 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
}

pub(crate) fn check_text(field: &'static str, text: &str) -> Result<(), ManifestError> {
    let sound = !text.is_empty() && text.len() <= Manifest::MAX_TEXT_BYTES && !text.contains(char::is_control);
    if sound {
        Ok(())
    } else {
        Err(ManifestError::Field { field, rule: "1 to 256 bytes without control characters" })
    }
}

pub(crate) fn check_list(field: &'static str, list: &[String]) -> Result<(), ManifestError> {
    check_count(field, list.len())?;
    list.iter().try_for_each(|text| check_text(field, text))
}

pub(crate) fn check_count(field: &'static str, count: usize) -> Result<(), ManifestError> {
    if count <= Manifest::MAX_ENTRIES {
        Ok(())
    } else {
        Err(ManifestError::Field { field, rule: "at most 256 entries" })
    }
}

fn check_digests<'text>(
    field: &'static str,
    mut digests: impl Iterator<Item = &'text String>,
) -> Result<(), ManifestError> {
    let sound = digests.all(|digest| hex::parse_digest(digest).is_some_and(|bytes| &hex::encode(&bytes) == digest));
    if sound {
        Ok(())
    } else {
        Err(ManifestError::Field { field, rule: "SHA-256 as 64 lower case hexadecimal digits" })
    }
}

pub(crate) fn architecture_name<S: Serializer>(architecture: &Architecture, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(architecture.name())
}

pub(crate) fn parse_architecture<'de, D: Deserializer<'de>>(from: D) -> Result<Architecture, D::Error> {
    let name = String::deserialize(from)?;
    Architecture::parse(&name).ok_or_else(|| de::Error::custom(format!("unknown architecture {name:?}")))
}

pub(crate) fn version_text<S: Serializer>(version: &Version, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(version)
}

pub(crate) fn parse_version<'de, D: Deserializer<'de>>(from: D) -> Result<Version, D::Error> {
    let text = String::deserialize(from)?;
    Version::parse(&text).ok_or_else(|| de::Error::custom(format!("version {text:?} is not of the form 1.2.3")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn full() -> Manifest {
        let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let list = |text: &str| vec![text.to_owned()];
        Manifest {
            boot: map("vmlinuz", DIGEST),
            compatible: list("qemu-virt"),
            halt_signal: Some("SIGRTMIN+3".to_owned()),
            init: vec!["/sbin/init".to_owned(), "--x".to_owned()],
            profiles: list("default"),
            properties: map("os", "Debian \"12\""),
            requires: Requires { kernel: list("OVERLAY_FS"), runtime: Version { major: 0, minor: 2, patch: 3 } },
            sbom: Some(DIGEST.to_owned()),
            ..Manifest::new("debian", Architecture::Arm64)
        }
    }

    #[test]
    fn the_canonical_bytes_are_frozen() {
        let least = r#"{"architecture":"armhf","created":0,"name":"bb","release":1,"requires":{"runtime":"0.1.0"},"version":"1"}"#;
        let most = format!(
            r#"{{"architecture":"arm64","boot":{{"vmlinuz":"{DIGEST}"}},"compatible":["qemu-virt"],"created":0,"halt_signal":"SIGRTMIN+3","init":["/sbin/init","--x"],"name":"debian","profiles":["default"],"properties":{{"os":"Debian \"12\""}},"release":1,"requires":{{"kernel":["OVERLAY_FS"],"runtime":"0.2.3"}},"sbom":"{DIGEST}","version":"1"}}"#
        );
        let by_command = r#"{"architecture":"armhf","created":0,"halt_command":["/sbin/init","0"],"name":"bb","release":1,"requires":{"runtime":"0.1.0"},"version":"1"}"#;
        let with_command = Manifest {
            halt_command: vec!["/sbin/init".to_owned(), "0".to_owned()],
            ..Manifest::new("bb", Architecture::Armhf)
        };
        let cases = [(Manifest::new("bb", Architecture::Armhf), least), (full(), &most), (with_command, by_command)];
        for (manifest, text) in cases {
            assert_eq!(String::from_utf8(manifest.encode().unwrap()).unwrap(), text);
            assert_eq!(Manifest::parse(text.as_bytes()).unwrap(), manifest);
        }
    }

    #[test]
    fn the_keys_are_in_order_so_that_the_form_is_canonical() {
        let text = String::from_utf8(full().encode().unwrap()).unwrap();
        let generic: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(generic.to_string(), text);
    }

    #[test]
    fn any_other_form_of_the_same_is_refused() {
        let text = String::from_utf8(full().encode().unwrap()).unwrap();
        for other in [
            format!("{text}\n"),
            text.replace(":1,", ": 1,"),
            text.replace("\"created\":0", "\"created\":0,\"created\":0"),
            text.replace("\"created\":0", "\"created\":0.0"),
            text.replace("\"created\":0,", ""),
            text.replace("\"created\":0", "\"created\":-1"),
            text.replace("arm64", "aarch64"),
            text.replace("\"vers", "\"unknown\":1,\"vers"),
            text.replace("OVERLAY", "\\u004fVERLAY"),
            text[..text.len() - 1].to_owned(),
            String::new(),
        ] {
            let error = Manifest::parse(other.as_bytes()).unwrap_err();
            assert!(matches!(error, ManifestError::Json { .. } | ManifestError::NotCanonical), "{other}: {error}");
        }
    }

    #[test]
    fn fields_have_bounds() {
        let long = "x".repeat(257);
        type Change = fn(&mut Manifest, &str);
        let bad: [(&str, Change); 9] = [
            ("name", |manifest, _| manifest.name = "../x".to_owned()),
            ("name", |manifest, _| manifest.name = String::new()),
            ("version", |manifest, long| manifest.version = long.to_owned()),
            ("init", |manifest, _| manifest.init = vec!["x".to_owned(); 257]),
            ("properties", |manifest, long| drop(manifest.properties.insert(long.to_owned(), String::new()))),
            ("properties", |manifest, long| drop(manifest.properties.insert("a".to_owned(), long.repeat(16)))),
            ("halt_signal", |manifest, _| manifest.halt_command = vec!["/sbin/poweroff".to_owned()]),
            ("boot", |manifest, _| drop(manifest.boot.insert("../vmlinuz".to_owned(), DIGEST.to_owned()))),
            ("sbom", |manifest, _| manifest.sbom = Some(DIGEST.to_uppercase())),
        ];
        for (field, change) in bad {
            let mut manifest = full();
            change(&mut manifest, &long);
            assert!(
                matches!(manifest.encode(), Err(ManifestError::Field { field: found, .. }) if found == field),
                "{field}"
            );
        }
        assert!(matches!(Manifest::parse(&vec![b' '; (256 << 10) + 1]), Err(ManifestError::TooBig { .. })));
    }
}
