//! The latest run of each instance that netd knows. Launchers and init use separate connections, so an older request can arrive
//! after a newer one: the run numbers tell which one is out of date. Pure; saved for a restarted netd.

use yado_wire::{InstanceId, MAX_INSTANCES, RunNumber};

/// The last known run of each instance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunNumbers {
    known: Vec<Run>,
}

/// The last known run of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) instance: InstanceId,
    pub(crate) number: RunNumber,
    pub(crate) is_over: bool,
}

/// A request of a run that is over, or that was followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfDate;

/// Twice as many as there can be instances with interfaces. Beyond it the oldest run is forgotten: a request that came so
/// late is of a launcher that ended long ago.
const MAX_RUNS: usize = 2 * MAX_INSTANCES;

impl RunNumbers {
    /// Those that a predecessor wrote down.
    pub(crate) fn of(known: Vec<Run>) -> RunNumbers {
        RunNumbers { known }
    }

    /// All of them, to be written down.
    pub(crate) fn known(&self) -> &[Run] {
        &self.known
    }

    /// A run asks for its interfaces.
    pub fn begin(&mut self, instance: InstanceId, number: RunNumber) -> Result<(), OutOfDate> {
        if self.last(instance).is_some_and(|last| number < last.number || number == last.number && last.is_over) {
            return Err(OutOfDate);
        }
        self.put(Run { instance, number, is_over: false });
        Ok(())
    }

    /// A run is over.
    pub fn end(&mut self, instance: InstanceId, number: RunNumber) -> Result<(), OutOfDate> {
        if self.last(instance).is_some_and(|last| number < last.number) {
            return Err(OutOfDate);
        }
        self.put(Run { instance, number, is_over: true });
        Ok(())
    }

    fn last(&self, instance: InstanceId) -> Option<&Run> {
        self.known.iter().find(|run| run.instance == instance)
    }

    fn put(&mut self, run: Run) {
        self.known.retain(|known| known.instance != run.instance);
        if MAX_RUNS <= self.known.len() {
            let oldest = self.known.iter().enumerate().min_by_key(|(_, run)| run.number);
            if let Some((at, _)) = oldest {
                self.known.remove(at);
            }
        }
        self.known.push(run);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_an_earlier_run_is_out_of_date() {
        let one = InstanceId(1);
        let mut runs = RunNumbers::default();
        assert_eq!(runs.begin(one, RunNumber(5)), Ok(()));
        assert_eq!(runs.begin(one, RunNumber(5)), Ok(()), "asked again");
        assert_eq!(runs.end(one, RunNumber(4)), Err(OutOfDate));
        assert_eq!(runs.begin(one, RunNumber(4)), Err(OutOfDate));
        assert_eq!(runs.begin(InstanceId(2), RunNumber(1)), Ok(()), "another instance");
        assert_eq!(runs.end(one, RunNumber(5)), Ok(()));
        assert_eq!(runs.end(one, RunNumber(5)), Ok(()), "asked again");
        assert_eq!(runs.begin(one, RunNumber(5)), Err(OutOfDate), "it is over");
        // The end of a run may come before its launcher's request.
        assert_eq!(runs.end(one, RunNumber(7)), Ok(()));
        assert_eq!(runs.begin(one, RunNumber(7)), Err(OutOfDate));
        assert_eq!(runs.begin(one, RunNumber(8)), Ok(()));
    }

    #[test]
    fn more_instances_than_there_can_be_push_out_the_oldest_run() {
        let mut runs = RunNumbers::default();
        let id = |number: usize| InstanceId(number as u32);
        for number in 0..=MAX_RUNS {
            runs.begin(id(number), RunNumber(number as u64)).unwrap();
        }
        assert_eq!(runs.known.len(), MAX_RUNS);
        assert!(runs.last(id(0)).is_none() && runs.last(id(1)).is_some());
    }
}
