//! Slots that are block devices, and disks that fail.

use super::images::{judge, keys, system_image};
use super::sources::FileSource;
use super::storages::{Broken, slot};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use yado_image::{Wanted, open_trusted};
use yado_sys::loop_device::{LoopDevice, attach_writable};
use yado_sys::mount::{Attributes, FsOption, new_file_system};
use yado_updater::slot::{Storage, Target, WriteImageError, write_image};
use yado_updater::source::Ranges;

fn device(path: &Path, bytes: u64) -> Option<LoopDevice> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(bytes).unwrap();
    attach_writable(&file).map_err(|error| println!("SKIPPED: no loop device: {error}")).ok()
}

#[test]
fn a_slot_is_opened_as_the_initramfs_does_and_its_blocks_are_copied_to_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let bytes = 8 << 20;
    let Some(a) = device(&at("slot-a"), bytes) else { return };
    let Some(b) = device(&at("slot-b"), bytes) else { return };
    let first = system_image(&at("first"), &(1..1001).collect::<Vec<_>>());
    let second = system_image(&at("second"), &(41..1041).collect::<Vec<_>>());
    for (image, (path, old), fetched) in
        [(&first, (&a.path, None), 1000 + 9), (&second, (&b.path, Some(&a.path)), 40 + 9)]
    {
        let path = Path::new(path);
        let mut target = Target::open_device(path).unwrap();
        let old = old.map(|old| File::open(old).unwrap());
        let mut source = FileSource::new(image, Ranges::Any);
        let written = write_image(&image.to_write, &keys(), &mut source, &mut target, old.as_ref(), &mut ()).unwrap();
        assert_eq!(written.counts.fetched_blocks, fetched);
        judge(path, image);
        assert_eq!(open_trusted(path, &keys(), &Wanted::system()).unwrap().header, image.header);
        // As long as somebody has it for himself, it is no target.
        assert_eq!(Target::open_device(path).unwrap_err().kind(), ErrorKind::ResourceBusy);
    }
}

/// What is on the disk is read, and not what the kernel has of it in memory.
#[test]
fn a_read_asks_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let backing = directory.path().join("slot");
    let Some(device) = device(&backing, 1 << 20) else { return };
    let path = Path::new(&device.path);
    let target = Target::open_device(path).unwrap();
    let cached = File::open(path).unwrap();
    // A page, as the kernel wants it for reading past its cache.
    let mut memory = vec![0; 3 * 4096];
    let start = memory.as_ptr().align_offset(4096);
    let (in_cache, on_disk) = memory[start..start + 8192].split_at_mut(4096);
    cached.read_exact_at(in_cache, 0).unwrap();
    File::options().write(true).open(&backing).unwrap().write_all_at(&[7; 4096], 0).unwrap();
    cached.read_exact_at(in_cache, 0).unwrap();
    assert!(in_cache.iter().all(|byte| *byte == 0), "the kernel has it in its cache: else this shows nothing");
    target.read(0, on_disk).unwrap();
    assert!(on_disk.iter().all(|byte| *byte == 7));
}

/// The backing store of the device is full: the kernel takes each write into its cache, and tells the truth when it is flushed.
#[test]
fn a_disk_that_takes_no_more_leaves_no_image() {
    let directory = tempfile::tempdir().unwrap();
    let image = system_image(&directory.path().join("image"), &(1..1001).collect::<Vec<_>>());
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: mounting needs root");
        return;
    }
    let small = new_file_system("tmpfs", &[FsOption::Value("size", "2M")], Attributes::empty()).unwrap();
    let backing = PathBuf::from(format!("/proc/self/fd/{}/slot", small.as_raw_fd()));
    let Some(device) = device(&backing, 8 << 20) else { return };
    let path = Path::new(&device.path);
    let mut target = Target::open_device(path).unwrap();
    for ranges in [Ranges::Any, Ranges::Whole] {
        let mut source = FileSource::new(&image, ranges);
        let error = write_image(&image.to_write, &keys(), &mut source, &mut target, None, &mut ()).unwrap_err();
        assert!(matches!(error, WriteImageError::Write { .. } | WriteImageError::Flush { .. }), "{error}");
        let mut last = [1; 4096];
        File::open(path).unwrap().read_exact_at(&mut last, (8 << 20) - 4096).unwrap();
        assert_eq!(last, [0; 4096]);
    }
}

#[test]
fn a_block_that_the_disk_does_not_keep_is_found_before_the_slot_is_an_image() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let image = system_image(&at("image"), &(1..1001).collect::<Vec<_>>());
    let layout = image.header.layout;
    let lost = [0, 500 * 4096, layout.tree_offset(), layout.tree_offset() + 4096, layout.manifest_offset()];
    for ranges in [Ranges::Any, Ranges::Whole] {
        for offset in lost.into_iter().chain([layout.header_offset(), (8 << 20) - 4096]) {
            let mut target = Broken::new(slot(&at("slot"), 8 << 20));
            target.forgets = offset..offset + 512;
            let mut source = FileSource::new(&image, ranges);
            let error = write_image(&image.to_write, &keys(), &mut source, &mut target, None, &mut ()).unwrap_err();
            match error {
                WriteImageError::Different { offset: told, .. } => assert_eq!(told, offset),
                // Read from the target, a manifest has been changed.
                WriteImageError::Image(_) if ranges == Ranges::Whole && offset == layout.manifest_offset() => {}
                error => panic!("{offset}: {error}"),
            }
            std::fs::remove_file(at("slot")).unwrap();
        }
    }
}

#[test]
fn a_sector_that_cannot_be_read_is_written_and_one_that_still_cannot_be_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let image = system_image(&at("image"), &(1..1001).collect::<Vec<_>>());
    for (mends, ranges) in [(true, Ranges::Any), (true, Ranges::Whole), (false, Ranges::Any), (false, Ranges::Whole)]
    {
        let mut target = Broken::new(slot(&at("slot"), 8 << 20));
        let mut source = FileSource::new(&image, ranges);
        write_image(&image.to_write, &keys(), &mut source, &mut target, None, &mut ()).unwrap();
        target.unreadable = 300 * 4096..301 * 4096;
        target.a_write_mends = mends;
        let mut source = FileSource::new(&image, ranges);
        let outcome = write_image(&image.to_write, &keys(), &mut source, &mut target, None, &mut ());
        match outcome {
            Ok(written) => assert!(mends && 0 < written.counts.fetched_blocks),
            Err(WriteImageError::Read { source, offset, .. }) if !mends => {
                assert_eq!(source.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
                assert!((offset..offset + 128 * 4096).contains(&(300 * 4096)));
            }
            Err(error) => panic!("{error}"),
        }
        std::fs::remove_file(at("slot")).unwrap();
    }
}
