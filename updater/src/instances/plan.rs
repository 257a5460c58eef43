//! What is remembered of the instances of an update, in `state/update-instances`: which image each one gets, which of them are
//! touched already and how they were, what of the update before is kept, and which images an update brought. Where layers and pins
//! are is not repeated here: they carry a mark themselves ([`super::sides`]).

use super::{InstancesError, Places};
use crate::record::file::version_there;
use std::fmt::Write;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use yado_sys::{regular_file, replace_file};
use yado_wire::formats::{self, Versions};
use yado_wire::{InstanceId, InstanceName, MAX_INSTANCES, hex};

/// Below the data partition.
const FILE: &str = "state/update-instances";

const MAGIC: &str = "yado-update-instances ";
const VERSIONS: Versions = Versions::new(1, 1);

/// Images that updates brought and that are still there: those of this update and of the one before, of all instances.
const MAX_BROUGHT: usize = 4 * MAX_INSTANCES;

const MAX_BYTES: usize = MAX_BROUGHT * 80 + 2 * MAX_INSTANCES * (InstanceName::MAX_LEN + 120);

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Images that an update brought.
    pub(super) brought: Vec<[u8; 32]>,
    /// The update that goes on.
    pub(super) going: Option<Going>,
    /// What the last confirmed update has left.
    pub(super) kept: Option<Kept>,
}

/// An update that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Going {
    pub(super) update: u32,
    pub(super) is_rollback: bool,
    pub(super) parts: Vec<Part>,
}

/// One of its instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) instance: InstanceName,
    /// What it gets; None: what it had before the last update.
    pub(super) image: Option<[u8; 32]>,
    /// None: nothing of it was touched.
    pub(super) begun: Option<Begun>,
}

/// What an instance was when the update came to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) id: InstanceId,
    /// Somebody wanted it to run.
    pub(super) is_up: bool,
}

/// Layers and pins that are kept for one rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) update: u32,
    pub(super) instances: Vec<(InstanceName, InstanceId)>,
}

impl Going {
    /// An instance was touched.
    pub(super) fn is_begun(&self) -> bool {
        self.parts.iter().any(|part| part.begun.is_some())
    }
}

impl Plan {
    /// Reads it; without a file there is nothing to remember.
    pub(super) fn read(data: &Path) -> Result<Plan, InstancesError> {
        let path = data.join(FILE);
        let damaged = |path: PathBuf| InstancesError::Plan { path };
        let mut bytes = Vec::new();
        let read = regular_file::open(&path).and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Plan::default()),
            Err(source) => return Err(InstancesError::File { verb: "read", path, source }),
            Ok(_) => {}
        }
        let plan = std::str::from_utf8(&bytes).ok().and_then(Plan::parse);
        plan.ok_or_else(|| damaged(path))
    }

    /// Replaces it: the old one or the new one is there, also after a power cut.
    pub(super) fn write(&self, places: &Places) -> Result<(), InstancesError> {
        let path = places.data.join(FILE);
        let directory = path.parent().unwrap_or(&places.data);
        let version = VERSIONS.to_write(places.standing, version_there(&path, MAGIC));
        fs::create_dir_all(directory)
            .and_then(|()| replace_file::replace(&path, 0o600, self.text(version).as_bytes()))
            .map_err(|source| InstancesError::File { verb: "write", path, source })
    }

    fn text(&self, version: u32) -> String {
        let Plan { brought, going, kept } = self;
        let mut out = format!("{MAGIC}{version}\n");
        for image in brought {
            let _ = writeln!(out, "brought {}", hex::encode(image));
        }
        if let Some(Going { update, is_rollback, parts }) = going {
            let _ = writeln!(out, "going {update} {}", if *is_rollback { "rollback" } else { "install" });
            for Part { instance, image, begun } in parts {
                let image = image.as_ref().map_or("-".to_owned(), |image| hex::encode(image));
                let begun = begun.map_or("- -".to_owned(), |Begun { id, is_up }| format!("{id} {}", word(is_up)));
                let _ = writeln!(out, "instance {instance} {image} {begun}");
            }
        }
        if let Some(Kept { update, instances }) = kept {
            let _ = writeln!(out, "kept {update}");
            for (instance, id) in instances {
                let _ = writeln!(out, "layer {instance} {id}");
            }
        }
        let checksum = crc32fast::hash(out.as_bytes());
        let _ = writeln!(out, "checksum {checksum:08x}");
        out
    }

    /// The checksum, and whatever else could be written in more than one way, is compared with what would be written.
    fn parse(text: &str) -> Option<Plan> {
        let version = formats::version(text, MAGIC).filter(|version| VERSIONS.has(*version))?;
        let mut plan = Plan::default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split(' ').collect();
            match *words.as_slice() {
                ["brought", image] => plan.brought.push(hex::parse_digest(image)?),
                ["going", update, kind] => {
                    let is_rollback = match kind {
                        "rollback" => true,
                        "install" => false,
                        _ => return None,
                    };
                    plan.going = Some(Going { update: update.parse().ok()?, is_rollback, parts: Vec::new() });
                }
                ["instance", instance, image, id, up] => plan.going.as_mut()?.parts.push(Part {
                    instance: InstanceName::parse(instance).ok()?,
                    image: if image == "-" { None } else { Some(hex::parse_digest(image)?) },
                    begun: match (id, up) {
                        ("-", "-") => None,
                        (id, up) => Some(Begun { id: InstanceId(id.parse().ok()?), is_up: up == word(true) }),
                    },
                }),
                ["kept", update] => {
                    plan.kept = Some(Kept { update: update.parse().ok()?, instances: Vec::new() });
                }
                ["layer", instance, id] => {
                    let name = InstanceName::parse(instance).ok()?;
                    plan.kept.as_mut()?.instances.push((name, InstanceId(id.parse().ok()?)));
                }
                ["checksum", _] => break,
                _ => return None,
            }
        }
        (plan.text(version) == text).then_some(plan)
    }
}

