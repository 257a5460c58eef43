//! Opens the boot loader that a board's policy names, where it says. Nothing is written for that, but the file of the boot loader
//! `file` if there is none.

use super::{BootLoader, BootLoaderError, Efi, StatePartition, Tryboot, UBootEnvironment};
use crate::boot_state::Mark;
use std::fs;
use std::path::{Path, PathBuf};
use yado_spec::update_policy::{BootLoaderKind, UpdatePolicy};
use yado_sys::named_partition::{self, Disks, SYSFS};

/// The file of the boot loader `file`, on the data partition, where the policy names no other.
const FILE: &str = "state/boot-state";

/// Where a board's devices are.
#[derive(Debug, Clone)]
pub struct Board {
    /// Where the kernel shows them.
    pub sysfs: PathBuf,
    /// Where their nodes are.
    pub nodes: PathBuf,
    /// Those on which partitions are the system's.
    pub disks: Disks,
    /// The data partition.
    pub data: PathBuf,
}

impl Board {
    /// The one that this runs on.
    pub fn of_system(data: &Path) -> Board {
        Board { sysfs: SYSFS.into(), nodes: "/dev".into(), disks: Disks::of_system(true), data: data.to_owned() }
    }

    /// The partition that has one of these names on the disk that the running system is on: another disk's is not ours.
    pub(super) fn partition(&self, names: &[&str]) -> Result<PathBuf, BootLoaderError> {
        let absent = |what| BootLoaderError::Absent { what };
        let name = names.first().copied().unwrap_or_default();
        let found = named_partition::find(&self.sysfs, names, &self.disks)
            .map_err(|error| absent(format!("partition `{name}` is {error}")))?
            .ok_or_else(|| absent(format!("no partition is named `{name}` on the system's disk")))?;
        Ok(self.nodes.join(found.file_name().unwrap_or_default()))
    }

    /// The number that a partition has in its table, from 1.
    pub(super) fn number_of(&self, partition: &Path) -> Result<u8, BootLoaderError> {
        // Documentation/ABI/stable/sysfs-block, `partition`.
        let place = self.sysfs.join("class/block").join(partition.file_name().unwrap_or_default()).join("partition");
        let error = |reason: String| BootLoaderError::Absent { what: format!("{}: {reason}", place.display()) };
        let text = fs::read_to_string(&place).map_err(|reason| error(reason.to_string()))?;
        text.trim()
            .parse()
            .map_err(|_| error(format!("{} is no number of a partition", text.trim().escape_default())))
    }
}

/// The boot loader that this board has.
///
/// # Errors
/// When there is none of this kind, or not where the policy says.
pub fn open(policy: &UpdatePolicy, board: &Board) -> Result<Box<dyn BootLoader>, BootLoaderError> {
    Ok(match policy.boot_loader {
        BootLoaderKind::UBootState => Box::new(StatePartition::on(board)?),
        BootLoaderKind::UBootEnvironment => Box::new(UBootEnvironment::configured(&policy.boot.environment)?),
        BootLoaderKind::RaspberryPi => Box::new(Tryboot::on(board, &policy.boot.autoboot)?),
        BootLoaderKind::Efi => Box::new(Efi::of_firmware(&board.sysfs, &policy.boot.options)?),
        BootLoaderKind::File => {
            let path = policy.boot.file.clone().unwrap_or_else(|| board.data.join(FILE));
            Box::new(StatePartition::in_file(&path, Some(Mark::Empty))?)
        }
    })
}
