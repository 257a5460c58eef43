//! Loop devices: a file as a block device that is gone when its last user is.

use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

/// How often another process may be quicker to take the free device that we were told of.
const ATTEMPTS: u32 = 64;

/// What the image's file system is made of; a smaller logical block would only mean more requests.
const BLOCK_BYTES: u32 = 4096;

// <linux/loop.h>
const LOOP_CLR_FD: u32 = 0x4C01;
const LOOP_CTL_GET_FREE: u32 = 0x4C82;
const LOOP_CONFIGURE: u32 = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// A loop device that the kernel frees once nobody has it open, mounted or mapped any more.
#[derive(Debug)]
pub struct LoopDevice {
    /// Holds it.
    pub file: File,
    /// Its node.
    pub path: String,
}

/// Makes a read-only block device of `image`.
pub fn attach_read_only(image: &impl AsFd) -> io::Result<LoopDevice> {
    attach(image, LO_FLAGS_READ_ONLY)
}

/// Makes a writable block device of `image`, which must be open for reading and writing.
pub fn attach_writable(image: &impl AsFd) -> io::Result<LoopDevice> {
    attach(image, 0)
}

fn attach(image: &impl AsFd, flags: u32) -> io::Result<LoopDevice> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    for _ in 0..ATTEMPTS {
        // SAFETY: this request takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = format!("/dev/loop{number}");
        let file = File::options().read(true).write(flags & LO_FLAGS_READ_ONLY == 0).open(&path)?;
        match configure(&file, image, flags) {
            Ok(()) => return Ok(LoopDevice { file, path }),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::BUSY.into())
}

/// Takes the file away from the loop device at `path`, now or when its last user is gone. `ENXIO`: it has none.
pub fn detach(path: &Path) -> io::Result<()> {
    let device = File::open(path)?;
    // SAFETY: this request takes no argument.
    if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD as _) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn configure(device: &File, image: &impl AsFd, flags: u32) -> io::Result<()> {
    // SAFETY: all zero is a valid value of this struct of integers.
    let mut config: LoopConfig = unsafe { std::mem::zeroed() };
    config.fd = image.as_fd().as_raw_fd() as u32;
    config.block_size = BLOCK_BYTES;
    config.info.flags = flags | LO_FLAGS_AUTOCLEAR;
    // SAFETY: `config` is live, laid out as `struct loop_config`, and only read.
    if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn the_structs_are_as_long_as_the_kernels() {
        // offsetof and sizeof of <linux/loop.h>, the same on every architecture.
        assert_eq!((size_of::<LoopInfo64>(), size_of::<LoopConfig>()), (232, 304));
    }

    #[test]
    fn a_file_is_a_block_device_until_it_is_closed() {
        if !rustix::process::geteuid().is_root() || !std::path::Path::new("/dev/loop-control").exists() {
            println!("SKIPPED: needs root and /dev/loop-control");
            return;
        }
        let path = std::env::temp_dir().join(format!("yado-loop-{}", std::process::id()));
        std::fs::write(&path, [0x5A; 8192]).unwrap();
        let device = attach_read_only(&File::open(&path).unwrap()).unwrap();
        let mut block = [0; 4096];
        device.file.read_exact_at(&mut block, 4096).unwrap();
        assert_eq!(block, [0x5A; 4096]);
        let write = File::options().write(true).open(&device.path).and_then(|file| file.write_at(&block, 0));
        assert_eq!(write.unwrap_err().raw_os_error(), Some(libc::EPERM));
        std::fs::remove_file(&path).unwrap();
    }
}
