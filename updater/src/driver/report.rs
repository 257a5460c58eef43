//! What the updater says while it works: live, for whoever looks, and in init's log.

use crate::exit_codes;
use crate::live_status::LiveStatus;
use crate::places::Places;
use crate::progress::{Progress, Stage};
use crate::record::{Line, Phase};
use std::time::Duration;
use yado_sys::clock;
use yado_wire::update_status::UpdateStatus;

/// Both places.
pub(super) struct Report {
    /// `None`: init's runtime directory cannot be written, and nobody can look.
    live: Option<LiveStatus<fn() -> Duration>>,
    /// Nothing is said in the log: somebody else says it, if it is new.
    pub(super) is_silent: bool,
}

impl Report {
    /// Begins with nothing known.
    pub(super) fn begin(places: &Places) -> Report {
        let live = LiveStatus::begin(&places.run, clock::since_boot as fn() -> Duration);
        let live = live.map_err(|error| eprintln!("{}: {error}", places.own_run().display())).ok();
        Report { live, is_silent: false }
    }

    /// How far the update is by the record.
    pub(super) fn set_phase(&mut self, phase: &Phase) {
        println!("{}", phase.as_str());
        self.tell(|status| {
            status.phase = phase.as_str().to_owned();
            if let Phase::Candidate { source, .. } = phase {
                status.source = Some(source.to_string());
            }
            if let Some(update) = phase.update() {
                let release = update.release.as_ref();
                status.release = release.map(|release| release.number);
                status.version = release.map(|release| release.version.to_string()).filter(|text| !text.is_empty());
                status.slot = update.slot().map(|slot| slot.letter());
                status.source = Some(update.source.to_string()).filter(|source| !source.is_empty());
            }
            (status.stage, status.done, status.total, status.rate, status.left_s) = (None, 0, 0, 0, None);
        });
    }

    /// A source is looked at: what was said before is not about it.
    pub(super) fn begin_check(&mut self, phase: &Phase, source: &Line) {
        if !self.is_silent {
            println!("looks at {source}");
        }
        self.tell(|status| {
            (status.phase, status.source) = (phase.as_str().to_owned(), Some(source.to_string()));
            (status.note, status.rule, status.error) = (None, None, None);
        });
    }

    /// What went wrong, and by which rule; or else the note. `None`: neither, or nobody can look.
    pub(super) fn last_word(&self) -> Option<(Option<String>, String)> {
        let status = self.live.as_ref()?.status();
        match &status.error {
            Some(error) => Some((status.rule.clone(), error.clone())),
            None => status.note.clone().map(|note| (None, note)),
        }
    }

    /// What is worth knowing and no error.
    pub(super) fn note(&mut self, note: &str) {
        if !self.is_silent {
            println!("{note}");
        }
        self.tell(|status| status.note = Some(note.to_owned()));
    }

    /// What went wrong, by which rule.
    pub(super) fn set_error(&mut self, rule: &str, error: &str) {
        if !self.is_silent {
            eprintln!("{error} (rule {rule})");
        }
        self.tell(|status| (status.rule, status.error) = (Some(rule.to_owned()), Some(error.to_owned())));
    }

    /// As [`Report::set_error`]; the exit code of that rule.
    pub(super) fn fail(&mut self, rule: &'static str, error: &str) -> u8 {
        self.set_error(rule, error);
        exit_codes::of_rule(rule).map_or(exit_codes::FAILED, |row| row.code)
    }

    /// As [`Report::fail`], of who ends by it before anything was begun.
    pub(super) fn fail_and_end(&mut self, rule: &'static str, error: &str) -> u8 {
        let exit = self.fail(rule, error);
        self.end(exit);
        exit
    }

    /// What the process ends with.
    pub(super) fn end(&mut self, exit: u8) {
        self.tell(|status| {
            if exit == exit_codes::DONE {
                (status.error, status.rule) = (None, None);
            }
        });
        if let Some(live) = &mut self.live {
            live.finish(exit);
        }
    }

    fn tell(&mut self, change: impl FnOnce(&mut UpdateStatus)) {
        if let Some(live) = &mut self.live {
            live.tell(change);
        }
    }
}

impl Progress for Report {
    fn advance(&mut self, stage: Stage, done: u64, total: u64) {
        if let Some(live) = &mut self.live {
            live.advance(stage, done, total);
        }
    }
}
