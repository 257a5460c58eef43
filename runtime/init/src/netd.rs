//! What init tells netd: that a run of an instance is over. Asked without waiting, in a queue, and tried again; the launcher's
//! questions are its own.

mod detach_queue;

use crate::log::Priority;
use crate::moment::Moment;
use crate::service::Wanted;
use crate::supervisor::Supervisor;
use crate::untrusted::{Untrusted, Way};
use detach_queue::{Action, DetachQueue, Event, Peer};
use std::time::Duration;
use yado_sys::packet;
use yado_wire::network::{NetReply, NetRequest, RunNumber};
use yado_wire::{InstanceName, MAX_FRAME_BYTES};

/// The service's name.
pub(crate) const SERVICE: &str = "netd";

/// How long instances with interfaces wait for netd to be ready before they are started all the same, and then fail with
/// netd's reason.
const PATIENCE: Duration = Duration::from_secs(20);

/// What netd is to be told, and the question that is on its way.
#[derive(Debug, Default)]
pub(crate) struct Netd {
    queue: DetachQueue,
    socket: Option<Untrusted>,
    /// When services were first started.
    pub(crate) since: Option<Moment>,
}

impl Netd {
    /// Where an answer comes from.
    pub(crate) fn socket(&self) -> Option<&Untrusted> {
        self.socket.as_ref()
    }

    /// When something is to be done.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.queue.deadline()
    }
}

impl Supervisor {
    /// Whether netd is ready, or will not be soon.
    pub(crate) fn is_network_decided(&self) -> bool {
        let Some(service) = self.services.iter().find(|service| service.name == SERVICE) else { return true };
        service.is_ready || self.netd_patience().is_none()
    }

    /// Until when instances with interfaces wait for netd.
    pub(crate) fn netd_patience(&self) -> Option<Moment> {
        let is_ready = self.services.iter().any(|service| service.name == SERVICE && service.is_ready);
        let until = self.netd.since?.saturating_add(PATIENCE);
        (!is_ready && yado_sys::clock::since_boot() < until).then_some(until)
    }

    /// A run of an instance is over.
    pub(crate) fn detach(&mut self, name: InstanceName, run: RunNumber, now: Moment) {
        self.step_netd(Event::Ended((name, run)), now);
    }

    /// Asks what waits to be asked.
    pub(crate) fn advance_netd(&mut self, now: Moment) {
        self.step_netd(Event::Wake, now);
    }

    /// Tells the table that something happened, and does what it says.
    fn step_netd(&mut self, event: Event, now: Moment) {
        let has_netd = self.services.iter().any(|service| service.name == SERVICE);
        let peer = match self.wanted_services() {
            Wanted::Up if has_netd => Peer::Here,
            Wanted::Up | Wanted::Down => Peer::Gone,
        };
        let (queue, action) = detach_queue::step(std::mem::take(&mut self.netd.queue), peer, event, now);
        self.netd.queue = queue;
        match action {
            Action::None => {}
            Action::HangUp => self.netd.socket = None,
            Action::Ask((instance, run)) => {
                let packet = yado_wire::encode(&NetRequest::Detach { instance, run }).unwrap_or_default();
                let asked = packet::unconnected().and_then(|socket| {
                    let socket = self.closing.discarded().hold(socket, Way::HangUp);
                    packet::connect_now(&socket, &self.places.netd_socket())?;
                    packet::send(&socket, &packet, &[])?;
                    Ok(socket)
                });
                match asked {
                    Ok(socket) => self.netd.socket = Some(socket),
                    Err(_) => self.step_netd(Event::Lost, now),
                }
            }
        }
    }

    /// Reads netd's answer.
    pub(crate) fn read_netd(&mut self, now: Moment) {
        let mut buffer = [0; MAX_FRAME_BYTES];
        let Some(socket) = &self.netd.socket else { return };
        let answer = match packet::recv(socket, &mut buffer) {
            Ok(None) => return,
            Ok(Some(received)) if !received.is_end() => {
                yado_wire::decode::<NetReply>(buffer.get(..received.len).unwrap_or(&[])).ok()
            }
            Ok(Some(_)) | Err(_) => None,
        };
        let event = match answer {
            Some(NetReply::Failed(failure)) => {
                self.log.say(Priority::Warning, format_args!("netd: {failure}"));
                Event::Answered
            }
            Some(NetReply::Attached | NetReply::Link(_) | NetReply::Done) => Event::Answered,
            None => Event::Lost,
        };
        self.step_netd(event, now);
    }
}
