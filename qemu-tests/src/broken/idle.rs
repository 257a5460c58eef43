//! What we cost when nothing happens: memory of init, its datagram reader and netd, wakes of the processor, and writes to the data partition,
//! which is flash and wears.

use super::bench::{Bench, service};
use super::failure::BrokenError;
use crate::report::{Observer, Witness};

/// design.md 9.
const INIT_PSS_KIB: u64 = 1024;
const ALL_PSS_KIB: u64 = 2048;

pub(super) fn budgets(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let status = bench.status()?;
    let running = status["instances"].as_array().into_iter().flatten();
    let running = running.filter(|instance| instance["state"] == "ready").count();
    let netd = service(&status, "netd").map(|netd| netd["pid"].to_string()).unwrap_or_default();
    // The status made both work. netd rests when it has heard nothing for 5 s.
    bench.shell("sleep 6")?;
    let before = wakes(bench, &netd)?;
    no_writes(bench, observer)?;
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

/// Counts sectors that reach the data partition, from anybody, for ten seconds of the board's own time. What was written
/// before is brought to the disk first.
const COUNT_WRITES: &str = "\
device=$(awk '$2 == \"/data\" { sub(\"/dev/\", \"\", $1); print $1 }' /proc/mounts)
written() { awk '{ print $7 }' /sys/class/block/$device/stat; }
sync
sleep 1
before=$(written)
sleep 10
echo $device $(($(written) - before))";

fn no_writes(bench: &Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let counted = bench.shell(COUNT_WRITES)?;
    observer.check(
        Witness::Kernel,
        "nothing is written to the data partition in 10 s",
        format!("{counted} sectors"),
        counted.ends_with(" 0"),
    )?;
    Ok(())
}
