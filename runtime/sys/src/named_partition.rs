//! Which partition goes by a name. Whoever may write to a disk can give its partitions any names, and containers are given
//! disks: so by its name alone no partition is ours.
//!
//! What nobody can write is where a disk is plugged in. `data` is on the disk that the running system's root is on. In the
//! initramfs there is no root yet: a slot is on a disk that is not on USB, or on a USB disk if no other turns up that has
//! one. Where more disks may be written by containers (a card, a second disk), the boot loader says by `yado.disk=` on the
//! kernel's command line which one is the system's; without that word, two of them with such a partition are refused.
//!
//! No secret and no identifier could replace that word: containers see the kernel's command line and could copy it.

use crate::{boot_parameter, volume};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the kernel shows its devices.
pub const SYSFS: &str = "/sys";

/// The disks that a partition may be on. A device's path is that below `/sys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disks {
    /// The one with this path.
    Only(String),
    /// Those with this word between two slashes of their path: the disk's name, or where it is plugged in.
    At(String),
    /// All but those on USB: another may yet turn up.
    NotOnUsb,
    /// All; those on USB only if no other has the partition.
    Any,
}

/// Several disks have such a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeveralDisks {
    /// The paths of two.
    paths: String,
}

impl Disks {
    /// The running system's disk, if its root is on one; else what [`Disks::named`] says.
    pub fn of_system(is_late: bool) -> Disks {
        let number = volume::device_number(Path::new("/")).ok();
        match number.and_then(|number| disk_of(Path::new(SYSFS), number)) {
            Some(disk) => Disks::Only(disk),
            None => Disks::named(&fs::read_to_string("/proc/cmdline").unwrap_or_default(), is_late),
        }
    }

    /// What the kernel's command line names, or, while it is not late, all but those on USB.
    pub fn named(command_line: &str, is_late: bool) -> Disks {
        match boot_parameter::value(command_line, "yado.disk=") {
            Some(word) if !word.is_empty() => Disks::At(word.to_owned()),
            Some(_) | None if is_late => Disks::Any,
            Some(_) | None => Disks::NotOnUsb,
        }
    }
}

/// The device of the partition that has one of these names.
pub fn find(sysfs: &Path, names: &[&str], disks: &Disks) -> Result<Option<PathBuf>, SeveralDisks> {
    choose(&all(sysfs), names, disks)
}

/// All partitions that have names, with their paths.
pub fn all(sysfs: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(sysfs.join("class/block")) else { return found };
    for entry in entries.flatten() {
        let text = fs::read_to_string(entry.path().join("uevent")).unwrap_or_default();
        let name = text.lines().find_map(|line| line.strip_prefix("PARTNAME="));
        if let (Some(name), Some(path)) = (name, path_of(&entry.path())) {
            found.push((name.to_owned(), path));
        }
    }
    found
}

/// The one that is on a disk of `disks`. Pure.
fn choose(partitions: &[(String, String)], names: &[&str], disks: &Disks) -> Result<Option<PathBuf>, SeveralDisks> {
    if *disks == Disks::Any {
        let better = choose(partitions, names, &Disks::NotOnUsb)?;
        if better.is_some() {
            return Ok(better);
        }
    }
    let mut chosen = None;
    for (name, path) in partitions {
        let is_meant = names.contains(&name.as_str())
            && match disks {
                Disks::Only(disk) => disk_part(path) == disk,
                Disks::At(word) => path.split('/').any(|part| part == word),
                // The kernel calls its buses `usb1`, `usb2`, …
                Disks::NotOnUsb => !path.split('/').any(|part| part.starts_with("usb")),
                Disks::Any => true,
            };
        match chosen {
            Some(other) if is_meant && disk_part(other) != disk_part(path) => {
                return Err(SeveralDisks { paths: format!("{other}, {path}") });
            }
            // One disk may have two of them: then it is its maker who did not care.
            None if is_meant => chosen = Some(path),
            Some(_) | None => {}
        }
    }
    Ok(chosen.map(|path| Path::new("/dev").join(device_name(path))))
}

/// A device's own name, the last of its path.
pub fn device_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The path of the disk that this partition is on.
fn disk_part(partition: &str) -> &str {
    partition.rsplit_once('/').map_or("", |(disk, _)| disk)
}

/// The path of the disk that this block device is, or is part of, or is made of.
fn disk_of(sysfs: &Path, (major, minor): (u32, u32)) -> Option<String> {
    let mut path = path_of(&sysfs.join(format!("dev/block/{major}:{minor}")))?;
    // dm-verity lies on the slot. A device cannot, in the end, lie on itself: the kernel sees to that.
    while let Ok(mut below) = fs::read_dir(sysfs.join(&path).join("slaves")) {
        let Some(Ok(below)) = below.next() else { break };
        path = path_of(&sysfs.join("class/block").join(below.file_name()))?;
    }
    let is_partition = sysfs.join(&path).join("partition").exists();
    Some(if is_partition { disk_part(&path).to_owned() } else { path })
}

