//! One file of an instance or a profile, checked by itself: which keys and devices it says, each good on its own. What
//! only holds together with other files (profiles, images, the instances it comes after) is looked at later.

use crate::device_types::{DeviceKind, device_type};
use crate::document::{Entry, MAX_PROBLEMS, Said, parse_document};
use crate::draft::{ConfigDraft, DeviceDraft};
use crate::keys;
use crate::nearest::nearest;
use crate::problem::{Fault, Problem};
use crate::setting::{find, nearest_setting, set_defaults};
use std::collections::BTreeMap;

/// What a file is a file of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// `instance.toml`, `appliance/NAME.toml`.
    Instance,
    /// `profiles/NAME.toml`.
    Profile,
    /// `networks/NAME.toml`.
    Network,
}

/// A text with the place where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The file as it was named to us.
    pub(crate) file: String,
    /// Counted from 1.
    pub(crate) line: usize,
    /// The text.
    pub(crate) text: String,
}

/// What an instance or a profile says.
#[derive(Debug, Default)]
pub(crate) struct SaidFile {
    /// `image`.
    pub(crate) image: Option<Placed>,
    /// `profiles`; `None` when nothing is said of them.
    pub(crate) profiles: Option<Vec<Placed>>,
    /// `after`.
    pub(crate) after: Vec<Placed>,
    /// `[config]` by key.
    pub(crate) config: BTreeMap<String, Placed>,
    /// `[devices]` by name.
    pub(crate) devices: BTreeMap<String, SaidDevice>,
    /// What is wrong. If there is anything, no spec is made of this file.
    pub(crate) problems: Vec<Problem>,
}

/// What is said of one device.
#[derive(Debug, Clone)]
pub(crate) struct SaidDevice {
    /// Where it begins.
    pub(crate) place: Placed,
    /// `type`; `None` when it is missing or no type.
    pub(crate) kind: Option<DeviceKind>,
    /// The options by name, `type` not among them.
    pub(crate) options: BTreeMap<String, Placed>,
}

/// The most profiles, or instances to come after. Each pair is compared.
const MAX_NAMES: usize = 32;

/// The longest name of a device: LXD's.
const MAX_DEVICE_NAME_BYTES: usize = 64;

/// Reads a file of an instance or a profile.
pub(crate) fn parse_said(file: &str, kind: FileKind, bytes: &[u8]) -> SaidFile {
    let (entries, syntax) = parse_document(file, bytes);
    let mut said = SaidFile::default();
    let mut reader = Reader { file, kind, said: &mut said, scratch: keys::default_config() };
    for entry in entries {
        if MAX_PROBLEMS <= reader.said.problems.len() {
            break;
        }
        reader.entry(entry);
    }
    reader.devices();
    if syntax.is_empty() && kind == FileKind::Instance && said.image.is_none() {
        let right = "image = \"ALIAS\" or a fingerprint".to_owned();
        said.problems.push(file_problem(file, "image", Fault::Missing { right }));
    }
    // What follows from a broken line is said by its syntax error.
    let broken: Vec<usize> = syntax.iter().map(|problem| problem.line).collect();
    said.problems.retain(|problem| !broken.contains(&problem.line));
    said.problems.extend(syntax);
    said.problems.sort_by_key(|problem| problem.line);
    said
}

/// A problem of a file as a whole.
pub(crate) fn file_problem(file: &str, key: &str, fault: Fault) -> Problem {
    Problem { file: file.to_owned(), line: 0, key: key.to_owned(), value: None, fault }
}

impl Placed {
    /// A problem with this text as the value of `key`.
    pub(crate) fn problem(&self, key: impl Into<String>, fault: Fault) -> Problem {
        let (file, value) = (self.file.clone(), Some(self.text.clone()));
        Problem { file, line: self.line, key: key.into(), value, fault }
    }
}

impl SaidDevice {
    /// The options as a draft with the type's defaults. The options are good: they were set once when they were read.
    pub(crate) fn draft(&self) -> DeviceDraft {
        let mut draft = DeviceDraft::default();
        if let Some(options) = self.kind.and_then(options_of) {
            set_defaults(options, &mut draft);
            for (name, placed) in &self.options {
                if let Some(setting) = find(options, name) {
                    let _ = setting.set(&mut draft, name, &placed.text);
                }
            }
        }
        draft
    }

