//! Which ids of the host each instance has. A range is given once and kept: another instance that comes or goes, a spec with
//! an error, or a range that has become too small changes nobody else's. Pure; `stored` keeps it on the data partition.
//!
//! An instance's own layer has the inner ids on disk. What has the host's are files on disks that it was given without
//! `shift`, and for those a range that changes hands would hand over the files.

pub(crate) mod stored;

use std::fmt::Write;
use yado_wire::InstanceName;
use yado_wire::hash::fnv32;

/// The first id that is given, where LXD begins.
pub(crate) const FIRST_ID: u32 = 1_000_000;

/// The first id that is given while the real data partition, which says whose the others are, is not there. So many ranges as
/// there can be do not reach it from [`FIRST_ID`], if they are not many times the usual size.
const FIRST_ID_APART: u32 = 1 << 30;

/// What an instance has if nobody says otherwise, and at least.
const USUAL_COUNT: u32 = 65_536;

/// The most ranges: many times the instances that a system can have, so that those that are gone can be remembered.
const MOST_RANGES: usize = 1024;

/// The first words of the file, with its version.
const MAGIC: &str = "yado-ids ";
const VERSION: &str = "1";

/// All ranges, none of which overlaps another, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IdRanges {
    ranges: Vec<Range>,
}

/// One instance's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    name: InstanceName,
    first: u32,
    count: u32,
}

/// What is known of an instance that is configured, or has left files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Its name.
    pub(crate) name: InstanceName,
    /// How many ids it needs; `None`: it needs none now, and keeps what it has.
    pub(crate) count: Option<u32>,
    /// The first id that it had, as its own directory says.
    pub(crate) witness: Option<u32>,
}

/// Why a file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParseError {
    /// It is not what was written.
    Damaged,
    /// Another version of ours has written it, which may need it again.
    OtherVersion,
}

impl IdRanges {
    /// Parses the file: a line with the version, one with name, first id and count for each range, and one with a sum of
    /// all that is before it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<IdRanges, ParseError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ParseError::Damaged)?;
        let (version, _) =
            text.strip_prefix(MAGIC).and_then(|rest| rest.split_once('\n')).ok_or(ParseError::Damaged)?;
        if version != VERSION {
            let is_version = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
            return Err(if is_version { ParseError::OtherVersion } else { ParseError::Damaged });
        }
        let mut ranges = IdRanges::default();
        for line in text.lines().skip(1) {
            let Some((name, first, count)) = parse_line(line) else { break };
            if !ranges.add(name, first, count) {
                return Err(ParseError::Damaged);
            }
        }
        // The sum, and whatever else a line might have been written like.
        if ranges.text() == text { Ok(ranges) } else { Err(ParseError::Damaged) }
    }

    /// The file.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{MAGIC}{VERSION}\n");
        for Range { name, first, count } in &self.ranges {
            let _ = writeln!(text, "{name} {first} {count}");
        }
        // Against a bit that flipped, not against anybody.
        let sum = fnv32(text.bytes());
        let _ = writeln!(text, "sum {sum:08x}");
        text
    }

    /// The first id of an instance's range.
    pub(crate) fn first_id(&self, name: &InstanceName) -> Option<u32> {
        self.ranges.iter().find(|range| range.name == *name).map(|range| range.first)
    }

    /// The ranges when these are all that claim one: who has none gets one, and who claims nothing any more loses it.
    pub(crate) fn settle(self, claims: &[Claim]) -> IdRanges {
        self.settle_from(FIRST_ID, claims)
    }

    /// The same where something stands in for the data partition: new ranges are none that may be another instance's there, whose
    /// files may lie on a disk that is there.
    pub(crate) fn settle_apart(self, claims: &[Claim]) -> IdRanges {
        self.settle_from(FIRST_ID_APART, claims)
    }

    fn settle_from(mut self, first: u32, claims: &[Claim]) -> IdRanges {
        self.ranges.retain(|range| claims.iter().any(|claim| claim.name == range.name));
        // What somebody had is nobody else's, before anybody gets a new one.
        for claim in claims {
            if let (None, Some(witness)) = (self.first_id(&claim.name), claim.witness) {
                let _ = self.add(claim.name.clone(), witness, claim.count.unwrap_or(USUAL_COUNT));
            }
        }
        for claim in claims {
            if let Some(count) = claim.count {
                self.provide(&claim.name, count, first);
            }
        }
        self
    }

    /// Sees to it that an instance has so many ids. If there is room behind its range it keeps its first one; a new one is not
    /// before `from`.
    fn provide(&mut self, name: &InstanceName, count: u32, from: u32) {
        let had = match self.ranges.iter().position(|range| range.name == *name) {
            Some(at) => self.ranges.remove(at),
            None => Range { name: name.clone(), first: 0, count: 0 },
        };
        let count = count.max(had.count);
        if self.add(had.name.clone(), had.first, count) {
            return;
        }
        // Behind all others first: what an instance that is gone has left belongs to nobody for as long as that goes.
        let ends = self.ranges.iter().map(|range| range.first.saturating_add(range.count)).filter(|end| from <= *end);
        let last = ends.clone().max().unwrap_or(from);
        let mut places: Vec<u32> = [from].into_iter().chain(ends).collect();
        places.insert(0, last);
        if !places.into_iter().any(|first| self.add(had.name.clone(), first, count)) && 0 < had.count {
            self.add(had.name, had.first, had.count);
        }
    }

    /// Adds a range where none overlaps it. `false`: it is not added.
    fn add(&mut self, name: InstanceName, first: u32, count: u32) -> bool {
        // The largest id stands for "none", so that the end, which is not in the range, is a number too.
        let Some(end) = first.checked_add(count) else { return false };
        let is_free = self.ranges.iter().all(|range| {
            range.name != name && (end <= range.first || range.first.saturating_add(range.count) <= first)
        });
        if first < FIRST_ID || count < USUAL_COUNT || !is_free || MOST_RANGES <= self.ranges.len() {
            return false;
        }
        let at = self.ranges.iter().take_while(|range| range.name < name).count();
        self.ranges.insert(at, Range { name, first, count });
        true
    }
}