/// Where a link of `class/block` or `dev/block` leads.
fn path_of(link: &Path) -> Option<String> {
    Some(fs::read_link(link).ok()?.to_str()?.strip_prefix("../../")?.to_owned())
}

impl fmt::Display for SeveralDisks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = &self.paths;
        write!(out, "on several disks ({paths}); yado.disk= on the kernel's command line says which is the system's")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    // As the kernels show them: a board's eMMC and its card slot, a virtio disk, a stick, a USB disk behind a hub.
    const EMMC: &str = "platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:0001/block/mmcblk0";
    const CARD: &str = "platform/soc/fe300000.mmc/mmc_host/mmc1/mmc1:aaaa/block/mmcblk1";
    const VIRTIO: &str = "platform/4010000000.pcie/pci0000:00/0000:00:01.0/virtio0/block/vda";
    const STICK: &str = "platform/fe800000.usb/xhci-hcd.0.auto/usb1/1-1/1-1:1.0/host0/target0:0:0/0:0:0:0/block/sda";
    const USB_DISK: &str = "pci0000:00/0000:00:14.0/usb12/12-3/12-3.1/12-3.1:1.0/host1/target1:0:0/1:0:0:0/block/sdb";

    /// Partitions as (disk, device, name), in a directory that looks like sysfs.
    fn sysfs(partitions: &[(&str, &str, &str)]) -> TempDir {
        let directory = TempDir::new().unwrap();
        let blocks = directory.path().join("class/block");
        fs::create_dir_all(&blocks).unwrap();
        for (disk, device, name) in partitions {
            let (path, link) = (directory.path().join("devices").join(disk), format!("../../devices/{disk}"));
            fs::create_dir_all(path.join("slaves")).unwrap();
            fs::create_dir(path.join(device)).unwrap();
            fs::write(path.join(device).join("partition"), "7\n").unwrap();
            let uevent = format!("MAJOR=254\nDEVNAME={device}\nDEVTYPE=partition\nPARTN=7\nPARTNAME={name}\n");
            fs::write(path.join(device).join("uevent"), uevent).unwrap();
            symlink(format!("{link}/{device}"), blocks.join(device)).unwrap();
            fs::write(path.join("uevent"), "MAJOR=254\nDEVTYPE=disk\n").unwrap();
            let whole = blocks.join(device_name(disk));
            if !whole.exists() {
                symlink(link, whole).unwrap();
            }
        }
        directory
    }

    fn at(word: &str) -> Disks {
        Disks::At(word.to_owned())
    }

    #[test]
    fn a_slot_is_never_taken_from_a_stick_while_another_disk_has_it() {
        let on = |disk: &'static str, device: &'static str| (disk, device, "slot-a");
        let (emmc, card) = (on(EMMC, "mmcblk0p5"), on(CARD, "mmcblk1p5"));
        let (stick, disk) = (on(STICK, "sda1"), on(USB_DISK, "sdb5"));
        let found = |device: &str| Ok(Some(Path::new("/dev").join(device)));
        let several = |devices: &str| Err(devices.to_owned());
        let table = [
            (vec![], Disks::Any, Ok(None)),
            (vec![emmc], Disks::NotOnUsb, found("mmcblk0p5")),
            (vec![stick, emmc], Disks::NotOnUsb, found("mmcblk0p5")),
            (vec![stick, emmc], Disks::Any, found("mmcblk0p5")),
            (vec![stick, emmc, disk], Disks::Any, found("mmcblk0p5")),
            (vec![on(STICK, "sda1"), on(VIRTIO, "vda5")], Disks::Any, found("vda5")),
            // A board that boots from USB waits for others first.
            (vec![disk], Disks::NotOnUsb, Ok(None)),
            (vec![disk], Disks::Any, found("sdb5")),
            (vec![disk, stick], Disks::NotOnUsb, Ok(None)),
            (vec![disk, stick], Disks::Any, several("sda1, sdb5")),
            (vec![card, emmc], Disks::NotOnUsb, several("mmcblk0p5, mmcblk1p5")),
            (vec![card, emmc, stick], Disks::Any, several("mmcblk0p5, mmcblk1p5")),
            // The boot loader knows.
            (vec![card, emmc], at("mmcblk0"), found("mmcblk0p5")),
            (vec![card, emmc], at("fe300000.mmc"), found("mmcblk1p5")),
            (vec![disk, stick, emmc], at("usb12"), found("sdb5")),
            (vec![card, emmc], at("mmcblk"), Ok(None)),
            // What is on USB stays so, whatever its disk is called.
            (vec![on("platform/fe800000.usb/usb1/1-1/block/mmcblk0", "mmcblk0p1")], Disks::NotOnUsb, Ok(None)),
        ];
        for (number, (partitions, disks, expected)) in table.iter().enumerate() {
            let directory = sysfs(partitions);
            let found = find(directory.path(), &["slot-a", "slot-A"], disks).map_err(|several| {
                // In the order in which the kernel lists them.
                let mut devices: Vec<&str> = several.paths.split(", ").map(device_name).collect();
                devices.sort_unstable();
                devices.join(", ")
            });
            assert_eq!(found, *expected, "line {number}");
        }
        // The other spelling is no better and no worse.
        let directory =
            sysfs(&[(STICK, "sda1", "slot-a"), (EMMC, "mmcblk0p5", "slot-A"), (EMMC, "mmcblk0p7", "data")]);
        let emmc = Some(PathBuf::from("/dev/mmcblk0p5"));
        assert_eq!(find(directory.path(), &["slot-a", "slot-A"], &Disks::Any), Ok(emmc));
        assert_eq!(find(directory.path(), &["slot-b"], &Disks::Any), Ok(None));
        assert_eq!(find(&directory.path().join("none"), &["slot-a"], &Disks::Any), Ok(None));
    }

    #[test]
    fn data_is_taken_from_the_disk_that_the_root_is_on_and_from_no_other() {
        let stick_first = [(STICK, "sda1", "data"), (CARD, "mmcblk1p1", "data"), (EMMC, "mmcblk0p5", "slot-a")];
        let with_data = [stick_first[0], stick_first[1], stick_first[2], (EMMC, "mmcblk0p7", "data")];
        let (found, missing) = (Ok(Some(PathBuf::from("/dev/mmcblk0p7"))), Ok(None));
        for (partitions, expected) in [(&with_data[..], found), (&stick_first[..], missing)] {
            let directory = sysfs(partitions);
            let (root, emmc) = (directory.path(), format!("devices/{EMMC}"));
            let by_number = root.join("dev/block");
            fs::create_dir_all(&by_number).unwrap();
            // dm-verity on the slot, the slot itself, and the whole disk.
            let mapped = root.join("devices/virtual/block/dm-0/slaves");
            fs::create_dir_all(&mapped).unwrap();
            symlink(format!("../../../../../{emmc}/mmcblk0p5"), mapped.join("mmcblk0p5")).unwrap();
            symlink("../../devices/virtual/block/dm-0", by_number.join("253:0")).unwrap();
            symlink(format!("../../{emmc}/mmcblk0p5"), by_number.join("179:5")).unwrap();
            symlink(format!("../../{emmc}"), by_number.join("179:0")).unwrap();
            for number in [(253, 0), (179, 5), (179, 0)] {
                let disk = disk_of(root, number).unwrap();
                assert_eq!(disk, emmc, "{number:?}");
                assert_eq!(find(root, &["data"], &Disks::Only(disk)), expected, "{number:?}");
            }
            // A root in memory is on no disk.
            assert_eq!(disk_of(root, (0, 2)), None);
        }
    }

    #[test]
    fn the_command_line_names_the_disk() {
        let table = [
            ("console=ttyAMA0 yado.slot=A yado.disk=mmcblk0 panic=5", false, at("mmcblk0")),
            ("yado.disk=fe340000.mmc", true, at("fe340000.mmc")),
            ("console=ttyAMA0 yado.slot=A", false, Disks::NotOnUsb),
            ("xyado.disk=sda", true, Disks::Any),
            ("yado.disk=", false, Disks::NotOnUsb),
        ];
        for (command_line, is_late, disks) in table {
            assert_eq!(Disks::named(command_line, is_late), disks, "{command_line}");
        }
    }

    #[test]
    fn a_refusal_names_every_disk_and_the_remedy() {
        let directory = sysfs(&[(CARD, "mmcblk1p5", "slot-a"), (EMMC, "mmcblk0p5", "slot-a")]);
        let text = find(directory.path(), &["slot-a"], &Disks::NotOnUsb).unwrap_err().to_string();
        for part in ["mmc0:0001/block/mmcblk0/mmcblk0p5", "mmc1:aaaa/block/mmcblk1/mmcblk1p5", "yado.disk="] {
            assert!(text.contains(part), "{text}");
        }
    }
}
