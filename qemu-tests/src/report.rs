//! What a run on a board showed, step by step: for people as it happens, for programs as one JSON file at the end.

use crate::arch::Arch;
use crate::board::ingredients::Ingredients;
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The board.
    pub arch: Arch,
    /// What was on it.
    pub kernel: Option<String>,
    /// Seconds to make everything ready, before the board was switched on.
    pub prepare_seconds: f64,
    /// Seconds from switching it on to the end.
    pub board_seconds: f64,
    /// How long all of it took against what is promised, where something is.
    pub time: Option<TimeReport>,
    /// How many steps were to be taken.
    pub planned: usize,
    /// Each step that was begun.
    pub steps: Vec<StepReport>,
}

/// How long a run took, and what is promised.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimeReport {
    /// From its beginning to its end.
    pub seconds: f64,
    /// The most that is promised.
    pub limit_seconds: f64,
    /// How the one compares to the other.
    pub judgement: Judgement,
}

/// Whether a run kept to its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// It did.
    Kept,
    /// It did not, and nothing excuses it.
    Exceeded,
    /// Its time says nothing, and why.
    NotJudged(String),
}

/// One step.
#[derive(Debug, Serialize)]
pub struct StepReport {
    /// Its number, from 1.
    pub number: usize,
    /// What it is to show.
    pub title: String,
    /// How long it took.
    pub seconds: f64,
    /// What was seen, in the order in which it was.
    pub observations: Vec<Observation>,
    /// What was not as it should be; the step ended there.
    pub failure: Option<String>,
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Observation {
    /// What was compared with what should be.
    Check {
        /// What should be so.
        what: String,
        /// Who says what was seen.
        witness: Witness,
        /// What was seen.
        seen: String,
        /// Whether what was seen is what should be.
        holds: bool,
    },
    /// What was only told: a figure, or what a later check builds on.
    Note {
        /// What it is.
        what: String,
        /// What was seen.
        seen: String,
    },
}

/// Who says what was seen on a board. What is tested must not be the only one to say that it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Witness {
    /// The kernel of the board, or its boot loader: /proc, /sys, groups, mounts, device-mapper, the serial line.
    Kernel,
    /// A program inside a container or on the board that is not under test: busybox's ping, systemd, a program that attacks.
    Peer,
    /// The machine that runs the board: a server on it, the emulator, the board's disk as its tools read it.
    OtherEnd,
    /// A program under test: a status, an event, a log or a message of yado, init, netd or the updater.
    OwnWord,
}

impl Witness {
    /// As it stands on a line of a terminal.
    const fn short(self) -> &'static str {
        match self {
            Witness::Kernel => "kernel",
            Witness::Peer => "peer",
            Witness::OtherEnd => "other end",
            Witness::OwnWord => "own word",
        }
    }
}

/// Where runs of this kind leave what they saw of a board.
pub fn directory(kind: &str, arch: Arch) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    target.join(kind).join(arch.debian())
}

impl Report {
    /// Of a run on boards made of these ingredients that ends now.
    pub fn ended(
        ingredients: &Ingredients,
        prepare_seconds: f64,
        switched_on: Instant,
        planned: usize,
        steps: Vec<StepReport>,
    ) -> Report {
        Report {
            arch: ingredients.arch,
            kernel: Some(ingredients.kernel.release.clone()),
            prepare_seconds,
            board_seconds: switched_on.elapsed().as_secs_f64(),
            time: None,
            planned,
            steps,
        }
    }

    /// Whether all planned steps were taken and passed, and not too slowly.
    pub fn is_passed(&self) -> bool {
        let is_too_slow = self.time.as_ref().is_some_and(|time| time.judgement == Judgement::Exceeded);
        self.steps.len() == self.planned && self.steps.iter().all(|step| step.failure.is_none()) && !is_too_slow
    }

    /// Writes the machine-readable form.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
    }

    /// The table at the end.
    pub fn print_summary(&self) {
        println!();
        for step in &self.steps {
            let mark = if step.failure.is_none() { "✓" } else { "✗" };
            println!("{mark} {:>2}  {:>6.1} s  {}", step.number, step.seconds, step.title);
            if let Some(failure) = &step.failure {
                println!("               {failure}");
            }
        }
        let left = self.planned.saturating_sub(self.steps.len());
        if left != 0 {
            println!("· {left} steps were not reached");
        }
        println!("{:>13.1} s  on the board, {:.1} s before it", self.board_seconds, self.prepare_seconds);
        if let Some(time) = &self.time {
            println!("{time}");
        }
    }
}

impl Display for TimeReport {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TimeReport { seconds, limit_seconds, judgement } = self;
        let (mark, reason) = match judgement {
            Judgement::Kept => ("✓", String::new()),
            Judgement::Exceeded => ("✗", ": too slow".to_owned()),
            Judgement::NotJudged(reason) => ("·", format!("; not judged: {reason}")),
        };
        write!(out, "{mark} {seconds:>11.1} s  in all; when all is cached it may take {limit_seconds:.0} s{reason}")
    }
}

/// A step that is being taken: says what it sees.
#[derive(Debug)]
pub struct Observer {
    number: usize,
    title: String,
    began: Instant,
    observations: Vec<Observation>,
}

/// Something was not as it should be.
#[derive(Debug)]
pub struct NotSo {
    what: String,
    seen: String,
}

impl Observer {
    /// Begins a step.
    pub fn begin(number: usize, title: &str) -> Observer {
        println!("\n{number}. {title}");
        Observer { number, title: title.to_owned(), began: Instant::now(), observations: Vec::new() }
    }

