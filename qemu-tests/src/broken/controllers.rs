//! A kernel that was booted without a controller and without a module: whoever needs one of them is told what to change, and
//! nobody else notices.

use super::bench::{Bench, text};
use super::failure::BrokenError;
use super::instance_runs::{is_ready, runs_not};
use crate::report::{Observer, Witness};
use qemu_guest::Ended;

const NO_CONTROLLER: &str = "cgroup_disable=memory";
const NO_MODULE: &str = "module_blacklist=veth";
/// Both, on the kernel's command line.
pub(super) const KERNEL_ARGUMENTS: &str = "cgroup_disable=memory module_blacklist=veth";

pub(super) fn missing(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let status = bench.wait_settled("shell")?;
    let failure = &status["last_failure"];
    let is_named = failure["step"] == "limits"
        && text(&failure["object"]).starts_with("memory.max")
        && text(&failure["reason"]).contains(NO_CONTROLLER);
    let what = "shell, with limits.memory, has failed, and the boot parameter is named";
    runs_not(bench, observer, what, "shell", &status, status["state"] == "failed" && is_named)?;
    check_kernel_names(bench, observer, "MEMCG", NO_CONTROLLER)?;
    is_ready(bench, observer, "spec-flipped, without, runs", "spec-flipped")?;
    Ok(())
}

pub(super) fn missing_module(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let status = bench.wait_settled("crab")?;
    let failure = &status["last_failure"];
    let is_named = failure["step"] == "module"
        && failure["object"] == "veth"
        && ["eth0 of crab", "boot parameter", "yado check-kernel"]
            .iter()
            .all(|part| text(&failure["reason"]).contains(part));
    let what = "crab, with an interface, has failed, and the module is named";
    runs_not(bench, observer, what, "crab", &status, status["state"] == "failed" && is_named)?;
    check_kernel_names(bench, observer, "VETH", NO_MODULE)?;
    let said = bench.shell("yado rescue logs | grep 'module veth: ' || true")?;
    let is_named = said.contains(&format!("the kernel was booted with {NO_MODULE}: remove it"));
    observer.check(Witness::OwnWord, "so does the log, where it was to be loaded", said, is_named)?;
    is_ready(bench, observer, "spec-cut, without, runs", "spec-cut")?;
    Ok(())
}

fn check_kernel_names(
    bench: &Bench<'_>,
    observer: &mut Observer,
    option: &str,
    parameter: &str,
) -> Result<(), BrokenError> {
    let said = bench.shell_ran("yado check-kernel")?;
    let start = format!("missing: {option}: ");
    let line = said.stdout.lines().find(|line| line.starts_with(&start)).unwrap_or_default();
    let shown =
        if line.is_empty() { format!("{:?}: {}{}", said.ended, said.stdout, said.stderr) } else { line.into() };
    let is_named = said.ended == Ended::Code(1) && line.contains(parameter);
    observer.check(Witness::OwnWord, "`yado check-kernel` names the boot parameter", shown, is_named)?;
    Ok(())
}
