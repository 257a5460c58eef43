//! What was measured of an instance's sockets, and which instance is ended for it. Pure.

/// `ENOMEM`, the same on every architecture.
pub(super) const NO_MEMORY: i32 = 12;

/// Whose tables show less than this part of what is missing is not why it is.
const MIN_PART: u64 = 4;

/// Nor is it who might hold less than this part, by an estimate. Tables that show as much explain it, whatever others might hold.
const SUSPECTS_PART: u64 = 2;

/// What the sockets of an instance hold, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Weight {
    /// The directory name of the instance (`NAME.ID`).
    pub(super) name: String,
    /// Seen in their queues.
    pub(super) queued_bytes: u64,
    /// What those could hold that are in no table, with one full queue for each.
    pub(super) unseen_bytes: u64,
    /// The same, where each descriptor on its way is a socket with as many others on their way to it as there can be.
    pub(super) deepest_bytes: u64,
}

/// Who is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// Who holds it, or if nobody is seen to, who most probably does.
    Suspects,
    /// Only who is seen to hold most of it: what was ended before may not have given back its own yet.
    Seen,
}

impl Weight {
    /// Reads a line that the child printed; `None` for what is none.
    pub(super) fn parse(line: &str) -> Option<Weight> {
        let mut words = line.split(' ');
        let name = words.next()?.to_owned();
        let mut bytes = || words.next()?.parse().ok();
        Some(Weight { name, queued_bytes: bytes()?, unseen_bytes: bytes()?, deepest_bytes: bytes()? })
    }

    /// For people, why it was ended.
    pub(super) fn reason(&self, missing: u64) -> String {
        let mib = |bytes: u64| bytes >> 20;
        let unseen = self.unseen_bytes.max(self.deepest_bytes).min(missing);
        let held = if self.queued_bytes < missing / SUSPECTS_PART && self.queued_bytes < unseen {
            "it has more sockets than others that cannot be looked into".to_owned()
        } else {
            format!("its sockets' queues hold {} MiB of memory that no limit counts", mib(self.queued_bytes))
        };
        format!("{held}, and the machine's ran short: {} MiB were missing", mib(missing))
    }
}

/// The one that is ended, if one of them can be why so many bytes are missing, of which `kept` are held by who cannot end.
pub(super) fn guilty(weights: &[Weight], missing: u64, kept: u64, search: Search) -> Option<&Weight> {
    let rest = missing.saturating_sub(kept);
    if rest == 0 || rest < missing / MIN_PART {
        return None;
    }
    let missing = rest;
    let seen = weights.iter().max_by_key(|weight| weight.queued_bytes);
    let shows = |part: u64| seen.filter(|weight| missing <= weight.queued_bytes.saturating_mul(part));
    match search {
        Search::Seen => shows(SUSPECTS_PART),
        Search::Suspects => shows(SUSPECTS_PART)
            .or_else(|| suspect(weights, missing, |weight| weight.unseen_bytes))
            .or_else(|| shows(MIN_PART))
            .or_else(|| suspect(weights, missing, |weight| weight.deepest_bytes)),
    }
}

