//! The release's manifest: which images belong to it, and what they need of a board. Canonical JSON, as an image's: one release has
//! one digest.

use crate::header::{BLOCK_BYTES, Layout};
use crate::hex;
use crate::image_target::{Architecture, Version};
use crate::manifest::{
    architecture_name, check_count, check_list, check_text, is_name, parse_architecture, parse_version, version_text,
};
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::{BTreeMap, BTreeSet};
use yado_wire::{InstanceName, MAX_INSTANCES};

pub use crate::manifest::ManifestError;

/// What stands in a release's manifest. The fields are in the order of their names, which is the order of the canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The processor of the boards, as in the header.
    #[serde(serialize_with = "architecture_name", deserialize_with = "parse_architecture")]
    pub architecture: Architecture,
    /// The boards that it is made for. With a system at least one: the wrong system does not start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compatible: Vec<String>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// The images of instances that get new ones. All others stay as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub instances: BTreeMap<InstanceName, ImageFile>,
    /// The product: the same for all its releases.
    pub name: String,
    /// Whether it is good only where the uplink works in its trial.
    #[serde(default, skip_serializing_if = "is_false")]
    pub needs_uplink: bool,
    /// Grows with every release, as in the header.
    pub release: u64,
    /// What it needs.
    pub requires: Requires,
    /// The system; `None` if it stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<System>,
    /// The version for people.
    pub version: String,
}

/// What a release needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requires {
    /// Kernel options, by their names without `CONFIG_`. A release with a system brings its own kernel: of that they are asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel: Vec<String>,
    /// Memory of the board, in MiB; 0 if it does not matter.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub memory_mib: u32,
    /// The oldest runtime, as in the header.
    #[serde(serialize_with = "version_text", deserialize_with = "parse_version")]
    pub runtime: Version,
}

/// A system image and the files that its boot loader starts it with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// By their names on the boot partition, all that the image's own manifest names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub boot: BTreeMap<String, BootFile>,
    /// Length of the whole image.
    pub bytes: u64,
    /// SHA-256 of the image's header.
    #[serde(serialize_with = "digest_text", deserialize_with = "parse_digest")]
    pub fingerprint: [u8; 32],
}

/// A container's image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFile {
    /// Length of the whole image.
    pub bytes: u64,
    /// SHA-256 of the image's header.
    #[serde(serialize_with = "digest_text", deserialize_with = "parse_digest")]
    pub fingerprint: [u8; 32],
}

/// Kernel, initramfs, device tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootFile {
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    #[serde(serialize_with = "digest_text", deserialize_with = "parse_digest")]
    pub sha256: [u8; 32],
}

/// A file that belongs to a release, by its name at a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `images/FINGERPRINT`
    Image([u8; 32]),
    /// `boot/SHA256`
    Boot([u8; 32]),
}

impl Manifest {
    /// The longest, as an image's.
    pub const MAX_BYTES: u32 = Layout::MAX_MANIFEST_BYTES;
    /// The most boot files.
    pub const MAX_BOOT_FILES: usize = 16;
    /// The longest boot file: a kernel with an initramfs of a whole distribution has a quarter of it.
    pub const MAX_BOOT_FILE_BYTES: u64 = 512 << 20;

