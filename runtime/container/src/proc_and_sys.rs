//! `/proc`, `/sys` and the cgroup tree inside, and what of `/proc` is hidden.
//!
//! The payload makes these file systems, because each shows the namespaces of who made it. The launcher puts them together
//! outside, so that root inside cannot take them apart (see `stage`), nor mount a second `/proc` or `/sys` that shows more:
//! the kernel allows no new one where what is seen of the old one is covered or read-only.
//!
//! In a user namespace the kernel itself guards what is not namespaced: those files belong to an id that nobody inside has.
//! The hiding is for privileged instances (whose root can undo it), and a second wall for the others. With
//! `security.nesting` nothing is hidden, as in LXD: an inner container can mount its own `/proc` only where the outer
//! one is whole.

use crate::report::{at, at_new};
use crate::stage::Place;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Access, AtFlags};
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

/// Covered by the null device.
const COVERED: [&str; 3] = ["kcore", "keys", "timer_list"];
/// Read-only.
const READ_ONLY: [&str; 1] = ["sysrq-trigger"];
/// Read-only in a privileged instance; what is below `/proc/sys/net` is its own (LXC's `proc:mixed`).
const READ_ONLY_SYSCTLS: [&str; 4] = ["sys", "irq", "bus", "fs"];
const OWN_SYSCTLS: &str = "sys/net";

/// The file systems of the instance's namespaces, each a mount.
#[derive(Debug)]
pub(crate) struct KernelMounts {
    /// `/proc`.
    pub(crate) proc: OwnedFd,
    /// `/sys`. Read-only: udev is the system's affair, and systemd inside leaves it alone when it finds it so.
    pub(crate) sys: OwnedFd,
    /// The instance's own part of the cgroup tree, writable: it was delegated.
    pub(crate) cgroup: OwnedFd,
}

impl KernelMounts {
    /// In the payload: makes them, detached. Needs its namespaces, with the system's own `/proc` and `/sys` still in sight.
    pub(crate) fn new(security: &Security) -> Result<KernelMounts, Failure> {
        let sys_attributes = if security.nesting { GUARDED } else { GUARDED.union(Attributes::MOUNT_ATTR_RDONLY) };
        Ok(KernelMounts {
            proc: new("proc", GUARDED)?,
            sys: new("sysfs", sys_attributes)?,
            cgroup: new("cgroup2", GUARDED)?,
        })
    }

    /// In the launcher: attaches them in the working directory, hidden what is to be hidden. `dev` is the instance's `/dev`,
    /// attached.
    pub(crate) fn put_together(&self, dev: &OwnedFd, hidden: Hidden) -> Result<(), Failure> {
        for (mount, place) in [(&self.proc, Place::Proc), (&self.sys, Place::Sys)] {
            mount::attach_at(mount, place.name()).map_err(at(Step::Mount, place.name()))?;
        }
        mount::attach_below(&self.cgroup, &self.sys, "fs/cgroup").map_err(at(Step::Mount, "/sys/fs/cgroup"))?;
        let failed = |place: &'static str| move |error| at(Step::Mount, &format!("/proc/{place}"))(error);
        let has_foreign_sysctls = match hidden {
            Hidden::Nothing => return Ok(()),
            Hidden::Machine => false,
            Hidden::MachineAndSysctls => true,
        };
        for place in COVERED {
            skip_missing(self.cover(dev, place)).map_err(failed(place))?;
        }
        for place in READ_ONLY {
            skip_missing(self.freeze(place)).map_err(failed(place))?;
        }
        if has_foreign_sysctls {
            let own = mount::clone_tree(self.proc.as_fd(), OWN_SYSCTLS, Depth::One).map_err(failed(OWN_SYSCTLS))?;
            for place in READ_ONLY_SYSCTLS {
                skip_missing(self.freeze(place)).map_err(failed(place))?;
            }
            mount::attach_below(&own, &self.proc, OWN_SYSCTLS).map_err(failed(OWN_SYSCTLS))?;
        }
        Ok(())
    }

    fn cover(&self, dev: &OwnedFd, place: &str) -> std::io::Result<()> {
        // A mount that is not used after all goes only when every processor has been asked, and we would wait for that.
        rustix::fs::accessat(&self.proc, place, Access::EXISTS, AtFlags::empty())?;
        let null = mount::clone_tree(dev.as_fd(), "null", Depth::One)?;
        mount::attach_below(&null, &self.proc, place)
    }

    fn freeze(&self, place: &str) -> std::io::Result<()> {
        let same = mount::clone_tree(self.proc.as_fd(), place, Depth::One)?;
        mount::set_attributes(&same, Depth::One, GUARDED.union(Attributes::MOUNT_ATTR_RDONLY))?;
        mount::attach_below(&same, &self.proc, place)
    }
}

const GUARDED: Attributes =
    Attributes::MOUNT_ATTR_NOSUID.union(Attributes::MOUNT_ATTR_NODEV).union(Attributes::MOUNT_ATTR_NOEXEC);

fn new(kind: &str, attributes: Attributes) -> Result<OwnedFd, Failure> {
    mount::new_file_system(kind, &[FsOption::Value("source", kind)], attributes).map_err(at_new(Step::Mount, kind))
}

/// Not every kernel has every file.
fn skip_missing(outcome: std::io::Result<()>) -> std::io::Result<()> {
    match outcome {
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(()),
        other => other,
    }
}
