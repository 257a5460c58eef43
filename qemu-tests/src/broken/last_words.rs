//! A kernel that panics: what it said last lies in memory that its devicetree reserves for that, and is still there after the reset.

use super::bench::{Bench, TIMEOUT};
use super::failure::BrokenError;
use crate::board::qemu::OnReset;
use crate::report::{Observer, Witness};
use serde_json::Value;

/// 1 MiB in the middle of the memory, where neither U-Boot nor a kernel is loaded (kernel doc admin-guide/ramoops.rst).
pub(super) const DEVICETREE: &str = "fdt mknode / reserved-memory; \
     fdt set /reserved-memory \"#address-cells\" <2>; \
     fdt set /reserved-memory \"#size-cells\" <2>; \
     fdt set /reserved-memory ranges; \
     fdt mknode /reserved-memory ramoops@4a000000; \
     fdt set /reserved-memory/ramoops@4a000000 compatible ramoops; \
     fdt set /reserved-memory/ramoops@4a000000 reg <0 0x4a000000 0 0x100000>; \
     fdt set /reserved-memory/ramoops@4a000000 record-size <0x20000>";

/// Where it is kept.
const LOG: &str = "/data/log/last-kernel-log";

pub(super) fn kept(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    bench.cut_power()?;
    let said = bench.switch_on_again(OnReset::BootAgain)?;
    observer.note("a board that boots again when it resets", said);
    // Whoever found it has loaded ramoops.
    reason_of_start(bench)?;
    let words = format!("these are its last words: {:016x}", fastrand::u64(..));
    bench.shell(&format!("rm -f {LOG}; echo '<0>{words}' > /dev/kmsg"))?;
    let said = bench.panic()?;
    observer.note("the kernel panics, and the board resets", said);
    let reset = reason_of_start(bench)?;
    let log = bench.shell(&format!("cat {LOG}"))?;
    let line = |with: &str| log.lines().find(|line| line.contains(with)).unwrap_or_default().to_owned();
    observer.check(Witness::Kernel, "its log is kept, to its last words", line(&words), log.contains(&words))?;
    let panic = line("Kernel panic - not syncing");
    observer.check(Witness::Kernel, "and to its panic", &panic, !panic.is_empty())?;
    let is_told = reset["cause"] == "panic" && reset["log_kept"] == true;
    observer.check(Witness::OwnWord, "the status tells why the system was started", &reset, is_told)?;
    let left = bench.shell("ls -A /sys/fs/pstore")?;
    observer.check(Witness::Kernel, "the kernel keeps it no more", &left, left.is_empty())?;
    Ok(())
}

fn reason_of_start(bench: &Bench<'_>) -> Result<Value, BrokenError> {
    Ok(bench.board()?.wait_status("reason of its start", TIMEOUT, |status| {
        Some(status["last_reset"].clone()).filter(|reset| !reset.is_null())
    })?)
}
