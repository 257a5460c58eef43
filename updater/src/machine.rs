//! An update as one pure function: what is remembered, what the boot loader will do, what happened and the time in; what is
//! remembered and what is to be done next out. It does nothing itself: `install` and `trial` do what it says, and tell it what
//! became of it.
//!
//! ```text
//! Idle ─ Asked ─► Candidate ─ Admitted ─► Staging ─► Staged ─ Arm ─► Armed ─ reboot ─► Trial ─ Healthy ─► Confirming ─► Ended
//!   └─ RollBack ─► Checking ─ Verified ──────────────► ▲                                 └─ Unhealthy ─► Judged ─► Undoing ─► Ended
//! ```
//!
//! **One walk.** A user asks for a release: `step(Asked)` says `Admit`. The driver fetches the release, verifies it and tells
//! `Admitted`. `Stage(Deny)`: the boot loader no longer starts slot B; the driver tells `Changed` with what [`BootLoader::deny`]
//! gave. `Stage(Write)`, `Stage(ReadBack)`, `Stage(BootFiles)`, `Stage(Images)`: each told as `Staged`. `AskReboot`: nobody holds
//! the lock, `MayReboot`. `Arm`, told as `Changed`; `Reboot`. The new system starts, init starts `yado-updater resume`, which reads
//! record and boot loader into a [`State`] and tells `Started`. It is a trial: `SwitchInstances`, `Switched`, `Watch`. Health says
//! `Healthy`: `Confirm`, `Changed`; `KeepInstances`, `Kept`; `End`, `Recorded`; `Rest`, and the process ends.
//!
//! **The rules of the driver.**
//! 1. If the record differs from what is on the disk, write it *before* doing the action. An action that was cut is done again.
//! 2. So each action can be done again: what is so already costs nothing and changes nothing.
//! 3. `Started` is told in each start of the machine, before any instance starts, until the record has what became of it; after that
//!    `Resumed` when the updater is started again in the same start. Both go on where the record and the boot loader say, not where
//!    somebody believes to have been.
//! 4. What the user is refused ([`Step::refused`]) has changed nothing.
//!
//! What makes an end real: for a system, the boot loader's one write ([`Action::Confirm`], [`Action::Fail`]); for instances
//! alone, the record in [`Phase::Confirming`] or [`Phase::Undoing`]. What of an update is not the system follows it, in either direction.
//!
//! [`BootLoader::deny`]: crate::boot_loader::BootLoader::deny

mod due;
mod ending;
mod requests;
mod start;
mod work;

#[cfg(test)]
mod tests;

use crate::boot_loader::{Boots, Counting};
use crate::boot_state::{Slot, Tries};
use crate::record::{Ended, Kind, Line, Outcome, Phase, Record, Release, StagingStep, Unwell, Update};
use std::time::Duration;
use yado_wire::InstanceName;
use yado_wire::formats::Standing;

/// All that decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// What is remembered.
    pub record: Record,
    /// What the boot loader will do.
    pub boots: Boots,
    /// How it ends a trial.
    pub counting: Counting,
    /// What runs.
    pub place: Place,
    /// Times and numbers of this board.
    pub limits: Limits,
    /// What is waited for. It is not remembered: a start of the updater begins without it.
    pub wait: Wait,
}

/// The system that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Its slot.
    pub slot: Slot,
    /// Its image's fingerprint, if that is known.
    pub fingerprint: Option<[u8; 32]>,
}

