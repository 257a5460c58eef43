//! Limits how many questions on one bridge are handled at once, in all and for each source address: one busy container does not
//! take the place of its neighbours.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The places.
#[derive(Debug)]
pub(crate) struct QueryLimit {
    all: usize,
    each: usize,
    taken: Mutex<BTreeMap<IpAddr, usize>>,
}

/// One taken place; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct QueryPermit {
    limit: Arc<QueryLimit>,
    source: IpAddr,
}

impl QueryLimit {
    /// `all` places, of which each source has at most `each`.
    pub(crate) fn new(all: usize, each: usize) -> Arc<QueryLimit> {
        Arc::new(QueryLimit { all, each, taken: Mutex::default() })
    }

    /// A place for `source`; `None`: it has its part, or there is none left.
    pub(crate) fn take(self: &Arc<QueryLimit>, source: IpAddr) -> Option<QueryPermit> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&source).copied().unwrap_or(0);
        if self.each <= own || self.all <= taken.values().sum() {
            return None;
        }
        taken.insert(source, own + 1);
        Some(QueryPermit { limit: self.clone(), source })
    }
}

impl Drop for QueryPermit {
    fn drop(&mut self) {
        let mut taken = self.limit.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = taken.get(&self.source).map_or(0, |own| own.saturating_sub(1));
        if left == 0 {
            taken.remove(&self.source);
        } else {
            taken.insert(self.source, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_has_its_part_and_all_together_no_more_than_there_is() {
        let limit = QueryLimit::new(5, 2);
        let source = |last| IpAddr::from([10, 158, 0, last]);
        let mut held: Vec<Option<QueryPermit>> = (0..10).map(|_| limit.take(source(1))).collect();
        assert_eq!(held.iter().flatten().count(), 2, "one source");
        held.extend((0..10).map(|at| limit.take(source(2 + at % 3))));
        assert_eq!(held.iter().flatten().count(), 5, "all");
        drop(held);
        assert!(limit.taken.lock().is_ok_and(|taken| taken.is_empty()), "nobody is remembered");
        assert!(limit.take(source(1)).is_some());
    }
}
