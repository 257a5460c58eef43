//! Whether there is the room on disk that a run of all floors needs: a disk that fills in the middle of it looks like fifty defects.

use crate::cache::Cache;
use crate::cross;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

/// What the tree's own builds take, and the cache, in GiB: from nothing, and when they are there and only parts are made again.
const BUILDS_GIB: [u64; 2] = [10, 3];
const CACHE_GIB: [u64; 2] = [7, 1];

/// An error that says what to do, if a disk has less room than that.
pub(super) fn check(cache: &Cache) -> Result<(), String> {
    let builds = cross::target_folder();
    let is_built = builds.join("cross").exists();
    let is_filled = holds_a_root(cache.root());
    let builds_gib = BUILDS_GIB[usize::from(is_built)];
    let cache_gib = CACHE_GIB[usize::from(is_filled)];
    let disk =
        |folder: &Path| fs::metadata(folder).map(|metadata| metadata.dev()).map_err(|error| of(folder, &error));
    fs::create_dir_all(&builds).map_err(|error| of(&builds, &error))?;
    if disk(&builds)? == disk(cache.root())? {
        return enough(&builds, builds_gib + cache_gib);
    }
    enough(&builds, builds_gib)?;
    enough(cache.root(), cache_gib)
}

fn holds_a_root(cache: &Path) -> bool {
    let is_root = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("debian-root");
    fs::read_dir(cache).is_ok_and(|entries| entries.flatten().any(is_root))
}

fn enough(folder: &Path, needed_gib: u64) -> Result<(), String> {
    let disk = rustix::fs::statvfs(folder).map_err(|errno| of(folder, &errno.into()))?;
    let free_gib = disk.f_bavail.saturating_mul(disk.f_frsize) >> 30;
    if needed_gib <= free_gib {
        return Ok(());
    }
    Err(format!(
        "{}: {free_gib} GiB are free and a run takes up to {needed_gib}: make room, or set CARGO_TARGET_DIR and YADO_CACHE to folders on a larger disk",
        folder.display()
    ))
}

fn of(folder: &Path, error: &io::Error) -> String {
    format!("{}: {error}", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_too_small_is_named_with_what_to_do() {
        let folder = std::env::temp_dir();
        assert_eq!(enough(&folder, 0), Ok(()));
        let error = enough(&folder, u64::MAX >> 30).unwrap_err();
        assert!(error.starts_with(&folder.display().to_string()) && error.contains("make room"), "{error}");
        assert!(enough(Path::new("/nonexistent"), 0).is_err());
    }
}
