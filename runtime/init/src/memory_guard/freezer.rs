//! Freezes all instances together, and thaws them. The kernel may refuse the write that thaws them, if it has no memory or
//! descriptors left: then the write is repeated. The file is open since before the first instance ran.

use crate::boot_clock::Moment;
use crate::instance::cgroup;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// A refused write is tried again after this: what kept the kernel from it passes within some.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The file, and what was last written.
#[derive(Debug, Default)]
pub(crate) struct Freezer {
    /// `None`: this kernel has none (before 5.2), or it could not be opened. Then instances that go on only get the rest of
    /// what memory there is.
    file: Option<File>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Running,
    Frozen {
        since: Moment,
    },
    /// They are to go on, and the kernel refused it.
    Refused {
        since: Moment,
        retry_at: Moment,
    },
}

/// What became of letting them go on.
#[derive(Debug)]
pub(super) enum Thaw {
    /// They go on, and stood still for so long.
    After(Duration),
    /// The kernel refused it for the first time. It is tried again until it succeeds.
    Refused(io::Error),
    /// Nothing new.
    AsBefore,
}

impl Freezer {
    /// Opens the file of the group `groups`, which holds all instances.
    pub(super) fn open(groups: &Path) -> io::Result<Freezer> {
        let file = File::options().write(true).open(groups.join(cgroup::FREEZE))?;
        Ok(Freezer { file: Some(file), ..Freezer::default() })
    }

    /// Whether they stand still.
    pub(super) fn is_frozen(&self) -> bool {
        self.state != State::Running
    }

    /// When to call [`Freezer::retry`].
    pub(super) fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Running | State::Frozen { .. } => None,
            State::Refused { retry_at, .. } => Some(retry_at),
        }
    }

    /// Lets all of them stand still.
    pub(super) fn freeze(&mut self, now: Moment) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.write_all_at(b"1", 0)?;
        let since = match self.state {
            State::Running => now,
            State::Frozen { since } | State::Refused { since, .. } => since,
        };
        self.state = State::Frozen { since };
        Ok(())
    }

    /// Lets all of them go on.
    pub(super) fn thaw(&mut self, now: Moment) -> Thaw {
        let (since, is_first) = match self.state {
            State::Running => return Thaw::AsBefore,
            State::Frozen { since } => (since, true),
            State::Refused { since, .. } => (since, false),
        };
        match self.file.as_ref().map_or(Ok(()), |file| file.write_all_at(b"0", 0)) {
            Ok(()) => {
                self.state = State::Running;
                Thaw::After(now.saturating_sub(since))
            }
            Err(error) => {
                self.state = State::Refused { since, retry_at: now.saturating_add(RETRY_PAUSE) };
                if is_first { Thaw::Refused(error) } else { Thaw::AsBefore }
            }
        }
    }

    /// Tries again what was refused.
    pub(super) fn retry(&mut self, now: Moment) -> Thaw {
        match self.state {
            State::Running | State::Frozen { .. } => Thaw::AsBefore,
            State::Refused { .. } => self.thaw(now),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    const fn ms(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    #[test]
    fn what_is_written_says_whether_they_stand_still_and_how_long_they_did() {
        let groups = tempfile::tempdir().unwrap();
        assert!(Freezer::open(groups.path()).is_err());
        let path = groups.path().join(cgroup::FREEZE);
        fs::write(&path, "0").unwrap();
        let mut freezer = Freezer::open(groups.path()).unwrap();
        assert!(matches!(freezer.thaw(ms(1)), Thaw::AsBefore));
        freezer.freeze(ms(10)).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), freezer.is_frozen()), ("1", true));
        assert!(matches!(freezer.retry(ms(20)), Thaw::AsBefore), "nobody wants them to go on");
        let Thaw::After(time) = freezer.thaw(ms(250)) else { panic!("{freezer:?}") };
        assert_eq!((time, freezer.is_frozen()), (ms(240), false));
        assert_eq!(fs::read_to_string(&path).unwrap(), "0");
    }

    #[test]
    fn a_refused_thaw_is_told_once_and_tried_until_the_kernel_takes_it() {
        // Where the kernel always has no room.
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut freezer = Freezer { file: Some(full), state: State::Frozen { since: ms(0) } };
        assert!(freezer.freeze(ms(0)).is_err());
        let Thaw::Refused(error) = freezer.thaw(ms(50)) else { panic!("{freezer:?}") };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!((freezer.is_frozen(), freezer.deadline()), (true, Some(ms(150))));
        assert!(matches!(freezer.retry(ms(150)), Thaw::AsBefore));
        assert_eq!((freezer.is_frozen(), freezer.deadline()), (true, Some(ms(250))));
        freezer.file = Some(File::options().write(true).open("/dev/null").unwrap());
        let Thaw::After(time) = freezer.retry(ms(250)) else { panic!("{freezer:?}") };
        assert_eq!((time, freezer.is_frozen(), freezer.deadline()), (ms(250), false, None));
    }
}
