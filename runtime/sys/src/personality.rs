//! Execution domains, of which one matters: personality(2). A process of `PER_LINUX32` is told by uname(2) that its machine is of
//! 32 bits (`armv8l`, `i686`), and so is all that it starts. Build scripts and package managers go by that.

use std::io;

/// `PER_MASK` of linux/personality.h: what of the number is the domain. The rest are flags.
const DOMAIN: u32 = 0xff;
/// `PER_LINUX32`, also of linux/personality.h.
const LINUX_32: u32 = 8;

/// Makes this process one of a machine of 32 bits. `EINVAL`: an ARM processor that has no such instructions.
pub fn become_32_bit() -> io::Result<()> {
    const ASK: u32 = u32::MAX;
    let now = set(ASK)?;
    set(now & !DOMAIN | LINUX_32).map(drop)
}

/// Gives the number from before.
fn set(number: u32) -> io::Result<u32> {
    // SAFETY: this call takes no pointers.
    let before = unsafe { libc::personality(number.into()) };
    if before < 0 { Err(io::Error::last_os_error()) } else { Ok(before as u32) }
}
