//! A launcher that dies in the middle of a start: what it made must be gone, and the next start must not stumble over it.
//! It is killed as soon as it is there, when the payload is, when the image's verity device is, and, held up by a netd that
//! was stopped, when all of that stands and only the network is waited for.

use super::bench::{Bench, TIMEOUT, service, shown, text};
use super::failure::BrokenError;
use super::instance_runs::{is_ready, runs_on};
use crate::board::BoardError;
use crate::board::agent::AgentError;
use crate::report::{Observer, Witness};
use qemu_guest::Ended;

const VICTIM: &str = "cut-off";

pub(super) fn at_work(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let before = bench.status()?;
    let fingerprint = text(&bench.instance(VICTIM)?["fingerprint"]).to_owned();
    let clean = leftovers(bench, &fingerprint)?;
    for (when, condition) in [
        ("killed at its birth", "[ $count -ge 1 ]"),
        ("killed when the payload is there", "[ $count -ge 2 ]"),
        ("killed when the verity device is there", "verity"),
    ] {
        kill_when(bench, &fingerprint, condition)?;
        told_and_clean(bench, observer, when, &fingerprint, &clean)?;
    }
    let netd = service(&before, "netd").map(|netd| netd["pid"].to_string()).unwrap_or_default();
    bench.shell(&format!("kill -STOP {netd}"))?;
    // A start that nobody holds up is over in far less.
    let killed = kill_when(bench, &fingerprint, "verity && sleep 3");
    bench.shell(&format!("kill -CONT {netd}"))?;
    killed?;
    told_and_clean(bench, observer, "killed while it waits for netd", &fingerprint, &clean)?;

    bench.board()?.yado(&["rescue", "start", VICTIM])?;
    is_ready(bench, observer, "left alone, it starts", VICTIM)?;
    bench.board()?.yado(&["rescue", "stop", VICTIM])?;
    settle_clean(bench, observer, "stopped in order", &fingerprint, &clean)?;
    runs_on(bench, observer, &before, &["crab", "shell", "good"])
}

/// Starts the victim and kills its launcher as soon as `condition` holds. Nothing in the loop starts a process: it is
/// quicker than the launcher. Ends when the start was answered, which must be by a refusal.
fn kill_when(bench: &Bench<'_>, fingerprint: &str, condition: &str) -> Result<(), BrokenError> {
    let id = bench.instance(VICTIM)?["id"].clone();
    let script = format!(
        "verity() {{
    for file in /sys/block/dm-*/dm/name; do
        read -r name < $file || continue
        case $name in yado-{}*) return 0;; esac
    done 2>/dev/null
    return 1
}}
# The launcher is in the victim's group from its first instruction on, and older than all others there.
look() {{
    count=0 launcher=
    while read -r pid; do
        count=$((count + 1))
        if [ -z \"$launcher\" ] || [ $pid -lt $launcher ]; then launcher=$pid; fi
    done
}}
yado rescue start {VICTIM} & starter=$!
count=0
until [ $count -ge 1 ] && {condition}; do
    look 2>/dev/null < /sys/fs/cgroup/instances/{VICTIM}.{id}/cgroup.procs
    kill -0 $starter || exit 3
done 2>/dev/null
kill -9 $launcher || exit 5
wait $starter || exit 0
exit 4",
        &fingerprint[..16]
    );
    let ran = bench.shell_ran(&script)?;
    match ran.ended {
        Ended::Code(0) => Ok(()),
        Ended::Code(_) | Ended::Signal(_) | Ended::TimedOut => {
            let what = "kill the launcher while it works".to_owned();
            Err(BoardError::Agent(AgentError::Unsuccessful { what, ran }).into())
        }
    }
}

fn told_and_clean(
    bench: &Bench<'_>,
    observer: &mut Observer,
    when: &str,
    fingerprint: &str,
    clean: &str,
) -> Result<(), BrokenError> {
    let status = bench.wait_instance(VICTIM, "has failed", |status| status["state"] == "failed")?;
    let failure = &status["last_failure"];
    let is_told = failure["step"] == "launcher" && text(&failure["reason"]).contains("killed by signal 9");
    observer.check(Witness::OwnWord, &format!("{when}: it is told"), shown(&status), is_told)?;
    settle_clean(bench, observer, when, fingerprint, clean)
}

/// The kernel takes verity and loop devices down a moment after their last user.
fn settle_clean(
    bench: &Bench<'_>,
    observer: &mut Observer,
    when: &str,
    fingerprint: &str,
    clean: &str,
) -> Result<(), BrokenError> {
    let found = bench.board()?.wait_for(
        &format!("board without leftovers of {VICTIM}"),
        TIMEOUT,
        || Ok(leftovers(bench, fingerprint).unwrap_or_default().into()),
        |found| (found == clean).then(|| text(found).to_owned()),
    )?;
    observer.check(Witness::Kernel, &format!("{when}: nothing is left"), &found, found == clean)?;
    Ok(())
}

/// Everything that a start makes outside of itself, as text that is the same whenever nothing of it is there.
fn leftovers(bench: &Bench<'_>, fingerprint: &str) -> Result<String, BrokenError> {
    bench.shell(&format!(
        "for kind in dm-*/dm/name:yado-{} loop*/loop/backing_file:{fingerprint}; do
    # One is kept for the next start, as of each image that was verified. Two would be one too many.
    [ $(grep -l ${{kind#*:}} /sys/block/${{kind%%:*}} 2>/dev/null | wc -l) -le 1 ] || echo more than one: $kind
done
echo group: $(ls -d /sys/fs/cgroup/instances/{VICTIM}.* 2>/dev/null)
echo runtime: $(ls -d /run/yado/instances/{VICTIM}.* 2>/dev/null)
echo mounts: $(wc -l < /proc/1/mountinfo)
echo links: $(ls /sys/class/net)
echo processes: $(grep -l '^yado-container' /proc/[0-9]*/cmdline 2>/dev/null)",
        &fingerprint[..16]
    ))
}
