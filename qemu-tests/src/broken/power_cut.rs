//! The power goes away while one instance writes and after another has synced; the same board is switched on again.

use super::bench::{Bench, shown, text};
use super::failure::BrokenError;
use super::fullness::KEPT;
use super::instance_runs::is_ready;
use crate::board::qemu::OnReset;
use crate::board::{BoardError, instance};
use crate::report::{Observer, Witness};
use std::time::Duration;

/// The last thing that crab wrote and synced.
const LAST_WORDS: &str = "the last words before the cut";
/// Longer than anything here takes: the writer ends with the power.
const WRITER_TIMEOUT: Duration = Duration::from_secs(600);
const STARTED: [&str; 5] = ["crab", "shell", "good", "chip-optional", "spec-flipped"];

pub(super) fn cut(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    // Written over in place: there is no block left for a new file.
    let writer = "while :; do dd if=/dev/urandom of=/root/fill bs=64k count=64 conv=notrunc; done";
    let argv = ["/usr/bin/yado", "rescue", "exec", "--no-tty", "shell", "--", "sh", "-c", writer];
    let _writing = bench.board()?.agent.start_run(&argv, "", WRITER_TIMEOUT).map_err(BoardError::Agent)?;
    let write = format!("echo {LAST_WORDS} | dd of={KEPT} conv=notrunc && sync && head -n 1 {KEPT}");
    let said = bench.inside_output("crab", &write)?;
    observer.check(Witness::Peer, "crab wrote and synced, shell is writing", &said, said.ends_with(LAST_WORDS))?;
    let loss = bench.cut_power()?;
    observer.check(Witness::OtherEnd, "the power is cut in the middle of writing", loss, loss.unflushed != 0)?;
    let said = bench.switch_on_again(OnReset::BootAgain)?;
    observer.note("the board comes up again", said);
    let replayed = bench.journal_replayed()?;
    observer.check(
        Witness::Kernel,
        "the journal of its data partition is replayed",
        &replayed,
        !replayed.is_empty(),
    )?;
    let read = {
        is_ready(bench, observer, "crab runs", "crab")?;
        bench.inside_output("crab", &format!("head -n 1 {KEPT}; tail -n 1 {KEPT}"))?
    };
    observer.check(
        Witness::Peer,
        "what it synced is there, and what it had before",
        &read,
        read == format!("{LAST_WORDS}\n800"),
    )?;
    Ok(())
}

pub(super) fn after(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let status = bench.status()?;
    let failure = &status["system"]["data"];
    let is_named = failure["step"] == "data" && text(&failure["reason"]).starts_with("full:");
    observer.check(Witness::OwnWord, "the status says that the data partition is full", failure, is_named)?;
    let mounts = bench.shell("grep ' /data ' /proc/mounts")?;
    observer.check(Witness::Kernel, "it is mounted, for writing", &mounts, mounts.contains(" ext4 rw"))?;
    for name in STARTED {
        is_ready(bench, observer, &format!("{name} runs"), name)?;
    }
    let bad = instance(&status, "typo-key").cloned().unwrap_or_default();
    let is_same = text(&bad["last_failure"]["reason"]).contains("did you mean limits.memory?");
    observer.check(Witness::OwnWord, "the files of instances are what they were", shown(&bad), is_same)?;
    bench.shell("rm /data/rest /data/last")?;
    let written = bench.inside_output("crab", "rm -f /root/more; echo again > /root/again && cat /root/again");
    // shell's file takes all that is not reserved: only when it goes is there room again.
    drop(written);
    // Where not even a block was free for the overlay's work directory, the kernel has made shell's root read-only.
    if bench.inside_output("shell", "rm /root/fill").is_err() {
        bench.shell("/bin/busybox find /data -path '*/root/fill' -exec rm {} ';'")?;
    }
    let written = bench.inside_output("crab", "echo again > /root/again && sync && cat /root/again")?;
    observer.check(Witness::Peer, "with room again, crab writes again", &written, written == "again")?;
    Ok(())
}
