//! How far our own start is.

use super::table::Stage;
use crate::identities::stored::Kept;
use crate::moment::Moment;
use crate::specs::Configured;

/// Our own start.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(super) stage: Stage,
    /// Drivers for the devices that were there at the start are loaded, so what is absent now is absent.
    pub(super) has_drivers: bool,
    /// Whether the data partition is used, or a stand-in for it.
    pub(super) data: Kept,
    /// What was last read from specs, until it is taken.
    pub(super) configured: Vec<Configured>,
}

impl Boot {
    /// Nothing was begun.
    pub(crate) fn new() -> Boot {
        Boot { stage: Stage::Begin, has_drivers: false, data: Kept::ForGood, configured: Vec::new() }
    }

    /// Instances may start.
    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done && self.has_drivers
    }

    /// When a stage ends for want of what it waits for.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self.stage {
            // Nothing is given up before the drivers are there, and their end wakes us.
            Stage::FindData { until } => self.has_drivers.then_some(until),
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
