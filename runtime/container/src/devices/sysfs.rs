//! Reads USB devices, the nodes below them, and GPIO chips from sysfs, as plain values. A device that disappears during the read
//! counts as absent.

use super::NodeSource;
use std::fs;
use std::path::{Path, PathBuf};
use yado_spec::usb_device;
use yado_sys::device_filter::DeviceKind;

/// One reading of sysfs.
#[derive(Debug, Default)]
pub(super) struct Sysfs {
    pub(super) usb: Vec<UsbDevice>,
    /// Nodes of devices that hang on USB.
    pub(super) nodes: Vec<DeviceNode>,
    pub(super) gpio: Vec<GpioChip>,
}

/// A USB device.
#[derive(Debug, Clone)]
pub(super) struct UsbDevice {
    /// Its directory in sysfs, links resolved.
    pub(super) path: String,
    /// What it is.
    pub(super) is: usb_device::UsbDevice,
    /// `/dev/bus/usb/BUS/DEVICE`, which every USB device has.
    pub(super) node: NodeSource,
}

/// A device with a node.
#[derive(Debug, Clone)]
pub(super) struct DeviceNode {
    /// Its directory in sysfs, links resolved.
    pub(super) path: String,
    pub(super) subsystem: String,
    /// Its name below `/dev`.
    pub(super) name: String,
    pub(super) source: NodeSource,
}

/// A GPIO chip.
#[derive(Debug, Clone)]
pub(super) struct GpioChip {
    /// `gpiochip0`.
    pub(super) name: String,
    pub(super) label: Option<String>,
    pub(super) source: NodeSource,
}

impl Sysfs {
    /// Reads what there is now.
    pub(super) fn read() -> Sysfs {
        let usb: Vec<UsbDevice> =
            entries("/sys/bus/usb/devices").iter().filter_map(|directory| read_usb(directory)).collect();
        let nodes = match usb.is_empty() {
            true => Vec::new(),
            false => [("/sys/dev/char", DeviceKind::Char), ("/sys/dev/block", DeviceKind::Block)]
                .into_iter()
                .flat_map(|(directory, kind)| {
                    entries(directory).into_iter().filter_map(move |link| read_node(&link, kind))
                })
                .collect(),
        };
        let gpio = entries("/sys/bus/gpio/devices").iter().filter_map(|directory| read_gpio(directory)).collect();
        Sysfs { usb, nodes, gpio }
    }
}

/// The entries of a directory, sorted by name; none if there is no such directory.
fn entries(directory: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort_unstable();
    found
}

fn read_usb(directory: &Path) -> Option<UsbDevice> {
    Some(UsbDevice {
        is: usb_device::UsbDevice::parse(|name| attribute(directory, name))?,
        node: parse_number(DeviceKind::Char, &attribute(directory, "dev")?)?,
        path: resolved(directory)?,
    })
}

fn read_node(link: &Path, kind: DeviceKind) -> Option<DeviceNode> {
    let target = fs::read_link(link).ok()?;
    // Every USB device hangs below a root hub `usbN`. Most devices do not, and are not looked at further.
    if !target.to_str()?.contains("/usb") {
        return None;
    }
    let source = parse_number(kind, link.file_name()?.to_str()?)?;
    let uevent = attribute(link, "uevent")?;
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))?.to_owned();
    let subsystem = fs::read_link(link.join("subsystem")).ok()?;
    Some(DeviceNode { path: resolved(link)?, subsystem: subsystem.file_name()?.to_str()?.to_owned(), name, source })
}

fn read_gpio(directory: &Path) -> Option<GpioChip> {
    let name = directory.file_name()?.to_str()?.to_owned();
    let source = parse_number(DeviceKind::Char, &attribute(directory, "dev")?)?;
    // Newer kernels (6.17) have the label in sysfs, all have it behind an ioctl.
    let label =
        attribute(directory, "label").or_else(|| yado_sys::gpio::chip_label(&Path::new("/dev").join(&name)).ok());
    Some(GpioChip { name, label, source })
}

/// The text of an attribute, without the line's end.
fn attribute(directory: &Path, name: &str) -> Option<String> {
    Some(fs::read_to_string(directory.join(name)).ok()?.trim_end().to_owned())
}

fn resolved(path: &Path) -> Option<String> {
    Some(fs::canonicalize(path).ok()?.to_str()?.to_owned())
}

/// `8:1`.
fn parse_number(kind: DeviceKind, text: &str) -> Option<NodeSource> {
    let (major, minor) = text.split_once(':')?;
    Some(NodeSource { kind, major: major.parse().ok()?, minor: minor.parse().ok()? })
}