fn parse_line(line: &str) -> Option<(InstanceName, u32, u32)> {
    let mut words = line.split(' ');
    let name = InstanceName::parse(words.next()?).ok()?;
    Some((name, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    fn name(text: &str) -> InstanceName {
        InstanceName::parse(text).unwrap()
    }

    fn claim(text: &str) -> Claim {
        Claim { name: name(text), count: Some(USUAL_COUNT), witness: None }
    }

    /// Which of the usual ranges an instance has.
    fn at(ranges: &IdRanges, text: &str) -> Option<u32> {
        ranges.first_id(&name(text)).map(|first| (first - FIRST_ID) / USUAL_COUNT)
    }

    fn three() -> IdRanges {
        IdRanges::default().settle(&[claim("b"), claim("c"), claim("d")])
    }

    #[test]
    fn a_range_stays_whoever_comes_or_goes() {
        let ranges = three();
        assert_eq!(["b", "c", "d"].map(|name| at(&ranges, name)), [Some(0), Some(1), Some(2)]);
        // One that is first in the alphabet; and one with an error in its spec, and one that is privileged now.
        let idle = Claim { count: None, ..claim("c") };
        let ranges = ranges.settle(&[claim("a"), claim("b"), idle.clone(), claim("d")]);
        assert_eq!(["a", "b", "c", "d"].map(|name| at(&ranges, name)), [Some(3), Some(0), Some(1), Some(2)]);
        // Gone with its instance, and given again only when there is nothing behind all others.
        let ranges = ranges.settle(&[claim("a"), idle, claim("d"), claim("e")]);
        assert_eq!(
            ["a", "b", "c", "d", "e"].map(|name| at(&ranges, name)),
            [Some(3), None, Some(1), Some(2), Some(4)]
        );
        // An error before it ever had one.
        let new = Claim { count: None, ..claim("new") };
        assert_eq!(at(&ranges.settle(&[claim("a"), new]), "new"), None);
    }

    #[test]
    fn who_needs_more_keeps_its_first_id_where_there_is_room_and_moves_nobody() {
        let more = |text| Claim { count: Some(3 * USUAL_COUNT), ..claim(text) };
        let ranges = three().settle(&[claim("b"), claim("c"), more("d")]);
        assert_eq!(["b", "c", "d"].map(|name| at(&ranges, name)), [Some(0), Some(1), Some(2)]);
        let ranges = ranges.settle(&[claim("b"), more("c"), claim("d")]);
        assert_eq!(["b", "c", "d"].map(|name| at(&ranges, name)), [Some(0), Some(5), Some(2)]);
        // Less than it has: it keeps all of it.
        assert_eq!(ranges.clone().settle(&[claim("b"), claim("c"), claim("d")]), ranges);
    }

    #[test]
    fn what_lies_on_disk_says_whose_a_range_was_when_the_file_is_lost() {
        let had = |text, range: u32| Claim { witness: Some(FIRST_ID + range * USUAL_COUNT), ..claim(text) };
        let gone = Claim { count: None, ..had("gone", 0) };
        let claims = [claim("a"), had("b", 3), had("c", 1), gone.clone()];
        let ranges = IdRanges::default().settle(&claims);
        assert_eq!(["a", "b", "c", "gone"].map(|name| at(&ranges, name)), [Some(4), Some(3), Some(1), Some(0)]);
        // Two that say the same, as after a copy: one has it. What is no id of ours is no witness.
        let odd = Claim { witness: Some(0), ..claim("odd") };
        let ranges = IdRanges::default().settle(&[had("b", 0), had("c", 0), odd]);
        assert_eq!(["b", "c", "odd"].map(|name| at(&ranges, name)), [Some(0), Some(1), Some(2)]);
        // The file is asked first.
        assert_eq!(at(&three().settle(&[had("b", 9)]), "b"), Some(0));
    }

    #[test]
    fn when_all_ids_are_given_gaps_are_used_and_then_none() {
        let half = |text| Claim { count: Some(1 << 30), ..claim(text) };
        let all = [half("a"), half("b"), half("c")];
        let ranges = IdRanges::default().settle(&all);
        let ranges = ranges.settle(&[half("a"), half("c"), half("d"), half("e")]);
        let a_gigabyte =
            |name: &str| ranges.first_id(&super::tests::name(name)).map(|first| (first - FIRST_ID) >> 30);
        assert_eq!(["a", "c", "d", "e"].map(a_gigabyte), [Some(0), Some(2), Some(1), None]);
    }

    #[test]
    fn without_the_data_partition_nobody_gets_what_may_be_anothers_there() {
        // Of two that are on the partition too, one with many ids; and one that is only in the system image.
        let many = Claim { count: Some(1 << 28), ..claim("b") };
        let real = IdRanges::default().settle(&[claim("a"), many.clone(), claim("c")]);
        let apart = IdRanges::default().settle_apart(&[many, claim("c"), claim("d")]);
        let end = real.ranges.iter().map(|range| range.first + range.count).max().unwrap();
        assert_eq!(apart.ranges.len(), 3);
        assert!(apart.ranges.iter().all(|range| end <= range.first), "{apart:?}");
        assert_eq!(apart.first_id(&name("b")), Some(FIRST_ID_APART));
        // It has its own again when the partition is back.
        assert_eq!(real.clone().settle(&[claim("a"), claim("b"), claim("c")]), real);
    }

    #[test]
    fn the_file_comes_out_as_it_was_written_and_a_changed_one_is_refused() {
        let text = three().text();
        assert_eq!(text, "yado-ids 1\nb 1000000 65536\nc 1065536 65536\nd 1131072 65536\nsum 7f78a0c6\n");
        assert_eq!(IdRanges::parse(text.as_bytes()), Ok(three()));
        for len in 0..text.len() {
            assert_eq!(IdRanges::parse(&text.as_bytes()[..len]), Err(ParseError::Damaged), "{len}");
        }
        assert_eq!(IdRanges::parse(b"yado-ids 2\nwhatever\n"), Err(ParseError::OtherVersion));
        let overlapping = "yado-ids 1\nb 1000000 65536\nc 1000001 65536\n";
        let overlapping = format!("{overlapping}sum {:08x}\n", fnv32(overlapping.bytes()));
        assert_eq!(IdRanges::parse(overlapping.as_bytes()), Err(ParseError::Damaged));
    }

    #[test]
    fn ranges_of_any_file_never_overlap() {
        let seed = three().text().into_bytes();
        fuzz("id-ranges", &[seed], &["yado-ids 1\n", "sum ", "65536", "\n", "4294967295"], |bytes| {
            let Ok(ranges) = IdRanges::parse(bytes) else { return };
            assert_eq!(ranges.text().as_bytes(), bytes);
            let ranges = ranges.settle(&[claim("b"), claim("x"), Claim { witness: Some(1_000_001), ..claim("y") }]);
            let mut sorted = ranges.ranges.clone();
            sorted.sort_by_key(|range| range.first);
            assert!(sorted.windows(2).all(|pair| pair[0].first + pair[0].count <= pair[1].first), "{sorted:?}");
        });
    }
}
