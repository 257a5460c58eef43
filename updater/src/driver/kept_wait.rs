//! What is waited for, from one process of the updater to the next of the same start: it stands in the run directory, in milliseconds since
//! the start. Else whoever has a process started early would have it wait anew: a lock would delay a reboot for ever, and a source
//! that gives nothing would be asked at once each time.

use super::Driver;
use crate::machine::Wait;
use crate::places::Places;
use crate::record::Phase;
use crate::run_file::RunFile;
use std::fs;
use std::time::Duration;

/// In the updater's run directory.
const FILE: RunFile = RunFile { name: "wait", mode: 0o644, max_bytes: MAX_BYTES };

/// What stands for no time.
const NONE: &str = "-";

/// Three numbers, and what parts them.
const MAX_BYTES: u64 = 3 * 21;

/// Those parts of [`Wait`] that outlive a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Kept {
    again_at: Option<Duration>,
    locked_since: Option<Duration>,
    trial_until: Option<Duration>,
}

impl Kept {
    /// Each as long as its phase goes on: the next update has times of its own.
    fn of(wait: &Wait, phase: &Phase) -> Kept {
        Kept {
            again_at: wait.again_at.filter(|_| *phase != Phase::Idle),
            locked_since: wait.locked_since.filter(|_| matches!(phase, Phase::Staged { .. })),
            trial_until: wait.trial_until.filter(|_| matches!(phase, Phase::Trial { .. })),
        }
    }

    fn to_text(self) -> String {
        let word = |time: Option<Duration>| time.map_or(NONE.to_owned(), |time| time.as_millis().to_string());
        format!("{} {} {}\n", word(self.again_at), word(self.locked_since), word(self.trial_until))
    }

    /// What cannot be read is as nothing.
    fn parse(text: &str) -> Option<Kept> {
        let mut words = text.split_whitespace().map(|word| match word {
            NONE => Some(None),
            number => Some(Some(Duration::from_millis(number.parse().ok()?))),
        });
        let kept = Kept { again_at: words.next()??, locked_since: words.next()??, trial_until: words.next()?? };
        words.next().is_none().then_some(kept)
    }

    fn read(places: &Places) -> Kept {
        let text = FILE.read(places).and_then(|bytes| String::from_utf8(bytes).ok());
        text.and_then(|text| Kept::parse(&text)).unwrap_or_default()
    }

    fn write(self, places: &Places) {
        let path = FILE.path(places);
        let written = match self == Kept::default() {
            true => fs::remove_file(&path),
            false => FILE.write(places, self.to_text().as_bytes()),
        };
        if let Err(error) = written {
            eprintln!("{}: {error}: the next process waits anew", path.display());
        }
    }
}

impl Driver {
    /// Takes over what an earlier process of this start waited for.
    pub(super) fn restore_wait(&mut self) {
        self.kept_wait = Kept::read(&self.places);
        let Kept { again_at, locked_since, trial_until } = self.kept_wait;
        self.state.wait = Wait { again_at, locked_since, trial_until, ..self.state.wait };
    }

    /// Keeps it for the next.
    pub(super) fn keep_wait(&mut self) {
        let now = Kept::of(&self.state.wait, &self.state.record.phase);
        if now != self.kept_wait {
            now.write(&self.places);
            self.kept_wait = now;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_is_torn_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let run = directory.path().to_owned();
        let places = Places { system: run.clone(), data: run.clone(), run, state: None };
        fs::create_dir(places.own_run()).unwrap();
        assert_eq!(Kept::read(&places), Kept::default());
        let times = [None, Some(Duration::ZERO), Some(Duration::from_millis(u64::MAX))];
        for again_at in times {
            for locked_since in times {
                for trial_until in times {
                    let kept = Kept { again_at, locked_since, trial_until };
                    let text = kept.to_text();
                    assert!(text.len() as u64 <= MAX_BYTES && Kept::parse(&text) == Some(kept), "{text}");
                    if kept != Kept::default() {
                        kept.write(&places);
                    }
                    assert_eq!(Kept::read(&places), kept);
                }
            }
        }
        Kept::default().write(&places);
        assert!(!FILE.path(&places).exists());
        for torn in ["", "-", "1 2", "1 2 3 4", "1 -2 3", "a b c", "99999999999999999999 - -"] {
            assert_eq!(Kept::parse(torn), None, "{torn}");
        }
    }
}
