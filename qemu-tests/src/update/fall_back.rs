//! Releases that must not stay: the board comes back to the one before, and says why.

use super::StepError;
use super::install::{instances_are_ready, runs};
use super::roof::{INSTALL_TIMEOUT, Roof, TIMEOUT};
use crate::report::{Observer, Witness};
use qemu_guest::Ended;
use serde_json::Value;
use std::time::Duration;

/// Two boots of a system that does not come up, with the pause of a panic or a watchdog's in each.
pub(super) const FALL_BACK_TIMEOUT: Duration = Duration::from_secs(900);

/// What is installed, and what the board then says of it.
struct Bad {
    release: u64,
    /// What the serial line shows of the trial's end.
    end: &'static str,
    witness: Witness,
    /// What `history` says of the cause.
    cause: &'static str,
    /// How often U-Boot tries the slot.
    tries: usize,
}

pub(super) fn unhealthy(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let bad = Bad { release: 3, end: "Restarting system", witness: Witness::Kernel, cause: "unwell", tries: 1 };
    let history = falls_back(roof, observer, &bad)?;
    observer.check(Witness::OwnWord, "it says which instance", &history, history.contains("whelk"))?;
    let kept = roof.board()?.shell("cat /data/log/failed-release-3.log", TIMEOUT)?;
    let is_kept = kept.contains("whelk");
    observer.check(Witness::OwnWord, "the log of the failed system was kept", kept.len(), is_kept)?;
    let (said, ended) = roof.update(&["install", &roof.address_of("release-3")], TIMEOUT)?;
    observer.check(Witness::OwnWord, "release 3 is refused until told", said, ended != Ended::Code(0))?;
    Ok(())
}

pub(super) fn panics(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let bad = Bad { release: 4, end: "Kernel panic", witness: Witness::Kernel, cause: "tries-used-up", tries: 3 };
    falls_back(roof, observer, &bad).map(drop)
}

pub(super) fn hangs(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let bad = Bad { release: 5, end: "hangs: now", witness: Witness::Peer, cause: "watchdog", tries: 3 };
    falls_back(roof, observer, &bad).map(drop)
}

/// A good one, and back from it.
pub(super) fn on_wish(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    roof.begin_install("release-6")?;
    roof.wait_boot(INSTALL_TIMEOUT)?;
    runs(roof, observer, "A 6")?;
    roof.wait_status("release 6 that is confirmed", INSTALL_TIMEOUT, |status| {
        status["phase"] == "idle" && status["release"] == 6
    })?;
    roof.begin("rollback")?;
    roof.wait_boot(INSTALL_TIMEOUT)?;
    runs(roof, observer, "B 2")?;
    instances_are_ready(roof, observer)?;
    // That is a trial too.
    let status = roof.wait_status("a rollback that is confirmed", INSTALL_TIMEOUT, |status| {
        status["phase"] == "idle" && status["release"].is_number()
    })?;
    observer.check(Witness::OwnWord, "it is confirmed", &status["current"], status["trial"].is_null())?;
    Ok(())
}

/// A block of the system that runs is no more what was signed.
pub(super) fn damaged(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let block = roof.releases.ballast_block;
    roof.forget_resets()?;
    let script = format!(
        "cd /sys/class/block; slot=$(grep -l '^PARTNAME=slot-b$' */uevent); \
         dd if=/dev/zero of=/dev/${{slot%/uevent}} bs=4096 seek={block} count=1 conv=notrunc,fsync 2>/dev/null; \
         echo 3 > /proc/sys/vm/drop_caches; cat /usr/lib/yado/ballast 2>&1 >/dev/null; true"
    );
    let said = roof.board()?.shell(&script, TIMEOUT)?;
    observer.check(Witness::Kernel, "a block of slot B goes bad", &said, said.contains("nput/output error"))?;
    roof.wait_boot_of("yado.slot=A", FALL_BACK_TIMEOUT)?;
    let serial = roof.serial_since()?;
    let line = serial.lines().rfind(|line| line.starts_with("boot: slot ")).unwrap_or_default();
    let is_left = line.trim_end() == "boot: slot A, 3 tries left, trial:";
    observer.check(Witness::Peer, "U-Boot takes slot A, no trial", line, is_left)?;
    runs(roof, observer, "A 6")?;
    instances_are_ready(roof, observer)?;
    roof.wait_status("an update that is over", INSTALL_TIMEOUT, |status| status["phase"] == "idle")?;
    let history = roof.board()?.yado(&["update", "history", "--format", "json"])?;
    let history: Value = serde_json::from_str(history.trim()).unwrap_or_default();
    let last = history.as_array().and_then(|entries| entries.last()).cloned().unwrap_or_default();
    let told = format!("{}: {}", last["cause"], last["reason"]);
    observer.check(Witness::OwnWord, "history tells the cause", &told, last["cause"] == "damaged")?;
    let kept = roof.board()?.shell("grep -h 'does not verify' /data/log/failed-release-2.log", TIMEOUT)?;
    observer.check(
        Witness::OwnWord,
        "the log of the system that was left says which block",
        &kept,
        !kept.is_empty(),
    )?;
    Ok(())
}

fn falls_back(roof: &mut Roof<'_>, observer: &mut Observer, bad: &Bad) -> Result<String, StepError> {
    roof.begin_install(&format!("release-{}", bad.release))?;
    if bad.tries == 1 {
        // It comes up, and is watched. If no updater could work there any more, init would end the trial by this.
        roof.wait_up(INSTALL_TIMEOUT)?;
        let same = "sed /^judged_after_s=/d /data/state/trial | diff /run/yado/boot - && echo same";
        let noted = roof.board()?.shell(same, TIMEOUT)?;
        observer.check(Witness::OwnWord, "init knows that it is on trial", &noted, noted == "same")?;
    }
    roof.wait_boot_of("yado.slot=B", FALL_BACK_TIMEOUT)?;
    let serial = roof.serial_since()?;
    let tried: Vec<&str> = serial.lines().filter(|line| line.starts_with("boot: slot ")).collect();
    let on_trial = tried.iter().filter(|line| line.contains("slot A") && line.contains("trial: A")).count();
    let is_tried = on_trial == bad.tries && tried.last().is_some_and(|line| line.starts_with("boot: slot B"));
    observer.check(Witness::Peer, "U-Boot tries slot A, and takes slot B again", tried.join("; "), is_tried)?;
    let end = serial.lines().find(|line| line.contains(bad.end)).unwrap_or_default();
    observer.check(bad.witness, "how the trial ended", end, !end.is_empty())?;
    is_back(roof, observer, bad.release, bad.cause)
}

/// Release 2 runs again, and history says by which cause the other one was left. Its own words.
pub(super) fn is_back(roof: &Roof<'_>, observer: &mut Observer, left: u64, cause: &str) -> Result<String, StepError> {
    runs(roof, observer, "B 2")?;
    instances_are_ready(roof, observer)?;
    let history = roof.wait_history(left)?;
    let told = format!("{}: {}", history["cause"], history["reason"]);
    observer.check(Witness::OwnWord, "history tells the cause", &told, history["cause"] == cause)?;
    Ok(told)
}
