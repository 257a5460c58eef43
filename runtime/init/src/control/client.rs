//! One client: its connection, the exchange that is under way, and the replies that wait to be sent.

use crate::deferred_close::DeferredClose;
use crate::events::Events;
use crate::launch::LaunchId;
use crate::log::rings::{LogPosition, LogRings};
use crate::log::{Log, console_identifier};
use crate::service_list::MAX_SERVICES;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use yado_sys::packet;
use yado_sys::poll::Interest;
use yado_wire::rescue::{LogRecord, Reply};
use yado_wire::{Failure, InstanceId, InstanceName, MAX_INSTANCES, Step};

/// Packets that one client gets before the others have their turn.
const MAX_AT_ONCE: usize = 64;

/// The most connections; the kernel holds further ones back until one ends.
pub(crate) const MAX_CLIENTS: usize = 24;

/// The most replies that wait for one client: a status of all instances and services (netd and the updater are two more than the
/// image lists), the system's, and the end.
const MAX_QUEUED: usize = MAX_INSTANCES + MAX_SERVICES + 2 + 2;

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its number; never used again.
    pub(crate) id: u32,
    pub(crate) socket: DeferredClose,
    /// What it is being told.
    pub(super) exchange: Exchange,
    /// Replies that the socket has not taken yet.
    queue: VecDeque<Vec<u8>>,
    /// Its socket took no more.
    pub(super) is_blocked: bool,
    /// It is to be hung up on.
    pub(super) is_lost: bool,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    pub(super) list: Vec<Client>,
    next_id: u32,
}

/// What clients can be told from.
#[derive(Debug)]
pub(crate) struct Streams<'a> {
    rings: Option<&'a LogRings>,
    events: &'a Events,
}

impl<'a> Streams<'a> {
    /// The rings of the log, and the events.
    pub(crate) fn of(log: &'a Log, events: &'a Events) -> Streams<'a> {
        Streams { rings: log.rings(), events }
    }
}

/// What a client is being told.
#[derive(Debug)]
pub(super) enum Exchange {
    /// Nothing.
    Idle,
    /// Records of the log.
    Logs {
        /// How far it has read.
        position: LogPosition,
        /// Only this instance's.
        instance: Option<InstanceName>,
        /// It goes on after the last one.
        follow: bool,
    },
    /// Events from this one on.
    Events {
        /// The number of the event that is sent next.
        sequence: u64,
    },
    /// Until this run of this instance has started or failed.
    Starting { instance: InstanceId, run: u32 },
    /// Until this instance is gone.
    Stopping { instance: InstanceId },
    /// Until what it wanted applied is.
    Applying,
    /// Until another updater has ended, and one is started with these words and this as its standard input.
    StartingUpdate { words: Vec<String>, input: Option<DeferredClose> },
    /// Until the updater that it started has ended.
    Updating,
    /// Until no updater runs.
    StoppingUpdate,
    /// Until its command has ended.
    Command {
        /// The launch that runs it.
        launch: LaunchId,
    },
}

impl Clients {
    /// No more may connect now.
    pub(crate) fn is_full(&self) -> bool {
        MAX_CLIENTS <= self.list.len()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.list.iter()
    }

    /// Takes a new one.
    pub(super) fn add(&mut self, socket: DeferredClose) {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.list.push(Client {
            id,
            socket,
            exchange: Exchange::Idle,
            queue: VecDeque::new(),
            is_blocked: false,
            is_lost: false,
        });
    }

    pub(super) fn find(&mut self, id: u32) -> Option<&mut Client> {
        self.list.iter_mut().find(|client| client.id == id)
    }
}

impl Client {
    /// What it is polled for.
    pub(crate) fn interest(&self, streams: &Streams<'_>) -> Interest {
        let has_more = !self.queue.is_empty() || self.exchange.has_more(streams);
        if has_more { Interest::ReadWrite } else { Interest::Read }
    }

