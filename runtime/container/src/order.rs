//! The order that init left for us on a descriptor, and what is beside it.

use crate::report::at;
use std::os::fd::OwnedFd;
use yado_spec::LaunchOrder;
use yado_spec::order::{DEV_FD, IMAGE_FD, MAX_ORDER_BYTES, ORDER_FD, PAYLOAD_FD};
use yado_wire::{Failure, Step};

/// Reads the order.
pub(crate) fn read() -> Result<LaunchOrder, Failure> {
    let failed = |error| Failure::from_io(Step::Launcher, "order", &error);
    let descriptor = yado_sys::inherited::take(ORDER_FD).map_err(failed)?;
    let bytes = yado_sys::memfd::read_sealed(&descriptor, MAX_ORDER_BYTES as u64).map_err(failed)?;
    let reason = "malformed, or of an init of another release, which must be started again";
    LaunchOrder::decode(&bytes).ok_or_else(|| Failure::refused(Step::Launcher, "order", reason).in_vain())
}

/// The pidfd of the running instance's first process.
pub(crate) fn running_payload() -> Result<OwnedFd, Failure> {
    yado_sys::inherited::take(PAYLOAD_FD).map_err(at(Step::Launcher, "pidfd of the instance"))
}

/// Our mount of the running instance's `/dev`.
pub(crate) fn dev_mount() -> Result<OwnedFd, Failure> {
    yado_sys::inherited::take(DEV_FD).map_err(at(Step::Launcher, "mount of the instance's /dev"))
}

/// The mount of the image from an earlier start, if the order speaks of one.
pub(crate) fn kept_image(order: &LaunchOrder) -> Result<Option<OwnedFd>, Failure> {
    let taken = order.image_kept.map(|_| yado_sys::inherited::take(IMAGE_FD)).transpose();
    taken.map_err(at(Step::Launcher, "mount of the image"))
}
