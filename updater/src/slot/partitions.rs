//! Which partitions are a slot's: on the system's own disk, by the names that the initramfs looks for. Nothing is written by its
//! name alone: containers are given disks, and may call their partitions what they like.

use crate::boot_state::Slot;
use std::fmt;
use std::path::{Path, PathBuf};
use yado_sys::named_partition::{self, Disks, SYSFS, SeveralDisks};

/// A slot's partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partitions {
    /// The image's: `slot-a`.
    pub image: PathBuf,
    /// That of the files that the boot loader needs: `boot-a`. `None`: this board has none.
    pub boot: Option<PathBuf>,
}

/// The partitions of a slot that may be written: never those of the one that is booted.
///
/// # Errors
/// Nothing was written.
pub fn find(slot: Slot, booted: Option<Slot>) -> Result<Partitions, FindError> {
    find_in(Path::new(SYSFS), &Disks::of_system(true), slot, booted)
}

fn find_in(sysfs: &Path, disks: &Disks, slot: Slot, booted: Option<Slot>) -> Result<Partitions, FindError> {
    if booted == Some(slot) {
        return Err(FindError::Booted { slot });
    }
    let image = find_one(sysfs, disks, "slot", slot)?;
    let image = image.ok_or_else(|| FindError::Missing { name: spellings("slot", slot)[0].clone() })?;
    Ok(Partitions { image, boot: find_one(sysfs, disks, "boot", slot)? })
}

/// As the initramfs writes it, and the other one.
fn spellings(kind: &str, slot: Slot) -> [String; 2] {
    let upper = slot.to_string();
    [format!("{kind}-{}", upper.to_ascii_lowercase()), format!("{kind}-{upper}")]
}

fn find_one(sysfs: &Path, disks: &Disks, kind: &str, slot: Slot) -> Result<Option<PathBuf>, FindError> {
    let names = spellings(kind, slot);
    let [name, other_spelling] = &names;
    let found = named_partition::find(sysfs, &[name, other_spelling], disks)
        .map_err(|source| FindError::SeveralDisks { name: name.clone(), source })?;
    let Some(found) = found else { return Ok(None) };
    // For who only reads, one of two is as good as the other. The boot loader or the initramfs may take the one that we do not write.
    let all = named_partition::all(sysfs);
    let disk_of = |path: &str| path.rsplit_once('/').map(|(disk, _)| disk.to_owned());
    let device_of = |path: &str| Path::new("/dev").join(named_partition::device_name(path));
    let disk = all.iter().find(|(_, path)| device_of(path) == found).and_then(|(_, path)| disk_of(path));
    let mut same = all.iter().filter(|(other, path)| names.contains(other) && disk_of(path) == disk);
    match (same.next(), same.next()) {
        (Some((_, first)), Some((_, second))) => {
            Err(FindError::Twice { name: name.clone(), devices: [device_of(first), device_of(second)] })
        }
        _ => Ok(Some(found)),
    }
}

/// Why no slot may be written.
#[derive(Debug, PartialEq, Eq)]
pub enum FindError {
    /// The system runs from it.
    Booted {
        /// Which.
        slot: Slot,
    },
    /// The system's disk has none.
    Missing {
        /// The partition's name.
        name: String,
    },
    /// The system's disk is not known, and several have one.
    SeveralDisks {
        /// The partition's name.
        name: String,
        /// Which.
        source: SeveralDisks,
    },
    /// The system's disk has two.
    Twice {
        /// Their name, in one of its spellings.
        name: String,
        /// Which.
        devices: [PathBuf; 2],
    },
}

impl fmt::Display for FindError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FindError::Booted { slot } => {
                write!(out, "slot {slot}: the system runs from it; only the other one can be written")
            }
            FindError::Missing { name } => {
                write!(out, "the system's disk has no partition named {name}: there is no other slot to install to")
            }
            FindError::SeveralDisks { name, source } => write!(out, "{name} is {source}"),
            FindError::Twice { name, devices: [first, second] } => write!(
                out,
                "the system's disk has two partitions named {name} ({}, {}): give one of them another name",
                first.display(),
                second.display()
            ),
        }
    }
}

impl std::error::Error for FindError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    const EMMC: &str = "platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:0001/block/mmcblk0";
    const CARD: &str = "platform/soc/fe300000.mmc/mmc_host/mmc1/mmc1:aaaa/block/mmcblk1";

    /// Partitions as (disk, device, name), in a directory that looks like sysfs.
    fn sysfs(partitions: &[(&str, &str, &str)]) -> TempDir {
        let directory = TempDir::new().unwrap();
        let blocks = directory.path().join("class/block");
        fs::create_dir_all(&blocks).unwrap();
        for (disk, device, name) in partitions {
            let path = directory.path().join("devices").join(disk).join(device);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("uevent"), format!("DEVNAME={device}\nDEVTYPE=partition\nPARTNAME={name}\n"))
                .unwrap();
            symlink(format!("../../devices/{disk}/{device}"), blocks.join(device)).unwrap();
        }
        directory
    }

    #[test]
    fn only_the_other_slot_of_the_systems_own_disk_is_found_and_only_if_it_is_clear_which() {
        let emmc = Disks::Only(format!("devices/{EMMC}"));
        let b = |partitions: &[(&str, &str, &str)], disks: &Disks, booted| {
            find_in(sysfs(partitions).path(), disks, Slot::B, booted)
        };
        let (slot, boot) = ((EMMC, "mmcblk0p6", "slot-b"), (EMMC, "mmcblk0p4", "boot-B"));
        let a = (EMMC, "mmcblk0p5", "slot-a");
        let found = Partitions { image: "/dev/mmcblk0p6".into(), boot: Some("/dev/mmcblk0p4".into()) };
        assert_eq!(b(&[a, slot, boot], &emmc, Some(Slot::A)), Ok(found.clone()));
        // A card that is called the same changes nothing where the system's disk is known.
        let card = (CARD, "mmcblk1p1", "slot-b");
        assert_eq!(b(&[card, a, slot, boot], &emmc, None), Ok(found));
        assert!(matches!(b(&[card, slot], &Disks::Any, None), Err(FindError::SeveralDisks { .. })));
        assert_eq!(b(&[card, a], &emmc, None), Err(FindError::Missing { name: "slot-b".to_owned() }));
        assert_eq!(b(&[a, slot], &emmc, Some(Slot::B)), Err(FindError::Booted { slot: Slot::B }));
        let bare = Partitions { image: "/dev/mmcblk0p6".into(), boot: None };
        assert_eq!(b(&[(CARD, "mmcblk1p2", "boot-b"), slot], &emmc, None), Ok(bare));
        for twice in [(EMMC, "mmcblk0p9", "slot-B"), (EMMC, "mmcblk0p9", "slot-b")] {
            let error = b(&[slot, twice], &emmc, None).unwrap_err();
            assert!(matches!(&error, FindError::Twice { name, .. } if name == "slot-b"), "{error}");
        }
        let error = b(&[slot, boot, (EMMC, "mmcblk0p9", "boot-b")], &emmc, None).unwrap_err();
        assert!(error.to_string().contains("two partitions named boot-b"), "{error}");
    }
}
