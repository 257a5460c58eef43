//! One instance: its layers one above the other, its image, and what must hold between its keys and devices.

use super::{Heading, ImageFacts, ImageKind, World};
use crate::devices::Built;
use crate::draft::{ConfigDraft, ReadyWord};
use crate::file::{Digest, MAX_FILE_BYTES, encode};
use crate::instance::{Device, DeviceSelect, InstanceSpec, Nic, NicKind, RootSpec};
use crate::keys;
use crate::layer::{LayerDevice, Located};
use crate::nearest::nearest;
use crate::parsed_file::missing_image;
use crate::parsed_layer::{ParsedDevice, ParsedKey, ParsedLayer};
use crate::problem::{Fault, Location, Problem};
use crate::sources::is_fingerprint_prefix;
use std::collections::BTreeMap;
use std::path::PathBuf;
use yado_wire::network::MAX_NICS;
use yado_wire::{InstanceName, hex};

/// The instance's spec, or all that is wrong.
pub(super) fn spec(
    heading: Heading<'_>,
    layers: &[&ParsedLayer],
    world: &World<'_>,
) -> Result<InstanceSpec, Vec<Problem>> {
    let mut problems: Vec<Problem> = layers.iter().flat_map(|layer| layer.problems()).cloned().collect();
    let config: BTreeMap<&String, &ParsedKey> = layers.iter().flat_map(|layer| &layer.config).collect();
    let devices: BTreeMap<&String, &ParsedDevice> = layers.iter().flat_map(|layer| &layer.devices).collect();
    let mut draft = keys::default_config();
    config.values().for_each(|key| key.effect.apply(&mut draft));
    problems.extend(config_conflicts(&config, &draft));
    let image = match heading.image {
        Some(source) => world.image(heading.name, source),
        None => Err(missing_image(heading.location.clone())),
    };
    let image = image.map_err(|problem| problems.push(problem)).ok();
    let built = world.devices(&devices, &mut problems);
    let spec = image.map(|(fingerprint, facts)| assemble(heading.name, fingerprint, facts, draft, built));
    problems.extend(spec.as_ref().and_then(|spec| check_size(heading.location, spec)));
    match spec {
        Some(spec) if problems.is_empty() => Ok(spec),
        Some(_) | None => Err(problems),
    }
}

