//! File systems as a whole: how full, of which kind, and putting them on the disk.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How full a file system is, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Size.
    pub total_bytes: u64,
    /// Free for ordinary users.
    pub free_bytes: u64,
    /// How many files it can hold; 0 if that is not fixed.
    pub total_files: u64,
    /// How many more.
    pub free_files: u64,
    /// `f_type` of statfs(2).
    pub magic: u64,
}

/// `f_type` of tmpfs and ramfs: what an initramfs lives in.
pub const TMPFS_MAGIC: u64 = 0x0102_1994;
/// See [`TMPFS_MAGIC`].
pub const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// Usage of the file system that holds `path`.
pub fn usage(path: &Path) -> io::Result<Usage> {
    let found = rustix::fs::statfs(path)?;
    // The width of these fields differs between architectures.
    let block_bytes = found.f_bsize as u64;
    Ok(Usage {
        total_bytes: block_bytes.saturating_mul(found.f_blocks as u64),
        free_bytes: block_bytes.saturating_mul(found.f_bavail as u64),
        total_files: found.f_files as u64,
        free_files: found.f_ffree as u64,
        magic: u64::from(found.f_type as u32),
    })
}

/// Major and minor number of the block device that holds `path`. File systems that are on none, or on several, have a major
/// number of 0.
pub fn device_number(path: &Path) -> io::Result<(u32, u32)> {
    let device = std::fs::metadata(path)?.dev();
    Ok((rustix::fs::major(device), rustix::fs::minor(device)))
}

/// Writes all file systems to their disks.
pub fn sync_all() {
    rustix::fs::sync();
}
