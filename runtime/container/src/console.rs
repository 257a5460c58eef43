//! The instance's terminals: a devpts of its own, and the console. The console is the first pty there: its name inside is a real
//! path, and no path leads to ptys of the system.

use crate::instance_root::as_ids;
use crate::report::{at, at_new};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use yado_spec::kernel_table_share;
use yado_sys::machine;
use yado_sys::mount::{self, Attributes, Depth, FsOption};
use yado_wire::{Failure, Step};

/// Makes `/dev/pts` of a new instance, detached. It is made outside, so that root inside cannot raise `max`, and in the mount
/// namespace in which we were started: if that is the machine's first one, the kernel lets these terminals use the reserve
/// (`/proc/sys/kernel/pty/reserve`), and not those of a devpts that is mounted inside.
pub(crate) fn new_terminals(base: u32) -> Result<OwnedFd, Failure> {
    const GROUP_TTY: u32 = 5;
    let gid = base.saturating_add(GROUP_TTY).to_string();
    let max = kernel_table_share::terminals(machine::memory_bytes()).to_string();
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

/// Opens the first pty of these terminals, as the user who will own it, and returns its master side. The instance never has the
/// master.
pub(crate) fn open(terminals: &OwnedFd, base: u32) -> Result<OwnedFd, Failure> {
    const PTMX: &str = "ptmx";
    let failed = |errno: Errno| at(Step::Console, PTMX)(errno);
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = as_ids(base, base, || rustix::fs::openat(terminals, PTMX, flags, Mode::empty()))
        .map_err(at(Step::Console, "file ids"))?
        .map_err(failed)?;
    rustix::pty::unlockpt(&master).map_err(failed)?;
    Ok(master)
}

/// In the payload, after its terminals are mounted: puts the slave side of the console on `/dev/console` and on our standard
/// descriptors.
pub(crate) fn take() -> Result<(), Failure> {
    // The only pty so far.
    const SLAVE: &str = "/dev/pts/0";
    let failed = |errno: Errno| at(Step::Console, SLAVE)(errno);
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(SLAVE, flags, Mode::empty()).map_err(failed)?;
    let node = mount::clone_tree(CWD, SLAVE, Depth::One).map_err(at(Step::Console, SLAVE))?;
    mount::attach_at(&node, "/dev/console").map_err(at(Step::Console, "/dev/console"))?;
    for onto in [rustix::stdio::dup2_stdin, rustix::stdio::dup2_stdout, rustix::stdio::dup2_stderr] {
        onto(&slave).map_err(failed)?;
    }
    Ok(())
}
