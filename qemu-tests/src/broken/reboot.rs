//! A reboot that was asked for: instances stop in order, nothing that was written is lost, and the board needs nobody to
//! come up again.

use super::bench::Bench;
use super::failure::BrokenError;
use super::instance_runs::is_ready;
use crate::command::Tool;
use crate::report::{Observer, Witness};

/// What crab writes and does not sync.
const NOTE: &str = "written before the reboot";

pub(super) fn by_itself(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let before = boot_id(bench)?;
    let written = bench.inside_output("crab", &format!("echo {NOTE} > /root/note && cat /root/note"))?;
    observer.check(Witness::Peer, "crab writes a file", &written, written == NOTE)?;
    let said = bench.reboot()?;
    observer.check(
        Witness::Kernel,
        "told to reboot, the board resets and comes up by itself",
        said,
        boot_id(bench)? != before,
    )?;
    is_ready(bench, observer, "crab runs", "crab")?;
    let read = bench.inside_output("crab", "cat /root/note")?;
    observer.check(Witness::Peer, "its file is there", &read, read == NOTE)?;
    let replayed = bench.journal_replayed()?;
    let seen = if replayed.is_empty() { "nothing was replayed" } else { &replayed };
    observer.check(Witness::Kernel, "the data partition had been unmounted", seen, replayed.is_empty())?;
    let data = bench.power_off()?;
    let check = Tool::new("e2fsck").args(["-f", "-n"]).arg(&data).output();
    let (seen, is_clean) = match &check {
        Ok(said) => (last_line(said).to_owned(), true),
        Err(error) => (error.to_string(), false),
    };
    observer.check(Witness::OtherEnd, "powered off in order, its file system is clean", seen, is_clean)?;
    Ok(())
}

/// The kernel makes up a new one at each boot.
fn boot_id(bench: &Bench<'_>) -> Result<String, BrokenError> {
    bench.shell("cat /proc/sys/kernel/random/boot_id")
}

fn last_line(text: &str) -> &str {
    text.trim().lines().last().unwrap_or_default()
}
