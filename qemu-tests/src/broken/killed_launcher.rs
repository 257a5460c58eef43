//! A launcher that dies in the middle of a start: what it made must be gone, and the next start must not stumble over it.
//!
//! It is killed at two kinds of moments: as soon as it can be found, a few times over, which is somewhere among image,
//! verity device and mounts; and, held up by a netd that was stopped, when all of that stands and only the network is waited
//! for.

use super::bench::{Bench, BrokenError, TIMEOUT, service, shown, text};
use super::killed_processes::runs_on;
use crate::board::BoardError;
use crate::report::Observer;
use qemu_guest::Ended;

const VICTIM: &str = "cut-off";
/// Each hits another moment.
const EARLY_KILLS: usize = 3;

pub(super) fn at_work(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let before = bench.status()?;
    let fingerprint = text(&bench.instance(VICTIM)?["fingerprint"]).to_owned();
    let clean = leftovers(bench, &fingerprint)?;
    for number in 1..=EARLY_KILLS {
        kill_when(bench, "true")?;
        told_and_clean(bench, observer, &format!("early kill {number}"), &fingerprint, &clean)?;
    }
    let netd = service(&before, "netd").map(|netd| netd["pid"].to_string()).unwrap_or_default();
    bench.shell(&format!("kill -STOP {netd}"))?;
    let verity = format!("grep -q yado-{} /sys/block/dm-*/dm/name", &fingerprint[..16]);
    let killed = kill_when(bench, &verity);
    bench.shell(&format!("kill -CONT {netd}"))?;
    killed?;
    told_and_clean(bench, observer, "killed while it waits for netd", &fingerprint, &clean)?;

    bench.board()?.yado(&["rescue", "start", VICTIM])?;
    let status = bench.wait_settled(VICTIM)?;
    observer.check("left alone, it starts", shown(&status), status["state"] == "ready")?;
    bench.board()?.yado(&["rescue", "stop", VICTIM])?;
    settle_clean(bench, observer, "stopped in order", &fingerprint, &clean)?;
    runs_on(bench, observer, &before, &["crab", "shell", "good"])
}

/// Starts the victim and kills its launcher as soon as `condition` holds. Ends when the start was answered.
fn kill_when(bench: &Bench<'_>, condition: &str) -> Result<(), BrokenError> {
    let script = format!(
        "yado rescue start {VICTIM} & starter=$!
until {condition}; do :; done
until pkill -9 -f '^yado-container run'; do kill -0 $starter || exit 3; done
wait $starter || exit 0
exit 4"
    );
    let ran = bench.shell_ran(&script)?;
    match ran.ended {
        Ended::Code(0) => Ok(()),
        Ended::Code(_) | Ended::Signal(_) | Ended::TimedOut => {
            let what = "kill the launcher while it works".to_owned();
            Err(BoardError::Agent(crate::board::agent::AgentError::Unsuccessful { what, ran }).into())
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
    observer.check(&format!("{when}: it is told"), shown(&status), is_told)?;
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
    observer.check(&format!("{when}: nothing is left"), found, true)?;
    Ok(())
}

/// Everything that a start makes outside of itself, as text that is the same whenever nothing of it is there.
fn leftovers(bench: &Bench<'_>, fingerprint: &str) -> Result<String, BrokenError> {
    bench.shell(&format!(
        "echo verity: $(grep -l yado-{} /sys/block/dm-*/dm/name)
echo loop: $(grep -l {fingerprint} /sys/block/loop*/loop/backing_file 2>/dev/null)
echo group: $(ls -d /sys/fs/cgroup/instances/{VICTIM} 2>/dev/null)
echo runtime: $(ls -d /run/yado/instances/{VICTIM} 2>/dev/null)
echo mounts: $(wc -l < /proc/1/mountinfo)
echo links: $(ls /sys/class/net)
echo processes: $(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'yado-container run')",
        &fingerprint[..16]
    ))
}
