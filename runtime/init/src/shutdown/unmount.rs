//! Syncs and unmounts the file systems of a board at the very end, in a child of PID 1: a slow or broken card may take longer than
//! the watchdog waits. All writers have ended by then, or hang.

use crate::booted_slot;
use crate::clock_floor;
use crate::last_reset::mark;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use yado_sys::device_mapper::DeviceMapper;
use yado_sys::{loop_device, root, volume};

/// A mount that is gone lets go of its loop or mapper device a moment later, and this of the file system below it.
const AGAIN: Duration = Duration::from_millis(50);

/// How often unmounting is tried: 3 s in all.
const MAX_TRIES: u32 = 60;

/// Below these only the kernel's own file systems and those in memory are mounted, and the root is not ours to unmount.
const KEPT: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];

/// Saves the time in `clock`, and beside it the mark that the system ended in order; unmounts all that is on a disk, and writes
/// everything back. What fails is printed.
pub(crate) fn run(clock: &Path, mark: &str) -> ExitCode {
    if let Err(error) = clock_floor::save(clock) {
        println!("save the time: {error}");
    }
    let standing = booted_slot::standing(booted_slot::read(), clock.parent().unwrap_or(clock));
    if let Err(error) = mark::write(&clock.with_file_name(mark::FILE), mark, standing) {
        println!("note that the system ended in order: {error}");
    }
    for _ in 0..MAX_TRIES {
        let left = mounts();
        if left.is_empty() {
            break;
        }
        release_devices();
        for mount in left {
            let _ = root::unmount(Path::new(&mount));
        }
        if !mounts().is_empty() {
            std::thread::sleep(AGAIN);
        }
    }
    let left = mounts();
    for mount in &left {
        match root::remount_read_only(Path::new(mount)) {
            Ok(()) => println!("{mount} is in use: it was made read-only"),
            Err(error) => {
                println!("{mount} is in use, and could not be made read-only: {error}");
                // Even under who writes: the kernel finishes its journal. sysrq.rst; it is done a moment later.
                let _ = fs::write("/proc/sysrq-trigger", "u");
            }
        }
    }
    volume::sync_all();
    for _ in 0..MAX_TRIES {
        if read_mounts().iter().all(|mount| mount.is_read_only) {
            break;
        }
        std::thread::sleep(AGAIN);
    }
    if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was made of files on a disk, and of devices on it, is not kept by a process any more.
fn release_devices() {
    if let Ok(mapper) = DeviceMapper::open() {
        let _ = mapper.remove_all_when_unused();
    }
    let Ok(entries) = fs::read_dir("/sys/block") else { return };
    for entry in entries.flatten() {
        if entry.path().join("loop/backing_file").exists() {
            let _ = loop_device::detach(&Path::new("/dev").join(entry.file_name()));
        }
    }
}

/// Where they are mounted, the last first.
fn mounts() -> Vec<String> {
    read_mounts().into_iter().rev().map(|mount| mount.target).collect()
}

/// A mount that is to be gone.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    target: String,
    /// Its file system is, under whatever mount.
    is_read_only: bool,
}

fn read_mounts() -> Vec<Mount> {
    parse_mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// What is to be unmounted of a mountinfo: `ID PARENT DEVICE ROOT TARGET OPTIONS … - TYPE SOURCE SUPEROPTIONS`. Pure.
fn parse_mounts(mountinfo: &str) -> Vec<Mount> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let target = unescape(mount.split(' ').nth(4)?);
        let is_kept = target == "/" || KEPT.iter().any(|kept| Path::new(&target).starts_with(kept));
        let is_read_only = file_system.split(' ').nth(2)?.split(',').any(|option| option == "ro");
        (!is_kept).then_some(Mount { target, is_read_only })
    });
    mounts.collect()
}

/// The kernel writes space, tab, newline and backslash as three octal digits: proc_pid_mountinfo(5).
fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (written, meant) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(written, meant);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_root_and_the_kernels_own_is_unmounted() {
        // A board with a stick that a service mounted, and an image that one left.
        let mountinfo = "\
22 1 253:0 / / ro,nosuid,nodev,relatime - erofs /dev/dm-0 ro\n\
23 22 0:5 / /proc rw,nosuid,nodev,noexec,relatime - proc none rw\n\
24 22 0:6 / /dev rw,nosuid - devtmpfs none rw,mode=0755\n\
25 22 0:23 / /run rw,nosuid,nodev - tmpfs none rw,size=20%\n\
26 24 0:24 / /dev/pts rw - devpts none rw\n\
31 22 179:7 / /data rw,nosuid,nodev,relatime - ext4 /dev/mmcblk0p7 rw\n\
32 31 7:3 / /data/my\\040image ro,relatime shared:4 - erofs /dev/loop3 ro\n\
33 22 8:1 / /devices rw - vfat /dev/sda1 rw,errors=remount-ro\n\
torn line\n";
        let mount = |target: &str, is_read_only| Mount { target: target.to_owned(), is_read_only };
        let expected = [mount("/data", false), mount("/data/my image", true), mount("/devices", false)];
        assert_eq!(parse_mounts(mountinfo), expected);
        assert_eq!(parse_mounts(""), []);
    }
}
