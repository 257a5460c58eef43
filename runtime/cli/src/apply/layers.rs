//! The layers of instances that are configured no more.

use crate::output::printable;
use std::fs;
use std::io;
use std::path::Path;
use yado_sys::directory_tree;
use yado_wire::{InstanceId, InstanceName};

/// The link in a layer to the name of its instance.
const OWNER: &str = "owner";

/// Deletes those whose instances are neither configured nor known to init, and says which, a line each.
pub(super) fn delete(data: &Path, configured: &[InstanceName], known: &[InstanceId]) -> Result<Vec<String>, String> {
    let directory = data.join("layers");
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| format!("read {}: {error}", directory.display()))?,
    };
    let mut lines = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("read {}: {error}", directory.display()))?.path();
        let Some(id) = path.file_name().and_then(|name| name.to_str()?.parse().ok()).map(InstanceId) else {
            continue;
        };
        let owner = fs::read_link(path.join(OWNER)).ok();
        let owner = owner.and_then(|owner| InstanceName::parse(owner.to_str()?).ok());
        if known.contains(&id) || owner.as_ref().is_some_and(|owner| configured.contains(owner)) {
            continue;
        }
        // First of all it is nobody's: what is deleted in part is never given to anybody.
        match fs::remove_file(path.join(OWNER)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("remove {}: {error}", path.join(OWNER).display()));
            }
            Ok(()) | Err(_) => {}
        }
        let count =
            directory_tree::remove_all(&path).map_err(|error| format!("delete {}: {error}", path.display()))?;
        let whose = owner.map_or_else(|| "nobody's".to_owned(), |owner| format!("{owner}'s"));
        lines.push(printable(&format!("{whose} layer {id}: deleted, {count} files")).into_owned());
    }
    Ok(lines)
}
