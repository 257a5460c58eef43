//! The same attempts in a container of LXC's with LXC's defaults, on the same board: what is held there and not here would be
//! for us to learn. LXC and its root come on a stick; its AppArmor profile does not, for want of its compiler on the board.

use super::appliance::lay_out_crowd;
use super::arena::{Arena, TIMEOUT};
use super::failure::HostileError;
use crate::bench::appliance::lay_out_peers;
use crate::board::qmp::UsbStick;
use crate::board::tree::Tree;
use crate::board::{BuildError, Prepared, disk};
use crate::cache::Cache;
use crate::provision;
use crate::report::{Observer, Witness};
use qemu_guest::attack::{self, Line, Watched};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the stick is mounted.
const PLACE: &str = "/run/lxc-stick";
/// State of LXC's, on a tmpfs.
const STATE: &str = "/run/lxc-state";
const STICK_MIB: u64 = 64;
/// The first id outside, and how many there are.
const IDS: &str = "0 2000000 65536";
/// What LXC's own configuration names by paths that the board does not have.
const LEFT_OUT: [&str; 3] = ["lxc.include", "lxc.hook.clone", "lxc.seccomp.profile"];

/// Makes the stick's content: LXC with its libraries, its configuration, and the root.
pub(super) fn stick(cache: &Cache, prepared: &Prepared, directory: &Path) -> Result<PathBuf, BuildError> {
    let peers = provision::peers(cache, prepared.ingredients.arch)?;
    let tree = Tree::create(&directory.join("lxc.tree"))?;
    lay_out_peers(&tree, "peers", &peers, &["lxc-start"], prepared.ingredients.arch)?;
    let root = lay_out_crowd(&tree.root().join("root"), &prepared.ingredients)?;
    root.file("attack", 0o755, format!("#!/bin/sh\n{} inside > /tmp/said 2>&1\n", super::appliance::ATTACK))?;
    let shipped = peers.join("usr/share/lxc/config");
    let mut lines = Vec::new();
    for name in ["common.conf", "userns.conf"] {
        let path = shipped.join(name);
        let text = fs::read_to_string(&path).map_err(BuildError::io(&path))?;
        let kept = text.lines().filter(|line| !LEFT_OUT.iter().any(|key| line.trim_start().starts_with(key)));
        lines.extend(kept.map(str::to_owned));
    }
    lines.extend(own_lines());
    tree.file("lxc.conf", 0o644, lines.join("\n") + "\n")?;
    tree.copy("common.seccomp", 0o644, &shipped.join("common.seccomp"))?;
    let stick = directory.join("lxc.stick");
    disk::format_ext4(tree.root(), &stick, STICK_MIB)?;
    fs::canonicalize(&stick).map_err(BuildError::io(&stick))
}

/// What a user of LXC's adds: which root, which ids, the limits that our instance has.
fn own_lines() -> Vec<String> {
    vec![
        format!("lxc.rootfs.path = dir:{PLACE}/root"),
        format!("lxc.rootfs.mount = {STATE}/root"),
        format!("lxc.seccomp.profile = {PLACE}/common.seccomp"),
        format!("lxc.idmap = u {IDS}"),
        format!("lxc.idmap = g {IDS}"),
        "lxc.uts.name = lxc".to_owned(),
        "lxc.init.cmd = /attack".to_owned(),
        "lxc.net.0.type = empty".to_owned(),
        "lxc.apparmor.profile = unconfined".to_owned(),
        "lxc.console.path = none".to_owned(),
        format!("lxc.cgroup2.memory.max = {}", 32 * 1024 * 1024),
        "lxc.cgroup2.pids.max = 60".to_owned(),
    ]
}

/// Runs it, and puts its table beside ours.
pub(super) fn compare(arena: &mut Arena<'_>, observer: &mut Observer) -> Result<(), HostileError> {
    let Some(content) = arena.lxc.clone() else { return Err(HostileError::Off) };
    let stick = UsbStick { id: "lxc".to_owned(), content, serial: "0002".to_owned() };
    arena.board_mut()?.qemu.qmp.plug(&stick).map_err(HostileError::qmp)?;
    let found = arena.wait_file("/sys/class/block/sda", Duration::from_secs(30))?;
    observer.check(Witness::Kernel, "the stick with LXC is there", "sda", found)?;
    let script = format!(
        "mkdir -p {PLACE} {STATE}/root && mount -t ext4 /dev/sda {PLACE} && cd {PLACE} && chown -R 2000000:2000000 root &&
         LD_LIBRARY_PATH={PLACE}/peers/lib peers/bin/lxc-start --foreground --name lxc --lxcpath {STATE} \
         --rcfile {PLACE}/lxc.conf --logfile {STATE}/log --logpriority ERROR; cat root/tmp/said {STATE}/log"
    );
    let ran = arena.board()?.agent.run(&["/bin/sh", "-c", &script], TIMEOUT)?;
    let theirs: Vec<Line> = ran.stdout.lines().filter_map(Line::parse).collect();
    let wanted = attack::all().filter(|attempt| matches!(attempt.watched, Watched::Inside)).count();
    println!("\n{:<20} {:<36} LXC", "attempt", "here");
    let mut only_theirs = Vec::new();
    for Line { name, outcome } in &theirs {
        let ours = arena.outcome_of(name);
        let shown = ours.map(|ours| format!("{} {}", ours.verdict, ours.figure)).unwrap_or_default();
        println!("{name:<20} {shown:<36} {} {}", outcome.verdict, outcome.figure);
        if outcome.is_held() && ours.is_some_and(|ours| !ours.is_held()) {
            only_theirs.push(name.as_str());
        }
    }
    let held = theirs.iter().filter(|line| line.outcome.is_held()).count();
    let said = format!("{held} of {} held there; {}", theirs.len(), ran.stderr.trim());
    observer.check(Witness::Peer, "each attempt was made in LXC's container too", said, theirs.len() == wanted)?;
    let shown = if only_theirs.is_empty() { "nothing".to_owned() } else { only_theirs.join(" ") };
    observer.check(Witness::Peer, "nothing is held there that is not held here", shown, only_theirs.is_empty())?;
    arena.shell(&format!("umount {PLACE}"))?;
    Ok(())
}
