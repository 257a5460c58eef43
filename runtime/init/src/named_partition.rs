//! Which partition goes by a name. Whoever may write to a disk can give its partitions any names, and containers are given
//! disks: so by its name alone no partition is ours.
//!
//! What nobody can write is where a disk is plugged in. `data` is on the disk that the running system's root is on. In the
//! initramfs there is no root yet: a slot is on a disk that is not on USB, or on a USB disk if no other turns up that has
//! one. Where more disks may be written by containers (a card, a second disk), the boot loader says by `yado.disk=` on the
//! kernel's command line which one is the system's; without that word, two of them with such a partition are refused.
//!
//! No secret and no identifier could replace that word: containers see the kernel's command line and could copy it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use yado_sys::volume;

/// Where the kernel shows its devices.
pub(crate) const SYSFS: &str = "/sys";

/// The disks that a partition may be on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Disks {
    /// This one, by its directory in sysfs.
    Only(PathBuf),
    /// Those with this word between two slashes of their path in sysfs: the disk's name, or where it is plugged in.
    At(String),
    /// All but those on USB: another may yet turn up.
    NotOnUsb,
    /// All; those on USB only if no other has the partition.
    Any,
}

/// Several disks have such a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeveralDisks {
    /// The partitions' devices.
    devices: Vec<PathBuf>,
}

impl Disks {
    /// The running system's disk, if its root is on one; else what [`Disks::named`] says.
    pub(crate) fn of_system(is_late: bool) -> Disks {
        let number = volume::device_number(Path::new("/")).ok();
        match number.and_then(|number| disk_of(Path::new(SYSFS), number)) {
            Some(disk) => Disks::Only(disk),
            None => Disks::named(&fs::read_to_string("/proc/cmdline").unwrap_or_default(), is_late),
        }
    }

    /// What the kernel's command line names, or, while it is not late, all but those on USB.
    pub(crate) fn named(command_line: &str, is_late: bool) -> Disks {
        match parse_command_line(command_line) {
            Some(word) => Disks::At(word.to_owned()),
            None if is_late => Disks::Any,
            None => Disks::NotOnUsb,
        }
    }
}

/// The device of the partition that has one of these names.
pub(crate) fn find(sysfs: &Path, names: &[&str], disks: &Disks) -> Result<Option<PathBuf>, SeveralDisks> {
    let named = all(sysfs).into_iter().filter(|(name, _)| names.contains(&name.as_str()));
    choose(named.map(|(_, path)| path).collect(), disks)
}

/// All partitions that have names, with their directories in sysfs.
pub(crate) fn all(sysfs: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(sysfs.join("class/block")) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path().join("uevent")).ok()?;
            let name = text.lines().find_map(|line| line.strip_prefix("PARTNAME="))?;
            Some((name.to_owned(), fs::canonicalize(entry.path()).ok()?))
        })
        .collect()
}

/// The one that is on a disk of `disks`. Pure.
fn choose(mut partitions: Vec<PathBuf>, disks: &Disks) -> Result<Option<PathBuf>, SeveralDisks> {
    let is_elsewhere = partitions.iter().any(|path| !is_on_usb(path));
    partitions.retain(|path| match disks {
        Disks::Only(disk) => path.parent() == Some(disk.as_path()),
        Disks::At(word) => path.iter().any(|part| part == word.as_str()),
        Disks::NotOnUsb => !is_on_usb(path),
        Disks::Any => !is_elsewhere || !is_on_usb(path),
    });
    // One disk may have two of them, and the same one is taken each time.
    partitions.sort_unstable();
    let disk = partitions.first().and_then(|first| first.parent());
    if partitions.iter().any(|other| other.parent() != disk) {
        return Err(SeveralDisks { devices: partitions.iter().filter_map(|path| device(path)).collect() });
    }
    Ok(partitions.first().and_then(|path| device(path)))
}

fn device(partition: &Path) -> Option<PathBuf> {
    Some(Path::new("/dev").join(partition.file_name()?))
}

/// Whether a device is behind a USB bus, which the kernel calls `usb1`, `usb2`, …
fn is_on_usb(path: &Path) -> bool {
    let is_bus = |name: &str| name.strip_prefix("usb").is_some_and(|number| number.parse::<u8>().is_ok());
    path.iter().any(|part| part.to_str().is_some_and(is_bus))
}

/// The directory of the disk that this block device is, or is part of, or is made of.
fn disk_of(sysfs: &Path, (major, minor): (u32, u32)) -> Option<PathBuf> {
    let mut device = fs::canonicalize(sysfs.join(format!("dev/block/{major}:{minor}"))).ok()?;
    // dm-verity lies on the slot. A device cannot, in the end, lie on itself: the kernel sees to that.
    while let Some(below) = fs::read_dir(device.join("slaves")).ok().and_then(|mut entries| entries.next()?.ok()) {
        device = fs::canonicalize(below.path()).ok()?;
    }
    if device.join("partition").exists() {
        device.pop();
    }
    Some(device)
}

