//! From the order's image to a detached, read-only mount of it: signatures, verification, file system.
//!
//! A mount that fails on a verified image means that bytes are not what was signed. Only then is the whole image read, to
//! say which block it is.

use crate::report::{Stopwatch, at, at_new};
use crate::verity_device;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use std::fs::File;
use std::path::Path;
use yado_image::{Keys, TrustedImage, Wanted};
use yado_spec::LaunchOrder;
use yado_sys::loop_device;
use yado_sys::mount::{Attributes, FsOption, NewMountError, new_file_system};
use yado_wire::rescue::Verify;
use yado_wire::{Failure, Step, names::clipped};

/// An image whose signatures were checked, and its mount.
#[derive(Debug)]
pub(crate) struct MountedImage {
    path: String,
    image: TrustedImage,
    /// The erofs mount: read-only, detached, owners as on disk.
    pub(crate) mount: OwnedFd,
}

impl MountedImage {
    /// Opens, verifies and mounts the order's image.
    pub(crate) fn open(order: &LaunchOrder, stopwatch: &mut Stopwatch) -> Result<MountedImage, Failure> {
        let path = order.places.image.clone();
        let image = stopwatch.step(Step::ImageOpen, || open_trusted(order))?;
        let mounted = match order.verify {
            Verify::Block => mount_by_block(&path, &image, stopwatch),
            Verify::Start => mount_at_once(&path, &image, stopwatch),
        };
        match mounted {
            Ok(mount) => Ok(MountedImage { path, image, mount }),
            Err(failure) => Err(name_the_block(&path, &image, failure)),
        }
    }

    /// What really failed, if a step failed because a block of the image could not be verified.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        match failure.errno == Errno::IO.raw_os_error() {
            true => name_the_block(&self.path, &self.image, failure),
            false => failure,
        }
    }
}

fn open_trusted(order: &LaunchOrder) -> Result<TrustedImage, Failure> {
    let keys = Keys::read_dir(Path::new(&order.places.trust))
        .map_err(|error| Failure::refused(Step::ImageSignature, &order.places.trust, &error.to_string()).in_vain())?;
    let path = &order.places.image;
    yado_image::open_trusted(Path::new(path), &keys, &Wanted::container(order.spec.image)).map_err(|error| Failure {
        step: error.step(),
        object: clipped(path),
        errno: error.errno(),
        reason: clipped(&error.to_string()),
        retry: error.retry(),
    })
}

/// Each block is verified when it is read: loop device, dm-verity, erofs.
fn mount_by_block(path: &str, image: &TrustedImage, stopwatch: &mut Stopwatch) -> Result<OwnedFd, Failure> {
    let device = verity_device::open(path, image, stopwatch)?;
    stopwatch.step(Step::ImageMount, || mount_erofs(&device.path).map_err(at_new(Step::ImageMount, path)))
}

/// The whole image is verified now, then mounted: straight from the file where the kernel can (6.12), else by loop.
fn mount_at_once(path: &str, image: &TrustedImage, stopwatch: &mut Stopwatch) -> Result<OwnedFd, Failure> {
    stopwatch.step(Step::Verity, || {
        yado_image::verity::diagnose(&image.file, &image.header).map_err(|mismatch| mismatch.failure(path))
    })?;
    stopwatch.step(Step::ImageMount, || {
        // By the descriptor: what is mounted is what was verified, whatever the path leads to by now.
        let by_descriptor = format!("/proc/self/fd/{}", image.file.as_raw_fd());
        if !lies_on_overlay(&image.file) {
            match mount_erofs(&by_descriptor) {
                Err(error) if error.source.raw_os_error() == Some(Errno::NOTBLK.raw_os_error()) => {}
                answer => return answer.map_err(at_new(Step::ImageMount, path)),
            }
        }
        let device = loop_device::attach_read_only(&image.file).map_err(at(Step::Loop, path))?;
        mount_erofs(&device.path).map_err(at_new(Step::ImageMount, path))
    })
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

/// Reads the whole image for the first block that is not what was signed. If there is none, `failure` stands.
fn name_the_block(path: &str, image: &TrustedImage, failure: Failure) -> Failure {
    match yado_image::verity::diagnose(&image.file, &image.header) {
        Ok(()) => failure,
        Err(mismatch) => Failure { errno: failure.errno, ..mismatch.failure(path) },
    }
}
