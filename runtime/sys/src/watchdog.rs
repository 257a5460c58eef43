//! The hardware watchdog: once opened, the machine resets unless it is fed.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

/// An armed watchdog. Dropping it leaves it armed; [`Watchdog::disarm`] stops it where the hardware can be stopped.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
    /// How often it is fed at least, after what the hardware agreed to.
    timeout: Duration,
}

// <linux/watchdog.h>: _IOR('W', 5, int), _IOWR('W', 6, int), _IOR('W', 7, int).
const KEEPALIVE: u32 = 0x8004_5705;
const SET_TIMEOUT: u32 = 0xc004_5706;
const GET_TIMEOUT: u32 = 0x8004_5707;

impl Watchdog {
    /// Opens and thereby arms the watchdog. The hardware may round `timeout`, or keep its own when it cannot wait so long.
    pub fn arm(path: &Path, timeout: Duration) -> io::Result<Watchdog> {
        let device = File::options().write(true).open(path)?;
        let mut seconds = libc::c_int::try_from(timeout.as_secs()).unwrap_or(libc::c_int::MAX);
        // SAFETY: this request reads and writes one int, and `seconds` is one that outlives the call.
        let set = unsafe { libc::ioctl(device.as_raw_fd(), SET_TIMEOUT as _, &raw mut seconds) };
        if set != 0 {
            // SAFETY: this request writes one int, and `seconds` is one that outlives the call.
            let got = unsafe { libc::ioctl(device.as_raw_fd(), GET_TIMEOUT as _, &raw mut seconds) };
            if got != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let timeout = Duration::from_secs(u64::try_from(seconds).unwrap_or(1).max(1));
        Ok(Watchdog { device, timeout })
    }

    /// After so long without [`Watchdog::feed`] the machine resets.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Tells it that we live.
    pub fn feed(&self) -> io::Result<()> {
        let mut unused: libc::c_int = 0;
        // SAFETY: the kernel at most writes one int, and `unused` is one that outlives the call.
        let fed = unsafe { libc::ioctl(self.device.as_raw_fd(), KEEPALIVE as _, &raw mut unused) };
        if fed < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Stops it by the "magic close".
    pub fn disarm(mut self) -> io::Result<()> {
        self.device.write_all(b"V")
    }
}
