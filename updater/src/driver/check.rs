//! A check: whether the release at a source may be installed here. Of the source only the release itself is read, and nothing is
//! remembered but what was found, until the next boot.

use super::{Driver, now, refusal};
use crate::exit_codes::{self, DONE};
use crate::last_check::LastCheck;
use crate::machine::{self, Event, Offer, Refused};
use crate::record::{Line, Phase};
use yado_sys::clock;

impl Driver {
    /// Looks, says what is there, and keeps that for `yado update status`.
    ///
    /// # Errors
    /// The exit code of why it may not be installed.
    pub(super) fn check(&mut self, source: &Line) -> Result<(), u8> {
        self.exit = DONE;
        self.checked = None;
        self.status.begin_check(&self.state.record.phase, source);
        let release = self.look(source);
        if let Some((rule, says)) = self.status.last_word() {
            let source = source.to_string();
            let at_s = clock::since_boot().as_secs();
            let check = LastCheck { at_s, unix: now().unix, source, release, rule, says };
            if let Err(error) = check.write(&self.places) {
                eprintln!("what was found is not kept: {error}");
            }
        }
        if self.exit == DONE { Ok(()) } else { Err(self.exit) }
    }

    /// The release's number, if it verifies. Whoever refuses it says so, and by which rule.
    fn look(&mut self, source: &Line) -> Option<u64> {
        let (bytes, _) = self.fetch(source).ok()?;
        let release = self.verify(&bytes).ok()?;
        self.checked = Some(release.fingerprint);
        // Also while updates are held: what is there is worth knowing.
        if let Some((offer, words)) = self.judge(&release, false) {
            match self.would_refuse(source, offer) {
                Some(Refused::Held) => {
                    let words = format!("{words}, but {}", refusal::words(Refused::Held));
                    self.exit = self.status.fail("held", &words);
                }
                Some(refused) => self.refuse(refused),
                None => self.status.note(&words),
            }
        }
        Some(release.header.release)
    }

    /// Why the machine would not begin to install it.
    fn would_refuse(&self, source: &Line, offer: Offer) -> Option<Refused> {
        let mut state = self.state.clone();
        state.record.is_held = false;
        // What goes on already is over by the time that somebody asks for this.
        state.record.phase = Phase::Idle;
        let asked = machine::step(&state, Event::Asked { source: source.clone() }, now());
        let refused = machine::step(&asked.state, Event::Admitted(offer), now()).refused;
        refused.or(self.state.record.is_held.then_some(Refused::Held))
    }
}

/// The exit code of a release that runs already.
pub(super) fn already() -> u8 {
    exit_codes::of_refused(Refused::NothingToDo)
}
