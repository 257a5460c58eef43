//! The instance's root: an overlay of the image and the writable layer. Owners are mapped in both, so that on disk each file has
//! the id that it has inside.

use crate::image::MountedImage;
use crate::instance_root::as_ids;
use crate::report::{Stopwatch, at, at_new};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};
use yado_spec::LaunchRequest;
use yado_sys::mount::{self, Attributes, Depth, FsOption, NewMountError};
use yado_wire::{Failure, Step};

/// Mounts the root in our own mount namespace, below the instance's runtime directory, which is the working directory. Returns an
/// `O_PATH` descriptor of it.
pub(crate) fn mount_root(
    request: &LaunchRequest,
    image: &MountedImage,
    user_namespace: Option<&OwnedFd>,
    stopwatch: &mut Stopwatch,
) -> Result<OwnedFd, Failure> {
    stopwatch.step(Step::Layer, || {
        for directory in ["image", "layer", "root"] {
            make_directory(CWD, directory, 0o700).map_err(at(Step::Layer, directory))?;
        }
        let layer = open_layer(&request.paths.layer).map_err(at(Step::Layer, &request.paths.layer))?;
        attach_mapped(&layer, "layer", user_namespace, Step::Layer)
    })?;
    stopwatch.step(Step::IdMap, || attach_mapped(&image.mount, "image", user_namespace, Step::IdMap))?;
    stopwatch.step(Step::Overlay, || {
        // The overlay later makes files in the layer as the user who mounts it now, which must be an id of the map.
        let base = request.idmap_base;
        let overlay = as_ids(base, base, || mount_overlay(request)).map_err(at(Step::Overlay, "file ids"))??;
        mount::attach_at(&overlay, "root").map_err(at(Step::Overlay, "root"))?;
        Ok(overlay)
    })
}

/// Without `volatile`, with which the kernel would write nothing back when the overlay is unmounted: every layer is its
/// instance's for all its runs, and what a program inside has synced must be there after the power was cut. None is thrown away
/// with its run; who deletes an instance deletes the layer later, by `yado apply --delete-data`.
fn mount_overlay(request: &LaunchRequest) -> Result<OwnedFd, Failure> {
    let options = [
        FsOption::Value("source", request.spec.name.as_str()),
        // Relative paths: a colon or comma in an absolute one would end it.
        FsOption::Value("lowerdir", "image"),
        FsOption::Value("upperdir", "layer/upper"),
        FsOption::Value("workdir", "layer/work"),
    ];
    let until = Instant::now() + IN_USE_TIMEOUT;
    let mut pause = IN_USE_AGAIN;
    loop {
        // A node in an image or a layer, such as the /dev/console of many archives, is no way to a device.
        match mount::new_file_system("overlay", &options, Attributes::MOUNT_ATTR_NODEV) {
            Err(error) if is_busy(&error) && Instant::now() < until => {
                std::thread::sleep(pause);
                pause = LONGEST_PAUSE.min(2 * pause);
            }
            answer => return answer.map_err(at_new(Step::Overlay, &request.paths.layer)),
        }
    }
}

/// How long to wait for the overlay of the run before this one. It is being unmounted at the same time, which writes back the whole
/// file system of the layer. Nobody uses it any more, so a second overlay on the same directories does no harm: the kernel notes
/// in its log that both exist, and mounts it. Only with `index=on`, the default of some kernels, it refuses. Then we wait, for as
/// long as a slow card takes to write what the machine's memory holds.
const IN_USE_TIMEOUT: Duration = Duration::from_secs(45);

/// The kernel does not tell when it is over.
const IN_USE_AGAIN: Duration = Duration::from_millis(5);

/// The pause between attempts. Each attempt writes a line to the kernel's log, and to a serial console, which is slow.
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

fn is_busy(error: &NewMountError) -> bool {
    error.source.raw_os_error() == Some(Errno::BUSY.raw_os_error())
}

/// The layer's directory as a detached mount, with `upper` and `work` in it.
fn open_layer(path: &str) -> Result<OwnedFd, Errno> {
    make_directory(CWD, path, 0o700)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    // The root directory inside has the owner and mode of `upper`.
    make_directory(directory.as_fd(), "upper", 0o755)?;
    make_directory(directory.as_fd(), "work", 0o700)?;
    mount::clone_tree(directory.as_fd(), "", Depth::One).map_err(|error| errno_of(&error))
}

fn attach_mapped(mount: &OwnedFd, place: &str, user_namespace: Option<&OwnedFd>, step: Step) -> Result<(), Failure> {
    if let Some(user_namespace) = user_namespace {
        mount::map_owners(mount, user_namespace, Depth::One).map_err(at(Step::IdMap, place))?;
    }
    mount::attach_at(mount, place).map_err(at(step, place))
}

/// Makes a directory unless there is one. The mode is exact: our umask is zero.
pub(crate) fn make_directory(parent: BorrowedFd<'_>, path: &str, mode: u32) -> Result<(), Errno> {
    match rustix::fs::mkdirat(parent, path, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
