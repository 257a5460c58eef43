//! The one table of device types and their options: `[devices.NAME]` with `type = "…"`. Options are settings like keys; a new
//! one is a new row, and a new type a new module with its draft, its options, and how the one becomes the other.

mod disk;
mod nic;

mod gpio;
mod unix;
mod usb;

mod nodes;

use crate::devices::{Built, DeviceOptions, Table};
use crate::nearest::nearest;
use crate::problem::Fault;
use crate::row::Row;
use crate::setting::Applies::{AtOnce, AtRestart};
use crate::setting::{Applies, Origin};

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
    pub(crate) offer: Offer,
}

/// Whether and as what a device type is offered.
pub(crate) enum Offer {
    /// With these options.
    As(&'static dyn DeviceOptions),
    /// LXD has it and we do not.
    Refused {
        /// Why, and what to do instead.
        reason: &'static str,
    },
}

impl DeviceType {
    /// Its options; none of a type that is refused.
    pub fn options(&self) -> Vec<&'static dyn Row> {
        match self.offer {
            Offer::As(options) => options.rows(),
            Offer::Refused { reason: _ } => Vec::new(),
        }
    }

    /// Why it is not offered, and what to do instead.
    pub fn refusal(&self) -> Option<&'static str> {
        match self.offer {
            Offer::As(_) => None,
            Offer::Refused { reason } => Some(reason),
        }
    }
}

/// Takes away the device that a profile gives by this name.
static NONE: Table<()> = Table { options: &[], build: |_, ()| Some(Built::Nothing), read_back: |_| None };

/// All of them, in the order in which the reference shows them.
pub static DEVICE_TYPES: &[DeviceType] = &[
    DeviceType {
        name: "disk",
        origin: Origin::Lxd("disk"),
        applies: AtRestart,
        help: "A file or directory of the system, or a tmpfs, mounted in the instance. With `path = \"/\"` it speaks of \
               the instance's root, which every instance has without saying so.",
        offer: Offer::As(&disk::DISK),
    },
    DeviceType {
        name: "nic",
        origin: Origin::Lxd("nic"),
        applies: AtRestart,
        help: "A network interface of the instance: on a network of ours (`network`), on a bridge of somebody else's, on \
               top of a host interface, or a host interface itself (`nictype` with `parent`).",
        offer: Offer::As(&nic::NIC),
    },
    DeviceType {
        name: "unix-char",
        origin: Origin::Lxd("unix_char"),
        applies: AtOnce,
        help: "A character device of the system: a serial port, a watchdog, an I2C bus.",
        offer: Offer::As(&unix::UNIX_CHAR),
    },
    DeviceType {
        name: "unix-block",
        origin: Origin::Lxd("unix_block"),
        applies: AtOnce,
        help: "A block device of the system.",
        offer: Offer::As(&unix::UNIX_BLOCK),
    },
    DeviceType {
        name: "usb",
        origin: Origin::Lxd("usb"),
        applies: AtOnce,
        help: "Every USB device that matches all that is said, as /dev/bus/usb/BUS/DEVICE, whenever it is plugged in.",
        offer: Offer::As(&usb::USB),
    },
    DeviceType {
        name: "unix-hotplug",
        origin: Origin::Lxd("unix_hotplug"),
        applies: AtOnce,
        help: "The nodes that drivers make for the USB devices that match: /dev/ttyUSB0, /dev/sda1, /dev/input/event3, \
               whenever they come.",
        offer: Offer::As(&usb::HOTPLUG),
    },
    DeviceType {
        name: "gpio",
        origin: Origin::Ours,
        applies: AtOnce,
        help: "A GPIO chip: its character device.",
        offer: Offer::As(&gpio::GPIO),
    },
    DeviceType {
        name: "none",
        origin: Origin::Lxd("none"),
        applies: AtRestart,
        help: "No device: takes away the one that a profile gives by this name.",
        offer: Offer::As(&NONE),
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

/// The options of the type of that name, or why there is none.
pub(crate) fn device_type(name: &str) -> Result<&'static dyn DeviceOptions, Fault> {
    let Some(found) = DEVICE_TYPES.iter().find(|device_type| device_type.name == name) else {
        let offered = DEVICE_TYPES.iter().filter(|device_type| device_type.refusal().is_none());
        let nearest = nearest(name, offered.map(|device_type| device_type.name)).map(str::to_owned);
        return Err(Fault::Unknown { what: "device type", nearest });
    };
    match found.offer {
        Offer::As(options) => Ok(options),
        Offer::Refused { reason } => Err(Fault::Refused { reason: reason.to_owned() }),
    }
}
