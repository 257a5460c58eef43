//! Reads the request that init left on a descriptor, and takes the descriptors that belong to it.

use crate::report::at;
use std::os::fd::OwnedFd;
use yado_spec::LaunchRequest;
use yado_spec::launch_request::{DEV_FD, IMAGE_FD, MAX_REQUEST_BYTES, PAYLOAD_FD, REQUEST_FD};
use yado_wire::{Failure, Step};

/// Reads the request.
pub(crate) fn read() -> Result<LaunchRequest, Failure> {
    let failed = |error| Failure::from_io(Step::Launcher, "request", &error);
    let descriptor = yado_sys::inherited::take(REQUEST_FD).map_err(failed)?;
    let bytes = yado_sys::memfd::read_sealed(&descriptor, MAX_REQUEST_BYTES as u64).map_err(failed)?;
    let reason = "malformed, or from an init of another release, which must be restarted";
    LaunchRequest::decode(&bytes).ok_or_else(|| Failure::refused(Step::Launcher, "request", reason).in_vain())
}

/// The pidfd of the running instance's first process.
pub(crate) fn running_payload() -> Result<OwnedFd, Failure> {
    yado_sys::inherited::take(PAYLOAD_FD).map_err(at(Step::Launcher, "pidfd of the instance"))
}

/// Our mount of the running instance's `/dev`.
pub(crate) fn dev_mount() -> Result<OwnedFd, Failure> {
    yado_sys::inherited::take(DEV_FD).map_err(at(Step::Launcher, "mount of the instance's /dev"))
}

/// The mount of the image from an earlier start, if the request speaks of one.
pub(crate) fn cached_image(request: &LaunchRequest) -> Result<Option<OwnedFd>, Failure> {
    let taken = request.cached_image.map(|_| yado_sys::inherited::take(IMAGE_FD)).transpose();
    taken.map_err(at(Step::Launcher, "mount of the image"))
}
