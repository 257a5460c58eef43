//! The image of an instance that has ended stays open, so that the next start is quick; for ten seconds and no longer.

use super::BenchReport;
use crate::board::{Board, BoardError};
use serde_json::{Value, json};
use std::time::Duration;

/// Ten seconds, and what a loaded machine needs to notice.
const TIMEOUT: Duration = Duration::from_secs(20);

/// To be asked when an instance with an image of its own has just ended.
pub(super) fn measure(board: &Board, report: &mut BenchReport) {
    let after_use = report.keep("the devices of images", devices(board).map_err(Into::into));
    let Some(Value::Array(after_use)) = after_use else { return };
    let later = board.wait_for(
        "the device of an unused image gone",
        TIMEOUT,
        || devices(board),
        |now| now.as_array().filter(|now| now.len() < after_use.len()).map(Vec::len),
    );
    let Some(later) = report.keep("an unused image is let go of", later.map_err(Into::into)) else { return };
    report.promise(
        "an image is kept for a while after its last use, and then its device is gone".to_owned(),
        format!("{} verity devices, then {later}", after_use.len()),
        later + 1 == after_use.len(),
    );
}

/// The names of the mapper's devices.
fn devices(board: &Board) -> Result<Value, BoardError> {
    let argv = ["/bin/sh", "-c", "cat /sys/block/dm-*/dm/name"];
    let names = board.agent.output(&argv, TIMEOUT).map_err(BoardError::Agent)?;
    Ok(json!(names.lines().collect::<Vec<_>>()))
}
