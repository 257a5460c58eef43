//! Whether the demo kept to its time: three minutes when all is cached. It takes half of that on a machine that has nothing
//! else to do, so being too slow means something; unless something had to be made first, or others were at work.

use super::Visitor;
use crate::report::{Judgement, TimeReport};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(180);
/// An emulated board needs one processor for itself. Others who take less than this part of the machine slow it down by so
/// much at the most, and not to its double.
const NOBODY_ELSE: f64 = 0.1;

/// Compares. `made` is what was not in the cache; `others` the part of this machine that others took meanwhile, if the kernel
/// tells.
pub(super) fn compare(took: Duration, made: &[String], visitor: Visitor, others: Option<f64>) -> TimeReport {
    TimeReport {
        seconds: took.as_secs_f64(),
        limit_seconds: LIMIT.as_secs_f64(),
        judgement: judge(took, made, visitor, others),
    }
}

fn judge(took: Duration, made: &[String], visitor: Visitor, others: Option<f64>) -> Judgement {
    let not_judged = |reason: String| Judgement::NotJudged(reason);
    if !made.is_empty() {
        return not_judged(format!("not all was cached: {}", made.join(", ")));
    }
    if visitor == Visitor::AtConsole {
        return not_judged("somebody sat at the console".to_owned());
    }
    if took <= LIMIT {
        return Judgement::Kept;
    }
    match others {
        Some(others) if others < NOBODY_ELSE => Judgement::Exceeded,
        Some(others) => not_judged(format!("others took {:.0} % of this machine's processors", others * 100.0)),
        None => not_judged("this kernel does not tell who else was at work".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cached_run_on_an_idle_machine_can_be_too_slow() {
        let (quick, slow) = (LIMIT, LIMIT + Duration::from_secs(1));
        let made = ["system-demo-arm64".to_owned()];
        assert_eq!(judge(quick, &[], Visitor::None, Some(0.0)), Judgement::Kept);
        assert_eq!(judge(quick, &[], Visitor::None, Some(0.9)), Judgement::Kept, "quick in spite of others");
        assert_eq!(judge(slow, &[], Visitor::None, Some(0.05)), Judgement::Exceeded);
        for (made, visitor, others, reason) in [
            (&made[..], Visitor::None, Some(0.0), "not all was cached: system-demo-arm64"),
            (&[], Visitor::AtConsole, Some(0.0), "somebody sat at the console"),
            (&[], Visitor::None, Some(0.5), "others took 50 % of this machine's processors"),
            (&[], Visitor::None, None, "this kernel does not tell who else was at work"),
        ] {
            assert_eq!(judge(slow, made, visitor, others), Judgement::NotJudged(reason.to_owned()));
        }
    }
}
