//! The id of each instance, and its range of user ids on the host. Both are assigned once and kept: another instance that comes
//! or goes, a spec with an error, or a range that has become too small never changes those of another instance. Pure; `stored`
//! writes them to the data partition.
//!
//! The id distinguishes the layer, control group and interfaces of an instance from those of all others, also of an earlier one
//! with the same name. In a layer, files have the ids of inside. Files on other disks that an instance was given without `shift`
//! have the ids of the host: a range that was assigned anew would give them to another instance.

pub(crate) mod stored;
mod users_of_host;

use std::fmt::{self, Write};
use yado_spec::instance::{IDS_FOR_NESTING, USUAL_IDS};
use yado_wire::formats::{self, Standing, Versions};
use yado_wire::hash::fnv32;
use yado_wire::{InstanceId, InstanceName, MAX_INSTANCES};

/// The first id of the host that is given, where LXD begins.
pub(crate) const FIRST_HOST_ID: u32 = 1_000_000;

/// What is given first while the real data partition, which says what the others have, is not there. So many ranges as there
/// can be do not reach it from [`FIRST_HOST_ID`], if they are not many times the usual size.
const FIRST_APART: u32 = 1 << 30;

/// The most instances that are remembered: twice those that a system can have, so that those that are gone can be, too.
const MAX_IDENTITIES: usize = 2 * MAX_INSTANCES;

/// The longest file: id, name, first id of the host and count for each, the longest numbers of 32 bits, and what is before and
/// after them. It is an argument of the child that writes it, which has 128 KiB at most (execve(2), MAX_ARG_STRLEN).
pub(crate) const MAX_FILE_BYTES: u64 = (MAX_IDENTITIES * (InstanceName::MAX_LEN + 4 + 3 * 10) + 64) as u64;
const _: () = assert!(MAX_FILE_BYTES < 128 * 1024);

/// The first words of the file, with its version.
const MAGIC: &str = "yado-ids ";
const VERSIONS: Versions = Versions::new(3, 3);

/// All instances that are known, by id. No two have the same id, name, or id of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identities {
    /// That of the file.
    version: u32,
    /// The id of the next new one: above all that were ever given.
    next: InstanceId,
    list: Vec<Identity>,
    /// What the machine's users have, which is not given to instances. It is not written down.
    users: Vec<Range>,
}

/// One instance's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    id: InstanceId,
    name: InstanceName,
    range: Range,
}

/// Ids of the host. None: it was given none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Range {
    first: u32,
    count: u32,
}

impl Range {
    /// The first id behind it.
    fn end(self) -> u32 {
        self.first.saturating_add(self.count)
    }

    /// Whether the two have an id in common.
    fn meets(self, other: Range) -> bool {
        self.first.max(other.first) < self.end().min(other.end())
    }

    /// What is not in a range that begins where it does.
    fn beyond(self, known: Range) -> Range {
        match self.first == known.first {
            true => Range { first: known.end(), count: self.count.saturating_sub(known.count) },
            false => self,
        }
    }
}

/// What became of the range of an instance, if it is not what the instance had or needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeChange {
    /// It has other ids than before, because there was no room for those that it needs.
    Moved { before: u32, now: u32 },
    /// There is no room anywhere for so many.
    TooSmall { wanted: u32, kept: u32 },
}

impl fmt::Display for RangeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RangeChange::Moved { before, now } => write!(
                f,
                "its host ids begin at {now} and no longer at {before}, where there was no room: files of its on disks \
                 without shift have the old ones"
            ),
            RangeChange::TooSmall { wanted, kept } => write!(
                f,
                "no range of {wanted} ids is free, and it does not start with the {kept} that it has: give it a smaller \
                 security.idmap.size, or remove another instance with its ids (yado apply --delete-data)"
            ),
        }
    }
}

/// What is known of an instance that is configured, or has left files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) name: InstanceName,
    /// How many ids of the host it needs; `None`: it needs none now, and keeps what it has.
    pub(crate) count: Option<u32>,
    /// What it was, as its own layer says.
    pub(crate) witness: Option<Witness>,
}

/// What a layer says of the instance that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Witness {
    pub(crate) id: InstanceId,
    /// The first id of the host that it had.
    pub(crate) first: Option<u32>,
}

