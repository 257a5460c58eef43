//! Each action of the machine, done.

use super::{Driver, LONGEST_SLEEP, Next, line, sticks};
use crate::boot_loader::{BootLoaderError, Boots};
use crate::boot_state::{Slot, Tries};
use crate::init_client::{self, ask};
use crate::machine::{Action, Event};
use crate::record::{self, Ended, Line, StagingStep};
use crate::trial::{Seen, Trial, Verdict};
use std::fs;
use std::io::Write;
use std::time::Duration;
use yado_image::{Wanted, open_trusted, verity};
use yado_sys::{clock, replace_file};
use yado_wire::rescue::{Reply, Request};

/// How often it is looked how the instances are.
const LOOK: Duration = Duration::from_secs(1);

/// So much of a failed system's log is kept.
const MAX_LOG_BYTES: usize = 256 * 1024;
const LOG_MODE: u32 = 0o600;

impl Driver {
    pub(super) fn act(&mut self, action: Action) -> Next {
        match action {
            Action::Rest => self.rest(),
            Action::Wait { until } => self.wait(until),
            Action::Admit { source } => Next::Event(self.admit(&source)),
            Action::Stage(step) => Next::Event(self.stage(step)),
            Action::AskReboot => Next::Event(self.ask_reboot()),
            Action::Arm { slot, tries } => Next::Event(self.arm(slot, tries)),
            Action::Reboot { trial } => self.reboot_now(trial),
            Action::Watch { until } => Next::Event(self.watch(until)),
            Action::Verify { slot } => Next::Event(self.verify_slot(slot)),
            Action::Confirm { slot } => Next::Event(self.change(|loader| loader.confirm(slot))),
            Action::Fail { slot, image } => Next::Event(self.change(|loader| loader.fail(slot, image.as_ref()))),
            Action::Deny { slot } => Next::Event(self.change(|loader| loader.deny(slot))),
            Action::KeepOnly { slot } => Next::Event(self.change(|loader| loader.keep_only(slot))),
            Action::Allow { image } => Next::Event(self.change(|loader| loader.allow(&image))),
            Action::KeepLog => {
                self.keep_log();
                Next::Event(Event::LogKept)
            }
            Action::SwitchInstances => Next::Event(self.switch_instances()),
            Action::KeepInstances => self.keep_instances(),
            Action::UndoInstances => self.undo_instances(),
            Action::End(ended) => self.end(&ended),
        }
    }

    /// Waits here, or in init's hands: a process that sleeps for an hour costs memory.
    fn wait(&mut self, until: Duration) -> Next {
        let pause = until.saturating_sub(clock::since_boot());
        if LONGEST_SLEEP < pause {
            self.start_again_in(pause);
            return Next::End;
        }
        std::thread::sleep(pause);
        Next::Event(Event::Tick)
    }

    fn admit(&mut self, source: &Line) -> Event {
        match self.fetch_release(source) {
            Ok(opened) if !sticks::is_chosen(&self.places, source, &opened.release.fingerprint) => {
                let words = "the stick gives another release than it gave when it was checked";
                self.exit = self.status.fail("source-broken", words);
                Event::NotAdmitted
            }
            Ok(opened) => {
                let event = self.offer(&opened.release);
                self.release = Some(opened);
                event
            }
            Err(event) => event,
        }
    }

    fn stage(&mut self, step: StagingStep) -> Event {
        let Some(update) = self.state.record.phase.update().cloned() else { return Event::Tick };
        if step == StagingStep::Deny {
            return match update.slot() {
                Some(slot) => self.change(|loader| loader.deny(slot)),
                None => Event::Staged(step),
            };
        }
        if let Err(event) = self.open_kept(&update.source) {
            return event;
        }
        match step {
            StagingStep::Deny => Event::Staged(step),
            StagingStep::Images => self.stage_images(&update),
            StagingStep::Write => self.write_slot(&update),
            StagingStep::ReadBack => self.read_back(&update),
            StagingStep::BootFiles => self.write_boot_files(&update),
        }
    }

    fn ask_reboot(&mut self) -> Event {
        let mut holder = None;
        let asked = ask(&self.places, &Request::Health, |reply| {
            if let Reply::Health(health) = reply {
                holder = holder.take().or(health.holds_update.then_some(health.instance.name));
            }
        });
        match (asked, holder) {
            (Err(error), _) => {
                self.status.note(&format!("who minds a reboot is not known: {error}"));
                Event::MustWait
            }
            (Ok(()), Some(holder)) => {
                self.status.note(&format!("the reboot waits for {holder}, which holds the update lock"));
                Event::MustWait
            }
            (Ok(()), None) => Event::MayReboot,
        }
    }

    fn arm(&mut self, slot: Slot, tries: Tries) -> Event {
        self.change(|loader| loader.arm(slot, tries))
    }

    /// One change of the boot loader's state.
    fn change(
        &mut self,
        change: impl FnOnce(&mut dyn crate::boot_loader::BootLoader) -> Result<Boots, BootLoaderError>,
    ) -> Event {
        match change(self.loader.as_mut()) {
            Ok(boots) => Event::Changed(boots),
            Err(error) => {
                self.exit = self.status.fail("boot-loader", &error.to_string());
                Event::LoaderFailed { reason: line(error) }
            }
        }
    }

