//! The initramfs: init, the keys it trusts, and the modules it needs to reach the slot. Nothing else: no shell, no library.

use crate::board::boot_modules;
use crate::board::cpio::Archive;
use crate::board::failure::BuildError;
use crate::board::tree::Tree;
use crate::provision::Kernel;
use std::fs;
use std::path::{Path, PathBuf};

/// Tells init that it runs in the initramfs.
const MARKER: &str = "etc/yado/initramfs";

/// Writes the archive to `to`; `scratch` is a directory for its parts.
pub fn make(to: &Path, init: &Path, trusted: &[PathBuf], kernel: &Kernel, scratch: &Path) -> Result<(), BuildError> {
    let mut archive = Archive::new();
    for directory in ["dev", "proc", "sys", "run", "root"] {
        archive.directory(directory);
    }
    archive.file("init", 0o755, &read(init)?);
    // The kernel asks for modules by this program before anybody can tell it another.
    archive.symlink("sbin/modprobe", "../init");
    archive.file(MARKER, 0o644, b"");
    for key in trusted {
        let name = key.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        archive.file(&format!("etc/yado/trust/{name}"), 0o644, &read(key)?);
    }
    let tree = Tree::create(scratch)?;
    boot_modules::choose(kernel, boot_modules::INITRAMFS.iter().copied())?.lay_out(&tree, &[])?;
    add_files(&mut archive, tree.root(), "")?;
    fs::write(to, archive.finish()).map_err(BuildError::io(to))
}

/// Writes an archive with nothing in it to execute.
pub fn make_empty(to: &Path) -> Result<(), BuildError> {
    let mut archive = Archive::new();
    archive.directory("dev");
    fs::write(to, archive.finish()).map_err(BuildError::io(to))
}

/// Adds all files below `directory`, in the order of their names.
fn add_files(archive: &mut Archive, directory: &Path, place: &str) -> Result<(), BuildError> {
    let entries = fs::read_dir(directory).map_err(BuildError::io(directory))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let place = format!("{place}/{name}");
        if path.is_dir() {
            add_files(archive, &path, &place)?;
        } else {
            archive.file(&place, 0o644, &read(&path)?);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(BuildError::io(path))
}
