//! The control socket: who is connected, what each is being told, and how that stays bounded. A client that does not read
//! is waited for only where the answer is read from a ring; where it would have to be queued, it is hung up on.

mod exchange;
mod requests;

use crate::log::Priority;
use crate::moment::Moment;
use crate::supervisor::Supervisor;
use crate::untrusted::{Untrusted, Way};
use exchange::Exchange;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use yado_sys::packet;
use yado_sys::poll::{Interest, Readiness};
use yado_wire::rescue::Reply;
use yado_wire::{Failure, Step};

/// The most connections; the kernel holds further ones back until one ends.
pub(crate) const MOST_CLIENTS: usize = 24;

/// The most replies that wait for one client: a status of all instances and services.
const MOST_QUEUED: usize = 128;

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its number; never used again.
    pub(crate) id: u32,
    /// The connection.
    pub(crate) socket: Untrusted,
    /// What it is being told.
    exchange: Exchange,
    /// Replies that the socket has not taken yet.
    queue: VecDeque<Vec<u8>>,
    /// Its socket took no more.
    is_blocked: bool,
    /// It is to be hung up on.
    is_lost: bool,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    list: Vec<Client>,
    next_id: u32,
}

impl Clients {
    /// No more may connect now.
    pub(crate) fn is_full(&self) -> bool {
        MOST_CLIENTS <= self.list.len()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.list.iter()
    }

    fn find(&mut self, id: u32) -> Option<&mut Client> {
        self.list.iter_mut().find(|client| client.id == id)
    }
}

impl Client {
    /// What it is polled for.
    pub(crate) fn interest(&self, init: &Supervisor) -> Interest {
        if init.closing.is_own_overdue() {
            return Interest::HangUp;
        }
        let has_more = !self.queue.is_empty() || self.exchange.has_more(init);
        if has_more { Interest::ReadWrite } else { Interest::Read }
    }

    /// Sends a reply, after those that wait.
    fn reply(&mut self, reply: &Reply) {
        let Some(packet) = yado_wire::encode(reply) else { return };
        if self.queue.is_empty() && self.send(&packet) {
            return;
        }
        if MOST_QUEUED <= self.queue.len() {
            self.is_lost = true;
            return;
        }
        self.queue.push_back(packet);
    }

    /// Ends the exchange with a refusal.
    fn refuse(&mut self, object: &str, reason: &str) {
        self.exchange = Exchange::Idle;
        self.reply(&Reply::Refused(Failure::refused(Step::Request, object, reason)));
    }

    /// Sends one packet. `false`: the socket takes no more now.
    fn send(&mut self, packet: &[u8]) -> bool {
        match packet::send(&self.socket, packet, &[]) {
            Ok(Some(())) => true,
            Ok(None) => {
                self.is_blocked = true;
                false
            }
            Err(_) => {
                self.is_lost = true;
                true
            }
        }
    }

    /// Sends one reply with a descriptor; it is not queued.
    fn reply_with(&mut self, reply: &Reply, descriptor: &Untrusted) {
        let Some(packet) = yado_wire::encode(reply) else { return };
        let sent = packet::send(&self.socket, &packet, &[descriptor.as_fd()]);
        if !matches!(sent, Ok(Some(()))) {
            self.is_lost = true;
        }
    }
}

impl Supervisor {
    /// Takes a new connection, of root only.
    pub(crate) fn accept_client(&mut self) {
        let Some(listener) = &self.sockets.control else { return };
        let Ok(Some(socket)) = packet::accept(listener) else { return };
        let socket = self.closing.discarded().hold(socket, Way::HangUp);
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
        let id = self.clients.next_id;
        self.clients.next_id = id.wrapping_add(1);
        self.clients.list.push(Client {
            id,
            socket,
            exchange: Exchange::Idle,
            queue: VecDeque::new(),
            is_blocked: false,
            is_lost: false,
        });
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
            while let Some(packet) = client.queue.front() {
                let packet = packet.clone();
                if client.is_blocked || client.is_lost || !client.send(&packet) {
                    break;
                }
                client.queue.pop_front();
            }
            if client.queue.is_empty() && !client.is_blocked && !client.is_lost {
                client.stream(self);
            }
        }
        let (lost, kept): (Vec<Client>, Vec<Client>) = clients.into_iter().partition(|client| client.is_lost);
        self.clients.list = kept;
        for client in lost {
            self.forget_client(&client);
        }
    }
}
