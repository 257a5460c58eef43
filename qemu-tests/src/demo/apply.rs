//! Step 9: what is configured changes while it runs.

use super::limits::others_run_on;
use super::start::output;
use super::{Demo, StepError};
use crate::board::{Seen, instance};
use crate::report::{Observer, Witness};
use std::time::Duration;

/// A new instance starts an image that runs already.
const TIMEOUT: Duration = Duration::from_secs(60);

/// busybox' file with another limit, as somebody on the board would edit it, and a file of a new instance. 3: some instances here
/// have images that were tampered with.
const EDIT: &str = "
mkdir -p /run/edited && cd /run/edited &&
sed 's/^limits.memory = .*/limits.memory = \"28MiB\"/' /usr/lib/yado/appliance/busybox.toml > busybox.toml &&
printf 'image = \"busybox\"\\n[config]\\nboot.autostart = true\\nlimits.memory = \"8MiB\"\\n' > newcomer.toml &&
yado apply busybox.toml newcomer.toml 2> /dev/null || [ $? = 3 ]";

pub(super) fn change(demo: &mut Demo<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let before = demo.board.status()?;
    let limit = "cat /sys/fs/cgroup/instances/busybox.*/memory.max";
    let old = output(demo, &["sh", "-c", limit])?;
    observer.check(
        Witness::Kernel,
        "busybox has 24 MiB, says the kernel",
        old.trim(),
        old.trim() == (24 << 20).to_string(),
    )?;
    let said = output(demo, &["sh", "-c", EDIT])?;
    let has = |words: &[&str]| said.lines().any(|line| line.split_whitespace().eq(words.iter().copied()));
    let is_shown = has(&["busybox", "limits.memory", "24MiB", "28MiB", "at", "once"]);
    let shown: Vec<&str> = said.lines().take(3).collect();
    observer.check(Witness::OwnWord, "yado apply shows what changes, and when", shown.join("; "), is_shown)?;
    let new = output(demo, &["sh", "-c", limit])?;
    observer.check(
        Witness::Kernel,
        "then it has 28 MiB, says the kernel",
        new.trim(),
        new.trim() == (28 << 20).to_string(),
    )?;
    others_run_on(demo, observer, &before)?;
    let status = demo.board.wait_status("newcomer that runs", TIMEOUT, |status| {
        instance(status, "newcomer").filter(|entry| entry["pid"].is_u64()).cloned()
    })?;
    let Seen { shown, holds } = demo.board.first_process("newcomer", &status["pid"]);
    observer.check(Witness::Kernel, "a new instance has appeared, and runs", shown, holds)?;
    output(
        demo,
        &["sh", "-c", "rm -r /data/instances/newcomer && yado apply --delete-data 2> /dev/null || [ $? = 3 ]"],
    )?;
    let after = demo.board.status()?;
    let layers = output(demo, &["sh", "-c", "for layer in /data/layers/*; do readlink $layer/owner; done"])?;
    let left = demo.board.remains("newcomer")?;
    let is_gone = instance(&after, "newcomer").is_none() && !layers.contains("newcomer") && left.is_empty();
    observer.check(
        Witness::Kernel,
        "it is gone with its file, with its layer, its processes and its group",
        format!("layers of {}; left: {left:?}", layers.trim().replace('\n', " ")),
        is_gone,
    )?;
    Ok(())
}
