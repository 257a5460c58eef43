//! Which sticks are plugged in, as sysfs says, and which of them are taken. What a stick says of itself, by labels and names of
//! partitions, is not looked at.

use super::selected::{Node, Plug, Selected};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use yado_spec::instance::NodeKind;
use yado_spec::usb_device::UsbDevice;
use yado_sys::named_partition::Disks;
use yado_wire::InstanceName;

/// More partitions on USB than anybody plugs in.
const MAX_STICKS: usize = 32;
/// Of one USB device, so that one with many leaves room for the others.
const MAX_OF_A_DEVICE: usize = 8;
/// Below one USB device, in sysfs. A disk has about 50, each of its partitions 6.
const MAX_DIRECTORIES: usize = 16 << 10;

/// A partition, or a disk that has none, on USB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stick {
    /// As the kernel calls it: `sda1`.
    pub name: String,
    /// The kernel's number of this plugging in: no two have the same (sysfs-block, "diskseq").
    pub plug: u64,
    /// Why it is none that is taken.
    pub not_taken: Option<NotTaken>,
    /// Device number.
    pub(super) number: (u32, u32),
    /// Its directory in sysfs.
    pub(super) sysfs: PathBuf,
}

/// Why a disk on USB is no source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotTaken {
    /// The system runs from it.
    System,
    /// The board's maker has built it in.
    BuiltIn,
    /// By its own word it is a disk and no stick.
    NotRemovable,
    /// An instance has it, or would if it ran.
    Instance(InstanceName),
}

/// What is known of a disk on USB.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    is_systems: bool,
    /// `removable` of its USB device says `fixed`.
    is_built_in: bool,
    is_removable: bool,
    instance: Option<InstanceName>,
}

/// Whether it is taken. `None`: it is.
fn judge(facts: Facts) -> Option<NotTaken> {
    let Facts { is_systems, is_built_in, is_removable, instance } = facts;
    match instance {
        _ if is_systems => Some(NotTaken::System),
        Some(instance) => Some(NotTaken::Instance(instance)),
        None if is_built_in => Some(NotTaken::BuiltIn),
        None if !is_removable => Some(NotTaken::NotRemovable),
        None => None,
    }
}

/// All that there are now, those that are taken first, and else in the order of their names. `system`: the disks that the system runs
/// from.
pub fn plugged_in(sysfs: &Path, system: &Disks, selected: &Selected) -> Vec<Stick> {
    let entries = fs::read_dir(sysfs.join("class/block")).into_iter().flatten().flatten();
    let mut plugs = BTreeMap::new();
    let mut read = |link: &Path| read(sysfs, link, system, selected, &mut plugs);
    let mut found: Vec<(PathBuf, Stick)> = entries.filter_map(|entry| read(&entry.path())).collect();
    found.sort_by(|(_, one), (_, other)| {
        (one.not_taken.is_some(), &one.name).cmp(&(other.not_taken.is_some(), &other.name))
    });
    let mut counts: BTreeMap<PathBuf, usize> = BTreeMap::new();
    found.retain(|(usb_directory, _)| {
        let count = counts.entry(usb_directory.clone()).or_default();
        *count += 1;
        *count <= MAX_OF_A_DEVICE
    });
    found.into_iter().map(|(_, stick)| stick).take(MAX_STICKS).collect()
}

