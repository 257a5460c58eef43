//! The module aliases of the machine's devices: first of all that exist, then of those that appear. Which module drives a device
//! is not known here.

use crate::uevent::{MAX_UEVENT_BYTES, parse_uevent};
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use yado_sys::uevent::{self, Received};

/// Devices have their alias in a directory of their bus.
const BUSES: &str = "/sys/bus";

/// Classes with aliases of their own: their devices are on no bus.
const CLASSES: [&str; 2] = ["/sys/class/dmi", "/sys/class/input"];

/// What the processors can do: accelerated algorithms are loaded for it.
const PROCESSORS: &str = "/sys/devices/system/cpu";

/// What a device that came has to be looked up by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NewAliases {
    /// The aliases of those that are new.
    Aliases(BTreeSet<String>),
    /// Nobody told which: all are looked at.
    Unknown,
}

/// Devices that come after it was opened. What is loaded makes new ones appear, and to look at all of sysfs again for them
/// would take longer than loading most modules.
#[derive(Debug)]
pub(crate) struct NewDevices {
    events: Option<OwnedFd>,
}

impl NewDevices {
    /// From now on the kernel's events are kept. Without them every look is at all devices.
    pub(crate) fn open() -> NewDevices {
        NewDevices { events: uevent::open().ok() }
    }

    /// Wakes whoever waits for a device.
    pub(crate) fn events(&self) -> Option<&OwnedFd> {
        self.events.as_ref()
    }

    /// Those that came since the last call.
    pub(crate) fn take(&self) -> NewAliases {
        let Some(events) = &self.events else { return NewAliases::Unknown };
        let (mut aliases, mut is_lost) = (BTreeSet::new(), false);
        let mut buffer = [0; MAX_UEVENT_BYTES];
        // The kernel keeps some hundred events: who sends more than are read loses them, and that ends it too.
        for _ in 0..MAX_EVENTS {
            match uevent::recv(events, &mut buffer) {
                Ok(Some(Received::Event(len))) => {
                    let event = parse_uevent(buffer.get(..len).unwrap_or(&[]));
                    if let Some(alias) = event.filter(|event| event.action == "add").and_then(|event| event.modalias)
                    {
                        aliases.insert(alias.to_owned());
                    }
                }
                Ok(Some(Received::Lost)) => is_lost = true,
                Ok(None) => return if is_lost { NewAliases::Unknown } else { NewAliases::Aliases(aliases) },
                Err(_) => return NewAliases::Unknown,
            }
        }
        NewAliases::Unknown
    }
}

/// Events that are taken at once.
const MAX_EVENTS: usize = 4096;

/// The module aliases of all devices there are.
pub(super) fn aliases_of_all() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut add = |device: &Path| {
        if let Ok(alias) = fs::read_to_string(device.join("modalias")) {
            found.insert(alias.trim().to_owned());
        }
    };
    let below = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    for bus in below(Path::new(BUSES)) {
        below(&bus.join("devices")).for_each(|device| add(&device));
    }
    for class in CLASSES {
        below(Path::new(class)).for_each(|device| add(&device));
    }
    add(Path::new(PROCESSORS));
    found
}
