//! The control socket: its clients, the answers that they are getting, and the limits of both. A slow reader is waited for only
//! if the answer is read from a ring. If answers would have to be queued for it, it is disconnected.

pub(crate) mod client;
mod exchange;
mod requests;

use crate::boot_clock::Moment;
use crate::deferred_close::CloseBy;
use crate::log::Priority;
use crate::supervisor::Supervisor;
use client::{Client, Streams};
use yado_sys::packet;
use yado_sys::poll::Readiness;

impl Supervisor {
    /// Takes a new connection, of root only.
    pub(crate) fn accept_client(&mut self) {
        let Some(listener) = &self.sockets.control else { return };
        let Ok(Some(socket)) = packet::accept(listener) else { return };
        let socket = self.close_queue.discarded().hold(socket, CloseBy::HangUp);
        match packet::peer_credentials(&socket) {
            Ok(peer) if peer.uid == 0 => {}
            Ok(peer) => {
                self.log.say(
                    Priority::Warning,
                    format_args!("process {} of user {} may not ask: only root may", peer.pid, peer.uid),
                );
                return;
            }
            Err(_) => return,
        }
        self.clients.add(socket);
    }

    /// Serves one client that asks, hangs up or takes more.
    pub(crate) fn serve_client(&mut self, id: u32, readiness: Readiness, now: Moment) {
        if readiness.writable {
            if let Some(client) = self.clients.find(id) {
                client.is_blocked = false;
            }
        }
        if readiness.readable || readiness.hung_up {
            self.read_request(id, now);
        }
    }

    /// Sends every client what it can take, and lets go of those that are gone.
    pub(crate) fn serve_streams(&mut self) {
        let mut clients = std::mem::take(&mut self.clients.list);
        for client in &mut clients {
            client.serve(&Streams::of(&self.log, &self.events));
        }
        let (lost, kept): (Vec<Client>, Vec<Client>) = clients.into_iter().partition(|client| client.is_lost);
        self.clients.list = kept;
        for client in lost {
            self.forget_client(&client);
        }
    }
}
