//! Deletes links without waiting for the work that the kernel does afterwards.

use super::dump::ENODEV;
use super::kernel::{Kernel, change_at};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use std::io;
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;
use yado_sys::netlink;

/// How long a link that is being taken away is left alone before it is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Threads that wait for the kernel to take a link away. One that never ends is not joined by one more for each later link.
pub(super) const MAX_DELETING: usize = 2;
/// They call the kernel, and little else.
const STACK_BYTES: usize = 64 * 1024;
/// A link that is not gone after this long is given up: whoever asks is answered, and so are all others.
const DELETE_LIMIT: Duration = Duration::from_secs(5);

impl Kernel {
    /// Takes a link away, and waits only until it is gone. The kernel answers when it has asked every processor besides,
    /// which takes it up to 30 ms, so it is a thread that waits for the answer: meanwhile another link of this name can be made,
    /// and whoever starts the next instance is answered.
    ///
    /// # Errors
    ///
    /// What the kernel says, but not that there is no such link: its namespace may have taken it away this moment, and that is what
    /// was wanted. [`TimedOut`](io::ErrorKind::TimedOut) when the link is still there after 5 s.
    pub async fn delete_aside(&self, link: u32) -> io::Result<()> {
        let late = |_| {
            let reason = format!("a link is not taken away within {} s", DELETE_LIMIT.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        };
        match timeout(DELETE_LIMIT, self.delete_by_thread(link)).await.unwrap_or_else(late) {
            Err(error) if error.raw_os_error() == Some(ENODEV) => Ok(()),
            outcome => outcome,
        }
    }

    async fn delete_by_thread(&self, link: u32) -> io::Result<()> {
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::DelLink(change_at(link, [])));
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let slot = self.deleting.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (answer, mut answered) = oneshot::channel();
        let wait = move || {
            let outcome = ask(&bytes);
            drop(slot);
            // That the link is gone may have been enough.
            let _ = answer.send(outcome);
        };
        if thread::Builder::new().stack_size(STACK_BYTES).spawn(wait).is_err() {
            // No memory for one, or too many processes: later is better than not at all.
            return self.delete(link).await;
        }
        loop {
            match timeout(LOOK_AGAIN, &mut answered).await {
                Ok(outcome) => return outcome.map_err(io::Error::other)?,
                // While the kernel takes it away it answers nobody.
                Err(_) if !self.has_link_at(link).await? => return Ok(()),
                Err(_) => {}
            }
        }
    }
}

/// Asks the kernel by a socket of its own, and blocks until it has answered.
fn ask(request: &[u8]) -> io::Result<()> {
    let socket = netlink::open(netlink::Protocol::Route, &[])?;
    // The kernel does it in this call.
    netlink::send(&socket, request)?;
    let mut buffer = [0; 1024];
    let Some(netlink::Received::Messages(len)) = netlink::recv(&socket, &mut buffer)? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&buffer[..len]).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::Error(refusal) if refusal.code.is_some() => Err(refusal.to_io()),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_is_gone_by_itself_is_taken_away() {
        if !yado_sys::identity::is_root() {
            return println!("SKIPPED: needs root");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { Kernel::open().unwrap().delete_aside(i32::MAX as u32).await.unwrap() });
    }

    #[test]
    fn whoever_cannot_take_a_link_away_is_told_so_in_the_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let kernel = Kernel::open().unwrap();
            // Two that hang in the kernel.
            let _hang = kernel.deleting.acquire_many(MAX_DELETING.try_into().unwrap()).await.unwrap();
            let told = timeout(4 * DELETE_LIMIT, kernel.delete_aside(i32::MAX as u32)).await.unwrap().unwrap_err();
            assert_eq!(told.to_string(), "a link is not taken away within 5 s");
        });
    }
}
