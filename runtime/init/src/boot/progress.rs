//! How far the boot is.

use super::parts::{Part, Parts, Reached};
use super::table::Stage;
use crate::boot_clock::Moment;
use crate::identities::stored::Persistence;
use crate::specs::Configured;

/// Our own start.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(super) stage: Stage,
    /// The parts that are over.
    pub(super) reached: Reached,
    /// Whether the data partition is used, or a stand-in for it.
    pub(super) data: Persistence,
    /// What was last read from specs, until it is taken.
    pub(super) configured: Vec<Configured>,
}

impl Boot {
    /// Nothing was begun.
    pub(crate) fn new() -> Boot {
        Boot { stage: Stage::Begin, reached: Reached::default(), data: Persistence::ForGood, configured: Vec::new() }
    }

    /// The part before our loop, which began at this time.
    pub(crate) fn begin_system(&mut self, at: Moment) {
        self.reached.begin(Part::System, at);
    }

    /// Nothing of it is left to do.
    pub(crate) fn is_done(&self) -> bool {
        self.may_start_some() && self.has_drivers()
    }

    /// There are instances, and some may start.
    pub(crate) fn may_start_some(&self) -> bool {
        self.has(Parts::of(&[Part::Specs, Part::Modules]))
    }

    /// All of these parts are over.
    pub(crate) fn has(&self, parts: Parts) -> bool {
        self.reached.has_all(parts)
    }

    /// Drivers for the devices that were there at the start are loaded, so what is absent now is absent.
    pub(super) fn has_drivers(&self) -> bool {
        self.reached.has(Part::Drivers)
    }

    /// When a stage ends for want of what it waits for.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self.stage {
            // Nothing is given up before the drivers are there, and their end wakes us.
            Stage::FindData { until } => self.has_drivers().then_some(until),
            Stage::Begin
            | Stage::ReadData { .. }
            | Stage::MarkData { .. }
            | Stage::PrepareData { .. }
            | Stage::ClearMark { .. }
            | Stage::MountData { .. }
            | Stage::MakeVolatile
            | Stage::FormatVolatile { .. }
            | Stage::MountVolatile
            | Stage::ReadSpecs
            | Stage::Compile
            | Stage::ReadCompiled
            | Stage::Done => None,
        }
    }
}
