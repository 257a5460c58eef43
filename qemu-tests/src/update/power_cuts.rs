//! Power goes away while release 2 is fetched, written, armed, tried and confirmed, on a disk that loses what was not flushed. After
//! each time the board runs a release that verifies, and goes on by itself.

use super::StepError;
use super::install::instances_are_ready;
use super::roof::{INSTALL_TIMEOUT, Roof};
use crate::report::{Observer, Witness};
use std::time::Duration;

/// So often; the moments are chosen by a number that is printed.
const CUTS: usize = 6;

/// An install from nothing to its confirmation takes about so long on an idle machine: each cut is somewhere in it.
const LONGEST_WAIT_MS: u64 = 25_000;

/// A new board, and as many cuts.
pub(super) fn at_any_moment(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let seed = fastrand::u64(..);
    observer.note("the moments follow from the number", seed);
    let mut chance = fastrand::Rng::with_seed(seed);
    let said = roof.switch_on_volatile()?;
    observer.note("another board boots, whose disk loses what was not flushed", said);
    instances_are_ready(roof, observer)?;
    roof.begin_install("release-2")?;
    for number in 1..=CUTS {
        if roof.is_on_last_try() {
            // One more cut, and the board would leave a release that is good, until somebody asks for it: as it should.
            roof.wait_status("a last try that is confirmed", INSTALL_TIMEOUT, |status| status["phase"] == "idle")?;
            observer.note("cut at two tries, the third is left to be confirmed; next is cut", number);
        }
        std::thread::sleep(Duration::from_millis(chance.u64(500..LONGEST_WAIT_MS)));
        let at = roof.phase_now();
        let lost = roof.cut_power()?;
        roof.switch_on_again()?;
        let running = roof.running()?;
        let is_whole = running == "A 1" || running == "B 2";
        let seen = format!("{at}; lost: {lost}; then runs {running}");
        observer.check(Witness::Kernel, &format!("cut {number}: a whole release runs"), seen, is_whole)?;
    }
    let status = roof.wait_status("release 2 that is confirmed", INSTALL_TIMEOUT, |status| {
        status["phase"] == "idle" && status["release"] == 2
    })?;
    observer.check(Witness::OwnWord, "the update went on by itself and is confirmed", &status["release"], true)?;
    let running = roof.running()?;
    observer.check(Witness::Kernel, "slot and release that run", &running, running == "B 2")?;
    instances_are_ready(roof, observer)
}