/// Who might hold most, if that is enough. Nobody holds more than what is missing: beyond that the estimate only tells equals apart.
fn suspect(weights: &[Weight], missing: u64, unseen: impl Fn(&Weight) -> u64) -> Option<&Weight> {
    let bytes = |weight: &Weight| weight.queued_bytes.saturating_add(unseen(weight).min(missing));
    let most = weights.iter().max_by_key(|weight| (bytes(weight), unseen(weight)))?;
    (missing / SUSPECTS_PART <= bytes(most)).then_some(most)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// What each holds, in MiB, and who is found: by all means, and by tables alone.
    type Case<'a> = (&'a [[u64; 3]], Option<&'a str>, Option<&'a str>);

    fn weight(name: &str, [queued_mib, unseen_mib, deepest_mib]: [u64; 3]) -> Weight {
        Weight {
            name: name.to_owned(),
            queued_bytes: queued_mib * MIB,
            unseen_bytes: unseen_mib * MIB,
            deepest_bytes: deepest_mib * MIB,
        }
    }

    #[test]
    fn who_is_seen_to_hold_it_is_found_before_who_might() {
        // The instances by turns: a, b, c. 64 MiB are missing.
        let cases: [Case<'_>; 15] = [
            (&[], None, None),
            (&[[3, 0, 0], [60, 0, 0]], Some("b"), Some("b")),
            // Tables that explain it alone count before any estimate.
            (&[[0, 30, 30], [40, 0, 0]], Some("b"), Some("b")),
            (&[[0, 600, 9000], [40, 0, 0]], Some("b"), Some("b")),
            (&[[65, 0, 0], [0, 4000, 4000]], Some("a"), Some("a")),
            (&[[32, 0, 0], [0, 64, 64]], Some("a"), Some("a")),
            // Those that do not, do not.
            (&[[20, 0, 0], [0, 600, 600]], Some("b"), None),
            // Who is caught by the cap is not told apart by the order of names.
            (&[[0, 6000, 6000], [0, 70, 70], [0, 64, 64]], Some("a"), None),
            (&[[0, 64, 64], [0, 70, 70], [0, 6000, 6000]], Some("c"), None),
            // A quarter in tables is enough, and nothing less; of an estimate it takes half.
            (&[[16, 0, 0], [0, 0, 0]], Some("a"), None),
            (&[[15, 0, 0], [0, 16, 16]], None, None),
            (&[[0, 31, 31]], None, None),
            (&[[16, 16, 16], [20, 0, 0]], Some("a"), None),
            // That others are behind those on their way is the last thing to be thought of anybody.
            (&[[16, 0, 0], [0, 2, 500]], Some("a"), None),
            (&[[15, 0, 0], [0, 2, 500]], Some("b"), None),
        ];
        for (held, suspected, seen) in cases {
            let weights: Vec<Weight> =
                ["a", "b", "c"].iter().zip(held).map(|(name, held)| weight(name, *held)).collect();
            for (search, found) in [(Search::Suspects, suspected), (Search::Seen, seen)] {
                let name = guilty(&weights, 64 * MIB, 0, search).map(|weight| weight.name.as_str());
                assert_eq!(name, found, "{held:?} {search:?}");
            }
        }
    }

    #[test]
    fn what_somebody_keeps_who_cannot_end_is_not_looked_for_again() {
        let weights = [weight("a", [10, 0, 0]), weight("b", [15, 0, 0])];
        for (kept_mib, found) in [(0, None), (34, Some("b")), (48, Some("b")), (49, None), (64, None), (70, None)] {
            let name = guilty(&weights, 64 * MIB, kept_mib * MIB, Search::Seen).map(|weight| weight.name.as_str());
            assert_eq!(name, found, "{kept_mib}");
        }
    }

    #[test]
    fn the_reason_says_what_was_seen_and_no_more() {
        let reason = weight("a", [102, 3, 3]).reason(110 * MIB);
        assert_eq!(
            reason,
            "its sockets' queues hold 102 MiB of memory that no limit counts, and the machine's ran short: 110 MiB were \
             missing"
        );
        for held in [[1, 999, 999], [1, 0, 999]] {
            let reason = weight("a", held).reason(110 * MIB);
            assert!(
                reason.starts_with("it has more sockets than others that cannot be looked into, and"),
                "{reason}"
            );
        }
    }

    #[test]
    fn what_the_child_says_is_understood() {
        assert_eq!(Weight::parse("one 2097152 1048576 3145728"), Some(weight("one", [2, 1, 3])));
        for wrong in ["", "one", "one 2 3", "one two three four", "one -1 2 3"] {
            assert_eq!(Weight::parse(wrong), None, "{wrong}");
        }
    }
}
