//! What is fetched, copied, kept and written, of images in files.

use super::images::{BLOCK, Image, image, judge, keys, system_image};
use super::sources::FileSource;
use super::storages::slot;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use yado_image::{ImageKind, Runtime, Wanted, open_trusted};
use yado_updater::slot::{Counts, Target, WriteImageError, write_image};
use yado_updater::source::Ranges;

const SLOT_BYTES: u64 = 8 << 20;

/// Installs, and has the result judged: the tree by veritysetup, the rest by what a start checks.
fn install(image: &Image, ranges: Ranges, path: &Path, old: Option<&Path>) -> (Counts, FileSource) {
    let mut source = FileSource::new(image, ranges);
    let old = old.map(|old| File::open(old).unwrap());
    let mut target = slot(path, SLOT_BYTES);
    let written = write_image(&image.to_write, &keys(), &mut source, &mut target, old.as_ref(), &mut ()).unwrap();
    is_installed(image, path);
    assert_eq!(written.header, image.header);
    (written.counts, source)
}

pub(crate) fn is_installed(image: &Image, path: &Path) {
    judge(path, image);
    // The header in the last 4 KiB is found as the initramfs finds it: on a partition, which a copy without the rest is not.
    let bytes = fs::read(path).unwrap();
    let (image_bytes, header) = (image.to_write.bytes as usize, &image.header.encode());
    assert_eq!(bytes[bytes.len() - BLOCK..], header[..]);
    assert!(bytes[..image_bytes] == fs::read(&image.path).unwrap()[..], "the image is in it as it is");
    let whole = path.with_extension("image");
    fs::write(&whole, &bytes[..image_bytes]).unwrap();
    let wanted = Wanted {
        kind: image.to_write.kind,
        fingerprint: Some(image.to_write.fingerprint),
        threshold: 1,
        runtime: Runtime::this(),
    };
    open_trusted(&whole, &keys(), &wanted).unwrap();
    fs::remove_file(whole).unwrap();
}

fn numbers(range: std::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn an_empty_slot_gets_all_of_it_by_few_requests_and_the_second_time_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let image = system_image(&at("image"), &numbers(1..1001));
    let all = 1000 + 8 + 1;
    for ranges in [Ranges::Any, Ranges::Whole] {
        let slot = at("slot");
        let (counts, source) = install(&image, ranges, &slot, None);
        // Besides them: the manifest, the block of the signatures that is not all zeros, and two headers.
        let written_bytes = (all + 4) * 4096;
        let expected = match ranges {
            Ranges::Any => Counts { fetched_blocks: all, written_bytes, ..Counts::default() },
            Ranges::Whole => Counts { fetched_blocks: all + 2, kept_blocks: 1, written_bytes, ..Counts::default() },
        };
        assert_eq!(counts, expected);
        // Header, manifest with signatures, top, leaves, payload.
        assert!(source.requests.len() <= 5, "{:?}", source.requests);
        let (counts, source) = install(&image, ranges, &slot, None);
        let kept = if ranges == Ranges::Any { all } else { all + 3 };
        assert_eq!(counts, Counts { kept_blocks: kept, ..Counts::default() });
        assert!(source.requests.len() <= 2);
        fs::remove_file(slot).unwrap();
    }
}

#[test]
fn one_block_changed_is_one_block_written_and_its_way_up_the_tree() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let before = system_image(&at("before"), &numbers(1..1001));
    let mut changed = numbers(1..1001);
    changed[777] = 100_000;
    let after = system_image(&at("after"), &changed);
    for ranges in [Ranges::Any, Ranges::Whole] {
        let slot = at("slot");
        install(&before, Ranges::Any, &slot, None);
        let (counts, source) = install(&after, ranges, &slot, None);
        // The block, its leaf, the top; the signatures; the old header that is cleared, and twice the new one. The manifest is the
        // same.
        assert_eq!(counts.written_bytes, 4096 * (3 + 1 + 3), "{ranges:?}");
        let fetched = if ranges == Ranges::Any { 3 } else { 4 };
        assert_eq!((counts.fetched_blocks, counts.copied_blocks), (fetched, 0));
        if ranges == Ranges::Any {
            let bytes: u64 = source.requests.iter().map(|range| range.end - range.start).sum();
            assert_eq!(bytes, 4096 * (3 + 4));
        }
        fs::remove_file(slot).unwrap();
    }
}

