//! The terminal in front of us, and ptys made for a command: raw mode that is always undone, and window sizes.

use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// A terminal in raw mode, until this is dropped: every key goes to the other side, ctrl-c too.
pub(super) struct RawTerminal {
    terminal: OwnedFd,
    before: Termios,
}

/// A pty: we keep the master, a command gets the slave.
pub(super) struct Pty {
    pub(super) master: OwnedFd,
    pub(super) slave: OwnedFd,
}

impl RawTerminal {
    pub(super) fn enter(terminal: &impl AsFd) -> io::Result<RawTerminal> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let before = rustix::termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(RawTerminal { terminal, before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that has gone needs no restoring.
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

impl Pty {
    /// A new pty of this machine's.
    pub(super) fn open() -> io::Result<Pty> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        // By the master, not by a path: the path could be another devpts' by now.
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        Ok(Pty { master, slave })
    }
}

/// Gives `to` the window size of `from`; nothing happens when `from` is no terminal.
pub(super) fn copy_window_size(from: &impl AsFd, to: &impl AsFd) -> io::Result<()> {
    let size: Winsize = match rustix::termios::tcgetwinsize(from) {
        Ok(size) => size,
        Err(rustix::io::Errno::NOTTY) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    Ok(rustix::termios::tcsetwinsize(to, size)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn raw_mode_is_undone_and_the_size_is_copied() {
        let (here, there) = (Pty::open().unwrap(), Pty::open().unwrap());
        let before = rustix::termios::tcgetattr(&here.slave).unwrap().local_modes;
        let raw = RawTerminal::enter(&here.slave).unwrap();
        assert_ne!(rustix::termios::tcgetattr(&here.slave).unwrap().local_modes, before);
        drop(raw);
        assert_eq!(rustix::termios::tcgetattr(&here.slave).unwrap().local_modes, before);

        let size = Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&here.master, size).unwrap();
        copy_window_size(&here.slave, &there.master).unwrap();
        let copied = rustix::termios::tcgetwinsize(&there.slave).unwrap();
        assert_eq!((copied.ws_row, copied.ws_col), (33, 99));
    }
}
