//! Images of containers in a store: beside the old one, and in their place whole or not at all.

use super::images::{Image, image, keys};
use super::sources::FileSource;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use yado_image::store::PlaceError;
use yado_image::{ImageKind, Wanted, hex, open_trusted};
use yado_sys::mount::{Attributes, FsOption, new_file_system};
use yado_updater::slot::{ContainerImageError, Counts, WriteImageError, write_container_image};
use yado_updater::source::Ranges;

/// Of blocks by these numbers.
fn container(path: &Path, numbers: impl Iterator<Item = u64>) -> Image {
    let numbers: Vec<u64> = numbers.collect();
    image(path, ImageKind::Container, numbers.len() as u64, |file| {
        for (place, number) in numbers.iter().enumerate() {
            file.write_all_at(&super::images::block(*number), place as u64 * 4096).unwrap();
        }
    })
}

fn add(
    image: &Image,
    source: &mut FileSource,
    data: &Path,
    old: Option<&Path>,
) -> Result<(PathBuf, Counts), ContainerImageError> {
    let old = old.map(|old| File::open(old).unwrap());
    let added = write_container_image(&image.to_write, &keys(), source, data, old.as_ref(), &mut ());
    added.map(|(place, written)| (place, written.counts))
}

/// What lies in the store, but for the lock and the names.
fn listed(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data.join("images")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !matches!(name.as_str(), ".lock" | "aliases")).collect();
    names.sort();
    names
}

#[test]
fn a_new_image_lies_beside_the_old_one_and_has_taken_from_it_what_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (first, second) = (container(&at("first"), 1..700), container(&at("second"), 100..800));
    let (place, counts) = add(&first, &mut FileSource::new(&first, Ranges::Any), directory.path(), None).unwrap();
    assert_eq!(counts.fetched_blocks, 699 + 6 + 1);
    let mut source = FileSource::new(&second, Ranges::Any);
    let (new, counts) = add(&second, &mut source, directory.path(), Some(&place)).unwrap();
    assert_eq!((counts.copied_blocks, counts.fetched_blocks), (600, 100 + 6 + 1));
    let mut both = [&first, &second].map(|image| hex::encode(&image.to_write.fingerprint));
    both.sort();
    assert_eq!(listed(directory.path()), both);
    for (image, place) in [(&first, &place), (&second, &new)] {
        assert!(fs::read(place).unwrap() == fs::read(&image.path).unwrap());
        open_trusted(place, &keys(), &Wanted::container(image.to_write.fingerprint)).unwrap();
    }
    // It is there: nothing is asked.
    let mut source = FileSource::new(&second, Ranges::Any);
    let (_, counts) = add(&second, &mut source, directory.path(), None).unwrap();
    assert_eq!((counts.kept_blocks, source.requests.len()), (700 + 6 + 1, 0));
    // One that was damaged is mended.
    File::options().write(true).open(&new).unwrap().write_all_at(b"x", 5000).unwrap();
    let damaged = File::open(&new).unwrap();
    let (_, counts) = add(&second, &mut source, directory.path(), Some(&new)).unwrap();
    assert_eq!((counts.copied_blocks, counts.fetched_blocks), (699 + 6, 2), "the block, and the top of the tree");
    assert!(fs::read(&new).unwrap() == fs::read(&second.path).unwrap());
    // Who had the old file goes on with it.
    let mut byte = [0];
    damaged.read_exact_at(&mut byte, 5000).unwrap();
    assert_eq!(&byte, b"x");
}

#[test]
fn what_a_source_did_not_give_to_the_end_goes_on_and_what_is_wrong_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let (image, other) = (container(&data.join("image"), 1..700), container(&data.join("other"), 5..300));
    for ranges in [Ranges::Any, Ranges::Whole] {
        // The tail of an image is asked first; of the payload it gives no more than this.
        let mut source = FileSource::new(&image, ranges);
        source.breaks_after = Some(1 << 20);
        let error = add(&image, &mut source, data, None).unwrap_err();
        assert!(matches!(&error, ContainerImageError::Write(WriteImageError::Source(_))), "{error}");
        let incoming = format!(".incoming-{}", hex::encode(&image.to_write.fingerprint));
        assert_eq!(listed(data), [incoming.as_str()]);
        let mut source = FileSource::new(&image, ranges);
        let (place, counts) = add(&image, &mut source, data, None).unwrap();
        assert!(200 < counts.kept_blocks, "{counts:?}");
        assert!(fs::read(place).unwrap() == fs::read(&image.path).unwrap());
        fs::remove_dir_all(data.join("images")).unwrap();

        let mut source = FileSource::new(&image, ranges);
        source.lies.insert(7000, 0xff);
        let error = add(&image, &mut source, data, None).unwrap_err();
        assert!(matches!(&error, ContainerImageError::Write(_)), "{error}");
        assert_eq!(listed(data), Vec::<String>::new());

        // What was begun and never ended goes with the next one; what is another's does not lead anywhere.
        let left = data.join("images").join(&incoming);
        fs::write(&left, "left").unwrap();
        fs::create_dir(data.join("images/.incoming-directory")).unwrap();
        symlink("/dev/null", data.join("images").join(hex::encode(&other.to_write.fingerprint))).unwrap();
        symlink(&image.path, left.with_file_name(format!(".incoming-{}", hex::encode(&other.to_write.fingerprint))))
            .unwrap();
        let before = fs::read(&image.path).unwrap();
        let (place, _) = add(&other, &mut FileSource::new(&other, ranges), data, None).unwrap();
        assert!(fs::read(place).unwrap() == fs::read(&other.path).unwrap());
        assert!(fs::read(&image.path).unwrap() == before, "the link was not followed");
        assert!(!left.exists());
        fs::remove_dir_all(data.join("images")).unwrap();
    }
}

#[test]
fn a_data_partition_without_room_is_seen_before_anything_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let image = container(&directory.path().join("image"), 1..700);
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: mounting needs root");
        return;
    }
    for (size, fits) in [("6M", false), ("16M", true)] {
        let small = new_file_system("tmpfs", &[FsOption::Value("size", size)], Attributes::empty()).unwrap();
        let data = PathBuf::from(format!("/proc/self/fd/{}", small.as_raw_fd()));
        let mut source = FileSource::new(&image, Ranges::Any);
        match add(&image, &mut source, &data, None) {
            Ok(_) => assert!(fits),
            Err(ContainerImageError::Place(PlaceError::NoRoom { .. })) if !fits => {
                assert!(source.requests.is_empty());
                assert_eq!(listed(&data), Vec::<String>::new());
            }
            Err(error) => panic!("{error}"),
        }
    }
}
