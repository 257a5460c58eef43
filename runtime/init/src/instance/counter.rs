//! A counter of the kernel in a file of the control group: how often an instance was refused memory or processes. Processes
//! inside can raise it thousands of times a second, so it is read and told at a limited rate.

use super::cgroup;
use crate::boot_clock::{Moment, next_round};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// Between two tellings.
const PAUSE: Duration = Duration::from_secs(10);

/// There is one look in a round: at its limit a group's `memory.events` changes a hundred times a second, without anything to
/// tell.
const ROUND: Duration = Duration::from_secs(1);

/// Longer than `memory.events` and `pids.events` are.
const MAX_FILE_BYTES: usize = 512;

/// One such count of a run.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    file: Option<File>,
    line: &'static str,
    count: u64,
    told: u64,
    /// It was told or looked at, and is not looked at before.
    quiet_until: Option<Moment>,
    /// The kernel said that the file changed, and [`Counter::news`] was not asked since.
    has_changed: bool,
}

impl Counter {
    /// The count in `line` of a file; without the file, where the kernel lacks the controller, it stays 0.
    pub(crate) fn open(path: &Path, line: &'static str) -> Counter {
        let mut counter = Counter { file: File::open(path).ok(), line, ..Counter::default() };
        // Until it is read for the first time it counts as changed, and would wake us for nothing.
        counter.read();
        counter
    }

    /// The count of a run that is over.
    pub(crate) fn closed(self) -> Counter {
        Counter { count: self.count, told: self.count, ..Counter::default() }
    }

    /// The count when the file was last read.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// What tells that it changed, unless that is not asked for now.
    pub(crate) fn watched(&self) -> Option<&File> {
        self.file.as_ref().filter(|_| self.quiet_until.is_none())
    }

    /// When it is looked at again.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.quiet_until
    }

    /// Reads it because the kernel said that it changed.
    pub(crate) fn look(&mut self) {
        self.has_changed = true;
        self.read();
    }

    /// Reads it.
    pub(crate) fn read(&mut self) {
        self.count = self.count.max(self.read_file().unwrap_or(0));
    }

    /// The count, if it is to be told now.
    pub(crate) fn news(&mut self, now: Moment) -> Option<u64> {
        match self.quiet_until {
            Some(until) if now < until => return None,
            Some(_) => self.read(),
            None => {}
        }
        let has_changed = std::mem::take(&mut self.has_changed);
        let news = self.last_news();
        self.quiet_until = match (news, has_changed) {
            (Some(_), _) => Some(now.saturating_add(PAUSE)),
            (None, true) => Some(next_round(now, ROUND)),
            (None, false) => None,
        };
        news
    }

    /// The count, if it was not told yet.
    pub(crate) fn last_news(&mut self) -> Option<u64> {
        let has_news = self.told < self.count;
        self.told = self.count;
        has_news.then_some(self.count)
    }

    fn read_file(&self) -> Option<u64> {
        let mut buffer = [0; MAX_FILE_BYTES];
        // From the start each time: reading is also what tells the kernel that the change was seen.
        let len = self.file.as_ref()?.read_at(&mut buffer, 0).ok()?;
        cgroup::parse_count(core::str::from_utf8(buffer.get(..len)?).ok()?, self.line)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_in_a_while_and_nothing_of_it_is_lost() {
        let path = std::env::temp_dir().join(format!("yado-counter-{}", std::process::id()));
        let write =
            |count: u32| std::fs::write(&path, format!("max 7\nmax_usage {count}\noom_kill {count}\n")).unwrap();
        let s = Duration::from_secs;
        write(0);
        let mut counter = Counter::open(&path, "oom_kill");
        assert_eq!((counter.news(s(1)), counter.deadline(), counter.watched().is_some()), (None, None, true));
        write(1);
        counter.look();
        assert_eq!(counter.news(s(2)), Some(1), "the first is told at once");
        write(900);
        assert_eq!((counter.news(s(11)), counter.watched().is_some()), (None, false), "then it is not looked at");
        assert_eq!(counter.deadline(), Some(s(12)));
        assert_eq!(counter.news(s(12)), Some(900), "and all that came meanwhile is told together");
        assert_eq!((counter.news(s(22)), counter.deadline(), counter.watched().is_some()), (None, None, true));
        counter.look();
        assert_eq!((counter.news(s(30)), counter.watched().is_some()), (None, false), "changes that tell nothing");
        assert_eq!(counter.deadline(), Some(s(31)));
        assert_eq!((counter.news(s(31)), counter.watched().is_some()), (None, true));
        write(901);
        counter.read();
        assert_eq!((counter.last_news(), counter.last_news()), (Some(901), None));
        let closed = counter.closed();
        assert_eq!((closed.count(), closed.deadline(), closed.watched().is_some()), (901, None, false));
        std::fs::remove_file(&path).unwrap();
    }
}
