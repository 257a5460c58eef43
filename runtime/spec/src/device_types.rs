//! The one table of device types and their options: `[devices.NAME]` with `type = "…"`. Options are settings like keys;
//! a new one is a new row, a new type a new table and an arm in the builder.

mod disk;
mod nic;
mod nodes;

pub(crate) use disk::TMPFS;

use crate::draft::DeviceDraft;
use crate::nearest::nearest;
use crate::problem::Fault;
use crate::setting::Applies::{AtOnce, AtRestart};
use crate::setting::{Applies, Origin, Setting};

/// A value of `type`.
pub struct DeviceType {
    /// The word.
    pub name: &'static str,
    /// Whose it is.
    pub origin: Origin,
    /// When a device of this type that is added or taken away comes or goes, on an instance that runs.
    pub applies: Applies,
    /// What it is for.
    pub help: &'static str,
    /// What it is when it is offered.
    pub offer: Offer,
}

/// Whether and as what a device type is offered.
pub enum Offer {
    /// With these options.
    As(DeviceKind, &'static [Setting<DeviceDraft>]),
    /// LXD has it and we do not.
    Refused {
        /// Why, and what to do instead.
        reason: &'static str,
    },
}

/// The types that the builder knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the type of its name")]
pub enum DeviceKind {
    Disk,
    Nic,
    UnixChar,
    UnixBlock,
    Usb,
    UnixHotplug,
    Gpio,
    /// Takes away the device that a profile gives by this name.
    None,
}

/// All of them, in the order in which the reference shows them.
pub static DEVICE_TYPES: &[DeviceType] = &[
    DeviceType {
        name: "disk",
        origin: Origin::Lxd("disk"),
        applies: AtRestart,
        help: "A file or directory of the system, or a tmpfs, mounted in the instance. With `path = \"/\"` it speaks of \
               the instance's root, which every instance has without saying so.",
        offer: Offer::As(DeviceKind::Disk, disk::OPTIONS),
    },
    DeviceType {
        name: "nic",
        origin: Origin::Lxd("nic"),
        applies: AtRestart,
        help: "A network interface of the instance: on a network of ours (`network`), on a bridge of somebody else's, on \
               top of a host interface, or a host interface itself (`nictype` with `parent`).",
        offer: Offer::As(DeviceKind::Nic, nic::OPTIONS),
    },
    DeviceType {
        name: "unix-char",
        origin: Origin::Lxd("unix_char"),
        applies: AtOnce,
        help: "A character device of the system: a serial port, a watchdog, an I2C bus.",
        offer: Offer::As(DeviceKind::UnixChar, nodes::UNIX),
    },
    DeviceType {
        name: "unix-block",
        origin: Origin::Lxd("unix_block"),
        applies: AtOnce,
        help: "A block device of the system.",
        offer: Offer::As(DeviceKind::UnixBlock, nodes::UNIX),
    },
    DeviceType {
        name: "usb",
        origin: Origin::Lxd("usb"),
        applies: AtOnce,
        help: "Every USB device that matches all that is said, as /dev/bus/usb/BUS/DEVICE, whenever it is plugged in.",
        offer: Offer::As(DeviceKind::Usb, nodes::USB),
    },
    DeviceType {
        name: "unix-hotplug",
        origin: Origin::Lxd("unix_hotplug"),
        applies: AtOnce,
        help: "The nodes that drivers make for the USB devices that match: /dev/ttyUSB0, /dev/sda1, /dev/input/event3, \
               whenever they come.",
        offer: Offer::As(DeviceKind::UnixHotplug, nodes::HOTPLUG),
    },
    DeviceType {
        name: "gpio",
        origin: Origin::Ours,
        applies: AtOnce,
        help: "A GPIO chip: its character device.",
        offer: Offer::As(DeviceKind::Gpio, nodes::GPIO),
    },
    DeviceType {
        name: "none",
        origin: Origin::Lxd("none"),
        applies: AtRestart,
        help: "No device: takes away the one that a profile gives by this name.",
        offer: Offer::As(DeviceKind::None, &[]),
    },
    DeviceType {
        name: "gpu",
        origin: Origin::Lxd("gpu"),
        applies: AtRestart,
        help: "A graphics card.",
        offer: Offer::Refused { reason: "use unix-char with /dev/dri/renderD128" },
    },
    DeviceType {
        name: "proxy",
        origin: Origin::Lxd("proxy"),
        applies: AtRestart,
        help: "Passes connections between system and instance.",
        offer: Offer::Refused {
            reason: "connections are not passed yet; give the instance an address that can be reached",
        },
    },
    DeviceType {
        name: "tpm",
        origin: Origin::Lxd("tpm"),
        applies: AtRestart,
        help: "A TPM.",
        offer: Offer::Refused { reason: "none is emulated; use unix-char with /dev/tpmrm0" },
    },
    DeviceType {
        name: "infiniband",
        origin: Origin::Lxd("infiniband"),
        applies: AtRestart,
        help: "An InfiniBand card.",
        offer: Offer::Refused { reason: "boards have none" },
    },
    DeviceType {
        name: "pci",
        origin: Origin::Lxd("pci"),
        applies: AtRestart,
        help: "A PCI device in a virtual machine.",
        offer: Offer::Refused { reason: "it is for virtual machines" },
    },
];

/// The type of that name with its options, or why there is none.
pub fn device_type(name: &str) -> Result<(DeviceKind, &'static [Setting<DeviceDraft>]), Fault> {
    let Some(found) = DEVICE_TYPES.iter().find(|device_type| device_type.name == name) else {
        let offered = DEVICE_TYPES.iter().filter(|device_type| matches!(device_type.offer, Offer::As(..)));
        let nearest = nearest(name, offered.map(|device_type| device_type.name)).map(str::to_owned);
        return Err(Fault::Unknown { what: "device type", nearest });
    };
    match found.offer {
        Offer::As(kind, options) => Ok((kind, options)),
        Offer::Refused { reason } => Err(Fault::Refused { reason: reason.to_owned() }),
    }
}
