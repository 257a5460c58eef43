//! A clock that is set to another decade while a release is fetched, and while it is on trial: what an update waits for goes by the time
//! since the boot.

use super::StepError;
use super::faults::Steady;
use super::roof::{INSTALL_TIMEOUT, Roof, TIMEOUT};
use crate::report::{Observer, Witness};

/// Decades before and behind today, in seconds since 1970, and the year that date(1) tells of it.
const LONG_AGO: (u64, &str) = (631_152_000 + 86_400, "1990");
const FAR_AHEAD: (u64, &str) = (2_840_140_800 + 86_400, "2060");

/// Long enough for a jump.
const TRIAL_WINDOW: &str = "20s";

/// Two updates: each has a jump while it is fetched, and the other one while it is on trial.
pub(super) fn in_the_middle(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let steady = Steady::begin(roof, observer)?;
    roof.board()?.shell(&format!("echo 'trial.window = \"{TRIAL_WINDOW}\"' > /data/update.toml; sync"), TIMEOUT)?;
    for (release, slot, in_download, in_trial) in [(2, 'B', FAR_AHEAD, LONG_AGO), (6, 'A', LONG_AGO, FAR_AHEAD)] {
        if in_download == LONG_AGO {
            jump(roof, observer, "before it is fetched", FAR_AHEAD)?;
        }
        roof.begin_install(&format!("release-{release}"))?;
        roof.wait_status("an install that is under way", TIMEOUT, |status| {
            status["work"]["total"].as_u64().is_some_and(|total| 0 < total)
        })?;
        jump(roof, observer, "while it is fetched", in_download)?;
        let before = roof.server.requests().lines().count();
        let serial = roof.wait_boot(INSTALL_TIMEOUT)?;
        let after = roof.server.requests().lines().count();
        let seen = format!("{} requests more", after - before);
        observer.check(Witness::Peer, "nginx is asked for the rest after the jump", seen, before < after)?;
        let line = serial.lines().rfind(|line| line.starts_with("boot: slot ")).unwrap_or_default();
        let expected = format!("boot: slot {slot}, 2 tries left, trial: {slot}");
        observer.check(Witness::Peer, "U-Boot takes it on trial", line, line.trim_end() == expected)?;

        roof.wait_status("a release on trial", TIMEOUT, |status| status["phase"] == "trial")?;
        jump(roof, observer, "while it is on trial", in_trial)?;
        let status = roof.update_status()?;
        observer.check(Witness::OwnWord, "it is still on trial", &status["phase"], status["phase"] == "trial")?;
        roof.wait_confirmed(release)?;
        let history = roof.wait_history(release)?;
        let outcome = &history["outcome"];
        observer.check(Witness::OwnWord, "history says that it is kept", outcome, outcome == "confirmed")?;
        let running = roof.running()?;
        let is_expected = running == format!("{slot} {release}");
        observer.check(Witness::Kernel, "slot and release that run", &running, is_expected)?;
        steady.check_kept(roof, observer)?;
    }
    Ok(())
}

fn jump(roof: &Roof<'_>, observer: &mut Observer, when: &str, (seconds, year): (u64, &str)) -> Result<(), StepError> {
    let now = roof.board()?.shell(&format!("date -u -s @{seconds} > /dev/null; date -u"), TIMEOUT)?;
    observer.check(Witness::Kernel, &format!("the clock jumps {when}"), &now, now.contains(year))?;
    Ok(())
}
