//! One release after the other, from slot to slot, and in the middle of each update the power goes away, on a disk that loses what was
//! not flushed. Each ends with the release that was asked for; a table tells what the machine was at when it was cut, and what it
//! booted then.

use super::StepError;
use super::roof::{Roof, TIMEOUT};
use crate::length::Length;
use crate::report::{Observer, Witness};
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// So many updates: `cargo accept --long`.
const CYCLES: u64 = 200;
/// Of who names the floor, and does not want all of them.
const FEW_CYCLES: u64 = 6;
/// The number of the first release.
const FIRST_RELEASE: u64 = 21;

pub(super) fn with_cuts(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let cycles = if roof.length == Length::Long { CYCLES } else { FEW_CYCLES };
    let seed = fastrand::u64(..);
    observer.note("the moments follow from the number", seed);
    let mut chance = fastrand::Rng::with_seed(seed);
    let said = roof.switch_on_volatile()?;
    observer.note("a board boots", said);
    // What is on trial is confirmed as soon as it may be.
    roof.board()?.shell("echo 'trial.window = \"0s\"' > /data/update.toml; sync", TIMEOUT)?;

    let undisturbed = Instant::now();
    offer_and_begin(roof, FIRST_RELEASE)?;
    roof.wait_confirmed(FIRST_RELEASE)?;
    let longest = undisturbed.elapsed();
    observer.note("an update without a cut takes, in seconds", format!("{:.1}", longest.as_secs_f64()));
    let mut table: BTreeMap<(String, &str), u64> = BTreeMap::new();
    let began = Instant::now();
    for number in FIRST_RELEASE + 1..=FIRST_RELEASE + cycles {
        let moment = Duration::from_millis(chance.u64(0..longest.as_millis() as u64));
        let (at, booted) = cycle(roof, observer, number, moment)?;
        *table.entry((at, booted)).or_default() += 1;
    }
    let seconds = began.elapsed().as_secs_f64() / cycles as f64;
    observer.note("a cycle takes, in seconds", format!("{seconds:.1}"));
    observer.note(&row("when the power went away", "then booted"), "times");
    for ((at, booted), times) in table {
        observer.note(&row(&at, booted), times);
    }
    Ok(())
}

fn row(at: &str, booted: &str) -> String {
    format!("{at:<28}{booted:<18}")
}

fn offer_and_begin(roof: &mut Roof<'_>, number: u64) -> Result<(), StepError> {
    roof.releases.offer_cycled(number)?;
    roof.begin_install(&format!("release-{number}"))
}

/// One update with one cut: what the machine was at, and which release booted after it.
fn cycle(
    roof: &mut Roof<'_>,
    observer: &mut Observer,
    number: u64,
    moment: Duration,
) -> Result<(String, &'static str), StepError> {
    let (old, new) = (roof.expected_running(number - 1), roof.expected_running(number));
    let asked_before = roof.server.requests().lines().count();
    offer_and_begin(roof, number)?;
    std::thread::sleep(moment);
    let at = roof.at_work()?;
    let lost = roof.cut_power()?;
    let is_asked = asked_before < roof.server.requests().lines().count();
    roof.switch_on_again()?;
    let running = roof.running()?;
    let booted = match &running {
        running if *running == old => "the old release",
        running if *running == new => "the new release",
        _ => "something else",
    };
    let seen = format!("{:.1} s, {at}; lost: {lost}; then runs {running}", moment.as_secs_f64());
    let is_whole = running == old || running == new;
    observer.check(Witness::Kernel, &format!("release {number}: a whole release runs"), seen, is_whole)?;
    // Whoever was not heard asks again. From the first request to the server on nobody has to.
    if !is_asked {
        roof.wait_ready("crab", TIMEOUT)?;
        offer_and_begin(roof, number)?;
    }
    roof.wait_confirmed(number)?;
    let running = roof.running()?;
    observer.check(Witness::Kernel, "it ends with the new one", &running, running == new)?;
    let image = &roof.releases.cycled_system(number).image;
    let image = fs::read(image).map_err(crate::board::BuildError::io(image))?;
    let slot = if running.starts_with('A') { "slot-a" } else { "slot-b" };
    let is_same = roof.board()?.on_disk(slot, image.len() as u64)? == image;
    observer.check(Witness::OtherEnd, "and its slot holds its image", format!("{} bytes", image.len()), is_same)?;
    Ok((at, booted))
}

impl Roof<'_> {
    /// What runs after the update to this release.
    fn expected_running(&self, number: u64) -> String {
        // The factory's is in slot A, so the first one goes to B.
        let slot = if (number - FIRST_RELEASE) % 2 == 0 { 'B' } else { 'A' };
        format!("{slot} {}", self.releases.cycled_name(number))
    }
}
