//! `cargo accept`: sets up what it needs and runs every floor of tests, from style to boards. A test that must skip
//! says why and is counted; the last line counts everything.
//!
//! A floor is one row of [`FLOORS`]. It runs to its end whatever failed before it, so one run tells everything.

mod beside;
mod boards;
pub(crate) mod budgets;
mod cargo_tests;
mod expected_skips;
mod fuzzing;
mod guests;
mod later_release;
mod mutations;
mod room;
mod tally;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::arch::Arch;
use crate::bench::Promise;
use crate::bench::native::budgets::{Budgets, hold_budgets};
use crate::bench::native::image_build;
use crate::cache::Cache;
use crate::command::Tool;
use crate::command_line::parse;
use crate::length::Length;
use crate::provision::{self, Purpose, ensure_packages};
use crate::report;
use crate::steps::Wanted;
use crate::update::Course;
use crate::{bench, cross, update_peers};
use beside::Beside;
use tally::Tally;

/// One floor of the tests.
struct Floor {
    name: &'static str,
    about: &'static str,
    run: Run,
    when: When,
}

/// What is run.
enum Run {
    /// Tests, all of them.
    Tests {
        run: fn(&Cache, &mut Tally),
        /// As many as there are at least, a skipped one being one too: who counts them is the program that runs them.
        least: usize,
    },
    /// Those steps on a board that are wanted. The table of steps says how many there are, and each that is not reached fails.
    Steps(fn(&Cache, &mut Tally, &Wanted)),
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
    Floor {
        name: "packages",
        about: "Debian packages of the host",
        run: Run::Tests { run: packages, least: 1 },
        when: When::Always,
    },
    Floor {
        name: "style",
        about: "rustfmt and clippy, warnings are errors",
        run: Run::Tests { run: style, least: 3 },
        when: When::Always,
    },
    Floor {
        name: "unit",
        about: "unit tests, policy, namespace tests, a short fuzz run",
        run: Run::Tests { run: unit, least: 1400 },
        when: When::Always,
    },
    Floor {
        name: "provision",
        about: "what boards are made of is fetched and built, or in the cache",
        run: Run::Tests { run: board_parts, least: 1 },
        when: When::Always,
    },
    Floor {
        name: "mutations",
        about: "tests notice what they are for: each patch in qemu-tests/mutations makes its own fail",
        run: Run::Tests { run: mutations::run, least: mutations::LEAST },
        when: When::Long,
    },
    Floor {
        name: "fuzz",
        about: "each parser, for half a minute, guided by what of it is reached",
        run: Run::Tests { run: fuzzing::run, least: 74 },
        when: When::Long,
    },
    Floor {
        name: "cross",
        about: "static programs for both boards, and their size budgets",
        run: Run::Tests { run: cross_build, least: 6 },
        when: When::Always,
    },
    Floor {
        name: "arm64",
        about: "the arm64 board in QEMU",
        run: Run::Steps(|cache, tally, steps| boards::demo(cache, tally, Arch::Arm64, steps)),
        when: When::Always,
    },
    Floor {
        name: "hostile-arm64",
        about: "attacks from inside containers on the arm64 board",
        run: Run::Steps(|cache, tally, steps| boards::hostile(cache, tally, Arch::Arm64, steps)),
        when: When::Always,
    },
    Floor {
        name: "armhf",
        about: "the armhf board in QEMU",
        run: Run::Steps(|cache, tally, steps| boards::demo(cache, tally, Arch::Armhf, steps)),
        when: When::Always,
    },
    Floor {
        name: "update-arm64",
        about: "releases on the arm64 board: kept, or back to the one before",
        run: Run::Steps(|cache, tally, steps| boards::update(cache, tally, Arch::Arm64, Course::Usual, steps)),
        when: When::Always,
    },
    Floor {
        name: "update-armhf",
        about: "releases on the armhf board: kept, or back to the one before",
        run: Run::Steps(|cache, tally, steps| boards::update(cache, tally, Arch::Armhf, Course::Usual, steps)),
        when: When::Long,
    },
    Floor {
        name: "update-faults",
        about: "releases on the arm64 board whose medium breaks, whose data partition is full, whose clock jumps",
        run: Run::Steps(|cache, tally, steps| boards::update(cache, tally, Arch::Arm64, Course::Faults, steps)),
        when: When::Long,
    },
    Floor {
        name: "update-cycles",
        about: "200 releases, one after the other, on the arm64 board, each with a power cut; six of them without --long",
        run: Run::Steps(|cache, tally, steps| boards::update(cache, tally, Arch::Arm64, Course::Cycles, steps)),
        when: When::Long,
    },
    Floor {
        name: "update-formats",
        about: "a release with later versions of what is on the data partition, on the arm64 board: left, and kept",
        run: Run::Steps(|cache, tally, steps| boards::update(cache, tally, Arch::Arm64, Course::LaterFormats, steps)),
        when: When::Long,
    },
    Floor {
        name: "update-writes",
        about: "an update on the arm64 board whose power goes away after any of its writes",
        run: Run::Steps(|cache, tally, steps| boards::update(cache, tally, Arch::Arm64, Course::AnyWrite, steps)),
        when: When::Long,
    },
    Floor {
        name: "update-efi",
        about: "releases on an arm64 board that EDK II starts",
        run: Run::Steps(|cache, tally, steps| boards::update(cache, tally, Arch::Arm64, Course::ByEdk2, steps)),
        when: When::Long,
    },
    Floor {
        name: "broken-arm64",
        about: "what breaks on the arm64 board, and does not matter",
        run: Run::Steps(|cache, tally, steps| boards::broken(cache, tally, Arch::Arm64, steps)),
        when: When::Always,
    },
    Floor {
        name: "broken-armhf",
        about: "what breaks on the armhf board, and does not matter",
        run: Run::Steps(|cache, tally, steps| boards::broken(cache, tally, Arch::Armhf, steps)),
        when: When::Always,
    },
    Floor {
        name: "bench",
        about: "budgets of memory and size, measured on the arm64 board",
        run: Run::Tests { run: budgets_on_board, least: 12 },
        when: When::Always,
    },
    Floor {
        name: "oldest",
        about: "the whole workspace checks on rustc 1.85 for armv7",
        run: Run::Tests { run: oldest_compiler, least: 1 },
        when: When::Always,
    },
    Floor {
        name: "hostile-armhf",
        about: "attacks from inside containers on the armhf board",
        run: Run::Steps(|cache, tally, steps| boards::hostile(cache, tally, Arch::Armhf, steps)),
        when: When::Long,
    },
    Floor {
        name: "update-peers",
        about: "an update beside RAUC's and SWUpdate's, measured on the arm64 board",
        run: Run::Tests { run: update_beside_peers, least: 9 },
        when: When::Long,
    },
    Floor {
        name: "guests-arm64",
        about: "roots with the inits that there are, on the arm64 board",
        run: Run::Steps(boards::guests),
        when: When::Long,
    },
    Floor {
        name: "native",
        about: "what an image and a start take on this machine beside mkfs.erofs and crun, and the memory after it",
        run: Run::Tests { run: native, least: 4 },
        when: When::Long,
    },
];