/// With the directory of its USB device. `None`: not on USB, gone, without a medium, or only the disk of partitions. `plugs`: what was
/// read of USB devices, which have many partitions.
fn read(
    sysfs: &Path,
    link: &Path,
    system: &Disks,
    selected: &Selected,
    plugs: &mut BTreeMap<PathBuf, Option<Plug>>,
) -> Option<(PathBuf, Stick)> {
    let path = fs::read_link(link).ok()?.to_str()?.strip_prefix("../../")?.to_owned();
    // Most are not, and are not looked at further.
    if !path.contains("/usb") {
        return None;
    }
    let own = sysfs.join(&path);
    let usb_directory = own.ancestors().take_while(|above| *above != sysfs).find(|above| is_usb_device(above))?;
    let is_partition = own.join("partition").exists();
    let disk = if is_partition { own.parent()? } else { &own };
    let partitions = partitions_of(disk);
    if !is_partition && !partitions.is_empty() || attribute(&own, "size")? == "0" {
        return None;
    }
    let read_plug = || plug_of(sysfs, usb_directory);
    let plug = plugs.entry(usb_directory.to_owned()).or_insert_with(read_plug).as_ref()?;
    let facts = Facts {
        is_systems: is_systems(system, disk.strip_prefix(sysfs).ok()?.to_str()?),
        is_built_in: attribute(usb_directory, "removable").is_some_and(|word| word == "fixed"),
        is_removable: attribute(disk, "removable").is_some_and(|word| word == "1"),
        instance: selected.owner(plug).cloned(),
    };
    let stick = Stick {
        name: own.file_name()?.to_str()?.to_owned(),
        plug: attribute(disk, "diskseq")?.parse().ok()?,
        not_taken: judge(facts),
        number: number_of(&own)?,
        sysfs: own.clone(),
    };
    Some((usb_directory.to_owned(), stick))
}

fn plug_of(sysfs: &Path, usb_directory: &Path) -> Option<Plug> {
    let read = |directory: &Path| UsbDevice::parse(|name| attribute(directory, name));
    let above = usb_directory.ancestors().skip(1).take_while(|above| *above != sysfs);
    Some(Plug {
        usb: read(usb_directory)?,
        // Whoever has a hub has all that is below it.
        above: above.filter(|above| is_usb_device(above)).map(read).collect::<Option<_>>()?,
        nodes: nodes_below(usb_directory)?,
    })
}

/// Not one of its interfaces, which are on the same bus.
fn is_usb_device(directory: &Path) -> bool {
    let subsystem = fs::read_link(directory.join("subsystem")).ok();
    subsystem.is_some_and(|bus| bus.ends_with("bus/usb")) && directory.join("idVendor").exists()
}

/// All nodes that the device's drivers made, and its own: a stick's bytes are also read and written by its SCSI commands (`/dev/sg0`,
/// `/dev/bsg/…`). `None`: there are more than any device has.
fn nodes_below(usb_directory: &Path) -> Option<Vec<Node>> {
    let (mut nodes, mut seen) = (Vec::new(), 0);
    let mut left = vec![usb_directory.to_owned()];
    while let Some(directory) = left.pop() {
        seen += 1;
        if MAX_DIRECTORIES < seen {
            return None;
        }
        if let Some(number) = number_of(&directory) {
            let is_block =
                directory.strip_prefix(usb_directory).is_ok_and(|below| below.iter().any(|part| part == "block"));
            nodes.push((if is_block { NodeKind::Block } else { NodeKind::Char }, number));
        }
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        // Links lead elsewhere.
        left.extend(
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
        );
    }
    Some(nodes)
}

fn partitions_of(disk: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(disk).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|entry| entry.join("partition").exists()).collect()
}

/// Where it is not known what the system runs from, what is in use is refused all the same.
fn is_systems(system: &Disks, disk: &str) -> bool {
    match system {
        Disks::Only(path) => path == disk,
        Disks::At(word) => disk.split('/').any(|part| part == word),
        Disks::NotOnUsb | Disks::Any => false,
    }
}

/// The text of an attribute, without the line's end.
fn attribute(directory: &Path, name: &str) -> Option<String> {
    Some(fs::read_to_string(directory.join(name)).ok()?.trim_end().to_owned())
}

