//! Which USB devices a spec selects, and which nodes belong to them. Pure: values from [`Sysfs`] in, names and numbers out.

use super::NodeSource;
use super::sysfs::{DeviceNode, Sysfs, UsbDevice};
use yado_spec::instance::UsbMatch;

/// `usb`: the device's own node, `bus/usb/BBB/DDD`.
pub(super) fn nodes(sysfs: &Sysfs, wanted: &UsbMatch) -> Vec<(String, NodeSource)> {
    matching(sysfs, wanted).map(|usb| (format!("bus/usb/{:03}/{:03}", usb.is.bus, usb.is.device), usb.node)).collect()
}

/// `unix-hotplug`: the nodes that the drivers of the device and its interfaces made, in one subsystem or in all.
pub(super) fn nodes_below(sysfs: &Sysfs, wanted: &UsbMatch, subsystem: Option<&str>) -> Vec<(String, NodeSource)> {
    let owners: Vec<&UsbDevice> = matching(sysfs, wanted).collect();
    let belongs = |node: &&DeviceNode| {
        owners.iter().any(|usb| node.path.strip_prefix(&usb.path).is_some_and(|below| below.starts_with('/')))
    };
    sysfs
        .nodes
        .iter()
        .filter(|node| subsystem.is_none_or(|subsystem| subsystem == node.subsystem))
        .filter(belongs)
        .map(|node| (node.name.clone(), node.source))
        .collect()
}

fn matching<'a>(sysfs: &'a Sysfs, wanted: &'a UsbMatch) -> impl Iterator<Item = &'a UsbDevice> {
    sysfs.usb.iter().filter(|usb| usb.is.is_meant(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use yado_spec::usb_device;
    use yado_sys::device_filter::DeviceKind;

    const fn char(major: u32, minor: u32) -> NodeSource {
        NodeSource { kind: DeviceKind::Char, major, minor }
    }

    const fn block(major: u32, minor: u32) -> NodeSource {
        NodeSource { kind: DeviceKind::Block, major, minor }
    }

    fn usb(path: &str, ids: (u16, u16), serial: Option<&str>, device: u16) -> UsbDevice {
        UsbDevice {
            path: path.to_owned(),
            is: usb_device::UsbDevice {
                vendor: ids.0,
                product: ids.1,
                serial: serial.map(str::to_owned),
                bus: 1,
                device,
            },
            node: char(189, u32::from(device) - 1),
        }
    }

    fn node(path: &str, subsystem: &str, name: &str, source: NodeSource) -> DeviceNode {
        DeviceNode { path: path.to_owned(), subsystem: subsystem.to_owned(), name: name.to_owned(), source }
    }

    /// A hub (1-1), a QEMU stick with one partition (1-1.1), and a serial adapter (1-1.10) whose path begins like the stick's.
    fn tree() -> Sysfs {
        let root = "/sys/devices/pci0000:00/0000:00:04.0/usb1";
        Sysfs {
            usb: vec![
                usb(root, (0x1d6b, 2), None, 1),
                usb(&format!("{root}/1-1"), (0x0409, 0x55aa), None, 2),
                usb(&format!("{root}/1-1/1-1.1"), (0x46f4, 1), Some("YADO1"), 3),
                usb(&format!("{root}/1-1/1-1.10"), (0x0403, 0x6001), Some("A50285BI"), 4),
            ],
            nodes: vec![
                node(&format!("{root}/1-1/1-1.1"), "usb", "bus/usb/001/003", char(189, 2)),
                node(&format!("{root}/1-1/1-1.1/1-1.1:1.0/host2/block/sda"), "block", "sda", block(8, 0)),
                node(&format!("{root}/1-1/1-1.1/1-1.1:1.0/host2/block/sda/sda1"), "block", "sda1", block(8, 1)),
                node(&format!("{root}/1-1/1-1.1/1-1.1:1.0/host2/bsg/2:0:0:0"), "bsg", "bsg/2:0:0:0", char(247, 0)),
                node(&format!("{root}/1-1/1-1.10/1-1.10:1.0/ttyUSB0/tty/ttyUSB0"), "tty", "ttyUSB0", char(188, 0)),
            ],
            gpio: vec![],
        }
    }

    fn names(found: Vec<(String, NodeSource)>) -> Vec<String> {
        found.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn all_that_is_given_must_match() {
        let by = |wanted: UsbMatch| names(nodes(&tree(), &wanted));
        let any = UsbMatch::default();
        assert_eq!(by(UsbMatch { vendor: Some(0x46f4), ..any.clone() }), ["bus/usb/001/003"]);
        assert_eq!(by(UsbMatch { serial: Some("A50285BI".to_owned()), ..any.clone() }), ["bus/usb/001/004"]);
        assert_eq!(by(UsbMatch { bus: Some(1), device: Some(2), ..any.clone() }), ["bus/usb/001/002"]);
        assert!(by(UsbMatch { vendor: Some(0x46f4), product: Some(2), ..any.clone() }).is_empty());
        assert!(by(UsbMatch { vendor: Some(0x1d6b), serial: Some("YADO1".to_owned()), ..any.clone() }).is_empty());
        assert_eq!(by(any).len(), 4);
    }

    #[test]
    fn a_stick_brings_its_disk_and_partition_and_nothing_of_its_neighbour() {
        let stick = UsbMatch { vendor: Some(0x46f4), ..UsbMatch::default() };
        assert_eq!(names(nodes_below(&tree(), &stick, None)), ["sda", "sda1", "bsg/2:0:0:0"]);
        assert_eq!(names(nodes_below(&tree(), &stick, Some("block"))), ["sda", "sda1"]);
        assert!(nodes_below(&tree(), &stick, Some("tty")).is_empty());
    }
}
