//! How long it takes to create a container, run `true` in it, and have it gone: ours by the way that users have, and others
//! on the same root in the same guest. They take turns, so that whatever else happens falls on all.

use super::appliance::{ONCE, RACE, ROOT};
use super::rivals::{CRUN, MAP, PLACE, Rivals};
use super::{BenchError, BenchReport, Promise, output};
use crate::board::{Board, BoardError};
use crate::spread::spread;
use qemu_guest::Ended;
use qemu_guest::contest::{Contest, Contestant, Disqualified, Gone, Results, Start};
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// Each one's turns.
const LAPS: u32 = 20;
/// On a loaded machine a turn of LXC may take seconds.
const RACE_TIMEOUT: Duration = Duration::from_secs(600);

/// What is timed, to be read beside the numbers.
const DEFINITION: &str = "yado: from before `yado rescue start once` is executed until init tells the instance as stopped (its \
processes, mounts and control group are gone) and the command has ended; each time the image's signature is checked \
and the overlay made anew; the image's verity device and file system are kept after its last use, so every \
turn but the first finds them and their pages, as the others find their files in the page cache. The others: from before the command is executed until it has ended; their root is the same files in a plain directory. \
Same namespaces, user map, limits, device filter, denied calls; no network.";
/// Who is 1.
const MEASURE: &str = CRUN;
const OURS: &str = "yado rescue start";

/// Everybody's times.
#[derive(Debug, Serialize)]
pub(super) struct Starts {
    definition: &'static str,
    contestants: Vec<Times>,
    /// Who could not be timed, and why.
    disqualified: Vec<String>,
    /// What our own time is spent on, from init's decision to start.
    phases: Vec<StepTime>,
    /// Of our own start, until the payload's exec.
    steps: Vec<StepTime>,
}

/// One contestant's.
#[derive(Debug, Serialize)]
pub(super) struct Times {
    /// The contestant's name.
    pub(super) name: String,
    /// The one in the middle.
    pub(super) median_us: u64,
    min_us: u64,
    max_us: u64,
    /// Of the medians, and of the shortest.
    ratio_to_crun: Option<[f64; 2]>,
    laps_us: Vec<u64>,
}

/// The median of one step.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct StepTime {
    step: String,
    median_us: u64,
}

/// Times all. Who could not be timed, and a comparison that did not take place, are failures.
pub(super) fn measure(board: &Board, report: &mut BenchReport) {
    let Some(starts) = report.keep("a start", time_all(board)) else { return };
    for reason in not_compared(&starts) {
        report.keep::<()>("a start", Err(BenchError::NotCompared { reason }));
    }
    if let Some(Promise { what, seen, holds }) = promised(&starts) {
        report.promise(what, seen, holds);
    }
    report.starts = Some(starts);
}

fn time_all(board: &Board) -> Result<Starts, BenchError> {
    prepare(board)?;
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let ours = Contestant {
        name: OURS.to_owned(),
        before: Vec::new(),
        start: Start::Command { argv: words(&["/usr/bin/yado", "rescue", "start", ONCE]), environment: Vec::new() },
        gone: Gone::WhenStopped {
            instance: ONCE.to_owned(),
            events: words(&["/usr/bin/yado", "rescue", "events", "--format", "json"]),
        },
    };
    let contestants = std::iter::once(ours).chain(Rivals::on_board().contestants()).collect();
    let results = race(board, &Contest { laps: LAPS, contestants })?;
    let events = board.events()?;
    let starts = Starts {
        definition: DEFINITION,
        contestants: times(&results),
        disqualified: results.disqualified.iter().map(shown).collect(),
        phases: median_phases(&events),
        steps: median_steps(&events),
    };
    print(&starts);
    Ok(starts)
}

/// The most of crun's time that a start of ours may take: design.md 9. The board's clock counts instructions, so that it is the same
/// whatever QEMU translates well or badly.
const MAX_RATIO_TO_CRUN: f64 = 0.7;

/// By median or by least, whichever is less. `None`: it was not compared, which is told already.
fn promised(starts: &Starts) -> Option<Promise> {
    let [median, least] = starts.contestants.iter().find(|times| times.name == OURS)?.ratio_to_crun?;
    Some(Promise {
        what: format!("{OURS}: at most {MAX_RATIO_TO_CRUN} of crun's time"),
        seen: format!("{median:.2} by median, {least:.2} by least"),
        holds: median.min(least) <= MAX_RATIO_TO_CRUN,
    })
}

/// What is missing in the comparison: everybody's times, and ours as a ratio.
fn not_compared(starts: &Starts) -> Vec<String> {
    let mut reasons = starts.disqualified.clone();
    let ours = starts.contestants.iter().find(|times| times.name == OURS);
    if ours.is_none_or(|ours| ours.ratio_to_crun.is_none()) {
        reasons.push(format!("{OURS}: no ratio to {MEASURE}"));
    }
    reasons
}

