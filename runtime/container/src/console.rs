//! The instance's console: the first pty of its own devpts, so that its name inside is true and no path leads to the
//! system's ptys.

use crate::report::at;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::pty::OpenptFlags;
use yado_sys::mount::{self, Depth};
use yado_wire::{Failure, Step};

/// Opens a pty, puts it on `/dev/console` and on our standard descriptors, and gives its master side.
pub(crate) fn open() -> Result<OwnedFd, Failure> {
    const PTMX: &str = "/dev/pts/ptmx";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat(CWD, PTMX, flags, Mode::empty()).map_err(at(Step::Console, PTMX))?;
    rustix::pty::unlockpt(&master).map_err(at(Step::Console, PTMX))?;
    let slave =
        rustix::pty::ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .map_err(at(Step::Console, PTMX))?;
    let name = rustix::pty::ptsname(&master, Vec::new()).map_err(at(Step::Console, PTMX))?;
    bind_console(&name.to_string_lossy()).map_err(at(Step::Console, "/dev/console"))?;
    for onto in [rustix::stdio::dup2_stdin, rustix::stdio::dup2_stdout, rustix::stdio::dup2_stderr] {
        onto(&slave).map_err(at(Step::Console, "standard descriptors"))?;
    }
    Ok(master)
}

fn bind_console(slave: &str) -> std::io::Result<()> {
    let node = mount::clone_tree(CWD, slave, Depth::One)?;
    mount::attach_at(&node, "/dev/console")
}
