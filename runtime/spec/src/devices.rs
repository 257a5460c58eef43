//! From what is said of one device to its part of the spec, whatever its type: which type it is, its options into the type's
//! draft, and the draft into the spec. What is particular to a type is in the type's own module.

use crate::device_types::device_type;
use crate::instance::{Device, Disk, Nic, RootSpec};
use crate::layer::LayerDevice;
use crate::problem::{Fault, Problem};
use crate::row::{Row, rows};
use crate::setting::{Setting, find, nearest_setting, set_defaults};
use std::collections::BTreeMap;

/// A device's part of the spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Built {
    /// `nic`.
    Nic(Nic),
    /// `disk` with `path = "/"`.
    Root(RootSpec),
    /// `disk`.
    Disk(Disk),
    /// A device that gives nodes.
    Nodes(Device),
    /// `none`.
    Nothing,
}

/// What the compiler asks of a type, whatever its draft is.
pub(crate) trait DeviceOptions: Sync {
    /// The options.
    fn rows(&self) -> Vec<&'static dyn Row>;
    /// One device of the type. What is wrong with single options comes first; only if that is nothing, what is wrong with the
    /// device as a whole.
    fn build(&self, name: &str, source: &LayerDevice) -> Result<Built, Vec<Problem>>;
    /// A device's options as texts; `None`: it is of another type.
    fn show(&self, built: &Built) -> Option<BTreeMap<String, String>>;
    /// The texts of the defaults.
    fn show_defaults(&self) -> BTreeMap<String, String>;
}

/// The table of a type, with its draft.
pub(crate) struct Table<D: 'static> {
    /// The options.
    pub(crate) options: &'static [Setting<D>],
    /// What the draft makes of the device; `None`: the builder has the problems.
    pub(crate) build: fn(&mut Builder<'_>, D) -> Option<Built>,
    /// The draft that would be built to this, in the plainest way of saying it; `None`: it is of another type.
    pub(crate) read_back: fn(&Built) -> Option<D>,
}

impl<D: Default> DeviceOptions for Table<D> {
    fn rows(&self) -> Vec<&'static dyn Row> {
        rows(self.options)
    }

    fn build(&self, name: &str, source: &LayerDevice) -> Result<Built, Vec<Problem>> {
        let draft = self.parse(name, source)?;
        let mut builder = Builder { name, source, problems: Vec::new() };
        match (self.build)(&mut builder, draft) {
            Some(built) if builder.problems.is_empty() => Ok(built),
            Some(_) | None => Err(builder.problems),
        }
    }

    fn show(&self, built: &Built) -> Option<BTreeMap<String, String>> {
        Some(self.texts(&(self.read_back)(built)?))
    }

    fn show_defaults(&self) -> BTreeMap<String, String> {
        self.texts(&self.default_draft())
    }
}

impl<D: Default> Table<D> {
    fn parse(&self, name: &str, source: &LayerDevice) -> Result<D, Vec<Problem>> {
        let mut draft = self.default_draft();
        let mut problems = Vec::new();
        for (option, located) in source.options.iter().filter(|(option, _)| *option != "type") {
            let parsed = match find(self.options, option) {
                Some(setting) => setting.parse(option, &located.text),
                None => Err(Fault::Unknown { what: "option", nearest: nearest_setting(self.options, option) }),
            };
            match parsed {
                Ok(effect) => effect.apply(&mut draft),
                Err(fault) => problems.push(source.problem(name, option, fault)),
            }
        }
        if problems.is_empty() { Ok(draft) } else { Err(problems) }
    }

    fn default_draft(&self) -> D {
        let mut draft = D::default();
        set_defaults(self.options, &mut draft);
        draft
    }

    fn texts(&self, draft: &D) -> BTreeMap<String, String> {
        self.options.iter().flat_map(|setting| setting.show(draft)).collect()
    }
}

/// Parses and builds one device, or says everything that is wrong with it.
pub(crate) fn build(name: &str, source: &LayerDevice) -> Result<Built, Vec<Problem>> {
    let found = match source.options.get("type") {
        Some(word) => device_type(&word.text),
        None => Err(Fault::Missing { expected: format!("type = \"{}\"", likely_type(name)) }),
    };
    match found {
        Ok(options) => options.build(name, source),
        Err(fault) => Err(vec![source.problem(name, "type", fault)]),
    }
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

/// What the types' builders are given: the device as it was said, to tell what is missing and what does not go together.
pub(crate) struct Builder<'a> {
    /// The device's name.
    pub(crate) name: &'a str,
    source: &'a LayerDevice,
    problems: Vec<Problem>,
}

impl Builder<'_> {
    /// The option's value, or the problem that it is not said.
    pub(crate) fn need<T>(&mut self, value: Option<T>, option: &str, expected: &str) -> Option<T> {
        if value.is_none() {
            let fault = Fault::Missing { expected: expected.to_owned() };
            self.problems.push(self.source.problem(self.name, option, fault));
        }
        value
    }

    /// An option that must not be said here.
    pub(crate) fn refuse(&mut self, option: &str, reason: &str) {
        if self.source.options.contains_key(option) {
            let fault = Fault::Conflict { reason: reason.to_owned() };
            self.problems.push(self.source.problem(self.name, option, fault));
        }
    }
}
