//! Whether an instance is for a machine of 32 bits, as the signed header of its image says. The launcher of a start leaves that in
//! the instance's runtime directory for those of commands, who have no image open. They do not ask the kernel what the
//! instance's init is: init can make itself another (personality(2)), and can make whoever asks wait for it, by an `execve` that
//! does not end.

use crate::report::at;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::path::Path;
use yado_wire::{Failure, Step};

/// An empty file, in a directory of which only the socket `notify` and the file `update-lock` are seen inside. A run's directory begins
/// without it.
const RECORD: &str = "is-32-bit";

/// Records that the instance is for a machine of 32 bits. `runtime` is its runtime directory.
pub(crate) fn record_32_bit(runtime: &OwnedFd) -> Result<(), Failure> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::openat(runtime, RECORD, flags, Mode::from_raw_mode(0o600));
    file.map(drop).map_err(at(Step::Mount, RECORD))
}

/// Whether that is recorded. `runtime` is the path of the instance's runtime directory.
pub(crate) fn is_32_bit(runtime: &str) -> bool {
    Path::new(runtime).join(RECORD).exists()
}
