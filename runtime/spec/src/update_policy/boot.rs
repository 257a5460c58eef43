//! What decides which slot of a board boots, and where that keeps what it starts next. Only the signed system says any of it.

use super::UpdatePolicy;
use crate::setting::Applies::AtOnce;
use crate::setting::{Origin, Setting, Value, effect};
use crate::values::{Expected, parse_path};
use std::path::PathBuf;

/// What decides which slot boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootLoaderKind {
    /// U-Boot with our boot script, which reads the partition `state`.
    UBootState,
    /// U-Boot with its own redundant environment.
    UBootEnvironment,
    /// A Raspberry Pi's firmware.
    RaspberryPi,
    /// UEFI firmware.
    Efi,
    /// A file: for tests, and where nothing boots.
    File,
}

/// Where a boot loader keeps what it starts next. Each looks at its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootPlaces {
    /// Where both copies of U-Boot's environment are: a file of the format of U-Boot's own tools (`tools/env/fw_env.config` of its
    /// sources, `fw_printenv -c`).
    pub environment: PathBuf,
    /// The name in the GPT of the partition that holds `autoboot.txt`, which a Raspberry Pi looks for on the first FAT partition
    /// (its documentation, "autoboot.txt").
    pub autoboot: String,
    /// The descriptions of the load options of slot A and slot B (UEFI specification 2.10, 3.1.3; `efibootmgr --label`).
    pub options: [String; 2],
    /// The file of the boot loader `file`. `None`: one of the data partition.
    pub file: Option<PathBuf>,
}

/// The kernel tells names of partitions in 7 bits; a GPT has room for so many letters (UEFI specification 2.10, 5.3.3).
const MAX_PARTITION_NAME: usize = 36;

/// Firmware shows them in a menu.
const MAX_DESCRIPTION: usize = 64;

pub(super) const ENVIRONMENT: Setting<UpdatePolicy> = Setting {
    name: "boot.environment",
    value: Value::Parsed {
        what: "the path of a fw_env.config",
        get: |policy| Some(policy.boot.environment.display().to_string()),
        parse: |text| effect(PathBuf::from(parse_path(text)?), |policy, path| policy.boot.environment = path),
    },
    default: "/etc/fw_env.config",
    applies: AtOnce,
    origin: Origin::Ours,
    help: "For boot.loader = \"u-boot-environment\": the file that says where both copies of U-Boot's environment are, as \
           fw_printenv reads it. Only the signed system says it.",
};

pub(super) const AUTOBOOT: Setting<UpdatePolicy> = Setting {
    name: "boot.autoboot",
    value: Value::Parsed {
        what: "the name of a partition",
        get: |policy| Some(policy.boot.autoboot.clone()),
        parse: |text| effect(parse_partition(text)?, |policy, name| policy.boot.autoboot = name),
    },
    default: "autoboot",
    applies: AtOnce,
    origin: Origin::Ours,
    help: "For boot.loader = \"raspberry-pi\": the name in the partition table of the first FAT partition of the system's disk, \
           which holds autoboot.txt. Only the signed system says it.",
};

pub(super) const OPTIONS: Setting<UpdatePolicy> = Setting {
    name: "boot.options",
    value: Value::Parsed {
        what: "two descriptions, comma separated",
        get: |policy| Some(policy.boot.options.join(", ")),
        parse: |text| effect(parse_options(text)?, |policy, options| policy.boot.options = options),
    },
    default: "Yadokari A, Yadokari B",
    applies: AtOnce,
    origin: Origin::Ours,
    help: "For boot.loader = \"efi\": the descriptions of the firmware's load options that start slot A and slot B, as efibootmgr \
           --label gives them. Only the signed system says it.",
};

pub(super) const FILE: Setting<UpdatePolicy> = Setting {
    name: "boot.file",
    value: Value::Parsed {
        what: "the path of a file",
        get: |policy| policy.boot.file.as_ref().map(|path| path.display().to_string()),
        parse: |text| effect(Some(PathBuf::from(parse_path(text)?)), |policy, path| policy.boot.file = path),
    },
    default: "",
    applies: AtOnce,
    origin: Origin::Ours,
    help: "For boot.loader = \"file\": the file, which is made where there is none; without it state/boot-state of the data \
           partition. Only the signed system says it.",
};

fn parse_partition(text: &str) -> Result<String, Expected> {
    let is_letter = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    match (1..=MAX_PARTITION_NAME).contains(&text.len()) && text.bytes().all(is_letter) {
        true => Ok(text.to_owned()),
        false => Err(Expected(format!("a name of 1 to {MAX_PARTITION_NAME} ASCII letters"))),
    }
}

fn parse_options(text: &str) -> Result<[String; 2], Expected> {
    let is_description =
        |word: &str| !word.is_empty() && word.len() <= MAX_DESCRIPTION && !word.contains(char::is_control);
    match text.split(',').map(str::trim).collect::<Vec<_>>()[..] {
        [a, b] if a != b && is_description(a) && is_description(b) => Ok([a.to_owned(), b.to_owned()]),
        _ => Err(Expected(format!("two different descriptions of at most {MAX_DESCRIPTION} bytes, comma separated"))),
    }
}
