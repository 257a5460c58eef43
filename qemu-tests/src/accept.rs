//! `cargo accept`: sets up what it needs and runs every floor of tests, from style to boards. A test that must skip
//! says why and is counted; the last line counts everything.
//!
//! A floor is one row of [`FLOORS`]. It runs to its end whatever failed before it, so one run tells everything.

mod beside;
pub(crate) mod budgets;
mod cargo_tests;
mod mutations;
mod room;
mod tally;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use clap::builder::{PossibleValue, PossibleValuesParser};

use crate::arch::Arch;
use crate::bench::Promise;
use crate::bench::native::budgets::{Budgets, hold_budgets};
use crate::cache::Cache;
use crate::command::Tool;
use crate::command_line::parse;
use crate::hostile::{self, Length};
use crate::provision::{self, Purpose, ensure_packages};
use crate::report::{self, Judgement, Report, TimeReport};
use crate::{bench, broken, cross, demo};
use beside::Beside;
use tally::Tally;

/// One floor of the tests.
struct Floor {
    name: &'static str,
    about: &'static str,
    run: fn(&Cache, &mut Tally, Length),
    when: When,
}

/// When a floor is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// In every run.
    Always,
    /// With `--long`, or by its name.
    Long,
}

const FLOORS: &[Floor] = &[
    Floor { name: "packages", about: "Debian packages of the host", run: packages, when: When::Always },
    Floor { name: "style", about: "rustfmt and clippy, warnings are errors", run: style, when: When::Always },
    Floor {
        name: "unit",
        about: "unit tests, policy, namespace tests, a short fuzz run",
        run: unit,
        when: When::Always,
    },
    Floor {
        name: "mutations",
        about: "tests notice what they are for: each patch in qemu-tests/mutations makes its own fail",
        run: |cache, tally, _| mutations::run(cache, tally),
        when: When::Long,
    },
    Floor {
        name: "oldest",
        about: "the whole workspace checks on rustc 1.85 for armv7",
        run: oldest_compiler,
        when: When::Always,
    },
    Floor {
        name: "cross",
        about: "static binaries for three architectures, and their size budgets",
        run: cross_build,
        when: When::Always,
    },
    Floor {
        name: "arm64",
        about: "the arm64 board in QEMU",
        run: |cache, tally, _| board(cache, tally, Arch::Arm64),
        when: When::Always,
    },
    Floor {
        name: "armhf",
        about: "the armhf board in QEMU",
        run: |cache, tally, _| board(cache, tally, Arch::Armhf),
        when: When::Always,
    },
    Floor {
        name: "broken-arm64",
        about: "what breaks on the arm64 board, and does not matter",
        run: |cache, tally, _| what_breaks(cache, tally, Arch::Arm64),
        when: When::Always,
    },
    Floor {
        name: "broken-armhf",
        about: "what breaks on the armhf board, and does not matter",
        run: |cache, tally, _| what_breaks(cache, tally, Arch::Armhf),
        when: When::Always,
    },
    Floor {
        name: "hostile-arm64",
        about: "attacks from inside containers on the arm64 board",
        run: |cache, tally, length| attacks(cache, tally, Arch::Arm64, length),
        when: When::Always,
    },
    Floor {
        name: "hostile-armhf",
        about: "attacks from inside containers on the armhf board",
        run: |cache, tally, length| attacks(cache, tally, Arch::Armhf, length),
        when: When::Long,
    },
    Floor {
        name: "native",
        about: "what a start takes on this machine, as a part of crun's time, and the memory after it",
        run: native_starts,
        when: When::Always,
    },
    Floor {
        name: "bench",
        about: "budgets of memory and size, measured on the arm64 board",
        run: budgets_on_board,
        when: When::Always,
    },
];

/// The second one of each runs beside the first, if both are run. None of them judges times that the other makes longer: a demo
/// that took too long beside other work is not judged.
const BESIDE: [(&str, &str); 2] = [("arm64", "armhf"), ("broken-arm64", "broken-armhf")];

