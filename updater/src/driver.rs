//! The process that does what [`machine`](crate::machine) says: it does one action, tells the machine what became of it, and goes on
//! with the next, until there is nothing to do or somebody else has to do something first. What is remembered is written before each
//! action, so it may be killed at any moment.

mod actions;
mod check;
mod instances;
mod kept_release;
mod kept_wait;
mod offer;
mod refusal;
mod report;
mod requests;
mod slots;
mod sources;
mod sticks;
mod timer;

use crate::boot_loader::{self, Board, BootLoader, BootLoaderError, StatePartition};
use crate::confinement::{self, Needed};
use crate::exit_codes::{self, DONE, FAILED};
use crate::machine::{self, Action, Event, Limits, Now, Place, Refused, ResetCause, State};
use crate::places::{Places, is_there};
use crate::record::{self, Line, Outcome, Phase, Record};
use crate::slot::{self, BootFilesProcess};
use crate::source::stick::process::{PluggedIn, StickProcess};
use kept_release::OpenRelease;
use kept_wait::Kept;
use report::Report;
pub(crate) use requests::parse_request;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
pub(crate) use timer::next_check;
use yado_spec::update_policy::{self, Author, UpdatePolicy};
use yado_sys::device_mapper::DeviceMapper;
use yado_sys::{clock, file_lock, replace_file};
use yado_wire::booted_slot::{self, BootedSlot, Trial};
use yado_wire::last_reset;

/// Whoever waits longer than this ends meanwhile, and is started again by init.
const LONGEST_SLEEP: Duration = Duration::from_secs(20);

/// Only init reads it.
const TRIAL_MODE: u32 = 0o600;

/// A policy is some lines of text.
const MAX_POLICY_BYTES: u64 = 64 * 1024;

/// What somebody wants of the updater.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// To go on with what was begun, and to look for a new release if it is time: init asks for it, at each start of the machine and
    /// when it was time.
    Resume,
    /// Something new.
    Do(Event),
    /// To see whether the release at this source may be installed, and no more.
    Check(Line),
}

impl Request {
    /// The source that is named.
    fn source(&self) -> Option<&str> {
        match self {
            Request::Do(Event::Asked { source }) | Request::Check(source) => Some(source.as_str()),
            Request::Resume | Request::Do(_) => None,
        }
    }
}

/// The process.
struct Driver {
    places: Places,
    policy: UpdatePolicy,
    loader: Box<dyn BootLoader>,
    state: State,
    /// What is on the disk.
    written: Option<Record>,
    status: Report,
    /// The release that is worked on, if it has been opened.
    release: Option<OpenRelease>,
    /// `None`: there is no boot partition for the slot that does not run.
    boot_files: Option<BootFilesProcess>,
    /// `None`: no stick can be needed.
    sticks: Option<StickProcess>,
    /// The stick that was looked at: the source `usb` is this one.
    stick: Option<PluggedIn>,
    /// Fingerprint of the release that the last check has verified.
    checked: Option<[u8; 32]>,
    /// What stands in the run directory of what is waited for.
    kept_wait: Kept,
    /// The slot was written and read back by this very process.
    is_read_back: bool,
    /// A block of the running system was read that is not what was signed.
    is_damaged: bool,
    /// This process was asked for something, or has found something to do.
    has_worked: bool,
    /// Why it does not end well, as far as is known.
    exit: u8,
}

/// What an action leads to.
enum Next {
    /// This happened.
    Event(Event),
    /// Nothing more is to be done by this process.
    End,
}

/// Does what is wanted, and what is due besides, to the end of this process.
pub(crate) fn run(places: &Places, request: Request) -> u8 {
    let mut status = Report::begin(places);
    let lock = places.own_run().join("lock");
    let locked = file_lock::open(&lock).and_then(|file| file_lock::try_lock(&file).map(|()| file));
    let Ok(_lock) = locked else {
        return status.fail_and_end("busy", "another updater is at work");
    };
    let boot_files = match start_boot_files(places) {
        Ok(process) => process,
        Err(error) => {
            let reason = format!("start the process that writes boot files: {error}");
            return end_unopened(places, &request, status.fail_and_end("confinement", &reason));
        }
    };
    let mut driver = match Driver::open(places, &request, boot_files, status) {
        Ok(driver) => driver,
        Err(exit) => return end_unopened(places, &request, exit),
    };
    let exit = driver.drive(request);
    driver.status.end(exit);
    exit
}

