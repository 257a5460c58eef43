//! Declared devices that are absent: what each instance said about that is what happens.

use super::bench::{Bench, TIMEOUT, has_failed_at, shown};
use super::failure::BrokenError;
use crate::board::gpio_chip;
use crate::report::{Observer, Witness};

pub(super) fn absent(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let optional = bench.wait_settled("chip-optional")?;
    observer.check(
        Witness::OwnWord,
        "required = false: it runs without",
        shown(&optional),
        optional["state"] == "ready",
    )?;
    for (name, device) in [("chip-required", "relays"), ("stick-required", "stick")] {
        let required = bench.wait_settled(name)?;
        let is_refused = has_failed_at(&required, "device-absent", device);
        observer.check(
            Witness::OwnWord,
            "required = true: it has failed, at the device",
            shown(&required),
            is_refused,
        )?;
    }
    let patient = bench.wait_instance("chip-patient", "waits", |status| status["state"] == "waiting")?;
    let is_named =
        patient["last_failure"]["step"] == "device-absent" && patient["last_failure"]["object"] == "relays";
    observer.check(Witness::OwnWord, "required.timeout: it waits, and says for what", shown(&patient), is_named)?;

    let lines = gpio_chip::make(bench.board()?, "late", TIMEOUT)?;
    observer.note("the chip it waits for comes", &lines);
    let patient = bench.wait_settled("chip-patient")?;
    observer.check(Witness::OwnWord, "then it starts", shown(&patient), patient["state"] == "ready")?;
    let chip = lines.rsplit('/').next().unwrap_or_default();
    let listed = bench.inside_output("chip-patient", "ls /dev")?.replace('\n', " ");
    observer.check(Witness::Peer, "the chip is in it", &listed, listed.split(' ').any(|node| node == chip))?;
    let listed = bench.inside_output("chip-optional", "ls /dev")?.replace('\n', " ");
    observer.check(Witness::Peer, "and in nobody else", &listed, !listed.contains("gpiochip"))?;
    Ok(())
}
