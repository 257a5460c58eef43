//! A good release, from the web server to a system that is confirmed.

use super::StepError;
use super::roof::{INSTALL_TIMEOUT, Roof, TIMEOUT};
use crate::report::{Observer, Witness};

/// What an update may take of the board's memory, all its processes together.
const MAX_PSS_KIB: u64 = 8 << 10;

/// On the data partition, so that it is there after the restart: the sum in KiB, then each process with its own.
const PEAKS: &str = "/data/updater-memory";

/// Writes down the most memory that the processes in the updater's control group took, by `Pss` of proc_pid_smaps(5): what they share
/// with each other counts once.
fn watch_memory() -> String {
    format!(
        "\
(most=0
while sleep 1; do
    sum=0; each=
    for pid in $(cat /sys/fs/cgroup/updater/run-*/cgroup.procs); do
        now=$(sed -n 's/^Pss:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/$pid/smaps_rollup)
        sum=$((sum + ${{now:-0}})); each=\"$each $pid:${{now:-0}}\"
    done
    if [ $most -lt $sum ]; then most=$sum; echo \"$sum$each\" > {PEAKS}; fi
done) > /dev/null 2>&1 &"
    )
}

/// The factory's system runs.
pub(super) fn first(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let said = roof.switch_on()?;
    observer.note("the board boots", said);
    let serial = roof.serial_since()?;
    let told = "boot: slot A, 3 tries left, trial: ";
    let line = serial.lines().find(|line| line.starts_with("boot: ")).unwrap_or_default();
    observer.check(Witness::Peer, "U-Boot takes slot A, no trial", line, line.trim_end() == told.trim_end())?;
    runs(roof, observer, "A 1")?;
    instances_are_ready(roof, observer)
}

/// Fetched, written, armed: until the board restarts by itself.
pub(super) fn second(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let serial = until_restart(roof, observer, "release-2")?;
    let line = serial.lines().find(|line| line.starts_with("boot: slot ")).unwrap_or_default();
    let is_trial = line.trim_end() == "boot: slot B, 2 tries left, trial: B";
    observer.check(Witness::Peer, "U-Boot takes slot B on trial", line, is_trial)?;
    runs(roof, observer, "B 2")?;
    let peaks = roof.board()?.shell(&format!("cat {PEAKS}"), TIMEOUT)?;
    let total = peaks.split_whitespace().next().and_then(|kib| kib.parse().ok());
    let has_room = total.is_some_and(|kib: u64| 0 < kib && kib <= MAX_PSS_KIB);
    let what = format!("the updater's processes together took at most {MAX_PSS_KIB} KiB");
    observer.check(Witness::Kernel, &what, peaks.replace('\n', " "), has_room)?;
    Ok(())
}

/// Installs a release, until another system is up. What the serial line said meanwhile.
pub(super) fn until_restart(
    roof: &mut Roof<'_>,
    observer: &mut Observer,
    release: &str,
) -> Result<String, StepError> {
    let before = roof.server.requests().lines().count();
    roof.board()?.shell(&watch_memory(), TIMEOUT)?;
    roof.begin_install(release)?;
    let shown = roof.wait_status("an install that is under way", TIMEOUT, |status| {
        status["work"]["total"].as_u64().is_some_and(|total| 0 < total)
    })?;
    observer.note("meanwhile a second terminal sees", &shown["work"]);
    let serial = roof.wait_boot(INSTALL_TIMEOUT)?;
    let asked: Vec<String> = roof.server.requests().lines().skip(before).map(str::to_owned).collect();
    let is_asked = asked.iter().any(|line| line.contains(&format!("GET /{release}/release ")));
    let bytes = format!("{} requests, the last: {}", asked.len(), asked.last().map_or("", String::as_str));
    observer.check(Witness::Peer, "nginx was asked for the release and its parts", bytes, is_asked)?;
    Ok(serial)
}

/// Its containers are healthy, so it is kept.
pub(super) fn confirmed(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let serial = until_started_again(roof, observer)?;
    let line = serial.lines().find(|line| line.starts_with("boot: slot ")).unwrap_or_default();
    let is_kept = line.trim_end() == "boot: slot B, 3 tries left, trial:";
    observer.check(Witness::Peer, "U-Boot takes slot B again, no trial any more", line, is_kept)?;
    Ok(())
}

/// Release 2 is confirmed, and the board started again: what its boot loader does from now on is its own word. What the serial line
/// said of that.
pub(super) fn until_started_again(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<String, StepError> {
    instances_are_ready(roof, observer)?;
    let status = roof.wait_status("a release that is confirmed", INSTALL_TIMEOUT, |status| {
        status["phase"] == "idle" && status["release"] == 2
    })?;
    observer.check(Witness::OwnWord, "status says so", &status, status["trial"].is_null())?;
    let history = roof.wait_history(2)?;
    let outcome = &history["outcome"];
    observer.check(Witness::OwnWord, "and so does history", outcome, outcome == "confirmed")?;
    let noted = roof.board()?.shell("ls /data/state/", TIMEOUT)?;
    observer.check(Witness::OwnWord, "and init", noted.replace('\n', " "), !noted.contains("trial"))?;
    roof.board()?.yado(&["rescue", "reboot"])?;
    roof.wait_boot(TIMEOUT)
}

/// This slot and this release run.
pub(super) fn runs(roof: &Roof<'_>, observer: &mut Observer, expected: &str) -> Result<(), StepError> {
    let running = roof.running()?;
    observer.check(Witness::Kernel, "slot and release that run", &running, running == expected)?;
    Ok(())
}

/// All instances of the board are ready, by init's word and by their pages'.
pub(super) fn instances_are_ready(roof: &Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    for name in ["crab", "whelk"] {
        let pid = roof.wait_ready(name, TIMEOUT)?["pid"].clone();
        let board = roof.board()?;
        let comm = board.shell(&format!("cat /proc/{pid}/comm"), TIMEOUT)?;
        observer.check(Witness::Kernel, &format!("{name} runs"), format!("pid {pid}, {comm}"), comm == "init")?;
    }
    Ok(())
}
