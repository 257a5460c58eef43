//! Which blocks of a group are meant: one bit each, the first block's lowest.

use super::hash_tree::GROUP_BLOCKS;
use std::ops::Range;

/// Blocks of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockSet(u128);

impl BlockSet {
    pub(crate) const NONE: BlockSet = BlockSet(0);

    /// The first `count`.
    pub(crate) fn first(count: usize) -> BlockSet {
        BlockSet(u128::MAX.checked_shr((GROUP_BLOCKS - count.min(GROUP_BLOCKS)) as u32).unwrap_or(0))
    }

    /// Those for which `is_meant`, of these.
    pub(crate) fn filter(self, is_meant: impl Fn(usize) -> bool) -> BlockSet {
        BlockSet(self.indexes().filter(|index| is_meant(*index)).fold(0, |bits, index| bits | 1 << index))
    }

    pub(crate) fn contains(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }

    pub(crate) fn without(self, other: BlockSet) -> BlockSet {
        BlockSet(self.0 & !other.0)
    }

    pub(crate) fn with(self, other: BlockSet) -> BlockSet {
        BlockSet(self.0 | other.0)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn len(self) -> u64 {
        u64::from(self.0.count_ones())
    }

    pub(crate) fn indexes(self) -> impl Iterator<Item = usize> {
        (0..GROUP_BLOCKS).filter(move |index| self.contains(*index))
    }

    /// Those that lie side by side, together.
    pub(crate) fn runs(self) -> impl Iterator<Item = Range<usize>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let start = (next..GROUP_BLOCKS).find(|index| self.contains(*index))?;
            let end = (start..GROUP_BLOCKS).find(|index| !self.contains(*index)).unwrap_or(GROUP_BLOCKS);
            next = end;
            Some(start..end)
        })
    }
}

/// The blocks of several groups that are fetched together, from this number on: those in the sets, and with them the few between
/// them that a request of its own would cost more than.
pub(crate) fn next_run(sets: &[BlockSet], from: u64, max_gap: u64) -> Option<Range<u64>> {
    let all = sets.len() as u64 * GROUP_BLOCKS as u64;
    let contains = |number: &u64| {
        let (group, index) = (number / GROUP_BLOCKS as u64, number % GROUP_BLOCKS as u64);
        sets.get(group as usize).is_some_and(|set| set.contains(index as usize))
    };
    let start = (from..all).find(contains)?;
    let mut end = start + 1;
    while let Some(next) = (end..all.min(end + max_gap + 1)).find(contains) {
        end = next + 1;
    }
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_what_lies_side_by_side() {
        assert_eq!(BlockSet::NONE.runs().count(), 0);
        assert_eq!(BlockSet::first(0), BlockSet::NONE);
        assert_eq!((BlockSet::first(128).runs().next(), BlockSet::first(128).runs().count()), (Some(0..128), 1));
        let some = BlockSet::first(128).filter(|index| matches!(index, 0 | 2 | 3 | 127));
        assert_eq!(some.runs().collect::<Vec<_>>(), [0..1, 2..4, 127..128]);
        assert_eq!((some.len(), some.without(BlockSet::first(3)).len()), (4, 2));
    }

    #[test]
    fn small_gaps_are_fetched_with_what_is_around_them() {
        let sets = [
            BlockSet::first(128).filter(|index| matches!(index, 3 | 5 | 9 | 127)),
            BlockSet::NONE,
            BlockSet::first(1),
        ];
        let all = |max_gap| {
            let mut runs = Vec::new();
            while let Some(run) = next_run(&sets, runs.last().map_or(0, |run: &Range<u64>| run.end), max_gap) {
                runs.push(run);
            }
            runs
        };
        assert_eq!(all(0), [3..4, 5..6, 9..10, 127..128, 256..257]);
        assert_eq!(all(1), [3..6, 9..10, 127..128, 256..257]);
        assert_eq!(all(3), [3..10, 127..128, 256..257]);
        assert_eq!((all(200).first(), all(200).len()), (Some(&(3..257)), 1));
    }
}
