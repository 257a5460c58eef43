//! What a board does of its own will with updates: for which boards it takes releases, where from, how often it looks, and how it
//! judges one that is on trial. `update.toml` of the signed system says it; a file of the same name on the data partition may say
//! otherwise where a row of the table allows that. The keys stand at the top of the file, without a `[config]`.

mod boot;

use crate::document::{MAX_PROBLEMS, TomlValue, parse_document};
use crate::problem::{Fault, Problem};
use crate::setting::Applies::AtOnce;
use crate::setting::{Choice, Effect, Origin, Setting, Value, effect, find, nearest_setting, set_defaults};
use crate::values::{Expected, parse_path};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

pub use boot::{BootLoaderKind, BootPlaces};

/// The file's name, in the system and on the data partition.
pub const FILE: &str = "update.toml";

/// The policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdatePolicy {
    /// The names that this board has; a release is for it if it names one of them.
    pub compatible: Vec<String>,
    /// What decides which slot boots.
    pub boot_loader: BootLoaderKind,
    /// Where that keeps what it starts next.
    pub boot: BootPlaces,
    /// Where new releases are looked for, if nothing else is said: an HTTP address or a directory.
    pub source: Option<String>,
    /// How often, a tenth more or less; `None`: only when asked.
    pub check_interval: Option<Duration>,
    /// Whether a release that was found is installed without being asked.
    pub is_automatic: bool,
    /// Whether a USB stick that is plugged in is a source, from which is installed without being asked.
    pub takes_sticks: bool,
    /// Each required instance must have been ready for so long.
    pub trial_window: Duration,
    /// So long after it was booted, a release that is not confirmed has failed.
    pub trial_deadline: Duration,
    /// So long at most a container's lock delays a reboot.
    pub lock_limit: Duration,
    /// A transfer that is slower than so many bytes per second over a minute is given up, and tried again.
    pub speed_floor: u32,
    /// A file of certificates of those who may vouch for a server.
    pub authorities: Option<PathBuf>,
    /// A file with the certificate that the board shows to a server, and its secret key.
    pub certificate: Option<PathBuf>,
    /// `http://HOST:PORT` that passes requests on.
    pub proxy: Option<String>,
}

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// The signed system's: all keys.
    System,
    /// The board's administrator's, on the data partition: those that say nothing of what the board is.
    Administrator,
}

/// What only the signed system may say.
const OF_SYSTEM: &[&str] =
    &["compatible", "boot.loader", "boot.environment", "boot.autoboot", "boot.options", "boot.file"];

