//! A boot partition that is mounted where nobody sees it: at no place, and gone with its descriptor.

use super::BootFilesError;
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use yado_sys::directory_tree;
use yado_sys::mount::{Attributes, FsOption, new_file_system};
use yado_sys::{regular_file, volume};

/// More entries than any board has boot files; more are somebody's mistake.
const MAX_ENTRIES: usize = 1024;

/// ext4's own, at the top of each.
const LOST_AND_FOUND: &str = "lost+found";

/// Who is still at work after that is not one of ours.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The kernel does not tell when it is free.
const AGAIN: Duration = Duration::from_millis(10);

/// What a partition is mounted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Free room, and in what steps it is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) free_bytes: u64,
    pub(super) block_bytes: u64,
}

/// The partition, while it is mounted.
#[derive(Debug)]
pub(super) struct Mounted {
    mount: OwnedFd,
    device: PathBuf,
}

/// A file system that somebody else has mounted would be shared with us, cache and all.
pub(super) fn refuse_in_use(device: &Path) -> Result<(), BootFilesError> {
    let open = || File::options().read(true).custom_flags(OFlags::EXCL.bits() as i32).open(device);
    let opened = until_free(open, |error| error.kind() == io::ErrorKind::ResourceBusy);
    opened.map(drop).map_err(|source| BootFilesError::Device { device: device.to_owned(), source })
}

/// A mount ends when its last descriptor is closed, and a process that was just started may have a copy of ours until it executes its
/// program. As long as it lasts the kernel refuses to mount the same file system in another way: so never is one read through the
/// cache of the other.
fn until_free<T, E>(attempt: impl Fn() -> Result<T, E>, is_busy: impl Fn(&E) -> bool) -> Result<T, E> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(error) if is_busy(&error) && begun.elapsed() < BUSY_TIMEOUT => thread::sleep(AGAIN),
            answer => return answer,
        }
    }
}

impl Mounted {
    pub(super) fn mount(device: &Path, access: Access) -> Result<Mounted, BootFilesError> {
        let kind = kind_of(device)?;
        let path = device.to_string_lossy();
        let source = FsOption::Value("source", &path);
        // Nothing in it is executed here, nor leads elsewhere.
        let attributes = Attributes::MOUNT_ATTR_NOSUID
            .union(Attributes::MOUNT_ATTR_NODEV)
            .union(Attributes::MOUNT_ATTR_NOEXEC)
            .union(Attributes::MOUNT_ATTR_NOATIME)
            .union(Attributes::MOUNT_ATTR_NOSYMFOLLOW);
        let mount = || match access {
            Access::Read => {
                let attributes = attributes.union(Attributes::MOUNT_ATTR_RDONLY);
                new_file_system(kind, &[source, FsOption::Flag("ro")], attributes)
            }
            Access::Write => new_file_system(kind, &[source], attributes),
        };
        let mounted = until_free(mount, |error| error.source.kind() == io::ErrorKind::ResourceBusy);
        let mount = mounted.map_err(|source| BootFilesError::Mount { device: device.to_owned(), kind, source })?;
        Ok(Mounted { mount, device: device.to_owned() })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.mount.as_raw_fd()).into()
    }

    pub(super) fn usage(&self) -> Result<Usage, BootFilesError> {
        let top = self.path("");
        let usage = volume::usage(&top).map_err(|source| self.failed(source))?;
        let block_bytes = fs::metadata(&top).map_err(|source| self.failed(source))?.blksize().max(512);
        Ok(Usage { free_bytes: usage.free_bytes, block_bytes })
    }

    /// Names and lengths of all that is at the top. A name that is no text is nobody's.
    pub(super) fn entries(&self) -> Result<Vec<(String, u64)>, BootFilesError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.path("")).map_err(|source| self.failed(source))?.take(MAX_ENTRIES) {
            let entry = entry.map_err(|source| self.failed(source))?;
            let name = entry.file_name().into_string();
            let name = name.map_err(|_| self.failed(io::Error::other("a file there has no name that is text")))?;
            if name != LOST_AND_FOUND {
                let bytes = entry.metadata().map_err(|source| self.failed(source))?.len();
                found.push((name, bytes));
            }
        }
        Ok(found)
    }

    /// SHA-256 of a file; `None`: there is none that can be read.
    pub(super) fn sha256(&self, name: &str) -> Result<Option<[u8; 32]>, BootFilesError> {
        let Ok(mut file) = regular_file::open(&self.path(name)) else { return Ok(None) };
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 128 * 1024]);
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Some(hash.finalize().into())),
                Ok(count) => hash.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A bad sector: the file is written anew, perhaps elsewhere.
                Err(_) => return Ok(None),
            }
        }
    }

    /// Removes whatever has this name.
    pub(super) fn remove(&self, name: &str) -> Result<(), BootFilesError> {
        let path = self.path(name);
        let failed = |source| BootFilesError::Remove { name: name.to_owned(), source };
        match fs::symlink_metadata(&path).map_err(failed)?.is_dir() {
            true => directory_tree::remove_all(&path).map(drop).map_err(failed),
            false => fs::remove_file(&path).map_err(failed),
        }
    }

    /// Removes the old file of this name if the new one does not fit beside it, and what is no file.
    pub(super) fn make_room(&self, name: &str, bytes: Option<u64>) -> Result<(), BootFilesError> {
        let Ok(found) = fs::symlink_metadata(self.path(name)) else { return Ok(()) };
        let Usage { free_bytes, block_bytes } = self.usage()?;
        // One block more: names take some too.
        let fits = bytes.is_some_and(|bytes| bytes.next_multiple_of(block_bytes) + block_bytes <= free_bytes);
        if found.is_file() && fits { Ok(()) } else { self.remove(name) }
    }

    /// All of it is on the disk then.
    pub(super) fn sync(&self) -> Result<(), BootFilesError> {
        let synced = File::open(self.path("")).and_then(|top| Ok(rustix::fs::syncfs(&top)?));
        synced.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> BootFilesError {
        BootFilesError::Device { device: self.device.clone(), source }
    }
}

/// What kind of file system it is, by its first bytes.
fn kind_of(device: &Path) -> Result<&'static str, BootFilesError> {
    // ext4(5): `s_magic`, 56 bytes into the superblock, which is 1024 bytes into the device.
    const EXT4: (u64, [u8; 2]) = (1024 + 56, [0x53, 0xef]);
    // The end of a boot sector, of FAT as of others; FAT's own name stands at one of two places.
    const BOOT_SECTOR: (u64, [u8; 2]) = (510, [0x55, 0xaa]);
    const FAT: [(u64, [u8; 3]); 2] = [(54, *b"FAT"), (82, *b"FAT")];
    let failed = |source| BootFilesError::Device { device: device.to_owned(), source };
    let file = File::open(device).map_err(failed)?;
    let mut start = [0; 2048];
    file.read_exact_at(&mut start, 0).map_err(failed)?;
    let stands = |(offset, bytes): (u64, &[u8])| start[offset as usize..].starts_with(bytes);
    if stands((EXT4.0, &EXT4.1)) {
        Ok("ext4")
    } else if stands((BOOT_SECTOR.0, &BOOT_SECTOR.1)) && FAT.iter().any(|(offset, name)| stands((*offset, name))) {
        Ok("vfat")
    } else {
        Err(BootFilesError::NoFileSystem { device: device.to_owned() })
    }
}
