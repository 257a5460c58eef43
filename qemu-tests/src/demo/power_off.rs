//! Step 10: the board is told to power off, and its disk is looked at afterwards by tools that are not ours.

use super::{Demo, StepError, id_of};
use crate::board::BoardError;
use crate::board::agent::AgentError;
use crate::board::container_images::STOPPED_TRACE;
use crate::command::{CommandError, Tool};
use crate::report::{Observer, Witness};
use std::time::Duration;

/// The longest stop of an instance, and the board's own.
const TIMEOUT: Duration = Duration::from_secs(150);

pub(super) fn orderly(demo: &mut Demo<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let debian = id_of(&demo.board.status()?, "debian");
    match demo.board.yado(&["rescue", "poweroff"]) {
        // Whoever sat at the console did it already.
        Ok(_) | Err(BoardError::Agent(AgentError::Closed { .. } | AgentError::Io(_))) => {}
        Err(error) => return Err(error.into()),
    }
    demo.board.qemu.wait_end(TIMEOUT).map_err(BoardError::Qemu)?;
    let serial = demo.board.serial();
    let last = serial.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    observer.check(Witness::Kernel, "the board powered itself off", last, serial.contains("reboot: Power down"))?;

    let data = demo.board.partition("data")?;
    let checked = Tool::new("e2fsck").args(["-f", "-n"]).arg(&data).output();
    let (shown, is_clean) = match &checked {
        Ok(said) => (last_line(said), true),
        Err(error) => (error.to_string(), false),
    };
    observer.check(Witness::OtherEnd, "e2fsck finds the data partition clean", shown, is_clean)?;
    let head = text(Tool::new("dumpe2fs").arg("-h").arg(&data).output());
    let state = head.lines().find(|line| line.starts_with("Filesystem state:")).unwrap_or_default();
    let is_unmounted = state.ends_with("clean") && !head.contains("needs_recovery");
    observer.check(Witness::OtherEnd, "it was unmounted", state, is_unmounted)?;
    let trace = format!("/layers/{debian}/upper{STOPPED_TRACE}");
    let stat = text(Tool::new("debugfs").args(["-R", &format!("stat {trace}")]).arg(&data).output());
    let kind = stat.lines().next().unwrap_or_default();
    observer.check(
        Witness::OtherEnd,
        "Debian's systemd stopped its units",
        format!("{STOPPED_TRACE}: {kind}"),
        kind.contains("regular"),
    )?;
    Ok(())
}

fn last_line(text: &str) -> String {
    text.trim().lines().last().unwrap_or_default().to_owned()
}

fn text(output: Result<String, CommandError>) -> String {
    output.unwrap_or_else(|error| error.to_string())
}
