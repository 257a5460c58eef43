//! One file of an instance or a profile, read into a layer and what else a file says, and checked by itself. What only holds
//! together with other files (profiles, images, the instances it comes after) is looked at later.

use crate::document::{Entry, MAX_PROBLEMS, TomlValue, parse_document};
use crate::draft::ConfigDraft;
use crate::keys;
use crate::layer::{Layer, LayerDevice, Located};
use crate::nearest::nearest;
use crate::parsed_layer::{ParsedLayer, parse_layer};
use crate::problem::{Fault, Location, Problem};
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

/// What an instance or a profile says.
#[derive(Debug, Default)]
pub(crate) struct ParsedFile {
    /// `image`.
    pub(crate) image: Option<Located>,
    /// `profiles`; `None` when nothing is said of them.
    pub(crate) profiles: Option<Vec<Located>>,
    /// `after`.
    pub(crate) after: Vec<Located>,
    /// `[config]` and `[devices]`.
    pub(crate) layer: ParsedLayer,
    /// What is wrong with the file but for its layer.
    problems: Vec<Problem>,
}

/// The most profiles, or instances to come after. Each pair is compared.
const MAX_NAMES: usize = 32;

/// Reads a file of an instance or a profile.
pub(crate) fn parse_file(file: &str, kind: FileKind, bytes: &[u8]) -> ParsedFile {
    let (entries, syntax) = parse_document(file, bytes);
    let mut parsed = ParsedFile::default();
    let mut layer = Layer::default();
    let mut reader = Reader { file, kind, parsed: &mut parsed, layer: &mut layer };
    for entry in entries {
        if MAX_PROBLEMS <= reader.parsed.problems.len() {
            break;
        }
        reader.entry(entry);
    }
    if syntax.is_empty() && kind == FileKind::Instance && parsed.image.is_none() {
        parsed.problems.push(missing_image(whole(file)));
    }
    parsed.layer = parse_layer(layer);
    // What follows from a broken line is said by its syntax error.
    let broken: Vec<usize> = syntax.iter().map(|problem| problem.location.line()).collect();
    let is_whole = |problem: &Problem| !broken.contains(&problem.location.line());
    parsed.problems.retain(is_whole);
    parsed.layer.retain_problems(is_whole);
    parsed.problems.extend(syntax);
    parsed
}

impl ParsedFile {
    /// A file that cannot be read.
    pub(crate) fn unreadable(problem: Problem) -> ParsedFile {
        ParsedFile { problems: vec![problem], ..ParsedFile::default() }
    }

    /// What is wrong with the file but for its layer. If there is anything, no spec is made of this file.
    pub(crate) fn own_problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Everything that is wrong with the file, by line.
    pub(crate) fn all_problems(&self) -> Vec<Problem> {
        let mut all: Vec<Problem> = self.problems.iter().chain(self.layer.problems()).cloned().collect();
        all.sort_by_key(|problem| problem.location.line());
        all.truncate(MAX_PROBLEMS);
        all
    }
}

/// A file as a whole.
pub(crate) fn whole(file: &str) -> Location {
    Location::File { file: file.to_owned(), line: 0 }
}

/// A problem of a file as a whole.
pub(crate) fn file_problem(file: &str, key: &str, fault: Fault) -> Problem {
    Problem { location: whole(file), key: key.to_owned(), value: None, fault }
}

/// An instance without an image.
pub(crate) fn missing_image(location: Location) -> Problem {
    let expected = "image = \"ALIAS\" or a fingerprint".to_owned();
    Problem { location, key: "image".to_owned(), value: None, fault: Fault::Missing { expected } }
}

const TOP_KEYS: &[&str] = &["image", "profiles", "after", "description", "config", "devices"];

struct Reader<'a> {
    file: &'a str,
    kind: FileKind,
    parsed: &'a mut ParsedFile,
    layer: &'a mut Layer,
}

