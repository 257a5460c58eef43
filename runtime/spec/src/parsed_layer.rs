//! A layer with every text parsed, once: each key is good on its own, and each device is built. What only holds together
//! with other layers, networks and images is looked at when an instance is compiled.

use crate::devices::{self, Built};
use crate::document::MAX_PROBLEMS;
use crate::draft::ConfigDraft;
use crate::keys;
use crate::layer::{Layer, LayerDevice, Located};
use crate::problem::{Fault, Problem};
use crate::setting::Effect;
use std::collections::BTreeMap;

/// A layer that was parsed.
#[derive(Debug, Default)]
pub struct ParsedLayer {
    /// The good keys.
    pub(crate) config: BTreeMap<String, ParsedKey>,
    /// All devices; a bad one still replaces that of an earlier layer.
    pub(crate) devices: BTreeMap<String, ParsedDevice>,
    problems: Vec<Problem>,
}

/// One key.
#[derive(Debug)]
pub(crate) struct ParsedKey {
    /// As it was said.
    pub(crate) source: Located,
    /// What it does.
    pub(crate) effect: Effect<ConfigDraft>,
}

/// One device.
#[derive(Debug)]
pub(crate) struct ParsedDevice {
    /// As it was said.
    pub(crate) source: LayerDevice,
    /// `None`: the layer's problems say why.
    pub(crate) built: Option<Built>,
}

impl ParsedLayer {
    /// What is wrong with the layer by itself. No instance is made of one with problems.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Leaves out problems that follow from others.
    pub(crate) fn retain_problems(&mut self, is_kept: impl FnMut(&Problem) -> bool) {
        self.problems.retain(is_kept);
    }
}

/// The longest name of a device: LXD's.
const MAX_DEVICE_NAME_BYTES: usize = 64;

/// Parses every text. After so many problems as are told of a file the rest is left out.
pub fn parse_layer(layer: Layer) -> ParsedLayer {
    let mut parsed = ParsedLayer::default();
    for (name, source) in layer.config {
        if MAX_PROBLEMS <= parsed.problems.len() {
            break;
        }
        match parse_key(&name, &source) {
            Ok(effect) => {
                parsed.config.insert(name, ParsedKey { source, effect });
            }
            Err(fault) => parsed.problems.push(source.problem(name, fault)),
        }
    }
    for (name, source) in layer.devices {
        if MAX_PROBLEMS <= parsed.problems.len() {
            break;
        }
        let built = match (check_device_name(&name, &source), devices::build(&name, &source)) {
            (Ok(()), Ok(built)) => Some(built),
            (bad_name, built) => {
                parsed.problems.extend(bad_name.err().into_iter().chain(built.err().unwrap_or_default()));
                None
            }
        };
        parsed.devices.insert(name, ParsedDevice { source, built });
    }
    parsed
}

fn parse_key(name: &str, source: &Located) -> Result<Effect<ConfigDraft>, Fault> {
    match keys::key(name) {
        Some(setting) => setting.parse(name, &source.text),
        None => Err(Fault::Unknown { what: "key", nearest: keys::nearest_key(name) }),
    }
}

fn check_device_name(name: &str, source: &LayerDevice) -> Result<(), Problem> {
    let is_plain = name.chars().all(|char| char.is_ascii_graphic() && char != '/');
    if !name.is_empty() && is_plain && name.len() <= MAX_DEVICE_NAME_BYTES {
        return Ok(());
    }
    let expected = format!("a name of 1 to {MAX_DEVICE_NAME_BYTES} letters, digits, dashes and dots");
    let (location, key) = (source.location.clone(), format!("devices.{name}"));
    Err(Problem { location, key, value: None, fault: Fault::Value { expected } })
}
