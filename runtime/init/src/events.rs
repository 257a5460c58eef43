//! What happened, for whoever asks: a bounded ring of events, each as the packet that carries it.

use std::collections::VecDeque;
use yado_sys::clock;
use yado_wire::AboutInstance;
use yado_wire::rescue::{Event, EventKind, Reply};

/// A boot of several instances makes some fifty.
const MOST_EVENTS: usize = 256;

/// The ring.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Sequence number of the first packet.
    first: u64,
    packets: VecDeque<Box<[u8]>>,
}

impl Events {
    /// Adds an event.
    pub(crate) fn publish(&mut self, about: Option<&AboutInstance>, kind: EventKind) {
        let event = Reply::Event(Event {
            sequence: self.next(),
            monotonic_us: u64::try_from(clock::since_boot().as_micros()).unwrap_or(u64::MAX),
            instance: about.cloned(),
            kind: Some(kind),
        });
        let Some(packet) = yado_wire::encode(&event) else { return };
        if MOST_EVENTS <= self.packets.len() {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use yado_wire::names::clipped;

    #[test]
    fn a_reader_that_sleeps_misses_the_oldest() {
        let mut events = Events::default();
        for number in 0..300 {
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
        assert_eq!((seen.first(), seen.last(), seen.len()), (Some(&44), Some(&299), 256));
        assert_eq!(events.read(sequence), None);
    }
}
