//! The known name that is most like a mistyped one.

/// The nearest of `known`, if it is near enough that a person would have meant it: the same but for case, the end of a
/// dotted name, or few edits away.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_ascii_lowercase();
    let limit = (lower.chars().count() / 3).clamp(1, MAX_EDITS);
    known
        .into_iter()
        .filter_map(|candidate| {
            let is_end = candidate.rsplit('.').next() == Some(lower.as_str()) && candidate.contains('.');
            if is_end {
                return Some((MAX_EDITS, candidate));
            }
            if limit < lower.len().abs_diff(candidate.len()) {
                return None;
            }
            let distance = edits(&lower, &candidate.to_ascii_lowercase());
            (distance <= limit).then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// More edits than these make another word of it.
const MAX_EDITS: usize = 4;

/// Names are short; a hostile one is not compared at length.
const MAX_COMPARED: usize = 80;

/// Insertions, removals, replacements and swaps of neighbours that turn one text into the other.
fn edits(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().take(MAX_COMPARED).collect();
    let to: Vec<char> = to.chars().take(MAX_COMPARED).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    // What lies outside the table cannot be reached.
    let edits_at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX);
    for (row, a) in from.iter().enumerate() {
        let mut this = vec![row.saturating_add(1)];
        for (column, b) in to.iter().enumerate() {
            let replaced = edits_at(&last, column).saturating_add(usize::from(a != b));
            let removed = edits_at(&last, column.saturating_add(1)).saturating_add(1);
            let inserted = edits_at(&this, column).saturating_add(1);
            let swapped = match (row.checked_sub(1), column.checked_sub(1)) {
                (Some(above), Some(left)) if from.get(above) == Some(b) && to.get(left) == Some(a) => {
                    edits_at(&before_last, left).saturating_add(1)
                }
                (_, _) => usize::MAX,
            };
            this.push(replaced.min(removed).min(inserted).min(swapped));
        }
        before_last = std::mem::replace(&mut last, this);
    }
    edits_at(&last, to.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_finds_what_was_meant_and_another_word_finds_nothing() {
        let known = ["limits.memory", "limits.cpu", "limits.processes", "boot.autostart", "nictype"];
        let cases = [
            ("limits.memroy", Some("limits.memory")),
            ("limit.memory", Some("limits.memory")),
            ("LIMITS.MEMORY", Some("limits.memory")),
            ("memory", Some("limits.memory")),
            ("autostart", Some("boot.autostart")),
            ("nic_type", Some("nictype")),
            ("limits.cpus", Some("limits.cpu")),
            ("weather", None),
            ("", None),
            ("x", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }
}
