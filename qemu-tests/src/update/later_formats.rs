//! A release whose programs have one version more of each format on the data partition: on trial it leaves the files there as the release
//! before can read them, which goes on with all of them after a fall back; confirmed, it writes its own.

use super::StepError;
use super::install::instances_are_ready;
use super::roof::{INSTALL_TIMEOUT, Roof, TIMEOUT};
use crate::report::{Observer, Witness};

/// What crab keeps.
const KEPT: &str = "/root/kept";
/// The first lines of all files that have a version: ids, why the system was started, the update that goes on, the history, and what
/// updates have done with instances.
const HEADS: &str =
    "cd /data/state; for file in ids last-boot update update-history update-instances; do head -n 1 $file; done";
const EARLIER: &str = "yado-ids 3 yado-boot 1 yado-update 1 yado-update-history 1 yado-update-instances 1";
const LATER: &str = "yado-ids 4 yado-boot 2 yado-update 2 yado-update-history 2 yado-update-instances 1";

fn heads(roof: &Roof<'_>) -> Result<String, StepError> {
    Ok(roof.board()?.shell(HEADS, TIMEOUT)?.replace('\n', " "))
}

/// What two instances have: a file of crab's, and the image and a file of whelk's, that came with an update.
fn had(roof: &Roof<'_>) -> Result<String, StepError> {
    let crab = roof.inside("crab", &format!("sha256sum < {KEPT}"))?;
    let whelk = roof.inside("whelk", &format!("cat /etc/release {KEPT}"))?.replace('\n', " ");
    Ok(format!("{crab} {whelk}"))
}

fn have_all(roof: &Roof<'_>, observer: &mut Observer, before: &str) -> Result<(), StepError> {
    instances_are_ready(roof, observer)?;
    let now = had(roof)?;
    observer.check(Witness::Peer, "the instances have image and files as before", &now, now == before)?;
    let complaints = "yado rescue logs | grep -E 'anew|later version|is damaged|cannot be read'; true";
    let complaints = roof.board()?.shell(complaints, TIMEOUT)?;
    observer.check(Witness::OwnWord, "nobody says that a file cannot be read", &complaints, complaints.is_empty())?;
    Ok(())
}

pub(super) fn left(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let said = roof.switch_on()?;
    observer.note("a board boots as the factory made it", said);
    instances_are_ready(roof, observer)?;
    roof.inside("crab", &format!("seq 800 > {KEPT}; sync"))?;
    roof.begin_install("release-7")?;
    roof.wait_history(7)?;
    roof.inside("whelk", &format!("echo whelks > {KEPT}; sync"))?;
    let before = had(roof)?;
    let ids = roof.board()?.shell("cat /data/state/ids", TIMEOUT)?;
    let earlier = heads(roof)?;
    observer.check(Witness::Peer, "release 1 writes its versions", &earlier, earlier == EARLIER)?;

    roof.begin_install("release-30")?;
    roof.wait_up(INSTALL_TIMEOUT)?;
    let running = roof.running()?;
    observer.check(Witness::Kernel, "the later release runs, on trial", &running, running == "B 30")?;
    let on_trial = heads(roof)?;
    observer.check(Witness::Peer, "on trial it writes those of before", &on_trial, on_trial == EARLIER)?;
    roof.wait_boot_of("yado.slot=A", INSTALL_TIMEOUT)?;
    let running = roof.running()?;
    observer.check(Witness::Kernel, "it is left", &running, running == "A 1")?;
    have_all(roof, observer, &before)?;
    let after = heads(roof)?;
    observer.check(Witness::Peer, "all files have the versions of before", &after, after == EARLIER)?;
    let now = roof.board()?.shell("cat /data/state/ids", TIMEOUT)?;
    observer.check(Witness::Peer, "and the instances their ids", now.replace('\n', "; "), now == ids)?;
    let history = roof.wait_history(30)?;
    let told = format!("{}: {}", history["cause"], history["reason"]);
    observer.check(Witness::OwnWord, "history knows why", &told, history["cause"] == "unwell")?;
    let first = roof.wait_history(7)?;
    let outcome = &first["outcome"];
    observer.check(Witness::OwnWord, "and what was before", outcome, outcome == "confirmed")?;
    Ok(())
}

pub(super) fn kept(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let before = had(roof)?;
    roof.begin_install("release-31")?;
    roof.wait_up(INSTALL_TIMEOUT)?;
    roof.wait_confirmed(31)?;
    let confirmed = heads(roof)?;
    let is_later = confirmed.contains("yado-update 2 yado-update-history 2");
    observer.check(Witness::Peer, "confirmed, its updater writes its own versions", &confirmed, is_later)?;
    roof.forget_resets()?;
    roof.board()?.yado(&["rescue", "reboot"])?;
    roof.wait_up(INSTALL_TIMEOUT)?;
    have_all(roof, observer, &before)?;
    let running = roof.running()?;
    observer.check(Witness::Kernel, "it runs on", &running, running == "B 31")?;
    let later = heads(roof)?;
    observer.check(Witness::Peer, "and so does its init, from its next start on", &later, later == LATER)?;
    let history = roof.wait_history(30)?;
    let outcome = &history["outcome"];
    observer.check(Witness::OwnWord, "history has what the earlier one wrote", outcome, outcome == "fell-back")?;
    Ok(())
}
