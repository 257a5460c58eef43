//! `disk` devices: directories and files of the system, or a tmpfs, mounted into the instance's root from outside. They are
//! there before the payload takes its copy of the mounts, so the kernel locks their flags: read-only stays read-only.

use crate::instance_root::{InstanceRoot, Shape};
use crate::report::{at, at_new};
use rustix::fd::OwnedFd;
use rustix::fs::CWD;
use rustix::io::Errno;
use std::os::unix::fs::MetadataExt;
use yado_spec::LaunchRequest;
use yado_spec::instance::{Disk, DiskSource};
use yado_sys::mount::{self, Attributes, Depth, FsOption};
use yado_wire::names::clipped;
use yado_wire::{Failure, Step};

/// Attaches all disks of the instance.
pub(crate) fn attach_all(
    request: &LaunchRequest,
    instance_root: &InstanceRoot<'_>,
    user_namespace: Option<&OwnedFd>,
) -> Result<(), Failure> {
    for disk in &request.spec.disks {
        let Some((mount, shape)) = open(disk, request, instance_root.base, user_namespace)? else { continue };
        let target = instance_root.open_or_make(&disk.path, shape).map_err(no_mount_point(&disk.path))?;
        mount::attach(&mount, &target).map_err(at(Step::Mount, &disk.path))?;
    }
    Ok(())
}

/// Why a mount point could not be made. The path may lead to another disk that is attached already and belongs to the system:
/// nothing is made there that the instance's root may not make.
fn no_mount_point(path: &str) -> impl FnOnce(Errno) -> Failure {
    move |errno| {
        let failure = Failure::from_io(Step::Mount, path, &errno.into());
        match errno {
            Errno::ACCESS | Errno::ROFS => {
                let reason = format!("{}: on another disk a mount point must exist already", failure.reason);
                Failure { reason: clipped(&reason), ..failure }
            }
            _ => failure,
        }
    }
}

/// The disk as a detached mount. `None`: its source is missing, and the disk is not required.
fn open(
    disk: &Disk,
    request: &LaunchRequest,
    base: u32,
    user_namespace: Option<&OwnedFd>,
) -> Result<Option<(OwnedFd, Shape)>, Failure> {
    let depth = if disk.recursive { Depth::Tree } else { Depth::One };
    let (mount, shape) = match &disk.source {
        DiskSource::Tmpfs { size_bytes } => (open_tmpfs(*size_bytes, request, base, &disk.path)?, Shape::Directory),
        DiskSource::Path(source) => {
            let Ok(found) = std::fs::metadata(source) else {
                if !disk.required {
                    return Ok(None);
                }
                return Err(Failure::refused(Step::Mount, source, &format!("disk {}: no such source", disk.name)));
            };
            let shape = if found.is_dir() { Shape::Directory } else { Shape::File };
            let mount = mount::clone_tree(CWD, source, depth).map_err(at(Step::Mount, source))?;
            // The data partition is mounted `noexec`, for the system. An instance may execute files from it.
            if std::fs::metadata(&request.paths.layer).is_ok_and(|layer| layer.dev() == found.dev()) {
                mount::clear_attributes(&mount, Depth::One, Attributes::MOUNT_ATTR_NOEXEC)
                    .map_err(at(Step::Mount, source))?;
            }
            if let (true, Some(user_namespace)) = (disk.shift, user_namespace) {
                mount::map_owners(&mount, user_namespace, depth).map_err(at(Step::IdMap, source))?;
            }
            (mount, shape)
        }
    };
    // The instance must not use device nodes and set-user-id programs of the system.
    let mut attributes = Attributes::MOUNT_ATTR_NODEV | Attributes::MOUNT_ATTR_NOSUID;
    if disk.readonly {
        attributes |= Attributes::MOUNT_ATTR_RDONLY;
    }
    mount::set_attributes(&mount, depth, attributes).map_err(at(Step::Mount, &disk.path))?;
    Ok(Some((mount, shape)))
}

fn open_tmpfs(size_bytes: Option<u64>, request: &LaunchRequest, base: u32, path: &str) -> Result<OwnedFd, Failure> {
    let owner = base.to_string();
    let size = size_bytes.or_else(|| half_of_memory_limit(&request.paths.cgroup)).map(|bytes| bytes.to_string());
    let mut options = vec![
        FsOption::Value("source", "tmpfs"),
        FsOption::Value("mode", "0755"),
        FsOption::Value("uid", &owner),
        FsOption::Value("gid", &owner),
    ];
    if let Some(size) = &size {
        options.push(FsOption::Value("size", size));
    }
    mount::new_file_system("tmpfs", &options, Attributes::empty()).map_err(at_new(Step::Mount, path))
}

/// Half of the limit that init has written to the control group, where a limit in percent is a number of bytes.
fn half_of_memory_limit(cgroup: &str) -> Option<u64> {
    let limit = std::fs::read_to_string(format!("{cgroup}/memory.max")).ok()?;
    limit.trim_end().parse::<u64>().ok().map(|bytes| bytes / 2)
}
