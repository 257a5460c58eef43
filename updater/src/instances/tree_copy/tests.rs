//! On an ext4 of their own, as a board's data partition is one. The kernel says what came of a copy.

use super::super::InstancesError;
use super::super::layer::copy_aside;
use super::super::sides::{Sides, TRIAL};
use super::*;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use yado_sys::loop_device;
use yado_sys::mount::{Attributes, FsOption, new_file_system};
use yado_wire::InstanceId;

/// A new ext4 of so many MiB, mounted nowhere. `None`: it cannot be had here, and why was printed.
fn ext4(mib: u64) -> Option<(OwnedFd, PathBuf)> {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(mib << 20).unwrap();
    let mut mke2fs = Command::new("/sbin/mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-N", "16384", "-m", "0"]).arg(image.path());
    match mke2fs.status() {
        Ok(status) => assert!(status.success()),
        Err(error) => {
            println!("SKIPPED: /sbin/mke2fs: {error}");
            return None;
        }
    }
    let device = match loop_device::attach_writable(image.as_file()) {
        Ok(device) => device,
        Err(error) => {
            println!("SKIPPED: no loop device: {error}");
            return None;
        }
    };
    let mounted = new_file_system("ext4", &[FsOption::Value("source", &device.path)], Attributes::empty()).unwrap();
    let top = PathBuf::from(format!("/proc/self/fd/{}", mounted.as_raw_fd()));
    Some((mounted, top))
}

fn node(path: &Path, kind: FileType, device: u64) {
    rustix::fs::mknodat(CWD, path, kind, Mode::RUSR, device).unwrap();
}