/// A system on trial in which no updater can work is left by init after so many crashes of it. An exit code would be an answer, and the
/// trial go on for ever.
fn end_unopened(places: &Places, request: &Request, exit: u8) -> u8 {
    if *request == Request::Resume && is_there(&places.remembered().join(booted_slot::TRIAL_FILE)) {
        std::process::abort();
    }
    exit
}

impl Driver {
    /// From here on the process is confined.
    fn open(
        places: &Places,
        request: &Request,
        boot_files: Option<BootFilesProcess>,
        mut status: Report,
    ) -> Result<Driver, u8> {
        let policy = read_policy(places);
        let mut loader =
            open_loader(&policy, places).map_err(|error| status.fail_and_end("boot-loader", &error.to_string()))?;
        let written = match record::file::read(&places.remembered()) {
            Ok(written) => written,
            Err(error) => {
                println!("{error}: it is begun anew");
                None
            }
        };
        let record = written.clone().unwrap_or_default();
        let booted = places.booted();
        let is_damaged = *request == Request::Resume && is_system_damaged();
        let sticks = sticks::start_if_needed(places, request, &policy, &record);
        if let Some((booted, _)) = booted {
            let source = request.source();
            let needed = Needed { places, policy: &policy, loader: loader.as_ref(), booted, record: &record, source };
            let confined = confinement::confine(&needed);
            confined.map_err(|error| status.fail_and_end("confinement", &error.to_string()))?;
        }
        let boots = loader.read().map_err(|error| status.fail_and_end("boot-loader", &error.to_string()))?;
        let Some((slot, fingerprint)) = booted else {
            return Err(
                status.fail_and_end("no-slot", "no slot of this machine was booted: there is nothing to update")
            );
        };
        let place = Place { slot, fingerprint: Some(fingerprint) };
        let limits = Limits { trial: policy.trial_deadline, lock: policy.lock_limit, ..Limits::default() };
        let state = State::new(record, boots, loader.counting(), place, limits);
        Ok(Driver {
            places: places.clone(),
            policy,
            loader,
            state,
            written,
            status,
            release: None,
            boot_files,
            sticks,
            stick: None,
            checked: None,
            kept_wait: Kept::default(),
            is_read_back: false,
            is_damaged,
            has_worked: false,
            exit: DONE,
        })
    }

    fn drive(&mut self, request: Request) -> u8 {
        let begun = self.places.own_run().join("begun");
        let first = match is_there(&begun) {
            true => {
                self.restore_wait();
                self.go_on_with_new_stick();
                Event::Resumed
            }
            false => Event::Started { place: self.state.place, reset: read_reset(&self.places) },
        };
        let mut action = match self.step(first) {
            Ok(action) => action,
            Err(exit) => return exit,
        };
        if let Err(error) = fs::write(&begun, "") {
            self.status.set_error("run", &format!("write {}: {error}", begun.display()));
            return FAILED;
        }
        self.keep_timer();
        self.has_worked = request != Request::Resume;
        if self.is_damaged {
            action = match self.step(Event::Damaged) {
                Ok(action) => action,
                Err(exit) => return exit,
            };
        }
        let is_over = match request {
            Request::Resume => false,
            Request::Check(source) => {
                // What it comes to is the exit code.
                let _ = self.check(&source);
                true
            }
            Request::Do(event) => {
                let is_wish = matches!(event, Event::UserHolds | Event::UserReleases);
                if matches!(event, Event::Asked { .. }) {
                    sticks::choose_any(&self.places);
                }
                if !is_wish {
                    // Nobody who asks for something waits for what was done in vain.
                    self.state.wait.again_at = None;
                }
                action = match self.step(event) {
                    Ok(action) => action,
                    Err(exit) => return exit,
                };
                is_wish || self.exit != DONE
            }
        };
        // What was begun before goes on in a process of its own.
        if is_over {
            if action == Action::Rest {
                self.keep_timer();
            } else {
                self.start_again_in(Duration::ZERO);
            }
            return self.exit;
        }
        loop {
            match self.act(action) {
                Next::End => return self.exit,
                Next::Event(event) => {
                    self.has_worked = true;
                    action = match self.step(event) {
                        Ok(action) => action,
                        Err(exit) => return exit,
                    }
                }
            }
        }
    }

