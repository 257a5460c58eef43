//! Power goes away while releases are fetched, written, armed, tried and confirmed, on a disk that loses what was not flushed. After each
//! time the board runs a release that verifies, and goes on by itself. An update that is over gives way to the next one, so that each
//! cut is in one.

use super::StepError;
use super::install::instances_are_ready;
use super::roof::{INSTALL_TIMEOUT, Roof};
use crate::report::{Observer, Witness};
use serde_json::Value;
use std::time::Duration;

/// So often; the moments are chosen by a number that is printed.
const CUTS: usize = 6;

/// An update takes twice as long at least on any machine: it is not over before it is cut twice.
const LONGEST_WAIT_MS: u64 = 7_000;

/// What runs at first, and then after each update.
const RUNNING: [&str; 4] = ["A 1", "B 2", "A 6", "B 9"];
/// The number of each update's release.
const RELEASES: [u64; 3] = [2, 6, 9];

/// How far the update is, when the board can be asked for another one.
fn status_of_one_that_is_up(roof: &Roof<'_>) -> Result<Value, StepError> {
    roof.wait_ready("crab", INSTALL_TIMEOUT)?;
    roof.update_status()
}

/// A new board, and as many cuts.
pub(super) fn at_any_moment(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let seed = fastrand::u64(..);
    observer.note("the moments follow from the number", seed);
    let mut chance = fastrand::Rng::with_seed(seed);
    let said = roof.switch_on_volatile()?;
    observer.note("another board boots, whose disk loses what was not flushed", said);
    instances_are_ready(roof, observer)?;
    let mut update = 0;
    roof.begin_install("release-2")?;
    for number in 1..=CUTS {
        if roof.is_on_last_try() {
            // One more cut, and the board would leave a release that is good, until somebody asks for it: as it should.
            roof.wait_status("a last try that is confirmed", INSTALL_TIMEOUT, |status| status["phase"] == "idle")?;
            observer.note("cut at two tries, the third is left to be confirmed; next is cut", number);
        }
        let status = status_of_one_that_is_up(roof)?;
        if status["phase"] == "idle" {
            // Whoever asked and was cut before that was written down asks again.
            let is_over = status["release"] == RELEASES[update];
            update = if is_over { (update + 1).min(RELEASES.len() - 1) } else { update };
            roof.begin_install(&format!("release-{}", RELEASES[update]))?;
        }
        std::thread::sleep(Duration::from_millis(chance.u64(300..LONGEST_WAIT_MS)));
        let at = roof.at_work()?;
        let lost = roof.cut_power()?;
        roof.switch_on_again()?;
        let running = roof.running()?;
        let is_whole = running == RUNNING[update] || running == RUNNING[update + 1];
        let seen = format!("{at}; lost: {lost}; then runs {running}");
        observer.check(Witness::Kernel, &format!("cut {number}: a whole release runs"), seen, is_whole)?;
    }
    let status = status_of_one_that_is_up(roof)?;
    if status["phase"] == "idle" && status["release"] != RELEASES[update] {
        roof.begin_install(&format!("release-{}", RELEASES[update]))?;
    }
    let status = roof.wait_confirmed(RELEASES[update])?;
    observer.check(Witness::OwnWord, "the update went on by itself and is confirmed", &status["release"], true)?;
    let running = roof.running()?;
    let is_last = running == RUNNING[update + 1];
    observer.check(Witness::Kernel, "slot and release that run", &running, is_last)?;
    instances_are_ready(roof, observer)
}