/// Why a file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParseError {
    /// It is not what was written.
    Damaged,
    /// A later version of ours has written it, which may need it again.
    LaterVersion,
}

impl Default for Identities {
    fn default() -> Identities {
        Identities { version: VERSIONS.newest(), next: InstanceId(1), list: Vec::new(), users: Vec::new() }
    }
}

impl Identities {
    /// Parses the file: a line with the version, one with the next id, one with id, name, first id of the host and their count
    /// for each instance, and one with a sum of all that is before it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Identities, ParseError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ParseError::Damaged)?;
        let mut lines = text.lines();
        let version = match formats::version(text, MAGIC) {
            Some(version) if VERSIONS.has(version) => version,
            Some(version) if VERSIONS.newest() < version => return Err(ParseError::LaterVersion),
            Some(_) | None => return Err(ParseError::Damaged),
        };
        lines.next();
        let next = lines.next().and_then(|line| line.strip_prefix("next ")).and_then(|word| word.parse().ok());
        let next = InstanceId(next.ok_or(ParseError::Damaged)?);
        let mut identities = Identities { version, next, ..Identities::default() };
        for line in lines {
            let Some((id, name, range)) = parse_line(line) else { break };
            if !identities.add(id, name, range) {
                return Err(ParseError::Damaged);
            }
        }
        // The sum, and whatever else a line might have been written like.
        if identities.text() == text { Ok(identities) } else { Err(ParseError::Damaged) }
    }

    /// Those that were found, or none, to be written in the version that fits how it stands with the system.
    pub(crate) fn of(found: Option<Identities>, standing: Standing) -> Identities {
        let version = VERSIONS.to_write(standing, found.as_ref().map(|found| found.version));
        Identities { version, ..found.unwrap_or_default() }
    }

    /// The content of `state/ids`.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{MAGIC}{}\nnext {}\n", self.version, self.next);
        for Identity { id, name, range: Range { first, count } } in &self.list {
            let _ = writeln!(text, "{id} {name} {first} {count}");
        }
        // Against a bit that flipped, not against anybody.
        let sum = fnv32(text.bytes());
        let _ = writeln!(text, "sum {sum:08x}");
        text
    }

    /// The instance of this name.
    pub(crate) fn id(&self, name: &InstanceName) -> Option<InstanceId> {
        self.named(name).map(|identity| identity.id)
    }

    /// The first id of an instance's range on the host. `None`: it has no range, or one of fewer than `count`, behind which others
    /// have theirs.
    pub(crate) fn first_host_id(&self, name: &InstanceName, count: u32) -> Option<u32> {
        let range = self.named(name)?.range;
        (range.count != 0 && count <= range.count).then_some(range.first)
    }

    /// What must be said of the range of who claims this. `before`: the first id that it had.
    pub(crate) fn change(&self, before: Option<u32>, claim: &Claim) -> Option<RangeChange> {
        let wanted = claim.count?;
        let Some(now) = self.first_host_id(&claim.name, wanted) else {
            let kept = self.named(&claim.name).map_or(0, |known| known.range.count);
            return Some(RangeChange::TooSmall { wanted, kept });
        };
        before.filter(|before| *before != now).map(|before| RangeChange::Moved { before, now })
    }

    /// Whether there is nothing to be given to who claims this.
    pub(crate) fn has(&self, claim: &Claim) -> bool {
        let known = self.named(&claim.name);
        known.is_some_and(|known| claim.count.is_none_or(|count| count <= known.range.count))
    }

    /// Those that are known and kept, and these; who has no id or no range gets one.
    pub(crate) fn with(mut self, claims: &[Claim], keep: impl Fn(&InstanceName) -> bool) -> Identities {
        self.list.retain(|known| keep(&known.name) || claims.iter().any(|claim| claim.name == known.name));
        // Where something stands in for the data partition, all ids are beyond this one, and so are new ranges.
        let first = if FIRST_APART < self.next.0 { FIRST_APART } else { FIRST_HOST_ID };
        self.provide_all(claims, first);
        self
    }

    /// What there is when these are all that claim something, and no layer has a larger id than `last`: who has no id or no range
    /// gets one, and who claims nothing any more loses both.
    pub(crate) fn settle(self, claims: &[Claim], last: InstanceId) -> Identities {
        self.settle_from(FIRST_HOST_ID, claims, last)
    }

    /// The same where something stands in for the data partition: what is given is not what another instance may have there,
    /// whose files may lie on a disk that is there.
    pub(crate) fn settle_apart(self, claims: &[Claim], last: InstanceId) -> Identities {
        self.settle_from(FIRST_APART, claims, last.max(InstanceId(FIRST_APART)))
    }

    fn settle_from(mut self, first: u32, claims: &[Claim], last: InstanceId) -> Identities {
        self.list.retain(|known| claims.iter().any(|claim| claim.name == known.name));
        // What somebody had is nobody else's, before anybody gets a new one. A witness says only where it began: so first come all
        // beginnings, then as much behind each as it may have had: it may have had `security.nesting`.
        let mut found = Vec::new();
        for claim in claims {
            if let (None, Some(witness)) = (self.id(&claim.name), claim.witness) {
                let range = witness.first.map_or(Range::default(), |first| Range { first, count: USUAL_IDS });
                let _ = self.add(witness.id, claim.name.clone(), range)
                    || self.add(witness.id, claim.name.clone(), Range::default());
                found.push(claim);
            }
        }
        for claim in found {
            self.extend(&claim.name, IDS_FOR_NESTING.max(claim.count.unwrap_or(0)));
        }
        self.next = self.next.max(last.following());
        self.provide_all(claims, first);
        self
    }

    /// Extends a range to so many ids, or up to the next range.
    fn extend(&mut self, name: &InstanceName, count: u32) {
        let Some(Range { first, count: had @ 1.. }) = self.named(name).map(|known| known.range) else { return };
        let firsts =
            self.list.iter().map(|known| known.range).filter(|range| range.count != 0).map(|range| range.first);
        let next = firsts.filter(|other| first < *other).min().unwrap_or(u32::MAX);
        let count = had.max(count.min(next.saturating_sub(first)));
        if let Some(known) = self.list.iter_mut().find(|known| known.name == *name) {
            known.range.count = count;
        }
    }

    fn provide_all(&mut self, claims: &[Claim], first: u32) {
        for claim in claims {
            if self.id(&claim.name).is_none() {
                let _ = self.add(self.next, claim.name.clone(), Range::default());
            }
            if let Some(count) = claim.count {
                self.provide(&claim.name, count, first);
            }
        }
    }

    /// Sees to it that an instance has so many ids of the host. If there is room behind its range it keeps its first one; a new one
    /// is not before `from`.
    fn provide(&mut self, name: &InstanceName, count: u32, from: u32) {
        let Some(at) = self.list.iter().position(|known| known.name == *name) else { return };
        let had = self.list.remove(at);
        let count = count.max(had.range.count);
        // Behind all others first: what an instance that is gone has left belongs to nobody for as long as that goes.
        let ends = self.list.iter().map(|known| known.range.end()).filter(|end| from <= *end);
        let users = self.users.iter().map(|range| range.end()).filter(|end| from <= *end);
        let last = ends.clone().max().unwrap_or(from);
        let behind = users.clone().filter(|end| last <= *end);
        let places = [had.range.first, last].into_iter().chain(behind).chain([from]).chain(ends).chain(users);
        let mut ranges: Vec<Range> = places.map(|first| Range { first, count }).collect();
        // Last those that users have some of: where nothing else is left, they are better than no start.
        ranges.sort_by_cached_key(|range| self.is_users(range.beyond(had.range)));
        let is_given = ranges.into_iter().any(|range| self.add(had.id, had.name.clone(), range));
        if !is_given {
            self.add(had.id, had.name, had.range);
        }
    }

    /// Adds an instance with a range, or none yet. `false`: it is not added, because something of it is another's, or is no id.
    fn add(&mut self, id: InstanceId, name: InstanceName, range: Range) -> bool {
        let Range { first, count } = range;
        // The largest id stands for "none", so that the end, which is not in the range, is a number too.
        let has_end = first.checked_add(count).is_some();
        let is_range = range == Range::default() || (FIRST_HOST_ID <= first && USUAL_IDS <= count && has_end);
        let is_free = self.list.iter().all(|known| known.id != id && known.name != name && !known.range.meets(range));
        let may_be_one = id != InstanceId(0) && id != InstanceId(u32::MAX);
        if !is_range || !is_free || !may_be_one || MAX_IDENTITIES <= self.list.len() {
            return false;
        }
        let at = self.list.iter().take_while(|known| known.id < id).count();
        self.list.insert(at, Identity { id, name, range });
        self.next = self.next.max(id.following());
        true
    }

    /// Whether users of the machine have some of these.
    fn is_users(&self, range: Range) -> bool {
        self.users.iter().any(|users| users.meets(range))
    }

    /// Whether users of the machine have some of an instance's ids too.
    pub(crate) fn is_shared_with_users(&self, name: &InstanceName) -> bool {
        self.named(name).is_some_and(|known| self.is_users(known.range))
    }

    fn named(&self, name: &InstanceName) -> Option<&Identity> {
        self.list.iter().find(|known| known.name == *name)
    }
}