/// Times and numbers of a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// How long after the machine's start, or after the instances got their new images, a trial may go on.
    pub trial: Duration,
    /// How long others may delay the reboot.
    pub lock: Duration,
    /// How often it is looked whether they still do.
    pub lock_look: Duration,
    /// Starts of a trial, where the boot loader counts them, and of a trial without a reboot.
    pub tries: Tries,
    /// How often a slot is armed where the boot loader forgets it.
    pub arms: u8,
    /// Panics and watchdog resets in a row after which a confirmed system is left.
    pub bad_starts: u8,
    /// How often a source is asked in vain.
    pub source_failures: u8,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Wait {
    /// What failed is done again at this time after the machine's start.
    pub again_at: Option<Duration>,
    /// The reboot is allowed.
    pub may_reboot: bool,
    /// Others have delayed the reboot since.
    pub locked_since: Option<Duration>,
    /// Why the machine was reset before this start, as long as that is not looked at.
    pub reset: Option<ResetCause>,
    /// The confirmed system was watched after a bad start, and is not well.
    pub is_unwell: bool,
    /// The boot loader cannot be told of a trial that failed: its tries end it.
    pub leave_by_tries: bool,
    /// The trial without a reboot is over then.
    pub trial_until: Option<Duration>,
    /// The release that is about to be no longer blocked.
    pub allowed: Option<[u8; 32]>,
}

/// The time, twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since the machine's start: what is waited for goes by it, since the clock of a board without a battery jumps.
    pub since_start: Duration,
    /// Seconds since 1970, as the device knows it: for the history alone.
    pub unix: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// The machine has started. `boots` is what the boot loader says now.
    Started {
        /// What runs.
        place: Place,
        /// Why it was reset.
        reset: ResetCause,
    },
    /// The updater was started again.
    Resumed,
    /// The time that was waited for has come.
    Tick,
    /// A user or a timer wants the release at this source.
    Asked {
        /// Where it is.
        source: Line,
    },
    /// The release is verified, and everything that can be known before it is fetched allows it.
    Admitted(Offer),
    /// It does not verify, or does not fit this device.
    NotAdmitted,
    /// The source did not give it.
    SourceFailed {
        /// What happened.
        reason: Line,
        /// It will never give it: it is a pipe that ended, or has no such file.
        is_final: bool,
    },
    /// The boot loader did what was wanted, and this is what it will do now.
    Changed(Boots),
    /// It could not be told. What it would do is as before.
    LoaderFailed {
        /// Why.
        reason: Line,
    },
    /// The step is done, and is on the disk.
    Staged(StagingStep),
    /// What was read back is not what was signed.
    NotReadBack {
        /// Where.
        reason: Line,
    },
    /// The step cannot be done: the disk is full, or broken.
    StageFailed {
        /// What happened.
        reason: Line,
    },
    /// Nobody minds a reboot.
    MayReboot,
    /// Somebody does.
    MustWait,
    /// The instances have their new images, and their layers are kept aside.
    Switched,
    /// All that must be well is, for as long as it must be.
    Healthy,
    /// Something is not, and will not be.
    Unhealthy(Unwell),
    /// Blocks of the running system do not verify.
    Damaged,
    /// The slot verifies, and holds this.
    Verified {
        /// Its image's fingerprint.
        fingerprint: [u8; 32],
        /// Its image's security epoch.
        security_epoch: u32,
    },
    /// It does not.
    NotVerified,
    /// What was before is kept for a rollback, and nothing else of it.
    Kept,
    /// The log of the system that failed is kept, as far as there is one.
    LogKept,
    /// The instances have their old images and layers.
    Undone,
    /// The history has it, and what was only for this update is gone.
    Recorded,
    /// A user says that the trial is good.
    UserConfirms,
    /// A user wants what was before.
    UserRollsBack,
    /// A user wants nothing to be installed.
    UserHolds,
    /// A user no longer minds.
    UserReleases,
    /// A user no longer wants the update that goes on.
    UserCancels,
    /// A user wants a blocked release to be tried again.
    UserAllows {
        /// Its fingerprint.
        release: [u8; 32],
    },
}

/// Why the machine was reset, as the hardware, the kernel or our own mark tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResetCause {
    /// Power came.
    PowerOn,
    /// The kernel panicked.
    Panic,
    /// The watchdog.
    Watchdog,
    /// Somebody asked for a reboot.
    Asked,
    /// Nothing tells.
    Unknown,
}

/// A release that may be installed, and what of it differs from what the device has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Offer {
    /// Which.
    pub release: Release,
    /// Its system image, if it has one.
    pub system: Option<[u8; 32]>,
    /// Instances whose images differ.
    pub instances: Vec<InstanceName>,
    /// Whether it is good only when the uplink is there.
    pub needs_uplink: bool,
}

