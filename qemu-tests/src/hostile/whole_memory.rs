//! One container takes all of the machine's memory that it can get without being charged with it: the machine's killer must not
//! have to run, nobody else be ended, and whoever did it is ended for that and started again.

use super::appliance::{CALM, HOSTILE};
use super::arena::{Arena, TIMEOUT};
use super::attempts::killed_outside;
use super::failure::HostileError;
use crate::board::instance;
use crate::report::Observer;
use qemu_guest::attack::{self, Attempt, Line, Outcome, Verdict, Watched};
use std::time::{Duration, Instant};

/// What was ended is seen to be ended.
const SOON: Duration = Duration::from_secs(5);

pub(super) fn taken(arena: &mut Arena<'_>, observer: &mut Observer) -> Result<(), HostileError> {
    let first = arena.rows();
    for attempt in attack::all().filter(|attempt| matches!(attempt.watched, Watched::InWholeMemory)) {
        let outcome = one(arena, attempt)?;
        arena.note(observer, attempt, outcome);
    }
    arena.judge(first, observer)
}

fn one(arena: &Arena<'_>, attempt: &Attempt) -> Result<Outcome, HostileError> {
    let before = arena.instance(CALM)?;
    let pid = arena.instance(HOSTILE)?["pid"].clone();
    let killed_before = killed_outside(arena)?;
    let began = Instant::now();
    let ran = arena.start_attack(HOSTILE, &["one", attempt.name], TIMEOUT)?.ran()?;
    let seconds = began.elapsed().as_secs_f64();
    let told = ran.stdout.lines().find_map(Line::parse).map(|line| line.outcome);
    if told.is_none() {
        // Either all of it was ended, which is told a moment later, or only the attacking program, by its own limit.
        let is_new = |status: &serde_json::Value| {
            let found = instance(status, HOSTILE).map(|found| found["pid"].clone());
            found.filter(|now| *now != pid)
        };
        let _ = arena.board()?.wait_status("hostile container that was ended", SOON, is_new);
    }
    let hostile = arena.wait_settled(HOSTILE)?;
    let calm = arena.instance(CALM)?;
    let killed = killed_outside(arena)?;
    let is_ended = hostile["pid"] != pid;
    let outcome = match (told, is_ended) {
        (Some(outcome), false) => outcome,
        (_, true) => Outcome::bounded(format!("ended after {seconds:.1} s: {}", hostile["last_failure"]["reason"])),
        (None, false) => Outcome::bounded(format!("it did not come to its end: {:?}", ran.ended)),
    };
    let is_told = !is_ended || hostile["last_failure"]["errno"] == 12;
    let is_calm = calm["pid"] == before["pid"] && calm["state"] == "ready";
    let kill = if killed == killed_before { "nobody killed" } else { "THE MACHINE'S KILLER RAN" };
    let neighbour = if is_calm { "calm as before" } else { "calm was hit" };
    let status = arena.status_latency()?;
    let figure = format!(
        "{}; {kill}, {neighbour}, {} again, status {} ms",
        outcome.figure,
        hostile["state"],
        status.as_millis()
    );
    let is_held = killed == killed_before && is_calm && is_told && hostile["state"] == "ready";
    Ok(Outcome { verdict: if is_held { outcome.verdict } else { Verdict::Succeeded }, figure })
}