/// Lanes: when the floor on the left is over, those on the right begin in a process of their own, in the order of [`FLOORS`]. What boards
/// are made of comes over the network while compilers work, compilers work while tests wait, and an emulated board keeps at most one
/// processor busy. More lanes gain nothing: then processors have no time to spare, and tests that judge how long guests take to stop
/// fail. No floor judges times that another lane makes longer: a demo that took too long beside other work is not judged, and attacked
/// and measured boards have a clock that stands still while they wait.
const LANES: &[(&str, &[&str])] = &[
    ("packages", &["provision", "cross", "hostile-arm64", "armhf", "update-arm64", "bench"]),
    ("cross", &["hostile-arm64"]),
    ("unit", &["oldest"]),
];

/// Those that judge times of this machine: they run when all others are over.
const ALONE: &[&str] = &["native"];

/// Sets up what it needs and runs every test.
#[derive(Debug, Parser)]
#[command(name = "cargo accept", no_binary_name = true, after_help = floor_list())]
struct Arguments {
    /// Which floors of tests; all without this. After one floor with a board: the number of a step, or words of its title, to take
    /// only that one and what it needs
    #[arg(value_name = "FLOOR")]
    words: Vec<String>,
    /// Also what takes long: attacks on the armhf board too, ten hostile containers for ten minutes instead of one, a board at
    /// rest for an hour instead of ten seconds, users' roots on the arm64 board, updates on the armhf board, by EFI firmware,
    /// with later formats, with faults, 200 times without power, without power after any write and beside others', a build for
    /// each mutation, guided fuzzing, and what an image and a start take on this machine
    #[arg(long)]
    long: bool,
}

/// The floors, for the help and for who names one that is none.
fn floor_list() -> String {
    let line = |Floor { name, about, .. }: &Floor| format!("  {name:<14} {about}\n");
    format!("Floors:\n{}", FLOORS.iter().map(line).collect::<String>())
}