impl World<'_> {
    /// The image that the instance gets: that of its pin, or else its own, by alias, by fingerprint, or by the beginning of one.
    fn image(&self, name: &InstanceName, source: &Located) -> Result<([u8; 32], ImageFacts), Problem> {
        let own = find_image(source, self.aliases, self.images)?;
        if let Some(Ok(pinned)) = self.pinned(name, &own) {
            return Ok(pinned);
        }
        self.usable(&own).map_err(|reason| source.problem("image", Fault::Refused { reason }))
    }

    /// Why the instance has its own image and not that of its pin. A device that has lost an image does more with an older one
    /// than with none.
    pub(super) fn passed_over(&self, name: &InstanceName, source: &Located) -> Option<Problem> {
        let own = find_image(source, self.aliases, self.images).ok()?;
        let reason = self.pinned(name, &own)?.err()?;
        let reason = format!("an update gave it another image, and it has its own: {reason}");
        Some(source.problem("image", Fault::Conflict { reason }))
    }

    fn pinned(&self, name: &InstanceName, own: &[u8; 32]) -> Option<Result<([u8; 32], ImageFacts), String>> {
        Some(self.usable(self.pins.get(name)?.get(own)?))
    }

    fn usable(&self, fingerprint: &[u8; 32]) -> Result<([u8; 32], ImageFacts), String> {
        let path = self.images.get(fingerprint);
        let path = path.ok_or_else(|| format!("the image {} is not on this machine", hex::encode(fingerprint)))?;
        let facts = (self.facts)(fingerprint, path)?;
        match facts.kind {
            ImageKind::Instance => Ok((*fingerprint, facts)),
            ImageKind::System => Err("it is the image of a system; an instance needs one of an instance".to_owned()),
        }
    }

    fn devices(
        &self,
        devices: &BTreeMap<&String, &ParsedDevice>,
        problems: &mut Vec<Problem>,
    ) -> Vec<(String, Built)> {
        let mut all = Vec::new();
        for (name, ParsedDevice { source, built }) in devices {
            // What is wrong with a device by itself was told with its layer.
            if let Some(built) = built {
                problems.extend(self.network_problem(name, source, built));
                problems.extend(all.iter().filter_map(|earlier| conflict(name, source, built, earlier)));
                all.push(((*name).clone(), built.clone()));
            }
        }
        let nics = all.iter().filter(|(_, built)| matches!(built, Built::Nic(_))).count();
        if let (true, Some((name, device))) = (MAX_NICS < nics, devices.iter().next()) {
            let reason = format!("{nics} interfaces, at most {MAX_NICS} are possible");
            problems.push(device.source.problem(name, "type", Fault::Conflict { reason }));
        }
        all
    }

    fn network_problem(&self, name: &str, source: &LayerDevice, built: &Built) -> Option<Problem> {
        let Built::Nic(Nic { kind: NicKind::Network { network }, ipv4_address, .. }) = built else {
            return None;
        };
        let Some(bridge) = self.networks.bridges.iter().find(|bridge| bridge.name == *network) else {
            let known = self.networks.bridges.iter().map(|bridge| bridge.name.as_str());
            let nearest = nearest(network, known).map(str::to_owned);
            return Some(source.problem(name, "network", Fault::Unknown { what: "network", nearest }));
        };
        let address = (*ipv4_address)?;
        let expected = match &bridge.ipv4 {
            Some(ipv4) if ipv4.dhcp.is_none() => {
                return Some(source.problem(
                    name,
                    "ipv4.address",
                    Fault::Conflict {
                        reason: format!("the network {network} has ipv4.dhcp = false, so nobody gives the address"),
                    },
                ));
            }
            Some(ipv4) => {
                let prefix = ipv4.address;
                let is_host = prefix.contains(address)
                    && ![prefix.address(), prefix.network(), prefix.broadcast()].contains(&address);
                (!is_host).then(|| format!("an address of {network}, which is {prefix}, and not the network's own"))
            }
            None => Some(format!("left out: the network {network} has no addresses")),
        };
        expected.map(|expected| source.problem(name, "ipv4.address", Fault::Value { expected }))
    }
}

/// The image that is meant by an alias, a fingerprint, or the beginning of one.
pub(super) fn find_image(
    source: &Located,
    aliases: &BTreeMap<String, [u8; 32]>,
    images: &BTreeMap<[u8; 32], PathBuf>,
) -> Result<[u8; 32], Problem> {
    let text = source.text.as_str();
    if let Some(fingerprint) = aliases.get(text).copied().or_else(|| hex::parse_digest(text)) {
        return Ok(fingerprint);
    }
    let fault = if is_fingerprint_prefix(text) {
        let prefix = text.to_ascii_lowercase();
        let mut matches = images.keys().filter(|fingerprint| hex::encode(*fingerprint).starts_with(&prefix));
        match (matches.next(), matches.next()) {
            (Some(one), None) => return Ok(*one),
            (Some(_), Some(_)) => Fault::Value { expected: "more digits: several images begin so".to_owned() },
            (None, _) => Fault::Unknown { what: "image", nearest: None },
        }
    } else {
        let nearest = nearest(text, aliases.keys().map(String::as_str)).map(str::to_owned);
        Fault::Unknown { what: "image", nearest }
    };
    Err(source.problem("image", fault))
}

/// Keys that are right by themselves and not together.
fn config_conflicts(config: &BTreeMap<&String, &ParsedKey>, draft: &ConfigDraft) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut conflict = |key: &str, is_wrong: bool, reason: &str| {
        if let (true, Some(parsed)) = (is_wrong, config.get(&key.to_owned())) {
            problems.push(parsed.source.problem(key, Fault::Conflict { reason: reason.to_owned() }));
        }
    };
    let both = draft.autorestart.is_some() && draft.restart.policy.is_some();
    conflict("boot.autorestart", both, "boot.restart is set too; use one of them");
    let longer = draft.restart.pause_max < draft.restart.pause;
    conflict("boot.restart.pause", longer, "longer than boot.restart.pause_max");
    conflict("boot.restart.pause_max", longer, "shorter than boot.restart.pause");
    let is_alive = draft.health.ready == ReadyWord::Alive;
    conflict("health.timeout", is_alive, "it counts only with health.ready = \"notify\" or \"probe\"");
    conflict("health.window", !is_alive, "it counts only with health.ready = \"alive\"");
    let has_probe = draft.health.probe.is_some();
    let waits_for_probe = draft.health.ready == ReadyWord::Probe;
    conflict("health.ready", waits_for_probe && !has_probe, "health.probe does not say what to try");
    for key in ["health.probe.interval", "health.probe.timeout", "health.probe.failures"] {
        conflict(key, !has_probe, "it counts only with health.probe");
    }
    problems
}

