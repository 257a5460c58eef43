//! Who this process is to the kernel, and the ids under which it touches files or makes namespaces, apart from those under
//! which it does everything else.

use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySets, capabilities, set_capabilities};
use std::io;

/// By convention the ids of nobody, who owns nothing.
pub const NOBODY: u32 = 65_534;

/// Whether we are root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// This thread becomes another user for good, in these other groups: from root, that also takes all capabilities away.
/// `EINVAL`: the largest id, which stands for "no change", or more groups than the kernel keeps (65,536).
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    if uid == u32::MAX || gid == u32::MAX || groups.contains(&u32::MAX) {
        return Err(rustix::io::Errno::INVAL.into());
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
}

/// What is created from now on belongs to these ids; `0, 0` is root again. Permission is checked as for root all the same:
/// the kernel takes the capabilities about files away from any other id (setfsuid(2)), and here they are taken back.
pub fn set_file_ids(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: a plain number. The call cannot fail for root, and says nothing when it does.
    unsafe { libc::setfsgid(gid) };
    // SAFETY: as above.
    unsafe { libc::setfsuid(uid) };
    raise_capabilities()
}

/// As [`set_file_ids`], but permission is checked as for these ids, unless they are root's; `set_file_ids(0, 0)` ends it. Our
/// other groups are given up for good, because they would be asked, too.
pub fn set_file_ids_and_rights(uid: u32, gid: u32) -> io::Result<()> {
    rustix::thread::set_thread_groups(&[])?;
    // SAFETY: a plain number. The call cannot fail for root, and says nothing when it does.
    unsafe { libc::setfsgid(gid) };
    // SAFETY: as above. It takes the capabilities about files away: setfsuid(2).
    unsafe { libc::setfsuid(uid) };
    Ok(())
}

/// From now on our effective user id is `uid`; 0 is root again. Capabilities stay as they are for root. A user namespace
/// that is made meanwhile is owned by `uid`, and what the kernel counts for its owner is counted for `uid`: namespaces(7),
/// `/proc/sys/user`. Root stays our real and saved id, so no process of `uid` may send us signals.
pub fn set_effective_user(uid: u32) -> io::Result<()> {
    // The largest id stands for "no change" in this call.
    if uid == u32::MAX {
        return Err(rustix::io::Errno::INVAL.into());
    }
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::from_raw(uid), Uid::ROOT)?;
    raise_capabilities()
}

/// The kernel takes effective capabilities away from who is not root, and leaves the permitted ones: capabilities(7).
fn raise_capabilities() -> io::Result<()> {
    let sets = capabilities(None)?;
    Ok(set_capabilities(None, CapabilitySets { effective: sets.permitted, ..sets })?)
}
