//! Mounts as a whole system moves them: into the real root after the initramfs, and away at shutdown.

use rustix::mount::{MountFlags, UnmountFlags};
use std::io;
use std::path::Path;

/// Moves the mount at `from` (with all below it) to `to`.
pub fn move_mount(from: &Path, to: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_move(from, to)?)
}

/// Takes the mount at `target` away. `EBUSY`: somebody uses it.
pub fn unmount(target: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(target, UnmountFlags::NOFOLLOW)?)
}

/// Makes the file system at `target` read-only: what was written is on the disk, and nothing more will be. `EBUSY`:
/// somebody writes.
pub fn remount_read_only(target: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(target, MountFlags::RDONLY, c"")?)
}
