//! Whether anybody could change a file without opening it first: a read lease (`F_SETLEASE` of fcntl(2)) is granted only while
//! nobody has the file open for writing, and a mapping through which one can write keeps it open.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Whether somebody has the file open for writing, or mapped so. `file` must be open for reading only.
///
/// `EACCES`: neither is the file ours nor have we `CAP_LEASE`. `EINVAL`: this file system has no leases.
pub fn has_writer(file: &impl AsFd) -> io::Result<bool> {
    match set_lease(file, libc::F_RDLCK) {
        Ok(()) => set_lease(file, libc::F_UNLCK).map(|()| false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

fn set_lease(file: &impl AsFd, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is live for the call, and F_SETLEASE takes a number and no pointer.
    if unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_SETLEASE, kind) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustix::mm::{MapFlags, ProtFlags};
    use std::fs::File;

    #[test]
    fn who_has_it_open_or_mapped_for_writing_is_seen() {
        let path = std::env::temp_dir().join(format!("yado-lease-{}", std::process::id()));
        std::fs::write(&path, [0; 4096]).unwrap();
        let file = File::open(&path).unwrap();
        assert!(!has_writer(&file).unwrap());
        let writer = File::options().read(true).write(true).open(&path).unwrap();
        assert!(has_writer(&file).unwrap());
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address, so nothing of ours is replaced; the mapping is not touched.
        let mapped =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), 4096, protection, MapFlags::SHARED, &writer, 0) }
                .unwrap();
        drop(writer);
        assert!(has_writer(&file).unwrap(), "by the mapping");
        // SAFETY: it is our mapping of this length, and nothing refers to it.
        unsafe { rustix::mm::munmap(mapped, 4096) }.unwrap();
        let reader = File::open(&path).unwrap();
        assert!(!has_writer(&file).unwrap());
        drop(reader);
        std::fs::remove_file(&path).unwrap();
    }
}
