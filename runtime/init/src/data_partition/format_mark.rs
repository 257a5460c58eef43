//! A mark in the last 512 bytes of a partition while it is being formatted. A power cut during that leaves something that is
//! neither blank nor a file system; the mark says that it holds no data and may be formatted again.
//!
//! The mark is written and synced before formatting begins, and removed and synced before the new file system is mounted for the
//! first time: as long as it exists, there is no data to lose. The file system ends before the mark: mke2fs wipes the end of what
//! it formats, and the last block of a file system may hold a container's file, which could look like a mark. If a file system
//! does cover the last bytes, because it was made over the whole partition, they do not count as a mark.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

const MARK: &[u8; 24] = b"yadokari formatting data";

const MARK_OFFSET_FROM_END: u64 = 512;

/// So much at the end is not the file system's: a sector of a disk with large ones, so that the mark has one for itself.
const RESERVED_BYTES: u64 = 4096;

/// Where a mark stands, from the partition's start. It is one only if no file system covers the place.
pub(crate) fn find(device: &Path) -> io::Result<Option<u64>> {
    let mut file = File::open(device)?;
    let mut found = [0; MARK.len()];
    let offset = offset_from_end(&mut file, MARK_OFFSET_FROM_END)?;
    file.read_exact_at(&mut found, offset)?;
    Ok((found == *MARK).then_some(offset))
}

/// Sets the mark. The file system may have as many KiB as are returned.
pub(crate) fn set(device: &Path) -> io::Result<u64> {
    let room_bytes = offset_from_end(&mut File::open(device)?, RESERVED_BYTES)?;
    write(device, MARK)?;
    Ok(room_bytes / 1024)
}

/// Takes it away.
pub(crate) fn clear(device: &Path) -> io::Result<()> {
    write(device, &[0; MARK.len()])
}

fn write(device: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().read(true).write(true).open(device)?;
    let offset = offset_from_end(&mut file, MARK_OFFSET_FROM_END)?;
    file.write_all_at(bytes, offset)?;
    file.sync_all()
}

fn offset_from_end(file: &mut File, bytes: u64) -> io::Result<u64> {
    let size = file.seek(SeekFrom::End(0))?;
    size.checked_sub(bytes).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_set_found_and_taken_away() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        std::fs::write(path, [7; 9000]).unwrap();
        assert_eq!(find(path).unwrap(), None);
        // 9000 - 4096 bytes are left, in whole KiB.
        assert_eq!(set(path).unwrap(), 4);
        assert_eq!(find(path).unwrap(), Some(9000 - 512));
        clear(path).unwrap();
        assert_eq!(find(path).unwrap(), None);
        assert_eq!(&std::fs::read(path).unwrap()[..9000 - 512], [7; 9000 - 512]);
        // Too short for a file system and the mark; nothing is written.
        std::fs::write(path, [7; 4000]).unwrap();
        assert!(set(path).is_err());
        assert_eq!(std::fs::read(path).unwrap(), [7; 4000]);
        std::fs::write(path, [7; 100]).unwrap();
        assert!(find(path).is_err());
    }
}
