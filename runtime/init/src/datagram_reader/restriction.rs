//! The privileges that the datagram reader gives up before it reads the first byte from others.

use super::MAX_SOURCES;
use crate::close_queue::MAX_WAITING;
use std::io;
use yado_sys::capabilities::{self, Capabilities};
use yado_sys::clock;
use yado_sys::code_pages;
use yado_sys::identity::{self, NOBODY};
use yado_sys::rlimit::KernelResource;
use yado_sys::seccomp::{Filter, READER_CALLS};

/// The link, standard ones, what is held for init, and what one datagram may carry.
const BESIDES_SOURCES: usize = MAX_WAITING + 56;

/// Sockets of all instances and ours, and what there is besides. With fewer the reader would lose the link.
const MAX_DESCRIPTORS: u64 = (MAX_SOURCES + BESIDES_SOURCES) as u64;

/// From here on it can read, write and close what it is given, and nothing else: no files, no programs, no new sockets, and
/// above all no call that sends descriptors, since init receives from it. Whatever else it calls ends it, and init says so.
pub(super) fn restrict() -> io::Result<()> {
    // The first look at the clock finds out where the vDSO has it, for which it asks the kernel, and on old ones reads a file.
    let _ = clock::since_boot();
    // What only the start needed; the file cannot be asked for afterwards.
    let _ = code_pages::unmap_unused();
    KernelResource::OPEN_FILES.set_own(Some(MAX_DESCRIPTORS), Some(MAX_DESCRIPTORS))?;
    capabilities::keep_only(Capabilities::SETUID | Capabilities::SETGID | Capabilities::SETPCAP)?;
    capabilities::drop_from_bounding_set(Capabilities::SETUID | Capabilities::SETGID | Capabilities::SETPCAP)?;
    identity::become_user(NOBODY, NOBODY, &[])?;
    capabilities::set_no_new_privs()?;
    Filter::allow_only(READER_CALLS).install()
}
