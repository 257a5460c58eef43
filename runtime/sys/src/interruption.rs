//! A bound for calls that wait in the kernel without being asked to: closing a socket that lingers, for one. A signal comes
//! again and again, and whatever sleeps so that signals wake it goes on.

use std::io;
use std::time::Duration;

/// Installs the signal's handler, which does nothing. Without `SA_RESTART` no call goes back to sleep after it.
pub fn prepare() -> io::Result<()> {
    extern "C" fn ignore(_: libc::c_int) {}
    // SAFETY: all zero is a valid `sigaction`: no flags, nothing more blocked.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
    // SAFETY: `action` is live, the handler touches nothing, and the old action is not asked for.
    if unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// From now on the signal comes each `period`, until [`stop`].
pub fn start(period: Duration) -> io::Result<()> {
    set(period)
}

/// No more signals.
pub fn stop() -> io::Result<()> {
    set(Duration::ZERO)
}

fn set(period: Duration) -> io::Result<()> {
    let value = libc::timeval {
        tv_sec: period.as_secs() as libc::time_t,
        tv_usec: period.subsec_micros() as libc::suseconds_t,
    };
    let timer = libc::itimerval { it_interval: value, it_value: value };
    // SAFETY: `timer` is live and only read; the old value is not asked for.
    if unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