/// What is to be done next. Each can be done again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing: the process ends.
    Rest,
    /// Nothing until then, after the machine's start; then `Tick`. The process may end meanwhile.
    Wait {
        /// When.
        until: Duration,
    },
    /// Fetch the release, verify it, see whether it fits: `Admitted`, `NotAdmitted` or `SourceFailed`.
    Admit {
        /// Where it is.
        source: Line,
    },
    /// Do this step of the update. `Deny` is the boot loader's, and told as `Changed`; the others as `Staged`, `NotReadBack`,
    /// `StageFailed` or `SourceFailed`.
    Stage(StagingStep),
    /// Look whether somebody minds a reboot: `MayReboot` or `MustWait`.
    AskReboot,
    /// [`BootLoader::arm`](crate::boot_loader::BootLoader::arm): `Changed`.
    Arm {
        /// The slot.
        slot: Slot,
        /// Its tries.
        tries: Tries,
    },
    /// Start the machine again. Nothing is told after it.
    Reboot {
        /// The slot that must be tried, where the boot loader is told so by the way of the reboot.
        trial: Option<Slot>,
    },
    /// Give the instances their new images, and keep image and layer of before aside, marked with the update's number: `Switched`. In a
    /// rollback the new image and layer are those that are kept aside. What is marked with this number already stays as it is.
    SwitchInstances,
    /// Watch the health until then, after the machine's start: `Healthy`, `Unhealthy`, or at that time `Tick`.
    Watch {
        /// When.
        until: Duration,
    },
    /// Verify all of the slot: `Verified` or `NotVerified`.
    Verify {
        /// The slot.
        slot: Slot,
    },
    /// [`BootLoader::confirm`](crate::boot_loader::BootLoader::confirm): `Changed`.
    Confirm {
        /// The slot.
        slot: Slot,
    },
    /// Keep what the instances had for a rollback, and no more: `Kept`.
    KeepInstances,
    /// Keep the log of the system that failed: `LogKept`.
    KeepLog,
    /// [`BootLoader::fail`](crate::boot_loader::BootLoader::fail): `Changed`.
    Fail {
        /// The slot.
        slot: Slot,
        /// The image in it.
        image: Option<[u8; 32]>,
    },
    /// [`BootLoader::deny`](crate::boot_loader::BootLoader::deny), of what was armed and is no longer wanted: `Changed`.
    Deny {
        /// The slot.
        slot: Slot,
    },
    /// [`BootLoader::keep_only`](crate::boot_loader::BootLoader::keep_only): `Changed`.
    KeepOnly {
        /// The slot.
        slot: Slot,
    },
    /// [`BootLoader::allow`](crate::boot_loader::BootLoader::allow): `Changed`.
    Allow {
        /// The image.
        image: [u8; 32],
    },
    /// Exchange image and layer with what is kept aside, where that is marked with the update's number, and take the mark away:
    /// `Undone`. It may come where nothing was switched.
    UndoInstances,
    /// Write the update into the history, once, and remove what was only for it: `Recorded`.
    End(Box<Ended>),
}

/// What one event leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is so now.
    pub state: State,
    /// What is to be done next.
    pub action: Action,
    /// Why what was wanted is not done.
    pub refused: Option<Refused>,
}

/// Why something that was wanted is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// Another update goes on.
    Busy,
    /// A trial goes on: it must be confirmed or undone first.
    TrialGoesOn,
    /// A user wants nothing to be installed.
    Held,
    /// The release failed before.
    Blocked,
    /// The release is older than one that was confirmed.
    BelowFloor,
    /// Its security epoch is lower than one that was confirmed.
    EpochBelowFloor,
    /// All of it is here already.
    NothingToDo,
    /// The source did not give it, too often.
    SourceGaveNothing,
    /// It does not verify, or does not fit.
    NotAdmitted,
    /// There is nothing to go back to.
    NothingBefore,
    /// What there is to go back to does not verify.
    BeforeIsBad,
    /// No trial goes on.
    NoTrial,
    /// It has been started already: only a rollback helps.
    TooLate,
    /// Nothing goes on that could be cancelled.
    NothingGoesOn,
    /// No such release is blocked.
    NotBlocked,
}

