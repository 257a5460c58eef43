//! The instance's terminals: its own devpts, and its console, which is the first pty there, so that its name inside is true
//! and no path leads to the system's ptys.

use crate::report::{at, at_new};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::pty::OpenptFlags;
use yado_spec::share;
use yado_sys::machine;
use yado_sys::mount::{self, Attributes, Depth, FsOption};
use yado_wire::{Failure, Step};

/// `/dev/pts` of a new instance, detached. Made from outside: root inside cannot raise `max`. And in the mount namespace that
/// we were started in: if that is the machine's first, the kernel lets these terminals, and none of a devpts that is mounted
/// inside, use the reserve (`/proc/sys/kernel/pty/reserve`).
pub(crate) fn new_terminals(base: u32) -> Result<OwnedFd, Failure> {
    const GROUP_TTY: u32 = 5;
    let gid = base.saturating_add(GROUP_TTY).to_string();
    let max = share::terminals(machine::memory_bytes()).to_string();
    let options = [
        FsOption::Value("source", "devpts"),
        FsOption::Value("mode", "0620"),
        FsOption::Value("gid", &gid),
        FsOption::Value("ptmxmode", "0666"),
        FsOption::Value("max", &max),
    ];
    let attributes = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NOEXEC;
    let terminals =
        mount::new_file_system("devpts", &options, attributes).map_err(at_new(Step::Console, "/dev/pts"))?;
    let (uid, gid) = (Some(Uid::from_raw(base)), Some(Gid::from_raw(base)));
    for path in ["", "ptmx"] {
        rustix::fs::chownat(&terminals, path, uid, gid, AtFlags::EMPTY_PATH)
            .map_err(at(Step::Console, "/dev/pts"))?;
    }
    Ok(terminals)
}

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
