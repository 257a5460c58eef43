//! Tells netd that a run of an instance is over: from a queue, without blocking, and repeated until netd answers. Launchers talk
//! to netd themselves.

pub(crate) mod detach_queue;

use crate::boot_clock::Moment;
use crate::deferred_close::{CloseBy, DeferredClose, Discarded};
use crate::log::{Log, Priority};
use crate::service::Service;
use detach_queue::{Action, DetachQueue, Event, Peer};
use std::path::Path;
use std::time::Duration;
use yado_sys::packet;
use yado_wire::network::{AttachReply, NetRequest};
use yado_wire::{InstanceId, MAX_FRAME_BYTES};

/// netd's name in the list of services.
pub(crate) const SERVICE: &str = "netd";

/// How long instances with interfaces wait for netd to listen before they are started all the same, and then fail with
/// netd's reason. Should it come later, they are started again.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What netd is to be told, and the question that is on its way.
#[derive(Debug, Default)]
pub(crate) struct Netd {
    queue: DetachQueue,
    socket: Option<DeferredClose>,
    /// When it was first started: before that it is not waited for in vain, for its modules are being loaded.
    pub(crate) since: Option<Moment>,
}

/// What asking netd needs besides.
#[derive(Debug)]
pub(crate) struct Peering<'a> {
    /// Whether there is somebody to ask.
    pub(crate) peer: Peer,
    /// netd's socket.
    pub(crate) socket: &'a Path,
    /// Where our own sockets go when they are dropped.
    pub(crate) discarded: &'a Discarded,
}

/// Whether netd listens.
pub(crate) fn is_ready(services: &[Service]) -> bool {
    services.iter().any(|service| service.name == SERVICE && service.is_ready)
}

impl Netd {
    /// Where an answer comes from.
    pub(crate) fn socket(&self) -> Option<&DeferredClose> {
        self.socket.as_ref()
    }

    /// When something is to be done.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.queue.deadline()
    }

    /// Until when instances with interfaces wait for netd.
    pub(crate) fn timeout(&self, services: &[Service]) -> Option<Moment> {
        let is_ready = is_ready(services);
        let until = self.since?.saturating_add(TIMEOUT);
        (!is_ready && yado_sys::clock::since_boot() < until).then_some(until)
    }

    /// Whether netd is ready, or will not be soon.
    pub(crate) fn is_decided(&self, services: &[Service]) -> bool {
        let Some(service) = services.iter().find(|service| service.name == SERVICE) else { return true };
        service.is_ready || (self.since.is_some() && self.timeout(services).is_none())
    }

    /// Tells the table that something happened, and does what it says.
    pub(crate) fn step(&mut self, event: Event, to: &Peering<'_>, log: &mut Log, now: Moment) {
        let (queue, action) = detach_queue::step(std::mem::take(&mut self.queue), to.peer, event, now);
        self.queue = queue;
        match action {
            Action::None => {}
            Action::HangUp => self.socket = None,
            Action::SayDropped((InstanceId(instance), _)) => log.say(
                Priority::Warning,
                format_args!(
                    "netd will not be told that a run of instance {instance} has ended: too many ended runs wait"
                ),
            ),
            Action::Ask((instance, run)) => {
                let packet = yado_wire::encode(&NetRequest::Detach { instance, run }).unwrap_or_default();
                let asked = packet::unconnected().and_then(|socket| {
                    let socket = to.discarded.hold(socket, CloseBy::HangUp);
                    packet::connect_socket(&socket, to.socket)?;
                    packet::send(&socket, &packet, &[])?;
                    Ok(socket)
                });
                match asked {
                    Ok(socket) => self.socket = Some(socket),
                    Err(_) => self.step(Event::Lost, to, log, now),
                }
            }
        }
    }

    /// Reads netd's answer. `None`: it has not come yet.
    pub(crate) fn read(&self, log: &mut Log) -> Option<Event> {
        let mut buffer = [0; MAX_FRAME_BYTES];
        let answer = match packet::recv(self.socket.as_ref()?, &mut buffer) {
            Ok(None) => return None,
            Ok(Some(received)) if !received.is_end() => {
                yado_wire::decode::<AttachReply>(buffer.get(..received.len).unwrap_or(&[])).ok()
            }
            Ok(Some(_)) | Err(_) => None,
        };
        Some(match answer {
            Some(AttachReply::Failed(failure)) => {
                log.say(Priority::Warning, format_args!("netd: {failure}"));
                Event::Answered
            }
            Some(AttachReply::Attached | AttachReply::Link | AttachReply::Done) => Event::Answered,
            None => Event::Lost,
        })
    }
}