    /// Tells the machine, writes what it wants to be remembered, and gives back what is to be done.
    fn step(&mut self, event: Event) -> Result<Action, u8> {
        let step = machine::step(&self.state, event, now());
        let is_other_phase = step.state.record.phase != self.state.record.phase;
        self.state = step.state;
        if let Some(refused) = step.refused {
            self.refuse(refused);
        }
        if self.written.as_ref() != Some(&self.state.record) {
            // In this order: a cut in between leaves a confirmed system without the note, and never one with it.
            let remembered = self.note_trial();
            let remembered = remembered.and_then(|()| {
                record::file::write(&self.places.remembered(), &self.state.record, self.state.standing())
            });
            if let Err(error) = remembered {
                return Err(self.not_remembered(&error));
            }
            self.written = Some(self.state.record.clone());
        }
        self.keep_wait();
        if is_other_phase {
            self.status.set_phase(&self.state.record.phase);
        }
        Ok(step.action)
    }

    /// Tells init which slot is on trial, and for how long, from before it is armed until its end is known: if no updater works in it
    /// any more, init leaves it.
    fn note_trial(&self) -> std::io::Result<()> {
        let path = self.places.remembered().join(booted_slot::TRIAL_FILE);
        let on_trial = match &self.state.record.phase {
            Phase::Staged { update }
            | Phase::Armed { update, .. }
            | Phase::Trial { update, .. }
            | Phase::Judged { update, is_other_bad: false, .. }
            | Phase::Undoing { update, .. } => update.system.as_ref(),
            Phase::Idle
            | Phase::Candidate { .. }
            | Phase::Checking { .. }
            | Phase::Staging { .. }
            // There is nothing better.
            | Phase::Judged { is_other_bad: true, .. }
            | Phase::Confirming { .. }
            | Phase::Ended { .. } => None,
        };
        match on_trial.and_then(|system| Some((system.slot, system.fingerprint?))) {
            Some((slot, fingerprint)) => {
                let slot = BootedSlot { name: slot.letter(), fingerprint };
                let text = Trial { slot, judged_after: self.policy.trial_deadline }.text();
                if fs::read_to_string(&path).ok().as_deref() == Some(&text) {
                    return Ok(());
                }
                replace_file::replace(&path, TRIAL_MODE, text.as_bytes())
            }
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            },
        }
    }

    /// The data partition does not take the record. Nothing is done that would have to be remembered; but a trial whose time is over
    /// is left by its tries, which the boot loader counts.
    fn not_remembered(&mut self, error: &std::io::Error) -> u8 {
        let place = self.places.remembered().join(record::file::NAME);
        let exit = self.status.fail("state", &format!("write {}: {error}", place.display()));
        let is_on_trial = self.state.boots.trial == Some(self.state.place.slot);
        if is_on_trial && self.state.limits.trial < clock::since_boot() {
            self.reboot("a trial is over, and its end cannot be remembered");
        } else {
            self.start_again_in(LONGEST_SLEEP);
        }
        exit
    }

    fn refuse(&mut self, refused: Refused) {
        // Of a release that is not installed nothing is kept.
        if self.state.record.phase == Phase::Idle {
            self.forget_release();
        }
        match (refused, exit_codes::rule_of(refused)) {
            // Who found out why has said it already.
            (Refused::NotAdmitted | Refused::SourceGaveNothing, _) if self.exit != DONE => {}
            (_, Some(rule)) => self.exit = self.status.fail(rule, refusal::words(refused)),
            (_, None) => self.exit = FAILED,
        }
    }

    /// How an update ended, as an exit code.
    fn note_end(&mut self, outcome: &Outcome) {
        self.exit = match outcome {
            Outcome::Confirmed => DONE,
            Outcome::FellBack(cause) | Outcome::Degraded(cause) => self.status.fail("fell-back", &cause.to_string()),
            Outcome::Cancelled => self.status.fail("cancelled", "it was cancelled"),
            // Who found out why has said it already, by its rule.
            Outcome::Failed(_) if self.exit != DONE => self.exit,
            Outcome::Failed(reason) => self.status.fail("device", reason.as_str()),
        };
    }

    /// init starts us again after so long. Rounded up: whoever comes early has to come again.
    fn start_again_in(&self, pause: Duration) {
        let seconds = format!("{}\n", pause.as_millis().div_ceil(1000));
        if let Err(error) = fs::write(self.places.own_run().join("next-start"), seconds) {
            eprintln!("next-start: {error}: nobody goes on before the next start of the machine");
        }
    }
}

