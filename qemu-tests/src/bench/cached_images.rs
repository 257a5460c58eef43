//! The image of an instance that has ended stays open while the machine has the memory, so that the next start is quick.

use super::BenchReport;
use crate::board::{Board, BoardError};
use std::time::Duration;

/// Longer than anything that is done for a time only.
const WHILE: &str = "15";
/// And what a loaded machine needs besides.
const TIMEOUT: Duration = Duration::from_secs(60);

/// To be asked when an instance with an image of its own has just ended.
pub(super) fn measure(board: &Board, report: &mut BenchReport) {
    let after_use = report.keep("the devices of images", devices(board, "true").map_err(Into::into));
    let later = report.keep("the devices of images", devices(board, &format!("sleep {WHILE}")).map_err(Into::into));
    let (Some(after_use), Some(later)) = (after_use, later) else { return };
    report.promise(
        "an image stays open after its last use".to_owned(),
        format!("{} verity devices, and {} after {WHILE} s", after_use.len(), later.len()),
        !later.is_empty() && later == after_use,
    );
}

/// The names of the mapper's devices, after a command.
fn devices(board: &Board, before: &str) -> Result<Vec<String>, BoardError> {
    let script = format!("{before}; cat /sys/block/dm-*/dm/name");
    let names = board.agent.output(&["/bin/sh", "-c", &script], TIMEOUT).map_err(BoardError::Agent)?;
    Ok(names.lines().map(str::to_owned).collect())
}
