//! The instances' files on the data partition, as `yado apply` writes them. One process at a time: what a replacement that was
//! cut off has left can then be told from one that is at work.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use yado_sys::{file_lock, replace_file};
use yado_wire::InstanceName;

const FILE: &str = "instance.toml";

/// Whoever holds the lock writes one file, or removes some. A slow card takes seconds for it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Writes an instance's file, so that the old one is there or the new one, whenever the power is cut.
pub(crate) fn write(data: &Path, name: &InstanceName, content: &[u8]) -> Result<(), String> {
    let instances = data.join("instances");
    let directory = instances.join(name.as_str());
    let make = |directory: &Path| {
        fs::create_dir_all(directory).map_err(|error| format!("make {}: {error}", directory.display()))
    };
    make(&instances)?;
    let locked = open_lock(data).and_then(|lock| file_lock::lock_within(&lock, TIMEOUT).map(|()| lock));
    let _lock = locked.map_err(|error| format!("lock {}: {error}", lock_path(data).display()))?;
    make(&directory)?;
    let path = directory.join(FILE);
    replace_file::replace(&path, 0o644, content).map_err(|error| format!("write {}: {error}", path.display()))
}

/// Removes what an apply that was cut off has written aside, and the directory if it had made it for that. What cannot be removed
/// is in nobody's way, and is tried again next time; the same where somebody is writing.
pub(crate) fn remove_cut_off(data: &Path) {
    let instances = data.join("instances");
    if !instances.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        return;
    }
    let Ok(lock) = open_lock(data) else { return };
    if file_lock::try_lock(&lock).is_err() {
        return;
    }
    for entry in fs::read_dir(&instances).into_iter().flatten().flatten() {
        // A link may lead to a directory that is not ours.
        if entry.file_type().is_ok_and(|found| found.is_dir()) {
            let directory = entry.path();
            if replace_file::remove_cut_off(&directory.join(FILE)) {
                // Only an empty one goes.
                let _ = fs::remove_dir(&directory);
            }
        }
    }
}

/// Beside what else is kept of instances, and no file of theirs.
fn lock_path(data: &Path) -> PathBuf {
    data.join("state/instances.lock")
}

fn open_lock(data: &Path) -> io::Result<File> {
    fs::create_dir_all(data.join("state"))?;
    file_lock::open(&lock_path(data))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cut_apply_left_goes_and_what_is_being_written_stays() {
        let data = tempfile::tempdir().unwrap();
        let at = |path: &str| data.path().join("instances").join(path);
        write(data.path(), &InstanceName::parse("whole").unwrap(), b"x").unwrap();
        for directory in ["new", "other"] {
            fs::create_dir(at(directory)).unwrap();
        }
        for aside in ["whole/.instance.toml.new", "new/.instance.toml.new", "other/.instance.toml.swp", ".a.new"] {
            fs::write(at(aside), "half").unwrap();
        }
        let elsewhere = tempfile::tempdir().unwrap();
        let strange = elsewhere.path().join(".instance.toml.new");
        fs::write(&strange, "not ours").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), at("link")).unwrap();
        // Somebody writes.
        let lock = open_lock(data.path()).unwrap();
        file_lock::try_lock(&lock).unwrap();
        remove_cut_off(data.path());
        assert!(at("whole/.instance.toml.new").exists() && at("new/.instance.toml.new").exists());
        drop(lock);
        remove_cut_off(data.path());
        let left: Vec<bool> = ["whole/.instance.toml.new", "new", "other/.instance.toml.swp", ".a.new"]
            .map(|path| at(path).exists())
            .into();
        assert_eq!(left, [false, false, true, true]);
        assert_eq!(fs::read(at("whole/instance.toml")).unwrap(), b"x");
        assert!(strange.exists());
        // What is no directory is left alone, and nobody waits for it.
        let strange = tempfile::tempdir().unwrap();
        let fifo = strange.path().join("instances");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        remove_cut_off(strange.path());
        assert!(write(strange.path(), &InstanceName::parse("whole").unwrap(), b"x").is_err());
    }
}
