//! Whoever applies a configuration may be killed at any moment: it is as it was or as it is to be. And what is no file is not
//! waited for.

use super::apply::{BASE, NAME};
use super::bench::Bench;
use super::failure::BrokenError;
use crate::report::{Observer, Witness};
use std::time::Duration;

/// How often whoever applies is killed, each time a little later.
const KILLS: u32 = 12;

/// Two configurations, of which one or the other holds, whenever whoever applies is killed.
pub(super) fn killed(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    bench.shell(&format!(
        "for mib in 16 24; do
             printf '%s\\n' {BASE} \"limits.memory = \\\"${{mib}}MiB\\\"\" > /run/$mib.toml
         done
         yado apply - --name {NAME} < /run/16.toml 2> /dev/null || [ $? = 3 ]"
    ))?;
    let (mut is_whole, mut seen) = (true, Vec::new());
    for kill in 0..KILLS {
        let mib = if kill % 2 == 0 { 24 } else { 16 };
        let after = Duration::from_millis(u64::from(100 * kill)).as_secs_f64();
        let said = bench.shell(&format!(
            "yado apply - --name {NAME} < /run/{mib}.toml > /dev/null 2>&1 & applying=$!
             sleep {after}; kill -9 $applying 2> /dev/null; wait $applying
             for known in 16 24; do cmp -s /run/$known.toml /data/instances/{NAME}/instance.toml && echo file $known; done
             cat /sys/fs/cgroup/instances/{NAME}.*/memory.max"
        ))?;
        let parts: Vec<&str> = said.split_whitespace().collect();
        let is_one = matches!(parts.as_slice(), ["file", _, limit] if ["16777216", "25165824"].contains(limit));
        is_whole &= is_one;
        seen.push(parts.last().copied().unwrap_or_default().to_owned());
    }
    let is_early_and_late = seen.iter().any(|limit| *limit != seen[0]);
    let shown_limits = seen.join(" ");
    observer.check(
        Witness::Kernel,
        "killed at any moment, it is before or after, and never between",
        shown_limits,
        is_whole && is_early_and_late,
    )?;
    let said = bench.shell(&format!(
        "yado apply - --name {NAME} < /run/24.toml 2> /dev/null; cat /sys/fs/cgroup/instances/{NAME}.*/memory.max"
    ))?;
    observer.check(
        Witness::Kernel,
        "the next one goes on as if nothing had been",
        &said,
        said.ends_with("25165824"),
    )?;
    let said = bench.shell_ran("mkfifo /run/fifo.toml; yado apply /run/fifo.toml; rm /run/fifo.toml")?;
    let is_refused = said.stderr.contains("not a regular file");
    observer.check(Witness::OwnWord, "a FIFO is no file, and nobody waits at it", said.stderr, is_refused)?;
    Ok(())
}
