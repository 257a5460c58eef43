//! A mark in a partition's last 512 bytes while it is being formatted. A power cut in the middle leaves something that is
//! neither blank nor a file system; the mark tells that it is nobody's and may be formatted again.
//!
//! The mark is written and synced before the formatting begins, and taken away and synced before the new file system is
//! mounted for the first time: while it stands, there is nothing to lose. mke2fs does not write there (a file system's last
//! block is data, and no file has any yet).

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

const MARK: &[u8; 24] = b"yadokari formatting data";

const MARK_OFFSET_FROM_END: u64 = 512;

/// Whether the mark is there.
pub(crate) fn is_set(device: &Path) -> io::Result<bool> {
    let mut file = File::open(device)?;
    let mut found = [0; MARK.len()];
    let offset = mark_offset(&mut file)?;
    file.read_exact_at(&mut found, offset)?;
    Ok(found == *MARK)
}

/// Sets the mark.
pub(crate) fn set(device: &Path) -> io::Result<()> {
    write(device, MARK)
}

/// Takes it away.
pub(crate) fn clear(device: &Path) -> io::Result<()> {
    write(device, &[0; MARK.len()])
}

fn write(device: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().read(true).write(true).open(device)?;
    let offset = mark_offset(&mut file)?;
    file.write_all_at(bytes, offset)?;
    file.sync_all()
}

fn mark_offset(file: &mut File) -> io::Result<u64> {
    let size = file.seek(SeekFrom::End(0))?;
    size.checked_sub(MARK_OFFSET_FROM_END).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_set_found_and_taken_away() {
        let path = std::env::temp_dir().join(format!("yado-format-mark-{}", std::process::id()));
        std::fs::write(&path, [7; 2048]).unwrap();
        assert!(!is_set(&path).unwrap());
        set(&path).unwrap();
        assert!(is_set(&path).unwrap());
        clear(&path).unwrap();
        assert!(!is_set(&path).unwrap());
        assert_eq!(&std::fs::read(&path).unwrap()[..1536], [7; 1536]);
        std::fs::write(&path, [7; 100]).unwrap();
        assert!(is_set(&path).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