fn prepare(board: &Board) -> Result<(), BenchError> {
    let (first, _) = MAP;
    // The system runs no program from its data partition; the others' programs and the stopwatch are there.
    let make = format!(
        "mount -o remount,nosuid,nodev,exec /data && \
         mkdir -p {PLACE}/crun {PLACE}/lxc {PLACE}/lxc-root && chown -R {first}:{first} {ROOT}"
    );
    output(board, &["/bin/sh", "-c", &make])?;
    for (path, text) in Rivals::on_board().files() {
        board.agent.write_file(&path, &text).map_err(BoardError::Agent)?;
    }
    Ok(())
}

fn race(board: &Board, contest: &Contest) -> Result<Results, BenchError> {
    let not_json = |said: String| BoardError::NotJson { what: RACE.to_owned(), said };
    let stdin = serde_json::to_string(contest).map_err(|error| not_json(error.to_string()))?;
    let running = board.agent.start_run(&[RACE], &stdin, RACE_TIMEOUT).map_err(BoardError::Agent)?;
    let ran = running.ran().map_err(BoardError::Agent)?;
    match (ran.ended, serde_json::from_str(&ran.stdout)) {
        (Ended::Code(0), Ok(results)) => Ok(results),
        (ended, _) => Err(not_json(format!("{ended:?}: {}{}", ran.stdout, ran.stderr)).into()),
    }
}

fn shown(disqualified: &Disqualified) -> String {
    let Disqualified { contestant, reason } = disqualified;
    format!("{contestant}: {reason}")
}

/// Everybody's.
pub(super) fn times(results: &Results) -> Vec<Times> {
    let mut names: Vec<&str> = Vec::new();
    for lap in &results.laps {
        if !names.contains(&lap.contestant.as_str()) {
            names.push(&lap.contestant);
        }
    }
    let laps_of = |name: &str| -> Vec<u64> {
        results.laps.iter().filter(|lap| lap.contestant == name).map(|lap| lap.micros).collect()
    };
    let measure = spread(&laps_of(MEASURE));
    let ratio = |ours: u64, theirs: u64| ours as f64 / theirs as f64;
    names
        .into_iter()
        .filter_map(|name| {
            let laps_us = laps_of(name);
            let (min_us, median_us, max_us) = spread(&laps_us)?;
            let ratio_to_crun = measure.map(|(least, median, _)| [ratio(median_us, median), ratio(min_us, least)]);
            Some(Times { name: name.to_owned(), median_us, min_us, max_us, ratio_to_crun, laps_us })
        })
        .collect()
}

/// From one of init's events about the instance to the next, in their order.
fn median_phases(events: &[Value]) -> Vec<StepTime> {
    const ENDS: [(&str, &str); 3] =
        [("started", "until its init runs"), ("exited", "it runs, and its mounts go"), ("stopped", "clearing away")];
    let mut phases: Vec<(String, Vec<u64>)> = ENDS.map(|(_, name)| (name.to_owned(), Vec::new())).into();
    let mut before = None;
    for event in events.iter().filter(|event| event["instance"] == ONCE) {
        let Some(at) = event["monotonic_us"].as_u64() else { continue };
        let is = |word: &str| event["kind"] == word || event["state"] == word;
        let ended = ENDS.iter().position(|(word, _)| is(word));
        if let (Some(index), Some(before)) = (ended, before) {
            phases[index].1.push(at - before);
        }
        if ended.is_some() || is("starting") {
            before = Some(at);
        }
    }
    medians(phases)
}

/// In the order in which a start takes them.
fn median_steps(events: &[Value]) -> Vec<StepTime> {
    let starts =
        events.iter().filter(|event| event["instance"] == ONCE).filter_map(|event| event["steps"].as_array());
    let mut steps: Vec<(String, Vec<u64>)> = Vec::new();
    for (lap, start) in starts.enumerate() {
        for step in start {
            let (Some(name), Some(micros)) = (step["step"].as_str(), step["micros"].as_u64()) else { continue };
            let index = steps.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                steps.push((name.to_owned(), Vec::new()));
                steps.len() - 1
            });
            // A step that a start takes more than once is told as one.
            let all = &mut steps[index].1;
            all.resize(lap + 1, 0);
            all[lap] += micros;
        }
    }
    medians(steps)
}

fn medians(times: Vec<(String, Vec<u64>)>) -> Vec<StepTime> {
    let median =
        |(step, micros): (String, Vec<u64>)| spread(&micros).map(|(_, median_us, _)| StepTime { step, median_us });
    times.into_iter().filter_map(median).collect()
}

