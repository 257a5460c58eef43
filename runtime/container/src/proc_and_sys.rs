//! `/proc`, `/sys` and the cgroup tree inside, and what of `/proc` is hidden.
//!
//! The payload makes these file systems, because each shows the namespaces of who made it. The launcher puts them together
//! outside, so that root inside cannot take them apart (see `mount_staging`), nor mount a second `/proc` or `/sys` that shows more:
//! the kernel allows no new one where what is seen of the old one is covered or read-only.
//!
//! In a user namespace the kernel itself guards what is not namespaced: those files belong to an id that nobody inside has.
//! The hiding is for privileged instances (whose root can undo it), and a second wall for the others. With
//! `security.nesting` nothing is hidden, as in LXD: an inner container can mount its own `/proc` and `/sys` only where the outer
//! one sees all of them. Those that everybody looks at are not whole either (a boot id lies on the one, the other is read-only),
//! so that there is a second of each, where LXC has them too.

use crate::mount_staging::StagedTree;
use crate::report::{at, at_new};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Access, AtFlags, CWD, Mode};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
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

/// The kernel's name of this boot, which is covered by the instance's own.
const BOOT_ID: &str = "sys/kernel/random/boot_id";

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
    pub(crate) fn new() -> Result<KernelMounts, Failure> {
        Ok(KernelMounts {
            proc: new("proc", GUARDED)?,
            sys: new("sysfs", GUARDED.union(Attributes::MOUNT_ATTR_RDONLY))?,
            cgroup: new("cgroup2", GUARDED)?,
        })
    }

    /// In the launcher: attaches them in the working directory, hidden what is to be hidden. `dev` is the instance's `/dev`,
    /// attached; `boot_id` a detached mount of its boot id.
    pub(crate) fn put_together(&self, dev: &OwnedFd, boot_id: &OwnedFd, hidden: Hidden) -> Result<(), Failure> {
        for (mount, staged) in [(&self.proc, StagedTree::Proc), (&self.sys, StagedTree::Sys)] {
            mount::attach_at(mount, staged.name()).map_err(at(Step::Mount, staged.name()))?;
        }
        mount::attach_below(&self.cgroup, &self.sys, "fs/cgroup").map_err(at(Step::Mount, "/sys/fs/cgroup"))?;
        let failed = |place: &'static str| move |error| at(Step::Mount, &format!("/proc/{place}"))(error);
        let (hides_machine, has_foreign_sysctls) = match hidden {
            Hidden::Nothing => (false, false),
            Hidden::Machine => (true, false),
            Hidden::MachineAndSysctls => (true, true),
        };
        if hides_machine {
            for place in COVERED {
                skip_missing(self.cover(dev, place)).map_err(failed(place))?;
            }
            for place in READ_ONLY {
                skip_missing(self.freeze(place)).map_err(failed(place))?;
            }
        }
        if has_foreign_sysctls {
            let own = mount::clone_tree(self.proc.as_fd(), OWN_SYSCTLS, Depth::One).map_err(failed(OWN_SYSCTLS))?;
            for place in READ_ONLY_SYSCTLS {
                skip_missing(self.freeze(place)).map_err(failed(place))?;
            }
            mount::attach_below(&own, &self.proc, OWN_SYSCTLS).map_err(failed(OWN_SYSCTLS))?;
        }
        // Last: it lies on top of what is read-only.
        mount::attach_below(boot_id, &self.proc, BOOT_ID).map_err(failed(BOOT_ID))
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

/// A boot id of the instance's own as a file, detached: each start is a boot to those inside, whose journals are told apart by it.
/// The file is made in the working directory, where only we see it.
pub(crate) fn new_boot_id() -> Result<OwnedFd, Failure> {
    const FILE: &str = "boot-id";
    /// A new UUID at each read, as the kernel writes the boot's.
    const SOURCE: &str = "/proc/sys/kernel/random/uuid";
    let failed = |error| at(Step::Mount, FILE)(error);
    let id = std::fs::read(SOURCE).map_err(at(Step::Mount, SOURCE))?;
    let mut file = File::options().write(true).create_new(true).mode(0o444).open(FILE).map_err(failed)?;
    file.write_all(&id).map_err(failed)?;
    let mount = mount::clone_tree(CWD, FILE, Depth::One).map_err(failed)?;
    mount::set_attributes(&mount, Depth::One, GUARDED.union(Attributes::MOUNT_ATTR_RDONLY)).map_err(failed)?;
    Ok(mount)
}

/// In the payload of an instance with `security.nesting`: a second `/proc` and `/sys`, whole and writable, for inner containers.
/// They are where LXC has them. The kernel asks for no path to them, only that they are mounted.
pub(crate) struct WholeMounts {
    proc: OwnedFd,
    sys: OwnedFd,
}

impl WholeMounts {
    const DIRECTORY: &str = "/dev/.lxc";

    /// Detached, where [`KernelMounts::new`] is called.
    pub(crate) fn new() -> Result<WholeMounts, Failure> {
        Ok(WholeMounts { proc: new("proc", GUARDED)?, sys: new("sysfs", GUARDED)? })
    }

    /// Attaches them in the instance's `/dev`.
    pub(crate) fn attach(&self) -> Result<(), Failure> {
        // What looks through all of /dev need not find all of /proc and /sys there.
        let make = |path: &str| rustix::fs::mkdir(path, Mode::from_raw_mode(0o700)).map_err(at(Step::Mount, path));
        make(Self::DIRECTORY)?;
        for (mount, name) in [(&self.proc, "proc"), (&self.sys, "sys")] {
            let path = format!("{}/{name}", Self::DIRECTORY);
            make(&path)?;
            mount::attach_at(mount, path.as_str()).map_err(at(Step::Mount, &path))?;
        }
        Ok(())
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