/// The names of floors, and the step of the only floor, if the last word is none.
fn floors_and_step(mut words: Vec<String>) -> Result<(Vec<String>, Wanted), String> {
    let floor = |word: &String| FLOORS.iter().find(|floor| floor.name == word);
    let Some(unknown) = words.iter().find(|word| floor(word).is_none()) else { return Ok((words, Wanted::All)) };
    match &words[..] {
        [first, step] if floor(first).is_some_and(|floor| matches!(floor.run, Run::Steps(_))) => {
            let step = Wanted::One(step.clone());
            words.truncate(1);
            Ok((words, step))
        }
        _ => Err(format!("{unknown}: no floor, and no step of one floor with a board. {}", floor_list())),
    }
}

/// Runs all floors, or those named in the arguments.
pub fn main(args: &[OsString]) -> ExitCode {
    let Arguments { words, long } = match parse(args) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let (names, steps) = match floors_and_step(words) {
        Ok(found) => found,
        Err(problem) => {
            eprintln!("accept: {problem}");
            return ExitCode::from(2);
        }
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
    let mut total = Tally::new(length);
    let is_wanted = |floor: &&Floor| names.is_empty() || names.iter().any(|name| name == floor.name);
    let floors: Vec<&Floor> = FLOORS.iter().filter(is_wanted).collect();
    let (here, lanes) = if has_two_processors() { split(floors) } else { (floors, Vec::new()) };
    let mut running = Vec::new();
    for floor in here {
        if ALONE.contains(&floor.name) {
            finish(std::mem::take(&mut running), &mut total);
        }
        println!("── {}: {}", floor.name, floor.about);
        let began = Instant::now();
        let mut tally = Tally::new(length);
        match (floor.when, long || !names.is_empty()) {
            (When::Long, false) => tally.skip(floor.name, "it takes long: --long runs it, and so does its name"),
            (When::Always | When::Long, _) => match floor.run {
                Run::Tests { run, least } => {
                    run(&cache, &mut tally);
                    hold_least(floor.name, least, &mut tally);
                }
                Run::Steps(run) => run(&cache, &mut tally, &steps),
            },
        }
        println!("── {}: {tally} in {:.0} s\n", floor.name, began.elapsed().as_secs_f64());
        total.add(tally);
        for (_, names) in lanes.iter().filter(|(after, _)| *after == floor.name) {
            running.extend(begin(names, &mut total));
        }
    }
    finish(running, &mut total);
    total.print_failures_and_skips();
    println!("accept: {total}");
    if total.is_green() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The floors that run in this process, and the lanes that begin from it.
fn split(mut here: Vec<&Floor>) -> (Vec<&Floor>, Vec<(&'static str, Vec<&'static str>)>) {
    let mut lanes = Vec::new();
    for (after, names) in LANES {
        if here.iter().any(|floor| floor.name == *after) {
            let (lane, others): (Vec<_>, Vec<_>) = here.into_iter().partition(|floor| names.contains(&floor.name));
            lanes.push((*after, lane.iter().map(|floor| floor.name).collect::<Vec<_>>()));
            here = others;
        }
    }
    lanes.retain(|(_, names)| !names.is_empty());
    (here, lanes)
}

/// These floors begin in a lane of their own.
fn begin(names: &[&str], total: &mut Tally) -> Option<Beside> {
    let what = format!("{} beside other floors", names.join(", "));
    println!("── {what}: what they say is shown at their end\n");
    Beside::begin(names, total.length()).map_err(|error| total.fail(&what, &error.to_string())).ok()
}

/// Waits for the ends of lanes.
fn finish(lanes: Vec<Beside>, total: &mut Tally) {
    for lane in lanes {
        total.add(lane.finish(total.length()));
    }
}

/// Fewer tests than a floor has at least means that some were not run, and nobody would notice.
fn hold_least(floor: &str, least: usize, tally: &mut Tally) {
    let total = tally.total();
    if total < least {
        tally.fail(floor, &format!("{total} tests, and it has at least {least}"));
    }
}

fn has_two_processors() -> bool {
    std::thread::available_parallelism().is_ok_and(|count| 1 < count.get())
}

fn packages(cache: &Cache, tally: &mut Tally) {
    tally.check("host packages are installed", || ensure_packages(cache, &Purpose::ALL));
}

fn style(_: &Cache, tally: &mut Tally) {
    tally.check("rustfmt", || Tool::new("cargo").args(["fmt", "--all", "--check"]).run_visibly());
    tally.check("clippy", || {
        let lint = ["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"];
        Tool::new("cargo").args(lint).run_visibly()
    });
    mutations::check_that_they_apply(tally);
}

/// The namespace tests start a whole Debian too: the boards' root, made for this machine.
fn unit(cache: &Cache, tally: &mut Tally) {
    let debian = std::env::consts::ARCH.parse().ok().and_then(|arch| {
        let name = format!("a Debian root for {arch} is made, or kept");
        tally.check(&name, || provision::debian_root(cache, arch))
    });
    let debian = debian.as_deref().map(|tar| ("YADO_TEST_DEBIAN", tar));
    let guests = guests::make_ready(cache, tally);
    let guests = guests.as_deref().map(|folder| ("YADO_TEST_ROOTS", folder));
    let applies = (tally.length() == Length::Long).then_some(("YADO_TEST_APPLIES", Path::new("10000")));
    let later = if tally.length() == Length::Long { later_release::updater(cache, tally) } else { None };
    let later = later.as_deref().map(|program| ("YADO_LATER_UPDATER", program));
    let environment: Vec<(&str, &Path)> = debian.into_iter().chain(guests).chain(applies).chain(later).collect();
    cargo_tests::run(tally, &["--workspace", "--locked"], &environment);
    if tally.length() == Length::Long {
        later_release::test(cache, tally);
    }
}

fn board_parts(cache: &Cache, tally: &mut Tally) {
    tally.check("all that boards are made of", || provision::board_parts(cache));
}

fn oldest_compiler(cache: &Cache, tally: &mut Tally) {
    tally.check("the workspace, tests included, on rustc 1.85", || cross::floor_check(cache));
}

fn cross_build(cache: &Cache, tally: &mut Tally) {
    if let Err(error) = cross::build_together(cache, &Arch::BOARDS, &cross::SHIPPED) {
        // Which of them it concerns is told below.
        println!("   {error}");
    }
    for arch in Arch::BOARDS {
        let name = format!("static programs for {arch}");
        if let Some(programs) = tally.check(&name, || cross::build(cache, arch, &cross::SHIPPED)) {
            budgets::check_sizes(tally, arch, &programs);
        }
    }
}

fn native(cache: &Cache, tally: &mut Tally) {
    let directory = report::directory("native", Arch::Amd64);
    if let Some(promises) =
        tally.check("an image is packed beside mkfs.erofs", || image_build::promises(cache, &directory))
    {
        count_budgets(tally, &promises);
    }
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
fn budgets_on_board(cache: &Cache, tally: &mut Tally) {
    let arch = Arch::Arm64;
    let directory = report::directory("bench", arch);
    let measured = tally.check("the board to be measured is prepared", || bench::run(cache, arch, &directory));
    let Some(measured) = measured else { return };
    tally.check("its report is written", || measured.write(&directory.join("report.json")));
    count_measured(tally, &measured.budgets, &measured.failures);
}

fn update_beside_peers(cache: &Cache, tally: &mut Tally) {
    let arch = Arch::Arm64;
    let directory = report::directory("update-peers", arch);
    let measured =
        tally.check("the board with all updaters is prepared", || update_peers::run(cache, arch, &directory));
    let Some(measured) = measured else { return };
    tally.check("its report is written", || measured.write(&directory.join("report.json")));
    count_measured(tally, &measured.budgets, &measured.failures);
}

fn count_measured(tally: &mut Tally, budgets: &[Promise], failures: &[String]) {
    count_budgets(tally, budgets);
    for failure in failures {
        tally.fail("measured", failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a floor is in the order of all.
    fn place(name: &str) -> Option<usize> {
        FLOORS.iter().position(|floor| floor.name == name)
    }

    #[test]
    fn each_floor_runs_once_in_one_of_the_lanes_and_after_what_it_needs() {
        let mut waiting = vec![FLOORS.iter().collect::<Vec<_>>()];
        let mut run: Vec<&str> = Vec::new();
        while let Some(floors) = waiting.pop() {
            let (here, lanes) = split(floors);
            for (after, names) in lanes {
                let after = place(after).unwrap();
                assert!(names.iter().all(|name| after < place(name).unwrap()), "{names:?}");
                waiting.push(FLOORS.iter().filter(|floor| names.contains(&floor.name)).collect());
            }
            run.extend(here.iter().map(|floor| floor.name));
        }
        run.sort_by_key(|name| place(name));
        assert_eq!(run, FLOORS.iter().map(|floor| floor.name).collect::<Vec<_>>());
    }

    #[test]
    fn a_lane_has_what_every_run_has_and_nothing_that_must_be_alone() {
        for name in LANES.iter().flat_map(|(_, names)| names.iter()) {
            let floor = &FLOORS[place(name).unwrap()];
            assert!(
                floor.when == When::Always,
                "{name}: a lane names its floors, and who names a long one has it run"
            );
            assert!(!ALONE.contains(name), "{name}");
        }
    }
}
