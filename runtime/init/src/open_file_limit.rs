//! The limit of open descriptors of this process: as many as its tables can fill, so that no full board fails for lack of one.
//! The kernel gives PID 1 a limit of 1,024, and a host's shell may give less.

use crate::close_queue;
use crate::control::client::MAX_CLIENTS;
use crate::image_cache;
use crate::launch::MAX_LAUNCHES;
use crate::log::{Log, Priority};
use crate::service_list::MAX_SERVICES;
use yado_sys::rlimit::KernelResource;
use yado_wire::MAX_INSTANCES;

/// Its first process, its mounts (`/dev`, root), its console and who looks at it, its socket, two counters.
const PER_INSTANCE: usize = 8;

/// The launcher, its reports, its output, the command that it started.
const PER_LAUNCH: usize = 4;

/// The process and its output. netd is one more than the image lists.
const PER_SERVICE: usize = 2;

/// Our own sockets, power keys, the log, the watchdog, two jobs, the question to netd, and what a call opens for itself:
/// starting a launcher, listing a directory, descriptors that a client sends.
const OTHERS: usize = 128;

/// What waits for the datagram reader, and for the closers of both kinds.
const CLOSING: usize = 3 * close_queue::MAX_WAITING;

/// All of that.
const MAX_OPEN: usize = MAX_INSTANCES * PER_INSTANCE
    + MAX_LAUNCHES * PER_LAUNCH
    + (MAX_SERVICES + 1) * PER_SERVICE
    + MAX_CLIENTS
    + image_cache::MAX_IMAGES * image_cache::PER_IMAGE
    + CLOSING
    + OTHERS;

/// Raises the limit where it is lower, as far as we may. It is inherited by what we start.
pub(crate) fn raise_limit(log: &mut Log) {
    const NEEDED: u64 = MAX_OPEN as u64;
    let (soft, hard) = KernelResource::OPEN_FILES.own();
    if soft.is_none_or(|soft| NEEDED <= soft) {
        return;
    }
    let raised = hard.map(|hard| hard.max(NEEDED));
    if KernelResource::OPEN_FILES.set_own(Some(NEEDED), raised).is_ok() {
        return;
    }
    // Who may not raise the hard limit (a service of systemd's without the capability) may go up to it.
    let _ = KernelResource::OPEN_FILES.set_own(hard, hard);
    if hard.is_some_and(|hard| hard < NEEDED) {
        log.say(
            Priority::Warning,
            format_args!("full tables need {NEEDED} open files, and the limit cannot be raised"),
        );
    }
}
