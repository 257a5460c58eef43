//! What differs between two specs of one instance, key by key, in the words of the configuration: `limits.memory` from
//! `64MiB` to `128MiB`, at once. All of it comes from the tables of keys and of device types; what init does with a new spec
//! is [`crate::apply`].

use crate::device_types::{DEVICE_TYPES, DeviceType, Offer};
use crate::devices::Built;
use crate::draft::ConfigDraft;
use crate::instance::InstanceSpec;
use crate::keys;
use crate::row::find_row;
use crate::setting::Applies;
use crate::values::show_size;
use std::collections::{BTreeMap, BTreeSet};
use yado_wire::{InstanceName, hex};

/// One key that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `limits.memory`, `devices.eth0.network`; and what is no key of `[config]`: `image`, `after`, and what comes with the
    /// image, `image: init` and `image: stop method`.
    pub key: String,
    /// As it would be written; `None`: it is not said and nothing stands for it, or it is the default of a device that is
    /// not there.
    pub old: Option<String>,
    /// The same of the new spec.
    pub new: Option<String>,
    /// When it applies to an instance that runs.
    pub applies: Applies,
}

/// Every key that differs: first those outside of `[config]`, then those of the tables in their order, then devices by name.
/// Empty exactly when the specs are equal.
pub fn changes(old: &InstanceSpec, new: &InstanceSpec) -> Vec<Change> {
    let mut changes = top_changes(old, new);
    let (old_draft, new_draft) = (ConfigDraft::of(old), ConfigDraft::of(new));
    for setting in keys::GROUPS.iter().flat_map(|(_, table)| *table) {
        let texts = |draft: &ConfigDraft| setting.show(draft).into_iter().collect::<BTreeMap<_, _>>();
        changes.extend(differences(&texts(&old_draft), &texts(&new_draft), |_| setting.applies));
    }
    let (old_devices, new_devices) = (devices(old), devices(new));
    let names: BTreeSet<&str> = old_devices.keys().chain(new_devices.keys()).copied().collect();
    for name in names {
        changes.extend(device_changes(name, old_devices.get(name), new_devices.get(name)));
    }
    changes
}

/// What is no key of `[config]`.
fn top_changes(old: &InstanceSpec, new: &InstanceSpec) -> Vec<Change> {
    let texts = |spec: &InstanceSpec| {
        let after = spec.boot.after.iter().map(InstanceName::as_str).collect::<Vec<_>>().join(", ");
        [
            ("name", spec.name.to_string(), Applies::AtRestart),
            ("image", hex::encode(&spec.image), Applies::AtRestart),
            ("image: init", spec.init.join(" "), Applies::AtRestart),
            // The init that runs is the old image's.
            ("image: stop method", spec.image_stop_method.to_string(), Applies::AtRestart),
            // It says when the instance is started the next time.
            ("after", after, Applies::AtOnce),
            // The root is not among the devices of a spec; `root` is what LXD calls it.
            ("devices.root.pool", spec.root.pool.clone(), Applies::AtRestart),
            ("devices.root.size", spec.root.size_bytes.map(show_size).unwrap_or_default(), Applies::AtRestart),
        ]
    };
    let said = |text: String| (!text.is_empty()).then_some(text);
    let pairs = texts(old).into_iter().zip(texts(new)).filter(|((_, old, _), (_, new, _))| old != new);
    pairs
        .map(|((key, old, applies), (_, new, _))| Change {
            key: key.to_owned(),
            old: said(old),
            new: said(new),
            applies,
        })
        .collect()
}

/// One device, of which at least one side is there.
fn device_changes(name: &str, old: Option<&Built>, new: Option<&Built>) -> Vec<Change> {
    let (old, new) = (old.and_then(shown_type), new.and_then(shown_type));
    let is_same_type = matches!((&old, &new), (Some((old, _)), Some((new, _))) if old.name == new.name);
    let texts = |shown: &Option<(&'static DeviceType, BTreeMap<String, String>)>| {
        let Some((device_type, texts)) = shown else { return BTreeMap::new() };
        let mut texts = texts.clone();
        // Options at their defaults are left out where the other side has no such options to compare them with.
        if let (Offer::As(options), false) = (&device_type.offer, is_same_type) {
            let defaults = options.show_defaults();
            texts.retain(|option, text| defaults.get(option) != Some(text));
        }
        texts.insert("type".to_owned(), device_type.name.to_owned());
        texts
    };
    let applies = |option: &str| {
        let types = [&old, &new].into_iter().flatten().map(|(device_type, _)| applies(device_type, option));
        types.max().unwrap_or(Applies::AtOnce)
    };
    let changes = differences(&texts(&old), &texts(&new), applies);
    changes.into_iter().map(|change| Change { key: format!("devices.{name}.{}", change.key), ..change }).collect()
}

/// When a change of one option applies. One that comes or goes with its device does so when the device does.
fn applies(device_type: &DeviceType, option: &str) -> Applies {
    find_row(&device_type.options(), option).map_or(device_type.applies, |row| row.applies())
}

/// The type of a device, and its options as texts.
fn shown_type(built: &Built) -> Option<(&'static DeviceType, BTreeMap<String, String>)> {
    DEVICE_TYPES.iter().find_map(|device_type| match device_type.offer {
        Offer::As(options) => Some((device_type, options.show(built)?)),
        Offer::Refused { reason: _ } => None,
    })
}

/// The devices of a spec by name. The root is none of them.
fn devices(spec: &InstanceSpec) -> BTreeMap<&str, Built> {
    let nics = spec.nics.iter().map(|nic| (nic.name.as_str(), Built::Nic(nic.clone())));
    let disks = spec.disks.iter().map(|disk| (disk.name.as_str(), Built::Disk(disk.clone())));
    let nodes = spec.devices.iter().map(|device| (device.name.as_str(), Built::Nodes(device.clone())));
    nics.chain(disks).chain(nodes).collect()
}

pub(crate) fn differences(
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
    applies: impl Fn(&str) -> Applies,
) -> Vec<Change> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    changed
        .map(|key| Change {
            key: key.clone(),
            old: old.get(key).cloned(),
            new: new.get(key).cloned(),
            applies: applies(key),
        })
        .collect()
}