/// `8:1` of `dev`.
fn number_of(directory: &Path) -> Option<(u32, u32)> {
    let text = attribute(directory, "dev")?;
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

impl Stick {
    /// It is still the one that was plugged in.
    pub(super) fn is_there(&self) -> bool {
        let disk = if self.sysfs.join("partition").exists() { self.sysfs.parent() } else { Some(&*self.sysfs) };
        let plug = disk.and_then(|disk| attribute(disk, "diskseq"));
        plug == Some(self.plug.to_string()) && number_of(&self.sysfs) == Some(self.number)
    }
}

impl fmt::Display for NotTaken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotTaken::System => out.write_str("the system runs from this disk"),
            NotTaken::BuiltIn => out.write_str("this disk is built in: it is no stick"),
            NotTaken::NotRemovable => out.write_str("its medium cannot be removed: it is a disk and no stick"),
            NotTaken::Instance(instance) => write!(out, "a device of instance {instance} selects it"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;
    use yado_spec::instance::{DeviceSelect, UsbMatch};

    #[test]
    fn only_a_stick_that_nobody_else_has_is_taken() {
        let stick = Facts { is_systems: false, is_built_in: false, is_removable: true, instance: None };
        let web = InstanceName::parse("web").unwrap();
        assert_eq!(judge(stick.clone()), None);
        assert_eq!(judge(Facts { is_systems: true, ..stick.clone() }), Some(NotTaken::System));
        assert_eq!(judge(Facts { is_built_in: true, ..stick.clone() }), Some(NotTaken::BuiltIn));
        assert_eq!(judge(Facts { is_removable: false, ..stick.clone() }), Some(NotTaken::NotRemovable));
        let taken = Some(NotTaken::Instance(web.clone()));
        assert_eq!(judge(Facts { instance: Some(web.clone()), ..stick.clone() }), taken);
        assert_eq!(judge(Facts { instance: Some(web), is_removable: false, ..stick }), taken);
    }

    const HUB: &str = "devices/platform/fe800000.usb/usb1";
    const EMMC: &str = "devices/platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:0001/block/mmcblk0";

    /// A directory that looks like sysfs: disks and partitions by their paths, each with these attributes.
    struct Sysfs(TempDir);

    impl Sysfs {
        fn new() -> Sysfs {
            let sysfs = Sysfs(tempfile::tempdir().unwrap());
            fs::create_dir_all(sysfs.0.path().join("class/block")).unwrap();
            fs::create_dir_all(sysfs.0.path().join("bus/usb")).unwrap();
            sysfs
        }

        fn write(&self, directory: &str, attributes: &[(&str, &str)]) {
            let path = self.0.path().join(directory);
            fs::create_dir_all(&path).unwrap();
            for (name, value) in attributes {
                fs::write(path.join(name), format!("{value}\n")).unwrap();
            }
        }

        fn usb(&self, place: &str, attributes: &[(&str, &str)]) -> String {
            let directory = format!("{HUB}/{place}");
            let name = place.rsplit('/').next().unwrap();
            let ids =
                [("idVendor", "46f4"), ("idProduct", "0001"), ("busnum", "1"), ("devnum", "2"), ("dev", "189:1")];
            for (directory, is_device) in [(directory.clone(), true), (format!("{directory}/{name}:1.0"), false)] {
                self.write(&directory, if is_device { &ids } else { &[] });
                symlink(self.0.path().join("bus/usb"), self.0.path().join(&directory).join("subsystem")).unwrap();
            }
            self.write(&directory, attributes);
            format!("{directory}/{name}:1.0/host0/target0:0:0/0:0:0:0/block")
        }

        fn block(&self, directory: &str, attributes: &[(&str, &str)]) {
            self.write(directory, &[("size", "2048")]);
            self.write(directory, attributes);
            let name = directory.rsplit('/').next().unwrap();
            symlink(format!("../../{directory}"), self.0.path().join("class/block").join(name)).unwrap();
        }

        fn stick(&self, place: &str, disk: &str, minor: u32, attributes: &[(&str, &str)]) -> String {
            let blocks = self.usb(place, attributes);
            let path = format!("{blocks}/{disk}");
            self.block(&path, &[("removable", "1"), ("diskseq", "9"), ("dev", &format!("8:{minor}"))]);
            path
        }

        fn found(&self, system: &Disks, selected: &Selected) -> Vec<(String, Option<NotTaken>)> {
            let sticks = plugged_in(self.0.path(), system, selected);
            sticks.into_iter().map(|stick| (stick.name, stick.not_taken)).collect()
        }
    }

    #[test]
    fn partitions_and_disks_without_any_are_found_by_where_they_are_plugged_in() {
        let sysfs = Sysfs::new();
        sysfs.block(EMMC, &[("dev", "179:0"), ("removable", "1"), ("diskseq", "1")]);
        // Whatever it calls its partitions: `uevent` is not read.
        let sda = sysfs.stick("1-1", "sda", 0, &[]);
        sysfs.block(&format!("{sda}/sda1"), &[("partition", "1"), ("dev", "8:1"), ("uevent", "PARTNAME=slot-b")]);
        sysfs.block(&format!("{sda}/sda2"), &[("partition", "2"), ("dev", "8:2")]);
        sysfs.stick("1-2", "sdb", 16, &[("removable", "removable")]);
        sysfs.stick("1-3", "sdc", 32, &[("removable", "fixed")]);
        let disk = sysfs.stick("1-4", "sdd", 48, &[]);
        sysfs.write(&disk, &[("removable", "0")]);
        let reader = sysfs.stick("1-5", "sde", 64, &[]);
        sysfs.write(&reader, &[("size", "0")]);
        // Called like a bus, and none.
        sysfs.block("devices/platform/usb1/sdf", &[("dev", "8:80"), ("removable", "1"), ("diskseq", "3")]);
        let none = Selected::default();
        let name = |name: &str, why: Option<NotTaken>| (name.to_owned(), why);
        let others = [name("sdc", Some(NotTaken::BuiltIn)), name("sdd", Some(NotTaken::NotRemovable))];
        let all = [&[name("sda1", None), name("sda2", None), name("sdb", None)], &others[..]].concat();
        assert_eq!(sysfs.found(&Disks::Only(EMMC.to_owned()), &none), all);
        let system = Some(NotTaken::System);
        for disks in [Disks::Only(sda), Disks::At("1-1".to_owned())] {
            let found = sysfs.found(&disks, &none);
            assert_eq!(found[..3], [name("sdb", None), name("sda1", system.clone()), name("sda2", system.clone())]);
        }
    }

    #[test]
    fn a_disk_with_many_partitions_hides_no_stick() {
        let sysfs = Sysfs::new();
        let web = InstanceName::parse("web").unwrap();
        let serial = UsbMatch { serial: Some("WEB".to_owned()), ..UsbMatch::default() };
        let selected = Selected::new([(web.clone(), DeviceSelect::Usb(serial))]);
        for (place, disk, attributes) in
            [("1-1", "sda", &[("serial", "WEB")][..]), ("1-2", "sdb", &[]), ("1-3", "sdc", &[]), ("1-4", "sdd", &[])]
        {
            let path = sysfs.stick(place, disk, 0, attributes);
            for number in 1..if disk == "sdd" { 2 } else { 40 } {
                let partition = format!("{path}/{disk}{number}");
                sysfs.block(&partition, &[("partition", "1"), ("dev", &format!("8:{number}"))]);
            }
        }
        let found = sysfs.found(&Disks::Any, &selected);
        let count = |disk: &str| found.iter().filter(|(name, _)| name.starts_with(disk)).count();
        assert_eq!([count("sda"), count("sdb"), count("sdc"), count("sdd")], [8, 8, 8, 1], "{found:?}");
        let (taken, not) = found.split_at(17);
        assert!(taken.iter().all(|(_, why)| why.is_none()), "{found:?}");
        assert!(not.iter().all(|(_, why)| *why == Some(NotTaken::Instance(web.clone()))), "{found:?}");
    }

    #[test]
    fn what_an_instance_selects_is_the_instances() {
        let sysfs = Sysfs::new();
        let sda = sysfs.stick("1-1", "sda", 0, &[("serial", "YADO1")]);
        sysfs.block(&format!("{sda}/sda1"), &[("partition", "1"), ("dev", "8:1")]);
        let web = InstanceName::parse("web").unwrap();
        let selected = |select: DeviceSelect| Selected::new([(web.clone(), select)]);
        let taken = |select: DeviceSelect| {
            let found = sysfs.found(&Disks::Any, &selected(select.clone()));
            match found.as_slice() {
                [(name, None)] if name == "sda1" => true,
                [(name, Some(NotTaken::Instance(instance)))] if name == "sda1" && *instance == web => false,
                other => panic!("{select:?}: {other:?}"),
            }
        };
        let qemu = UsbMatch { vendor: Some(0x46f4), ..UsbMatch::default() };
        let other = UsbMatch { vendor: Some(0x46f4), serial: Some("YADO2".to_owned()), ..UsbMatch::default() };
        let hotplug = |usb: &UsbMatch, subsystem: Option<&str>| DeviceSelect::Hotplug {
            usb: usb.clone(),
            subsystem: subsystem.map(str::to_owned),
        };
        assert!(!taken(DeviceSelect::Usb(qemu.clone())));
        assert!(!taken(DeviceSelect::Usb(UsbMatch::default())), "all of them");
        assert!(taken(DeviceSelect::Usb(other.clone())));
        for subsystem in [None, Some("block"), Some("bsg"), Some("scsi_generic")] {
            assert!(!taken(hotplug(&qemu, subsystem)), "{subsystem:?}");
            assert!(taken(hotplug(&other, subsystem)), "{subsystem:?}");
        }
        assert!(!taken(hotplug(&UsbMatch::default(), Some("block"))));
        assert!(taken(hotplug(&UsbMatch::default(), Some("tty"))));
        assert!(taken(hotplug(&qemu, Some("usb"))), "its own node is not below it");
    }

    #[test]
    fn who_has_a_node_by_which_the_sticks_bytes_are_reached_has_the_stick() {
        let sysfs = Sysfs::new();
        let sda = sysfs.stick("1-1", "sda", 0, &[]);
        let scsi = sda.strip_suffix("/block/sda").unwrap();
        let web = InstanceName::parse("web").unwrap();
        let select = DeviceSelect::Node { kind: NodeKind::Char, source: "/dev/null".to_owned(), path: String::new() };
        let selected = Selected::new([(web.clone(), select)]);
        let found = || sysfs.found(&Disks::Any, &selected);
        sysfs.write(&format!("{sda}/sda1"), &[("partition", "1"), ("dev", "1:3")]);
        sysfs.block(&format!("{sda}/sda1"), &[]);
        assert_eq!(found(), [("sda1".to_owned(), None)], "a block device of this number is another");
        for node in ["bsg/0:0:0:0", "scsi_generic/sg0"] {
            // By its number, `/dev/null`.
            sysfs.write(&format!("{scsi}/{node}"), &[("dev", "1:3")]);
            assert_eq!(found(), [("sda1".to_owned(), Some(NotTaken::Instance(web.clone())))], "{node}");
            fs::remove_dir_all(sysfs.0.path().join(scsi).join(node)).unwrap();
        }
        assert_eq!(found(), [("sda1".to_owned(), None)]);
    }

    #[test]
    fn what_is_below_a_hub_of_an_instance_is_the_instances() {
        let sysfs = Sysfs::new();
        let hub = UsbMatch { vendor: Some(0x0409), ..UsbMatch::default() };
        sysfs.usb("1-1", &[("idVendor", "0409"), ("devnum", "2")]);
        sysfs.stick("1-1/1-1.1", "sda", 0, &[("devnum", "3")]);
        sysfs.stick("1-2", "sdb", 16, &[("devnum", "4")]);
        let web = InstanceName::parse("web").unwrap();
        let hotplug = |subsystem: Option<&str>| DeviceSelect::Hotplug {
            usb: hub.clone(),
            subsystem: subsystem.map(str::to_owned),
        };
        for (select, is_owner) in [
            (DeviceSelect::Usb(hub.clone()), true),
            (hotplug(None), true),
            (hotplug(Some("block")), true),
            (hotplug(Some("usb")), true),
            (hotplug(Some("tty")), false),
        ] {
            let found = sysfs.found(&Disks::Any, &Selected::new([(web.clone(), select.clone())]));
            let owner = is_owner.then(|| NotTaken::Instance(web.clone()));
            assert_eq!(found.len(), 2, "{found:?}");
            for expected in [("sda".to_owned(), owner), ("sdb".to_owned(), None)] {
                assert!(found.contains(&expected), "{select:?}: {found:?}");
            }
        }
    }
}
