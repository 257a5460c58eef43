//! Execution domains, of which one matters: personality(2). A process of `PER_LINUX32` is told by uname(2) that its machine is of
//! 32 bits (`armv8l`, `i686`), and so is all that it starts. Build scripts and package managers go by that.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};

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

/// Whether `process` is one of a machine of 32 bits. To be asked where `/proc` is the system's own.
pub fn is_32_bit(process: &impl AsFd) -> io::Result<bool> {
    /// Some ten short lines, and eight hexadecimal digits.
    const MAX_BYTES: u64 = 1024;
    let read = |path: String| {
        let mut text = String::new();
        File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
        io::Result::Ok(text)
    };
    let told = read(format!("/proc/self/fdinfo/{}", process.as_fd().as_raw_fd()))?;
    let pid = told.lines().find_map(|line| line.strip_prefix("Pid:")).map(str::trim);
    let pid = pid.and_then(|pid| pid.parse::<u32>().ok()).ok_or(io::ErrorKind::NotFound)?;
    let number = read(format!("/proc/{pid}/personality"))?;
    let number = u32::from_str_radix(number.trim_end(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(number & DOMAIN == LINUX_32)
}

/// Gives the number from before.
fn set(number: u32) -> io::Result<u32> {
    // SAFETY: this call takes no pointers.
    let before = unsafe { libc::personality(number.into()) };
    if before < 0 { Err(io::Error::last_os_error()) } else { Ok(before as u32) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::pidfd;
    use std::process::{Child, Command, Stdio};

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn what_another_program_has_made_of_a_process_is_seen() {
        let start = |domain: &[&str]| -> Option<Child> {
            let mut command = Command::new("setarch");
            command.args(domain).args(["sh", "-c", "echo; read -r line"]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()
        };
        let (Some(mut wide), Some(mut narrow)) = (start(&["-R"]), start(&["linux32", "-R"])) else {
            println!("SKIPPED: needs setarch (package util-linux)");
            return;
        };
        for (child, expected) in [(&mut wide, false), (&mut narrow, true)] {
            // It runs.
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            let process = pidfd::open(child.id() as i32).unwrap();
            assert_eq!(is_32_bit(&process).unwrap(), expected);
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}