/// Forks who writes boot files, if there is a partition for them.
fn start_boot_files(places: &Places) -> std::io::Result<Option<BootFilesProcess>> {
    let Some((booted, _)) = places.booted() else { return Ok(None) };
    let device = slot::find(booted.other(), Some(booted)).ok().and_then(|found| found.boot);
    device.map(|device| BootFilesProcess::start(&device, confinement::confine_writer_of_boot_files)).transpose()
}

fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Now { since_start: clock::since_boot(), unix }
}

/// What the system and then the administrator say. A line that is wrong is told and changes nothing.
pub(crate) fn read_policy(places: &Places) -> UpdatePolicy {
    let mut policy = UpdatePolicy::usual();
    for (directory, author) in [(&places.system, Author::System), (&places.data, Author::Administrator)] {
        let path = directory.join(update_policy::FILE);
        match read_bounded(&path) {
            Ok(bytes) => {
                for problem in policy.add(&path.display().to_string(), author, &bytes) {
                    eprintln!("{problem}");
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => eprintln!("{}: {error}", path.display()),
        }
    }
    policy
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    yado_sys::regular_file::open(path)?.take(MAX_POLICY_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The boot loader that this board has, or the state that somebody names instead.
pub(crate) fn open_loader(policy: &UpdatePolicy, places: &Places) -> Result<Box<dyn BootLoader>, BootLoaderError> {
    match &places.state {
        Some(path) => Ok(Box::new(StatePartition::at(path)?)),
        None => boot_loader::open(policy, &Board::of_system(&places.data)),
    }
}

/// A block of the running system was read that is not what was signed.
fn is_system_damaged() -> bool {
    let damaged = DeviceMapper::open().and_then(|mapper| mapper.is_damaged(booted_slot::DEVICE));
    damaged.unwrap_or_else(|error| {
        println!("whether the running system verifies is not known: {error}");
        false
    })
}

fn read_reset(places: &Places) -> ResetCause {
    let text = fs::read_to_string(places.run.join(last_reset::FILE)).unwrap_or_default();
    match last_reset::LastReset::parse(&text).map(|reset| reset.cause) {
        Some(last_reset::ResetCause::Asked) => ResetCause::Asked,
        Some(last_reset::ResetCause::Panic) => ResetCause::Panic,
        Some(last_reset::ResetCause::Watchdog) => ResetCause::Watchdog,
        Some(last_reset::ResetCause::Power) => ResetCause::PowerOn,
        Some(last_reset::ResetCause::Unknown) | None => ResetCause::Unknown,
    }
}

/// Text of a reason, bounded.
fn line(text: impl std::fmt::Display) -> Line {
    Line::cut(&text.to_string())
}
