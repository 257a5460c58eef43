//! What was hidden, made read-only or left behind when the root was put together.

use super::{Attempt, Expected, Outcome, Watched};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use std::fs;
use std::io;
use std::path::Path;
use yado_sys::clone::{self, Namespaces};

pub(super) const ATTEMPTS: &[Attempt] = &[
    mounting("unmask-proc", "what covers parts of /proc is unmounted", unmask),
    mounting("proc-again", "another /proc, without the covers, is mounted", new_proc),
    mounting("remount-sys", "/sys is made writable", writable_sys),
    mounting("sys-again", "another /sys is mounted, writable", new_sys),
    mounting("mount-disk", "a file system of a disk is mounted", disk),
    mounting("unmount-root", "what the root covers is looked for", below_root),
    mounting("chroot-escape", "out of the root by a descriptor above it", out_of_chroot),
    mounting("cgroup-again", "the whole tree of groups is mounted", other_groups),
    mounting("debugfs", "the kernel's file systems for debugging are mounted", debugging),
];

/// In the system's root, and in no container's.
const OUTSIDE: &str = "usr/lib/yado/system.d";

const fn mounting(name: &'static str, what: &'static str, run: fn() -> Outcome) -> Attempt {
    Attempt { name, what, run, watched: Watched::Inside, expected: Expected::Held }
}

/// In mounts of our own, so that whoever comes after us finds them as they were.
fn in_own_mounts(attempt: impl FnOnce() -> Outcome) -> Outcome {
    match clone::unshare(Namespaces::NEWNS) {
        Ok(()) => attempt(),
        Err(error) => Outcome::refused(&error),
    }
}

/// Mounts a file system of this kind, which has no disk, at a place that is made for it.
pub(super) fn mount_new(kind: &str, place: &str) -> io::Result<()> {
    fs::create_dir_all(place)?;
    Ok(rustix::mount::mount(kind, place, kind, MountFlags::empty(), None)?)
}

fn unmask() -> Outcome {
    in_own_mounts(|| {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let covers: Vec<&str> = places.filter(|place| place.starts_with("/proc/")).collect();
        let mut refused = None;
        let mut removed = Vec::new();
        for cover in &covers {
            match rustix::mount::unmount(*cover, UnmountFlags::DETACH) {
                Ok(()) => removed.push(*cover),
                Err(errno) => refused = Some(errno),
            }
        }
        match (removed.as_slice(), refused) {
            ([], Some(errno)) => Outcome::refused(&errno.into()),
            ([], None) => Outcome::not_here("nothing covers a part of /proc"),
            (_, _) => Outcome::succeeded(removed.join(" ")),
        }
    })
}

fn new_proc() -> Outcome {
    in_own_mounts(|| {
        match mount_new("proc", "/tmp/attack-proc") {
            Err(error) => Outcome::refused(&error),
            // What is behind the cover of the first one belongs to the host's root, or it does not.
            Ok(()) => Outcome::of(
                fs::OpenOptions::new().write(true).open("/tmp/attack-proc/sysrq-trigger"),
                "sysrq-trigger can be written",
            ),
        }
    })
}

fn writable_sys() -> Outcome {
    in_own_mounts(|| {
        let flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        Outcome::of(rustix::mount::mount_remount("/sys", flags, "").map_err(io::Error::from), "/sys is writable")
    })
}

fn new_sys() -> Outcome {
    in_own_mounts(|| match mount_new("sysfs", "/tmp/attack-sys") {
        Err(error) => Outcome::refused(&error),
        Ok(()) => Outcome::of(
            fs::OpenOptions::new().write(true).open("/tmp/attack-sys/kernel/profiling"),
            "its files can be written",
        ),
    })
}

fn disk() -> Outcome {
    in_own_mounts(|| {
        let place = "/tmp/attack-disk";
        let made = fs::create_dir_all(place).and_then(|()| fs::write("/tmp/attack-ext4", [0; 4096]));
        if let Err(error) = made {
            return Outcome::refused(&error);
        }
        // EPERM comes before the source is looked at.
        let mounted = rustix::mount::mount("/tmp/attack-ext4", place, "ext4", MountFlags::RDONLY, None);
        Outcome::of(mounted.map_err(io::Error::from), "mounted")
    })
}

fn below_root() -> Outcome {
    in_own_mounts(|| {
        if let Err(errno) = rustix::mount::unmount("/", UnmountFlags::DETACH) {
            return Outcome::refused(&errno.into());
        }
        if Path::new("/").join(OUTSIDE).exists() || Path::new("/..").join(OUTSIDE).exists() {
            Outcome::succeeded("the system's root is below it")
        } else {
            Outcome::bounded("nothing is below it")
        }
    })
}

fn out_of_chroot() -> Outcome {
    let outside = || -> io::Result<bool> {
        let place = "/tmp/attack-chroot";
        fs::create_dir_all(place)?;
        let above = rustix::fs::open("/", OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())?;
        rustix::process::chroot(place)?;
        rustix::process::fchdir(&above)?;
        for _ in 0..64 {
            rustix::process::chdir("..")?;
        }
        Ok(rustix::fs::statat(CWD, OUTSIDE, rustix::fs::AtFlags::empty()).is_ok())
    };
    match outside() {
        Ok(true) => Outcome::succeeded("the system's files are seen"),
        Ok(false) => Outcome::bounded("ends at the instance's own root"),
        Err(error) => Outcome::refused(&error),
    }
}

fn other_groups() -> Outcome {
    in_own_mounts(|| {
        let place = "/tmp/attack-cgroup";
        match mount_new("cgroup2", place) {
            Err(error) => Outcome::refused(&error),
            Ok(()) if Path::new(place).join("instances").exists() => Outcome::succeeded("all groups are seen"),
            Ok(()) => Outcome::bounded("the instance's own groups"),
        }
    })
}

fn debugging() -> Outcome {
    in_own_mounts(|| {
        let place = "/tmp/attack-debug";
        let mut refused = None;
        for kind in ["debugfs", "tracefs", "securityfs", "configfs", "bpf", "efivarfs", "pstore"] {
            match mount_new(kind, place) {
                // A bpf file system of one's own is empty, and no door.
                Ok(()) if kind == "bpf" => drop(rustix::mount::unmount(place, UnmountFlags::DETACH)),
                Ok(()) => return Outcome::succeeded(kind),
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or_else(|| Outcome::not_here("no kind was tried"), |error| Outcome::refused(&error))
    })
}
