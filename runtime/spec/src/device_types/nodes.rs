//! Options of the types that give device nodes: `unix-char`, `unix-block`, `usb`, `unix-hotplug`, `gpio`.

use crate::draft::DeviceDraft;
use crate::setting::Applies::{AtOnce, AtRestart};
use crate::setting::{Origin, Setting, Value, effect};
use crate::values::{Right, parse_mode, parse_node_path, parse_usb_id, show_mode, show_usb_id};
use std::time::Duration;

const CHAR: Origin = Origin::Lxd("unix_char");
const USB_PAGE: Origin = Origin::Lxd("usb");
const HOTPLUG_PAGE: Origin = Origin::Lxd("unix_hotplug");

/// Ids of an instance end here at the latest.
const MOST_ID: i64 = (1 << 30) - 1;

/// USB counts buses and devices in three digits: /dev/bus/usb/001/002.
const MOST_USB: i64 = 999;

/// Whoever waits longer has another problem.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Longer than any serial number or name that sysfs shows.
const MOST_NAME_BYTES: usize = 126;

/// One word that sysfs could show.
fn name(text: &str, what: &str) -> Result<String, Right> {
    let is_plain = text.chars().all(|char| !char.is_control() && char != '/');
    if text.is_empty() || !is_plain || MOST_NAME_BYTES < text.len() {
        return Err(Right(what.to_owned()));
    }
    Ok(text.to_owned())
}

// Options that several types have.

/// A device that is needed unless it is said otherwise.
const fn required(origin: Origin) -> Setting<DeviceDraft> {
    Setting {
        name: "required",
        value: Value::Bool { get: |draft| Some(draft.required), set: |draft, on| draft.required = on },
        default: "true",
        applies: AtOnce,
        origin,
        help: "Without the device the instance does not start. `false`: it starts, and is given the device when it \
               comes.",
    }
}

/// A device that comes and goes: not needed unless it is said otherwise.
const fn not_required(origin: Origin) -> Setting<DeviceDraft> {
    Setting {
        name: "required",
        value: Value::Bool { get: |draft| Some(draft.required), set: |draft, on| draft.required = on },
        default: "false",
        applies: AtOnce,
        origin,
        help: "`true`: without the device the instance does not start.",
    }
}

const REQUIRED_TIMEOUT: Setting<DeviceDraft> = Setting {
    name: "required.timeout",
    value: Value::Time {
        least: Duration::ZERO,
        most: LONGEST_WAIT,
        get: |draft| draft.required_timeout,
        set: |draft, timeout| draft.required_timeout = Some(timeout),
    },
    default: "",
    applies: AtOnce,
    origin: Origin::Ours,
    help: "With `required`: how long the start waits for the device. Without it: not at all.",
};

const fn vendor_id(origin: Origin) -> Setting<DeviceDraft> {
    Setting {
        name: "vendorid",
        value: Value::Parsed {
            what: "four hex digits",
            get: |draft| draft.usb.vendor.map(show_usb_id),
            parse: |text| effect(parse_usb_id(text)?, |draft, id| draft.usb.vendor = Some(id)),
        },
        default: "",
        applies: AtOnce,
        origin,
        help: "The vendor's id.",
    }
}

const fn product_id(origin: Origin) -> Setting<DeviceDraft> {
    Setting {
        name: "productid",
        value: Value::Parsed {
            what: "four hex digits",
            get: |draft| draft.usb.product.map(show_usb_id),
            parse: |text| effect(parse_usb_id(text)?, |draft, id| draft.usb.product = Some(id)),
        },
        default: "",
        applies: AtOnce,
        origin,
        help: "The product's id.",
    }
}

const fn uid(origin: Origin) -> Setting<DeviceDraft> {
    Setting {
        name: "uid",
        value: Value::Integer {
            least: 0,
            most: MOST_ID,
            get: |draft| Some(draft.uid.into()),
            set: |draft, id| draft.uid = id as u32,
        },
        default: "0",
        applies: AtOnce,
        origin,
        help: "The node's owner, as an id of the instance.",
    }
}

const fn gid(origin: Origin) -> Setting<DeviceDraft> {
    Setting {
        name: "gid",
        value: Value::Integer {
            least: 0,
            most: MOST_ID,
            get: |draft| Some(draft.gid.into()),
            set: |draft, id| draft.gid = id as u32,
        },
        default: "0",
        applies: AtOnce,
        origin,
        help: "The node's group, as an id of the instance.",
    }
}

const fn mode(origin: Origin) -> Setting<DeviceDraft> {
    Setting {
        name: "mode",
        value: Value::Parsed {
            what: "permission bits in octal, such as 0660",
            get: |draft| Some(show_mode(draft.mode)),
            parse: |text| effect(parse_mode(text)?, |draft, mode| draft.mode = mode),
        },
        default: "0660",
        applies: AtOnce,
        origin,
        help: "The node's permission bits.",
    }
}

const fn inherited_ownership(origin: Origin) -> Setting<DeviceDraft> {
    Setting {
        name: "ownership.inherit",
        value: Value::Always { value: "false", reason: "owner and mode of a node are those that are said here" },
        default: "",
        applies: AtRestart,
        origin,
        help: "Give the node the owner and mode it has in the system.",
    }
}

