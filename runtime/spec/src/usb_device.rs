//! A USB device as sysfs shows it, and whether a selection means it: for who gives devices to instances, and for who must leave theirs
//! alone.

use crate::instance::UsbMatch;

/// What tells one from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsbDevice {
    /// `idVendor`.
    pub vendor: u16,
    /// `idProduct`.
    pub product: u16,
    /// `serial`, if it tells one.
    pub serial: Option<String>,
    /// `busnum`.
    pub bus: u16,
    /// `devnum`.
    pub device: u16,
}

impl UsbDevice {
    /// From the texts of its attributes (sysfs-bus-usb), without the end of the line. `None`: it is no USB device, as its interfaces,
    /// which stand beside it and have no `idVendor`; or it has gone.
    pub fn parse(attribute: impl Fn(&str) -> Option<String>) -> Option<UsbDevice> {
        let hexadecimal = |name: &str| u16::from_str_radix(&attribute(name)?, 16).ok();
        let decimal = |name: &str| attribute(name)?.parse().ok();
        Some(UsbDevice {
            vendor: hexadecimal("idVendor")?,
            product: hexadecimal("idProduct")?,
            serial: attribute("serial"),
            bus: decimal("busnum")?,
            device: decimal("devnum")?,
        })
    }

    /// Whether all that is given is so.
    pub fn is_meant(&self, wanted: &UsbMatch) -> bool {
        let UsbMatch { vendor, product, serial, bus, device } = wanted;
        vendor.is_none_or(|vendor| vendor == self.vendor)
            && product.is_none_or(|product| product == self.product)
            && serial.as_ref().is_none_or(|serial| Some(serial) == self.serial.as_ref())
            && bus.is_none_or(|bus| bus == self.bus)
            && device.is_none_or(|device| device == self.device)
    }
}
