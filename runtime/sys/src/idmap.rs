//! The id maps of a user namespace: which ids outside the ids inside are.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

/// One range of ids, the same for users and groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside the namespace.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Gives the new user namespace of process `pid` its map, users and groups alike. A namespace takes a map once.
pub fn write_map(pid: i32, ranges: &[IdRange]) -> io::Result<()> {
    // The kernel wants the whole map in one write of less than a page.
    let text: String =
        ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect();
    for file in ["uid_map", "gid_map"] {
        File::options().write(true).open(format!("/proc/{pid}/{file}"))?.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// Whether we are in the machine's first user namespace, in which alone root is the machine's.
pub fn is_in_first_namespace() -> bool {
    /// Its inode, `PROC_USER_INIT_INO` of linux/proc_ns.h: the kernel gives it to no other.
    const FIRST: u64 = 0xEFFF_FFFD;
    // Where nobody can tell, what needs it fails by itself.
    rustix::fs::stat("/proc/self/ns/user").map_or(true, |found| found.st_ino == FIRST)
}

/// The user namespace of process `pid`; it lives as long as the descriptor.
pub fn user_namespace_of(pid: i32) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/{pid}/ns/user"))?.into())
}
