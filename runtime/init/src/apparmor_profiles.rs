//! Loads the AppArmor profiles of the system image, as apparmor_parser(8) compiled them, before any instance starts. The kernel
//! parses them.

use crate::kernel_mounts;
use crate::log::{Log, Priority};
use std::fs;
use std::path::{Path, PathBuf};
use yado_sys::security_label;

/// Where the image has them.
const DIRECTORY: &str = "/usr/lib/yado/apparmor";

/// A profile of some hundred rules has some ten KiB.
const MAX_PROFILE_BYTES: u64 = 1024 * 1024;

/// Loads all of them. One that cannot be loaded is told; instances that name it will not start.
pub(crate) fn load(log: &mut Log) {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return };
    if let Err(error) = kernel_mounts::SECURITY.mount() {
        return log.say(Priority::Error, format_args!("{error}"));
    }
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if let Err(reason) = load_one(&path) {
            log.say(Priority::Error, format_args!("load the profile {}: {reason}", path.display()));
        }
    }
}

fn load_one(path: &Path) -> Result<(), String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if MAX_PROFILE_BYTES < size {
        return Err(format!("{size} bytes are too many for a profile"));
    }
    let profile = fs::read(path).map_err(|error| error.to_string())?;
    security_label::load_profile(&profile).map_err(|error| error.to_string())
}
