//! The source that an address means.

use super::Driver;
use crate::machine::Event;
use crate::record::Line;
use crate::source::Source;
use crate::source::open::{self, Transfer};
use crate::source::stick;
use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

impl Driver {
    /// Opens what the user has named.
    pub(super) fn open_source(&mut self, address: &Line) -> Result<Box<dyn Source>, Event> {
        if address.as_str() == stick::ADDRESS {
            return self.open_stick().map_err(|error| self.source_failed(&error));
        }
        let transfer = Transfer {
            authorities: self.policy.authorities.clone(),
            certificate: self.policy.certificate.clone(),
            proxy: self.policy.proxy.clone(),
            speed_floor: self.policy.speed_floor,
            not_before_seconds: made_at(&self.places.system),
        };
        open::open(address.as_str(), &transfer).map_err(|error| self.source_failed(&error))
    }
}

/// When the running system was made: it is later than that, whatever the clock says.
fn made_at(system: &Path) -> u64 {
    let made = fs::metadata(system).and_then(|found| found.modified()).ok();
    made.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |passed| passed.as_secs())
}