#[test]
fn what_the_other_slot_has_is_copied_from_wherever_it_lies_there() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let a = at("old");
    system_image(&a, &numbers(1..1001));
    // Something new in front, the middle elsewhere, zeros, and an end that is the same.
    let new: Vec<u64> =
        (5000..5003).chain(1..400).chain([0; 50]).chain(600..700).chain(400..500).chain(653..1001).collect();
    let new = system_image(&at("new"), &new);
    let (counts, source) = install(&new, Ranges::Any, &at("slot-b"), Some(&a));
    let payload = 3 + 399 + 50 + 100 + 100 + 348;
    // All but the three and zeros, and the tree but for two leaves: the end is the same.
    assert_eq!((counts.copied_blocks, counts.fetched_blocks), (payload - 3 - 50 + 2, 3 + 6 + 1));
    assert_eq!(source.requests.len(), 5, "{:?}", source.requests);
    // What the old one has lost of them is fetched.
    let lost = File::options().write(true).open(&a).unwrap();
    for block in [10, 11, 12, 990] {
        lost.write_all_at(b"lost", block * 4096 + 5).unwrap();
    }
    let (counts, _) = install(&new, Ranges::Any, &at("slot-c"), Some(&a));
    assert_eq!((counts.copied_blocks, counts.fetched_blocks), (payload - 3 - 50 + 2 - 4, 3 + 6 + 1 + 4));
    // What is no image helps nobody.
    fs::write(at("none"), [0xff; 100_000]).unwrap();
    let (counts, _) = install(&new, Ranges::Any, &at("slot-d"), Some(&at("none")));
    assert_eq!(counts.fetched_blocks, payload - 50 + 8 + 1);
}

#[test]
fn an_image_as_long_as_its_slot_fits_and_a_longer_one_leaves_it_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let image = system_image(&at("image"), &numbers(1..301));
    let path = at("slot");
    for (bytes, fits) in [(0, true), (4096, true), (12_288, true), (512, false), (-512, false), (-4096, false)] {
        let slot_bytes = image.to_write.bytes.checked_add_signed(bytes).unwrap();
        fs::write(&path, vec![7; slot_bytes as usize]).unwrap();
        let mut target = slot(&path, slot_bytes);
        let mut source = FileSource::new(&image, Ranges::Any);
        let outcome = write_image(&image.to_write, &keys(), &mut source, &mut target, None, &mut ());
        match outcome {
            Ok(_) if fits => is_installed(&image, &path),
            Err(WriteImageError::TooBig { image_bytes, target_bytes, .. }) if !fits => {
                assert_eq!((image_bytes, target_bytes), (image.to_write.bytes, slot_bytes));
                assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 7));
                assert!(source.requests.is_empty());
            }
            other => panic!("{bytes}: {other:?}"),
        }
    }
}

#[test]
fn zeros_are_not_written_where_nothing_is_and_are_where_something_was() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let payload: Vec<u64> = (0..1000).map(|place| if place % 300 < 200 { 0 } else { place }).collect();
    let zeros = payload.iter().filter(|number| **number == 0).count() as u64;
    let image = system_image(&at("image"), &payload);
    let (counts, _) = install(&image, Ranges::Any, &at("slot"), None);
    assert_eq!((counts.kept_blocks, counts.copied_blocks, counts.fetched_blocks), (zeros, 0, 1000 - zeros + 9));
    fs::write(at("full"), vec![1; SLOT_BYTES as usize]).unwrap();
    let (counts, _) = install(&image, Ranges::Any, &at("full"), None);
    assert_eq!((counts.kept_blocks, counts.copied_blocks, counts.fetched_blocks), (0, zeros, 1000 - zeros + 9));
}

#[test]
fn a_container_image_fills_its_file_to_the_last_byte() {
    let directory = tempfile::tempdir().unwrap();
    let image = image(&directory.path().join("image"), ImageKind::Container, 300, |file| {
        file.write_all_at(&[3; 123_456], 4096).unwrap();
    });
    let path = directory.path().join("file");
    for ranges in [Ranges::Any, Ranges::Whole] {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(image.to_write.bytes).unwrap();
        let mut target = Target::of_file(file, &path).unwrap();
        let mut source = FileSource::new(&image, ranges);
        write_image(&image.to_write, &keys(), &mut source, &mut target, None, &mut ()).unwrap();
        assert!(fs::read(&path).unwrap() == fs::read(&image.path).unwrap());
        is_installed(&image, &path);
    }
}
