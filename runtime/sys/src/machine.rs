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

/// The kernel's name of this boot, a UUID as text; another boot has another one.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Sets the host name.
pub fn set_host_name(name: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.as_bytes())?)
}