impl Default for Limits {
    /// The watchdog of a board is longer than its share of the trial: health decides first.
    fn default() -> Limits {
        Limits {
            trial: Duration::from_secs(300),
            lock: Duration::from_secs(24 * 3600),
            lock_look: Duration::from_secs(60),
            tries: Tries::FULL,
            arms: 3,
            bad_starts: 3,
            source_failures: 10,
        }
    }
}

impl State {
    /// What is known when the updater starts. The first event is `Started` or `Resumed`.
    pub fn new(record: Record, boots: Boots, counting: Counting, place: Place, limits: Limits) -> State {
        State { record, boots, counting, place, limits, wait: Wait::default() }
    }

    /// Whether the system that runs may be left for the one before it, which then reads what is written now: from before it is armed
    /// until the boot loader keeps it. One that failed is left, too. A confirmed one that goes bad is no longer on trial: what is on the
    /// data partition is in its versions already.
    pub fn standing(&self) -> Standing {
        let of_running = |update: &&Update| update.slot() == Some(self.place.slot) && update.kind != Kind::Leave;
        let is_on_trial = match &self.record.phase {
            Phase::Confirming { update }
            | Phase::Ended { ended: Ended { update, outcome: Outcome::Confirmed, .. } } => {
                of_running(&update) && !self.is_confirmed(self.place.slot)
            }
            phase => phase.update().is_some_and(|update| of_running(&update)),
        };
        if is_on_trial || self.boots.trial == Some(self.place.slot) { Standing::OnTrial } else { Standing::Confirmed }
    }
}

/// What follows from an event.
pub fn step(state: &State, event: Event, now: Now) -> Step {
    let mut next = state.clone();
    let refused = match event {
        Event::Started { place, reset } => start::started(&mut next, place, reset, now),
        Event::Resumed => Ok(()),
        Event::Tick => ending::tick(&mut next, now),
        Event::Asked { source } => requests::asked(&mut next, source, now),
        Event::Admitted(offer) => requests::admitted(&mut next, offer),
        Event::NotAdmitted => requests::not_admitted(&mut next),
        Event::SourceFailed { reason, is_final } => work::source_failed(&mut next, reason, is_final, now),
        Event::Changed(boots) => work::changed(&mut next, boots),
        Event::LoaderFailed { reason } => work::loader_failed(&mut next, reason, now),
        Event::Staged(done) => work::staged(&mut next, done),
        Event::NotReadBack { reason } => work::not_read_back(&mut next, reason, now),
        Event::StageFailed { reason } => work::stage_failed(&mut next, reason, now),
        Event::MayReboot => work::may_reboot(&mut next),
        Event::MustWait => work::must_wait(&mut next, now),
        Event::Switched => work::switched(&mut next, now),
        Event::Healthy => ending::healthy(&mut next),
        Event::Unhealthy(unwell) => ending::unhealthy(&mut next, unwell),
        Event::Damaged => ending::damaged(&mut next, now),
        Event::Verified { fingerprint, security_epoch } => ending::verified(&mut next, fingerprint, security_epoch),
        Event::NotVerified => ending::not_verified(&mut next),
        Event::Kept => ending::kept(&mut next, now),
        Event::LogKept => ending::log_kept(&mut next),
        Event::Undone => ending::undone(&mut next, now),
        Event::Recorded => start::recorded(&mut next, now),
        Event::UserConfirms => requests::confirm(&mut next),
        Event::UserRollsBack => requests::roll_back(&mut next, now),
        Event::UserHolds => requests::hold(&mut next, true),
        Event::UserReleases => requests::hold(&mut next, false),
        Event::UserCancels => requests::cancel(&mut next, now),
        Event::UserAllows { release } => requests::allow(&mut next, &release),
    };
    let refused = refused.err();
    let action = due::due(&mut next, now);
    Step { state: next, action, refused }
}
