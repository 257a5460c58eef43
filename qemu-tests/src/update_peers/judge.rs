//! What is promised of an update's cost, and whether it is so.

use super::PeersReport;
use super::costs::{Costs, Task, Who};
use crate::bench::Promise;

/// At least so much of the slower of a copy and Debian's `sha256sum`, which computes without the processor's own instructions for it.
const MIN_OF_LIMIT: f64 = 0.8;
/// At least so much of the slower of a copy and SHA-256 by those instructions. The aim is as above, and is missed: that the image is
/// read, hashed, written, read back and hashed again is all one processor's work here, and its disk keeps nobody waiting.
const MIN_OF_FASTEST: f64 = 0.38;
/// Of all processes of the updater together, whatever the image.
const MAX_MEMORY_KIB: u64 = 8 << 10;
/// Of a plain copy's bytes, at most, where a hundredth of the blocks is another one.
const MAX_OF_COPY: f64 = 0.05;

/// Each promise. What was not measured is not kept.
pub(super) fn promises(report: &PeersReport) -> Vec<Promise> {
    let mut promises = vec![
        speed(report, Who::Sha256sum, MIN_OF_LIMIT, "the slower of a copy and sha256sum"),
        speed(report, Who::Openssl, MIN_OF_FASTEST, "the slower of a copy and OpenSSL's SHA-256 (aim: 0.8)"),
    ];
    promises.extend(Who::PEERS.map(|peer| no_slower(report, peer)));
    promises.push(memory(report));
    promises.push(written(report));
    promises.push(idle(report));
    promises
}

fn promise(what: String, seen: Option<(String, bool)>) -> Promise {
    let (seen, holds) = seen.unwrap_or(("not measured".to_owned(), false));
    Promise { what, seen, holds }
}

fn median(report: &PeersReport, task: Task, who: Who) -> Option<f64> {
    report.costs_of(task, who)?.seconds().map(|(_, median)| median)
}

fn speed(report: &PeersReport, hash: Who, least: f64, limit_name: &str) -> Promise {
    let seen = || {
        let (limit, ours) = (report.limit_seconds(hash)?, median(report, Task::Whole, Who::Ours)?);
        let ratio = limit / ours;
        Some((format!("{ratio:.2}: {limit:.2} s and {ours:.2} s"), least <= ratio))
    };
    promise(format!("an install is at least {least} as fast as {limit_name}"), seen())
}

fn no_slower(report: &PeersReport, peer: Who) -> Promise {
    let seen = || {
        let (ours, theirs) = (median(report, Task::Whole, Who::Ours)?, median(report, Task::Whole, peer)?);
        Some((format!("{:.2} of its time: {ours:.2} s and {theirs:.2} s", ours / theirs), ours <= theirs))
    };
    promise(format!("an install is no slower than {}", peer.name()), seen())
}

fn memory(report: &PeersReport) -> Promise {
    let ours: Vec<_> = report.costs.iter().filter(|costs| costs.who == Who::Ours).collect();
    let seen = || {
        let peaks: Option<Vec<_>> = ours.iter().map(|costs| costs.peaks).collect();
        let peaks = peaks.filter(|peaks| !peaks.is_empty())?;
        let most = |of: fn(&qemu_guest::turn::Peaks) -> u64| peaks.iter().map(of).max().unwrap_or(0);
        let (together, one) = (most(|peaks| peaks.pss_kib), most(|peaks| peaks.one_process_kib));
        let seen = format!("{together} KiB, the largest process {one} KiB");
        Some((seen, 0 < together && together.max(one) <= MAX_MEMORY_KIB))
    };
    promise(format!("the updater's processes together take at most {MAX_MEMORY_KIB} KiB"), seen())
}

fn written(report: &PeersReport) -> Promise {
    let seen = || {
        let bytes = |who| report.costs_of(Task::Hundredth, who).map(|costs: &Costs| costs.disk_written_bytes);
        let (ours, copy) = (bytes(Who::Ours)?, bytes(Who::Copy)?);
        let ratio = ours as f64 / copy as f64;
        Some((format!("{ratio:.3}: {} KiB and {} KiB", ours >> 10, copy >> 10), 0 < ours && ratio <= MAX_OF_COPY))
    };
    promise(
        format!("with a hundredth of the blocks changed the disk is written at most {MAX_OF_COPY} of a plain copy"),
        seen(),
    )
}

fn idle(report: &PeersReport) -> Promise {
    let ours = report.idle_pss_kib.iter().find(|(who, _)| who == Who::Ours.name());
    let seen = ours.map(|(_, kib)| (format!("{kib} KiB"), *kib == 0));
    promise("between updates the updater takes no memory".to_owned(), seen)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::arch::Arch;
    use qemu_guest::turn::Peaks;

    fn report(seconds: [u64; 6]) -> PeersReport {
        let peaks = Peaks { processes: 2, rss_kib: 9000, pss_kib: 6000, one_process_kib: 5000 };
        let of_task = |task, written: u64| {
            Who::ALL.into_iter().zip(seconds).map(move |(who, seconds)| Costs {
                micros: vec![seconds * 1_000_000, 1, 10_000_000_000],
                disk_written_bytes: if who == Who::Ours { written } else { 1000 },
                peaks: Some(peaks),
                ..Costs::of(task, who)
            })
        };
        PeersReport {
            arch: Arch::Arm64,
            kernel: String::new(),
            seed: 1,
            image_bytes: 1 << 20,
            changed_blocks: 1,
            costs: of_task(Task::Whole, 1000).chain(of_task(Task::Hundredth, 20)).collect(),
            idle_pss_kib: vec![(Who::Ours.name().to_owned(), 0)],
            budgets: Vec::new(),
            failures: Vec::new(),
        }
    }

    fn held(report: &PeersReport) -> Vec<bool> {
        promises(report).iter().map(|promise| promise.holds).collect()
    }

    #[test]
    fn ours_is_held_against_the_slower_of_a_copy_and_of_each_hash() {
        // A copy, sha256sum, OpenSSL, ours, RAUC, SWUpdate.
        let [both, slow, fast] = [[true, true], [false, true], [true, false]];
        for (seconds, expected) in [
            ([80, 90, 40, 100, 100, 100], both),
            ([20, 90, 38, 100, 100, 100], both),
            ([38, 90, 20, 100, 100, 100], both),
            ([20, 90, 37, 100, 100, 100], fast),
            ([40, 79, 40, 100, 100, 100], slow),
        ] {
            assert_eq!(held(&report(seconds))[..2], expected, "{seconds:?}");
        }
        assert_eq!(held(&report([80, 90, 40, 100, 100, 99]))[2..4], [true, false]);
        assert_eq!(held(&report([80, 90, 40, 100, 99, 100]))[2..4], [false, true]);
    }

    #[test]
    fn what_takes_too_much_or_was_not_measured_breaks_its_promise() {
        let mut spoilt = report([80, 90, 40, 100, 100, 100]);
        assert_eq!(held(&spoilt), [true; 7]);
        spoilt.costs.iter_mut().for_each(|costs| costs.disk_written_bytes = 1000);
        spoilt.idle_pss_kib[0].1 = 1;
        let ours = spoilt.costs.iter_mut().find(|costs| costs.who == Who::Ours).unwrap();
        ours.peaks.as_mut().unwrap().pss_kib = MAX_MEMORY_KIB + 1;
        assert_eq!(held(&spoilt), [true, true, true, true, false, false, false]);
        let mut empty = report([1; 6]);
        empty.costs.clear();
        empty.idle_pss_kib.clear();
        assert_eq!(held(&empty), [false; 7]);
    }
}
