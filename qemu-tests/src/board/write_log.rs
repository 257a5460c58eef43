//! All that a board wrote to its disk, in order, as QEMU's `blklogwrites` notes it, and the disk as it may be after the power went
//! away at any moment of that.
//!
//! The format is that of the kernel's dm-log-writes: Documentation/admin-guide/device-mapper/log-writes.rst, with the structures and
//! flags of drivers/md/dm-log-writes.c. All numbers are little-endian; each entry begins a sector, and its data the next one.

use super::disk::copy_sparse;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What QEMU is told to note by; disks are written in these.
pub const SECTOR_BYTES: u64 = 512;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const DISCARD: u64 = 1 << 2;
/// Copied at once.
const CHUNK_BYTES: usize = 1 << 20;

/// What was written.
#[derive(Debug)]
pub struct WriteLog {
    file: File,
    entries: Vec<Entry>,
}

/// One thing that the board asked of its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Data was written.
    Write {
        /// To this byte of the disk.
        offset: u64,
        /// So much.
        bytes: u64,
        /// Where in the log the data is.
        data_at: u64,
    },
    /// What was written before is on the disk from here on.
    Flush,
    /// What the disk need not obey, and does not.
    Discard,
}

/// A moment at which the power goes away, and what is then on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// So many entries of the log had been begun.
    pub after: usize,
    /// What became of the last ones.
    pub manner: Manner,
}

/// What is on a disk whose power went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// All that was written.
    Whole,
    /// Of the last write only its first sectors, so many as this number leads to.
    Torn(u64),
    /// Of what was not flushed each write is there, is not there, or is torn, as this number leads to.
    Reordered(u64),
}

/// A disk to which the log is applied bit by bit.
#[derive(Debug)]
pub struct Replay<'a> {
    log: &'a WriteLog,
    /// As it is after the first entries, up to a flush.
    flushed: File,
    flushed_path: PathBuf,
    applied: usize,
}

impl WriteLog {
    /// Reads what there is now.
    ///
    /// # Errors
    /// Those of the kernel; a log of another format.
    pub fn read(path: &Path) -> io::Result<WriteLog> {
        let file = File::open(path)?;
        let count = count(&file)?;
        let mut entries = Vec::new();
        let mut at = SECTOR_BYTES;
        for _ in 0..count {
            let mut head = [0; 32];
            file.read_exact_at(&mut head, at)?;
            let [sector, sectors, flags, _] = numbers(&head);
            at += SECTOR_BYTES;
            let bytes = sectors * SECTOR_BYTES;
            entries.push(match (flags, sectors) {
                (DISCARD, _) => Entry::Discard,
                (FLUSH, 0) => Entry::Flush,
                (0, 1..) => Entry::Write { offset: sector * SECTOR_BYTES, bytes, data_at: at },
                _ => return Err(invalid(&format!("an entry of {sectors} sectors with the flags {flags}"))),
            });
            if flags != DISCARD {
                at += bytes;
            }
        }
        Ok(WriteLog { file, entries })
    }

    /// How many entries a log has now that is still written.
    pub fn count_now(path: &Path) -> io::Result<u64> {
        count(&File::open(path)?)
    }

    /// All of it, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Writes the first bytes of a write's data to where it belongs; a flush writes nothing.
    fn apply(&self, disk: &File, entry: Entry, most_bytes: u64) -> io::Result<()> {
        let Entry::Write { offset, bytes, data_at } = entry else { return Ok(()) };
        let end = bytes.min(most_bytes);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut done = 0;
        while done < end {
            let length = (end - done).min(CHUNK_BYTES as u64);
            let part = &mut chunk[..length as usize];
            self.file.read_exact_at(part, data_at + done)?;
            disk.write_all_at(part, offset + done)?;
            done += length;
        }
        Ok(())
    }
}

impl<'a> Replay<'a> {
    /// Of a log, from the disk on which it begins; a copy of that is made at `flushed`.
    pub fn new(log: &'a WriteLog, begin: &Path, flushed: &Path) -> io::Result<Replay<'a>> {
        copy_sparse(begin, flushed)?;
        let file = File::options().read(true).write(true).open(flushed)?;
        Ok(Replay { log, flushed: file, flushed_path: flushed.to_owned(), applied: 0 })
    }

    /// Makes a disk at `to` as it may be after a cut, which must not come before the last one's last flush.
    pub fn make(&mut self, cut: Cut, to: &Path) -> io::Result<()> {
        let before = self.log.entries.get(..cut.after).ok_or(io::ErrorKind::InvalidInput)?;
        let flushed = before.iter().rposition(|entry| *entry == Entry::Flush).map_or(0, |last| last + 1);
        if flushed < self.applied {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the disk is further than this cut"));
        }
        for entry in &before[self.applied..flushed] {
            self.log.apply(&self.flushed, *entry, u64::MAX)?;
        }
        self.applied = flushed;
        copy_sparse(&self.flushed_path, to)?;
        let disk = File::options().write(true).open(to)?;
        let unflushed = &before[flushed..];
        let mut chance = cut.manner.chance();
        for (place, entry) in unflushed.iter().enumerate() {
            let Entry::Write { bytes, .. } = entry else { continue };
            let kept = cut.manner.kept_bytes(*bytes, place + 1 == unflushed.len(), &mut chance);
            self.log.apply(&disk, *entry, kept)?;
        }
        Ok(())
    }
}

impl Manner {
    /// By which it is decided what is lost.
    fn chance(self) -> fastrand::Rng {
        match self {
            Manner::Whole => fastrand::Rng::with_seed(0),
            Manner::Torn(seed) | Manner::Reordered(seed) => fastrand::Rng::with_seed(seed),
        }
    }

