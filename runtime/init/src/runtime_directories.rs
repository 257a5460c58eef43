//! Hosted: where the runtime directories of instances are. Each start makes a dozen directories there, and each end removes them;
//! on a disk that takes longer than mounting an image. So they are in `/run` if that is a tmpfs, as on every host with systemd,
//! and `DIR/run/instances` is a link to them. A tmpfs of our own on `DIR/run` would do, too, but a hosted init mounts nothing in
//! the mount namespace of its host: if it were killed, the mount would stay.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use yado_sys::volume::{self, TMPFS_MAGIC};
use yado_wire::hash::fnv32;

/// Makes the directory of a hosted init on `directory`, empty, below `parent` if that is a tmpfs, and the link to it; else in
/// `directory` itself.
pub(crate) fn make(directory: &Path, parent: &Path) -> PathBuf {
    let link = directory.join("run/instances");
    // What a predecessor left that was killed: only our own files and empty mount points.
    remove(&link);
    let _ = fs::create_dir_all(directory.join("run"));
    match make_on_tmpfs(directory, parent) {
        Ok(Some(made)) if symlink(&made, &link).is_ok() => made,
        // Why not does not matter: it is slower, and nothing else.
        Ok(Some(made)) => {
            let _ = fs::remove_dir(made);
            link
        }
        Ok(None) | Err(_) => link,
    }
}

/// Removes the link and what it leads to, or the directory in its place.
pub(crate) fn remove(link: &Path) {
    if let Ok(target) = fs::read_link(link) {
        // Only what is ours: whoever makes other links there is the host's root, and may lead us to nothing.
        if target.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX)) {
            let _ = fs::remove_dir_all(&target);
        }
        let _ = fs::remove_file(link);
    } else {
        let _ = fs::remove_dir_all(link);
    }
}

const PREFIX: &str = "yado-hosted-";

/// `None`: `parent` is not a tmpfs.
fn make_on_tmpfs(directory: &Path, parent: &Path) -> io::Result<Option<PathBuf>> {
    if volume::usage(parent)?.magic != TMPFS_MAGIC {
        return Ok(None);
    }
    // As for the control groups: the name comes from the directory.
    let hash = fnv32(directory.as_os_str().as_encoded_bytes().iter().copied());
    let made = parent.join(format!("{PREFIX}{hash:08x}"));
    let _ = fs::remove_dir_all(&made);
    fs::DirBuilder::new().mode(0o700).create(&made)?;
    Ok(Some(made))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A directory on a tmpfs.
    fn tmpfs() -> Option<tempfile::TempDir> {
        let made = tempfile::tempdir_in("/dev/shm").ok()?;
        volume::usage(made.path()).is_ok_and(|usage| usage.magic == TMPFS_MAGIC).then_some(made)
    }

    #[test]
    fn they_are_on_a_tmpfs_where_there_is_one_and_what_a_predecessor_left_is_removed() {
        let Some(parent) = tmpfs() else { return println!("SKIPPED: /dev/shm is no tmpfs") };
        let host = tempfile::tempdir().unwrap();
        let link = host.path().join("run/instances");
        fs::create_dir_all(link.join("of an older init")).unwrap();
        for _ in 0..2 {
            let made = make(host.path(), parent.path());
            assert_eq!((made.parent(), fs::read_link(&link).unwrap()), (Some(parent.path()), made.clone()));
            assert_eq!(fs::read_dir(&link).unwrap().count(), 0);
            fs::create_dir(link.join("left")).unwrap();
        }
        remove(&link);
        assert!(fs::symlink_metadata(&link).is_err());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn elsewhere_they_are_in_the_hosts_own_directory_and_a_link_of_somebody_else_is_not_followed() {
        let host = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let link = host.path().join("run/instances");
        fs::create_dir_all(host.path().join("run")).unwrap();
        fs::create_dir_all(host.path().join("other/file")).unwrap();
        symlink(host.path().join("other"), &link).unwrap();
        let made = make(host.path(), &host.path().join("nowhere"));
        assert_eq!(made, link);
        assert!(fs::symlink_metadata(&link).is_err() && host.path().join("other/file").exists());
    }
}
