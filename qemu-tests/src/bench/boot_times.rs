//! The way from PID 1's first instruction to the first containers' exec. What the initramfs does is told by the kernel's
//! log, the rest by init's events; a stage that is in both says how the two clocks lie to each other. When a stage began and
//! what it waited for is in the log.

use super::appliance::{AT_BOOT, FIRST};
use super::{BenchError, BenchReport, output};
use crate::board::Board;
use serde::Serialize;
use serde_json::Value;

/// What was reached when.
#[derive(Debug, Serialize)]
pub(super) struct BootTimes {
    /// In the order in which they were reached.
    milestones: Vec<Milestone>,
    /// What init does beside each other, in the order in which they ended.
    stages: Vec<StageTime>,
    /// Of each container that starts at boot.
    starts: Vec<FirstStart>,
}

/// Something that was reached.
#[derive(Debug, Serialize)]
struct Milestone {
    what: String,
    /// Since PID 1's first instruction.
    at_us: u64,
}

/// A part of init's own start. All times are since PID 1's first instruction.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct StageTime {
    stage: String,
    began_us: u64,
    ended_us: u64,
    /// The stages that had to end before it began.
    waited_for: String,
}

/// A container's start.
#[derive(Debug, Serialize)]
struct FirstStart {
    instance: String,
    /// The stages that had to end before.
    waited_for: String,
    steps: Vec<StepTime>,
}

#[derive(Debug, Serialize)]
struct StepTime {
    step: String,
    micros: u64,
}

/// The kernel says this right before it executes the first program.
const FIRST_INSTRUCTION: &str = "Run /init as init process";
/// Lines of the kernel's log, and what they say has been reached.
const IN_LOG: [(&str, &str); 2] =
    [("yado-init: slot ", "slot found, its signatures verified"), ("mounted with root inode", "its root is mounted")];
/// A stage that is in the log and among the events.
const IN_BOTH: &str = "specs";

pub(super) fn measure(board: &Board, report: &mut BenchReport) -> Result<BootTimes, BenchError> {
    let log = output(board, &["/bin/dmesg"])?;
    let events = board.events()?;
    let times = read(&log, &events)?;
    print(&times);
    report.promise(
        format!("{FIRST}, which has no nic, is started before netd listens"),
        if is_before_netd(&events) { "it was" } else { "it was not" }.to_owned(),
        is_before_netd(&events),
    );
    Ok(times)
}

/// Whether the first container was started, or at least begun with, when netd was not there yet.
fn is_before_netd(events: &[Value]) -> bool {
    let position = |is_it: &dyn Fn(&Value) -> bool| events.iter().position(is_it);
    let starting = position(&|event| event["instance"] == FIRST && event["state"] == "starting");
    let netd = position(&|event| event["stage"] == "netd");
    matches!((starting, netd), (Some(starting), Some(netd)) if starting < netd)
}

fn read(log: &str, events: &[Value]) -> Result<BootTimes, BenchError> {
    let lacks = |place: &str, wanted: &str| BenchError::Lacks { place: place.to_owned(), wanted: wanted.to_owned() };
    let in_log = |text: &str| find_in_log(log, text).ok_or_else(|| lacks("the kernel's log", text));
    let begin = in_log(FIRST_INSTRUCTION)?;
    let stage = |name: &str| events.iter().find(|event| event["stage"] == name).and_then(time_of);
    let stages = log.lines().filter_map(|line| read_stage(line, begin)).collect();
    let in_events = stage(IN_BOTH).ok_or_else(|| lacks("the events", IN_BOTH))?;
    let offset = in_log(&format!("yado-init: stage: {IN_BOTH}"))? - in_events;

    let mut reached = vec![("PID 1 begins, in the initramfs".to_owned(), begin)];
    for (text, what) in IN_LOG {
        reached.push((what.to_owned(), in_log(text)?));
    }
    for event in events {
        let Some(at) = time_of(event).map(|at| at + offset) else { continue };
        let instance = event["instance"].as_str().unwrap_or_default();
        if let Some(stage) = event["stage"].as_str() {
            reached.push((format!("stage {stage}"), at));
        } else if starts_at_boot(instance) && event["kind"] == "started" {
            let took = event["start_us"].as_i64().unwrap_or(0);
            reached.push((format!("{instance}: decided to start"), at - took));
            reached.push((format!("{instance}: its init is executed"), at));
        }
    }
    reached.sort_by_key(|(_, at)| *at);
    let milestones =
        reached.into_iter().map(|(what, at)| Milestone { what, at_us: u64::try_from(at - begin).unwrap_or(0) });
    let starts = events.iter().filter_map(|event| first_start(event, log)).collect();
    Ok(BootTimes { milestones: milestones.collect(), stages, starts })
}

fn starts_at_boot(instance: &str) -> bool {
    instance == FIRST || AT_BOOT.contains(&instance)
}

/// Microseconds of the first line with this text.
fn find_in_log(log: &str, text: &str) -> Option<i64> {
    log.lines().filter_map(split_line).find_map(|(at, message)| message.contains(text).then_some(at))
}

/// Microseconds and message of `[    1.234567] message`.
fn split_line(line: &str) -> Option<(i64, &str)> {
    let (time, message) = line.strip_prefix('[')?.split_once(']')?;
    let (seconds, micros) = time.trim().split_once('.')?;
    Some((seconds.parse::<i64>().ok()? * 1_000_000 + micros.parse::<i64>().ok()?, message))
}