    /// Reads the canonical form.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        if (Self::MAX_BYTES as usize) < bytes.len() {
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
        if (Self::MAX_BYTES as usize) < bytes.len() {
            return Err(ManifestError::TooBig { bytes: bytes.len() });
        }
        Ok(bytes)
    }

    /// All files of it and their lengths, each once, in the order in which a bundle has them: images first, the system's before the
    /// others, then boot files.
    pub fn parts(&self) -> Vec<(Part, u64)> {
        let images = self.images().map(|ImageFile { bytes, fingerprint }| (Part::Image(fingerprint), bytes));
        let boot = self.boot_files().map(|BootFile { bytes, sha256 }| (Part::Boot(*sha256), *bytes));
        let mut seen = BTreeSet::new();
        images.chain(boot).filter(|(part, _)| seen.insert(*part)).collect()
    }

    fn images(&self) -> impl Iterator<Item = ImageFile> + '_ {
        let system = self
            .system
            .iter()
            .map(|System { boot: _, bytes, fingerprint }| ImageFile { bytes: *bytes, fingerprint: *fingerprint });
        system.chain(self.instances.values().copied())
    }

    fn boot_files(&self) -> impl Iterator<Item = &BootFile> + '_ {
        self.system.iter().flat_map(|system| system.boot.values())
    }

    fn check(&self) -> Result<(), ManifestError> {
        let Manifest {
            architecture: _,
            compatible,
            created: _,
            instances,
            name,
            needs_uplink: _,
            release,
            requires: Requires { kernel, memory_mib: _, runtime: _ },
            system,
            version,
        } = self;
        let field = |field, rule| Err(ManifestError::Field { field, rule });
        if !is_name(name) {
            return field("name", "letters, digits and . _ + - (not first), 1 to 63");
        }
        if *release == 0 {
            return field("release", "a number from 1");
        }
        check_text("version", version)?;
        check_list("compatible", compatible)?;
        check_list("requires.kernel", kernel)?;
        check_count("instances", instances.len())?;
        if system.is_none() && instances.is_empty() {
            return field("instances", "at least one where there is no system");
        }
        if system.is_some() && compatible.is_empty() {
            return field("compatible", "at least one board where there is a system");
        }
        self.check_files()
    }

    fn check_files(&self) -> Result<(), ManifestError> {
        let field = |field, rule| Err(ManifestError::Field { field, rule });
        let mut lengths = BTreeMap::new();
        for ImageFile { bytes, fingerprint } in self.images() {
            if !is_image_length(bytes) {
                return field("bytes", "the length of an image: blocks of 4 KiB, as many as an image can have");
            }
            if *lengths.entry(fingerprint).or_insert(bytes) != bytes {
                return field("bytes", "one length for one fingerprint");
            }
        }
        // A container's image has no place in a slot, and the other way round.
        let system = self.system.as_ref().map(|system| system.fingerprint);
        if self.instances.values().any(|image| Some(image.fingerprint) == system) {
            return field("instances", "other images than the system's");
        }
        if Self::MAX_BOOT_FILES < self.boot_files().count() {
            return field("system.boot", "at most 16 files");
        }
        if self.system.iter().flat_map(|system| system.boot.keys()).any(|file| !is_name(file)) {
            return field("system.boot", "names of files, without a directory");
        }
        let mut lengths = BTreeMap::new();
        for BootFile { bytes, sha256 } in self.boot_files() {
            if !(1..=Self::MAX_BOOT_FILE_BYTES).contains(bytes) {
                return field("system.boot", "files of 1 byte to 512 MiB");
            }
            if *lengths.entry(sha256).or_insert(bytes) != bytes {
                return field("system.boot", "one length for one SHA-256");
            }
        }
        Ok(())
    }
}

/// That it is somebody's image at all is seen when its header comes.
fn is_image_length(bytes: u64) -> bool {
    let shortest = Layout::new(Layout::MIN_PAYLOAD_BYTES, 1);
    let longest = Layout::new(Layout::MAX_PAYLOAD_BYTES, Layout::MAX_MANIFEST_BYTES);
    let (Ok(shortest), Ok(longest)) = (shortest, longest) else { return false };
    bytes % BLOCK_BYTES == 0 && (shortest.image_bytes()..=longest.image_bytes()).contains(&bytes)
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Image(fingerprint) => write!(out, "images/{}", hex::encode(fingerprint)),
            Part::Boot(sha256) => write!(out, "boot/{}", hex::encode(sha256)),
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

fn digest_text<S: Serializer>(digest: &[u8; 32], out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&hex::encode(digest))
}

/// Upper case digits are read too, and are no canonical form.
fn parse_digest<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(from)?;
    hex::parse_digest(&text).ok_or_else(|| de::Error::custom("expected a SHA-256 as 64 hexadecimal digits"))
}

