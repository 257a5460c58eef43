//! Blocks of images that dm-verity found damaged when they were read: counted for each image, and told. The kernel tells of the
//! first hundred of a device (`DM_VERITY_MAX_CORRUPTED_ERRS` in drivers/md/dm-verity-target.c), with the device's own event.

use crate::boot_clock::Moment;
use crate::log::Priority;
use crate::supervisor::Supervisor;
use crate::updater;
use std::fs;
use std::path::Path;
use yado_wire::booted_slot;
use yado_wire::names::clipped;
use yado_wire::rescue::EventKind;

/// More images than this are never damaged at once on a board that still works; the one that is not heard of longest is forgotten.
const MAX_IMAGES: usize = 32;

/// How many blocks of each image are damaged.
#[derive(Debug, Default)]
pub(crate) struct DamagedImages {
    images: Vec<(String, u32)>,
}

impl DamagedImages {
    /// Counts one more of this image: how many it are now.
    fn count(&mut self, image: &str) -> u32 {
        let known = self.images.iter().position(|(name, _)| name == image);
        let (name, count) = known.map_or_else(|| (image.to_owned(), 0), |place| self.images.remove(place));
        if MAX_IMAGES <= self.images.len() {
            self.images.remove(0);
        }
        let count = count.saturating_add(1);
        self.images.push((name, count));
        count
    }
}

impl Supervisor {
    /// dm-verity tells of a block of the device with this path below `/sys`.
    pub(crate) fn note_damaged_block(&mut self, path: &str, block: u64, now: Moment) {
        let Some(device) = Device::read(Path::new("/sys"), path) else { return };
        let image = match &device {
            Device::System => {
                self.slot.map_or_else(|| "the system".to_owned(), |slot| format!("the system in slot {}", slot.name))
            }
            Device::Image(file) => file.clone(),
        };
        let count = self.damaged_images.count(&image);
        // A damaged medium gives many at once.
        if count.checked_ilog10().is_none_or(|power| 10_u32.checked_pow(power) != Some(count)) {
            return;
        }
        let reason =
            format!("{image}: block {block} does not verify, number {count}: the file or its medium is damaged");
        self.log.say(Priority::Error, format_args!("{reason}"));
        self.events.publish(None, EventKind::ImageDamaged { image: clipped(&image), blocks: count });
        if device == Device::System {
            self.step_updater(updater::Event::MayResume, now);
        }
    }
}

/// Whose blocks they are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Device {
    System,
    /// Of this file.
    Image(String),
}

impl Device {
    /// `None`: it is none of ours, or has gone already.
    fn read(sys: &Path, path: &str) -> Option<Device> {
        let device = sys.join(path.strip_prefix('/')?);
        let read = |path: &Path| fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned());
        let name = read(&device.join("dm/name"))?;
        if name == booted_slot::DEVICE {
            return Some(Device::System);
        }
        if !name.starts_with("yado-") {
            return None;
        }
        // It stands on one loop device. Without it the name of the device has to do: it begins with the image's fingerprint.
        let below = fs::read_dir(device.join("slaves")).ok().and_then(|mut slaves| slaves.next()?.ok());
        let file = below.and_then(|below| read(&below.path().join("loop/backing_file")));
        Some(Device::Image(file.unwrap_or(name)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_the_system_an_image_or_none_of_ours() {
        let sys = tempfile::tempdir().unwrap();
        let device = |number: u32, name: &str| {
            let path = format!("/devices/virtual/block/dm-{number}");
            let at = sys.path().join(&path[1..]);
            fs::create_dir_all(at.join("dm")).unwrap();
            fs::write(at.join("dm/name"), format!("{name}\n")).unwrap();
            (Device::read(sys.path(), &path), at, path)
        };
        assert_eq!(device(0, "yado-system").0, Some(Device::System));
        assert_eq!(device(1, "vg-root").0, None);
        let (found, at, path) = device(2, "yado-0123-fe01-7");
        assert_eq!(found, Some(Device::Image("yado-0123-fe01-7".to_owned())));
        fs::create_dir_all(at.join("slaves/loop0/loop")).unwrap();
        fs::write(at.join("slaves/loop0/loop/backing_file"), "/data/images/ab\n").unwrap();
        assert_eq!(Device::read(sys.path(), &path), Some(Device::Image("/data/images/ab".to_owned())));
        assert_eq!(Device::read(sys.path(), "/devices/virtual/block/dm-9"), None);
    }

    #[test]
    fn each_image_is_counted_and_there_are_not_too_many() {
        let mut images = DamagedImages::default();
        assert_eq!((images.count("a"), images.count("b"), images.count("a")), (1, 1, 2));
        for number in 0..MAX_IMAGES - 1 {
            images.count(&number.to_string());
        }
        assert_eq!(images.images.len(), MAX_IMAGES);
        assert_eq!((images.count("a"), images.count("b")), (3, 1), "b was not heard of for longest");
    }
}