fn attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// All that a container can leave, and its overlay.
fn fill(top: &Path) {
    fs::create_dir_all(top.join("etc/empty")).unwrap();
    fs::write(top.join("etc/file"), "what it says").unwrap();
    for name in ["etc/other", "third"] {
        fs::hard_link(top.join("etc/file"), top.join(name)).unwrap();
    }
    fs::write(top.join("program"), vec![7; 300_000]).unwrap();
    attribute(&top.join("program"), "user.note", b"");
    attribute(&top.join("program"), "trusted.overlay.origin", &[0, 251, 7]);
    attribute(&top.join("etc"), "trusted.overlay.opaque", b"y");
    // capabilities(7): version 2, CAP_NET_RAW permitted.
    let capability = [[1, 0, 0, 2], [0, 0x20, 0, 0], [0; 4], [0; 4], [0; 4]].concat();
    rustix::fs::chownat(
        CWD,
        top.join("program"),
        Some(Uid::from_raw(1000)),
        Some(Gid::from_raw(7)),
        AtFlags::empty(),
    )
    .unwrap();
    attribute(&top.join("program"), "security.capability", &capability);
    rustix::fs::chmodat(CWD, top.join("program"), Mode::from_raw_mode(0o6751), AtFlags::empty()).unwrap();
    // acl(5) as the kernel keeps it: version 2; user::rw- user:5:r-- group::r-- mask::r-- other::---.
    let entries: [[u16; 2]; 5] = [[1, 6], [2, 4], [4, 4], [0x10, 4], [0x20, 0]];
    let ids: [u32; 5] = [u32::MAX, 5, u32::MAX, u32::MAX, u32::MAX];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for ([tag, rights], id) in entries.into_iter().zip(ids) {
        acl.extend([tag.to_le_bytes(), rights.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    attribute(&top.join("etc/file"), "system.posix_acl_access", &acl);
    symlink("nowhere at all", top.join("link")).unwrap();
    rustix::fs::chownat(CWD, top.join("link"), Some(Uid::from_raw(3)), None, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    attribute(&top.join("link"), "trusted.of-link", b"1");
    symlink("/dev/kmsg", top.join("outside")).unwrap();
    // A whiteout of the overlay's, of which it makes one and gives it names.
    node(&top.join("gone"), FileType::CharacterDevice, 0);
    fs::hard_link(top.join("gone"), top.join("etc/gone")).unwrap();
    node(&top.join("null"), FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    node(&top.join("disk"), FileType::BlockDevice, rustix::fs::makedev(8, 0));
    node(&top.join("fifo"), FileType::Fifo, 0);
    node(&top.join("socket"), FileType::Socket, 0);
    let sparse = File::create(top.join("sparse")).unwrap();
    sparse.write_all_at(b"in the middle", 1 << 30).unwrap();
    sparse.set_len(3 << 30).unwrap();
    for number in 0..1500 {
        let directory = top.join(format!("wide/{number}"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.with_extension("file"), number.to_string()).unwrap();
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: 1, tv_nsec: 2 },
        last_modification: Timespec { tv_sec: 1_600_000_000, tv_nsec: 123_456_789 },
    };
    for name in ["link", "program", "etc", "fifo", "wide/7", "sparse", "."] {
        rustix::fs::utimensat(CWD, top.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// All that can be seen of each name, and which names are of one file.
fn seen(top: &Path) -> BTreeMap<PathBuf, String> {
    fn look(top: &Path, path: &Path, into: &mut BTreeMap<PathBuf, String>, files: &mut BTreeMap<u64, PathBuf>) {
        let found = fs::symlink_metadata(path).unwrap();
        let relative = path.strip_prefix(top).unwrap().to_owned();
        let first = files.entry(found.ino()).or_insert_with(|| relative.clone()).clone();
        let (mut names, mut value) = (vec![0; 4096], vec![0; 4096]);
        let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
        let mut attributes = BTreeMap::new();
        for name in names[..length].split_inclusive(|byte| *byte == 0) {
            let name = CStr::from_bytes_with_nul(name).unwrap();
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            attributes.insert(name.to_owned(), value[..length].to_vec());
        }
        let content = match found.file_type() {
            kind if kind.is_symlink() => format!("{:?}", fs::read_link(path).unwrap()),
            kind if kind.is_file() && found.len() < 1 << 20 => format!("{:?}", fs::read(path).unwrap()),
            _ => String::new(),
        };
        // How long a directory is depends on the order in which it was filled.
        let (length, blocks) = if found.is_dir() { (0, 0) } else { (found.len(), found.blocks()) };
        let times = (found.mtime(), found.mtime_nsec());
        let what = (found.mode(), found.uid(), found.gid(), found.nlink(), found.rdev(), length, blocks, times);
        into.insert(relative, format!("{what:?} {first:?} {attributes:?} {content}"));
        if found.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                look(top, &entry.unwrap().path(), into, files);
            }
        }
    }
    let mut all = BTreeMap::new();
    look(top, top, &mut all, &mut BTreeMap::new());
    all
}

#[test]
fn a_copy_is_as_what_it_was_made_of_in_everything_that_the_kernel_tells() {
    let Some((_mount, top)) = ext4(64) else { return };
    let upper = top.join("upper");
    fs::create_dir(&upper).unwrap();
    fill(&upper);
    let before = seen(&upper);
    let times = Timestamps {
        last_access: Timespec { tv_sec: 1, tv_nsec: 2 },
        last_modification: Timespec { tv_sec: 1_600_000_000, tv_nsec: 123_456_789 },
    };
    rustix::fs::utimensat(CWD, upper.join("program"), &times, AtFlags::empty()).unwrap();
    let measured = measure(&upper).unwrap();
    copy(&upper, &top.join("copy"), &top.join("links"), measured).unwrap();
    for tree in [&upper, &top.join("copy")] {
        assert_eq!(fs::metadata(tree.join("program")).unwrap().atime(), 1, "nobody has read it");
    }
    let (after, copied) = (seen(&upper), seen(&top.join("copy")));
    for (path, what) in &before {
        assert_eq!((copied.get(path), after.get(path)), (Some(what), Some(what)), "{}", path.display());
    }
    assert_eq!(copied.len(), before.len());
    assert!(!top.join("links").exists());
    let mut middle = [0; 13];
    File::open(top.join("copy/sparse")).unwrap().read_exact_at(&mut middle, 1 << 30).unwrap();
    assert_eq!(&middle, b"in the middle");
    assert!(measured.bytes < 16 << 20 && 3000 < measured.files, "{measured:?}");
    assert_eq!(measure(&top.join("copy")).unwrap().files, measured.files);
}

#[test]
fn depth_costs_no_descriptors_and_no_path_is_too_long() {
    let Some((_mount, top)) = ext4(64) else { return };
    fs::create_dir(top.join("upper")).unwrap();
    let mut current = rustix::fs::openat(CWD, top.join("upper"), DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..3000 {
        let name = "n".repeat(200);
        rustix::fs::mkdirat(&current, &*name, Mode::RWXU).unwrap();
        current = rustix::fs::openat(&current, &*name, DIRECTORY, Mode::empty()).unwrap();
    }
    rustix::fs::symlinkat("deepest", &current, "link").unwrap();
    let measured = measure(&top.join("upper")).unwrap();
    assert_eq!(measured.files, 3002);
    copy(&top.join("upper"), &top.join("copy"), &top.join("links"), measured).unwrap();
    assert_eq!(measure(&top.join("copy")).unwrap(), measured);
}

#[test]
fn a_file_with_as_many_names_as_it_can_have_is_copied() {
    let Some((_mount, top)) = ext4(64) else { return };
    fs::create_dir(top.join("upper")).unwrap();
    fs::write(top.join("upper/0"), "all of them").unwrap();
    let links =
        (1..).take_while(|number| fs::hard_link(top.join("upper/0"), top.join(format!("upper/{number}"))).is_ok());
    let names = 1 + links.count() as u64;
    assert_eq!(fs::metadata(top.join("upper/0")).unwrap().nlink(), names);
    let measured = measure(&top.join("upper")).unwrap();
    copy(&top.join("upper"), &top.join("copy"), &top.join("links"), measured).unwrap();
    assert_eq!(fs::metadata(top.join("copy/0")).unwrap().nlink(), names);
    assert_eq!(fs::read(top.join("copy/1")).unwrap(), b"all of them");
}

#[test]
fn a_file_that_somebody_writes_to_ends_where_it_was_and_one_who_makes_files_is_told() {
    let Some((_mount, top)) = ext4(256) else { return };
    let upper = top.join("upper");
    fs::create_dir(&upper).unwrap();
    let mut grows = File::create(upper.join("grows")).unwrap();
    grows.write_all(&vec![1; 4 << 20]).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                if grows.write_all(&[2; 4096]).is_err() {
                    break;
                }
            }
        });
        let copied = copy(&upper, &top.join("copy"), &top.join("links"), measure(&upper).unwrap());
        is_over.store(true, Ordering::Relaxed);
        copied.unwrap();
    });
    assert!(4 << 20 <= fs::metadata(top.join("copy/grows")).unwrap().len());
    for number in 0..2000 {
        File::create(upper.join(number.to_string())).unwrap();
    }
    let measured = Size { bytes: 0, files: 1 };
    let error = copy(&upper, &top.join("more"), &top.join("links"), measured).unwrap_err();
    assert!(error.to_string().contains("somebody outside writes to the layer"), "{error}");
}

#[test]
fn a_layer_for_which_there_is_no_room_is_as_it_was_and_nothing_lies_beside_it() {
    let Some((_mount, top)) = ext4(48) else { return };
    let sides = Sides::of_layer(&top, InstanceId(3), TRIAL);
    fs::create_dir_all(sides.place.join("upper")).unwrap();
    fs::write(sides.place.join("upper/big"), vec![1; 24 << 20]).unwrap();
    let before = seen(&top);
    let error = copy_aside(&sides).unwrap_err();
    assert!(matches!(error, InstancesError::NoRoom { .. }), "{error}");
    assert!(error.to_string().contains("layers/3: there is no room for a copy of 25"), "{error}");
    assert_eq!(seen(&top), before);
    // Who fills the disk while it is copied: what is there of it is taken away by the next attempt.
    let measured = measure(&sides.place.join("upper")).unwrap();
    fs::create_dir(&sides.aside).unwrap();
    let error = copy(&sides.place.join("upper"), &sides.aside.join("upper"), &sides.aside.join("links"), measured);
    assert_eq!(error.unwrap_err().to_string(), "copy big: No space left on device (os error 28)");
    fs::write(sides.place.join("upper/big"), vec![1; 1 << 20]).unwrap();
    copy_aside(&sides).unwrap();
    assert_eq!(seen(&sides.aside.join("upper")), seen(&sides.place.join("upper")));
}
