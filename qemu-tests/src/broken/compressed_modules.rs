//! A kernel whose modules are compressed, each in a file that the kernel itself unpacks: from the first one that the
//! initramfs needs to those of an instance's network.

use super::bench::Bench;
use super::failure::BrokenError;
use super::instance_runs::{is_ready, uplink_has_lease};
use crate::report::{Observer, Witness};

/// Of the initramfs, of the launcher, of netd, and of a device.
const LOADED: [&str; 6] = ["virtio_blk", "dm_verity", "erofs", "overlay", "veth", "virtio_net"];

pub(super) fn loaded(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let plain = bench.shell("find /lib/modules/$(uname -r) -name '*.ko' | wc -l")?;
    let compressed = bench.shell("find /lib/modules/$(uname -r) -name '*.ko.xz' | wc -l")?;
    let is_compressed = plain == "0" && compressed != "0";
    observer.check(
        Witness::Peer,
        "all modules are compressed",
        format!("{compressed} *.ko.xz, {plain} *.ko"),
        is_compressed,
    )?;
    for name in ["crab", "shell"] {
        is_ready(bench, observer, &format!("{name} runs"), name)?;
    }
    uplink_has_lease(bench, observer, "the uplink has its lease")?;
    // Only now: the agent speaks while drivers are still being unpacked.
    let modules = bench.shell("cut -d ' ' -f 1 /proc/modules")?;
    let missing: Vec<&str> = LOADED.into_iter().filter(|name| modules.lines().all(|line| line != *name)).collect();
    let seen = format!("{} are loaded, not {missing:?}", modules.lines().count());
    observer.check(Witness::Kernel, &format!("{} are loaded", LOADED.join(", ")), seen, missing.is_empty())?;
    Ok(())
}
