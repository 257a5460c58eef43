//! What an apply will change: what is configured now beside what runs, or would.

use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use yado_spec::changes::{Change, changes};
use yado_spec::compile::Compiled;
use yado_spec::file;
use yado_spec::instance::InstanceSpec;
use yado_spec::setting::Applies;
use yado_wire::InstanceName;
use yado_wire::rescue::InstanceStatus;

/// Over [`Row::cells`].
pub(super) const HEADINGS: [&str; 5] = ["INSTANCE", "KEY", "NOW", "THEN", "APPLIES"];

/// Everything that changes.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rows: Vec<Row>,
}

/// One change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
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
        Plan { rows }
    }
}

impl Row {
    pub(super) fn cells(&self) -> Vec<String> {
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

    pub(super) fn json(&self) -> Value {
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

fn read_spec(path: &Path) -> Option<InstanceSpec> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(file::MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).ok()?;
    file::decode(&bytes).ok().map(|(spec, _)| spec)
}
