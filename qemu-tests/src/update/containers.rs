//! Releases with an image for one container alone: the machine is not started again, and the other container notices nothing.

use super::StepError;
use super::roof::{INSTALL_TIMEOUT, Roof, TIMEOUT};
use crate::board::instance;
use crate::report::{Observer, Witness};

/// What is seen of the machine and of the other container, before and after.
fn untouched(roof: &Roof<'_>) -> Result<String, StepError> {
    let board = roof.board()?;
    let boot = board.shell("cat /proc/sys/kernel/random/boot_id", TIMEOUT)?;
    let status = board.status()?;
    let pid = instance(&status, "crab").map(|crab| crab["pid"].to_string()).unwrap_or_default();
    Ok(format!("boot {boot}, crab's pid {pid}"))
}

/// A file that somebody writes into whelk's layer.
const NOTES: &str = "/root/notes";

fn inside_whelk(roof: &Roof<'_>, script: &str) -> Result<String, StepError> {
    roof.inside("whelk", script)
}

/// A good one, and then one that cannot live.
pub(super) fn alone(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let before = untouched(roof)?;
    inside_whelk(roof, &format!("echo kept > {NOTES}"))?;
    let gateway = "ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'";
    let ping = format!("ping -i 1 $({gateway}) > /tmp/pings 2>&1 & echo $! > /tmp/ping.pid");
    roof.board()?.exec_output("crab", &["sh", "-c", &ping], TIMEOUT)?;

    roof.begin_install("release-7")?;
    let history = roof.wait_history(7)?;
    let outcome = &history["outcome"];
    observer.check(Witness::OwnWord, "release 7 is confirmed", outcome, outcome == "confirmed")?;
    let seen = inside_whelk(roof, &format!("cat /etc/release {NOTES}"))?.replace('\n', " ");
    observer.check(Witness::Peer, "whelk runs the new image on what it had written", &seen, seen == "7 kept")?;
    let after = untouched(roof)?;
    observer.check(Witness::Kernel, "the machine and the other container run on", &after, after == before)?;

    roof.begin_install("release-8")?;
    let history = roof.wait_history(8)?;
    let told = format!("{}: {}", history["cause"], history["reason"]);
    observer.check(Witness::OwnWord, "release 8 fell back", &told, history["cause"] == "unwell")?;
    roof.wait_ready("whelk", INSTALL_TIMEOUT)?;
    let seen = inside_whelk(roof, &format!("cat /etc/release {NOTES}"))?.replace('\n', " ");
    observer.check(Witness::Peer, "whelk has its image and its layer back", &seen, seen == "7 kept")?;
    let after = untouched(roof)?;
    observer.check(Witness::Kernel, "the machine and the other container ran on", &after, after == before)?;

    let pings = "kill -2 $(cat /tmp/ping.pid); sleep 1; cat /tmp/pings | tail -2";
    let pings = roof.board()?.exec_output("crab", &["sh", "-c", pings], TIMEOUT)?;
    observer.check(Witness::Peer, "no ping of crab's was lost", &pings, pings.contains(" 0% packet loss"))?;
    Ok(())
}
