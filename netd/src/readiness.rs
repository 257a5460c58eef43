//! Waits for descriptors for which tokio has no type: netlink, packet and SEQPACKET sockets.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use yado_sys::clock::since_boot;
use yado_wire::Budget;

/// A descriptor that does not block, with its readiness.
pub(crate) type Watched = AsyncFd<OwnedFd>;

/// Watches `descriptor` for what comes in until the result is dropped. That there is room again for what is sent is not
/// watched: a datagram socket would wake us after each one that it sent.
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<Watched> {
    watch_for(descriptor, Interest::READABLE)
}

/// Watches it for room too, so that `writable` can be awaited.
pub(crate) fn watch_both_ways(descriptor: OwnedFd) -> io::Result<Watched> {
    watch_for(descriptor, Interest::READABLE | Interest::WRITABLE)
}

// tokio wants `unsafe` at its newer constructor because some type's `as_raw_fd` could answer differently each time. That of
// an `OwnedFd` cannot, and it stays open as long as it is owned.
#[allow(deprecated)]
fn watch_for(descriptor: OwnedFd, interest: Interest) -> io::Result<Watched> {
    AsyncFd::with_interest(descriptor, interest)
}

/// Waits until `read` finds something: it is called when the descriptor may be readable, and returns `None` when nothing
/// was there.
pub(crate) async fn read_from<T>(
    watched: &Watched,
    mut read: impl FnMut(&OwnedFd) -> io::Result<Option<T>>,
) -> io::Result<T> {
    loop {
        let mut ready = watched.readable().await?;
        match read(watched.get_ref())? {
            Some(found) => return Ok(found),
            None => ready.clear_ready(),
        }
    }
}

/// The same for who waits for several: `Pending` leaves `cx` to be woken when there is something to read again.
pub(crate) fn poll_read_from<T>(
    watched: &Watched,
    cx: &mut Context<'_>,
    mut read: impl FnMut(&OwnedFd) -> io::Result<Option<T>>,
) -> Poll<io::Result<T>> {
    loop {
        let mut ready = ready!(watched.poll_read_ready(cx))?;
        match read(watched.get_ref())? {
            Some(found) => return Poll::Ready(Ok(found)),
            None => ready.clear_ready(),
        }
    }
}

/// Takes one event out of the budget; waits if there is none in it. What comes meanwhile waits in the socket.
pub(crate) async fn take_one(budget: &mut Budget) {
    let wait = budget.spend(1, since_boot());
    // A sleep of nothing takes a millisecond.
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}