fn print(starts: &Starts) {
    let Starts { definition, contestants, disqualified, phases, steps } = starts;
    println!("\ncreate a container, run `true`, gone; {LAPS} turns each, in ms\n   {definition}");
    print_times(contestants);
    for who in disqualified {
        println!("   NOT TIMED {who}");
    }
    for (what, times) in [("our phases after the decision", phases), ("our steps until exec", steps)] {
        let words: Vec<String> =
            times.iter().map(|StepTime { step, median_us }| format!("{step} {:.1}", millis(*median_us))).collect();
        println!("   {what}, medians: {}", words.join(", "));
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// As a table, in milliseconds.
pub(super) fn print_times(contestants: &[Times]) {
    println!("     median    least     most  median/crun  least/crun");
    for Times { name, median_us, min_us, max_us, ratio_to_crun, .. } in contestants {
        let [median, least] = ratio_to_crun.unwrap_or([f64::NAN; 2]);
        println!(
            "   {:>8.1} {:>8.1} {:>8.1}  {median:>11.2}  {least:>10.2}  {name}",
            millis(*median_us),
            millis(*min_us),
            millis(*max_us)
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use qemu_guest::contest::Lap;
    use serde_json::json;

    #[test]
    fn everybody_is_compared_with_crun_by_median_and_by_least() {
        let lap = |contestant: &str, micros| Lap { contestant: contestant.to_owned(), micros };
        let laps = vec![lap(OURS, 90), lap(MEASURE, 100), lap(OURS, 40), lap(MEASURE, 80), lap(OURS, 60)];
        let times = times(&Results { laps, disqualified: Vec::new() });
        let ours = &times[0];
        assert_eq!((ours.name.as_str(), ours.min_us, ours.median_us, ours.max_us), (OURS, 40, 60, 90));
        assert_eq!(ours.ratio_to_crun.unwrap(), [0.6, 0.5]);
        assert_eq!(times[1].ratio_to_crun.unwrap(), [1.0, 1.0]);
    }

    #[test]
    fn without_crun_there_is_no_ratio_and_that_is_told() {
        let lap = |contestant: &str| Lap { contestant: contestant.to_owned(), micros: 5 };
        let starts = |names: &[&str], disqualified: &[&str]| {
            let laps = names.iter().map(|name| lap(name)).collect();
            Starts {
                definition: DEFINITION,
                contestants: times(&Results { laps, disqualified: Vec::new() }),
                disqualified: disqualified.iter().map(ToString::to_string).collect(),
                phases: Vec::new(),
                steps: Vec::new(),
            }
        };
        let no_ratio = "yado rescue start: no ratio to crun run";
        assert_eq!(not_compared(&starts(&[OURS, MEASURE], &[])), [""; 0]);
        assert_eq!(not_compared(&starts(&[OURS, MEASURE], &["lxc-start -F: exit 1"])), ["lxc-start -F: exit 1"]);
        assert_eq!(not_compared(&starts(&[OURS], &["crun run: exit 1"])), ["crun run: exit 1", no_ratio]);
        assert_eq!(not_compared(&starts(&[MEASURE], &["ours: failed"])), ["ours: failed", no_ratio]);
        assert_eq!(not_compared(&starts(&[], &[])), [no_ratio]);
    }

    #[test]
    fn a_start_that_takes_more_of_cruns_time_than_it_may_breaks_its_budget() {
        let lap = |contestant: &str, micros| Lap { contestant: contestant.to_owned(), micros };
        let is_kept = |ours: [u64; 3]| {
            let laps =
                ours.into_iter().map(|micros| lap(OURS, micros)).chain((0..3).map(|_| lap(MEASURE, 100))).collect();
            let starts = Starts {
                definition: DEFINITION,
                contestants: times(&Results { laps, disqualified: Vec::new() }),
                disqualified: Vec::new(),
                phases: Vec::new(),
                steps: Vec::new(),
            };
            promised(&starts).map(|promise| promise.holds)
        };
        assert_eq!(is_kept([60, 69, 300]), Some(true));
        assert_eq!(is_kept([69, 300, 300]), Some(true), "a neighbour was at work");
        assert_eq!(is_kept([71, 71, 71]), Some(false));
        assert_eq!(is_kept([97, 97, 97]), Some(false));
        assert_eq!(is_kept([111, 111, 111]), Some(false));
    }

    #[test]
    fn steps_are_those_of_the_one_instance() {
        let started =
            |instance: &str, micros| json!({ "instance": instance, "steps": [{ "step": "loop", "micros": micros }] });
        let events = [started(ONCE, 3), started("bench0", 99), started(ONCE, 1), started(ONCE, 2)];
        assert_eq!(median_steps(&events), [StepTime { step: "loop".to_owned(), median_us: 2 }]);
    }

    #[test]
    fn phases_lie_between_events_of_the_same_start() {
        let event = |at: u64, key: &str, word: &str| json!({ "instance": ONCE, "monotonic_us": at, key: word });
        let events = [
            event(10, "state", "starting"),
            event(30, "kind", "started"),
            event(31, "state", "running"),
            event(35, "kind", "exited"),
            event(42, "state", "stopped"),
        ];
        let micros: Vec<u64> = median_phases(&events).iter().map(|phase| phase.median_us).collect();
        assert_eq!(micros, [20, 5, 7]);
    }
}
