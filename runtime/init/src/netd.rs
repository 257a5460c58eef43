//! What init tells netd: that a run of an instance is over. Asked without waiting, in a queue, and tried again; the launcher's
//! questions are its own.

use crate::log::Priority;
use crate::moment::Moment;
use crate::supervisor::Supervisor;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Duration;
use yado_sys::packet;
use yado_wire::network::{NetReply, NetRequest, RunNumber};
use yado_wire::{InstanceName, MAX_FRAME_BYTES};

/// The service's name.
pub(crate) const SERVICE: &str = "netd";

/// How long instances with interfaces wait for netd to be ready before they are started all the same, and then fail with
/// netd's reason.
const PATIENCE: Duration = Duration::from_secs(20);

/// A netd that is being started again is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// As many instances as there can be.
const MOST_QUEUED: usize = crate::supervisor::MOST_INSTANCES;

/// The queue, and the question that is on its way.
#[derive(Debug, Default)]
pub(crate) struct Netd {
    queue: VecDeque<(InstanceName, RunNumber)>,
    asked: Option<OwnedFd>,
    ask_at: Option<Moment>,
    /// When services were first started.
    pub(crate) since: Option<Moment>,
}

impl Netd {
    /// A run of an instance is over.
    pub(crate) fn detach(&mut self, name: InstanceName, run: RunNumber) {
        // The first of the queue may be on its way already. Of the others, the later run's end means the earlier's too.
        let is_asked = usize::from(self.asked.is_some());
        if let Some((_, queued)) = self.queue.iter_mut().skip(is_asked).find(|(queued, _)| *queued == name) {
            *queued = run.max(*queued);
        } else if self.queue.len() < MOST_QUEUED {
            self.queue.push_back((name, run));
        }
    }

    /// Where an answer comes from.
    pub(crate) fn socket(&self) -> Option<&OwnedFd> {
        self.asked.as_ref()
    }

    /// When it is asked again.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        if self.asked.is_none() && !self.queue.is_empty() { self.ask_at } else { None }
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

    /// Asks what waits to be asked.
    pub(crate) fn advance_netd(&mut self, now: Moment) {
        if self.netd.asked.is_some() || self.netd.ask_at.is_some_and(|at| now < at) {
            return;
        }
        let Some((name, run)) = self.netd.queue.front() else { return };
        let request = NetRequest::Detach { instance: name.clone(), run: *run };
        let asked = packet::connect_now(&self.places.netd_socket()).and_then(|socket| {
            let packet = yado_wire::encode(&request).unwrap_or_default();
            packet::send(&socket, &packet, &[])?;
            Ok(socket)
        });
        match asked {
            Ok(socket) => self.netd.asked = Some(socket),
            Err(_) => self.netd.ask_at = Some(now.saturating_add(ASK_AGAIN)),
        }
        // Nobody is there to be asked any more.
        if !self.services.iter().any(|service| service.name == SERVICE) || self.shutdown.is_some() {
            self.netd.queue.clear();
        }
    }

    /// Reads netd's answer.
    pub(crate) fn read_netd(&mut self, now: Moment) {
        let mut buffer = [0; MAX_FRAME_BYTES];
        let Some(socket) = &self.netd.asked else { return };
        let answer = match packet::recv(socket, &mut buffer) {
            Ok(None) => return,
            Ok(Some(received)) if !received.is_end() => {
                yado_wire::decode::<NetReply>(buffer.get(..received.len).unwrap_or(&[])).ok()
            }
            Ok(Some(_)) | Err(_) => None,
        };
        self.netd.asked = None;
        match answer {
            Some(NetReply::Failed(failure)) => {
                self.log.say(Priority::Warning, format_args!("netd: {failure}"));
                self.netd.queue.pop_front();
            }
            Some(NetReply::Attached | NetReply::Link(_) | NetReply::Done) => {
                self.netd.queue.pop_front();
            }
            None => self.netd.ask_at = Some(now.saturating_add(ASK_AGAIN)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_later_run_is_not_lost_behind_one_that_is_being_told() {
        let name = |text: &str| InstanceName::parse(text).unwrap();
        let mut netd = Netd::default();
        netd.detach(name("one"), RunNumber(10));
        netd.detach(name("two"), RunNumber(11));
        netd.detach(name("one"), RunNumber(12));
        assert_eq!(
            netd.queue,
            [(name("one"), RunNumber(12)), (name("two"), RunNumber(11))],
            "one question is enough"
        );
        netd.asked = Some(std::fs::File::open("/dev/null").unwrap().into());
        netd.detach(name("one"), RunNumber(13));
        assert_eq!(netd.queue.back(), Some(&(name("one"), RunNumber(13))), "the first is on its way");
        assert_eq!(netd.queue.len(), 3);
    }
}
