//! From the request's image to a detached, read-only mount of it: signatures, verification, file system. A mount of the same file
//! from an earlier start is reused: see `cached_image`.
//!
//! If mounting a verified image fails, some bytes are not what was signed. Only then the whole image is read, to find the block.

use crate::cached_image::{self, Copies, Keep};
use crate::report::{Stopwatch, at, at_new};
use crate::verity_device;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use std::fs::File;
use std::path::Path;
use yado_image::{Keys, TrustedImage, Wanted};
use yado_spec::LaunchRequest;
use yado_spec::file_identity::FileIdentity;
use yado_spec::launch_request::Verify;
use yado_sys::loop_device;
use yado_sys::mount::{Attributes, FsOption, NewMountError, new_file_system};
use yado_wire::{Failure, Step, names::clipped};

/// An image whose signatures were checked, and its mount.
#[derive(Debug)]
pub(crate) struct MountedImage {
    path: String,
    image: TrustedImage,
    /// The erofs mount: read-only, detached, owners as on disk.
    pub(crate) mount: OwnedFd,
    /// What init keeps for the next start.
    pub(crate) keep: Keep,
}

impl MountedImage {
    /// Opens, verifies and mounts the request's image. `cached`: the mount of an earlier start that init gave.
    pub(crate) fn open(
        request: &LaunchRequest,
        cached: Option<&OwnedFd>,
        stopwatch: &mut Stopwatch,
    ) -> Result<MountedImage, Failure> {
        let path = request.paths.image.clone();
        let image = stopwatch.step(Step::ImageOpen, || open_image(request))?;
        if let Some(copies) = cached.and_then(|cached| copy_cached(request, &image, cached, stopwatch)) {
            let Copies { for_instance, for_init } = copies;
            return Ok(MountedImage { path, image, mount: for_instance, keep: Keep::Given(for_init) });
        }
        let mounted = match request.verify {
            Verify::Block => mount_by_block(&path, &image, stopwatch),
            Verify::Start => mount_at_once(&path, &image, stopwatch),
        };
        let shared = mounted.and_then(|(mount, identity)| share(mount, identity, &image, &path));
        match shared {
            Ok((mount, keep)) => Ok(MountedImage { path, image, mount, keep }),
            Err(failure) => Err(name_the_block(&path, &image, failure)),
        }
    }

    /// Whether it is for a machine of 32 bits, by its signed header.
    pub(crate) fn is_32_bit(&self) -> bool {
        self.image.header.architecture.is_32_bit()
    }

    /// The cause of a failed step, if it failed because a block of the image could not be verified.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        match failure.errno == Errno::IO.raw_os_error() {
            true => name_the_block(&self.path, &self.image, failure),
            false => failure,
        }
    }
}

fn open_image(request: &LaunchRequest) -> Result<TrustedImage, Failure> {
    let keys = Keys::read_dir(Path::new(&request.paths.trust)).map_err(|error| {
        Failure::refused(Step::ImageSignature, &request.paths.trust, &error.to_string()).in_vain()
    })?;
    let path = &request.paths.image;
    yado_image::open_trusted(Path::new(path), &keys, &Wanted::container(request.spec.image)).map_err(|error| {
        Failure {
            step: error.step(),
            object: clipped(path),
            errno: error.errno(),
            reason: clipped(&error.to_string()),
            retry: error.retry(),
        }
    })
}

/// Copies the mount of an earlier start if the image's file has not changed since. If it cannot be copied, the image is verified
/// and mounted again.
fn copy_cached(
    request: &LaunchRequest,
    image: &TrustedImage,
    cached: &OwnedFd,
    stopwatch: &mut Stopwatch,
) -> Option<Copies> {
    let now = cached_image::identity(&image.file).ok()?;
    if request.cached_image != Some(now) {
        return None;
    }
    stopwatch.step(Step::ImageMount, || Ok(cached_image::copy(cached).ok())).ok().flatten()
}

/// Copies a new mount, so that init can keep one, if the identity of the file is known.
fn share(
    mount: OwnedFd,
    identity: Option<FileIdentity>,
    image: &TrustedImage,
    path: &str,
) -> Result<(OwnedFd, Keep), Failure> {
    let Some(identity) = identity else { return Ok((mount, Keep::Nothing)) };
    let Copies { for_instance, for_init } = cached_image::copy(&mount).map_err(at(Step::ImageMount, path))?;
    let watch = cached_image::watch(&image.file);
    Ok((for_instance, Keep::New { mount: for_init.unwrap_or(mount), identity, watch }))
}

/// Each block is verified when it is read: loop device, dm-verity, erofs.
fn mount_by_block(
    path: &str,
    image: &TrustedImage,
    stopwatch: &mut Stopwatch,
) -> Result<(OwnedFd, Option<FileIdentity>), Failure> {
    let device = verity_device::open(path, image, stopwatch)?;
    let mount =
        stopwatch.step(Step::ImageMount, || mount_erofs(&device.path).map_err(at_new(Step::ImageMount, path)))?;
    Ok((mount, cached_image::identity(&image.file).ok()))
}

/// Verifies the whole image, then mounts it: directly from the file if the kernel can (6.12), else by a loop device.
fn mount_at_once(
    path: &str,
    image: &TrustedImage,
    stopwatch: &mut Stopwatch,
) -> Result<(OwnedFd, Option<FileIdentity>), Failure> {
    let before = cached_image::identity_that_tells(&image.file);
    stopwatch.step(Step::Verity, || {
        yado_image::verity::diagnose(&image.file, &image.header).map_err(|mismatch| mismatch.failure(path))
    })?;
    let unchanged = before.filter(|before| cached_image::identity(&image.file) == Ok(*before));
    let mount = stopwatch.step(Step::ImageMount, || {
        // By the descriptor: the verified file is mounted, whatever the path leads to now.
        let by_descriptor = format!("/proc/self/fd/{}", image.file.as_raw_fd());
        if !lies_on_overlay(&image.file) {
            match mount_erofs(&by_descriptor) {
                Err(error) if error.source.raw_os_error() == Some(Errno::NOTBLK.raw_os_error()) => {}
                answer => return answer.map_err(at_new(Step::ImageMount, path)),
            }
        }
        let device = loop_device::attach_read_only(&image.file).map_err(at(Step::Loop, path))?;
        mount_erofs(&device.path).map_err(at_new(Step::ImageMount, path))
    })?;
    Ok((mount, unchanged))
}

/// Overlay, erofs and overlay again would be one file system more than the kernel stacks (`FILESYSTEM_MAX_STACK_DEPTH`).
fn lies_on_overlay(file: &File) -> bool {
    const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;
    rustix::fs::fstatfs(file.as_fd()).is_ok_and(|found| found.f_type as u64 == OVERLAYFS_SUPER_MAGIC)
}

fn mount_erofs(source: &str) -> Result<OwnedFd, NewMountError> {
    new_file_system(
        "erofs",
        &[FsOption::Flag("ro"), FsOption::Value("source", source)],
        Attributes::MOUNT_ATTR_RDONLY,
    )
}

/// Reads the whole image to find the first block that differs from what was signed. If there is none, `failure` is returned.
fn name_the_block(path: &str, image: &TrustedImage, failure: Failure) -> Failure {
    match yado_image::verity::diagnose(&image.file, &image.header) {
        Ok(()) => failure,
        Err(mismatch) => Failure { errno: failure.errno, ..mismatch.failure(path) },
    }
}
