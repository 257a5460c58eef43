//! Containers of others inside an instance on the board. What a container says is what its kernel told it; its group and its limit
//! are looked at from the board.

use super::bench::{Bench, shown_end};
use super::failure::GuestError;
use super::images::OnStick;
use super::nested::{CONTAINERS, LIMITED, PREPARE, words_of_map};
use crate::board::Seen;
use crate::board::outside::{ADDRESS, PAGE};
use crate::report::{Observer, Witness};
use qemu_guest::{Ended, Ran};

/// The instance that nests.
pub(super) const NESTS: &str = "nesting";

/// Adds it, starts it, and makes in it what is run.
pub(super) fn prepare(bench: &Bench<'_>, observer: &mut Observer, guest: &OnStick) -> Result<(), GuestError> {
    bench.bring(observer, guest)?;
    bench.is_ready(observer, "it is ready", guest.instance)?;
    let ran = inside(bench, PREPARE)?;
    observer.check(
        Witness::Peer,
        "podman imports an image, for root and for a user",
        shown_end(&ran),
        ran.ended == Ended::Code(0),
    )?;
    Ok(())
}

/// Runs one of them, which prints who it is outside.
pub(super) fn run(bench: &Bench<'_>, observer: &mut Observer, what: &str) -> Result<(), GuestError> {
    let nested = CONTAINERS.iter().find(|nested| nested.what == what).expect("each step names one of them");
    let map = bench.shell(&format!("cat /proc/{}/uid_map", bench.instance(NESTS)?["pid"]))?;
    let base = map.split_whitespace().nth(1).unwrap_or_default();
    let wanted = nested.map(base);
    let ran = inside(bench, &nested.command())?;
    let holds = ran.ended == Ended::Code(0) && words_of_map(&ran.stdout) == wanted;
    observer.check(Witness::Peer, &format!("its ids are {}", wanted.replace('\n', ", ")), shown_end(&ran), holds)?;
    Ok(())
}

/// Runs one that asks the server outside, on a network that podman makes for root or for a user.
pub(super) fn reaches_outside(bench: &Bench<'_>, observer: &mut Observer, whose: Whose) -> Result<(), GuestError> {
    let ask = format!("wget -q -O - http://{ADDRESS}:{}/", bench.outside.port());
    let line = match whose {
        Whose::Root => format!("podman run --rm --pids-limit=0 box {ask}"),
        // slirp4netns' own addresses are otherwise those that QEMU gives the board, and the server's among them.
        Whose::Users => {
            format!("su - user -c 'podman run --rm --pids-limit=0 --network=slirp4netns:cidr=10.77.0.0/24 box {ask}'")
        }
    };
    let before = bench.outside.answered();
    let ran = inside(bench, &line)?;
    let holds = ran.ended == Ended::Code(0) && ran.stdout.contains(PAGE);
    observer.check(Witness::Peer, "it prints the page of a server outside", shown_end(&ran), holds)?;
    let came = bench.outside.answered() - before;
    observer.check(Witness::OtherEnd, "that server was asked once", came.to_string(), came == 1)?;
    Ok(())
}

/// Whose container.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose {
    Root,
    Users,
}

/// The board's kernel holds the limit, in the group of what podman runs.
pub(super) fn limit(bench: &Bench<'_>, observer: &mut Observer) -> Result<(), GuestError> {
    let ran = inside(bench, LIMITED)?;
    let holds = ran.ended == Ended::Code(0);
    observer.check(Witness::Peer, "podman runs a container with a limit", shown_end(&ran), holds)?;
    let look = format!(
        "for group in $(find /sys/fs/cgroup/instances/{NESTS}.* -type d); do
             [ \"$(cat $group/memory.max 2>/dev/null)\" = 33554432 ] || continue
             for pid in $(cat $group/cgroup.procs); do
                 grep -qz '^sleep$' /proc/$pid/cmdline && echo ${{group#/sys/fs/cgroup/}}
             done
         done"
    );
    let groups = bench.shell(&look)?;
    let holds =
        !groups.is_empty() && groups.lines().all(|group| group.trim_end_matches('/').matches('/').count() > 1);
    observer.check(
        Witness::Kernel,
        "memory.max is 32 MiB in the group of its process, below the instance's",
        groups,
        holds,
    )?;
    Ok(())
}

/// Stops it: its memory is others'.
pub(super) fn end(bench: &Bench<'_>, observer: &mut Observer) -> Result<(), GuestError> {
    bench.yado(&["rescue", "stop", NESTS])?;
    let Seen { shown, holds } = bench.has_nothing_left(NESTS)?;
    observer.check(Witness::Kernel, "it is stopped with what runs in it", shown, holds)?;
    Ok(())
}

fn inside(bench: &Bench<'_>, script: &str) -> Result<Ran, GuestError> {
    bench.inside(NESTS, &["/bin/sh", "-c", script].map(str::to_owned))
}
