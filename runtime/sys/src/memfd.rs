//! Sealed memory files: a message too long for a packet, that nobody can change once it is handed over.

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

/// A sealed file that holds `bytes`. `name` is seen in `/proc/PID/fd` only.
pub fn sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(bytes)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file.into())
}

/// All bytes of a sealed file, from its beginning. `EPERM`: its writer could still change it; `EFBIG`: longer than
/// `limit_bytes`.
pub fn read_sealed(descriptor: &impl AsFd, limit_bytes: u64) -> io::Result<Vec<u8>> {
    match read_sealed_beginning(descriptor, limit_bytes)? {
        Beginning { bytes, is_all: true } => Ok(bytes),
        Beginning { is_all: false, .. } => Err(Errno::FBIG.into()),
    }
}

/// The first bytes of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Beginning {
    /// They.
    pub bytes: Vec<u8>,
    /// There are no more.
    pub is_all: bool,
}

/// The first bytes of a sealed file, at most `max_bytes`. `EPERM`: its writer could still change it.
pub fn read_sealed_beginning(descriptor: &impl AsFd, max_bytes: u64) -> io::Result<Beginning> {
    // Of what is no memfd there are none (`EINVAL`).
    let seals = rustix::fs::fcntl_get_seals(descriptor)?;
    if !seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE) {
        return Err(Errno::PERM.into());
    }
    let len = u64::try_from(rustix::fs::fstat(descriptor)?.st_size).unwrap_or(0);
    // Not by the file's offset: that is shared with the writer, who left it at the end.
    let mut bytes = vec![0; len.min(max_bytes) as usize];
    let mut done = 0_usize;
    while let Some(rest @ [_, ..]) = bytes.get_mut(done..) {
        match rustix::io::pread(descriptor, rest, done as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => done = count.saturating_add(done),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Beginning { bytes, is_all: len <= max_bytes })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_read_and_cannot_be_changed() {
        let memory = sealed("test", b"bytes").unwrap();
        assert_eq!(rustix::io::write(&memory, b"x").unwrap_err(), Errno::PERM);
        assert_eq!(read_sealed(&memory, 5).unwrap(), b"bytes");
    }

    #[test]
    fn an_unsealed_or_overlong_file_is_refused() {
        let open = rustix::fs::memfd_create("open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert_eq!(read_sealed(&open, 5).unwrap_err().raw_os_error(), Some(libc::EPERM));
        let open = rustix::fs::memfd_create("open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert_eq!(read_sealed_beginning(&open, 5).unwrap_err().raw_os_error(), Some(libc::EPERM));
        // Each seal that is missing is a way to change it.
        let all = [SealFlags::SHRINK, SealFlags::GROW, SealFlags::WRITE];
        for missing in all {
            let file = rustix::fs::memfd_create("nearly", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
            let seals = all.into_iter().filter(|seal| *seal != missing).fold(SealFlags::SEAL, |all, seal| all | seal);
            rustix::fs::fcntl_add_seals(&file, seals).unwrap();
            assert_eq!(read_sealed(&file, 5).unwrap_err().raw_os_error(), Some(libc::EPERM), "without {missing:?}");
        }
        let long = sealed("long", b"123456").unwrap();
        assert_eq!(read_sealed(&long, 5).unwrap_err().raw_os_error(), Some(libc::EFBIG));
    }

    #[test]
    fn of_an_overlong_file_the_beginning_can_be_had() {
        for (max_bytes, bytes, is_all) in [(5, &b"12345"[..], false), (6, b"123456", true), (7, b"123456", true)] {
            let beginning = read_sealed_beginning(&sealed("long", b"123456").unwrap(), max_bytes).unwrap();
            assert_eq!(beginning, Beginning { bytes: bytes.to_vec(), is_all });
        }
    }
}
