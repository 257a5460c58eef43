//! What breaks while a release is installed: the medium, what the boot loader reads of it, the room on the data partition. The update
//! fails and says what is wrong and by which rule, the board runs on as it was, and it takes the release as soon as nothing is
//! broken any more.

use super::StepError;
use super::install::instances_are_ready;
use super::roof::{INSTALL_TIMEOUT, Roof, TIMEOUT};
use crate::board::volatile_disk::{Fault, VolatileDisk};
use crate::report::{Observer, Witness};
use qemu_guest::Ended;
use serde_json::Value;
use std::fs;
use std::ops::Range;
use yado_updater::exit_codes;

const BLOCK_BYTES: u64 = 4096;
/// What crab keeps.
const KEPT: &str = "/root/kept";
/// As the kernel numbers errors: no C library tells them in the same words.
const EPERM: &str = "os error 1)";
const EIO: &str = "os error 5)";
const EACCES: &str = "os error 13)";
const ENOSPC: &str = "os error 28)";

/// A board of release 1 in slot A, and what must not change of it.
pub(super) struct Steady {
    machine: String,
    kept: String,
    boot_a: Vec<u8>,
}

impl Steady {
    pub(super) fn begin(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<Steady, StepError> {
        let said = roof.switch_on_volatile()?;
        observer.note("a board boots as the factory made it", said);
        instances_are_ready(roof, observer)?;
        let kept = roof.inside("crab", &format!("seq 800 > {KEPT}; sync; sha256sum < {KEPT}"))?;
        Ok(Steady { machine: machine(roof)?, kept, boot_a: boot_a(roof)? })
    }

    /// The board runs on as it was.
    fn check(&self, roof: &Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
        let seen = machine(roof)?;
        let is_same = seen == self.machine;
        observer.check(Witness::Kernel, "the same boot of release 1, with the same processes", seen, is_same)?;
        self.check_kept(roof, observer)?;
        let image = &roof.releases.prepared.system.image;
        let image = fs::read(image).map_err(crate::board::BuildError::io(image))?;
        let is_same = roof.board()?.on_disk("slot-a", image.len() as u64)? == image && boot_a(roof)? == self.boot_a;
        let seen = format!("{} bytes are those of its image", image.len());
        observer.check(
            Witness::OtherEnd,
            "slot A and its boot files are as the factory wrote them",
            seen,
            is_same,
        )?;
        Ok(())
    }

    pub(super) fn check_kept(&self, roof: &Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
        let kept = roof.inside("crab", &format!("sha256sum < {KEPT}"))?;
        observer.check(Witness::Peer, "crab has what it had kept", &kept, kept == self.kept)?;
        Ok(())
    }

    /// The power goes away and comes back: U-Boot takes what was good all the time.
    fn survives_a_cut(&self, roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
        let lost = roof.cut_power()?;
        roof.switch_on_again()?;
        let serial = roof.serial_since()?;
        let line = serial.lines().find(|line| line.starts_with("boot: slot ")).unwrap_or_default();
        let is_steady = line.trim_end() == "boot: slot A, 3 tries left, trial:";
        observer.check(
            Witness::Peer,
            "after a power cut U-Boot takes slot A",
            format!("{line} ({lost})"),
            is_steady,
        )?;
        instances_are_ready(roof, observer)?;
        self.check_kept(roof, observer)
    }

    /// Nothing is broken any more: release 2 comes, and stays.
    fn takes_the_release(&self, roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
        roof.begin_install("release-2")?;
        self.is_tried_and_kept(roof, observer)
    }

    fn is_tried_and_kept(&self, roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
        let serial = roof.wait_boot(INSTALL_TIMEOUT)?;
        let line = serial.lines().rfind(|line| line.starts_with("boot: slot ")).unwrap_or_default();
        let is_trial = line.trim_end() == "boot: slot B, 2 tries left, trial: B";
        observer.check(Witness::Peer, "now U-Boot takes slot B on trial", line, is_trial)?;
        roof.wait_confirmed(2)?;
        let running = roof.running()?;
        observer.check(Witness::Kernel, "slot and release that run", &running, running == "B 2")?;
        instances_are_ready(roof, observer)?;
        self.check_kept(roof, observer)
    }
}

/// What the kernel says of this boot, of the release that runs, and of the instances' processes: when each began.
fn machine(roof: &Roof<'_>) -> Result<String, StepError> {
    let running = roof.running()?;
    let board = roof.board()?;
    let boot = board.shell("cat /proc/sys/kernel/random/boot_id", TIMEOUT)?;
    let mut seen = format!("{running}, boot {boot}");
    for name in ["crab", "whelk"] {
        let pid = roof.wait_ready(name, TIMEOUT)?["pid"].clone();
        // proc_pid_stat(5): the 22nd is the start time, and busybox's init has no blank in its name.
        let began = board.shell(&format!("cut -d ' ' -f 22 /proc/{pid}/stat"), TIMEOUT)?;
        seen.push_str(&format!(", {name}: {pid} since {began}"));
    }
    Ok(seen)
}

fn boot_a(roof: &Roof<'_>) -> Result<Vec<u8>, StepError> {
    let board = roof.board()?;
    Ok(board.on_disk("boot-a", board.extent("boot-a").bytes)?)
}

fn medium<'r>(roof: &'r Roof<'_>) -> Result<&'r VolatileDisk, StepError> {
    roof.board()?.medium().ok_or(StepError::Off)
}

/// An install of release 2 ends by this rule, and in its sentence are these words.
fn fails(roof: &Roof<'_>, observer: &mut Observer, what: &str, rule: &str, words: &[&str]) -> Result<(), StepError> {
    let (said, ended) =
        roof.update(&["install", "--format", "json", &roof.address_of("release-2")], INSTALL_TIMEOUT)?;
    let last: Option<Value> = said.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    let last = last.unwrap_or_default();
    let code = exit_codes::of_rule(rule).map_or(0, |row| i32::from(row.code));
    let sentence = last["error"].as_str().unwrap_or_default();
    let is_told =
        ended == Ended::Code(code) && last["rule"] == rule && words.iter().all(|word| sentence.contains(word));
    let seen = format!("{ended:?}, rule {}: {sentence}", last["rule"]);
    observer.check(Witness::OwnWord, &format!("{what}: the update fails by rule {rule}"), seen, is_told)?;
    Ok(())
}

/// What the kernel said of the disk since it was asked last.
fn errors_of_the_disk(roof: &Roof<'_>) -> Result<String, StepError> {
    Ok(roof.board()?.shell("dmesg -c | grep 'I/O error, dev vda' | tail -n 1; true", TIMEOUT)?)
}

pub(super) fn broken_medium(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let steady = Steady::begin(roof, observer)?;
    let slot = format!("/dev/{}", roof.device_of("slot-b")?);
    let whole = 0..roof.board()?.extent("slot-b").bytes;
    // In the middle of what the release has there.
    let block = roof.releases.ballast_block as u64 * BLOCK_BYTES;
    let block = block..block + BLOCK_BYTES;
    for (what, part, fault, words) in [
        ("slot B is dead", &whole, Fault::Dead, EIO),
        ("one block of slot B takes no writes", &block, Fault::RefusesWrites, EIO),
        (
            "one block of slot B keeps nothing",
            &block,
            Fault::ForgetsWrites,
            "read back are not those that were signed",
        ),
        ("one block of slot B gives other bytes", &block, Fault::GivesOtherBytes, "read back are not those that"),
    ] {
        errors_of_the_disk(roof)?;
        break_part(roof, "slot-b", part, fault)?;
        fails(roof, observer, what, "device", &[&slot, words])?;
        let met = medium(roof)?.mend();
        observer.check(Witness::OtherEnd, "the fault was met", format!("by {met} requests"), 0 < met)?;
        let told = errors_of_the_disk(roof)?;
        // Who forgets and who lies says nothing.
        let is_told = told.is_empty() == matches!(fault, Fault::ForgetsWrites | Fault::GivesOtherBytes);
        observer.check(Witness::Kernel, "the board's kernel was told of errors, or of none", told, is_told)?;
        steady.check(roof, observer)?;
    }
    steady.survives_a_cut(roof, observer)?;
    steady.takes_the_release(roof, observer)
}

fn break_part(roof: &Roof<'_>, partition: &str, part: &Range<u64>, fault: Fault) -> Result<(), StepError> {
    let begin = roof.board()?.extent(partition).offset;
    medium(roof)?.break_part(begin + part.start..begin + part.end, fault);
    Ok(())
}

pub(super) fn read_only_boot_medium(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let steady = Steady::begin(roof, observer)?;
    for (partition, rule, by_kernel) in [("state", "boot-loader", EPERM), ("boot-b", "device", EACCES)] {
        let device = roof.device_of(partition)?;
        let path = format!("/dev/{device}");
        let before = partition_bytes(roof, partition)?;
        let set = |how: &str| {
            let script = format!("blockdev {how} {path} && cat /sys/class/block/{device}/ro");
            Ok::<String, StepError>(roof.board()?.shell(&script, TIMEOUT)?)
        };
        let is_read_only = set("--setro")?;
        observer.check(Witness::Kernel, "it is read-only for the kernel", &is_read_only, is_read_only == "1")?;
        fails(roof, observer, &format!("{partition} is read-only"), rule, &[&path, by_kernel])?;
        set("--setrw")?;

        errors_of_the_disk(roof)?;
        let whole = 0..roof.board()?.extent(partition).bytes;
        break_part(roof, partition, &whole, Fault::RefusesWrites)?;
        fails(roof, observer, &format!("the medium below {partition} takes no writes"), rule, &[&path])?;
        let told = errors_of_the_disk(roof)?;
        observer.check(Witness::Kernel, "the board's kernel was told so", &told, told.contains("WRITE"))?;
        let met = medium(roof)?.mend();
        observer.check(Witness::OtherEnd, "the fault was met", format!("by {met} requests"), 0 < met)?;
        let is_same = partition_bytes(roof, partition)? == before;
        observer.check(Witness::OtherEnd, "the partition has the bytes that it had", before.len(), is_same)?;
        steady.check(roof, observer)?;
    }
    steady.survives_a_cut(roof, observer)?;
    steady.takes_the_release(roof, observer)
}

fn partition_bytes(roof: &Roof<'_>, partition: &str) -> Result<Vec<u8>, StepError> {
    let board = roof.board()?;
    Ok(board.on_disk(partition, board.extent(partition).bytes)?)
}

/// To the last block, by somebody with all rights; how much is free then.
const FILL: &str = "dd if=/dev/zero of=/data/rest bs=64k 2>/dev/null; dd if=/dev/zero of=/data/last bs=1k 2>/dev/null; sync; \
                    df -k /data | tail -n 1 | awk '{ print $4 }'";
const MAKE_ROOM: &str = "rm /data/rest /data/last; sync";

pub(super) fn full_data(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let steady = Steady::begin(roof, observer)?;
    let fill = |roof: &Roof<'_>, observer: &mut Observer| {
        let free = roof.board()?.shell(FILL, TIMEOUT)?;
        observer.check(Witness::Kernel, "KiB that are free on the data partition", &free, free == "0")?;
        Ok::<(), StepError>(())
    };
    fill(roof, observer)?;
    fails(roof, observer, "the data partition is full", "state", &["/data/state/update", ENOSPC])?;
    steady.check(roof, observer)?;
    roof.board()?.shell(MAKE_ROOM, TIMEOUT)?;

    roof.begin_install("release-2")?;
    roof.wait_status("an install that is under way", TIMEOUT, |status| {
        status["work"]["total"].as_u64().is_some_and(|total| 0 < total)
    })?;
    fill(roof, observer)?;
    let said = roof.wait_update_end()?;
    let is_told = said.contains("ended: 62") && said.contains("/data/state/update") && said.contains(ENOSPC);
    let last = said.lines().rev().nth(1).unwrap_or_default();
    observer.check(Witness::OwnWord, "full in the middle: what is to be remembered cannot be", last, is_told)?;
    steady.check(roof, observer)?;
    roof.forget_update()?;
    roof.board()?.shell(MAKE_ROOM, TIMEOUT)?;
    observer.note("there is room again, and nobody asks for the update", "");
    steady.is_tried_and_kept(roof, observer)
}
