//! The same steps where EDK II decides what starts. What it does is seen on the serial line, in its flash, which nobody of ours reads
//! through the kernel, and in what the kernel has from it.

use super::StepError;
use super::fall_back::{self, FALL_BACK_TIMEOUT, is_back};
use super::install::{instances_are_ready, runs, until_restart, until_started_again};
use super::roof::{Roof, TIMEOUT};
use crate::board::efi_flash::{BootVariables, DESCRIPTIONS};
use crate::report::{Observer, Witness};

const A: &str = DESCRIPTIONS[0];
const B: &str = DESCRIPTIONS[1];

/// So often the updater arms a slot of which nobody can say how its trial ended.
const ARMS: usize = 3;

/// The factory's system runs, and `check-boot` proves that the firmware takes variables.
pub(super) fn first(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let said = roof.switch_on()?;
    observer.note("the board boots", said);
    let serial = roof.serial_since()?;
    starts(observer, &serial, &[A])?;
    runs(roof, observer, "A 1")?;
    instances_are_ready(roof, observer)?;

    let before = roof.board()?.boot_variables()?;
    let [is_a_active, is_b_active] = active(&before);
    let is_kept = is_a_active && !is_b_active && before.slots().iter().all(Option::is_some);
    observer.check(Witness::OtherEnd, "the flash: slot B is empty and inactive", &before, is_kept)?;
    let own = before.options.len() - 2;
    observer.check(Witness::OtherEnd, "options that EDK II has added took no slot's number", own, 0 < own)?;
    let said = roof.board()?.yado(&["system", "check-boot"])?;
    let is_proven = said.contains("a variable was made, read back and removed");
    observer.check(Witness::OwnWord, "check-boot", &said, is_proven)?;
    let after = roof.board()?.boot_variables()?;
    observer.check(Witness::OtherEnd, "the flash: it has changed nothing", &after, after == before)?;
    let status = roof.wait_status("a board at rest", TIMEOUT, |status| status["phase"] == "idle")?;
    let slots = &status["slots"];
    let is_told = slots[0]["in_order"] == true && slots[1]["in_order"] == false;
    observer.check(Witness::OwnWord, "update status", slots, is_told)?;
    Ok(())
}

/// Fetched, written, armed: until the board restarts by itself.
pub(super) fn second(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let serial = until_restart(roof, observer, "release-2")?;
    starts(observer, &serial, &[B])?;
    runs(roof, observer, "B 2")?;
    let current = by_kernel(roof, "BootCurrent")?;
    observer.check(Witness::Kernel, "BootCurrent is slot B's option", &current, current == "0001")?;
    let flash = roof.board()?.boot_variables()?;
    let is_once = flash.next.is_none() && flash.first() == Some(A);
    observer.check(Witness::OtherEnd, "the flash: it was to be started once, slot A is first", &flash, is_once)?;
    Ok(())
}

/// Its containers are healthy, so it is kept.
pub(super) fn confirmed(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let serial = until_started_again(roof, observer)?;
    starts(observer, &serial, &[B])?;
    runs(roof, observer, "B 2")?;
    is_first(roof, observer, B, [true, true])
}

/// Nobody can say how its trials ended, so it is armed again and again.
pub(super) fn panics(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    roof.begin_install("release-4")?;
    let expected = [A, B].repeat(ARMS);
    let serial =
        roof.wait_said("release 2 after the last trial", FALL_BACK_TIMEOUT, |said| started(said) == expected)?;
    starts(observer, &serial, &expected)?;
    let panics: Vec<&str> = serial.lines().filter(|line| line.contains("Kernel panic")).collect();
    observer.check(Witness::Kernel, "how the trials ended", panics.join("; "), panics.len() == ARMS)?;
    is_back(roof, observer, 4, "tries-used-up")?;
    is_first(roof, observer, B, [false, true])
}

/// A good one, and back from it.
pub(super) fn on_wish(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    fall_back::on_wish(roof, observer)?;
    is_first(roof, observer, B, [true, true])
}

/// The descriptions of what EDK II has started, one after the other.
fn started(serial: &str) -> Vec<&str> {
    let lines = serial.lines().filter_map(|line| line.split_once("BdsDxe: starting Boot"));
    lines.filter_map(|(_, line)| line.split('"').nth(1)).collect()
}

fn starts(observer: &mut Observer, serial: &str, expected: &[&str]) -> Result<(), StepError> {
    let seen = started(serial);
    observer.check(Witness::Kernel, "EDK II starts", seen.join(", "), seen == expected)?;
    Ok(())
}

/// What starts from now on is this slot's, by the firmware's own flash and by what it tells the kernel.
fn is_first(roof: &Roof<'_>, observer: &mut Observer, slot: &str, are_active: [bool; 2]) -> Result<(), StepError> {
    let flash = roof.board()?.boot_variables()?;
    let is_so = flash.first() == Some(slot) && flash.next.is_none() && active(&flash) == are_active;
    observer.check(Witness::OtherEnd, &format!("the flash: {slot} is first"), &flash, is_so)?;
    let order = by_kernel(roof, "BootOrder")?;
    let expected: Vec<String> = flash.order.iter().map(|number| format!("{number:04x}")).collect();
    observer.check(Witness::Kernel, "and so says the firmware", &order, order == expected.join(" "))?;
    Ok(())
}

fn active(flash: &BootVariables) -> [bool; 2] {
    flash.slots().map(|option| option.is_some_and(|option| option.is_active))
}

/// The numbers in a variable, as the kernel has them from the firmware.
fn by_kernel(roof: &Roof<'_>, name: &str) -> Result<String, StepError> {
    let script = format!(
        "mkdir -p /run/efivars && mount -t efivarfs none /run/efivars && \
         tail -c +5 /run/efivars/{name}-8be4df61-93ca-11d2-aa0d-00e098032b8c | hexdump -v -e '/2 \"%04x \"'; \
         umount /run/efivars"
    );
    Ok(roof.board()?.shell(&script, TIMEOUT)?)
}
