//! Declared devices that are absent: what each instance said about that is what happens.

use super::bench::{Bench, TIMEOUT, has_failed_at};
use super::failure::BrokenError;
use super::instance_runs::{is_ready, runs_not};
use crate::board::gpio_chip;
use crate::report::{Observer, Witness};

pub(super) fn absent(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    is_ready(bench, observer, "required = false: it runs without", "chip-optional")?;
    for (name, device) in [("chip-required", "relays"), ("stick-required", "stick")] {
        let required = bench.wait_settled(name)?;
        let is_refused = has_failed_at(&required, "device-absent", device);
        let what = "required = true: it has failed, at the device";
        runs_not(bench, observer, what, name, &required, is_refused)?;
    }
    let patient = bench.wait_instance("chip-patient", "waits", |status| status["state"] == "waiting")?;
    let is_named =
        patient["last_failure"]["step"] == "device-absent" && patient["last_failure"]["object"] == "relays";
    let what = "required.timeout: it waits, and says for what";
    runs_not(bench, observer, what, "chip-patient", &patient, is_named)?;

    let lines = gpio_chip::make(bench.board()?, "late", TIMEOUT)?;
    let chip = lines.rsplit('/').next().unwrap_or_default();
    observer.check(Witness::Kernel, "the chip it waits for comes", &lines, chip.starts_with("gpiochip"))?;
    is_ready(bench, observer, "then it starts", "chip-patient")?;
    let listed = bench.inside_output("chip-patient", "ls /dev")?.replace('\n', " ");
    observer.check(Witness::Peer, "the chip is in it", &listed, listed.split(' ').any(|node| node == chip))?;
    let listed = bench.inside_output("chip-optional", "ls /dev")?.replace('\n', " ");
    observer.check(Witness::Peer, "and in nobody else", &listed, !listed.contains("gpiochip"))?;
    Ok(())
}
