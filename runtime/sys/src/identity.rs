//! Who this process is to the kernel, and the ids under which it touches files, apart from those under which it does
//! everything else.

use rustix::thread::{CapabilitySets, capabilities, set_capabilities};
use std::io;

/// Whether we are root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What is created from now on belongs to these ids; `0, 0` is root again. Permission is checked as for root all the same:
/// the kernel takes the capabilities about files away from any other id (setfsuid(2)), and here they are taken back.
pub fn set_file_ids(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: a plain number. The call cannot fail for root, and says nothing when it does.
    unsafe { libc::setfsgid(gid) };
    // SAFETY: as above.
    unsafe { libc::setfsuid(uid) };
    let sets = capabilities(None)?;
    Ok(set_capabilities(None, CapabilitySets { effective: sets.permitted, ..sets })?)
}
