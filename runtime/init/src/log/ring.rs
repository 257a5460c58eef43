//! The last records of one source, in a file on tmpfs: it uses the kernel's memory and not ours, and is still there after a crash
//! of this process. A record is stored as the bytes of the reply that carries it to a reader, so reading is copying.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Each record is preceded by its length as 32 bits.
const HEAD_BYTES: u64 = 4;

/// The ring. Positions count bytes since it was opened and never wrap.
#[derive(Debug)]
pub(crate) struct LogRing {
    file: File,
    capacity: u64,
    /// Where the oldest record begins.
    tail: u64,
    /// Where the next record will begin.
    head: u64,
}

impl LogRing {
    /// Opens an empty ring of so many bytes at `path`.
    pub(crate) fn create(path: &Path, capacity: u64) -> io::Result<LogRing> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(LogRing { file, capacity, tail: 0, head: 0 })
    }

    /// Where the next record will begin: a reader that is here has read all.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Where the oldest record begins.
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    /// Adds a record, which is `beginning` and then `rest`; as many of the oldest go as it needs room.
    pub(crate) fn append(&mut self, beginning: &[u8], rest: &[u8]) -> io::Result<()> {
        let len = beginning.len().saturating_add(rest.len());
        let needed = HEAD_BYTES.saturating_add(len as u64);
        if self.capacity < needed {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        while self.capacity < self.head.saturating_add(needed).saturating_sub(self.tail) {
            self.tail = behind(self.tail, self.len_at(self.tail)?);
        }
        // One write: whoever prints much has PID 1 do this for each line.
        self.write_at(&[&(len as u32).to_le_bytes(), beginning, rest].concat(), self.head)?;
        // Only now does the record exist; a write that failed half way is written over by the next.
        self.head = self.head.saturating_add(needed);
        Ok(())
    }

    /// Reads the record at `position` into `buffer`: its length there, and the position of the next. A reader that was
    /// overtaken goes on at the oldest. `None`: there is nothing there yet.
    pub(crate) fn read(&self, position: u64, buffer: &mut Vec<u8>) -> io::Result<Option<u64>> {
        let position = position.max(self.tail);
        if self.head <= position {
            return Ok(None);
        }
        let len = self.len_at(position)?;
        buffer.clear();
        buffer.resize(len as usize, 0);
        self.read_at(buffer, behind(position, 0))?;
        Ok(Some(behind(position, len)))
    }

    /// Reads the beginning of the record at `position`, as [`LogRing::read`] would find it. `false`: there is none.
    pub(crate) fn peek(&self, position: u64, beginning: &mut [u8]) -> io::Result<bool> {
        let position = position.max(self.tail);
        if self.head <= position {
            return Ok(false);
        }
        if self.len_at(position)? < beginning.len() as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.read_at(beginning, behind(position, 0))?;
        Ok(true)
    }

    fn len_at(&self, position: u64) -> io::Result<u64> {
        let mut head = [0; HEAD_BYTES as usize];
        self.read_at(&mut head, position)?;
        let len = u64::from(u32::from_le_bytes(head));
        // We wrote it; but the file is a file, and nothing that somebody does to it may make us loop or allocate.
        if self.head < behind(position, len) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(len)
    }

    /// Where in the file a position is, and how many bytes the file has from there on.
    fn place_of(&self, position: u64) -> (u64, usize) {
        let offset = position.checked_rem(self.capacity).unwrap_or(0);
        (offset, self.capacity.saturating_sub(offset) as usize)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let (offset, room) = self.place_of(position);
        let (first, rest) = bytes.split_at(bytes.len().min(room));
        self.file.write_all_at(first, offset)?;
        self.file.write_all_at(rest, 0)
    }

    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<()> {
        let (offset, room) = self.place_of(position);
        let (first, rest) = bytes.split_at_mut(bytes.len().min(room));
        self.file.read_exact_at(first, offset)?;
        self.file.read_exact_at(rest, 0)
    }
}

/// The position behind the head of a record that begins here, and so many of its bytes.
fn behind(position: u64, len: u64) -> u64 {
    position.saturating_add(HEAD_BYTES).saturating_add(len)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_records_stay_whole_whatever_their_lengths() {
        let path = std::env::temp_dir().join(format!("yado-log-ring-{}", std::process::id()));
        let mut ring = LogRing::create(&path, 100).unwrap();
        let mut buffer = Vec::new();
        assert_eq!(ring.read(0, &mut buffer).unwrap(), None);
        for number in 0..200u8 {
            let record = vec![number; usize::from(number) % 31];
            ring.append(&[], &record).unwrap();
            let mut position = ring.tail();
            let mut last = None;
            while let Some(next) = ring.read(position, &mut buffer).unwrap() {
                assert!(buffer.iter().all(|byte| usize::from(*byte) % 31 == buffer.len()), "{buffer:?}");
                position = next;
                last = Some(buffer.clone());
            }
            assert_eq!(last, Some(record));
        }
        // A reader that slept goes on at the oldest, and a record that could never fit is refused.
        assert!(ring.read(0, &mut buffer).unwrap().is_some());
        assert!(ring.append(&[0; 48], &[0; 49]).is_err());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_ring_that_somebody_cut_off_gives_errors_and_takes_new_records() {
        let path = std::env::temp_dir().join(format!("yado-log-ring-cut-{}", std::process::id()));
        let mut ring = LogRing::create(&path, 100).unwrap();
        ring.append(b"", b"one").unwrap();
        File::options().write(true).truncate(true).open(&path).unwrap();
        assert!(ring.read(0, &mut Vec::new()).is_err());
        ring.append(b"", b"two").unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
