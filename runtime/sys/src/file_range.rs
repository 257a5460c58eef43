//! Sending a part of a file to the disk while the next one is made, so that neither waits for the other, and memory holds only
//! little that is not yet written.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Begins to write what was changed in this part, and waits for nothing but a place in the device's queue.
pub fn begin_writing(file: &impl AsFd, offset: u64, bytes: u64) -> io::Result<()> {
    sync(file, offset, bytes, libc::SYNC_FILE_RANGE_WRITE)
}

/// Waits until the device has taken what was changed in this part. It may still be in the device's own memory: only a sync of the
/// whole file empties that, and makes the file's length and place last too (sync_file_range(2), "Warning").
pub fn wait_until_taken(file: &impl AsFd, offset: u64, bytes: u64) -> io::Result<()> {
    let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync(file, offset, bytes, all)
}

fn sync(file: &impl AsFd, offset: u64, bytes: u64, flags: libc::c_uint) -> io::Result<()> {
    let (offset, bytes) = match (i64::try_from(offset), i64::try_from(bytes)) {
        (Ok(offset), Ok(bytes)) => (offset, bytes),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    // SAFETY: the call takes numbers only, and the descriptor is borrowed for its length.
    if unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), offset, bytes, flags) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_can_be_sent_in_parts_and_a_pipe_cannot() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 100_000]).unwrap();
        begin_writing(&file, 4096, 8192).unwrap();
        wait_until_taken(&file, 0, 100_000).unwrap();
        let (_reader, writer) = rustix::pipe::pipe().unwrap();
        let refused = begin_writing(&writer, 0, 1).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ESPIPE));
        let refused = begin_writing(&file, u64::MAX, 1).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
}
