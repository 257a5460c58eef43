//! `/proc`, `/sys` and the cgroup tree inside, and what of `/proc` is hidden.
//!
//! In a user namespace the kernel itself guards what is not namespaced: those files belong to an id that nobody inside has.
//! The hiding is for privileged instances, and a second wall for the others. With `security.nesting` nothing is hidden, as
//! in LXD: the kernel lets an inner container mount its own `/proc` only where the outer one is whole.

use crate::report::{at, at_new};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use yado_spec::instance::Security;
use yado_sys::mount::{self, Attributes, Depth, FsOption};
use yado_wire::{Failure, Step};

/// What is hidden of `/proc`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hidden {
    /// Nothing: `security.nesting`.
    Nothing,
    /// What tells of the whole machine.
    Machine,
    /// Also the sysctls that are not the instance's own: it is privileged, and could change them.
    MachineAndSysctls,
}

impl Hidden {
    pub(crate) fn of(security: &Security) -> Hidden {
        match (security.nesting, security.privileged) {
            (true, _) => Hidden::Nothing,
            (false, false) => Hidden::Machine,
            (false, true) => Hidden::MachineAndSysctls,
        }
    }
}

/// Covered by `/dev/null`.
const COVERED: [&str; 3] = ["/proc/kcore", "/proc/keys", "/proc/timer_list"];
/// Read-only.
const READ_ONLY: [&str; 1] = ["/proc/sysrq-trigger"];
/// Read-only in a privileged instance; what is below `/proc/sys/net` is its own (LXC's `proc:mixed`).
const READ_ONLY_SYSCTLS: [&str; 4] = ["/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs"];
const OWN_SYSCTLS: &str = "/proc/sys/net";

/// A `/proc` of our pid namespace, detached.
pub(crate) fn new_proc() -> Result<OwnedFd, Failure> {
    new("proc", "/proc", GUARDED)
}

/// A `/sys` of our network namespace, detached. Read-only: udev is the system's affair, and systemd inside leaves it alone
/// when it finds it so.
pub(crate) fn new_sys(security: &Security) -> Result<OwnedFd, Failure> {
    let attributes = if security.nesting { GUARDED } else { GUARDED.union(Attributes::MOUNT_ATTR_RDONLY) };
    new("sysfs", "/sys", attributes)
}

/// The instance's own part of the cgroup tree, writable: it was delegated.
pub(crate) fn mount_cgroup() -> Result<(), Failure> {
    const PLACE: &str = "/sys/fs/cgroup";
    let mount = new("cgroup2", PLACE, GUARDED)?;
    mount::attach_at(&mount, PLACE).map_err(at(Step::Mount, PLACE))
}

/// Hides parts of the mounted `/proc`. Needs `/dev`.
pub(crate) fn hide(hidden: Hidden) -> Result<(), Failure> {
    let (machine, sysctls) = match hidden {
        Hidden::Nothing => return Ok(()),
        Hidden::Machine => (true, false),
        Hidden::MachineAndSysctls => (true, true),
    };
    if machine {
        for place in COVERED {
            skip_missing(cover(place)).map_err(at(Step::Mount, place))?;
        }
        for place in READ_ONLY {
            skip_missing(freeze(place)).map_err(at(Step::Mount, place))?;
        }
    }
    if sysctls {
        let own = mount::clone_tree(CWD, OWN_SYSCTLS, Depth::One).map_err(at(Step::Mount, OWN_SYSCTLS))?;
        for place in READ_ONLY_SYSCTLS {
            skip_missing(freeze(place)).map_err(at(Step::Mount, place))?;
        }
        mount::attach_at(&own, OWN_SYSCTLS).map_err(at(Step::Mount, OWN_SYSCTLS))?;
    }
    Ok(())
}

const GUARDED: Attributes =
    Attributes::MOUNT_ATTR_NOSUID.union(Attributes::MOUNT_ATTR_NODEV).union(Attributes::MOUNT_ATTR_NOEXEC);

fn new(kind: &str, place: &str, attributes: Attributes) -> Result<OwnedFd, Failure> {
    mount::new_file_system(kind, &[FsOption::Value("source", kind)], attributes).map_err(at_new(Step::Mount, place))
}

fn cover(place: &str) -> std::io::Result<()> {
    let null = mount::clone_tree(CWD, "/dev/null", Depth::One)?;
    mount::attach_at(&null, place)
}

fn freeze(place: &str) -> std::io::Result<()> {
    let same = mount::clone_tree(CWD.as_fd(), place, Depth::One)?;
    mount::set_attributes(&same, Depth::One, GUARDED.union(Attributes::MOUNT_ATTR_RDONLY))?;
    mount::attach_at(&same, place)
}

/// Not every kernel has every file.
fn skip_missing(outcome: std::io::Result<()>) -> std::io::Result<()> {
    match outcome {
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(()),
        other => other,
    }
}
