//! How far an update is: who works tells it here, and does not know who looks.

/// What an update is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reads what the target holds already.
    Compare,
    /// Fetches and writes what it does not hold.
    Write,
    /// Reads the target again, past the cache, and compares it with what was signed.
    ReadBack,
    /// Writes and reads back the files that the boot loader needs.
    BootFiles,
}

/// Who wants to know how far it is.
pub trait Progress {
    /// So many of so many bytes of this stage are done; both may grow, `done` never beyond `total`.
    fn advance(&mut self, stage: Stage, done: u64, total: u64);
}

/// Nobody wants to know.
impl Progress for () {
    fn advance(&mut self, _stage: Stage, _done: u64, _total: u64) {}
}
