//! A data partition that fills up: first as far as instances may, then, by somebody with all rights, to its last block.

use super::bench::Bench;
use super::failure::BrokenError;
use super::instance_runs::{is_ready, runs_on};
use crate::report::{Observer, Witness};
use qemu_guest::Ended;

/// What crab keeps; it is one block long so that it can be written over when there is no other.
pub(super) const KEPT: &str = "/root/kept";
const FULL: &str = "No space left on device";

pub(super) fn fill(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let sum = bench.inside_output("crab", &format!("seq 800 > {KEPT} && sync && sha256sum < {KEPT}"))?;
    let before = bench.status()?;
    let filled = bench.inside("shell", "dd if=/dev/zero of=/root/fill bs=64k")?;
    let is_told = filled.ended == Ended::Code(1) && filled.stderr.contains(FULL);
    observer.check(Witness::Peer, "shell fills it, and is told", &filled.stderr, is_told)?;
    let refused = bench.inside("crab", "dd if=/dev/zero of=/root/more bs=64k count=16")?;
    let is_told = refused.ended == Ended::Code(1) && refused.stderr.contains(FULL);
    observer.check(Witness::Peer, "crab cannot write either", &refused.stderr, is_told)?;
    runs_on(bench, observer, &before, &["crab", "shell", "good", "chip-patient"])?;
    let read = bench.inside_output("crab", &format!("sha256sum < {KEPT}"))?;
    observer.check(Witness::Peer, "what crab had written is there", &read, read == sum)?;

    bench.shell("dd if=/dev/zero of=/data/rest bs=64k; dd if=/dev/zero of=/data/last bs=1k; sync; true")?;
    let room = bench.shell("df -k /data | tail -n 1")?;
    let free = room.split_whitespace().nth(3).map(str::to_owned);
    observer.check(Witness::Kernel, "root filled the rest", room, free.as_deref() == Some("0"))?;
    for name in ["shell", "good"] {
        bench.board()?.yado(&["rescue", "restart", name])?;
        is_ready(bench, observer, &format!("{name} starts again all the same"), name)?;
    }
    let bytes = bench.inside_output("shell", "stat -c %s /root/fill")?;
    let is_there = bytes.parse::<u64>().is_ok_and(|bytes| 0 < bytes);
    observer.check(Witness::Peer, "its file is there", format!("{bytes} bytes"), is_there)?;
    runs_on(bench, observer, &before, &["crab", "chip-patient"])
}
