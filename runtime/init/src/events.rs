//! A bounded ring of the last events, each stored as the packet that carries it to a client. Its length depends on the number of
//! instances, so that after a start of all of them every event of that start is still there.

use std::collections::VecDeque;
use yado_sys::clock;
use yado_wire::rescue::{Event, EventKind, Reply};
use yado_wire::{AboutInstance, MAX_INSTANCES};

/// Those of the system itself: its stages are some twenty, and services of ours may end.
const MAX_OF_SYSTEM: usize = 64;

/// Those of one instance: it is added, starts, is ready, stops and ends in some eight, and who looks for what went wrong wants
/// the life before this one too.
const MAX_OF_INSTANCE: usize = 16;

/// The ring of the last events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Sequence number of the first packet.
    first: u64,
    packets: VecDeque<Box<[u8]>>,
    /// The most instances that there were at once; at most [`MAX_INSTANCES`].
    instances: usize,
}

impl Events {
    /// Keeps enough for so many instances from now on. Nothing is forgotten because there are fewer.
    pub(crate) fn keep_for(&mut self, instances: usize) {
        self.instances = self.instances.max(instances.min(MAX_INSTANCES));
    }

    /// Adds an event.
    pub(crate) fn publish(&mut self, about: Option<&AboutInstance>, kind: EventKind) {
        let event = Reply::Event(Event {
            sequence: self.next(),
            monotonic_us: u64::try_from(clock::since_boot().as_micros()).unwrap_or(u64::MAX),
            instance: about.cloned(),
            kind: Some(kind),
        });
        let Some(packet) = yado_wire::encode(&event) else { return };
        if self.max_packets() <= self.packets.len() {
            self.packets.pop_front();
            self.first = self.first.saturating_add(1);
        }
        self.packets.push_back(packet.into_boxed_slice());
    }

    /// The sequence number of the event that has not happened yet.
    pub(crate) fn next(&self) -> u64 {
        self.first.saturating_add(self.packets.len() as u64)
    }

    /// The packet of the first event that is not before `sequence`, and the sequence number after it.
    pub(crate) fn read(&self, sequence: u64) -> Option<(&[u8], u64)> {
        let sequence = sequence.max(self.first);
        let packet = self.packets.get(usize::try_from(sequence.saturating_sub(self.first)).ok()?)?;
        Some((packet, sequence.saturating_add(1)))
    }

    fn max_packets(&self) -> usize {
        self.instances.saturating_mul(MAX_OF_INSTANCE).saturating_add(MAX_OF_SYSTEM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yado_wire::names::clipped;

    /// The sequence numbers of all that are kept after so many were published.
    fn kept(events: &mut Events, published: u64) -> Vec<u64> {
        for number in events.next()..published {
            events.publish(None, EventKind::Stage(clipped(&number.to_string())));
        }
        let mut sequence = 0;
        let mut seen = Vec::new();
        while let Some((packet, next)) = events.read(sequence) {
            if let Ok(Reply::Event(event)) = yado_wire::decode(packet) {
                seen.push(event.sequence);
            }
            sequence = next;
        }
        assert_eq!(events.read(sequence), None);
        seen
    }

    #[test]
    fn a_reader_that_sleeps_misses_the_oldest_and_the_more_instances_the_later() {
        let mut events = Events::default();
        assert_eq!(kept(&mut events, 300), (236..300).collect::<Vec<_>>());
        events.keep_for(10);
        assert_eq!(kept(&mut events, 524), (300..524).collect::<Vec<_>>(), "64 and 16 for each of ten");
        events.keep_for(9);
        assert_eq!(kept(&mut events, 600).len(), 224, "one that goes takes no events along");
        events.keep_for(usize::MAX);
        assert_eq!(kept(&mut events, 6000).len(), 64 + 16 * MAX_INSTANCES, "bounded by what bounds the instances");
    }
}