/// Sets up what it needs and runs every test.
#[derive(Debug, Parser)]
#[command(name = "cargo accept", no_binary_name = true)]
struct Arguments {
    /// Which floors of tests; all without this
    #[arg(value_name = "FLOOR", value_parser = floor_names())]
    floors: Vec<String>,
    /// Also what takes long: attacks on the armhf board too, ten hostile containers for ten minutes instead of one, and a build
    /// for each mutation
    #[arg(long)]
    long: bool,
}

fn floor_names() -> PossibleValuesParser {
    let name = |Floor { name, about, .. }: &'static Floor| PossibleValue::new(name).help(about);
    PossibleValuesParser::new(FLOORS.iter().map(name))
}

/// Runs all floors, or those named in the arguments.
pub fn main(args: &[OsString]) -> ExitCode {
    let Arguments { floors: names, long } = match parse(args) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let cache = match Cache::open() {
        Ok(cache) => cache,
        Err(error) => {
            eprintln!("accept: {error}");
            return ExitCode::FAILURE;
        }
    };
    // A single floor takes less, and who names it knows.
    let room = if names.is_empty() { room::check(&cache) } else { Ok(()) };
    if let Err(problem) = room {
        eprintln!("accept: {problem}");
        return ExitCode::FAILURE;
    }
    let length = if long { Length::Long } else { Length::Short };
    let mut total = Tally::new();
    let mut running: Option<Beside> = None;
    let is_wanted = |of: &str| names.is_empty() || names.iter().any(|name| name == of);
    for floor in FLOORS.iter().filter(|floor| is_wanted(floor.name)) {
        if let Some(beside) = running.take_if(|beside| beside.is(floor.name)) {
            total.add(beside.finish());
            continue;
        }
        let other = BESIDE.iter().find(|(first, second)| *first == floor.name && is_wanted(second));
        if let Some((_, second)) = other.filter(|_| has_two_processors()) {
            // If it cannot be started here, its turn comes.
            running = Beside::begin(second, if long { &["--long"] } else { &[] }).ok();
        }
        println!("── {}: {}", floor.name, floor.about);
        let began = Instant::now();
        let mut tally = Tally::new();
        match (floor.when, long || !names.is_empty()) {
            (When::Long, false) => tally.skip(floor.name, "it takes long: --long runs it, and so does its name"),
            (When::Always | When::Long, _) => (floor.run)(&cache, &mut tally, length),
        }
        println!("── {}: {tally} in {:.0} s\n", floor.name, began.elapsed().as_secs_f64());
        total.add(tally);
    }
    total.print_failures_and_skips();
    println!("accept: {total}");
    if total.is_green() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn has_two_processors() -> bool {
    std::thread::available_parallelism().is_ok_and(|count| 1 < count.get())
}

fn packages(cache: &Cache, tally: &mut Tally, _: Length) {
    tally.check("host packages are installed", || ensure_packages(cache, &Purpose::ALL));
}

fn style(_: &Cache, tally: &mut Tally, _: Length) {
    tally.check("rustfmt", || Tool::new("cargo").args(["fmt", "--all", "--check"]).run_visibly());
    tally.check("clippy", || {
        let lint = ["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"];
        Tool::new("cargo").args(lint).run_visibly()
    });
    mutations::check_that_they_apply(tally);
}

/// The namespace tests start a whole Debian too: the boards' root, made for this machine.
fn unit(cache: &Cache, tally: &mut Tally, length: Length) {
    let debian = std::env::consts::ARCH.parse().ok().and_then(|arch| {
        let name = format!("a Debian root for {arch} is made, or kept");
        tally.check(&name, || provision::debian_root(cache, arch))
    });
    let debian = debian.as_deref().map(|tar| ("YADO_TEST_DEBIAN", tar));
    let applies = (length == Length::Long).then_some(("YADO_TEST_APPLIES", Path::new("10000")));
    let environment: Vec<(&str, &Path)> = debian.into_iter().chain(applies).collect();
    cargo_tests::run(tally, &["--workspace", "--locked"], &environment);
}

fn oldest_compiler(cache: &Cache, tally: &mut Tally, _: Length) {
    tally.check("the workspace, tests included, on rustc 1.85", || cross::floor_check(cache));
}

fn cross_build(cache: &Cache, tally: &mut Tally, _: Length) {
    if let Err(error) = cross::build_together(cache, &Arch::ALL, &cross::SHIPPED) {
        // Which of them it concerns is told below.
        println!("   {error}");
    }
    for arch in Arch::ALL {
        let name = format!("static programs for {arch}");
        if let Some(programs) = tally.check(&name, || cross::build(cache, arch, &cross::SHIPPED)) {
            budgets::check_sizes(tally, arch, &programs);
        }
    }
}

/// The demo is the board's test: each of its steps is a test, ticked by what was seen.
fn board(cache: &Cache, tally: &mut Tally, arch: Arch) {
    let directory = report::directory("demo", arch);
    let name = format!("a board of {arch} is prepared");
    let report = tally.check(&name, || demo::run(cache, arch, demo::Visitor::None, &directory));
    if let Some(report) = report {
        count_steps(tally, &report, demo::planned_steps(), &directory);
        count_time(tally, &report);
    }
}

fn what_breaks(cache: &Cache, tally: &mut Tally, arch: Arch) {
    let directory = report::directory("broken", arch);
    let name = format!("boards of {arch} to be broken are prepared");
    if let Some(report) = tally.check(&name, || broken::run(cache, arch, &directory)) {
        count_steps(tally, &report, broken::planned_steps(arch), &directory);
    }
}

fn attacks(cache: &Cache, tally: &mut Tally, arch: Arch, length: Length) {
    let directory = report::directory("hostile", arch);
    let name = format!("a board of {arch} to be attacked is prepared");
    if let Some(report) = tally.check(&name, || hostile::run(cache, arch, &directory, length)) {
        count_steps(tally, &report, hostile::planned_steps(arch), &directory);
    }
}

fn native_starts(cache: &Cache, tally: &mut Tally, _: Length) {
    let directory = report::directory("native", Arch::Amd64);
    match tally.check("starts are timed beside crun's", || hold_budgets(cache, &directory)) {
        Some(Budgets::Seen(budgets)) => count_budgets(tally, &budgets),
        Some(Budgets::Untold(reason)) => tally.skip("what a start takes", &reason),
        None => {}
    }
}

fn count_budgets(tally: &mut Tally, budgets: &[Promise]) {
    for Promise { what, seen, holds } in budgets {
        if *holds { tally.pass(&format!("{what}: {seen}")) } else { tally.fail(what, seen) }
    }
}

/// Times are told and kept; only what does not depend on the machine that runs the board is a test.
fn budgets_on_board(cache: &Cache, tally: &mut Tally, _: Length) {
    let arch = Arch::Arm64;
    let directory = report::directory("bench", arch);
    let measured = tally.check("the board to be measured is prepared", || bench::run(cache, arch, &directory));
    let Some(measured) = measured else { return };
    tally.check("its report is written", || measured.write(&directory.join("report.json")));
    count_budgets(tally, &measured.budgets);
    for failure in &measured.failures {
        tally.fail("measured", failure);
    }
}

fn count_time(tally: &mut Tally, report: &Report) {
    let Some(TimeReport { seconds, limit_seconds, judgement }) = &report.time else { return };
    let name = format!("{}: when all is cached it takes at most {limit_seconds:.0} s", report.arch);
    let seen = format!("{seconds:.0} s");
    match judgement {
        Judgement::Kept => tally.pass(&format!("{name}: {seen}")),
        Judgement::Exceeded => tally.fail(&name, &seen),
        Judgement::NotJudged(reason) => tally.skip(&name, &format!("{seen}, and {reason}")),
    }
}

fn count_steps(tally: &mut Tally, report: &Report, planned: usize, directory: &Path) {
    let arch = report.arch;
    tally.check(&format!("{arch}: its report is written"), || report.write(&directory.join("report.json")));
    for step in &report.steps {
        let name = format!("{arch}: {}", step.title);
        match &step.failure {
            None => tally.pass(&name),
            Some(failure) => tally.fail(&name, failure),
        }
    }
    for number in report.steps.len()..planned {
        tally.fail(&format!("{arch}: step {}", number + 1), "not reached");
    }
}