/// `yado-init: stage: data (1607 ms, after system)`
fn read_stage(line: &str, begin: i64) -> Option<StageTime> {
    let (at, message) = split_line(line)?;
    let (stage, rest) = message.split_once("yado-init: stage: ")?.1.split_once(" (")?;
    let (took_ms, waited_for) = rest.strip_suffix(')')?.split_once(" ms, after ")?;
    let since = |at: i64| u64::try_from(at - begin).unwrap_or(0);
    Some(StageTime {
        stage: stage.to_owned(),
        began_us: since(at - took_ms.parse::<i64>().ok()? * 1000),
        ended_us: since(at),
        waited_for: waited_for.to_owned(),
    })
}

fn time_of(event: &Value) -> Option<i64> {
    event["monotonic_us"].as_i64()
}

fn first_start(event: &Value, log: &str) -> Option<FirstStart> {
    let instance = event["instance"].as_str().filter(|name| starts_at_boot(name))?;
    let steps = event["steps"].as_array()?.iter().filter_map(|step| {
        Some(StepTime { step: step["step"].as_str()?.to_owned(), micros: step["micros"].as_u64()? })
    });
    let told = format!("yado-init: {instance}: starts after ");
    let waited_for = log.lines().find_map(|line| Some(line.split_once(&told)?.1)).unwrap_or("?").to_owned();
    Some(FirstStart { instance: instance.to_owned(), waited_for, steps: steps.collect() })
}

fn print(times: &BootTimes) {
    println!("\nfrom PID 1's first instruction to the containers' exec, in ms (data partition formatted before)");
    println!("      since   step");
    let mut before = 0;
    for Milestone { what, at_us } in &times.milestones {
        println!("   {:>8.1} {:>6.1}  {what}", millis(*at_us), millis(at_us - before));
        before = *at_us;
    }
    println!("      began    ended   stage, and what it waited for");
    for StageTime { stage, began_us, ended_us, waited_for } in &times.stages {
        println!("   {:>8.1} {:>8.1}  {stage}: {waited_for}", millis(*began_us), millis(*ended_us));
    }
    for FirstStart { instance, waited_for, .. } in &times.starts {
        println!("   {instance} waited for: {waited_for}");
    }
    for FirstStart { instance, steps, .. } in &times.starts {
        let words: Vec<String> =
            steps.iter().map(|StepTime { step, micros }| format!("{step} {:.1}", millis(*micros))).collect();
        println!("   {instance}: {}", words.join(", "));
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use serde_json::json;

    const LOG: &str = "[    2.000000] Run /init as init process\n\
        [    2.300000] yado-init: slot A: 00, release 0.1, signed by release\n\
        [    2.400000] erofs: (device dm-0): mounted with root inode @ nid 36.\n\
        [    3.000010] yado-init: stage: specs (250 ms, after data)\n\
        [    3.000020] yado-init: bench0: starts after modules, specs, netd\n";

    fn events() -> Vec<Value> {
        vec![
            json!({ "kind": "stage", "stage": "specs", "monotonic_us": 3_500_010, "instance": null }),
            json!({ "kind": "started", "start_us": 100_000, "monotonic_us": 4_500_000, "instance": "bench0",
                "steps": [{ "step": "verity", "micros": 7 }] }),
            json!({ "kind": "started", "start_us": 1, "monotonic_us": 5_000_000, "instance": "once", "steps": [] }),
        ]
    }

    #[test]
    fn the_two_clocks_are_brought_together() {
        let times = read(LOG, &events()).unwrap();
        let reached: Vec<(&str, u64)> =
            times.milestones.iter().map(|milestone| (milestone.what.as_str(), milestone.at_us)).collect();
        assert_eq!(
            reached,
            [
                ("PID 1 begins, in the initramfs", 0),
                ("slot found, its signatures verified", 300_000),
                ("its root is mounted", 400_000),
                ("stage specs", 1_000_010),
                ("bench0: decided to start", 1_900_000),
                ("bench0: its init is executed", 2_000_000),
            ]
        );
        assert_eq!((times.starts.len(), times.starts[0].steps[0].micros), (1, 7));
        assert_eq!(times.starts[0].waited_for, "modules, specs, netd");
        let specs = StageTime {
            stage: "specs".to_owned(),
            began_us: 750_010,
            ended_us: 1_000_010,
            waited_for: "data".to_owned(),
        };
        assert_eq!(times.stages, [specs]);
    }

    #[test]
    fn whoever_is_started_after_netd_waited_for_it() {
        let starting = json!({ "kind": "state", "state": "starting", "instance": FIRST });
        let netd = json!({ "kind": "stage", "stage": "netd", "instance": null });
        assert!(is_before_netd(&[starting.clone(), netd.clone()]));
        for events in [vec![netd.clone(), starting.clone()], vec![starting], vec![netd]] {
            assert!(!is_before_netd(&events), "{events:?}");
        }
    }

    #[test]
    fn a_log_without_the_first_instruction_is_no_measurement() {
        let error = read("", &events()).unwrap_err();
        assert_eq!(error.to_string(), "the kernel's log: no Run /init as init process");
    }
}
