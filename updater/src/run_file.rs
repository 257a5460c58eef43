//! Small files in the updater's run directory, by which a process of it tells the next of the same start of the machine. They are on
//! tmpfs.

use crate::places::Places;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;
use yado_sys::replace_file;

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunFile {
    /// Its name.
    pub(crate) name: &'static str,
    /// Who may read it.
    pub(crate) mode: u32,
    /// No more of it is read.
    pub(crate) max_bytes: u64,
}

impl RunFile {
    /// Enough for a time.
    pub(crate) const TIME_BYTES: u64 = 24;

    pub(crate) fn path(&self, places: &Places) -> PathBuf {
        places.own_run().join(self.name)
    }

    /// What is in it. `None`: it is not there, or cannot be read.
    pub(crate) fn read(&self, places: &Places) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(places)).ok()?.take(self.max_bytes).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// The time that is in it: a number of seconds since the boot, on a line.
    pub(crate) fn read_time(&self, places: &Places) -> Option<Duration> {
        String::from_utf8(self.read(places)?).ok()?.trim().parse().ok().map(Duration::from_secs)
    }

    /// Replaces it as a whole.
    pub(crate) fn write(&self, places: &Places, bytes: &[u8]) -> io::Result<()> {
        replace_file::replace_unsynced(&self.path(places), self.mode, bytes)
    }

    pub(crate) fn write_time(&self, places: &Places, time: Duration) -> io::Result<()> {
        self.write(places, format!("{}\n", time.as_secs()).as_bytes())
    }
}
