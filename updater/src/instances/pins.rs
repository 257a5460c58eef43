//! The pins of an instance in an update: a new directory of them is made aside and takes the place of the old one.

use super::sides::{self, Sides, failed, sync};
use super::{InstancesError, Places};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;
use yado_spec::compile::own_image;
use yado_spec::sources::pins::{MAX_PINS, Pins, read_pins_of};
use yado_spec::sources::{Sources, read_sources};
use yado_wire::{InstanceName, hex};

/// As the directory of images, others may look.
const MODE: u32 = 0o755;

/// Makes the pins aside by which the instance gets this image: on the disk, and not in their place yet.
pub(super) fn make_aside(
    places: &Places,
    sides: &Sides,
    instance: &InstanceName,
    image: [u8; 32],
) -> Result<(), InstancesError> {
    let sources = read_sources(&places.system, Some(&places.data));
    let own = own_image(&sources, instance)
        .map_err(|problem| InstancesError::OwnImage { instance: instance.clone(), problem: problem.to_string() })?;
    sides.make_place(MODE)?;
    sides.remove_aside()?;
    DirBuilder::new().mode(MODE).create(&sides.aside).map_err(failed("create", &sides.aside))?;
    for (own, image) in with_pin(&read_pins_of(&sides.place, &mut Vec::new()), &sources, own, image) {
        let link = sides.aside.join(hex::encode(&own));
        symlink(format!("../../{}", hex::encode(&image)), &link).map_err(failed("create", &link))?;
    }
    sync(&sides.aside)?;
    sides.aside.parent().map_or(Ok(()), sync)
}

/// The pins with one more, or one in place of another. The others are for other systems of this device, and are kept if their images
/// are there.
fn with_pin(pins: &Pins, sources: &Sources, own: [u8; 32], image: [u8; 32]) -> Pins {
    let is_other = |(of, to): &(&[u8; 32], &[u8; 32])| **of != own && sources.images.contains_key(*to);
    let mut pins: Pins = pins.iter().filter(is_other).take(MAX_PINS - 1).map(|(of, to)| (*of, *to)).collect();
    if own != image {
        pins.insert(own, image);
    }
    pins
}

/// All images that a pin of any instance has to do with, also what lies aside.
pub(super) fn images(data: &Path) -> Result<Vec<[u8; 32]>, InstancesError> {
    let directory = data.join(yado_spec::sources::pins::DIRECTORY);
    let mut images = Vec::new();
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(images),
        entries => entries.map_err(failed("read", &directory))?,
    };
    for entry in entries {
        let path = entry.map_err(failed("read", &directory))?.path();
        let mut left_out = Vec::new();
        let pins = read_pins_of(&path, &mut left_out);
        images.extend(pins.iter().flat_map(|(own, image)| [*own, *image]));
    }
    Ok(images)
}

/// Makes sure that what was exchanged is found where it is kept.
pub(super) fn keep(data: &Path, instance: &InstanceName) -> Result<(), InstancesError> {
    let before = Sides::of_pins(data, instance, sides::BEFORE);
    Sides::of_pins(data, instance, sides::TRIAL).keep_aside_as(&before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_pin_takes_the_place_of_one_for_the_same_image_and_others_stay_while_their_images_do() {
        let (a, b, c, d) = ([1; 32], [2; 32], [3; 32], [4; 32]);
        let sources = Sources { images: [a, b, c].map(|image| (image, PathBuf::new())).into(), ..Sources::default() };
        let with = |pins: &[([u8; 32], [u8; 32])], own, image| {
            let pins: Pins = pins.iter().copied().collect();
            with_pin(&pins, &sources, own, image).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(with(&[], a, b), [(a, b)]);
        assert_eq!(with(&[(a, b)], a, c), [(a, c)]);
        assert_eq!(with(&[(a, b)], c, b), [(a, b), (c, b)], "the other system's");
        assert_eq!(with(&[(a, b), (c, d)], a, b), [(a, b)], "an image that is gone");
        assert_eq!(with(&[(a, b)], a, a), [], "its own needs none");
        let many: Vec<_> = (0..MAX_PINS as u8 + 5).map(|number| ([number + 10; 32], b)).collect();
        let pins = with(&many, a, c);
        assert!(pins.len() == MAX_PINS && pins.contains(&(a, c)), "{pins:?}");
    }
}
