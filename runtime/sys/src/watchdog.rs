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
    timeout: Timeout,
}

/// After how long without food a watchdog resets the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// What the hardware agreed to.
    Known(Duration),
    /// It neither took a time nor told its own: it is fed as if it waited for [`ASSUMED_TIMEOUT`].
    Assumed,
}

/// Drivers that know their time only themselves have kept to seconds: the shortest that boards ship with is about that long,
/// and a feeding costs nothing beside a reset.
pub const ASSUMED_TIMEOUT: Duration = Duration::from_secs(3);

// <linux/watchdog.h>: _IOR('W', 2, int), _IOR('W', 5, int), _IOWR('W', 6, int), _IOR('W', 7, int).
const GET_BOOT_STATUS: u32 = 0x8004_5702;
const KEEPALIVE: u32 = 0x8004_5705;
const SET_TIMEOUT: u32 = 0xc004_5706;
const GET_TIMEOUT: u32 = 0x8004_5707;

/// `WDIOF_CARDRESET`: it has reset the machine.
const CARD_RESET: libc::c_int = 0x20;

impl Watchdog {
    /// Opens and thereby arms the watchdog. The hardware may round `timeout`, or keep its own when it cannot wait so long.
    ///
    /// # Errors
    /// It cannot be opened, and so is not armed: once it is, this answers with what must be fed.
    pub fn arm(path: &Path, timeout: Duration) -> io::Result<Watchdog> {
        let device = File::options().write(true).open(path)?;
        let mut seconds = libc::c_int::try_from(timeout.as_secs()).unwrap_or(libc::c_int::MAX);
        // SAFETY: this request reads and writes one int, and `seconds` is one that outlives the call.
        let set = unsafe { libc::ioctl(device.as_raw_fd(), SET_TIMEOUT as _, &raw mut seconds) };
        if set != 0 {
            // SAFETY: this request writes one int, and `seconds` is one that outlives the call.
            let got = unsafe { libc::ioctl(device.as_raw_fd(), GET_TIMEOUT as _, &raw mut seconds) };
            if got != 0 {
                return Ok(Watchdog { device, timeout: Timeout::Assumed });
            }
        }
        let timeout = Duration::from_secs(u64::try_from(seconds).unwrap_or(1).max(1));
        Ok(Watchdog { device, timeout: Timeout::Known(timeout) })
    }

    /// What the hardware agreed to.
    pub fn timeout(&self) -> Timeout {
        self.timeout
    }

    /// Whether it was this watchdog that reset the machine last. Drivers that cannot know say no.
    pub fn did_reset(&self) -> bool {
        let mut status: libc::c_int = 0;
        // SAFETY: this request writes one int, and `status` is one that outlives the call.
        let asked = unsafe { libc::ioctl(self.device.as_raw_fd(), GET_BOOT_STATUS as _, &raw mut status) };
        asked == 0 && status & CARD_RESET != 0
    }

    /// How often to feed it: in time for two that come late.
    pub fn feeding_pause(&self) -> Duration {
        let timeout = match self.timeout {
            Timeout::Known(timeout) => timeout,
            Timeout::Assumed => ASSUMED_TIMEOUT,
        };
        timeout.checked_div(3).unwrap_or(timeout)
    }

    /// Tells it that we live.
    pub fn feed(&self) -> io::Result<()> {
        let mut unused: libc::c_int = 0;
        // SAFETY: the kernel at most writes one int, and `unused` is one that outlives the call.
        let fed = unsafe { libc::ioctl(self.device.as_raw_fd(), KEEPALIVE as _, &raw mut unused) };
        if fed < 0 {
            // Any byte feeds too, but for the "magic" one; that is all that the oldest drivers know.
            (&self.device).write_all(b"\0")?;
        }
        Ok(())
    }

    /// Stops it by the "magic close".
    pub fn disarm(mut self) -> io::Result<()> {
        self.device.write_all(b"V")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_that_answers_no_ioctl_is_fed_at_an_assumed_pace() {
        // A file takes bytes and refuses both requests, as a driver without them does.
        let path = std::env::temp_dir().join(format!("yado-watchdog-{}", std::process::id()));
        std::fs::write(&path, "").unwrap();
        let watchdog = Watchdog::arm(&path, Duration::from_secs(30));
        let watchdog = watchdog.inspect_err(|_| std::fs::remove_file(&path).unwrap()).unwrap();
        assert_eq!(watchdog.timeout(), Timeout::Assumed);
        assert_eq!(watchdog.feeding_pause(), Duration::from_secs(1));
        assert!(!watchdog.did_reset());
        watchdog.feed().unwrap();
        watchdog.feed().unwrap();
        let fed = std::fs::read(&path).unwrap();
        watchdog.disarm().unwrap();
        let closed = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((fed.as_slice(), closed.as_slice()), (b"\0\0".as_slice(), b"\0\0V".as_slice()));
    }
}
