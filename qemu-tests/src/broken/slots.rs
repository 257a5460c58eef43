//! A system that is on trial and is not what was signed: each boot of it is refused, with its reason on the console, and
//! when its tries are used up the board comes up from the other slot.

use super::bench::Bench;
use super::condition::Condition;
use super::failure::BrokenError;
use super::instance_runs::is_ready;
use crate::board::qemu::OnReset;
use crate::board::spoilt_slot::Spoiling;
use crate::board::{BoardError, Slots};
use crate::report::{Observer, Witness};
use serde_json::Value;

/// What is done before a try, and what must then be said of it.
struct Try {
    /// The tries that U-Boot says are left.
    left: u8,
    spoiling: Spoiling,
    what: &'static str,
    witness: Witness,
    told: &'static [&'static str],
}

/// As many as a slot on trial has. Each is noticed before the one above it, so none need be undone.
const TRIES: [Try; 3] = [
    Try {
        left: 2,
        spoiling: Spoiling::Payload,
        what: "a byte of its file system was changed: dm-verity refuses the block",
        witness: Witness::Kernel,
        told: &[
            "device-mapper: verity: ",
            "data block 0 is corrupted",
            "not started: mount /dev/dm-0: ",
            "I/O error",
        ],
    },
    Try {
        left: 1,
        spoiling: Spoiling::RootHash,
        what: "a byte of its header was changed: the signature does not fit",
        witness: Witness::OwnWord,
        told: &["not started: image-signature: ", "does not fit the header"],
    },
    Try {
        left: 0,
        spoiling: Spoiling::Stranger,
        what: "it is signed by a stranger",
        witness: Witness::OwnWord,
        told: &["not started: image-signature: ", "signed only by keys that are not trusted here"],
    },
];

/// Who says something of a refusal on the serial line: init, and before it the kernel.
const TELLERS: [&str; 2] = ["yado-init: the system is not started: ", "device-mapper: verity: "];

/// All tries but the last: at each the emulator ends with the board's own reset.
pub(super) fn refused(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    bench.assemble(Condition { slots: Slots::TrialOfA, ..Condition::sound("spoilt-slot") })?;
    let [first, second, _] = &TRIES;
    for one in [first, second] {
        bench.spoil_slot_a(one.spoiling)?;
        let serial = bench.switch_on_in_vain()?;
        is_refused(observer, one, &serial)?;
        let last = serial.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let is_reset = serial.contains("reboot: Restarting system");
        observer.check(Witness::Kernel, "no system came up, and the board reset itself", last, is_reset)?;
    }
    Ok(())
}

/// The last try, on a board that boots again after its reset.
pub(super) fn fallen_back(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let [_, _, last] = &TRIES;
    bench.spoil_slot_a(last.spoiling)?;
    let said = bench.switch_on_again(OnReset::BootAgain)?;
    is_refused(observer, last, &bench.board()?.serial())?;
    observer.note("the board restarts, and a system comes up", said);
    let slot = bench.status()?["system"]["slot"].clone();
    let chosen = bench.shell("tr ' ' '\\n' < /proc/cmdline | grep '^yado.slot='")?;
    let is_b = slot == "B" && chosen == "yado.slot=B";
    observer.check(Witness::Kernel, "it is that of slot B", format!("{slot}; {chosen}"), is_b)?;
    let said = bench.shell("yado-updater slots --format json")?;
    let state: Value = serde_json::from_str(&said)
        .map_err(|_| BoardError::NotJson { what: "yado-updater slots".to_owned(), said: said.clone() })?;
    let left = |name: &str| {
        let slot = state["slots"].as_array().into_iter().flatten().find(|slot| slot["name"] == name);
        slot.and_then(|slot| slot["tries_left"].as_u64())
    };
    let is_kept = left("A") == Some(0) && left("B") == Some(3) && state["next"] == "B";
    observer.check(Witness::OwnWord, "no try of A is left, all of B, and B is what boots next", said, is_kept)?;
    is_ready(bench, observer, "instances run", "crab")?;
    Ok(())
}

fn is_refused(observer: &mut Observer, one: &Try, serial: &str) -> Result<(), BrokenError> {
    let tried = format!("boot: slot A, {} tries left, trial: A", one.left);
    observer.check(Witness::Kernel, "slot A is tried", &tried, serial.contains(&tried))?;
    let refusal: Vec<&str> =
        serial.lines().filter(|line| TELLERS.iter().any(|teller| line.contains(teller))).collect();
    let refusal = refusal.join("\n");
    observer.check(one.witness, one.what, &refusal, one.told.iter().all(|part| refusal.contains(part)))?;
    Ok(())
}