fn parse_line(line: &str) -> Option<(InstanceId, InstanceName, Range)> {
    let mut words = line.split(' ');
    let id = InstanceId(words.next()?.parse().ok()?);
    let name = InstanceName::parse(words.next()?).ok()?;
    Some((id, name, Range { first: words.next()?.parse().ok()?, count: words.next()?.parse().ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    /// No layer is there.
    const NONE: InstanceId = InstanceId(0);

    fn name(text: &str) -> InstanceName {
        InstanceName::parse(text).unwrap()
    }

    fn claim(text: &str) -> Claim {
        Claim { name: name(text), count: Some(USUAL_IDS), witness: None }
    }

    /// The id of an instance, and which of the usual ranges it has.
    fn at(identities: &Identities, text: &str) -> Option<(u32, Option<u32>)> {
        let range = identities.first_host_id(&name(text), 1).map(|first| (first - FIRST_HOST_ID) / USUAL_IDS);
        identities.id(&name(text)).map(|id| (id.0, range))
    }

    fn three() -> Identities {
        Identities::default().settle(&[claim("b"), claim("c"), claim("d")], NONE)
    }

    #[test]
    fn who_one_is_stays_whoever_comes_or_goes() {
        let all = three();
        assert_eq!(["b", "c", "d"].map(|name| at(&all, name)), [(1, Some(0)), (2, Some(1)), (3, Some(2))].map(Some));
        // One that is first in the alphabet; and one with an error in its spec, and one that is privileged now.
        let idle = Claim { count: None, ..claim("c") };
        let all = all.settle(&[claim("a"), claim("b"), idle.clone(), claim("d")], NONE);
        let expected = [(4, Some(3)), (1, Some(0)), (2, Some(1)), (3, Some(2))].map(Some);
        assert_eq!(["a", "b", "c", "d"].map(|name| at(&all, name)), expected);
        // Gone with its instance; its range is given again only when there is nothing behind all others, its id never.
        let all = all.settle(&[claim("a"), idle, claim("d"), claim("e")], NONE);
        let expected = [Some((4, Some(3))), None, Some((2, Some(1))), Some((3, Some(2))), Some((5, Some(4)))];
        assert_eq!(["a", "b", "c", "d", "e"].map(|name| at(&all, name)), expected);
        let all = all.settle(&[], NONE).settle(&[claim("e")], NONE);
        assert_eq!(at(&all, "e"), Some((6, Some(0))), "the same name, another instance");
        // An error before it ever had a range.
        let new = Claim { count: None, ..claim("new") };
        assert_eq!(at(&all.settle(&[claim("a"), new], NONE), "new"), Some((8, None)));
    }

    #[test]
    fn who_needs_more_keeps_its_first_id_where_there_is_room_and_moves_nobody() {
        let more = |text| Claim { count: Some(3 * USUAL_IDS), ..claim(text) };
        let all = three().settle(&[claim("b"), claim("c"), more("d")], NONE);
        assert_eq!(["b", "c", "d"].map(|name| at(&all, name)), [(1, Some(0)), (2, Some(1)), (3, Some(2))].map(Some));
        let all = all.settle(&[claim("b"), more("c"), claim("d")], NONE);
        assert_eq!(["b", "c", "d"].map(|name| at(&all, name)), [(1, Some(0)), (2, Some(5)), (3, Some(2))].map(Some));
        // Less than it has: it keeps all of it.
        assert_eq!(all.clone().settle(&[claim("b"), claim("c"), claim("d")], NONE), all);
    }

    #[test]
    fn what_lies_on_disk_says_who_was_who_when_the_file_is_lost() {
        let had = |text, id: u32, range: u32| {
            let witness = Witness { id: InstanceId(id), first: Some(FIRST_HOST_ID + range * USUAL_IDS) };
            Claim { witness: Some(witness), ..claim(text) }
        };
        let gone = Claim { count: None, ..had("gone", 7, 0) };
        let claims = [claim("a"), had("b", 3, 3), had("c", 1, 1), gone];
        let all = Identities::default().settle(&claims, InstanceId(9));
        let expected = [(10, Some(3 + 16)), (3, Some(3)), (1, Some(1)), (7, Some(0))].map(Some);
        assert_eq!(["a", "b", "c", "gone"].map(|name| at(&all, name)), expected, "9 is the id of a layer of nobody");
        // Two that say the same, as after a copy: one has it. What is no id of ours is no witness.
        let odd = Claim { witness: Some(Witness { id: InstanceId(0), first: Some(0) }), ..claim("odd") };
        let all = Identities::default().settle(&[had("b", 1, 0), had("c", 1, 0), had("d", 2, 0), odd], NONE);
        let expected = [(1, Some(0)), (3, Some(16)), (2, Some(17)), (4, Some(18))].map(Some);
        assert_eq!(["b", "c", "d", "odd"].map(|name| at(&all, name)), expected);
        // The file is asked first.
        assert_eq!(at(&three().settle(&[had("b", 9, 9)], NONE), "b"), Some((1, Some(0))));
    }

    /// An instance that claims so many ids, and whose layer says this first id.
    fn witnessed(text: &str, id: u32, first: u32, count: Option<u32>) -> Claim {
        Claim { name: name(text), count, witness: Some(Witness { id: InstanceId(id), first: Some(first) }) }
    }

    #[test]
    fn when_the_file_is_lost_who_claims_more_than_it_had_takes_nobody_elses_ids() {
        // `a` had the usual count when `b` was given what is behind it, and nests now.
        let (a, b) = (FIRST_HOST_ID, FIRST_HOST_ID + USUAL_IDS);
        let claims = [witnessed("a", 1, a, Some(1 << 20)), witnessed("b", 2, b, Some(USUAL_IDS))];
        let all = Identities::default().settle(&claims, InstanceId(2));
        let range = |text| all.named(&name(text)).unwrap().range;
        assert_eq!(range("b").first, b, "{all:?}");
        assert!(range("b").first + range("b").count <= range("a").first, "{all:?}");
        // Where there is room behind it, it stays.
        let c = a + (1 << 20);
        let claims = [witnessed("a", 1, a, Some(1 << 20)), witnessed("c", 2, c, Some(USUAL_IDS))];
        let all = Identities::default().settle(&claims, InstanceId(2));
        assert_eq!(all.named(&name("a")).unwrap().range, Range { first: a, count: 1 << 20 });
    }

    #[test]
    fn when_the_file_is_lost_nobody_new_gets_ids_that_a_layer_without_a_spec_may_have() {
        let a = FIRST_HOST_ID;
        // With an error in its spec; and one that has fewer than it had when it could nest.
        for count in [None, Some(USUAL_IDS)] {
            let all = Identities::default().settle(&[witnessed("a", 1, a, count), claim("new")], InstanceId(1));
            let new = all.named(&name("new")).unwrap().range;
            assert!(a + (1 << 20) <= new.first, "{count:?}: {all:?}");
            assert_eq!(all.named(&name("a")).unwrap().range.first, a);
        }
        // Up to the next one that is known, and up to the last id.
        let (next, last) = (a + 3 * USUAL_IDS, u32::MAX - USUAL_IDS);
        let claims =
            [("a", 1, a), ("next", 2, next), ("last", 3, last)].map(|(n, id, first)| witnessed(n, id, first, None));
        let all = Identities::default().settle(&claims, InstanceId(3));
        let count = |text| all.named(&name(text)).unwrap().range.count;
        assert_eq!(["a", "next", "last"].map(count), [3 * USUAL_IDS, 1 << 20, USUAL_IDS]);
    }

    #[test]
    fn when_all_ids_are_given_gaps_are_used_and_then_none() {
        let half = |text| Claim { count: Some(1 << 30), ..claim(text) };
        let all = Identities::default().settle(&[half("a"), half("b"), half("c")], NONE);
        let all = all.settle(&[half("a"), half("c"), half("d"), half("e")], NONE);
        let a_gigabyte = |name: &str| {
            all.first_host_id(&super::tests::name(name), 1 << 30).map(|first| (first - FIRST_HOST_ID) >> 30)
        };
        assert_eq!(["a", "c", "d", "e"].map(a_gigabyte), [Some(0), Some(2), Some(1), None]);
    }

    #[test]
    fn what_users_of_the_machine_have_is_not_given_while_there_is_something_else() {
        let users = |ranges: &[(u32, u32)]| Identities {
            users: ranges.iter().map(|&(first, count)| Range { first, count }).collect(),
            ..Identities::default()
        };
        let all = users(&[(FIRST_HOST_ID, USUAL_IDS), (FIRST_HOST_ID + 2 * USUAL_IDS, USUAL_IDS)]);
        let all = all.settle(&[claim("a"), claim("b")], NONE);
        assert_eq!(["a", "b"].map(|name| at(&all, name)), [(1, Some(1)), (2, Some(3))].map(Some));
        assert!(!all.is_shared_with_users(&name("a")) && !all.is_shared_with_users(&name("b")));
        // One that is from before them keeps what it has, which is said, and grows elsewhere.
        let before = Identities { users: vec![Range { first: FIRST_HOST_ID, count: USUAL_IDS + 9 }], ..three() };
        let all = before.clone().settle(&[claim("b"), claim("c"), claim("d")], NONE);
        assert_eq!(all, before);
        assert_eq!(["b", "c", "d"].map(|text| all.is_shared_with_users(&name(text))), [true, true, false]);
        let before = Identities { users: vec![Range { first: FIRST_HOST_ID + 4 * USUAL_IDS, count: 1 }], ..three() };
        let all = before.settle(&[claim("b"), claim("c"), Claim { count: Some(3 * USUAL_IDS), ..claim("d") }], NONE);
        let range = all.named(&name("d")).unwrap().range;
        assert_eq!(range, Range { first: FIRST_HOST_ID + 4 * USUAL_IDS + 1, count: 3 * USUAL_IDS });
        // Everything is somebody's.
        let all = users(&[(FIRST_HOST_ID, u32::MAX - FIRST_HOST_ID)]).settle(&[claim("a")], NONE);
        assert_eq!(at(&all, "a"), Some((1, Some(0))));
        assert!(all.is_shared_with_users(&name("a")));
    }

    #[test]
    fn a_range_that_cannot_grow_is_none_of_that_size_and_it_is_said() {
        let most = |text| Claim { count: Some(1 << 30), ..claim(text) };
        let all = Identities::default().settle(&[claim("d")], NONE);
        let all = all.settle(&[claim("d"), most("a"), most("b"), most("c")], NONE);
        let grown = all.clone().settle(&[most("d"), most("a"), most("b"), most("c")], NONE);
        assert_eq!(grown, all, "it keeps what it has");
        assert_eq!(grown.first_host_id(&name("d"), USUAL_IDS), Some(FIRST_HOST_ID));
        assert_eq!(grown.first_host_id(&name("d"), 1 << 30), None, "the neighbours' are behind it");
        let change = RangeChange::TooSmall { wanted: 1 << 30, kept: USUAL_IDS };
        assert_eq!(grown.change(Some(FIRST_HOST_ID), &most("d")), Some(change));
        assert_eq!(grown.change(Some(FIRST_HOST_ID), &claim("d")), None);
        // One that is moved instead.
        let moved = all.settle(&[Claim { count: Some(2 * USUAL_IDS), ..claim("d") }, most("a"), most("b")], NONE);
        let now = FIRST_HOST_ID + USUAL_IDS + (1 << 31);
        let change = RangeChange::Moved { before: FIRST_HOST_ID, now };
        assert_eq!(moved.change(Some(FIRST_HOST_ID), &claim("d")), Some(change));
    }

    #[test]
    fn without_the_data_partition_nobody_gets_what_may_be_anothers_there() {
        // Of two that are on the partition too, one with many ids; and one that is only in the system image.
        let many = Claim { count: Some(1 << 28), ..claim("b") };
        let real = Identities::default().settle(&[claim("a"), many.clone(), claim("c")], NONE);
        let apart = Identities::default().settle_apart(&[many, claim("c"), claim("d")], NONE);
        let end = real.list.iter().map(|known| known.range.first + known.range.count).max().unwrap();
        assert_eq!(apart.list.len(), 3);
        assert!(apart.list.iter().all(|known| end <= known.range.first && real.next < known.id), "{apart:?}");
        assert_eq!(apart.first_host_id(&name("b"), 1 << 28), Some(FIRST_APART));
        // It has its own again when the partition is back.
        assert_eq!(real.clone().settle(&[claim("a"), claim("b"), claim("c")], NONE), real);
    }

    #[test]
    fn the_file_comes_out_as_it_was_written_and_a_changed_one_is_refused() {
        let text = three().text();
        let lines = "yado-ids 3\nnext 4\n1 b 1000000 65536\n2 c 1065536 65536\n3 d 1131072 65536\nsum ";
        assert_eq!(text, format!("{lines}{:08x}\n", fnv32(lines.trim_end_matches("sum ").bytes())));
        assert_eq!(Identities::parse(text.as_bytes()), Ok(three()));
        for len in 0..text.len() {
            assert_eq!(Identities::parse(&text.as_bytes()[..len]), Err(ParseError::Damaged), "{len}");
        }
        assert_eq!(Identities::parse(b"yado-ids 4\nwhatever\n"), Err(ParseError::LaterVersion));
        for lines in
            ["next 3\n1 b 1000000 65536\n2 c 1000001 65536\n", "next 3\n1 b 0 0\n1 c 0 0\n", "next 1\n1 b 0 0\n"]
        {
            let text = format!("yado-ids 3\n{lines}");
            let text = format!("{text}sum {:08x}\n", fnv32(text.bytes()));
            assert_eq!(Identities::parse(text.as_bytes()), Err(ParseError::Damaged), "{text}");
        }
    }

    /// The earliest version stays; in a build of a later release (`yado-wire/next-formats`) it is not the newest.
    #[test]
    fn what_is_found_in_an_earlier_version_stays_so_on_trial_and_a_later_one_comes_with_the_confirmation() {
        let text = Identities { version: 3, ..three() }.text();
        let found = || Identities::parse(text.as_bytes()).ok();
        assert_eq!(Identities::of(found(), Standing::OnTrial).text(), text);
        assert!(Identities::of(None, Standing::OnTrial).text().starts_with("yado-ids 3\n"));
        let confirmed = Identities::of(found(), Standing::Confirmed).text();
        assert!(confirmed.starts_with(&format!("yado-ids {}\nnext 4\n1 b ", VERSIONS.newest())), "{confirmed}");
    }

    #[test]
    fn no_two_of_any_file_are_the_same() {
        let seed = three().text().into_bytes();
        fuzz("identities", &[seed], &["yado-ids 3\n", "next ", "sum ", "65536", "\n", "4294967295"], |bytes| {
            let Ok(all) = Identities::parse(bytes) else { return };
            assert_eq!(all.text().as_bytes(), bytes);
            let witness = Some(Witness { id: InstanceId(2), first: Some(1_000_001) });
            let all = all.settle(&[claim("b"), claim("x"), Claim { witness, ..claim("y") }], InstanceId(5));
            let mut sorted: Vec<Range> = all.list.iter().map(|known| known.range).collect();
            sorted.sort_by_key(|range| range.first);
            assert!(sorted.windows(2).all(|pair| pair[0].first + pair[0].count <= pair[1].first), "{sorted:?}");
            assert!(all.list.windows(2).all(|pair| pair[0].id < pair[1].id), "{all:?}");
            assert!(all.list.last().is_none_or(|last| last.id < all.next), "{all:?}");
        });
    }
}