/// Options of `unix-char` and `unix-block`.
pub(super) static UNIX: &[Setting<DeviceDraft>] = &[
    Setting {
        name: "source",
        value: Value::Parsed {
            what: "a path below /dev/",
            get: |draft| draft.source.clone(),
            parse: |text| effect(parse_node_path(text)?, |draft, source| draft.source = Some(source)),
        },
        default: "",
        applies: AtOnce,
        origin: CHAR,
        help: "The node in the system. Without it: `path`.",
    },
    Setting {
        name: "path",
        value: Value::Parsed {
            what: "a path below /dev/",
            get: |draft| draft.path.clone(),
            parse: |text| effect(parse_node_path(text)?, |draft, path| draft.path = Some(path)),
        },
        default: "",
        applies: AtOnce,
        origin: CHAR,
        help: "The node in the instance. Without it: `source`.",
    },
    required(CHAR),
    REQUIRED_TIMEOUT,
    uid(CHAR),
    gid(CHAR),
    mode(CHAR),
    Setting {
        name: "major",
        value: Value::Refused { reason: "the node is found by source" },
        default: "",
        applies: AtRestart,
        origin: CHAR,
        help: "The device's major number.",
    },
    Setting {
        name: "minor",
        value: Value::Refused { reason: "the node is found by source" },
        default: "",
        applies: AtRestart,
        origin: CHAR,
        help: "The device's minor number.",
    },
    inherited_ownership(CHAR),
];

/// Options of `usb`.
pub(super) static USB: &[Setting<DeviceDraft>] = &[
    vendor_id(USB_PAGE),
    product_id(USB_PAGE),
    Setting {
        name: "serial",
        value: Value::Parsed {
            what: "a serial number",
            get: |draft| draft.usb.serial.clone(),
            parse: |text| {
                effect(name(text, "a serial number as sysfs shows it")?, |draft, serial| {
                    draft.usb.serial = Some(serial)
                })
            },
        },
        default: "",
        applies: AtOnce,
        origin: USB_PAGE,
        help: "The device's serial number.",
    },
    Setting {
        name: "busnum",
        value: Value::Integer {
            least: 1,
            most: MOST_USB,
            get: |draft| draft.usb.bus.map(i64::from),
            set: |draft, number| draft.usb.bus = Some(number as u16),
        },
        default: "",
        applies: AtOnce,
        origin: USB_PAGE,
        help: "The bus it is on.",
    },
    Setting {
        name: "devnum",
        value: Value::Integer {
            least: 1,
            most: MOST_USB,
            get: |draft| draft.usb.device.map(i64::from),
            set: |draft, number| draft.usb.device = Some(number as u16),
        },
        default: "",
        applies: AtOnce,
        origin: USB_PAGE,
        help: "Its number on the bus; it has another one after each plugging in.",
    },
    not_required(USB_PAGE),
    REQUIRED_TIMEOUT,
    uid(USB_PAGE),
    gid(USB_PAGE),
    mode(USB_PAGE),
];

/// Options of `unix-hotplug`.
pub(super) static HOTPLUG: &[Setting<DeviceDraft>] = &[
    vendor_id(HOTPLUG_PAGE),
    product_id(HOTPLUG_PAGE),
    Setting {
        name: "subsystem",
        value: Value::Parsed {
            what: "a subsystem such as block, tty or input",
            get: |draft| draft.subsystem.clone(),
            parse: |text| {
                effect(name(text, "a subsystem such as block, tty or input")?, |draft, subsystem| {
                    draft.subsystem = Some(subsystem)
                })
            },
        },
        default: "",
        applies: AtOnce,
        origin: HOTPLUG_PAGE,
        help: "Only nodes of this subsystem of the kernel.",
    },
    Setting {
        name: "pci",
        value: Value::Refused { reason: "USB devices are matched" },
        default: "",
        applies: AtRestart,
        origin: HOTPLUG_PAGE,
        help: "The address of a PCI device.",
    },
    inherited_ownership(HOTPLUG_PAGE),
    not_required(HOTPLUG_PAGE),
    REQUIRED_TIMEOUT,
    uid(HOTPLUG_PAGE),
    gid(HOTPLUG_PAGE),
    mode(HOTPLUG_PAGE),
];

/// Options of `gpio`.
pub(super) static GPIO: &[Setting<DeviceDraft>] = &[
    Setting {
        name: "chip",
        value: Value::Parsed {
            what: "a chip's label such as pinctrl-bcm2835, or its name such as gpiochip0",
            get: |draft| draft.chip.clone(),
            parse: |text| {
                effect(
                    name(text, "a chip's label such as pinctrl-bcm2835, or its name such as gpiochip0")?,
                    |draft, chip| draft.chip = Some(chip),
                )
            },
        },
        default: "",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "The chip: its label, which stays the same, or its name, which depends on the order in which chips \
               are found. Required.",
    },
    Setting {
        name: "lines",
        value: Value::Refused { reason: "a chip is given as a whole; lines are not told apart yet" },
        default: "",
        applies: AtRestart,
        origin: Origin::Ours,
        help: "Single lines of a chip.",
    },
    required(Origin::Ours),
    REQUIRED_TIMEOUT,
    uid(Origin::Ours),
    gid(Origin::Ours),
    mode(Origin::Ours),
];
