//! What an apply will change: what is configured now beside what runs, or would.

use crate::output;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use yado_spec::changes::{Change, changes};
use yado_spec::compile::Compiled;
use yado_spec::file;
use yado_spec::instance::InstanceSpec;
use yado_spec::network::{BridgeSpec, NetworksSpec, UplinkSpec};
use yado_spec::setting::Applies;
use yado_wire::InstanceName;
use yado_wire::rescue::InstanceStatus;

/// Over [`Row::cells`].
const HEADINGS: [&str; 5] = ["INSTANCE", "KEY", "NOW", "THEN", "APPLIES"];

/// Many times the networks that there can be.
const MAX_NETWORKS_BYTES: u64 = 1 << 20;

/// Everything that changes.
#[derive(Debug)]
pub(super) struct Plan {
    rows: Vec<Row>,
    networks: Vec<NetworkRow>,
}

/// One change.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    instance: InstanceName,
    what: What,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    /// It is configured, and was not.
    New { starts: bool },
    /// It is configured no more.
    Gone,
    /// A key of it is another.
    Key { change: Change, is_running: bool },
}

/// A network that becomes another.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NetworkRow {
    name: String,
    /// `new`, `changed` or `deleted`.
    what: &'static str,
}

impl Plan {
    /// `running`: what init knows.
    pub(super) fn new(system: &Path, run: &Path, running: &[InstanceStatus], compiled: &Compiled) -> Plan {
        let mut rows = Vec::new();
        for (name, spec) in &compiled.instances {
            let Ok(desired) = spec else { continue };
            match running.iter().find(|status| status.name == *name) {
                None => rows.push(Row { instance: name.clone(), what: What::New { starts: desired.boot.autostart } }),
                Some(status) => {
                    let actual = actual(run, status);
                    let is_running = actual.is_some();
                    let Some(before) = actual.or_else(|| configured(system, run, name)) else { continue };
                    rows.extend(
                        changes(&before, desired)
                            .into_iter()
                            .map(|change| Row { instance: name.clone(), what: What::Key { change, is_running } }),
                    );
                }
            }
        }
        for status in running {
            if compiled.instances.iter().all(|(name, _)| *name != status.name) {
                rows.push(Row { instance: status.name.clone(), what: What::Gone });
            }
        }
        let networks = network_rows(networks(system, run).as_ref(), &compiled.networks);
        Plan { rows, networks }
    }

    /// A table, or that there is nothing in it.
    pub(super) fn table(&self) -> String {
        if self.rows.is_empty() && self.networks.is_empty() {
            return "nothing changes\n".to_owned();
        }
        let cells = self.rows.iter().map(Row::cells).chain(self.networks.iter().map(NetworkRow::cells));
        output::table(&HEADINGS, cells)
    }

    pub(super) fn json(&self) -> Value {
        self.rows.iter().map(Row::json).chain(self.networks.iter().map(NetworkRow::json)).collect()
    }
}

impl NetworkRow {
    fn cells(&self) -> Vec<String> {
        let what = format!("({})", self.what);
        vec![format!("network {}", self.name), what, "-".to_owned(), "-".to_owned(), "at once".to_owned()]
    }

    fn json(&self) -> Value {
        json!({ "network": self.name, "kind": self.what })
    }
}

fn network_rows(old: Option<&NetworksSpec>, new: &NetworksSpec) -> Vec<NetworkRow> {
    // As long as it is not known what there was, nothing is said of it.
    let Some(old) = old else { return Vec::new() };
    let all = [old, new].into_iter().flat_map(network_names);
    let names: BTreeSet<&str> = all.collect();
    let rows = names.into_iter().filter_map(|name| {
        let of = |spec| network(spec, name);
        let what = match (of(old), of(new)) {
            ((None, None), _) => "new",
            (_, (None, None)) => "deleted",
            (old, new) if old != new => "changed",
            _ => return None,
        };
        Some(NetworkRow { name: name.to_owned(), what })
    });
    rows.collect()
}

fn network_names(spec: &NetworksSpec) -> impl Iterator<Item = &str> {
    spec.bridges
        .iter()
        .map(|bridge| bridge.name.as_str())
        .chain(spec.uplinks.iter().map(|uplink| uplink.name.as_str()))
}

fn network<'a>(spec: &'a NetworksSpec, name: &str) -> (Option<&'a BridgeSpec>, Option<&'a UplinkSpec>) {
    let bridge = spec.bridges.iter().find(|bridge| bridge.name == name);
    (bridge, spec.uplinks.iter().find(|uplink| uplink.name == name))
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let said = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let [key, old, new, applies] = match &self.what {
            What::New { starts: true } => {
                ["(new)".to_owned(), "-".to_owned(), "started".to_owned(), "at once".to_owned()]
            }
            What::New { starts: false } => {
                ["(new)".to_owned(), "-".to_owned(), "stopped".to_owned(), "at once".to_owned()]
            }
            What::Gone => ["(deleted)".to_owned(), "-".to_owned(), "gone".to_owned(), "at once".to_owned()],
            What::Key { change, is_running } => [
                change.key.clone(),
                said(&change.old),
                said(&change.new),
                when(change.applies, *is_running).to_owned(),
            ],
        };
        vec![self.instance.to_string(), key, old, new, applies]
    }

    fn json(&self) -> Value {
        let instance = self.instance.as_str();
        match &self.what {
            What::New { starts } => json!({ "instance": instance, "kind": "new", "starts": starts }),
            What::Gone => json!({ "instance": instance, "kind": "deleted" }),
            What::Key { change: Change { key, old, new, applies }, is_running } => json!({
                "instance": instance, "kind": "changed", "key": key, "old": old, "new": new,
                "applies": when(*applies, *is_running),
            }),
        }
    }
}

fn when(applies: Applies, is_running: bool) -> &'static str {
    match (applies, is_running) {
        (Applies::AtOnce, true) => "at once",
        (Applies::AtRestart, true) => "at restart",
        (_, false) => "at its start",
    }
}

/// The spec by which an instance runs.
pub(crate) fn actual(run: &Path, status: &InstanceStatus) -> Option<InstanceSpec> {
    let place = format!("{}.{}", status.name, status.id);
    read_spec(&run.join("instances").join(place).join(file::ACTUAL))
}

/// The spec that was compiled last, at this start of the system or with its image.
pub(crate) fn configured(system: &Path, run: &Path, name: &InstanceName) -> Option<InstanceSpec> {
    let file = format!("{name}.bin");
    [run, system].into_iter().find_map(|place| read_spec(&place.join("specs").join(&file)))
}

/// The networks that were compiled last.
fn networks(system: &Path, run: &Path) -> Option<NetworksSpec> {
    let read = |place: &Path| {
        NetworksSpec::decode(&read_bounded(&place.join("specs/networks.bin"), MAX_NETWORKS_BYTES)?).ok()
    };
    [run, system].into_iter().find_map(read)
}

fn read_spec(path: &Path) -> Option<InstanceSpec> {
    let bytes = read_bounded(path, file::MAX_FILE_BYTES as u64 + 1)?;
    file::decode(&bytes).ok().map(|(spec, _)| spec)
}

fn read_bounded(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