    /// A problem with one of its options, or with the device when that is not said.
    pub(crate) fn problem(&self, device: &str, option: &str, fault: Fault) -> Problem {
        match self.options.get(option) {
            Some(placed) => placed.problem(format!("devices.{device}.{option}"), fault),
            None => Problem {
                file: self.place.file.clone(),
                line: self.place.line,
                key: format!("devices.{device}.{option}"),
                value: None,
                fault,
            },
        }
    }
}

fn options_of(kind: DeviceKind) -> Option<&'static [crate::setting::Setting<DeviceDraft>]> {
    crate::device_types::DEVICE_TYPES.iter().find_map(|device_type| match device_type.offer {
        crate::device_types::Offer::As(found, options) if found == kind => Some(options),
        _ => None,
    })
}

const TOP_KEYS: &[&str] = &["image", "profiles", "after", "description", "config", "devices"];

struct Reader<'a> {
    file: &'a str,
    kind: FileKind,
    said: &'a mut SaidFile,
    /// Values are set here to see whether they can be.
    scratch: ConfigDraft,
}

impl Reader<'_> {
    fn entry(&mut self, entry: Entry) {
        let path: Vec<&str> = entry.path.iter().map(String::as_str).collect();
        match (path.as_slice(), &entry.said) {
            (["config"] | ["devices"] | ["config", ..], Said::Table) => {}
            (["config", rest @ ..], _) if !rest.is_empty() => self.config(&rest.join("."), &entry),
            (["devices", name], Said::Table) => self.device(name, entry.line),
            (["devices", _, _, ..], Said::Table) => {}
            (["devices", name, rest @ ..], _) if !rest.is_empty() => self.option(name, &rest.join("."), &entry),
            ([name @ ("config" | "devices")], _) => self.wrong(name, &entry, &format!("a table: [{name}]")),
            (["devices", name], _) => self.wrong(&format!("devices.{name}"), &entry, "a table with a type"),
            (["image"], _) if self.kind == FileKind::Instance => self.said.image = self.text("image", &entry),
            (["description"], _) => drop(self.text("description", &entry)),
            (["profiles"], _) if self.kind == FileKind::Instance => {
                self.said.profiles = self.list("profiles", &entry)
            }
            (["after"], _) if self.kind == FileKind::Instance => {
                self.said.after = self.list("after", &entry).unwrap_or_default();
            }
            ([name], _) => self.unknown_top(name, &entry),
            // Below a table that was reported already.
            _ => {}
        }
    }

    fn unknown_top(&mut self, name: &str, entry: &Entry) {
        let fault = if TOP_KEYS.contains(&name) {
            Fault::Refused { reason: "a profile has none; it belongs to the instance".to_owned() }
        } else if keys::key(name).is_some() || keys::GROUPS.iter().any(|(_, table)| starts_a_key(table, name)) {
            Fault::Refused { reason: "it belongs below [config]".to_owned() }
        } else {
            let nearest = nearest(name, TOP_KEYS.iter().copied()).map(str::to_owned);
            Fault::Unknown { what: "key", nearest }
        };
        self.problem(name, entry, fault);
    }

    fn config(&mut self, name: &str, entry: &Entry) {
        let Some(placed) = self.text(name, entry) else { return };
        let outcome = match keys::key(name) {
            Some(setting) => setting.set(&mut self.scratch, name, &placed.text),
            None => Err(Fault::Unknown { what: "key", nearest: keys::nearest_key(name) }),
        };
        if let Err(fault) = outcome {
            self.said.problems.push(placed.problem(name, fault));
        } else if self.said.config.contains_key(name) {
            let reason = "said twice, in quotes and dotted".to_owned();
            self.said.problems.push(placed.problem(name, Fault::Conflict { reason }));
        } else {
            self.said.config.insert(name.to_owned(), placed);
        }
    }

    fn device(&mut self, name: &str, line: usize) {
        let place = Placed { file: self.file.to_owned(), line, text: name.to_owned() };
        let is_plain = name.chars().all(|char| char.is_ascii_graphic() && char != '/');
        if name.is_empty() || !is_plain || MAX_DEVICE_NAME_BYTES < name.len() {
            let right = format!("a name of 1 to {MAX_DEVICE_NAME_BYTES} letters, digits, dashes and dots");
            self.said
                .problems
                .push(Problem { value: None, ..place.problem(format!("devices.{name}"), Fault::Value { right }) });
        }
        let device = SaidDevice { place, kind: None, options: BTreeMap::new() };
        self.said.devices.insert(name.to_owned(), device);
    }

    /// Options are checked once the type is known, in [`Reader::devices`].
    fn option(&mut self, device: &str, option: &str, entry: &Entry) {
        let key = format!("devices.{device}.{option}");
        let Some(placed) = self.text(&key, entry) else { return };
        // The table's own entry stands at its header, and so may come later than a dotted key above it.
        let place = || Placed { file: self.file.to_owned(), line: entry.line, text: device.to_owned() };
        let said = self.said.devices.entry(device.to_owned()).or_insert_with(|| SaidDevice {
            place: place(),
            kind: None,
            options: BTreeMap::new(),
        });
        if said.options.insert(option.to_owned(), placed.clone()).is_some() {
            let reason = "said twice, in quotes and dotted".to_owned();
            self.said.problems.push(placed.problem(key, Fault::Conflict { reason }));
        }
    }

    fn devices(&mut self) {
        for (name, device) in &mut self.said.devices {
            if MAX_PROBLEMS <= self.said.problems.len() {
                break;
            }
            let key = |option: &str| format!("devices.{name}.{option}");
            let Some(said_type) = device.options.remove("type") else {
                let right = format!("type = \"{}\"", likely_type(name));
                self.said.problems.push(device.problem(name, "type", Fault::Missing { right }));
                continue;
            };
            let (kind, options) = match device_type(&said_type.text) {
                Ok(found) => found,
                Err(fault) => {
                    self.said.problems.push(said_type.problem(key("type"), fault));
                    continue;
                }
            };
            device.kind = Some(kind);
            let mut draft = DeviceDraft::default();
            let before = self.said.problems.len();
            for (option, placed) in &device.options {
                let outcome = match find(options, option) {
                    Some(setting) => setting.set(&mut draft, option, &placed.text),
                    None => Err(Fault::Unknown { what: "option", nearest: nearest_setting(options, option) }),
                };
                if let Err(fault) = outcome {
                    self.said.problems.push(placed.problem(key(option), fault));
                }
            }
            if self.said.problems.len() == before {
                self.said.problems.extend(crate::devices::build(name, device).err().unwrap_or_default());
            }
        }
    }

    fn text(&mut self, key: &str, entry: &Entry) -> Option<Placed> {
        match &entry.said {
            Said::Text(text) => Some(self.placed(text, entry.line)),
            Said::List(_) | Said::Other | Said::Table => {
                self.wrong(key, entry, "a single value");
                None
            }
        }
    }

    fn list(&mut self, key: &str, entry: &Entry) -> Option<Vec<Placed>> {
        match &entry.said {
            Said::List(texts) if MAX_NAMES < texts.len() => {
                self.wrong(key, entry, &format!("at most {MAX_NAMES} names"));
                None
            }
            Said::List(texts) => Some(texts.iter().map(|(text, line)| self.placed(text, *line)).collect()),
            Said::Text(_) | Said::Other | Said::Table => {
                self.wrong(key, entry, "a list of names, such as [\"one\", \"two\"]");
                None
            }
        }
    }

    fn placed(&self, text: &str, line: usize) -> Placed {
        Placed { file: self.file.to_owned(), line, text: text.to_owned() }
    }

    fn wrong(&mut self, key: &str, entry: &Entry, right: &str) {
        self.problem(key, entry, Fault::Value { right: right.to_owned() });
    }

    fn problem(&mut self, key: &str, entry: &Entry, fault: Fault) {
        let value = match &entry.said {
            Said::Text(text) => Some(text.clone()),
            Said::List(_) | Said::Other | Said::Table => None,
        };
        let (file, key) = (self.file.to_owned(), key.to_owned());
        self.said.problems.push(Problem { file, line: entry.line, key, value, fault });
    }
}

/// Whether `name` is the first word of a key, as in `limits.memory = …` outside of `[config]`.
fn starts_a_key(table: &[crate::setting::Setting<ConfigDraft>], name: &str) -> bool {
    table.iter().any(|setting| setting.name.split('.').next() == Some(name))
}

/// The type that a device of this name most often has.
fn likely_type(name: &str) -> &'static str {
    if name.starts_with("eth") {
        "nic"
    } else if name.starts_with("gpio") {
        "gpio"
    } else {
        "disk"
    }
}
