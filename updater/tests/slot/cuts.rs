//! The power is cut at every write of an install, and the install goes on.

use super::images::{keys, system_image};
use super::sources::FileSource;
use super::storages::{CutOff, slot};
use super::writes::is_installed;
use std::fs::{self, File};
use std::path::Path;
use yado_image::header::Header;
use yado_updater::slot::write_image;
use yado_updater::source::Ranges;

const SLOT_BYTES: u64 = 3 << 20;

/// What the initramfs would take for a header.
fn header_in_slot(path: &Path) -> Option<Header> {
    let bytes = fs::read(path).unwrap();
    Header::parse(bytes.last_chunk().unwrap()).ok()
}

#[test]
fn a_cut_at_any_write_leaves_no_header_and_the_next_install_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let before = system_image(&at("before"), &(1..500).collect::<Vec<_>>());
    // Changes in many places, so that there are many writes.
    let after: Vec<u64> = (1..600).map(|number| if number % 7 == 0 { number + 9000 } else { number }).collect();
    let after = system_image(&at("after"), &after);
    let (a, b) = (at("slot-a"), at("slot-b"));
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    for ranges in [Ranges::Any, Ranges::Whole] {
        let mut at_write = 1;
        loop {
            let install_before = |path: &Path| {
                let _ = fs::remove_file(path);
                let mut source = FileSource::new(&before, Ranges::Any);
                write_image(&before.to_write, &keys(), &mut source, &mut slot(path, SLOT_BYTES), None, &mut ())
                    .unwrap();
            };
            install_before(&b);
            if at_write == 1 {
                install_before(&a);
            }
            let old = File::open(&a).unwrap();
            let mut target = CutOff::new(&b, SLOT_BYTES, at_write, seed + at_write);
            let mut source = FileSource::new(&after, ranges);
            let outcome = write_image(&after.to_write, &keys(), &mut source, &mut target, Some(&old), &mut ());
            let fetched_before = source.requests.iter().map(|range| range.end - range.start).sum::<u64>();
            if outcome.is_ok() {
                assert!(10 < at_write, "there were more writes than {at_write}");
                break;
            }
            // The first write clears the header. It may be lost itself: then nothing else was written.
            match header_in_slot(&b) {
                None => {}
                Some(header) if header == after.header => assert!(10 < at_write),
                Some(header) => {
                    assert_eq!((header, at_write), (before.header.clone(), 1));
                    is_installed(&before, &b);
                }
            }
            let mut source = FileSource::new(&after, ranges);
            let mut target = slot(&b, SLOT_BYTES);
            let written =
                write_image(&after.to_write, &keys(), &mut source, &mut target, Some(&old), &mut ()).unwrap();
            is_installed(&after, &b);
            if ranges == Ranges::Any {
                let fetched = source.requests.iter().map(|range| range.end - range.start).sum::<u64>();
                assert!(fetched <= after.to_write.bytes && 0 < fetched_before, "{written:?}");
            }
            at_write += 1;
        }
        println!("{ranges:?}: {at_write} writes");
    }
}

#[test]
fn what_was_on_the_disk_before_a_cut_is_not_fetched_again() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let image = system_image(&at("image"), &(1..700).collect::<Vec<_>>());
    let path = at("slot");
    // Six groups: the tree takes two writes, so the power goes with the fourth group.
    let mut target = CutOff::new(&path, SLOT_BYTES, 2 + 4, 1);
    let mut source = FileSource::new(&image, Ranges::Any);
    write_image(&image.to_write, &keys(), &mut source, &mut target, None, &mut ()).unwrap_err();
    // All of it had reached the disk, but for the last write.
    let held = File::open(&path).unwrap();
    let whole = File::open(&image.path).unwrap();
    let out = File::options().write(true).open(&path).unwrap();
    let mut group = vec![0; 128 * 4096];
    for number in 0..3 {
        use std::os::unix::fs::FileExt;
        whole.read_exact_at(&mut group, number * 128 * 4096).unwrap();
        out.write_all_at(&group, number * 128 * 4096).unwrap();
    }
    drop(held);
    let mut source = FileSource::new(&image, Ranges::Any);
    let written =
        write_image(&image.to_write, &keys(), &mut source, &mut slot(&path, SLOT_BYTES), None, &mut ()).unwrap();
    assert!(3 * 128 <= written.counts.kept_blocks, "{:?}", written.counts);
    is_installed(&image, &path);
}