fn word(is_up: bool) -> &'static str {
    if is_up { "up" } else { "down" }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use yado_wire::formats::Standing;

    fn places(data: &Path) -> Places {
        let none = PathBuf::new();
        Places {
            system: none.clone(),
            data: data.to_owned(),
            run: none.clone(),
            yado: none,
            standing: Standing::Confirmed,
        }
    }

    fn plan() -> Plan {
        let name = |text| InstanceName::parse(text).unwrap();
        let begun = Some(Begun { id: InstanceId(4), is_up: true });
        let parts = vec![
            Part { instance: name("web"), image: Some([7; 32]), begun },
            Part { instance: name("db"), image: None, begun: None },
        ];
        Plan {
            brought: vec![[1; 32], [7; 32]],
            going: Some(Going { update: 8, is_rollback: false, parts }),
            kept: Some(Kept { update: 7, instances: vec![(name("web"), InstanceId(4))] }),
        }
    }

    #[test]
    fn a_plan_comes_back_and_one_that_was_cut_or_changed_is_none() {
        let data = tempfile::tempdir().unwrap();
        let places = places(data.path());
        assert_eq!(Plan::read(data.path()).unwrap(), Plan::default());
        for plan in [Plan::default(), plan()] {
            plan.write(&places).unwrap();
            assert_eq!(Plan::read(data.path()).unwrap(), plan);
        }
        let text = plan().text(1);
        for at in 0..text.len() {
            assert_eq!(Plan::parse(&text[..at]), None, "{at}");
        }
        for (from, to) in [("install", "other"), (" up", " xx"), ("web", "wob"), (" 8 ", " 08 ")] {
            assert_eq!(Plan::parse(&text.replacen(from, to, 1)), None, "{from}");
        }
        fs::write(data.path().join(FILE), "something else").unwrap();
        assert!(matches!(Plan::read(data.path()), Err(InstancesError::Plan { .. })));
    }

    /// See the same of the record.
    #[test]
    fn what_is_found_in_an_earlier_version_stays_so_on_trial_and_a_later_one_comes_with_the_confirmation() {
        let data = tempfile::tempdir().unwrap();
        for (standing, version) in [(Standing::OnTrial, 1), (Standing::Confirmed, VERSIONS.newest())] {
            plan().write(&Places { standing, ..places(data.path()) }).unwrap();
            assert_eq!(fs::read_to_string(data.path().join(FILE)).unwrap(), plan().text(version));
            assert_eq!(Plan::read(data.path()).unwrap(), plan());
        }
    }

    #[test]
    fn the_longest_plan_can_be_read() {
        let project = "p".repeat(InstanceName::MAX_PART_LEN);
        let long = |number: usize| InstanceName::parse(&format!("{project}_n{number:0>62}")).unwrap();
        let begun = Some(Begun { id: InstanceId(u32::MAX), is_up: false });
        let parts = |number| Part { instance: long(number), image: Some([255; 32]), begun };
        let plan = Plan {
            brought: vec![[255; 32]; MAX_BROUGHT],
            going: Some(Going {
                update: u32::MAX,
                is_rollback: true,
                parts: (0..MAX_INSTANCES).map(parts).collect(),
            }),
            kept: Some(Kept {
                update: u32::MAX,
                instances: (0..MAX_INSTANCES).map(|number| (long(number), InstanceId(u32::MAX))).collect(),
            }),
        };
        let text = plan.text(1);
        assert!(text.len() <= MAX_BYTES, "{}", text.len());
        assert_eq!(Plan::parse(&text), Some(plan));
    }
}
