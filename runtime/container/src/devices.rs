//! From the `devices` of a spec to the device nodes that match them now.

mod gpio;
mod sysfs;
mod usb;

use crate::report::at;
use rustix::fs::{FileType, major, minor};
use rustix::io::Errno;
use sysfs::Sysfs;
use yado_spec::instance::{Device, DeviceSelect, NodeKind};
use yado_sys::device_filter::DeviceKind;
use yado_wire::{Failure, Step};

/// A node of the instance's `/dev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// Its path below `/dev`.
    pub(crate) path: String,
    /// The device number.
    pub(crate) source: NodeSource,
    /// Owner, as an id inside.
    pub(crate) uid: u32,
    /// Group, as an id inside.
    pub(crate) gid: u32,
    /// Permission bits.
    pub(crate) mode: u16,
}

/// A device by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeSource {
    pub(crate) kind: DeviceKind,
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// The nodes that match the devices of a spec.
#[derive(Debug, Default)]
pub(crate) struct Found<'a> {
    /// Nodes, in the order of the devices.
    pub(crate) nodes: Vec<Node>,
    /// The devices for which there is no node.
    pub(crate) absent: Vec<&'a Device>,
}

/// Finds the nodes for all devices.
pub(crate) fn find(devices: &[Device]) -> Result<Found<'_>, Failure> {
    let mut found = Found::default();
    if devices.is_empty() {
        return Ok(found);
    }
    let sysfs = Sysfs::read();
    for device in devices {
        let places = match &device.select {
            DeviceSelect::Node { kind, source, path } => find_node(*kind, source, path)?,
            DeviceSelect::Usb(wanted) => usb::nodes(&sysfs, wanted),
            DeviceSelect::Hotplug { usb, subsystem } => usb::nodes_below(&sysfs, usb, subsystem.as_deref()),
            DeviceSelect::Gpio { chip } => gpio::node(&sysfs, chip),
        };
        if places.is_empty() {
            found.absent.push(device);
        }
        let Device { uid, gid, mode, .. } = *device;
        found.nodes.extend(places.into_iter().map(|(path, source)| Node { path, source, uid, gid, mode }));
    }
    Ok(found)
}

/// `unix-char` and `unix-block`: the device that a path of the system stands for.
fn find_node(kind: NodeKind, source: &str, path: &str) -> Result<Vec<(String, NodeSource)>, Failure> {
    let refused = |reason: &str| Err(Failure::refused(Step::Device, source, reason));
    let stat = match rustix::fs::stat(source) {
        Ok(stat) => stat,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        Err(errno) => return Err(at(Step::Device, source)(errno)),
    };
    let kind = match (kind, FileType::from_raw_mode(stat.st_mode)) {
        (NodeKind::Char, FileType::CharacterDevice) => DeviceKind::Char,
        (NodeKind::Block, FileType::BlockDevice) => DeviceKind::Block,
        (NodeKind::Char, _) => return refused("not a character device"),
        (NodeKind::Block, _) => return refused("not a block device"),
    };
    let Some(path) = below_dev(path) else {
        return refused(&format!("its path inside, {path}, is not a path below /dev"));
    };
    Ok(vec![(path, NodeSource { kind, major: major(stat.st_rdev), minor: minor(stat.st_rdev) })])
}

/// `sda` for `/dev/sda`; `None` for a path outside of `/dev`, or with `.` or `..` in it.
fn below_dev(path: &str) -> Option<String> {
    let name = path.strip_prefix("/dev/")?;
    let is_plain = name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    is_plain.then(|| name.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use yado_spec::instance::Required;

    #[test]
    fn a_path_inside_stays_below_dev() {
        assert_eq!(below_dev("/dev/spi/0.1"), Some("spi/0.1".to_owned()));
        for bad in ["/dev/", "/dev", "/etc/passwd", "/dev/../etc", "/dev//a", "/dev/a/", "dev/a"] {
            assert_eq!(below_dev(bad), None, "{bad}");
        }
    }

    fn device(kind: NodeKind, source: &str) -> Device {
        Device {
            name: "test".to_owned(),
            select: DeviceSelect::Node { kind, source: source.to_owned(), path: "/dev/inside".to_owned() },
            required: Required::No,
            uid: 1,
            gid: 2,
            mode: 0o640,
        }
    }

    #[test]
    fn a_device_by_its_path_is_found_is_absent_or_is_of_the_wrong_kind() {
        let null = [device(NodeKind::Char, "/dev/null")];
        let found = find(&null).unwrap();
        let source = NodeSource { kind: DeviceKind::Char, major: 1, minor: 3 };
        assert_eq!(found.nodes, [Node { path: "inside".to_owned(), source, uid: 1, gid: 2, mode: 0o640 }]);

        let nothing = [device(NodeKind::Char, "/dev/no-such-device")];
        assert_eq!(find(&nothing).unwrap().absent, [&nothing[0]]);

        let wrong = find(&[device(NodeKind::Block, "/dev/null")]).unwrap_err();
        assert_eq!((wrong.step, wrong.reason.as_str()), (Step::Device, "not a block device"));
    }
}