/// As many as a system can have.
const _: () = assert!(crate::manifest::Manifest::MAX_ENTRIES == MAX_INSTANCES, "check_count is for both");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ONES: &str = "0101010101010101010101010101010101010101010101010101010101010101";
    const TWOS: &str = "0202020202020202020202020202020202020202020202020202020202020202";
    const THREES: &str = "0303030303030303030303030303030303030303030303030303030303030303";

    fn image(digest: u8) -> ImageFile {
        ImageFile { bytes: 1 << 20, fingerprint: [digest; 32] }
    }

    fn name(text: &str) -> InstanceName {
        InstanceName::parse(text).unwrap()
    }

    fn least() -> Manifest {
        Manifest {
            architecture: Architecture::Armhf,
            compatible: Vec::new(),
            created: 0,
            instances: BTreeMap::from([(name("web"), image(1))]),
            name: "meter".to_owned(),
            needs_uplink: false,
            release: 1,
            requires: Requires {
                kernel: Vec::new(),
                memory_mib: 0,
                runtime: Version { major: 0, minor: 1, patch: 0 },
            },
            system: None,
            version: "1".to_owned(),
        }
    }

    fn full() -> Manifest {
        let boot = BTreeMap::from([
            ("initrd".to_owned(), BootFile { bytes: 5, sha256: [3; 32] }),
            ("vmlinuz".to_owned(), BootFile { bytes: 9, sha256: [2; 32] }),
        ]);
        Manifest {
            compatible: vec!["qemu-virt".to_owned()],
            created: 7,
            instances: BTreeMap::from([(name("db"), image(1)), (name("lab_web"), image(1))]),
            needs_uplink: true,
            release: 2,
            requires: Requires {
                kernel: vec!["OVERLAY_FS".to_owned()],
                memory_mib: 64,
                runtime: Version { major: 0, minor: 2, patch: 3 },
            },
            system: Some(System { boot, bytes: 2 << 20, fingerprint: [2; 32] }),
            ..least()
        }
    }

    #[test]
    fn the_canonical_bytes_are_frozen() {
        let little = format!(
            r#"{{"architecture":"armhf","created":0,"instances":{{"web":{{"bytes":1048576,"fingerprint":"{ONES}"}}}},"name":"meter","release":1,"requires":{{"runtime":"0.1.0"}},"version":"1"}}"#
        );
        let much = format!(
            r#"{{"architecture":"armhf","compatible":["qemu-virt"],"created":7,"instances":{{"db":{{"bytes":1048576,"fingerprint":"{ONES}"}},"lab_web":{{"bytes":1048576,"fingerprint":"{ONES}"}}}},"name":"meter","needs_uplink":true,"release":2,"requires":{{"kernel":["OVERLAY_FS"],"memory_mib":64,"runtime":"0.2.3"}},"system":{{"boot":{{"initrd":{{"bytes":5,"sha256":"{THREES}"}},"vmlinuz":{{"bytes":9,"sha256":"{TWOS}"}}}},"bytes":2097152,"fingerprint":"{TWOS}"}},"version":"1"}}"#
        );
        for (manifest, text) in [(least(), little), (full(), much)] {
            assert_eq!(String::from_utf8(manifest.encode().unwrap()).unwrap(), text);
            assert_eq!(Manifest::parse(text.as_bytes()).unwrap(), manifest);
            let generic: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(generic.to_string(), text, "the keys are in order");
        }
    }

    #[test]
    fn any_other_form_of_the_same_is_refused() {
        let text = String::from_utf8(full().encode().unwrap()).unwrap();
        for other in [
            format!("{text} "),
            text.replace("\"created\":7", "\"created\":7.0"),
            text.replace("\"created\":7", "\"created\":7,\"created\":7"),
            text.replace(":true", ":false"),
            text.replace("\"db\"", "\"-db\""),
            text.replace("\"db\"", "\"zz\""),
            text.replace("\"db\"", "\"lab_web\""),
            text.replace("0101", "010g"),
            text.replace(&TWOS[..62], &TWOS[..60]),
            text.replace("\"vers", "\"scripts\":[],\"vers"),
            text[..text.len() - 1].to_owned(),
        ] {
            let error = Manifest::parse(other.as_bytes()).unwrap_err();
            assert!(matches!(error, ManifestError::Json { .. } | ManifestError::NotCanonical), "{other}: {error}");
        }
    }

    #[test]
    fn fields_have_bounds() {
        type Change = fn(&mut Manifest);
        let bad: [(&str, Change); 13] = [
            ("name", |manifest| manifest.name = "../x".to_owned()),
            ("release", |manifest| manifest.release = 0),
            ("version", |manifest| manifest.version = "a\nb".to_owned()),
            ("compatible", |manifest| manifest.compatible.clear()),
            ("requires.kernel", |manifest| manifest.requires.kernel = vec!["X".to_owned(); 257]),
            ("instances", |manifest| (manifest.system, manifest.instances) = (None, BTreeMap::new())),
            ("instances", |manifest| {
                let system = ImageFile { bytes: 2 << 20, fingerprint: [2; 32] };
                manifest.instances = BTreeMap::from([(name("x"), system)]);
            }),
            ("bytes", |manifest| manifest.instances.get_mut(&name("db")).unwrap().bytes += 4096),
            ("bytes", |manifest| manifest.system.as_mut().unwrap().bytes = 4097),
            ("bytes", |manifest| manifest.system.as_mut().unwrap().bytes = 1 << 40),
            ("system.boot", |manifest| {
                let file = BootFile { bytes: 1, sha256: [9; 32] };
                manifest.system.as_mut().unwrap().boot.insert("a/b".to_owned(), file);
            }),
            ("system.boot", |manifest| {
                let file = BootFile { bytes: 10, sha256: [2; 32] };
                manifest.system.as_mut().unwrap().boot.insert("other".to_owned(), file);
            }),
            ("system.boot", |manifest| {
                let file = |number: u64| (number.to_string(), BootFile { bytes: number, sha256: [number as u8; 32] });
                manifest.system.as_mut().unwrap().boot = (1..=17).map(file).collect();
            }),
        ];
        for (field, change) in bad {
            let mut manifest = full();
            change(&mut manifest);
            assert!(
                matches!(manifest.encode(), Err(ManifestError::Field { field: found, .. }) if found == field),
                "{field}"
            );
        }
        assert!(matches!(Manifest::parse(&vec![b' '; (256 << 10) + 1]), Err(ManifestError::TooBig { .. })));
    }

    #[test]
    fn each_file_is_named_once_the_system_first_and_boot_files_last() {
        let parts: Vec<String> = full().parts().into_iter().map(|(part, bytes)| format!("{part} {bytes}")).collect();
        let expected = [
            format!("images/{TWOS} 2097152"),
            format!("images/{ONES} 1048576"),
            format!("boot/{THREES} 5"),
            format!("boot/{TWOS} 9"),
        ];
        assert_eq!(parts, expected);
    }
}
