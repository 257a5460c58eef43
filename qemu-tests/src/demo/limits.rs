//! Step 5: a container that wants too much is held, and nobody else notices.

use super::start::output;
use super::{Demo, StepError, printed};
use crate::board::container_images::TOOL;
use crate::board::{Seen, instance};
use crate::report::{Observer, Witness};
use qemu_guest::Ended;
use serde_json::Value;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(90);
/// `limits.memory` of busybox is 24 MiB.
const HOG_MIB: &str = "64";
/// `limits.processes` of busybox is 40.
const CHILDREN: &str = "100";
/// `limits.cpu.allowance` of busybox is 50ms/100ms.
const ALLOWED_SHARE: f64 = 0.5;
/// Time for the kernel's bookkeeping: a slice may be overrun by a tick.
const SHARE_TOLERANCE: f64 = 0.1;
const BURN_MS: &str = "3000";
const EAGAIN: &str = "11";

pub(super) fn hold(demo: &mut Demo<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let before = demo.board.status()?;
    memory(demo, observer, &before)?;
    processes(demo, observer)?;
    processor(demo, observer)?;
    others_run_on(demo, observer, &before)
}

/// Both containers have the same first process as before.
pub(super) fn others_run_on(demo: &Demo<'_>, observer: &mut Observer, before: &Value) -> Result<(), StepError> {
    let after = demo.board.status()?;
    for name in ["busybox", "debian"] {
        let seen =
            |status: &Value| instance(status, name).map(|status| (status["state"].clone(), status["pid"].clone()));
        let (before, after) = (seen(before), seen(&after));
        let shown = after.as_ref().map_or("gone".to_owned(), |(state, pid)| format!("{state}, pid {pid}"));
        let pid = after.as_ref().map(|(_, pid)| pid.clone()).unwrap_or_default();
        let Seen { shown: of_kernel, holds } = demo.board.first_process(name, &pid);
        let is_same = before == after && holds;
        observer.check(Witness::Kernel, &format!("{name} runs on"), format!("{shown}; {of_kernel}"), is_same)?;
    }
    Ok(())
}

fn memory(demo: &Demo<'_>, observer: &mut Observer, before: &Value) -> Result<(), StepError> {
    let kills =
        |status: &Value| instance(status, "busybox").and_then(|status| status["oom_kills"].as_u64()).unwrap_or(0);
    let killed_before = kills(before);
    let of_kernel = || counted(demo, "/sys/fs/cgroup/instances/busybox.*/memory.events", "oom_kill");
    let counted_before = of_kernel()?;
    let ran = demo.board.exec("busybox", &[TOOL, "memory", HOG_MIB], TIMEOUT)?;
    let last = ran.stdout.lines().last().unwrap_or("nothing").to_owned();
    // A shell's way to say SIGKILL.
    let is_killed = matches!(ran.ended, Ended::Code(137) | Ended::Signal(9));
    observer.check(
        Witness::Peer,
        "a hog of 64 MiB in busybox is killed",
        format!("{:?} after {last}", ran.ended),
        is_killed,
    )?;
    let event = demo.board.wait_event("oom-kill event", TIMEOUT, |event| {
        event["kind"] == "oom-kill" && event["instance"] == "busybox"
    })?;
    let after = kills(&demo.board.status()?);
    let more = of_kernel()?.saturating_sub(counted_before);
    let shown = format!("event {}, status {}, kernel {more} more", event["count"], after - killed_before);
    let is_told = 0 < more && killed_before + more == after;
    observer.check(Witness::Kernel, "as many kills as the group counts are told", shown, is_told)?;
    Ok(())
}

fn processes(demo: &Demo<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let of_kernel = || counted(demo, "$(find /sys/fs/cgroup/instances/busybox.* -name pids.events)", "max");
    let counted_before = of_kernel()?;
    let said = demo.board.exec_output("busybox", &[TOOL, "fork", CHILDREN], TIMEOUT)?;
    let started: u32 = printed(&said, "started").and_then(|count| count.parse().ok()).unwrap_or(u32::MAX);
    let is_refused = printed(&said, "refused_errno") == Some(EAGAIN);
    observer.check(Witness::Peer, "a fork beyond limits.processes is refused", &said, is_refused && started < 40)?;
    let event = demo.board.wait_event("process-limit event", TIMEOUT, |event| {
        event["kind"] == "process-limit" && event["instance"] == "busybox"
    })?;
    let more = of_kernel()?.saturating_sub(counted_before);
    let shown = format!("event {}, kernel {more} more", event["count"]);
    let is_told = 0 < more && event["count"].as_u64().is_some_and(|told| 0 < told && told <= counted_before + more);
    observer.check(Witness::Kernel, "the refusal is told as an event, and counted by its group", shown, is_told)?;
    Ok(())
}

/// The counter `name` of `files`, a shell's words. The kernel counts a kill in all groups above too, and a refused fork in its
/// own group alone.
fn counted(demo: &Demo<'_>, files: &str, name: &str) -> Result<u64, StepError> {
    let said = output(demo, &["/bin/sh", "-c", &format!("cat {files}")])?;
    let numbers = said.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    Ok(numbers.sum())
}

fn processor(demo: &Demo<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let said = demo.board.exec_output("busybox", &[TOOL, "burn", BURN_MS], TIMEOUT)?;
    let number = |name: &str| printed(&said, name).and_then(|value| value.parse::<f64>().ok()).unwrap_or(f64::NAN);
    let share = number("cpu_ms") / number("wall_ms");
    let shown = format!("{:.0} % of one processor", share * 100.0);
    observer.check(
        Witness::Peer,
        "a busy loop in busybox gets its allowance of 50 %",
        shown,
        share < ALLOWED_SHARE + SHARE_TOLERANCE,
    )?;
    Ok(())
}
