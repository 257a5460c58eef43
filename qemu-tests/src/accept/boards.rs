//! Floors whose tests are steps on a board, each ticked by what was seen there.

use super::tally::Tally;
use crate::arch::Arch;
use crate::board::BuildError;
use crate::cache::Cache;
use crate::report::{self, Judgement, Report, TimeReport};
use crate::steps::Wanted;
use crate::update::Course;
use crate::{broken, demo, guests_on_board, hostile, update};
use std::path::Path;

pub(super) fn demo(cache: &Cache, tally: &mut Tally, arch: Arch, steps: &Wanted) {
    let run = |directory: &Path| demo::run(cache, arch, demo::Visitor::None, directory, steps);
    if let Some(report) = count_steps(tally, "demo", arch, run) {
        count_time(tally, &report);
    }
}

pub(super) fn broken(cache: &Cache, tally: &mut Tally, arch: Arch, steps: &Wanted) {
    let length = tally.length();
    count_steps(tally, "broken", arch, |directory| broken::run(cache, arch, directory, length, steps));
}

pub(super) fn hostile(cache: &Cache, tally: &mut Tally, arch: Arch, steps: &Wanted) {
    let length = tally.length();
    count_steps(tally, "hostile", arch, |directory| hostile::run(cache, arch, directory, length, steps));
}

pub(super) fn update(cache: &Cache, tally: &mut Tally, arch: Arch, course: Course, steps: &Wanted) {
    let length = tally.length();
    let kind = match course {
        Course::Usual => "update",
        Course::Faults => "update-faults",
        Course::Cycles => "update-cycles",
        Course::LaterFormats => "update-formats",
        Course::AnyWrite => "update-writes",
        Course::ByEdk2 => "update-efi",
    };
    count_steps(tally, kind, arch, |directory| update::run(cache, arch, directory, course, length, steps));
}

pub(super) fn guests(cache: &Cache, tally: &mut Tally, steps: &Wanted) {
    count_steps(tally, "guests", Arch::Arm64, |directory| guests_on_board::run(cache, directory, steps));
}

/// Runs the steps in a directory of this kind, and counts each as a test; what was seen, if there was a board.
fn count_steps(
    tally: &mut Tally,
    kind: &str,
    arch: Arch,
    run: impl FnOnce(&Path) -> Result<Report, BuildError>,
) -> Option<Report> {
    let directory = report::directory(kind, arch);
    let report = tally.check(&format!("{arch}: all that it needs is prepared"), || run(&directory))?;
    tally.check(&format!("{arch}: its report is written"), || report.write(&directory.join("report.json")));
    for step in &report.steps {
        let name = format!("{arch}: {}", step.title);
        match &step.failure {
            None => tally.pass(&name),
            Some(failure) => tally.fail(&name, failure),
        }
    }
    for number in report.steps.len()..report.planned {
        tally.fail(&format!("{arch}: step {}", number + 1), "not reached");
    }
    Some(report)
}

fn count_time(tally: &mut Tally, report: &Report) {
    let Some(TimeReport { seconds, limit_seconds, judgement }) = &report.time else { return };
    let name = format!("{}: when all is cached it takes at most {limit_seconds:.0} s", report.arch);
    let seen = format!("{seconds:.0} s");
    match judgement {
        Judgement::Kept => tally.pass(&format!("{name}: {seen}")),
        Judgement::Exceeded => tally.fail(&name, &seen),
        Judgement::NotJudged(reason) => {
            tally.skip(&name, &format!("its time is not judged: {seen}, and {reason}"));
        }
    }
}
