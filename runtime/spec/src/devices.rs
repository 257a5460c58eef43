//! From what is said of one device to its part of the spec: which options must be there, and which do not go together.

use crate::device_types::{DeviceKind, TMPFS, device_type};
use crate::draft::{DeviceDraft, NicType};
use crate::instance::{Device, DeviceSelect, Disk, DiskSource, Nic, NicKind, NodeKind, Required, RootSpec, UsbMatch};
use crate::layer::LayerDevice;
use crate::problem::{Fault, Problem};
use crate::setting::{Setting, find, nearest_setting, set_defaults};
use crate::values::parse_interface;
use std::time::Duration;

/// A device's part of the spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Built {
    /// `nic`.
    Nic(Nic),
    /// `disk` with `path = "/"`.
    Root(RootSpec),
    /// `disk`.
    Disk(Disk),
    /// A device that gives nodes.
    Nodes(Device),
    /// `none`.
    Nothing,
}

/// Parses and builds one device. What is wrong with single options comes first; only if that is nothing, what is wrong with
/// the device as a whole.
pub(crate) fn build(name: &str, said: &LayerDevice) -> Result<Built, Vec<Problem>> {
    let (kind, options) = find_type(name, said).map_err(|problem| vec![problem])?;
    let draft = parse_options(name, said, options)?;
    let mut builder = Builder { name, said, draft, problems: Vec::new() };
    let built = match kind {
        DeviceKind::Disk => builder.disk(),
        DeviceKind::Nic => builder.nic().map(Built::Nic),
        DeviceKind::UnixChar => builder.node(NodeKind::Char),
        DeviceKind::UnixBlock => builder.node(NodeKind::Block),
        DeviceKind::Usb => builder.usb(),
        DeviceKind::UnixHotplug => builder.hotplug(),
        DeviceKind::Gpio => builder.gpio(),
        DeviceKind::None => Some(Built::Nothing),
    };
    match built {
        Some(built) if builder.problems.is_empty() => Ok(built),
        Some(_) | None => Err(builder.problems),
    }
}

fn find_type(name: &str, said: &LayerDevice) -> Result<(DeviceKind, &'static [Setting<DeviceDraft>]), Problem> {
    let fault = match said.options.get("type") {
        Some(word) => match device_type(&word.text) {
            Ok(found) => return Ok(found),
            Err(fault) => fault,
        },
        None => Fault::Missing { right: format!("type = \"{}\"", likely_type(name)) },
    };
    Err(said.problem(name, "type", fault))
}

/// The type that a device of this name most often has.
fn likely_type(name: &str) -> &'static str {
    if name.starts_with("eth") {
        "nic"
    } else if name.starts_with("gpio") {
        "gpio"
    } else {
        "disk"
    }
}

fn parse_options(
    name: &str,
    said: &LayerDevice,
    options: &'static [Setting<DeviceDraft>],
) -> Result<DeviceDraft, Vec<Problem>> {
    let mut draft = DeviceDraft::default();
    set_defaults(options, &mut draft);
    let mut problems = Vec::new();
    for (option, placed) in said.options.iter().filter(|(option, _)| *option != "type") {
        let parsed = match find(options, option) {
            Some(setting) => setting.parse(option, &placed.text),
            None => Err(Fault::Unknown { what: "option", nearest: nearest_setting(options, option) }),
        };
        match parsed {
            Ok(effect) => effect.apply(&mut draft),
            Err(fault) => problems.push(said.problem(name, option, fault)),
        }
    }
    if problems.is_empty() { Ok(draft) } else { Err(problems) }
}

struct Builder<'a> {
    name: &'a str,
    said: &'a LayerDevice,
    draft: DeviceDraft,
    problems: Vec<Problem>,
}

