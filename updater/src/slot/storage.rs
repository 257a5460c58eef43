//! Where an image is written: a partition or a file.
//!
//! It is read past the kernel's cache, because what was written is found in there even if the disk did not take it. On a block
//! device O_DIRECT is sure: the kernel writes what it holds changed of that part, and asks the device. A file system may say yes
//! to O_DIRECT and read through the cache all the same (ext4 with `data=journal`, f2fs with compression), or refuse it (a tmpfs of
//! old kernels): there the cache is asked to forget the part first, which it does but for pages that somebody else has mapped.
//! What lies in a file is checked by dm-verity at each start, too. What a device keeps in memory of its own nobody sees.
//!
//! It is written through the cache, and each piece is sent to the disk at once: so fetching and hashing go on while the disk
//! writes, and never more than [`MAX_UNWRITTEN_BYTES`] are in memory.

use rustix::fs::{Advice, OFlags};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use yado_sys::file_range;

/// What can be written and read back. In tests also one of which the power is cut.
pub trait Storage: Sync {
    /// What it is called.
    fn path(&self) -> &Path;
    /// Its length.
    fn bytes(&self) -> u64;
    /// Reads what is on the disk. The buffer begins at a page.
    ///
    /// # Errors
    /// What the kernel answers.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes; after the next flush it is on the disk.
    ///
    /// # Errors
    /// What the kernel answers, also about what was written before.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when everything is on the disk.
    ///
    /// # Errors
    /// What the kernel answers.
    fn flush(&mut self) -> io::Result<()>;
}

/// More would only take memory from others: the slowest card writes for a second or two.
const MAX_UNWRITTEN_BYTES: u64 = 8 << 20;

/// A partition or a file.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    file: File,
    /// The same once more, for reading past the cache; `None` where the file system knows nothing of that.
    direct: Option<File>,
    bytes: u64,
    /// What was sent to the disk, and not waited for.
    on_the_way: VecDeque<(u64, u64)>,
    on_the_way_bytes: u64,
}

impl Target {
    /// A block device. One that is mounted, or under dm-verity as the booted slot, is in use: the kernel answers `EBUSY`.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn open_device(path: &Path) -> io::Result<Target> {
        let mut file = File::options().read(true).write(true).custom_flags(OFlags::EXCL.bits() as i32).open(path)?;
        let bytes = file.seek(SeekFrom::End(0))?;
        Target::new(path, file, bytes)
    }

    /// A file that is open for reading and writing, and as long as the image that will be in it.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn of_file(file: File, path: &Path) -> io::Result<Target> {
        let bytes = file.metadata()?.len();
        Target::new(path, file, bytes)
    }

    fn new(path: &Path, file: File, bytes: u64) -> io::Result<Target> {
        let same = format!("/proc/self/fd/{}", file.as_raw_fd());
        let direct = match File::options().read(true).custom_flags(OFlags::DIRECT.bits() as i32).open(same) {
            Ok(direct) => Some(direct),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => None,
            Err(error) => return Err(error),
        };
        let path = path.to_owned();
        Ok(Target { path, file, direct, bytes, on_the_way: VecDeque::new(), on_the_way_bytes: 0 })
    }

    fn forget(&self, offset: u64, bytes: u64) {
        // Memory is all that is lost if the kernel does not do it.
        let _ = rustix::fs::fadvise(&self.file, offset, NonZeroU64::new(bytes), Advice::DontNeed);
    }
}

impl Storage for Target {
    fn path(&self) -> &Path {
        &self.path
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.forget(offset, buffer.len() as u64);
        self.direct.as_ref().unwrap_or(&self.file).read_exact_at(buffer, offset)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        let count = bytes.len() as u64;
        file_range::begin_writing(&self.file, offset, count)?;
        self.on_the_way.push_back((offset, count));
        self.on_the_way_bytes += count;
        while MAX_UNWRITTEN_BYTES < self.on_the_way_bytes {
            let Some((offset, count)) = self.on_the_way.pop_front() else { break };
            self.on_the_way_bytes -= count;
            file_range::wait_until_taken(&self.file, offset, count)?;
            self.forget(offset, count);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        // On a block device this also empties the device's own memory (a flush request).
        self.file.sync_data()?;
        self.on_the_way_bytes = 0;
        for (offset, count) in std::mem::take(&mut self.on_the_way) {
            self.forget(offset, count);
        }
        Ok(())
    }
}
