//! Step 5: a container that wants too much is held, and nobody else notices.

use super::{Demo, StepError, instance, printed};
use crate::board::container_images::TOOL;
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
        observer.check(Witness::OwnWord, &format!("{name} runs on"), shown, before == after)?;
    }
    Ok(())
}

fn memory(demo: &Demo<'_>, observer: &mut Observer, before: &Value) -> Result<(), StepError> {
    let kills =
        |status: &Value| instance(status, "busybox").and_then(|status| status["oom_kills"].as_u64()).unwrap_or(0);
    let killed_before = kills(before);
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
    let shown = format!("count {}, status says {after}", event["count"]);
    observer.check(Witness::OwnWord, "the kill is told as an event with its number", shown, killed_before < after)?;
    Ok(())
}

fn processes(demo: &Demo<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let said = demo.board.exec_output("busybox", &[TOOL, "fork", CHILDREN], TIMEOUT)?;
    let started: u32 = printed(&said, "started").and_then(|count| count.parse().ok()).unwrap_or(u32::MAX);
    let is_refused = printed(&said, "refused_errno") == Some(EAGAIN);
    observer.check(Witness::Peer, "a fork beyond limits.processes is refused", &said, is_refused && started < 40)?;
    let event = demo.board.wait_event("process-limit event", TIMEOUT, |event| {
        event["kind"] == "process-limit" && event["instance"] == "busybox"
    })?;
    observer.note("the refusal is told as an event", format!("count {}", event["count"]));
    Ok(())
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
