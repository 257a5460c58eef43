//! What an instance's configuration is given as, whoever gives it: keys and devices as texts, each with its place. Files and
//! requests are read into layers, and from there on the compiler does not tell them apart.

use crate::problem::{Fault, Location, Problem};
use std::collections::BTreeMap;

/// One layer: a profile, or what an instance says itself. Of several layers the last one that says a key counts, and the last
/// one that says a device, which it says as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer {
    /// By key: `limits.memory`.
    pub config: BTreeMap<String, Located>,
    /// By name.
    pub devices: BTreeMap<String, LayerDevice>,
}

/// One device of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerDevice {
    /// Where it begins.
    pub location: Location,
    /// By option; `type` is one of them.
    pub options: BTreeMap<String, Located>,
}

/// A text with the location where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Where.
    pub location: Location,
    /// The text.
    pub text: String,
}

impl Layer {
    /// What a request says of an instance or a profile: LXD's `config` and `devices`.
    pub fn of_request(
        config: BTreeMap<String, String>,
        devices: BTreeMap<String, BTreeMap<String, String>>,
    ) -> Layer {
        let located = |texts: BTreeMap<String, String>| -> BTreeMap<String, Located> {
            texts.into_iter().map(|(name, text)| (name, Located { location: Location::Request, text })).collect()
        };
        let device = |options| LayerDevice { location: Location::Request, options: located(options) };
        let devices = devices.into_iter().map(|(name, options)| (name, device(options))).collect();
        Layer { config: located(config), devices }
    }
}

impl Located {
    /// A problem with this text as the value of `key`.
    pub(crate) fn problem(&self, key: impl Into<String>, fault: Fault) -> Problem {
        Problem { location: self.location.clone(), key: key.into(), value: Some(self.text.clone()), fault }
    }
}

impl LayerDevice {
    /// A problem with one of its options, or with the device when that is not said.
    pub(crate) fn problem(&self, device: &str, option: &str, fault: Fault) -> Problem {
        let key = format!("devices.{device}.{option}");
        match self.options.get(option) {
            Some(located) => located.problem(key, fault),
            None => Problem { location: self.location.clone(), key, value: None, fault },
        }
    }
}