    /// Takes a step to its end, or to what is not as it should be.
    pub fn observe<E: Display>(
        number: usize,
        title: &str,
        take: impl FnOnce(&mut Observer) -> Result<(), E>,
    ) -> StepReport {
        let mut observer = Observer::begin(number, title);
        let outcome = take(&mut observer).map_err(|error| error.to_string());
        observer.end(outcome)
    }

    /// Keeps what was seen, who says so, and whether it is `what` should be. An error ends the step.
    pub fn check(&mut self, witness: Witness, what: &str, seen: impl Display, holds: bool) -> Result<(), NotSo> {
        let seen = one_line(seen);
        say(if holds { "✓" } else { "✗" }, witness.short(), what, &seen);
        self.observations.push(Observation::Check { what: what.to_owned(), witness, seen: seen.clone(), holds });
        if holds { Ok(()) } else { Err(NotSo { what: what.to_owned(), seen }) }
    }

    /// Keeps what was seen, where nothing can be wrong with it.
    pub fn note(&mut self, what: &str, seen: impl Display) {
        let seen = one_line(seen);
        say("·", "note", what, &seen);
        self.observations.push(Observation::Note { what: what.to_owned(), seen });
    }

    /// Ends the step. One that went well has failed all the same if nobody but what is tested said so.
    pub fn end(self, outcome: Result<(), String>) -> StepReport {
        let Observer { number, title, began, observations } = self;
        let failure = outcome.err().or_else(|| lack_of_witnesses(&observations).map(str::to_owned));
        if let Some(failure) = &failure {
            println!("   ✗ {failure}");
        }
        StepReport { number, title, seconds: began.elapsed().as_secs_f64(), observations, failure }
    }
}

fn lack_of_witnesses(observations: &[Observation]) -> Option<&'static str> {
    let mut witnesses = observations.iter().filter_map(|observation| match observation {
        Observation::Check { witness, .. } => Some(*witness),
        Observation::Note { .. } => None,
    });
    match witnesses.next() {
        None => Some("nothing was checked"),
        Some(first) => {
            let is_own = |witness| witness == Witness::OwnWord;
            (is_own(first) && witnesses.all(is_own)).then_some("only our own word")
        }
    }
}

fn one_line(seen: impl Display) -> String {
    seen.to_string().trim().replace('\n', " ⏎ ")
}

fn say(mark: &str, witness: &str, what: &str, seen: &str) {
    println!("   {mark} [{witness}] {what}: {}", shortened(seen));
    // Somebody watches a pipe.
    let _ = io::stdout().flush();
}

/// One line of a terminal; the whole is in the report.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 110;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl Display for NotSo {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "not so: {}: {}", self.what, self.seen)
    }
}

impl std::error::Error for NotSo {}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(planned: usize, failures: &[Option<&str>]) -> Report {
        let step = |failure: &Option<&str>| StepReport {
            number: 1,
            title: String::new(),
            seconds: 0.0,
            observations: Vec::new(),
            failure: failure.map(str::to_owned),
        };
        Report {
            arch: Arch::Arm64,
            kernel: None,
            prepare_seconds: 0.0,
            board_seconds: 0.0,
            time: None,
            planned,
            steps: failures.iter().map(step).collect(),
        }
    }

    #[test]
    fn a_run_passes_only_when_every_planned_step_did() {
        assert!(report(2, &[None, None]).is_passed());
        assert!(!report(2, &[None]).is_passed(), "a step was not reached");
        assert!(!report(2, &[None, Some("no lease")]).is_passed());
    }

    #[test]
    fn a_step_that_only_what_is_tested_speaks_of_fails() {
        let ended = |witnesses: &[Witness]| {
            let mut observer = Observer::begin(1, "one");
            observer.note("told", "by nobody");
            for witness in witnesses {
                observer.check(*witness, "a", 1, true).expect("it holds");
            }
            observer.end(Ok(())).failure
        };
        assert_eq!(ended(&[]).as_deref(), Some("nothing was checked"));
        assert_eq!(ended(&[Witness::OwnWord, Witness::OwnWord]).as_deref(), Some("only our own word"));
        for other in [Witness::Kernel, Witness::Peer, Witness::OtherEnd] {
            assert_eq!(ended(&[Witness::OwnWord, other]), None);
            assert_eq!(ended(&[other, Witness::OwnWord]), None);
        }
    }

    #[test]
    fn a_run_that_was_too_slow_has_not_passed_and_one_that_is_not_judged_has() {
        let passes = |judgement| {
            let time = Some(TimeReport { seconds: 200.0, limit_seconds: 180.0, judgement });
            Report { time, ..report(1, &[None]) }.is_passed()
        };
        assert!(passes(Judgement::Kept));
        assert!(passes(Judgement::NotJudged("somebody else was at work".to_owned())));
        assert!(!passes(Judgement::Exceeded));
    }

    #[test]
    fn a_check_that_fails_is_kept_and_ends_the_step() {
        let mut observer = Observer::begin(1, "one");
        assert!(observer.check(Witness::Kernel, "a", "1\n2", true).is_ok());
        let not_so = observer.check(Witness::Kernel, "b", 3, false).map_err(|not_so| not_so.to_string());
        assert_eq!(not_so, Err("not so: b: 3".to_owned()));
        let step = observer.end(not_so);
        let [first, _] = step.observations.as_slice() else { panic!("{:?}", step.observations) };
        let json = serde_json::to_value(first).ok();
        let wanted = serde_json::json!({ "what": "a", "witness": "kernel", "seen": "1 ⏎ 2", "holds": true });
        assert_eq!(json, Some(wanted));
        assert_eq!(step.failure.as_deref(), Some("not so: b: 3"));
    }
}
