//! A simulated GPIO chip on a running board, as `gpio-sim` makes it.

use super::{Board, BoardError};
use std::time::Duration;

/// Makes a chip of eight lines with this label, and gives back its directory in sysfs, whose last part is the chip's name.
pub fn make(board: &Board, label: &str, timeout: Duration) -> Result<String, BoardError> {
    let script = format!(
        "set -e
modprobe gpio-sim
[ -d /sys/kernel/config/gpio-sim ] || mount -t configfs configfs /sys/kernel/config
cd /sys/kernel/config/gpio-sim
mkdir -p {label}/bank0
echo 8 > {label}/bank0/num_lines
echo {label} > {label}/bank0/label
echo 1 > {label}/live
echo /sys/devices/platform/$(cat {label}/dev_name)/$(cat {label}/bank0/chip_name)"
    );
    let said = board.agent.output(&["/bin/sh", "-c", &script], timeout).map_err(BoardError::Agent)?;
    Ok(said.trim().to_owned())
}