impl Builder<'_> {
    fn disk(&mut self) -> Option<Built> {
        if self.draft.is_root {
            self.refuse("source", "the root comes from the image; choose another path");
            self.refuse("size", "the root's layer has no quota yet; it shares the data partition");
            self.refuse("readonly", "the root's layer is writable");
            // `pool` has one value, which the default is.
            return Some(Built::Root(RootSpec { size_bytes: self.draft.size_bytes, ..RootSpec::default() }));
        }
        self.refuse("pool", "only the root is kept in a pool");
        let path = self.need(self.draft.path.clone(), "path", "path = \"/where/in/the/instance\"");
        let source =
            self.need(self.draft.source.clone(), "source", "source = \"/where/in/the/system\" or \"tmpfs:\"");
        let source = match source? {
            text if text == TMPFS => {
                self.refuse("shift", "a tmpfs belongs to the instance anyway");
                self.refuse("recursive", "nothing is mounted below a tmpfs");
                DiskSource::Tmpfs { size_bytes: self.draft.size_bytes }
            }
            text => {
                self.refuse("size", "only a tmpfs has one");
                DiskSource::Path(text)
            }
        };
        Some(Built::Disk(Disk {
            name: self.name.to_owned(),
            source,
            path: path?,
            readonly: self.draft.readonly,
            required: self.draft.required,
            shift: self.draft.shift,
            recursive: self.draft.recursive,
        }))
    }

    fn nic(&mut self) -> Option<Nic> {
        let interface = match self.draft.name.clone() {
            Some(name) => Some(name),
            None => match parse_interface(self.name) {
                Ok(name) => Some(name),
                Err(_) => self.need(None, "name", "name = \"eth0\", for the device's name is no interface's"),
            },
        };
        let kind = match (self.draft.network.clone(), self.draft.nictype) {
            (Some(network), None) => {
                self.refuse("parent", "with network there is no parent");
                Some(NicKind::Network { network })
            }
            (Some(_), Some(_)) => {
                self.refuse("nictype", "either network, or nictype with parent");
                None
            }
            (None, Some(nictype)) => {
                self.refuse("ipv4.address", "only a network of ours gives addresses; use network");
                let parent = self.need(self.draft.parent.clone(), "parent", "parent = \"INTERFACE\"");
                parent.map(|parent| match nictype {
                    NicType::Bridged => NicKind::Bridged { parent },
                    NicType::Macvlan => NicKind::Macvlan { parent },
                    NicType::Physical => NicKind::Physical { parent },
                })
            }
            (None, None) => self.need(None, "network", "network = \"yado0\", or nictype with parent"),
        };
        if self.draft.nictype.is_some_and(|nictype| nictype != NicType::Bridged) {
            self.refuse("host_name", "only an interface on a bridge has an end that the system sees");
        }
        Some(Nic {
            name: self.name.to_owned(),
            interface: interface?,
            kind: kind?,
            hwaddr: self.draft.hwaddr,
            mtu: self.draft.mtu,
            host_name: self.draft.host_name.clone(),
            ipv4_address: self.draft.ipv4_address,
        })
    }

    fn node(&mut self, kind: NodeKind) -> Option<Built> {
        let (source, path) = (self.draft.source.clone(), self.draft.path.clone());
        let source = self.need(source.or(path.clone()), "source", "source = \"/dev/NODE\"")?;
        let path = path.unwrap_or_else(|| source.clone());
        self.device(DeviceSelect::Node { kind, source, path })
    }

    fn usb(&mut self) -> Option<Built> {
        let usb = self.draft.usb.clone();
        self.device(DeviceSelect::Usb(usb))
    }

    fn hotplug(&mut self) -> Option<Built> {
        let (usb, subsystem) = (self.draft.usb.clone(), self.draft.subsystem.clone());
        if usb == UsbMatch::default() && subsystem.is_none() {
            return self.need(None, "vendorid", "at least one of vendorid, productid and subsystem");
        }
        self.device(DeviceSelect::Hotplug { usb, subsystem })
    }

    fn gpio(&mut self) -> Option<Built> {
        let chip =
            self.need(self.draft.chip.clone(), "chip", "chip = \"LABEL\", as `gpiodetect` shows it in brackets")?;
        self.device(DeviceSelect::Gpio { chip })
    }

    fn device(&mut self, select: DeviceSelect) -> Option<Built> {
        let required = match (self.draft.required, self.draft.required_timeout) {
            (true, timeout) => Required::Within(timeout.unwrap_or(Duration::ZERO)),
            (false, _) => {
                self.refuse("required.timeout", "only with required = true; write it as \"required.timeout\"");
                Required::No
            }
        };
        let (uid, gid, mode) = (self.draft.uid, self.draft.gid, self.draft.mode);
        Some(Built::Nodes(Device { name: self.name.to_owned(), select, required, uid, gid, mode }))
    }

    /// The option's value, or the problem that it is not said.
    fn need<T>(&mut self, value: Option<T>, option: &str, right: &str) -> Option<T> {
        if value.is_none() {
            let fault = Fault::Missing { right: right.to_owned() };
            self.problems.push(self.said.problem(self.name, option, fault));
        }
        value
    }

    /// An option that must not be said here.
    fn refuse(&mut self, option: &str, reason: &str) {
        if self.said.options.contains_key(option) {
            let fault = Fault::Conflict { reason: reason.to_owned() };
            self.problems.push(self.said.problem(self.name, option, fault));
        }
    }
}
