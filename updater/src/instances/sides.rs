//! Two directories, one in the place where others look and one aside, of which an update lets one take the other's place: writable
//! layers, and the pins of an instance. One rename exchanges them, so that each moment has a whole one in the place; neither way
//! back nor forth needs room on the disk. A mark in the one that was left tells after a power cut which is where.

use super::InstancesError;
use rustix::fs::{CWD, RenameFlags};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use yado_sys::directory_tree;
use yado_wire::{InstanceId, InstanceName};

/// The mark: a link to the number of the update that left this directory.
const LEFT_BY: &str = ".left-by";

/// The names aside of what an update in its trial has left.
pub(super) const TRIAL: &str = "trial";

/// The names aside of what is kept for a rollback.
pub(super) const BEFORE: &str = "before";

/// A place, and what lies aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sides {
    /// Where others look.
    pub(super) place: PathBuf,
    /// Where nobody does.
    pub(super) aside: PathBuf,
}

impl Sides {
    /// Of the layer of an instance. Only the name of a layer in use is a number.
    pub(super) fn of_layer(data: &Path, id: InstanceId, aside: &str) -> Sides {
        let layers = data.join("layers");
        Sides { place: layers.join(id.to_string()), aside: layers.join(format!("{id}.{aside}")) }
    }

    /// Of the pins of an instance. What begins with a dot is no instance.
    pub(super) fn of_pins(data: &Path, name: &InstanceName, aside: &str) -> Sides {
        let pins = data.join(yado_spec::sources::pins::DIRECTORY);
        Sides { place: pins.join(name.as_str()), aside: pins.join(format!(".{name}.{aside}")) }
    }

    /// What was aside is in the place, because this update put it there.
    pub(super) fn is_exchanged(&self, update: u32) -> bool {
        fs::read_link(self.aside.join(LEFT_BY)).is_ok_and(|mark| mark.as_os_str() == update.to_string().as_str())
    }

    /// Makes it so; what is aside is whole, and on the disk. The rename makes it real.
    pub(super) fn exchange(&self, update: u32) -> Result<(), InstancesError> {
        if self.is_exchanged(update) {
            return Ok(());
        }
        let mark = self.place.join(LEFT_BY);
        remove_file(&mark)?;
        symlink(update.to_string(), &mark).map_err(failed("create", &mark))?;
        sync(&self.place)?;
        self.rename()
    }

    /// Takes it back.
    pub(super) fn exchange_back(&self, update: u32) -> Result<(), InstancesError> {
        if !self.is_exchanged(update) {
            return Ok(());
        }
        if fs::symlink_metadata(&self.place).is_ok() {
            return self.rename();
        }
        // Somebody has deleted what was in the place.
        fs::rename(&self.aside, &self.place).map_err(failed("rename", &self.aside))?;
        self.sync_above()
    }

    /// A directory in the place, if there was nothing.
    pub(super) fn make_place(&self, mode: u32) -> Result<(), InstancesError> {
        match fs::DirBuilder::new().recursive(true).mode(mode).create(&self.place) {
            Err(source) => Err(failed("create", &self.place)(source)),
            Ok(()) => self.sync_above(),
        }
    }

    /// What lies aside, whatever it is, goes.
    pub(super) fn remove_aside(&self) -> Result<(), InstancesError> {
        remove_tree(&self.aside)
    }

    /// What lies aside gets this name aside in place of what had it.
    pub(super) fn keep_aside_as(&self, other: &Sides) -> Result<(), InstancesError> {
        if fs::symlink_metadata(&self.aside).is_err() {
            return Ok(());
        }
        other.remove_aside()?;
        fs::rename(&self.aside, &other.aside).map_err(failed("rename", &self.aside))?;
        self.sync_above()
    }

    fn rename(&self) -> Result<(), InstancesError> {
        rustix::fs::renameat_with(CWD, &self.aside, CWD, &self.place, RenameFlags::EXCHANGE)
            .map_err(|errno| failed("put in its place", &self.aside)(errno.into()))?;
        self.sync_above()
    }

    fn sync_above(&self) -> Result<(), InstancesError> {
        self.place.parent().map_or(Ok(()), sync)
    }
}

/// A directory with all in it, or a file or link in its place.
pub(super) fn remove_tree(path: &Path) -> Result<(), InstancesError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(found) if !found.is_dir() => remove_file(path),
        _ => directory_tree::remove_all(path).map(drop).map_err(failed("remove", path)),
    }
}

/// That what is in a directory is on the disk.
pub(super) fn sync(directory: &Path) -> Result<(), InstancesError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync", directory))
}

fn remove_file(path: &Path) -> Result<(), InstancesError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

pub(super) fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstancesError + use<> {
    let path = path.to_owned();
    move |source| InstancesError::File { verb, path, source }
}
