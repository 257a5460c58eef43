//! The machine as a whole: its size and its name.

use std::io;

/// Bytes of memory this machine has.
pub fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}

/// How many processors this process may use; at least one.
pub fn processors() -> u16 {
    // SAFETY: this call takes no pointers.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    u16::try_from(count.max(1)).unwrap_or(u16::MAX)
}

/// Sets the host name.
pub fn set_host_name(name: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.as_bytes())?)
}
