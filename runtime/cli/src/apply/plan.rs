//! What an apply will change: what is configured now beside what runs, or would.

use crate::output;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use yado_spec::changes::{Change, changes};
use yado_spec::compile::Compiled;
use yado_spec::directory_name::directory_name;
use yado_spec::file;
use yado_spec::instance::InstanceSpec;
use yado_spec::network::NetworksSpec;
use yado_spec::network_changes::{NetworkChange, network_changes};
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
    networks: Vec<NetworkChange>,
}

/// One change.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    instance: InstanceName,
    what: PlanItem,
}

#[derive(Debug, PartialEq, Eq)]
enum PlanItem {
    /// It is configured, and was not.
    New { starts: bool },
    /// It is no longer configured.
    Gone,
    /// A key of it is another.
    Key { change: Change, is_running: bool },
}

impl Plan {
    /// `running`: what init knows.
    pub(super) fn new(system: &Path, run: &Path, running: &[InstanceStatus], compiled: &Compiled) -> Plan {
        let mut rows = Vec::new();
        for (name, spec) in &compiled.instances {
            let Ok(desired) = spec else { continue };
            let actual = running.iter().find(|status| status.name == *name).map(|status| actual(run, status));
            let is_running = matches!(actual, Some(Some(_)));
            // One of which init has no spec, because what was configured was wrong, is as good as new.
            match actual.and_then(|actual| actual.or_else(|| configured(system, run, name))) {
                None => {
                    rows.push(Row { instance: name.clone(), what: PlanItem::New { starts: desired.boot.autostart } })
                }
                Some(before) => rows.extend(
                    changes(&before, desired)
                        .into_iter()
                        .map(|change| Row { instance: name.clone(), what: PlanItem::Key { change, is_running } }),
                ),
            }
        }
        for status in running {
            if compiled.instances.iter().all(|(name, _)| *name != status.name) {
                rows.push(Row { instance: status.name.clone(), what: PlanItem::Gone });
            }
        }
        // As long as it is not known what there was, nothing is said of it.
        let networks = networks(system, run).map(|old| network_changes(&old, &compiled.networks)).unwrap_or_default();
        Plan { rows, networks }
    }

    /// A table, or that there is nothing in it.
    pub(super) fn table(&self) -> String {
        if self.rows.is_empty() && self.networks.is_empty() {
            return "nothing changes\n".to_owned();
        }
        let cells = self.rows.iter().map(Row::cells).chain(self.networks.iter().map(network_cells));
        output::table(&HEADINGS, cells)
    }

    pub(super) fn json(&self) -> Value {
        self.rows.iter().map(Row::json).chain(self.networks.iter().map(network_json)).collect()
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let [key, old, new, applies] = match &self.what {
            PlanItem::New { starts: true } => {
                ["(new)".to_owned(), "-".to_owned(), "started".to_owned(), "at once".to_owned()]
            }
            PlanItem::New { starts: false } => {
                ["(new)".to_owned(), "-".to_owned(), "stopped".to_owned(), "at once".to_owned()]
            }
            PlanItem::Gone => ["(deleted)".to_owned(), "-".to_owned(), "gone".to_owned(), "at once".to_owned()],
            PlanItem::Key { change, is_running } => [
                change.key.clone(),
                said(&change.old),
                said(&change.new),
                when(change.applies, *is_running).to_owned(),
            ],
        };
        vec![self.instance.to_string(), key, old, new, applies]
    }

    fn json(&self) -> Value {
        let (instance, project) = (self.instance.as_str(), self.instance.project());
        match &self.what {
            PlanItem::New { starts } => {
                json!({ "instance": instance, "project": project, "kind": "new", "starts": starts })
            }
            PlanItem::Gone => json!({ "instance": instance, "project": project, "kind": "deleted" }),
            PlanItem::Key { change: Change { key, old, new, applies }, is_running } => json!({
                "instance": instance, "project": project, "kind": "changed", "key": key, "old": old, "new": new,
                "applies": when(*applies, *is_running),
            }),
        }
    }
}

fn network_cells(NetworkChange { network, change }: &NetworkChange) -> Vec<String> {
    let Change { key, old, new, applies } = change;
    vec![format!("network {network}"), key.clone(), said(old), said(new), applies.to_string()]
}

fn network_json(NetworkChange { network, change }: &NetworkChange) -> Value {
    let Change { key, old, new, applies } = change;
    json!({
        "network": network, "kind": "changed", "key": key, "old": old, "new": new, "applies": applies.to_string(),
    })
}

fn said(text: &Option<String>) -> String {
    text.clone().unwrap_or_else(|| "-".to_owned())
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
    let name = directory_name(&status.name, status.id);
    read_spec(&run.join("instances").join(name).join(file::ACTUAL))
}

/// The spec that was compiled last, at this start of the system or with its image. None where the newest could not be compiled:
/// what came with the system's image is not what is configured then.
pub(crate) fn configured(system: &Path, run: &Path, name: &InstanceName) -> Option<InstanceSpec> {
    let in_specs = |place: &Path, end: &str| place.join("specs").join(format!("{name}.{end}"));
    let of_system = || {
        let is_wrong = in_specs(run, "err").exists();
        if is_wrong { None } else { read_spec(&in_specs(system, "bin")) }
    };
    read_spec(&in_specs(run, "bin")).or_else(of_system)
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
