//! What the updater remembers on the data partition, in `state/update`: the update that goes on and how far it is, what was
//! confirmed, what is blocked, and the floors. Plain values; [`Record::to_text`] and
//! [`Record::parse`] make a text of them and back, [`file`] reads and writes it.
//!
//! The boot loader's own state stands elsewhere ([`crate::boot_loader`]) and is not repeated here: where both could say something,
//! the boot loader is right, because it decides what starts.

pub mod file;
pub mod history;
mod line;
mod text;

#[cfg(test)]
mod tests;

use crate::boot_state::Slot;
use yado_wire::InstanceName;

pub use line::Line;
pub use text::{MAX_BYTES, RecordError};

/// Releases that are remembered as blocked; the oldest is forgotten first.
pub const MAX_BLOCKED: usize = 8;

/// All that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Record {
    /// The number of the next update.
    pub next_update: u32,
    /// A user wants nothing to be installed.
    pub is_held: bool,
    /// What no release may be below.
    pub floors: Floors,
    /// The release that was confirmed last.
    pub current: Option<Release>,
    /// The one before it, which a rollback goes to.
    pub previous: Option<Release>,
    /// What the last confirmed update changed, and a rollback changes back.
    pub changed: Changed,
    /// Releases that are not installed again until told, oldest first.
    pub blocked: Vec<Blocked>,
    /// Starts of the confirmed system, in a row, that ended in a panic or by the watchdog.
    pub bad_starts: u8,
    /// Why the running system is not good, when there is nothing to fall back to.
    pub degraded: Option<Cause>,
    /// The update that goes on.
    pub phase: Phase,
}

/// What no release may be below. Raised when an update is confirmed, and at no other time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Floors {
    /// The highest release number that was confirmed.
    pub release: u64,
    /// The highest security epoch that was confirmed.
    pub security_epoch: u32,
}

/// A signed release.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Release {
    /// SHA-256 of its header.
    pub fingerprint: [u8; 32],
    /// Its number, which only grows.
    pub number: u64,
    /// Its security epoch.
    pub security_epoch: u32,
    /// Its version, for people.
    pub version: Line,
}

/// A release that failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Blocked {
    /// Which.
    pub release: Release,
    /// Its system image's fingerprint.
    pub system: Option<[u8; 32]>,
    /// Why.
    pub cause: Cause,
}

/// What an update changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Changed {
    /// The system.
    pub system: bool,
    /// The images of these instances.
    pub instances: Vec<InstanceName>,
}

/// An update of which it is known what it does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Update {
    /// Its number on this device.
    pub number: u32,
    /// What for.
    pub kind: Kind,
    /// The release. None: of a rollback to what was there from the factory, or of a slot that is not ours.
    pub release: Option<Release>,
    /// The slot that it starts from.
    pub system: Option<SystemPart>,
    /// Instances that get another image.
    pub instances: Vec<InstanceName>,
    /// Whether it is good only when the uplink is there.
    pub needs_uplink: bool,
    /// Where the release comes from, as the user wrote it.
    pub source: Line,
    /// When it was asked for: seconds since 1970, as the device knew it.
    pub asked_unix: u64,
}

/// What an update is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A release from a source.
    Install,
    /// What there was before, because a user wants it.
    Rollback,
    /// The confirmed system went bad, and the slot that is named is the one that is left.
    Leave,
    /// A trial, or a slot that failed, of which nothing is remembered: the data partition was lost, or somebody else armed it.
    Found,
}

/// The system's part of an update.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SystemPart {
    /// Where it is.
    pub slot: Slot,
    /// Its image. None: nobody has looked.
    pub fingerprint: Option<[u8; 32]>,
}

/// How far an update is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Phase {
    /// There is none.
    #[default]
    Idle,
    /// Asked for. What it is comes from the source.
    Candidate {
        /// The number that it will have.
        number: u32,
        /// Where it is.
        source: Line,
        /// When it was asked for.
        asked_unix: u64,
        /// How often the source did not give it.
        failures: u8,
    },
    /// A rollback is asked for: the slot that it goes to must verify.
    Checking {
        /// What it would do.
        update: Update,
    },
    /// It is being written.
    Staging {
        /// Which.
        update: Update,
        /// What of it is done next.
        step: StagingStep,
        /// How often the source did not give it.
        failures: u8,
        /// How often what was written was not what the disk gave back.
        rewrites: u8,
    },
    /// All of it is there and read back. Nothing starts it yet.
    Staged {
        /// Which.
        update: Update,
    },
    /// The boot loader takes it at the next start.
    Armed {
        /// Which.
        update: Update,
        /// How often it was armed, of a boot loader that forgets.
        arms: u8,
    },
    /// It runs, and is watched.
    Trial {
        /// Which.
        update: Update,
        /// As of [`Phase::Armed`].
        arms: u8,
        /// Starts of the machine since it is on trial.
        starts: u8,
        /// Its instances have their new images.
        is_switched: bool,
    },
    /// The running system is not good: before it is left, the other one must verify.
    Judged {
        /// What failed.
        update: Update,
        /// Why.
        cause: Cause,
        /// The other one does not verify: there is nothing to fall back to.
        is_other_bad: bool,
    },
    /// It is good: the boot loader is told, then what was before is put away.
    Confirming {
        /// Which.
        update: Update,
    },
    /// It failed: all of it is taken back.
    Undoing {
        /// Which.
        update: Update,
        /// Why.
        cause: Cause,
        /// The log of the system that failed is kept.
        is_log_kept: bool,
        /// How often the failed system was started all the same.
        returns: u8,
    },
    /// It is over, which the history is told.
    Ended {
        /// How.
        ended: Ended,
    },
}

