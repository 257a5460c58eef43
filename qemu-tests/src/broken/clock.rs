//! After January 2038 the seconds since 1970 do not fit into 32 bits. A 32-bit kernel does not even believe its clock chip
//! then; and a program with a 32-bit `time_t` dies at its first look at the clock.

use super::bench::{Bench, TIMEOUT, has_failed_at, service, text};
use super::failure::BrokenError;
use super::instance_runs::{is_ready, runs_not, runs_on, uplink_has_lease};
use crate::board::container_images::TOOL;
use crate::report::{Observer, Witness};

/// The first second of 2040.
const IN_2040_S: u64 = 2_208_988_800;
/// Beyond the 32 bits, and no time that the kernel would write by itself.
const IN_2100_S: u64 = 4_102_444_800;
/// Where instances get their addresses: yado0's network, unless somebody writes another.
pub(super) const NETWORK: &str = "10.158.0.";
/// An hour later is still the same boot.
const SPAN_S: u64 = 3600;

/// A 32-bit ARM kernel has no time name spaces: there the start is refused, and says so.
pub(super) fn of_its_own(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let status = bench.wait_settled("newborn")?;
    if bench.shell("test -e /proc/self/ns/time && echo yes || echo no")? == "no" {
        let is_refused = has_failed_at(&status, "namespaces", "time");
        return runs_not(
            bench,
            observer,
            "without time name spaces it is refused, at that",
            "newborn",
            &status,
            is_refused,
        );
    }
    let seconds = |uptime: &str| uptime.split(['.', ' ']).next().and_then(|seconds| seconds.parse::<u64>().ok());
    let inside = bench.inside_output("newborn", "cat /proc/uptime")?;
    let outside = bench.shell("cat /proc/uptime")?;
    // The board was up for some seconds when the instance started; the two are read a moment apart.
    let is_younger = seconds(&inside).zip(seconds(&outside)).is_some_and(|(inside, outside)| inside + 2 <= outside);
    observer.check(
        Witness::Kernel,
        "its clocks began with it",
        format!("{inside} inside, {outside} outside"),
        is_younger,
    )?;
    Ok(())
}

pub(super) fn after_2038(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let before = bench.status()?;
    let said = bench.inside_output("crab", &format!("{TOOL} clock /root/now"))?;
    let number = |name: &str| {
        let value = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse::<u64>().ok())
    };
    let is_in_2040 = |seconds: Option<u64>| seconds.is_some_and(|s| (IN_2040_S..IN_2040_S + SPAN_S).contains(&s));
    observer.check(Witness::Peer, "crab sees the year 2040", &said, is_in_2040(number("now_s")))?;
    observer.check(Witness::Peer, "and so does a file that it writes", &said, is_in_2040(number("modified_s")))?;
    // As init saves the time of a board without a clock chip. Another program reads it back; busybox of armhf has 32 bits for
    // it, and says that they are not enough.
    let read_back = "stat -c %Y /root/saved 2>&1 || true";
    let said = bench.inside_output("crab", &format!("{TOOL} date /root/saved {IN_2100_S}; {read_back}"))?;
    let is_told =
        |line: &str| line == IN_2100_S.to_string() || line.ends_with("Value too large for defined data type");
    let is_kept = match said.lines().collect::<Vec<_>>().as_slice() {
        [own, others] => *own == format!("modified_s={IN_2100_S}") && is_told(others),
        _ => false,
    };
    observer.check(Witness::Peer, "a time of 2100 is saved, and read back", &said, is_kept)?;
    uplink_has_lease(bench, observer, "the uplink has its lease")?;
    let address = bench.board()?.wait_for(
        "address of crab",
        TIMEOUT,
        || {
            let ran =
                bench.board().map(|board| board.exec("crab", &["ip", "-4", "-o", "addr", "show", "eth0"], TIMEOUT));
            Ok(ran.ok().and_then(Result::ok).map(|ran| ran.stdout).unwrap_or_default().into())
        },
        |said| text(said).split_whitespace().nth(3).map(str::to_owned),
    )?;
    observer.check(Witness::Peer, "crab has its own", &address, address.starts_with(NETWORK))?;
    bench.board()?.yado(&["rescue", "start", "cut-off"])?;
    is_ready(bench, observer, "an instance starts", "cut-off")?;
    let netd = |status| service(status, "netd").cloned().unwrap_or_default();
    let after = bench.status()?;
    let seen = format!("netd pid {}, {} restarts", netd(&after)["pid"], netd(&after)["restarts"]);
    observer.check(
        Witness::OwnWord,
        "nothing of ours has ended",
        seen,
        netd(&before) == netd(&after) && netd(&after)["restarts"] == 0,
    )?;
    runs_on(bench, observer, &before, &["crab", "shell", "spec-flipped", "spec-cut"])
}
