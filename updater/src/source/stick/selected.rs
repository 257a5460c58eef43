//! What instances have of USB devices and disks, by their compiled specs: whether they run or not, it is theirs.

use super::devices::attribute;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use yado_spec::file::MAX_FILE_BYTES;
use yado_spec::instance::{DeviceSelect, NodeKind, UsbMatch};
use yado_sys::regular_file;
use yado_wire::{InstanceName, MAX_INSTANCES};

/// Of which subsystem a node is that leads to a stick's bytes.
const OF_A_STICK: [&str; 3] = ["block", "bsg", "scsi_generic"];

/// The selections of all instances.
#[derive(Debug, Default)]
pub struct Selected(Vec<(InstanceName, DeviceSelect)>);

/// Where a disk is plugged in.
#[derive(Debug)]
pub(super) struct Plug {
    /// The USB device that has the disk.
    pub(super) usb: UsbDevice,
    /// Hubs, up to the root's.
    pub(super) above: Vec<UsbDevice>,
    /// Those of that device and of all below it.
    pub(super) nodes: Vec<Node>,
}

/// What is in `/dev`: of which kind, and its number.
pub(super) type Node = (NodeKind, (u32, u32));

/// A USB device, as far as selections ask for it.
#[derive(Debug)]
pub(super) struct UsbDevice {
    vendor: u16,
    product: u16,
    serial: Option<String>,
    bus: u16,
    device: u16,
}

impl UsbDevice {
    pub(super) fn read(directory: &Path) -> Option<UsbDevice> {
        let hexadecimal = |name: &str| u16::from_str_radix(&attribute(directory, name)?, 16).ok();
        let decimal = |name: &str| attribute(directory, name)?.parse().ok();
        Some(UsbDevice {
            vendor: hexadecimal("idVendor")?,
            product: hexadecimal("idProduct")?,
            serial: attribute(directory, "serial"),
            bus: decimal("busnum")?,
            device: decimal("devnum")?,
        })
    }

    fn is_meant(&self, wanted: &UsbMatch) -> bool {
        let UsbMatch { vendor, product, serial, bus, device } = wanted;
        vendor.is_none_or(|vendor| vendor == self.vendor)
            && product.is_none_or(|product| product == self.product)
            && serial.as_ref().is_none_or(|serial| Some(serial) == self.serial.as_ref())
            && bus.is_none_or(|bus| bus == self.bus)
            && device.is_none_or(|device| device == self.device)
    }
}

impl Selected {
    /// These.
    pub fn new(selections: impl IntoIterator<Item = (InstanceName, DeviceSelect)>) -> Selected {
        Selected(selections.into_iter().collect())
    }

    /// Of all specs in these folders. Of two of the same name that in the first folder counts: it was compiled last.
    pub fn read(folders: &[PathBuf]) -> Selected {
        let mut files = BTreeMap::new();
        for folder in folders {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                files.entry(entry.file_name()).or_insert_with(|| entry.path());
            }
        }
        let specs = files.values().filter_map(|path| read_spec(path)).take(MAX_INSTANCES);
        Selected::new(specs.flat_map(|spec| {
            spec.devices.into_iter().map(move |device| (spec.name.clone(), device.select)).collect::<Vec<_>>()
        }))
    }

    /// Whose it is, if it is an instance's.
    pub(super) fn owner(&self, plug: &Plug) -> Option<&InstanceName> {
        self.0.iter().find(|(_, select)| is_selected(select, plug)).map(|(name, _)| name)
    }
}

fn is_selected(select: &DeviceSelect, plug: &Plug) -> bool {
    match select {
        DeviceSelect::Usb(wanted) => plug.usb.is_meant(wanted) || plug.above.iter().any(|hub| hub.is_meant(wanted)),
        DeviceSelect::Hotplug { usb: wanted, subsystem } => {
            let is_of = |all: &[&str]| subsystem.as_deref().is_none_or(|subsystem| all.contains(&subsystem));
            // Below a hub is also the node of the stick itself.
            plug.usb.is_meant(wanted) && is_of(&OF_A_STICK)
                || plug.above.iter().any(|hub| hub.is_meant(wanted)) && (is_of(&OF_A_STICK) || is_of(&["usb"]))
        }
        DeviceSelect::Node { kind, source, path: _ } => {
            node(source).is_some_and(|node| node.0 == *kind && plug.nodes.contains(&node))
        }
        DeviceSelect::Gpio { .. } => false,
    }
}

/// What kind of node is at this path, and its number.
fn node(path: &str) -> Option<Node> {
    let found = fs::metadata(path).ok()?;
    let number = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
    let kind = found.file_type();
    match (kind.is_block_device(), kind.is_char_device()) {
        (true, _) => Some((NodeKind::Block, number)),
        (false, true) => Some((NodeKind::Char, number)),
        (false, false) => None,
    }
}

fn read_spec(path: &Path) -> Option<yado_spec::InstanceSpec> {
    let mut bytes = Vec::new();
    let file: File = regular_file::open(path).ok()?;
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).ok()?;
    // The networks' file is none, and says so.
    yado_spec::file::decode(&bytes).ok().map(|(spec, _)| spec)
}
