//! The ids under which this process touches files, apart from those under which it does everything else.

/// What is created from now on belongs to these ids, and permission is checked for them; `0, 0` is root again. The calls
/// cannot fail for root (setfsuid(2)), and say nothing when they do.
pub fn set_file_ids(uid: u32, gid: u32) {
    // SAFETY: a plain number. The group first: it needs the capability that the user id may take away.
    unsafe { libc::setfsgid(gid) };
    // SAFETY: a plain number.
    unsafe { libc::setfsuid(uid) };
}
