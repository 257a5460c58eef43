//! When this process gets the processor.

use std::fs;
use std::io;

/// The lowest priority of the real-time policies; all of them go before every other policy.
const LOWEST_PRIORITY: libc::c_int = 1;

/// From now on this process runs as soon as it has something to do, before everything that is not real-time (`SCHED_RR`:
/// sched(7)). What it starts is scheduled as usual (`SCHED_RESET_ON_FORK`). Should it never wait, the kernel still leaves the
/// others a twentieth of the time (`kernel.sched_rt_runtime_us`).
///
/// `EPERM`: without `CAP_SYS_NICE`, or in a control group that has no real-time budget.
pub fn run_before_others() -> io::Result<()> {
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // The kernel's `struct sched_param` is this one number. The call itself, because musl's function of this name only returns
    // ENOSYS.
    let parameter: libc::c_int = LOWEST_PRIORITY;
    // SAFETY: 0 is the calling thread, and the pointer is to a live number, which the kernel only reads.
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A third of the usual weight: sched(7), "The nice value".
const NICE: i32 = 5;

/// From now on this process and what it starts leave the processor to others that want it.
///
/// In a session of its own a process has an autogroup where the kernel has them, and is weighed by that one's value only.
pub fn run_after_others() -> io::Result<()> {
    rustix::process::nice(NICE)?;
    match fs::write("/proc/self/autogroup", NICE.to_string()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::process::Command;

    /// "policy" in proc(5)'s /proc/PID/sched is not everywhere: field 41 of stat is.
    fn policy(stat: &str) -> u32 {
        stat.rsplit(')').next().unwrap().split_whitespace().nth(38).unwrap().parse().unwrap()
    }

    #[test]
    fn we_go_first_and_what_we_start_does_not() {
        // A thread of its own: the other tests run as usual.
        std::thread::spawn(|| {
            match run_before_others() {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    println!("SKIPPED: real-time scheduling is not for us here: {error}");
                    return;
                }
                done => done.unwrap(),
            }
            assert_eq!(policy(&fs::read_to_string("/proc/thread-self/stat").unwrap()), 2, "SCHED_RR");
            let child = Command::new("cat").arg("/proc/self/stat").output().unwrap();
            assert_eq!(policy(&String::from_utf8(child.stdout).unwrap()), 0, "SCHED_OTHER");
        })
        .join()
        .unwrap();
    }
}
