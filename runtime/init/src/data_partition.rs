//! The data partition: finding it, judging it, mounting it, and what stands in for it when it cannot be used.
//!
//! Without it the system boots all the same: a file system in memory, bounded in size, is mounted in its place, so
//! everything else works as always, and what is written is gone with the power. The status says so.

pub(crate) mod format_mark;
pub mod superblock;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use superblock::{Content, HEAD_BYTES};
use yado_sys::mount::{FsOption, new_file_system};
use yado_sys::{loop_device, machine, mount, volume};
use yado_wire::{Failure, Step};

/// The partition's GPT name.
pub(crate) const PARTITION: &str = "data";

/// Its mount point.
pub(crate) const MOUNT_POINT: &str = "/data";

/// The stand-in is a sixth of the memory: on a 64 MB device some 10 MB, of which only what is written is used.
const VOLATILE_SHARE: u64 = 6;

/// The stand-in is not larger than this.
const MAX_VOLATILE_BYTES: u64 = 256 << 20;

/// With less room than this, a layer's directories cannot be counted on to be made.
const MIN_FREE_BYTES: u64 = 64 * 1024;

/// The block device with this GPT partition name.
pub(crate) fn find_partition(name: &str) -> Option<PathBuf> {
    let wanted = format!("PARTNAME={name}");
    let entries = fs::read_dir("/sys/class/block").ok()?;
    let found = entries.flatten().find(|entry| {
        fs::read_to_string(entry.path().join("uevent")).is_ok_and(|text| text.lines().any(|line| line == wanted))
    })?;
    Some(Path::new("/dev").join(found.file_name()))
}

/// What is on `device`. A formatting that was cut off counts as blank.
pub(crate) fn read_content(device: &Path) -> io::Result<Content> {
    if format_mark::is_set(device)? {
        return Ok(Content::Blank);
    }
    let mut head = Vec::with_capacity(HEAD_BYTES);
    File::open(device)?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(superblock::judge(&head))
}

/// Mounts `device`. This may replay a journal, before anything runs that could be kept waiting.
pub(crate) fn mount(device: &Path, kind: &str) -> Result<(), Failure> {
    let source = device.to_string_lossy();
    let attributes = mount::Attributes::MOUNT_ATTR_NOSUID | mount::Attributes::MOUNT_ATTR_NODEV;
    let failed = |reason: String, errno: Option<i32>| {
        let mut failure = Failure::refused(Step::Data, &source, &reason);
        failure.errno = errno.unwrap_or(0);
        failure
    };
    let options = [FsOption::Value("source", &source)];
    let mounted = new_file_system(kind, &options, attributes)
        .map_err(|error| failed(format!("mount as {kind}: {error}"), error.source.raw_os_error()))?;
    mount::attach_at(&mounted, MOUNT_POINT)
        .map_err(|error| failed(format!("mount on {MOUNT_POINT}: {error}"), error.raw_os_error()))
}

/// Makes the file for the stand-in, sparse.
pub(crate) fn create_volatile(path: &Path) -> io::Result<()> {
    let size = (machine::memory_bytes() / VOLATILE_SHARE).min(MAX_VOLATILE_BYTES);
    File::options().read(true).write(true).create(true).truncate(true).open(path)?.set_len(size)
}

/// Mounts the stand-in.
pub(crate) fn mount_volatile(path: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::from_io(Step::Data, &path.to_string_lossy(), &error);
    let file = File::options().read(true).write(true).open(path).map_err(failed)?;
    let device = loop_device::attach_writable(&file).map_err(failed)?;
    // The mount holds the device from here on, and the device the file.
    mount(Path::new(&device.path), "ext4")
}

/// The last resort, without mke2fs or loop devices: a tmpfs. Kernels before 6.3 cannot map owners on it, so only
/// privileged instances start there.
pub(crate) fn mount_tmpfs() -> Result<(), Failure> {
    let failed = |reason: &str| Failure::refused(Step::Data, MOUNT_POINT, reason);
    let size = (machine::memory_bytes() / VOLATILE_SHARE).min(MAX_VOLATILE_BYTES).to_string();
    let attributes = mount::Attributes::MOUNT_ATTR_NOSUID | mount::Attributes::MOUNT_ATTR_NODEV;
    let mounted = new_file_system("tmpfs", &[FsOption::Value("size", &size)], attributes)
        .map_err(|error| failed(&error.to_string()))?;
    mount::attach_at(&mounted, MOUNT_POINT).map_err(|error| failed(&error.to_string()))
}

/// Why the mounted data partition is as good as none, if it is.
pub(crate) fn fullness() -> Option<Failure> {
    match volume::usage(Path::new(MOUNT_POINT)) {
        Ok(usage) if usage.free_bytes < MIN_FREE_BYTES => {
            let reason = format!("full: {} of {} bytes are free", usage.free_bytes, usage.total_bytes);
            let mut failure = Failure::refused(Step::Data, MOUNT_POINT, &reason);
            // ENOSPC
            failure.errno = 28;
            Some(failure)
        }
        Ok(_) => None,
        Err(error) => Some(Failure::from_io(Step::Data, MOUNT_POINT, &error)),
    }
}
