//! Of several figures of one thing: the least, the one in the middle, the most.

/// The least, the one in the middle, the most; `None`: there are none.
pub(crate) fn spread<T: Ord + Copy>(figures: &[T]) -> Option<(T, T, T)> {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable();
    Some((*sorted.first()?, *sorted.get(sorted.len() / 2)?, *sorted.last()?))
}
