//! The layers of instances that are no longer configured.

use crate::output::printable;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use yado_spec::directory_name::OWNER;
use yado_sys::directory_tree;
use yado_wire::{InstanceId, InstanceName};

/// Layers that are to go.
#[derive(Debug, Default)]
pub(super) struct Disowned {
    layers: Vec<Layer>,
    /// What was wrong with others, a line each.
    pub(super) problems: Vec<String>,
}

/// One that is nobody's any more.
#[derive(Debug)]
struct Layer {
    id: InstanceId,
    /// Whose it was.
    owner: Option<InstanceName>,
    path: PathBuf,
}

/// Takes those whose instances are neither configured nor known to init from their owners: from then on they are nobody's, and
/// what is deleted in part is never given to anybody. Whoever does this has the lock of applies.
pub(super) fn disown(data: &Path, configured: &[InstanceName], known: &[InstanceId]) -> Disowned {
    let directory = data.join("layers");
    let unread = |error: io::Error| format!("read {}: {error}", directory.display());
    let mut disowned = Disowned::default();
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return disowned,
        Err(error) => {
            disowned.problems.push(unread(error));
            return disowned;
        }
        Ok(entries) => entries,
    };
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => {
                disowned.problems.push(unread(error));
                break;
            }
        };
        let Some(id) = path.file_name().and_then(|name| id_of(name.to_str()?)) else { continue };
        let owner = fs::read_link(path.join(OWNER)).ok();
        let owner = owner.and_then(|owner| InstanceName::parse(owner.to_str()?).ok());
        if known.contains(&id) || owner.as_ref().is_some_and(|owner| configured.contains(owner)) {
            continue;
        }
        match fs::remove_file(path.join(OWNER)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                disowned.problems.push(format!("remove {}: {error}", path.join(OWNER).display()));
            }
            Ok(()) | Err(_) => disowned.layers.push(Layer { id, owner, path }),
        }
    }
    disowned
}

/// Whose layer has this name: `ID`, or beside it what an update has left of one.
fn id_of(name: &str) -> Option<InstanceId> {
    let id = match name.split_once('.') {
        Some((id, "trial" | "before")) => id,
        Some(_) => return None,
        None => name,
    };
    id.parse().ok().map(InstanceId)
}

impl Disowned {
    /// Deletes each, and says what became of it: that it is gone, or why not. That takes as long as there are files.
    pub(super) fn delete(self) -> impl Iterator<Item = Result<String, String>> {
        self.layers.into_iter().map(|Layer { id, owner, path }| {
            let count =
                directory_tree::remove_all(&path).map_err(|error| format!("delete {}: {error}", path.display()))?;
            let whose = owner.map_or_else(|| "nobody's".to_owned(), |owner| format!("{owner}'s"));
            Ok(printable(&format!("{whose} layer {id}: deleted, {count} files")).into_owned())
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_layer_that_does_not_go_holds_up_no_other() {
        let data = tempfile::tempdir().unwrap();
        let layers = data.path().join("layers");
        for (id, owner) in [
            ("1", "kept"),
            ("1.before", "kept"),
            ("2", "gone"),
            ("2.trial", "gone"),
            ("4", "runs"),
            ("4.before", "runs"),
        ] {
            fs::create_dir_all(layers.join(id).join("upper")).unwrap();
            symlink(owner, layers.join(id).join(OWNER)).unwrap();
        }
        // Its owner is no link that can be removed; and one that is no directory.
        fs::create_dir_all(layers.join("3").join(OWNER)).unwrap();
        fs::write(layers.join("5"), "").unwrap();
        fs::create_dir_all(layers.join("aside")).unwrap();
        let kept = InstanceName::parse("kept").unwrap();
        let disowned = disown(data.path(), &[kept], &[InstanceId(4)]);
        assert!(layers.join("2").exists() && fs::read_link(layers.join("2").join(OWNER)).is_err());
        assert_eq!(disowned.problems.len(), 2, "{disowned:?}");
        let deleted: Vec<_> = disowned.delete().collect();
        let gone = || Ok("gone's layer 2: deleted, 2 files".to_owned());
        assert_eq!(deleted, [gone(), gone()], "what an update left of it too");
        let left = ["1", "1.before", "2", "2.trial", "3", "4", "4.before", "5", "aside"]
            .map(|name| layers.join(name).exists());
        assert_eq!(left, [true, true, false, false, true, true, true, true, true]);
    }

    #[test]
    fn a_layer_that_cannot_be_deleted_is_told_and_the_next_one_goes() {
        let data = tempfile::tempdir().unwrap();
        let layer = |id: u32| Layer { id: InstanceId(id), owner: None, path: data.path().join(id.to_string()) };
        fs::write(data.path().join("1"), "no directory").unwrap();
        fs::create_dir(data.path().join("2")).unwrap();
        let disowned = Disowned { layers: vec![layer(1), layer(2)], problems: Vec::new() };
        let deleted: Vec<_> = disowned.delete().collect();
        assert!(deleted[0].is_err(), "{deleted:?}");
        assert_eq!(deleted[1], Ok("nobody's layer 2: deleted, 1 files".to_owned()));
    }
}
