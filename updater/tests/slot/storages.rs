//! Targets of which the power is cut: what was written and not flushed is there, or not, or in part.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use yado_updater::slot::{Storage, Target};

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// A partition in a file: real bytes on a real file system.
pub(crate) fn slot(path: &Path, bytes: u64) -> Target {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    file.set_len(bytes).unwrap();
    Target::of_file(file, path).unwrap()
}

/// Its power goes with one of its writes. Of those since the last flush each is on the disk, or its first sectors, or nothing of it.
pub(crate) struct CutOff {
    inner: Target,
    path: PathBuf,
    /// 0: the power is gone.
    writes_left: u64,
    pub(crate) writes: u64,
    /// What the bytes were before, of what was not flushed.
    unflushed: Vec<(u64, Vec<u8>)>,
    chance: fastrand::Rng,
}

impl CutOff {
    /// The power goes with the write of this number, from 1 on.
    pub(crate) fn new(path: &Path, bytes: u64, at_write: u64, seed: u64) -> CutOff {
        CutOff {
            inner: slot(path, bytes),
            path: path.to_owned(),
            writes_left: at_write,
            writes: 0,
            unflushed: Vec::new(),
            chance: fastrand::Rng::with_seed(seed),
        }
    }

    fn cut(&mut self) {
        let file = File::options().write(true).open(&self.path).unwrap();
        for (offset, before) in self.unflushed.drain(..).rev() {
            let kept = self.chance.usize(..=before.len() / SECTOR_BYTES) * SECTOR_BYTES;
            file.write_all_at(&before[kept..], offset + kept as u64).unwrap();
        }
        file.sync_all().unwrap();
    }

    fn has_power(&self) -> io::Result<()> {
        if self.writes_left == 0 { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    }
}

impl Storage for CutOff {
    fn path(&self) -> &Path {
        &self.path
    }

    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.has_power()?;
        self.inner.read(offset, buffer)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.has_power()?;
        let mut before = vec![0; bytes.len()];
        File::open(&self.path)?.read_exact_at(&mut before, offset)?;
        self.unflushed.push((offset, before));
        self.inner.write(offset, bytes)?;
        self.writes += 1;
        self.writes_left -= 1;
        if self.writes_left == 0 {
            self.cut();
        }
        self.has_power()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.has_power()?;
        self.inner.flush()?;
        self.unflushed.clear();
        Ok(())
    }
}

/// A disk with faults: of a real file, some bytes are not kept, and some cannot be read.
pub(crate) struct Broken {
    inner: Target,
    /// What is written here is gone.
    pub(crate) forgets: Range<u64>,
    /// What is read here is an error.
    pub(crate) unreadable: Range<u64>,
    pub(crate) a_write_mends: bool,
}

impl Broken {
    pub(crate) fn new(inner: Target) -> Broken {
        Broken { inner, forgets: 0..0, unreadable: 0..0, a_write_mends: false }
    }
}

fn overlap(range: &Range<u64>, offset: u64, bytes: usize) -> Range<u64> {
    range.start.max(offset)..range.end.min(offset + bytes as u64)
}

impl Storage for Broken {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match overlap(&self.unreadable, offset, buffer.len()).is_empty() {
            true => self.inner.read(offset, buffer),
            false => Err(rustix::io::Errno::IO.into()),
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut bytes = bytes.to_vec();
        let lost = overlap(&self.forgets, offset, bytes.len());
        if !lost.is_empty() {
            let kept = &mut bytes[(lost.start - offset) as usize..(lost.end - offset) as usize];
            File::open(self.path())?.read_exact_at(kept, lost.start)?;
        }
        if self.a_write_mends && !overlap(&self.unreadable, offset, bytes.len()).is_empty() {
            self.unreadable = 0..0;
        }
        self.inner.write(offset, &bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