    fn reboot_now(&mut self, trial: Option<Slot>) -> Next {
        let why = match self.state.record.phase.update() {
            Some(update) => format!("update {} is {}", update.number, self.state.record.phase.as_str()),
            None => "an update".to_owned(),
        };
        // Only a trial is asked for by it: whatever else restarts takes what is good.
        let argument = trial.and(self.loader.restart_argument());
        self.restart(&why, argument);
        Next::End
    }

    /// Asks init for it; if that does not help, tries again when init starts us again.
    pub(super) fn reboot(&mut self, why: &str) {
        self.restart(why, None);
    }

    fn restart(&mut self, why: &str, argument: Option<&str>) {
        self.status.note(&format!("the machine is started again: {why}"));
        if let Err(error) = init_client::reboot(&self.places, why, argument) {
            self.status.set_error("reboot", &error.to_string());
            self.start_again_in(LONGEST_SLEEP);
        }
    }

    /// Looks at the instances until they are well, or it is clear that they will not be, or the time is over.
    fn watch(&mut self, until: Duration) -> Event {
        let needs_uplink = self.state.record.phase.update().is_some_and(|update| update.needs_uplink);
        let mut trial = Trial::new(self.policy.trial_window, needs_uplink);
        let mut last = None;
        loop {
            let mut seen = Seen { has_uplink: needs_uplink && has_uplink(), ..Seen::default() };
            let asked = ask(&self.places, &Request::Health, |reply| {
                if let Reply::Health(health) = reply {
                    seen.instances.push(health);
                }
            });
            let asked = asked.and_then(|()| {
                ask(&self.places, &Request::Status, |reply| {
                    if let Reply::Service(status) = reply {
                        seen.services.push(status);
                    }
                })
            });
            let at = clock::since_boot();
            let verdict = match asked {
                Ok(()) => trial.judge(&seen, at),
                Err(error) => Verdict::Wait(record::Unwell { instance: None, reason: line(error) }),
            };
            match verdict {
                Verdict::Healthy => return Event::Healthy,
                Verdict::Unhealthy(unwell) => return Event::Unhealthy(unwell),
                // What was waited for to the end is what is not well.
                Verdict::Wait(unwell) if until <= at => return Event::Unhealthy(unwell),
                Verdict::Wait(unwell) => {
                    if last.as_ref() != Some(&unwell) {
                        let name = unwell.instance.as_ref().map_or_else(String::new, |name| format!("{name}: "));
                        self.status.note(&format!("on trial: {name}{}", unwell.reason));
                        last = Some(unwell);
                    }
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Whether the slot holds an image that a trusted key has signed, whole.
    fn verify_slot(&mut self, slot: Slot) -> Event {
        let verified = self.keys().and_then(|keys| {
            let path = self.slot_device(slot)?;
            let image = open_trusted(&path, &keys, &Wanted::system())
                .map_err(|error| format!("{}: {error}", path.display()))?;
            verity::diagnose(&image.file, &image.header).map_err(|wrong| format!("{}: {wrong}", path.display()))?;
            Ok(Event::Verified { fingerprint: image.fingerprint, security_epoch: image.header.security_epoch })
        });
        verified.unwrap_or_else(|reason| {
            self.status.note(&format!("slot {slot} does not verify: {reason}"));
            Event::NotVerified
        })
    }

    /// What the system that failed said last, as far as it is this one.
    fn keep_log(&mut self) {
        let update = self.state.record.phase.update();
        let Some(update) = update.filter(|update| update.slot() == Some(self.state.place.slot)) else { return };
        let number = update.release.as_ref().map_or(0, |release| release.number);
        let mut text = Vec::new();
        let request = Request::Logs { instance: None, follow: false };
        let asked = ask(&self.places, &request, |reply| {
            if let Reply::Log(record) = reply {
                let seconds = Duration::from_millis(record.monotonic_ms).as_secs_f64();
                let _ = writeln!(text, "[{seconds:.3}] {}: {}", record.identifier, record.message);
            }
        });
        let path = self.places.log(&format!("failed-release-{number}.log"));
        let kept = &text[text.len().saturating_sub(MAX_LOG_BYTES)..];
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = made.and_then(|()| replace_file::replace(&path, LOG_MODE, kept));
        match (asked, written) {
            (Ok(()), Ok(())) => self.status.note(&format!("its log is kept in {}", path.display())),
            (Err(error), _) => self.status.note(&format!("its log is not whole: {error}")),
            (_, Err(error)) => self.status.note(&format!("its log is not kept: {}: {error}", path.display())),
        }
    }

    fn end(&mut self, ended: &Ended) -> Next {
        match record::history::add(&self.places.remembered(), ended, self.state.standing()) {
            Ok(lost) => {
                if let Some(error) = lost {
                    self.status.note(&format!("the history is begun anew: {error}"));
                }
                self.forget_release();
                self.note_end(&ended.outcome);
                Next::Event(Event::Recorded)
            }
            Err(error) => {
                self.status.set_error("state", &format!("the history cannot be written: {error}"));
                self.start_again_in(LONGEST_SLEEP);
                Next::End
            }
        }
    }
}

/// The kernel knows a way to everywhere.
fn has_uplink() -> bool {
    // proc(5): name, destination, gateway, flags …; a destination of zeros is everywhere.
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    routes.lines().any(|line| line.split_whitespace().nth(1) == Some("00000000"))
}
