//! Step 8: images that are not what was signed.

use super::limits::others_run_on;
use super::start::output;
use super::{Demo, StepError};
use crate::board::tamper::Tampering;
use crate::board::{BoardError, instance};
use crate::report::{Observer, Witness};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(60);

/// How many devices there are of device-mapper, and loop devices that have a file.
const DEVICES: &str = "ls -d /sys/block/dm-* /sys/block/loop*/loop 2>/dev/null | wc -l";

/// What there is of the instance `$1` beyond `$2` devices. The kernel removes those that nobody uses when it has time.
const REMAINS: &str = r#"
for try in 1 2 3 4 5 6 7 8 9 10; do
    left=$(ls -d /sys/fs/cgroup/instances/$1.* 2>/dev/null
        grep -l "instances/$1\." /proc/[0-9]*/cgroup 2>/dev/null
        grep "/instances/$1\." /proc/mounts
        devices=$(ls -d /sys/block/dm-* /sys/block/loop*/loop 2>/dev/null | wc -l); [ "$devices" = "$2" ] || echo "$devices devices, before $2")
    [ -n "$left" ] || break
    sleep 0.3
done
echo "$left"
"#;

pub(super) fn each(demo: &mut Demo<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let before = demo.board.status()?;
    let devices_before = output(demo, &["/bin/sh", "-c", DEVICES])?;
    for tampering in Tampering::ALL {
        let name = tampering.instance();
        let argv = ["/usr/bin/yado", "rescue", "start", name];
        let ran = demo.board.agent.run(&argv, TIMEOUT).map_err(BoardError::Agent)?;
        let status = demo.board.status()?;
        let status = instance(&status, name).cloned().unwrap_or_default();
        let failure = &status["last_failure"];
        let is_refused = ran.ended != qemu_guest::Ended::Code(0) && status["pid"].is_null();
        let is_reason = failure["reason"].as_str().is_some_and(|reason| reason.contains(tampering.reason()));
        observer.check(
            Witness::OwnWord,
            &format!("{name} is refused at {}, with its reason", tampering.refused_at()),
            match failure.is_null() {
                true => format!("{:?}, {status}", ran.stderr),
                false => format!("{}: {}", failure["step"], failure["reason"]),
            },
            is_refused && failure["step"] == tampering.refused_at() && is_reason,
        )?;
        let left = output(demo, &["/bin/sh", "-c", REMAINS, "remains", name, devices_before.trim()])?;
        observer.check(
            Witness::Kernel,
            &format!("{name} has left no process, no group, no mount, no loop device and no device of device-mapper"),
            if left.trim().is_empty() { "nothing" } else { left.trim() },
            left.trim().is_empty(),
        )?;
    }
    others_run_on(demo, observer, &before)
}
