//! `/run` of the instance: a tmpfs that is empty at each start, but for `/run/host`, where systemd's "Container Interface"
//! (systemd.io) has what the manager of a container tells it. That is read-only, and made from outside, so that it stays so.

use crate::instance_root::as_ids;
use crate::mount_staging::StagedTree;
use crate::program::CONTAINER;
use crate::report::{at, at_new};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use yado_spec::launch_request::{NOTIFY_SOCKET_NAME, UPDATE_LOCK_NAME};
use yado_sys::mount::{self, Attributes, Depth, FsOption};
use yado_wire::{Failure, Step};

/// Where systemd looks for the socket of its manager's manager: in `/run/host` it has init's name for it.
pub(crate) const NOTIFY_SOCKET: &str = "/run/host/notify";

/// Says what `$container` says, to those who are not told that.
const CONTAINER_MANAGER: &str = "container-manager";

/// What an instance that may delay the reboot of an update locks for that.
const UPDATE_LOCK: &str = "/run/yado/update-lock";

/// The instance's `/run`.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    /// Attached in the working directory.
    pub(crate) mount: OwnedFd,
    /// Whether the socket is in it on which init hears that the instance is ready.
    pub(crate) has_notify_socket: bool,
}

impl RunDirectory {
    /// Makes it. `runtime` is the instance's runtime directory.
    pub(crate) fn make(base: u32, runtime: &OwnedFd) -> Result<RunDirectory, Failure> {
        let run = new_tmpfs(base, &[])?;
        let notify = clone_file(runtime, NOTIFY_SOCKET_NAME)?;
        mount::attach_at(&run, StagedTree::Run.name()).map_err(at(Step::Mount, "/run"))?;
        // Two files and a directory.
        let host = new_tmpfs(base, &[("size", "64k"), ("nr_inodes", "8")])?;
        as_ids(base, base, || fill(&run, &host))
            .map_err(at(Step::Mount, "/run/host"))?
            .map_err(at(Step::Mount, "/run/host"))?;
        mount::set_attributes(&host, Depth::One, Attributes::MOUNT_ATTR_RDONLY | Attributes::MOUNT_ATTR_NOEXEC)
            .map_err(at(Step::Mount, "/run/host"))?;
        mount::attach_below(&host, &run, "host").map_err(at(Step::Mount, "/run/host"))?;
        if let Some(notify) = &notify {
            mount::attach_below(notify, &host, NOTIFY_SOCKET_NAME).map_err(at(Step::Mount, NOTIFY_SOCKET))?;
        }
        if let Some(lock) = clone_file(runtime, UPDATE_LOCK_NAME)? {
            as_ids(base, base, || make_place_of_lock(&run))
                .map_err(at(Step::Mount, UPDATE_LOCK))?
                .map_err(at(Step::Mount, UPDATE_LOCK))?;
            let attributes = Attributes::MOUNT_ATTR_RDONLY | Attributes::MOUNT_ATTR_NOEXEC;
            mount::set_attributes(&lock, Depth::One, attributes).map_err(at(Step::Mount, UPDATE_LOCK))?;
            mount::attach_below(&lock, &run, "yado/update-lock").map_err(at(Step::Mount, UPDATE_LOCK))?;
        }
        Ok(RunDirectory { mount: run, has_notify_socket: notify.is_some() })
    }
}

/// The kernel keeps what it holds in the instance's memory.
fn new_tmpfs(base: u32, limits: &[(&str, &str)]) -> Result<OwnedFd, Failure> {
    let owner = base.to_string();
    let mut options = vec![
        FsOption::Value("source", "run"),
        FsOption::Value("mode", "0755"),
        FsOption::Value("uid", &owner),
        FsOption::Value("gid", &owner),
    ];
    options.extend(limits.iter().map(|(name, value)| FsOption::Value(name, value)));
    let attributes = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV;
    mount::new_file_system("tmpfs", &options, attributes).map_err(at_new(Step::Mount, "/run"))
}

fn fill(run: &OwnedFd, host: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::mkdirat(run, "host", Mode::from_raw_mode(0o755))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(host, CONTAINER_MANAGER, flags, Mode::from_raw_mode(0o444))?;
    // A tmpfs takes so few bytes at once.
    rustix::io::write(&file, format!("{CONTAINER}\n").as_bytes())?;
    // What the socket is bound on.
    rustix::fs::mknodat(host, NOTIFY_SOCKET_NAME, FileType::RegularFile, Mode::from_raw_mode(0o444), 0)
}

/// What the lock is bound on.
fn make_place_of_lock(run: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::mkdirat(run, "yado", Mode::from_raw_mode(0o755))?;
    rustix::fs::mknodat(run, "yado/update-lock", FileType::RegularFile, Mode::from_raw_mode(0o444), 0)
}

/// A file of init's in the runtime directory, detached. `None`: init made none.
fn clone_file(runtime: &OwnedFd, name: &'static str) -> Result<Option<OwnedFd>, Failure> {
    match mount::clone_tree(runtime.as_fd(), name, Depth::One) {
        Ok(mount) => Ok(Some(mount)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::from_io(Step::Mount, name, &error)),
    }
}
