//! When the first payload is executed, told by the kernel itself: it traces every program that is executed, on our board and on
//! that of whom we are compared with. From PID 1's first instruction to the payload's.

use super::appliance::FIRST_PAYLOAD;
use super::{BenchError, TIMEOUT};
use crate::board::{Board, BoardError};
use serde_json::Value;

/// Words of the kernel's command line: what is executed is traced from the start. The buffer holds thousands.
pub(super) const TRACED: &str = "trace_event=sched:sched_process_exec trace_buf_size=512K";

/// Prints what was traced.
const PRINT: &str = "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing; cat /sys/kernel/tracing/trace";

/// Microseconds from PID 1's first instruction to the first payload's, as soon as it is executed.
pub(super) fn measure(board: &Board) -> Result<u64, BenchError> {
    let ask = || {
        let trace = board.agent.output(&["/bin/sh", "-c", PRINT], TIMEOUT).map_err(BoardError::Agent)?;
        Ok(Value::String(trace))
    };
    Ok(board.wait_for("payload that was executed", TIMEOUT, ask, |trace| read(trace.as_str()?))?)
}

/// `  true-116  [000] ...  4.356828: sched_process_exec: filename=/bin/true pid=116 old_pid=116`
fn read(trace: &str) -> Option<u64> {
    let mut executed = trace.lines().filter_map(|line| {
        let (head, what) = line.split_once(": sched_process_exec: filename=")?;
        let (seconds, micros) = head.split_whitespace().next_back()?.split_once('.')?;
        let at = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
        Some((what.split(' ').next()?, what.contains(" pid=1 "), at))
    });
    // The kernel itself has executed its helper for modules before.
    let (_, _, first) = executed.find(|(_, is_init, _)| *is_init)?;
    let (_, _, payload) = executed.find(|(path, is_init, _)| *path == FIRST_PAYLOAD && !is_init)?;
    payload.checked_sub(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_is_from_pid_1_to_the_payload() {
        let trace = "# tracer: nop\n\
            \u{20}       modprobe-39      [000] .....     0.212579: sched_process_exec: filename=/sbin/modprobe pid=39 old_pid=39\n\
            \u{20}      yado-init-1       [000] .....     1.580857: sched_process_exec: filename=/init pid=1 old_pid=1\n\
            \u{20}      yado-init-1       [000] .....     2.004943: sched_process_exec: filename=/sbin/yado-init pid=1 old_pid=1\n";
        assert_eq!(read(trace), None);
        let started = format!(
            "{trace}  true-116  [000] .....  4.080857: sched_process_exec: filename=/bin/true pid=116 old_pid=116\n"
        );
        assert_eq!(read(&started), Some(2_500_000));
    }
}
