//! The rings of the log: one for the system, and one for the output of each instance, so that an instance can displace only its
//! own lines. A reader gets the records of all rings in the order in which they came.

use super::ring::LogRing;
use std::io;
use std::path::{Path, PathBuf};
use yado_wire::MAX_INSTANCES;

/// About fifteen hundred lines: a boot with several containers and what came before a fault.
const SYSTEM_BYTES: u64 = 192 * 1024;

/// Some three hundred lines. With the most instances that there may be, all of them together take eight megabytes.
const INSTANCE_BYTES: u64 = 32 * 1024;

/// What stands before each record: its number.
const NUMBER_BYTES: usize = size_of::<u64>();

/// All rings.
#[derive(Debug)]
pub(crate) struct LogRings {
    directory: PathBuf,
    /// The system's, then those of instances in the order in which they first printed.
    rings: Vec<LogRing>,
    instances: Vec<String>,
    /// The number of the next record; numbers order the records of all rings.
    next: u64,
}

/// How far somebody has read.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogPosition(Vec<Cursor>);

#[derive(Debug, Clone, Default)]
struct Cursor {
    position: u64,
    /// The number of the record there, where that is known.
    number: Option<u64>,
}

impl LogRings {
    /// Empty rings in `directory`.
    pub(crate) fn create(directory: &Path) -> io::Result<LogRings> {
        LogRings::with_system_bytes(directory, SYSTEM_BYTES)
    }

    fn with_system_bytes(directory: &Path, bytes: u64) -> io::Result<LogRings> {
        let system = LogRing::create(&directory.join("ring"), bytes)?;
        Ok(LogRings { directory: directory.to_owned(), rings: vec![system], instances: Vec::new(), next: 0 })
    }

    /// Adds a record, of an instance or of the system.
    pub(crate) fn append(&mut self, instance: Option<&str>, record: &[u8]) -> io::Result<()> {
        let number = self.next;
        self.next = number.wrapping_add(1);
        let at = instance.map_or(Ok(0), |name| self.ring_of(name))?;
        self.rings.get_mut(at).map_or(Ok(()), |ring| ring.append(&number.to_le_bytes(), record))
    }

    /// Whether there is a record that was not read yet.
    pub(crate) fn has_more(&self, from: &LogPosition) -> bool {
        let position = |at: usize| from.0.get(at).map_or(0, |cursor| cursor.position);
        self.rings.iter().enumerate().any(|(at, ring)| position(at) < ring.head())
    }

    /// Reads the next record into `buffer`. `false`: there is none. A reader that was overtaken in a ring goes on at its oldest
    /// record, and a ring that somebody damaged has no more to give.
    pub(crate) fn read(&self, from: &mut LogPosition, buffer: &mut Vec<u8>) -> bool {
        from.0.resize(self.rings.len(), Cursor::default());
        for _ in 0..=self.rings.len() {
            for (ring, cursor) in self.rings.iter().zip(&mut from.0) {
                if cursor.number.is_none() || cursor.position < ring.tail() {
                    cursor.number = number_at(ring, cursor);
                }
            }
            let both = self.rings.iter().zip(&mut from.0);
            let Some((ring, cursor)) =
                both.filter(|(_, cursor)| cursor.number.is_some()).min_by_key(|(_, cursor)| cursor.number)
            else {
                return false;
            };
            cursor.number = None;
            match ring.read(cursor.position, buffer) {
                Ok(Some(next)) if NUMBER_BYTES <= buffer.len() => {
                    cursor.position = next;
                    buffer.drain(..NUMBER_BYTES);
                    return true;
                }
                Ok(_) | Err(_) => cursor.position = ring.head(),
            }
        }
        false
    }

    /// There is no such instance any more. What it printed is read until another instance's lines are written over it.
    pub(crate) fn release(&mut self, name: &str) {
        if let Some(known) = self.instances.iter_mut().find(|known| *known == name) {
            known.clear();
        }
    }