/// The most names of a board; each is compared with each of a release's.
const MAX_NAMES: usize = 32;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// The table of the keys.
pub static UPDATE: &[Setting<UpdatePolicy>] = &[
    Setting {
        name: "compatible",
        value: Value::Parsed {
            what: "names, comma separated",
            get: |policy| (!policy.compatible.is_empty()).then(|| policy.compatible.join(", ")),
            parse: |text| effect(parse_names(text)?, |policy, names| policy.compatible = names),
        },
        default: "",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "The names of this board. A release that names boards is taken only if it names one of these. Only the signed \
               system says it.",
    },
    Setting {
        name: "boot.loader",
        value: Value::Choice(&[
            Choice {
                word: "u-boot",
                is: |policy| policy.boot_loader == BootLoaderKind::UBootState,
                set: |policy| policy.boot_loader = BootLoaderKind::UBootState,
            },
            Choice {
                word: "u-boot-environment",
                is: |policy| policy.boot_loader == BootLoaderKind::UBootEnvironment,
                set: |policy| policy.boot_loader = BootLoaderKind::UBootEnvironment,
            },
            Choice {
                word: "raspberry-pi",
                is: |policy| policy.boot_loader == BootLoaderKind::RaspberryPi,
                set: |policy| policy.boot_loader = BootLoaderKind::RaspberryPi,
            },
            Choice {
                word: "efi",
                is: |policy| policy.boot_loader == BootLoaderKind::Efi,
                set: |policy| policy.boot_loader = BootLoaderKind::Efi,
            },
            Choice {
                word: "file",
                is: |policy| policy.boot_loader == BootLoaderKind::File,
                set: |policy| policy.boot_loader = BootLoaderKind::File,
            },
        ]),
        default: "u-boot",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "What decides which slot boots. Only the signed system says it.",
    },
    boot::ENVIRONMENT,
    boot::AUTOBOOT,
    boot::OPTIONS,
    boot::FILE,
    Setting {
        name: "source",
        value: Value::Parsed {
            what: "http://…, https://… or a directory",
            get: |policy| policy.source.clone(),
            parse: |text| effect(Some(parse_source(text)?), |policy, source| policy.source = source),
        },
        default: "",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "Where releases are looked for by a check, and by an install that names no other place.",
    },
    Setting {
        name: "check.interval",
        value: Value::Time {
            min: MINUTE,
            max: Duration::from_secs(30 * 86_400),
            get: |policy| policy.check_interval,
            set: |policy, interval| policy.check_interval = Some(interval),
        },
        default: "",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "How often the board looks at `source` for a new release: a tenth more or less each time, so that not all boards ask at \
               once, and first within five minutes of a boot. Without it: only when asked.",
    },
    Setting {
        name: "install.automatic",
        value: Value::Bool { get: |policy| Some(policy.is_automatic), set: |policy, on| policy.is_automatic = on },
        default: "false",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "Whether a new release that the board has found by itself (`check.interval`) is installed at once. Held updates \
               (`yado update hold`) are only looked at.",
    },
    Setting {
        name: "sticks",
        value: Value::Bool { get: |policy| Some(policy.takes_sticks), set: |policy, on| policy.takes_sticks = on },
        default: "false",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "Whether a release in the folder `yado-release` of a USB stick is installed when that is plugged in. The kernel then reads the \
               file system of any stick, whoever made it. Not of one that an instance has; held updates (`yado update hold`) are \
               only looked at.",
    },
    Setting {
        name: "trial.window",
        value: Value::Time {
            min: Duration::ZERO,
            max: DAY,
            get: |policy| Some(policy.trial_window),
            set: |policy, window| policy.trial_window = window,
        },
        default: "30s",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "Each required instance must have been ready for so long before a release on trial is confirmed.",
    },
    Setting {
        name: "trial.deadline",
        value: Value::Time {
            min: Duration::from_secs(10),
            max: DAY,
            get: |policy| Some(policy.trial_deadline),
            set: |policy, deadline| policy.trial_deadline = deadline,
        },
        default: "10m",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "A release on trial that is not confirmed so long after it was booted has failed.",
    },
    Setting {
        name: "reboot.lock_limit",
        value: Value::Time {
            min: Duration::ZERO,
            max: DAY,
            get: |policy| Some(policy.lock_limit),
            set: |policy, limit| policy.lock_limit = limit,
        },
        default: "1h",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "So long at most a container that holds its update lock delays the reboot into a new release.",
    },
    Setting {
        name: "transfer.speed_floor",
        value: Value::Integer {
            min: 0,
            max: u32::MAX as i64,
            get: |policy| Some(i64::from(policy.speed_floor)),
            set: |policy, bytes| policy.speed_floor = u32::try_from(bytes).unwrap_or(u32::MAX),
        },
        default: "256",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "Bytes per second. A transfer that is slower for a minute is given up and tried again later.",
    },
    Setting {
        name: "transfer.authorities",
        value: Value::Parsed {
            what: "the path of a file with certificates (PEM)",
            get: |policy| policy.authorities.as_ref().map(|path| path.display().to_string()),
            parse: |text| effect(Some(PathBuf::from(parse_path(text)?)), |policy, path| policy.authorities = path),
        },
        default: "",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "Who may vouch for an https server. What is installed is trusted by its signature, whatever server it comes from.",
    },
    Setting {
        name: "transfer.certificate",
        value: Value::Parsed {
            what: "the path of a file with a certificate and its secret key (PEM)",
            get: |policy| policy.certificate.as_ref().map(|path| path.display().to_string()),
            parse: |text| effect(Some(PathBuf::from(parse_path(text)?)), |policy, path| policy.certificate = path),
        },
        default: "",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "What the board shows to an https server that asks who it is.",
    },
    Setting {
        name: "transfer.proxy",
        value: Value::Parsed {
            what: "http://HOST:PORT",
            get: |policy| policy.proxy.clone(),
            parse: |text| effect(Some(parse_proxy(text)?), |policy, proxy| policy.proxy = proxy),
        },
        default: "",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "A server that passes requests on.",
    },
];

