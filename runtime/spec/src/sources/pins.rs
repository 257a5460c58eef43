//! Pins: what an update of a device says of the image of one instance. A link `images/instances/NAME/OWN` → `../../FINGERPRINT` on the
//! data partition: where the instance's own `image` key means the image OWN, take FINGERPRINT in its place.
//!
//! So a pin counts as long as what it was made for: when the key or an alias means another image, because somebody changed it
//! or a system image has brought a newer one, the pin is passed over, and counts again when the key means OWN again, as after a
//! fall back to the system before. Both slots of a device may have their pins side by side.

use super::{SourceError, Sources, entries};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use yado_wire::{InstanceName, hex};

/// The directory of all pins, below the data partition.
pub const DIRECTORY: &str = "images/instances";

/// The most pins of one instance: one for each slot, and some that nobody has tidied up.
pub const MAX_PINS: usize = 8;

/// The pins of one instance: for each image that its key may mean, the one that it gets.
pub type Pins = BTreeMap<[u8; 32], [u8; 32]>;

impl Sources {
    pub(super) fn read_pins(&mut self, data: &Path) {
        let directory = data.join(DIRECTORY);
        for name in entries(&directory, &mut self.left_out) {
            let path = directory.join(&name);
            match InstanceName::parse(&name) {
                Ok(name) => {
                    let pins = read_pins_of(&path, &mut self.left_out);
                    if !pins.is_empty() {
                        self.pins.insert(name, pins);
                    }
                }
                Err(error) => self.left_out.push(SourceError::Name { path, reason: error.to_string() }),
            }
        }
    }

    /// Each pin of an instance as a source of its spec. Whether its image is there is part of it: one that was missing may have come.
    pub(super) fn pin_sources(&self, instance: &InstanceName) -> Vec<(String, String)> {
        let pins = self.pins.get(instance).into_iter().flatten();
        pins.map(|(own, image)| {
            let missing = if self.images.contains_key(image) { "" } else { " missing" };
            (format!("pins/{}", hex::encode(own)), format!("{}{missing}", hex::encode(image)))
        })
        .collect()
    }
}

/// The pins in one instance's directory. What is none is left out, and told.
pub fn read_pins_of(directory: &Path, left_out: &mut Vec<SourceError>) -> Pins {
    let mut pins = Pins::new();
    for name in entries(directory, left_out) {
        let path = directory.join(&name);
        if pins.len() == MAX_PINS {
            left_out.push(SourceError::TooMany { path: directory.to_owned() });
            break;
        }
        match (hex::parse_digest(&name), fingerprint_of(&path)) {
            (Some(own), Ok(Some(image))) => {
                pins.insert(own, image);
            }
            (_, Err(source)) => left_out.push(SourceError::Read { path, source }),
            (None, Ok(_)) | (_, Ok(None)) => left_out.push(SourceError::Pin { path }),
        }
    }
    pins
}

/// The fingerprint that a link leads to; `None`: it is none, or leads elsewhere.
pub(super) fn fingerprint_of(link: &Path) -> io::Result<Option<[u8; 32]>> {
    match fs::read_link(link) {
        Ok(target) => Ok(target.file_name().and_then(|name| name.to_str()).and_then(hex::parse_digest)),
        // So the kernel says that it is no link.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        Err(error) => Err(error),
    }
}
