//! `usb` and `unix-hotplug`: nodes of the USB devices that match.

use super::nodes::{NodeDraft, gid, inherited_ownership, mode, not_required, parse_word, required_timeout, uid};
use crate::devices::{Builder, Built, Table};
use crate::instance::{DeviceSelect, UsbMatch};
use crate::setting::Applies::{AtOnce, AtRestart};
use crate::setting::{Origin, Setting, Value, effect};
use crate::values::{parse_usb_id, show_usb_id};

const USB_PAGE: Origin = Origin::Lxd("usb");
const HOTPLUG_PAGE: Origin = Origin::Lxd("unix_hotplug");

/// USB counts buses and devices in three digits: /dev/bus/usb/001/002.
const MAX_USB: i64 = 999;

/// Which nodes of a `unix-hotplug`.
#[derive(Debug, Default)]
pub(super) struct HotplugDraft {
    usb: UsbMatch,
    subsystem: Option<String>,
}

/// `usb`.
pub(super) static USB: Table<NodeDraft<UsbMatch>> = Table {
    options: USB_OPTIONS,
    build: |builder, mut draft| {
        let usb = std::mem::take(&mut draft.select);
        Some(draft.build(builder, DeviceSelect::Usb(usb)))
    },
    read_back: |built| {
        NodeDraft::read_back(built, |select| match select {
            DeviceSelect::Usb(usb) => Some(usb.clone()),
            _ => None,
        })
    },
};

/// `unix-hotplug`.
pub(super) static HOTPLUG: Table<NodeDraft<HotplugDraft>> = Table {
    options: HOTPLUG_OPTIONS,
    build: build_hotplug,
    read_back: |built| {
        NodeDraft::read_back(built, |select| match select.clone() {
            DeviceSelect::Hotplug { usb, subsystem } => Some(HotplugDraft { usb, subsystem }),
            _ => None,
        })
    },
};

fn build_hotplug(builder: &mut Builder<'_>, mut draft: NodeDraft<HotplugDraft>) -> Option<Built> {
    let HotplugDraft { usb, subsystem } = std::mem::take(&mut draft.select);
    if usb == UsbMatch::default() && subsystem.is_none() {
        return builder.need(None, "vendorid", "at least one of vendorid, productid and subsystem");
    }
    Some(draft.build(builder, DeviceSelect::Hotplug { usb, subsystem }))
}

/// A selection with ids of USB.
trait HasUsb {
    fn usb(&self) -> &UsbMatch;
    fn usb_mut(&mut self) -> &mut UsbMatch;
}

impl HasUsb for UsbMatch {
    fn usb(&self) -> &UsbMatch {
        self
    }

    fn usb_mut(&mut self) -> &mut UsbMatch {
        self
    }
}

impl HasUsb for HotplugDraft {
    fn usb(&self) -> &UsbMatch {
        &self.usb
    }

    fn usb_mut(&mut self) -> &mut UsbMatch {
        &mut self.usb
    }
}

const fn vendor_id<S: HasUsb>(origin: Origin) -> Setting<NodeDraft<S>> {
    Setting {
        name: "vendorid",
        value: Value::Parsed {
            what: "four hex digits",
            get: |draft| draft.select.usb().vendor.map(show_usb_id),
            parse: |text| effect(parse_usb_id(text)?, |draft, id| draft.select.usb_mut().vendor = Some(id)),
        },
        default: "",
        applies: AtOnce,
        origin,
        help: "The vendor's id.",
    }
}

const fn product_id<S: HasUsb>(origin: Origin) -> Setting<NodeDraft<S>> {
    Setting {
        name: "productid",
        value: Value::Parsed {
            what: "four hex digits",
            get: |draft| draft.select.usb().product.map(show_usb_id),
            parse: |text| effect(parse_usb_id(text)?, |draft, id| draft.select.usb_mut().product = Some(id)),
        },
        default: "",
        applies: AtOnce,
        origin,
        help: "The product's id.",
    }
}

static USB_OPTIONS: &[Setting<NodeDraft<UsbMatch>>] = &[
    vendor_id(USB_PAGE),
    product_id(USB_PAGE),
    Setting {
        name: "serial",
        value: Value::Parsed {
            what: "a serial number",
            get: |draft| draft.select.serial.clone(),
            parse: |text| {
                effect(parse_word(text, "a serial number as sysfs shows it")?, |draft, serial| {
                    draft.select.serial = Some(serial)
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
            min: 1,
            max: MAX_USB,
            get: |draft| draft.select.bus.map(i64::from),
            set: |draft, number| draft.select.bus = Some(number as u16),
        },
        default: "",
        applies: AtOnce,
        origin: USB_PAGE,
        help: "The bus it is on.",
    },
    Setting {
        name: "devnum",
        value: Value::Integer {
            min: 1,
            max: MAX_USB,
            get: |draft| draft.select.device.map(i64::from),
            set: |draft, number| draft.select.device = Some(number as u16),
        },
        default: "",
        applies: AtOnce,
        origin: USB_PAGE,
        help: "Its number on the bus; it has another one after each plugging in.",
    },
    not_required(USB_PAGE),
    required_timeout(),
    uid(USB_PAGE),
    gid(USB_PAGE),
    mode(USB_PAGE),
];

static HOTPLUG_OPTIONS: &[Setting<NodeDraft<HotplugDraft>>] = &[
    vendor_id(HOTPLUG_PAGE),
    product_id(HOTPLUG_PAGE),
    Setting {
        name: "subsystem",
        value: Value::Parsed {
            what: "a subsystem such as block, tty or input",
            get: |draft| draft.select.subsystem.clone(),
            parse: |text| {
                effect(parse_word(text, "a subsystem such as block, tty or input")?, |draft, subsystem| {
                    draft.select.subsystem = Some(subsystem)
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
    required_timeout(),
    uid(HOTPLUG_PAGE),
    gid(HOTPLUG_PAGE),
    mode(HOTPLUG_PAGE),
];
