//! The socket `netd.sock`: receives requests and sends replies. What a request means is decided in `requests.rs`.

use crate::daemon::Event;
use crate::readiness::{Watched, read_from, watch, watch_both_ways};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use yado_sys::packet;
use yado_wire::network::{NetReply, NetRequest};
use yado_wire::{Failure, MAX_FRAME_BYTES, Step};

/// A request that waits for its replies.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: NetRequest,
    /// The descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
    /// Where the replies go.
    pub answer: oneshot::Sender<Vec<NetReply>>,
}

/// Connections at a time: init, launchers that start together, a status or two. More wait to be accepted.
const MAX_CONNECTIONS: usize = 16;
/// A peer that says nothing, or does not take its replies, for so long is hung up on.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Listens at `path`, for root only, and serves whoever connects.
pub fn listen(path: &Path, events: mpsc::Sender<Event>) -> io::Result<()> {
    let listener = watch(packet::listen(path)?)?;
    tokio::spawn(async move {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let connection = match read_from(&listener, packet::accept).await.and_then(watch_both_ways) {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::error!("accept on the control socket: {error}");
                    // Out of descriptors or memory: it does not help to ask again at once.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let events = events.clone();
            tokio::spawn(async move {
                if let Err(error) = serve(connection, events).await {
                    tracing::warn!("control connection: {error}");
                }
                drop(slot);
            });
        }
    });
    Ok(())
}

async fn serve(connection: Watched, events: mpsc::Sender<Event>) -> io::Result<()> {
    loop {
        let Ok(received) = tokio::time::timeout(TIMEOUT, receive(&connection)).await else {
            return Ok(());
        };
        let Some((request, descriptors)) = received? else { return Ok(()) };
        let replies = match request {
            Ok(request) => {
                let (answer, answered) = oneshot::channel();
                if events.send(Event::Called(Box::new(Call { request, descriptors, answer }))).await.is_err() {
                    return Ok(());
                }
                let Ok(replies) = answered.await else { return Ok(()) };
                replies
            }
            Err(error) => {
                vec![NetReply::Failed(Failure::refused(Step::Request, "netd", &error.to_string()))]
            }
        };
        for reply in &replies {
            match tokio::time::timeout(TIMEOUT, reply_with(&connection, reply)).await {
                Ok(sent) => sent?,
                Err(_) => return Ok(()),
            }
        }
    }
}

type Received = (Result<NetRequest, yado_wire::DecodeError>, Vec<OwnedFd>);

/// `None`: the peer has hung up.
async fn receive(connection: &Watched) -> io::Result<Option<Received>> {
    read_from(connection, |socket| {
        // On the heap for the moment of reading only: a connection that waits costs no buffer.
        let mut buffer = vec![0; MAX_FRAME_BYTES];
        let Some(packet) = packet::recv(socket, &mut buffer)? else { return Ok(None) };
        if packet.is_end() {
            return Ok(Some(None));
        }
        Ok(Some(Some((yado_wire::decode(&buffer[..packet.len]), packet.descriptors))))
    })
    .await
}

async fn reply_with(connection: &Watched, reply: &NetReply) -> io::Result<()> {
    // The bounds of the message types rule out a reply that is too long.
    let Some(bytes) = yado_wire::encode(reply) else { return Ok(()) };
    loop {
        let mut ready = connection.writable().await?;
        match packet::send(connection.get_ref(), &bytes, &[]) {
            Ok(Some(())) => return Ok(()),
            Ok(None) => ready.clear_ready(),
            // Whoever asked is gone.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
