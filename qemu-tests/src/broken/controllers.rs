//! A kernel that was booted without a controller and without a module: whoever needs one of them is told what to change, and
//! nobody else notices.

use super::bench::{Bench, shown, text};
use super::failure::BrokenError;
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
    observer.check(
        Witness::OwnWord,
        "shell, with limits.memory, has failed, and the boot parameter is named",
        shown(&status),
        status["state"] == "failed" && is_named,
    )?;
    check_kernel_names(bench, observer, "MEMCG", NO_CONTROLLER)?;
    runs(bench, observer, "spec-flipped")
}

pub(super) fn missing_module(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let status = bench.wait_settled("crab")?;
    let failure = &status["last_failure"];
    let is_named = failure["step"] == "module"
        && failure["object"] == "veth"
        && ["eth0 of crab", "boot parameter", "yado check-kernel"]
            .iter()
            .all(|part| text(&failure["reason"]).contains(part));
    observer.check(
        Witness::OwnWord,
        "crab, with an interface, has failed, and the module is named",
        shown(&status),
        status["state"] == "failed" && is_named,
    )?;
    check_kernel_names(bench, observer, "VETH", NO_MODULE)?;
    let said = bench.shell("yado rescue logs | grep 'module veth: ' || true")?;
    let is_named = said.contains(&format!("the kernel was booted with {NO_MODULE}: remove it"));
    observer.check(Witness::OwnWord, "so does the log, where it was to be loaded", said, is_named)?;
    runs(bench, observer, "spec-cut")
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

fn runs(bench: &Bench<'_>, observer: &mut Observer, name: &str) -> Result<(), BrokenError> {
    let status = bench.wait_settled(name)?;
    observer.check(
        Witness::OwnWord,
        &format!("{name}, without, runs"),
        shown(&status),
        status["state"] == "ready",
    )?;
    Ok(())
}