    /// Sends a reply, after those that wait.
    pub(super) fn reply(&mut self, reply: &Reply) {
        let Some(packet) = yado_wire::encode(reply) else { return };
        if self.queue.is_empty() && self.send(&packet) {
            return;
        }
        if MAX_QUEUED <= self.queue.len() {
            self.is_lost = true;
            return;
        }
        self.queue.push_back(packet);
    }

    /// Ends the exchange with a refusal.
    pub(super) fn refuse(&mut self, object: &str, reason: &str) {
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
    pub(super) fn reply_with(&mut self, reply: &Reply, descriptor: &DeferredClose) {
        let Some(packet) = yado_wire::encode(reply) else { return };
        let sent = packet::send(&self.socket, &packet, &[descriptor.as_fd()]);
        if !matches!(sent, Ok(Some(()))) {
            self.is_lost = true;
        }
    }
}

impl Exchange {
    /// Something can be sent without anything happening first.
    pub(super) fn has_more(&self, streams: &Streams<'_>) -> bool {
        match self {
            Exchange::Logs { position, .. } => streams.rings.is_some_and(|rings| rings.has_more(position)),
            Exchange::Events { sequence } => *sequence < streams.events.next(),
            Exchange::Idle
            | Exchange::Starting { .. }
            | Exchange::Stopping { .. }
            | Exchange::Applying
            | Exchange::StartingUpdate { .. }
            | Exchange::Updating
            | Exchange::StoppingUpdate
            | Exchange::Command { .. } => false,
        }
    }
}

impl Client {
    /// Sends what it can take: what waits, then of a ring.
    pub(super) fn serve(&mut self, streams: &Streams<'_>) {
        while !self.is_blocked && !self.is_lost {
            let Some(packet) = self.queue.pop_front() else { break };
            if !self.send(&packet) {
                self.queue.push_front(packet);
            }
        }
        if self.queue.is_empty() && !self.is_blocked && !self.is_lost {
            self.stream(streams);
        }
    }

    fn stream(&mut self, streams: &Streams<'_>) {
        match &self.exchange {
            Exchange::Logs { position, instance, follow } => {
                let (position, instance, follow) = (position.clone(), instance.clone(), *follow);
                self.stream_log(streams, position, instance, follow);
            }
            Exchange::Events { sequence } => {
                let mut sequence = *sequence;
                for _ in 0..MAX_AT_ONCE {
                    let Some((packet, next)) = streams.events.read(sequence) else { break };
                    if !self.send(packet) {
                        break;
                    }
                    sequence = next;
                }
                self.exchange = Exchange::Events { sequence };
            }
            Exchange::Idle
            | Exchange::Starting { .. }
            | Exchange::Stopping { .. }
            | Exchange::Applying
            | Exchange::StartingUpdate { .. }
            | Exchange::Updating
            | Exchange::StoppingUpdate
            | Exchange::Command { .. } => {}
        }
    }

    fn stream_log(
        &mut self,
        streams: &Streams<'_>,
        position: LogPosition,
        instance: Option<InstanceName>,
        follow: bool,
    ) {
        let mut position = position;
        let mut packet = Vec::new();
        for _ in 0..MAX_AT_ONCE {
            let before = position.clone();
            let is_record = streams.rings.is_some_and(|rings| rings.read(&mut position, &mut packet));
            if !is_record {
                if !follow {
                    self.exchange = Exchange::Idle;
                    self.reply(&Reply::Done);
                    return;
                }
                break;
            }
            if instance.as_ref().is_none_or(|name| is_about(&packet, name)) && !self.send(&packet) {
                position = before;
                break;
            }
        }
        self.exchange = Exchange::Logs { position, instance, follow };
    }
}

/// Whether a record is what the instance's console or we said about it.
fn is_about(packet: &[u8], name: &InstanceName) -> bool {
    let Some(record) = LogRecord::in_packet(packet) else { return false };
    record.identifier.as_str() == console_identifier(name.as_str())
        || (record.identifier.as_str() == crate::log::OWN_IDENTIFIER
            && record.message.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(':')))
}
