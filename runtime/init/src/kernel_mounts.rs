//! The kernel's own file systems: which are mounted where, and with which flags.

use std::fs;
use std::path::Path;
use yado_sys::mount::{Attributes, FsOption, attach_at, new_file_system};

/// Nothing to write here, and nothing to run.
const STRICT: Attributes =
    Attributes::MOUNT_ATTR_NOSUID.union(Attributes::MOUNT_ATTR_NODEV).union(Attributes::MOUNT_ATTR_NOEXEC);
const NO_DEVICES: Attributes = Attributes::MOUNT_ATTR_NOSUID.union(Attributes::MOUNT_ATTR_NODEV);

/// One file system of the kernel's own.
pub(crate) struct KernelMount {
    kind: &'static str,
    /// Where.
    pub(crate) target: &'static str,
    attributes: Attributes,
    options: &'static [FsOption<'static>],
}

/// What the initramfs stage needs, and hands over to the system stage.
pub(crate) const EARLY: [KernelMount; 4] = [
    KernelMount { kind: "proc", target: "/proc", attributes: STRICT, options: &[] },
    KernelMount { kind: "sysfs", target: "/sys", attributes: STRICT, options: &[] },
    KernelMount {
        kind: "devtmpfs",
        target: "/dev",
        attributes: Attributes::MOUNT_ATTR_NOSUID,
        options: &[FsOption::Value("mode", "0755")],
    },
    KernelMount {
        kind: "tmpfs",
        target: "/run",
        attributes: NO_DEVICES,
        options: &[FsOption::Value("mode", "0755"), FsOption::Value("size", "20%")],
    },
];

/// What only the running system needs.
pub(crate) const LATER: [KernelMount; 4] = [
    KernelMount {
        kind: "devpts",
        target: "/dev/pts",
        attributes: Attributes::MOUNT_ATTR_NOSUID.union(Attributes::MOUNT_ATTR_NOEXEC),
        options: &[FsOption::Value("mode", "0620"), FsOption::Value("gid", "5"), FsOption::Value("ptmxmode", "0666")],
    },
    KernelMount {
        kind: "tmpfs",
        target: "/tmp",
        attributes: NO_DEVICES,
        options: &[FsOption::Value("mode", "1777"), FsOption::Value("size", "10%")],
    },
    KernelMount { kind: "cgroup2", target: "/sys/fs/cgroup", attributes: STRICT, options: &[] },
    KernelMount {
        kind: "bpf",
        target: "/sys/fs/bpf",
        attributes: STRICT,
        options: &[FsOption::Value("mode", "0700")],
    },
];

/// Where security modules are told their policy.
pub(crate) const SECURITY: KernelMount =
    KernelMount { kind: "securityfs", target: "/sys/kernel/security", attributes: STRICT, options: &[] };

/// Where FUSE connections are listed. Only for a kernel that has FUSE: mounting it would load the module.
pub(crate) const FUSE: KernelMount =
    KernelMount { kind: "fusectl", target: "/sys/fs/fuse/connections", attributes: STRICT, options: &[] };

/// Where the kernel shows what it kept of its log over a reset.
pub(crate) const PSTORE: KernelMount =
    KernelMount { kind: "pstore", target: "/sys/fs/pstore", attributes: STRICT, options: &[] };

impl KernelMount {
    /// Mounts it, unless something is mounted there already.
    pub(crate) fn mount(&self) -> Result<(), String> {
        if is_mount_point(Path::new(self.target)) {
            return Ok(());
        }
        // In a read-only root the directory is there or cannot be made; under /dev it has to be.
        let _ = fs::create_dir_all(self.target);
        let failed = |reason: String| format!("mount {}: {reason}", self.target);
        let mounted = new_file_system(self.kind, self.options, self.attributes)
            .map_err(|error| failed(format!("{}: {error}", self.kind)))?;
        attach_at(&mounted, self.target).map_err(|error| failed(error.to_string()))
    }
}

/// A directory on another device than its parent.
fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    match path.parent() {
        Some(parent) => device(path).is_some() && device(path) != device(parent),
        None => true,
    }
}