    /// How much of a write is on the disk.
    fn kept_bytes(self, bytes: u64, is_last: bool, chance: &mut fastrand::Rng) -> u64 {
        let some = |chance: &mut fastrand::Rng| SECTOR_BYTES * chance.u64(0..=bytes / SECTOR_BYTES);
        match self {
            Manner::Whole => bytes,
            Manner::Torn(_) => {
                if is_last {
                    some(chance)
                } else {
                    bytes
                }
            }
            Manner::Reordered(_) => match chance.u8(0..4) {
                0 => some(chance),
                1 | 2 => 0,
                _ => bytes,
            },
        }
    }
}

fn count(log: &File) -> io::Result<u64> {
    let mut head = [0; 32];
    log.read_exact_at(&mut head, 0)?;
    let [magic, version, count, sector_bytes] = numbers(&head);
    // The last one has 32 bits, and what follows is zero.
    if (magic, version, sector_bytes) == (MAGIC, VERSION, SECTOR_BYTES) {
        Ok(count)
    } else {
        Err(invalid("another format, version or size of sectors"))
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} in a log of writes"))
}

fn numbers(head: &[u8; 32]) -> [u64; 4] {
    let mut words = head.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
    std::array::from_fn(|_| words.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// As QEMU 7.2 writes it.
    fn log(folder: &Path, entries: &[(u64, &[u8], u64)]) -> WriteLog {
        let path = folder.join("log");
        let head = |numbers: [u64; 4]| {
            let mut sector = numbers.map(u64::to_le_bytes).concat();
            sector.resize(SECTOR_BYTES as usize, 0);
            sector
        };
        let mut bytes = head([MAGIC, VERSION, entries.len() as u64, SECTOR_BYTES]);
        for (sector, data, flags) in entries {
            bytes.extend(head([*sector, data.len() as u64 / SECTOR_BYTES, *flags, 0]));
            bytes.extend(*data);
        }
        std::fs::write(&path, bytes).unwrap();
        WriteLog::read(&path).unwrap()
    }

    fn sector(fill: u8) -> Vec<u8> {
        vec![fill; SECTOR_BYTES as usize]
    }

    #[test]
    fn a_log_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), &[(3, &sector(7), 0), (0, &[], FLUSH), (9, &[], DISCARD)]);
        assert_eq!(
            log.entries(),
            [Entry::Write { offset: 1536, bytes: 512, data_at: 1024 }, Entry::Flush, Entry::Discard]
        );
        assert_eq!(WriteLog::count_now(&folder.path().join("log")).unwrap(), 3);
        std::fs::write(folder.path().join("other"), sector(1)).unwrap();
        WriteLog::read(&folder.path().join("other")).unwrap_err();
    }

    #[test]
    fn what_was_flushed_is_there_and_of_the_rest_what_chance_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let two = [sector(2), sector(3)].concat();
        let log = log(folder.path(), &[(0, &sector(1), 0), (0, &[], FLUSH), (1, &two, 0), (0, &sector(4), 0)]);
        let (begin, to) = (folder.path().join("begin"), folder.path().join("to"));
        std::fs::write(&begin, vec![9; 4 * SECTOR_BYTES as usize]).unwrap();
        let mut replay = Replay::new(&log, &begin, &folder.path().join("flushed")).unwrap();
        let mut disk = |after: usize, manner: Manner| {
            replay.make(Cut { after, manner }, &to).unwrap();
            let bytes = std::fs::read(&to).unwrap();
            [0, 1, 2, 3].map(|sector| bytes[sector * SECTOR_BYTES as usize])
        };
        assert_eq!(disk(0, Manner::Whole), [9, 9, 9, 9]);
        assert_eq!(disk(1, Manner::Whole), [1, 9, 9, 9]);
        assert_eq!(disk(3, Manner::Whole), [1, 2, 3, 9]);
        assert_eq!(disk(4, Manner::Whole), [4, 2, 3, 9]);
        let torn: Vec<[u8; 4]> = (0..50).map(|seed| disk(3, Manner::Torn(seed))).collect();
        for found in [[1, 9, 9, 9], [1, 2, 9, 9], [1, 2, 3, 9]] {
            assert!(torn.contains(&found), "{found:?} of {torn:?}");
        }
        let reordered: Vec<[u8; 4]> = (0..100).map(|seed| disk(4, Manner::Reordered(seed))).collect();
        for found in [[1, 9, 9, 9], [4, 9, 9, 9], [1, 2, 3, 9], [4, 2, 9, 9]] {
            assert!(reordered.contains(&found), "{found:?} of {reordered:?}");
        }
        let back = replay.make(Cut { after: 1, manner: Manner::Whole }, &to);
        assert_eq!(back.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