/// What is done of an update before it can be started, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StagingStep {
    /// The boot loader must not start the slot.
    Deny,
    /// What differs is written.
    Write,
    /// The slot is read again, past the cache, and compared with what was signed.
    ReadBack,
    /// Kernel, initramfs and device tree of the slot.
    BootFiles,
    /// Images of instances are put beside the old ones.
    Images,
}

/// An update that is over.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ended {
    /// Which.
    pub update: Update,
    /// How.
    pub outcome: Outcome,
    /// When: seconds since 1970, as the device knew it.
    pub ended_unix: u64,
}

/// How an update ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is what runs.
    Confirmed,
    /// What was before runs again.
    FellBack(Cause),
    /// It runs although it is not good: there is nothing else.
    Degraded(Cause),
    /// A user did not want it any more.
    Cancelled,
    /// It could not be written or armed.
    Failed(Line),
}

/// Why a system or an update was left.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It was started as often as it may, and never came so far as to say why not.
    TriesUsedUp,
    /// Its kernel panicked.
    Panic,
    /// The watchdog reset the machine.
    Watchdog,
    /// The boot loader could not start it.
    NotStarted,
    /// It was not healthy in time.
    Unwell(Unwell),
    /// Nobody said in time that it is healthy, nor what is not.
    Deadline,
    /// A user did not want it.
    User,
    /// A user did not want it any more, before it was started.
    Cancelled,
    /// Blocks of the running system do not verify.
    Damaged,
    /// The confirmed system panicked or hung three times in a row.
    BadStarts,
    /// Another image runs than the one that was armed.
    OtherSystem,
}

/// What is not as it must be for an update to be confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unwell {
    /// Of which instance; None: of the system itself.
    pub instance: Option<InstanceName>,
    /// What it is.
    pub reason: Line,
}

impl Floors {
    /// The higher of both, each.
    pub fn max(self, other: Floors) -> Floors {
        Floors {
            release: self.release.max(other.release),
            security_epoch: self.security_epoch.max(other.security_epoch),
        }
    }
}

impl Record {
    /// Whether this release is blocked, and why.
    pub fn blocked_for(&self, fingerprint: &[u8; 32]) -> Option<&Blocked> {
        self.blocked.iter().find(|blocked| blocked.release.fingerprint == *fingerprint)
    }

    /// What a rollback would go to is about to be overwritten.
    pub fn forget_previous(&mut self) {
        self.previous = None;
        self.changed = Changed::default();
    }

    /// Remembers a release as blocked; the oldest gives it its place.
    pub fn block(&mut self, release: Release, system: Option<[u8; 32]>, cause: Cause) {
        self.blocked.retain(|other| other.release.fingerprint != release.fingerprint);
        if MAX_BLOCKED <= self.blocked.len() {
            self.blocked.remove(0);
        }
        self.blocked.push(Blocked { release, system, cause });
    }
}

impl Phase {
    /// The phase's name, in the file and for people.
    pub fn as_str(&self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Candidate { .. } => "candidate",
            Phase::Checking { .. } => "checking",
            Phase::Staging { .. } => "staging",
            Phase::Staged { .. } => "staged",
            Phase::Armed { .. } => "armed",
            Phase::Trial { .. } => "trial",
            Phase::Judged { .. } => "judged",
            Phase::Confirming { .. } => "confirming",
            Phase::Undoing { .. } => "undoing",
            Phase::Ended { .. } => "ended",
        }
    }

    /// Where what goes on comes from.
    pub fn source(&self) -> Option<&Line> {
        match self {
            Phase::Candidate { source, .. } => Some(source),
            phase => phase.update().map(|update| &update.source),
        }
    }

    /// The update that goes on, as soon as it is known what it does.
    pub fn update(&self) -> Option<&Update> {
        match self {
            Phase::Idle | Phase::Candidate { .. } => None,
            Phase::Checking { update }
            | Phase::Staging { update, .. }
            | Phase::Staged { update }
            | Phase::Armed { update, .. }
            | Phase::Trial { update, .. }
            | Phase::Judged { update, .. }
            | Phase::Confirming { update }
            | Phase::Undoing { update, .. } => Some(update),
            Phase::Ended { ended } => Some(&ended.update),
        }
    }
}

impl Update {
    /// The slot that it starts from.
    pub fn slot(&self) -> Option<Slot> {
        self.system.as_ref().map(|system| system.slot)
    }
}