impl UpdatePolicy {
    /// What holds when no file says anything.
    pub fn usual() -> UpdatePolicy {
        let mut policy = UpdatePolicy {
            compatible: Vec::new(),
            boot_loader: BootLoaderKind::UBootState,
            boot: BootPlaces::default(),
            source: None,
            check_interval: None,
            is_automatic: false,
            takes_sticks: false,
            trial_window: Duration::ZERO,
            trial_deadline: DAY,
            lock_limit: Duration::ZERO,
            speed_floor: 0,
            authorities: None,
            certificate: None,
            proxy: None,
        };
        set_defaults(UPDATE, &mut policy);
        policy
    }

    /// Adds what a file says, and tells what is wrong with it. A line that is wrong changes nothing; the others hold.
    pub fn add(&mut self, file: &str, author: Author, bytes: &[u8]) -> Vec<Problem> {
        let (entries, mut problems) = parse_document(file, bytes);
        let broken: Vec<usize> = problems.iter().map(|problem| problem.location.line()).collect();
        let mut said = BTreeSet::new();
        for entry in entries {
            if MAX_PROBLEMS <= problems.len() {
                break;
            }
            if broken.contains(&entry.line) {
                continue;
            }
            let key = entry.path.join(".");
            let outcome = match &entry.value {
                // What it holds follows, each with its whole name.
                TomlValue::Table => continue,
                TomlValue::Text(text) => parse(&key, author, text),
                TomlValue::List(texts) => {
                    let texts: Vec<&str> = texts.iter().map(|(text, _)| text.as_str()).collect();
                    parse(&key, author, &texts.join(","))
                }
                TomlValue::Other => Err(Fault::Value { expected: "a single value, or a list of texts".to_owned() }),
            };
            match outcome {
                Ok(effect) if said.insert(key.clone()) => effect.apply(self),
                Ok(_) => {
                    let reason = "given twice, in quotes and dotted".to_owned();
                    problems.push(entry.problem(file, &key, Fault::Conflict { reason }));
                }
                Err(fault) => problems.push(entry.problem(file, &key, fault)),
            }
        }
        problems
    }
}

fn parse(key: &str, author: Author, text: &str) -> Result<Effect<UpdatePolicy>, Fault> {
    let Some(setting) = find(UPDATE, key) else {
        return Err(Fault::Unknown { what: "key", nearest: nearest_setting(UPDATE, key) });
    };
    if author == Author::Administrator && OF_SYSTEM.contains(&setting.name) {
        return Err(Fault::Refused { reason: "only the signed system says it".to_owned() });
    }
    setting.parse(key, text)
}

fn parse_names(text: &str) -> Result<Vec<String>, Expected> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let is_name = |name: &String| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
        !name.is_empty() && name.len() <= 64 && name.bytes().all(is_allowed)
    };
    if names.len() <= MAX_NAMES && names.iter().all(is_name) {
        return Ok(names);
    }
    Err(Expected(format!("at most {MAX_NAMES} names of letters, digits and -_.:/, comma separated")))
}

fn parse_source(text: &str) -> Result<String, Expected> {
    let is_address = ["http://", "https://"].iter().any(|scheme| text.strip_prefix(scheme).is_some_and(is_plain));
    if is_address { Ok(text.to_owned()) } else { parse_path(text).map_err(|_| Expected(SOURCE.to_owned())) }
}

const SOURCE: &str = "http://…, https://… or the path of a directory that begins with /";

fn parse_proxy(text: &str) -> Result<String, Expected> {
    match text.strip_prefix("http://").is_some_and(is_plain) {
        true => Ok(text.to_owned()),
        false => Err(Expected("http://HOST:PORT".to_owned())),
    }
}

/// Nothing that could end a line or a word of a request.
fn is_plain(rest: &str) -> bool {
    !rest.is_empty() && rest.len() <= 1024 && rest.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests;