    fn ring_of(&mut self, name: &str) -> io::Result<usize> {
        if let Some(at) = self.instances.iter().position(|known| known == name) {
            return Ok(at.saturating_add(1));
        }
        if let Some((at, free)) = self.instances.iter_mut().enumerate().find(|(_, known)| known.is_empty()) {
            name.clone_into(free);
            return Ok(at.saturating_add(1));
        }
        if MAX_INSTANCES <= self.instances.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.rings
            .push(LogRing::create(&self.directory.join(format!("instance-{}", self.rings.len())), INSTANCE_BYTES)?);
        self.instances.push(name.to_owned());
        Ok(self.instances.len())
    }
}

/// The number of the record that is next in a ring; `None`: there is none.
fn number_at(ring: &LogRing, cursor: &mut Cursor) -> Option<u64> {
    let mut number = [0; NUMBER_BYTES];
    match ring.peek(cursor.position, &mut number) {
        Ok(is_there) => is_there.then(|| u64::from_le_bytes(number)),
        Err(_) => {
            cursor.position = ring.head();
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn all(rings: &LogRings, from: &mut LogPosition) -> Vec<String> {
        let (mut records, mut buffer) = (Vec::new(), Vec::new());
        while rings.read(from, &mut buffer) {
            records.push(String::from_utf8(buffer.clone()).unwrap());
        }
        assert!(!rings.has_more(from));
        records
    }

    #[test]
    fn those_that_come_and_go_do_not_use_up_the_rings() {
        let directory = tempfile::tempdir().unwrap();
        let mut rings = LogRings::with_system_bytes(directory.path(), 1024).unwrap();
        rings.append(Some("stays"), b"stays says").unwrap();
        let mut follower = LogPosition::default();
        for number in 0..2 * MAX_INSTANCES {
            let name = format!("guest{number}");
            rings.append(Some(&name), name.as_bytes()).unwrap();
            assert_eq!(all(&rings, &mut follower).last(), Some(&name));
            rings.release(&name);
        }
        assert_eq!(rings.rings.len(), 3, "the system's, and two");
        assert_eq!(all(&rings, &mut LogPosition::default()).first().unwrap(), "stays says");
    }

    #[test]
    fn a_flood_of_one_leaves_the_lines_of_all_others_and_all_come_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let mut rings = LogRings::with_system_bytes(directory.path(), 1024).unwrap();
        rings.append(None, b"we start").unwrap();
        rings.append(Some("good"), b"good says").unwrap();
        let mut follower = LogPosition::default();
        assert_eq!(all(&rings, &mut follower), ["we start", "good says"]);
        for number in 0..20_000 {
            rings.append(Some("bad"), format!("flood {number}").as_bytes()).unwrap();
        }
        rings.append(None, b"we go on").unwrap();
        rings.append(Some("good"), b"good is still here").unwrap();
        let records = all(&rings, &mut LogPosition::default());
        let others: Vec<&str> =
            records.iter().map(String::as_str).filter(|text| !text.starts_with("flood")).collect();
        assert_eq!(others, ["we start", "good says", "we go on", "good is still here"]);
        let floods: Vec<&String> = records.iter().filter(|text| text.starts_with("flood")).collect();
        assert_eq!((floods.last().unwrap().as_str(), 500 < floods.len()), ("flood 19999", true));
        assert_eq!(records.iter().position(|text| text == "we go on"), Some(records.len() - 2));
        // Who followed has missed some of the flood and nothing else.
        let followed = all(&rings, &mut follower);
        assert_eq!(followed, records[2..]);
    }

    #[test]
    fn a_ring_that_somebody_cut_off_ends_and_the_others_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let mut rings = LogRings::with_system_bytes(directory.path(), 1024).unwrap();
        rings.append(Some("one"), b"lost").unwrap();
        rings.append(None, b"kept").unwrap();
        let ring = directory.path().join("instance-1");
        std::fs::File::options().write(true).truncate(true).open(ring).unwrap();
        let mut reader = LogPosition::default();
        assert_eq!(all(&rings, &mut reader), ["kept"]);
        rings.append(Some("one"), b"new").unwrap();
        assert_eq!(all(&rings, &mut reader), ["new"]);
    }
}
