//! An init of ours, hosted in a privileged instance of the board's. The group and the limit of what it keeps are looked at from the
//! board, in files of the outer kernel's groups.

use super::bench::{Bench, TIMEOUT, shown_end};
use super::failure::GuestError;
use crate::board::container_images::TOOL;
use crate::board::{self, BoardError, Seen};
use crate::report::{Observer, Witness};
use qemu_guest::Ended;
use serde_json::Value;

/// The instance in which the init runs, and the one that this init keeps.
const OUTER: &str = "outer";
const INNER: &str = "one";

/// The board's directory for the init inside, which has it at [`DIRECTORY`].
const ON_BOARD: &str = "/data/inner";
const DIRECTORY: &str = "/inner";

/// Its control socket, for who is on the board.
const SOCKET: &str = "/data/inner/run/init.sock";

/// Of the instance inside.
const LIMIT_BYTES: u32 = 32 * 1024 * 1024;

/// Before 6.12 the kernel mounts an image by a loop device; the board's own images have some of these.
const LOOP_DEVICES: u32 = 32;

/// What a hosted init needs, of the board's own: an image, the key that signed it, and an instance. It has no device-mapper.
const LAY_OUT: &str = r#"
set -e
system=/data/inner/system board=/usr/lib/yado
mkdir -p $system/appliance $system/trust $system/images/aliases /data/inner/data /data/inner/run
cp $board/trust/* $system/trust
image=$(readlink $board/images/aliases/busybox)
cp -r $board/images/${image#../} $system/images
ln -s $image $system/images/aliases/busybox
echo start >$system/verify
cat >$system/appliance/one.toml <<END
image = "busybox"
[config]
boot.autostart = true
health.window = "1s"
limits.memory = "32MiB"
END
"#;

/// A group that passes controllers on has no processes of its own: all move to one below first.
const RUN: &str = r#"
group=/sys/fs/cgroup
mkdir $group/leaf
while [ -n "$(cat $group/cgroup.procs)" ]; do
    for pid in $(cat $group/cgroup.procs); do echo $pid >$group/leaf/cgroup.procs; done 2>/dev/null
done
exec yado-init --hosted /inner
"#;

/// From its start to its end.
pub(super) fn run(bench: &Bench<'_>, observer: &mut Observer) -> Result<(), GuestError> {
    let board = bench.board()?;
    bench.shell(LAY_OUT)?;
    board.agent.write_file("/run/outer.toml", &outer())?;
    bench.yado(&["apply", "/run/outer.toml"])?;
    bench.yado(&["rescue", "start", OUTER])?;
    bench.is_ready(observer, "the instance around it is ready", OUTER)?;
    let argv = ["/usr/bin/yado", "rescue", "exec", "--no-tty", OUTER, "--", "/bin/sh", "-c", RUN];
    let init = board.agent.start_run(&argv, "", TIMEOUT)?;
    if let Err(error) = keeps_one(bench, observer) {
        // What it said is of interest only then.
        bench.yado(&["rescue", "stop", "--force", OUTER])?;
        observer.note("the init inside", shown_end(&init.ran()?));
        return Err(error);
    }
    let words = ["/bin/sh", "-c", "kill -TERM $(pidof yado-init)"].map(str::to_owned);
    let asked = bench.inside(OUTER, &words)?;
    observer.check(Witness::Peer, "it is told to end", shown_end(&asked), asked.ended == Ended::Code(0))?;
    let ended = init.ran()?;
    observer.check(
        Witness::Peer,
        "told to end, it does so in order",
        shown_end(&ended),
        ended.ended == Ended::Code(0),
    )?;
    let left = bench.shell(&format!(
        "ls -d /sys/fs/cgroup/instances/{OUTER}.*/yado-*/* 2>/dev/null; grep -l {ON_BOARD} /sys/block/loop*/loop/backing_file; true"
    ))?;
    let is_clean = left.is_empty();
    observer.check(Witness::Kernel, "what it kept, and the loop device under that, are gone", left, is_clean)?;
    bench.yado(&["rescue", "stop", OUTER])?;
    let Seen { shown, holds } = bench.has_nothing_left(OUTER)?;
    observer.check(Witness::Kernel, "nothing of the instance around it is left", shown, holds)?;
    Ok(())
}

