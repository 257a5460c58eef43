//! What we cost when nothing happens: memory of init, its datagram reader and netd, wakes of the processor, and writes to the data partition,
//! which is flash and wears.

use super::bench::{Bench, TIMEOUT, service};
use super::failure::BrokenError;
use super::instance_runs::is_ready;
use crate::board::BoardError;
use crate::length::Length;
use crate::report::{Observer, Witness};
use std::collections::BTreeSet;
use std::time::Duration;

/// design.md 9.
const INIT_PSS_KIB: u64 = 1024;
const ALL_PSS_KIB: u64 = 2048;
/// In every run; an hour, of which design.md speaks, with `--long`.
const REST_SECONDS: u32 = 10;
const HOUR_SECONDS: u32 = 3600;

pub(super) fn budgets(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let status = bench.status()?;
    let running = status["instances"].as_array().into_iter().flatten();
    let running = running.filter(|instance| instance["state"] == "ready").count();
    let netd = service(&status, "netd").map(|netd| netd["pid"].to_string()).unwrap_or_default();
    // The status made both work. netd rests when it has heard nothing for 5 s.
    bench.shell("sleep 6")?;
    let before = wakes(bench, &netd)?;
    no_writes(bench, observer, REST_SECONDS)?;
    let after = wakes(bench, &netd)?;
    let seen = format!("went to sleep {before} times before, {after} after");
    observer.check(Witness::Kernel, "nothing wakes netd meanwhile", seen, !before.is_empty() && before == after)?;
    let init = memory(bench, "1")?;
    let what = format!("init takes at most {INIT_PSS_KIB} KiB, with {running} instances");
    observer.check(Witness::Kernel, &what, init.shown(), init.pss_kib <= INIT_PSS_KIB)?;
    let netd = memory(bench, &netd)?;
    // The one process beside PID 1 that executes init's program.
    let reader = bench.shell(
        "for pid in $(ls /proc | grep '^[0-9]*$'); do
            [ $pid != 1 ] && [ \"$(readlink /proc/$pid/exe)\" = /sbin/yado-init ] && echo $pid
        done; true",
    )?;
    let reader = memory(bench, reader.trim())?;
    let what = format!("init, its datagram reader and netd together take at most {ALL_PSS_KIB} KiB");
    let seen = format!("reader: {}; netd: {}", reader.shown(), netd.shown());
    observer.check(
        Witness::Kernel,
        &what,
        seen,
        init.pss_kib.saturating_add(reader.pss_kib).saturating_add(netd.pss_kib) <= ALL_PSS_KIB,
    )?;
    match bench.length {
        Length::Short => Ok(()),
        Length::Long => an_hour(bench, observer),
    }
}

/// An hour without instances that have an interface: a DHCP client renews its lease after half an hour, and busybox's then writes
/// the name server into its layer, which is its own affair.
fn an_hour(bench: &Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let status = bench.status()?;
    let links = status["links"].as_array().into_iter().flatten().filter(|link| link["role"] == "nic");
    let with_interface: BTreeSet<&str> = links.filter_map(|link| link["instance"].as_str()).collect();
    for name in &with_interface {
        bench.board()?.yado(&["rescue", "stop", name])?;
    }
    no_writes(bench, observer, HOUR_SECONDS)?;
    for name in &with_interface {
        bench.board()?.yado(&["rescue", "start", name])?;
        is_ready(bench, observer, &format!("{name} runs again"), name)?;
    }
    Ok(())
}

/// How often the process went to sleep, which it can only after it was woken.
fn wakes(bench: &Bench<'_>, pid: &str) -> Result<String, BrokenError> {
    bench.shell(&format!("awk '/^voluntary_ctxt_switches:/ {{ print $2 }}' /proc/{pid}/status"))
}

struct Memory {
    pss_kib: u64,
    private_dirty_kib: u64,
}

impl Memory {
    fn shown(&self) -> String {
        format!("PSS {} KiB, private dirty {} KiB", self.pss_kib, self.private_dirty_kib)
    }
}

fn memory(bench: &Bench<'_>, pid: &str) -> Result<Memory, BrokenError> {
    let rollup = bench.shell(&format!("cat /proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| {
        let value = rollup.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
        // A number that is not there must not look like a small one.
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(u64::MAX / 4)
    };
    Ok(Memory { pss_kib: field("Pss:"), private_dirty_kib: field("Private_Dirty:") })
}

/// Counts sectors that reach the data partition, from anybody, for `$1` seconds of the board's own time. What was written
/// before is brought to the disk first.
const COUNT_WRITES: &str = "\
device=$(awk '$2 == \"/data\" { sub(\"/dev/\", \"\", $1); print $1 }' /proc/mounts)
written() { awk '{ print $7 }' /sys/class/block/$device/stat; }
sync
sleep 1
before=$(written)
sleep $1
echo $device $(($(written) - before))";

fn no_writes(bench: &Bench<'_>, observer: &mut Observer, seconds: u32) -> Result<(), BrokenError> {
    let argv = ["/bin/sh", "-c", COUNT_WRITES, "writes", &seconds.to_string()];
    // An emulated board's seconds may be longer than ours.
    let timeout = TIMEOUT + 2 * Duration::from_secs(seconds.into());
    let counted = bench.board()?.agent.output(&argv, timeout).map_err(BoardError::Agent)?;
    let counted = counted.trim();
    observer.check(
        Witness::Kernel,
        &format!("nothing is written to the data partition in {seconds} s"),
        format!("{counted} sectors"),
        counted.ends_with(" 0"),
    )?;
    Ok(())
}
