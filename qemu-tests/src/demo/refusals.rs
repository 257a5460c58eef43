//! Step 8: images that are not what was signed.

use super::limits::others_run_on;
use super::{Demo, StepError, instance};
use crate::board::BoardError;
use crate::board::tamper::Tampering;
use crate::report::Observer;
use std::collections::BTreeSet;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn each(demo: &mut Demo<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let before = demo.board.status()?;
    let mut reasons = BTreeSet::new();
    for tampering in Tampering::ALL {
        let name = tampering.instance();
        let argv = ["/usr/bin/yado", "rescue", "start", name];
        let ran = demo.board.agent.run(&argv, TIMEOUT).map_err(BoardError::Agent)?;
        let status = demo.board.status()?;
        let status = instance(&status, name).cloned().unwrap_or_default();
        let failure = &status["last_failure"];
        let shown = format!("{}: {}", failure["step"], failure["reason"]);
        let is_refused = ran.ended != qemu_guest::Ended::Code(0) && status["pid"].is_null();
        observer.check(
            &format!("{name} is refused at {}", tampering.refused_at()),
            if failure.is_null() { format!("{:?}, {status}", ran.stderr) } else { shown.clone() },
            is_refused && failure["step"] == tampering.refused_at(),
        )?;
        reasons.insert(shown);
    }
    let all = Tampering::ALL.len();
    observer.check("every reason is a different one", format!("{} of {all}", reasons.len()), reasons.len() == all)?;
    others_run_on(demo, observer, &before)
}