/// Its instance is ready, and cannot have more than its limit.
fn keeps_one(bench: &Bench<'_>, observer: &mut Observer) -> Result<(), GuestError> {
    let board = bench.board()?;
    let ask = || {
        let argv = ["/usr/bin/yado", "rescue", "--socket", SOCKET, "status", "--format", "json"];
        let said = board.agent.output(&argv, TIMEOUT).map_err(BoardError::Agent)?;
        Ok(serde_json::from_str(&said).unwrap_or(Value::String(said)))
    };
    board.wait_for(&format!("{INNER}, ready inside {OUTER}"), TIMEOUT, ask, |status| {
        (board::instance(status, INNER)?["state"] == "ready").then_some(())
    })?;
    let group = bench.shell(&format!("ls -d /sys/fs/cgroup/instances/{OUTER}.*/yado-*/{INNER}.*"))?;
    let running = bench.shell(&format!("while read pid; do cat /proc/$pid/comm; done <{group}/cgroup.procs"))?;
    let shown = format!("{group}: {}", running.replace('\n', " "));
    let is_inside = running.lines().any(|name| name == "init");
    observer.check(
        Witness::Kernel,
        "the first process of what it keeps is in a group below its own",
        shown,
        is_inside,
    )?;
    let limit = bench.shell(&format!("cat {group}/memory.max"))?;
    let is_limit = limit == LIMIT_BYTES.to_string();
    observer.check(Witness::Kernel, "memory.max there is 32 MiB", limit, is_limit)?;
    let argv = ["/usr/bin/yado", "rescue", "--socket", SOCKET, "exec", "--no-tty", INNER, "--", TOOL, "memory", "64"];
    let eater = board.agent.run(&argv, TIMEOUT)?;
    let (has_begun, is_done) = (eater.stdout.contains("touched_mib=1\n"), eater.ended == Ended::Code(0));
    let shown = format!("{:?} {}", eater.ended, eater.stdout.lines().last().unwrap_or_default());
    observer.check(Witness::Peer, "who wants 64 MiB in it does not get them", shown, has_begun && !is_done)?;
    let seen = bench.shell(&format!("grep -w oom_kill {group}/memory.events; echo peak; cat {group}/memory.peak"))?;
    let numbers: Vec<u32> = seen.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let holds = matches!(numbers[..], [kills, peak] if 0 < kills && peak <= LIMIT_BYTES);
    observer.check(
        Witness::Kernel,
        "the kernel has killed there, and never more than 32 MiB were in use",
        seen,
        holds,
    )?;
    Ok(())
}

/// The instance around it, with the board's own programs: they are static.
fn outer() -> String {
    let mut text = "image = \"busybox\"\n[config]\nboot.autostart = false\nhealth.window = \"1s\"\n\
                    security.privileged = true\nsecurity.nesting = true\nsecurity.syscalls.deny_default = false\n"
        .to_owned();
    let disk = |name: &str, source: &str, path: &str, rest: &str| {
        format!("[devices.{name}]\ntype = \"disk\"\nsource = \"{source}\"\npath = \"{path}\"\n{rest}")
    };
    text += &disk("directory", ON_BOARD, DIRECTORY, "");
    text += &disk("init", "/sbin/yado-init", "/usr/bin/yado-init", "readonly = true\n");
    text += &disk("yado", "/usr/bin/yado", "/usr/bin/yado", "readonly = true\n");
    text += "[devices.loops]\ntype = \"unix-char\"\nsource = \"/dev/loop-control\"\n";
    for number in 0..LOOP_DEVICES {
        let device = format!("[devices.loop{number}]\ntype = \"unix-block\"\nsource = \"/dev/loop{number}\"\n");
        text += &format!("{device}required = false\n");
    }
    text
}
