//! A kernel that was booted without a controller: whoever needs it is told what to change, and nobody else notices.

use super::bench::{Bench, shown, text};
use super::failure::BrokenError;
use crate::report::Observer;
use qemu_guest::Ended;

const PARAMETER: &str = "cgroup_disable=memory";

pub(super) fn missing(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let status = bench.wait_settled("shell")?;
    let failure = &status["last_failure"];
    let is_named = failure["step"] == "limits"
        && text(&failure["object"]).starts_with("memory.max")
        && text(&failure["reason"]).contains(PARAMETER);
    observer.check(
        "shell, with limits.memory, has failed, and the boot parameter is named",
        shown(&status),
        status["state"] == "failed" && is_named,
    )?;
    let crab = bench.wait_settled("crab")?;
    observer.check("crab, without, runs", shown(&crab), crab["state"] == "ready")?;
    let said = bench.shell_ran("yado check-kernel")?;
    let line = said.stdout.lines().find(|line| line.starts_with("missing: MEMCG")).unwrap_or_default();
    let shown =
        if line.is_empty() { format!("{:?}: {}{}", said.ended, said.stdout, said.stderr) } else { line.into() };
    let is_named = said.ended == Ended::Code(1) && line.contains(PARAMETER);
    observer.check("`yado check-kernel` says the same", shown, is_named)?;
    Ok(())
}