impl Reader<'_> {
    fn entry(&mut self, entry: Entry) {
        let path: Vec<&str> = entry.path.iter().map(String::as_str).collect();
        match (path.as_slice(), &entry.value) {
            (["config"] | ["devices"] | ["config", ..], TomlValue::Table) => {}
            (["config", rest @ ..], _) if !rest.is_empty() => self.config(&rest.join("."), &entry),
            (["devices", name], TomlValue::Table) => {
                self.device(name, entry.line);
            }
            (["devices", _, _, ..], TomlValue::Table) => {}
            (["devices", name, rest @ ..], _) if !rest.is_empty() => self.option(name, &rest.join("."), &entry),
            ([name @ ("config" | "devices")], _) => self.wrong(name, &entry, &format!("a table: [{name}]")),
            (["devices", name], _) => self.wrong(&format!("devices.{name}"), &entry, "a table with a type"),
            (["image"], _) if self.kind == FileKind::Instance => self.parsed.image = self.text("image", &entry),
            (["description"], _) => drop(self.text("description", &entry)),
            (["profiles"], _) if self.kind == FileKind::Instance => {
                self.parsed.profiles = self.list("profiles", &entry)
            }
            (["after"], _) if self.kind == FileKind::Instance => {
                self.parsed.after = self.list("after", &entry).unwrap_or_default();
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
        let Some(located) = self.text(name, entry) else { return };
        if self.layer.config.contains_key(name) {
            self.said_twice(name.to_owned(), &located);
        } else {
            self.layer.config.insert(name.to_owned(), located);
        }
    }

    fn option(&mut self, device: &str, option: &str, entry: &Entry) {
        let key = format!("devices.{device}.{option}");
        let Some(located) = self.text(&key, entry) else { return };
        let options = &mut self.device(device, entry.line).options;
        if options.contains_key(option) {
            self.said_twice(key, &located);
        } else {
            options.insert(option.to_owned(), located);
        }
    }

    /// The device; it begins where it is first spoken of. The table's own entry stands at its header, and so may come later
    /// than a dotted key above it.
    fn device(&mut self, name: &str, line: usize) -> &mut LayerDevice {
        let location = self.location(line);
        let device = || LayerDevice { location, options: BTreeMap::new() };
        self.layer.devices.entry(name.to_owned()).or_insert_with(device)
    }

    fn said_twice(&mut self, key: String, located: &Located) {
        let reason = "given twice, in quotes and dotted".to_owned();
        self.parsed.problems.push(located.problem(key, Fault::Conflict { reason }));
    }

    fn text(&mut self, key: &str, entry: &Entry) -> Option<Located> {
        match &entry.value {
            TomlValue::Text(text) => Some(self.located(text, entry.line)),
            TomlValue::List(_) | TomlValue::Other | TomlValue::Table => {
                self.wrong(key, entry, "a single value");
                None
            }
        }
    }

    fn list(&mut self, key: &str, entry: &Entry) -> Option<Vec<Located>> {
        match &entry.value {
            TomlValue::List(texts) if MAX_NAMES < texts.len() => {
                self.wrong(key, entry, &format!("at most {MAX_NAMES} names"));
                None
            }
            TomlValue::List(texts) => Some(texts.iter().map(|(text, line)| self.located(text, *line)).collect()),
            TomlValue::Text(_) | TomlValue::Other | TomlValue::Table => {
                self.wrong(key, entry, "a list of names, such as [\"one\", \"two\"]");
                None
            }
        }
    }

    fn located(&self, text: &str, line: usize) -> Located {
        Located { location: self.location(line), text: text.to_owned() }
    }

    fn location(&self, line: usize) -> Location {
        Location::File { file: self.file.to_owned(), line }
    }

    fn wrong(&mut self, key: &str, entry: &Entry, expected: &str) {
        self.problem(key, entry, Fault::Value { expected: expected.to_owned() });
    }

    fn problem(&mut self, key: &str, entry: &Entry, fault: Fault) {
        self.parsed.problems.push(entry.problem(self.file, key, fault));
    }
}

/// Whether `name` is the first word of a key, as in `limits.memory = …` outside of `[config]`.
fn starts_a_key(table: &[crate::setting::Setting<ConfigDraft>], name: &str) -> bool {
    table.iter().any(|setting| setting.name.split('.').next() == Some(name))
}
