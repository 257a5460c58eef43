//! Devices that were not given: nodes made by number, nodes that an image brings, and nodes that somebody put there.

use super::mounts::mount_new;
use super::{Attempt, Expected, Outcome, Watched};
use rustix::fs::{CWD, Dev, FileType, Mode, OFlags, makedev};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

pub(super) const ATTEMPTS: &[Attempt] = &[
    node("node-disk", "a node of the board's disk is made and opened", disk),
    node("node-mem", "a node of the machine's memory is made and opened", memory),
    node("node-kmsg", "a node of the kernel's log is made and opened", kernel_log),
    node("node-console", "5:1, the board's console, is made and opened", console),
    node("node-serial", "the board's serial line is made and opened", serial),
    node("node-loop", "loop devices are made", loop_control),
    node("node-own-tmpfs", "a node is made on a file system of one's own", own_file_system),
    node("node-of-image", "nodes that lie below the mount of /dev are opened", of_the_image),
    node("node-smuggled", "nodes that were put into the root are opened", smuggled),
];

/// Where the outside puts nodes for [`smuggled`].
pub const SMUGGLED: &str = "/dev/smuggled";

const fn node(name: &'static str, what: &'static str, run: fn() -> Outcome) -> Attempt {
    Attempt { name, what, run, watched: Watched::Inside, expected: Expected::Held }
}

fn disk() -> Outcome {
    // Any kernel has 254:0 for its first virtual disk, unless sysfs says otherwise.
    let said = fs::read_to_string("/sys/class/block/vda/dev").unwrap_or_default();
    let number =
        said.trim().split_once(':').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let (major, minor) = number.unwrap_or((254, 0));
    make_and_open(FileType::BlockDevice, makedev(major, minor))
}

fn memory() -> Outcome {
    make_and_open(FileType::CharacterDevice, makedev(1, 1))
}

fn kernel_log() -> Outcome {
    make_and_open(FileType::CharacterDevice, makedev(1, 11))
}

fn console() -> Outcome {
    make_and_open(FileType::CharacterDevice, makedev(5, 1))
}

fn serial() -> Outcome {
    // ttyAMA0.
    make_and_open(FileType::CharacterDevice, makedev(204, 64))
}

fn loop_control() -> Outcome {
    make_and_open(FileType::CharacterDevice, makedev(10, 237))
}

fn make_and_open(kind: FileType, number: Dev) -> Outcome {
    let path = "/tmp/attack-node";
    let _ = fs::remove_file(path);
    if let Err(errno) = rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), number) {
        return Outcome::refused(&errno.into());
    }
    let opened = open(Path::new(path));
    let _ = fs::remove_file(path);
    Outcome::of(opened, "made and opened")
}

fn own_file_system() -> Outcome {
    let place = "/tmp/attack-nodes";
    if let Err(error) = mount_new("tmpfs", place) {
        return Outcome::refused(&error);
    }
    let node = Path::new(place).join("node");
    let kind = FileType::CharacterDevice;
    let made = rustix::fs::mknodat(CWD, &node, kind, Mode::from_raw_mode(0o600), makedev(1, 1));
    let outcome = match made {
        Err(errno) => Outcome::refused(&errno.into()),
        Ok(()) => Outcome::of(open(&node), "made and opened"),
    };
    let _ = rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH);
    outcome
}

fn of_the_image() -> Outcome {
    let place = "/tmp/attack-root";
    let bound = fs::create_dir_all(place).and_then(|()| Ok(rustix::mount::mount_bind("/", place)?));
    if let Err(error) = bound {
        return Outcome::refused(&error);
    }
    let outcome = open_all(&Path::new(place).join("dev"));
    let _ = rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH);
    outcome
}

fn smuggled() -> Outcome {
    open_all(Path::new(SMUGGLED))
}

/// Tries every node in a directory.
fn open_all(directory: &Path) -> Outcome {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries.flatten(),
        Err(_) => return Outcome::not_here(directory.display()),
    };
    let mut refused = None;
    let mut opened = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        let Ok(found) = path.symlink_metadata() else { continue };
        if !found.file_type().is_char_device() && !found.file_type().is_block_device() {
            continue;
        }
        match open(&path) {
            // Those that everybody may open: null, zero, full, random, urandom, tty, ptmx.
            Ok(_) if matches!(found.rdev(), 0x103 | 0x105 | 0x107..=0x109 | 0x500 | 0x502) => {}
            Ok(_) => opened.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned()),
            Err(error) => refused = Some(error),
        }
    }
    match (opened.as_slice(), refused) {
        ([], Some(error)) => Outcome::refused(&error),
        ([], None) => Outcome::not_here("no such node"),
        (_, _) => Outcome::succeeded(opened.join(" ")),
    }
}

fn open(path: &Path) -> io::Result<()> {
    // A serial line would wait for its carrier.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(rustix::fs::open(path, flags, Mode::empty()).map(drop)?)
}