fn parse_command_line(command_line: &str) -> Option<&str> {
    command_line.split_whitespace().find_map(|word| word.strip_prefix("yado.disk=")).filter(|word| !word.is_empty())
}

impl fmt::Display for SeveralDisks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("several disks have such a partition:")?;
        for device in &self.devices {
            write!(out, " {}", device.display())?;
        }
        out.write_str("; yado.disk=NAME on the kernel's command line says which disk is the system's")
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
            let path = directory.path().join("devices").join(disk);
            fs::create_dir_all(path.join("slaves")).unwrap();
            fs::create_dir(path.join(device)).unwrap();
            fs::write(path.join(device).join("partition"), "7\n").unwrap();
            let uevent = format!("MAJOR=254\nDEVNAME={device}\nDEVTYPE=partition\nPARTN=7\nPARTNAME={name}\n");
            fs::write(path.join(device).join("uevent"), uevent).unwrap();
            symlink(path.join(device), blocks.join(device)).unwrap();
            fs::write(path.join("uevent"), "MAJOR=254\nDEVTYPE=disk\n").unwrap();
            let whole = blocks.join(path.file_name().unwrap());
            if !whole.exists() {
                symlink(path, whole).unwrap();
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
        let several = |devices: &[&str]| {
            Err(SeveralDisks { devices: devices.iter().map(|device| Path::new("/dev").join(device)).collect() })
        };
        let found = |device: &str| Ok(Some(Path::new("/dev").join(device)));
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
            (vec![disk, stick], Disks::Any, several(&["sdb5", "sda1"])),
            (vec![card, emmc], Disks::NotOnUsb, several(&["mmcblk1p5", "mmcblk0p5"])),
            (vec![card, emmc, stick], Disks::Any, several(&["mmcblk1p5", "mmcblk0p5"])),
            // The boot loader knows.
            (vec![card, emmc], at("mmcblk0"), found("mmcblk0p5")),
            (vec![card, emmc], at("fe300000.mmc"), found("mmcblk1p5")),
            (vec![disk, stick, emmc], at("usb12"), found("sdb5")),
            (vec![card, emmc], at("mmcblk"), Ok(None)),
            // Twice on the same disk is the maker's doing: any, but always the same.
            (vec![on(EMMC, "mmcblk0p9"), emmc], Disks::NotOnUsb, found("mmcblk0p5")),
        ];
        for (number, (partitions, disks, expected)) in table.iter().enumerate() {
            let directory = sysfs(partitions);
            assert_eq!(find(directory.path(), &["slot-a", "slot-A"], disks), *expected, "line {number}");
        }
        // The other spelling is no better and no worse.
        let directory =
            sysfs(&[(STICK, "sda1", "slot-a"), (EMMC, "mmcblk0p5", "slot-A"), (EMMC, "mmcblk0p7", "data")]);
        assert_eq!(find(directory.path(), &["slot-a", "slot-A"], &Disks::Any), found("mmcblk0p5"));
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
            let (root, emmc) = (fs::canonicalize(directory.path()).unwrap(), format!("devices/{EMMC}"));
            let by_number = root.join("dev/block");
            fs::create_dir_all(&by_number).unwrap();
            // dm-verity on the slot, the slot itself, and the whole disk.
            let mapped = root.join("devices/virtual/block/dm-0");
            fs::create_dir_all(mapped.join("slaves")).unwrap();
            symlink(root.join(&emmc).join("mmcblk0p5"), mapped.join("slaves/mmcblk0p5")).unwrap();
            symlink(&mapped, by_number.join("253:0")).unwrap();
            symlink(root.join(&emmc).join("mmcblk0p5"), by_number.join("179:5")).unwrap();
            symlink(root.join(&emmc), by_number.join("179:0")).unwrap();
            for number in [(253, 0), (179, 5), (179, 0)] {
                let disk = disk_of(&root, number).unwrap();
                assert_eq!(disk, root.join(&emmc), "{number:?}");
                assert_eq!(find(&root, &["data"], &Disks::Only(disk)), expected, "{number:?}");
            }
            // A root in memory is on no disk.
            assert_eq!(disk_of(&root, (0, 2)), None);
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
        for part in ["/dev/mmcblk0p5", "/dev/mmcblk1p5", "yado.disk="] {
            assert!(text.contains(part), "{text}");
        }
    }
}
