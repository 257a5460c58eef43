//! A kernel that tells nobody how short memory is: the guard of the machine's memory says what that means, and nothing else
//! changes.

use super::bench::Bench;
use super::failure::BrokenError;
use super::instance_runs::is_ready;
use crate::report::{Observer, Witness};

/// For the kernel's command line.
pub(super) const KERNEL_ARGUMENTS: &str = "psi=0";

pub(super) fn untold(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let seen = bench.shell("[ -e /proc/pressure/memory ] && echo there || echo absent")?;
    observer.check(Witness::Kernel, "this kernel has no figures of pressure", &seen, seen == "absent")?;
    let said = bench.shell("{ yado rescue logs; dmesg; } | grep -F /proc/pressure/memory | head -n 1")?;
    let is_told = said.contains("memory is only looked at when something else wakes us");
    observer.check(Witness::OwnWord, "the log says what that means", &said, is_told)?;
    is_ready(bench, observer, "instances run", "spec-flipped")?;
    let files = bench.shell(
        "for file in /sys/fs/cgroup/instances/spec-flipped.*/*.pressure; do [ -e $file ] && echo $file; done; echo none",
    )?;
    observer.check(Witness::Kernel, "their groups have none either", &files, files == "none")?;
    Ok(())
}