/// Two devices of one instance that want the same place.
fn conflict(name: &str, source: &LayerDevice, built: &Built, (other, earlier): &(String, Built)) -> Option<Problem> {
    let (option, what) = match (built, earlier) {
        (Built::Nic(nic), Built::Nic(other)) if nic.interface == other.interface => ("name", "the interface's name"),
        (Built::Nic(nic), Built::Nic(other)) if nic.hwaddr.is_some() && nic.hwaddr == other.hwaddr => {
            ("hwaddr", "the MAC address")
        }
        (Built::Nic(nic), Built::Nic(other)) if nic.host_name.is_some() && nic.host_name == other.host_name => {
            ("host_name", "the name on the host")
        }
        (Built::Nic(nic), Built::Nic(other))
            if nic.ipv4_address.is_some() && nic.ipv4_address == other.ipv4_address =>
        {
            ("ipv4.address", "the address")
        }
        (Built::Root(_), Built::Root(_)) => ("path", "the path"),
        (Built::Disk(disk), Built::Disk(other)) if disk.path == other.path => ("path", "the path"),
        (Built::Nodes(device), Built::Nodes(other)) if same_node(device, other) => ("path", "the node"),
        _ => return None,
    };
    Some(source.problem(
        name,
        option,
        Fault::Conflict { reason: format!("{what} is that of the device {other} too") },
    ))
}

fn same_node(device: &Device, other: &Device) -> bool {
    match (&device.select, &other.select) {
        (DeviceSelect::Node { path, .. }, DeviceSelect::Node { path: other, .. }) => path == other,
        (DeviceSelect::Gpio { chip }, DeviceSelect::Gpio { chip: other }) => chip == other,
        // Each type is named, so that a new one is thought of here.
        (
            DeviceSelect::Node { .. }
            | DeviceSelect::Gpio { .. }
            | DeviceSelect::Usb(_)
            | DeviceSelect::Hotplug { .. },
            _,
        ) => false,
    }
}

fn assemble(
    name: &InstanceName,
    image: [u8; 32],
    facts: ImageFacts,
    draft: ConfigDraft,
    built: Vec<(String, Built)>,
) -> InstanceSpec {
    let (health, restart, limits, security) = (draft.health(), draft.restart(), draft.limits(), draft.security());
    let mut spec = InstanceSpec {
        name: name.clone(),
        image,
        init: facts.init,
        image_stop_method: facts.stop_method,
        environment: draft.environment.into_iter().collect(),
        boot: draft.boot,
        health,
        restart,
        limits,
        security,
        nics: Vec::new(),
        root: RootSpec::default(),
        disks: Vec::new(),
        devices: Vec::new(),
    };
    for (_, built) in built {
        match built {
            Built::Nic(nic) => spec.nics.push(nic),
            Built::Root(root) => spec.root = root,
            Built::Disk(disk) => spec.disks.push(disk),
            Built::Nodes(device) => spec.devices.push(device),
            Built::Nothing => {}
        }
    }
    // A mount below another one is made after it.
    spec.disks.sort_by(|one, other| one.path.cmp(&other.path));
    spec
}

/// The spec must fit into its file.
fn check_size(location: &Location, spec: &InstanceSpec) -> Option<Problem> {
    match encode(spec, Digest([0; 32])) {
        Ok(_) => None,
        Err(_) => {
            let reason = format!("all together is longer than {MAX_FILE_BYTES} bytes; is environment.* that long?");
            let (location, key) = (location.clone(), String::new());
            Some(Problem { location, key, value: None, fault: Fault::Conflict { reason } })
        }
    }
}
