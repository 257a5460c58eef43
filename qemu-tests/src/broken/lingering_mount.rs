//! Somebody keeps the root of the run before from being unmounted, on a kernel that does not mount a layer twice (overlay's
//! `index=on`, which some have by default): the next start waits until it may.

use super::bench::Bench;
use super::failure::BrokenError;
use super::instance_runs::{is_ready, runs};
use crate::report::{Observer, Witness};

const NAME: &str = "crab";

pub(super) fn waited_for(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let before = is_ready(bench, observer, "it runs", NAME)?;
    // An open file keeps the mount that it is on.
    let seen = bench.shell(&format!(
        "index=/sys/module/overlay/parameters/index
exec 9< /proc/{}/root/bin/busybox
echo Y > $index
yado rescue restart {NAME} > /dev/null 9<&- & restarting=$!
for n in $(seq 60); do
    dmesg | grep -q 'overlayfs: upperdir is in-use' && break
    sleep 0.5
done
dmesg | grep -o 'upperdir is in-use' | sort -u
kill -0 $restarting && echo it waits
exec 9<&-
wait $restarting; echo $?
echo N > $index",
        before["pid"]
    ))?;
    let is_so = seen == "upperdir is in-use\nit waits\n0";
    observer.check(
        Witness::Kernel,
        "the kernel refuses the mount, and the start waits for it",
        seen.replace('\n', ", "),
        is_so,
    )?;
    let after = bench.wait_settled(NAME)?;
    let is_another = after["state"] == "ready" && after["pid"] != before["pid"];
    runs(bench, observer, "as soon as it may, it starts", NAME, &after, is_another)
}
