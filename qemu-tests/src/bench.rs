//! `cargo bench-board`: what we cost. Boots a board and measures, in one run: the way from PID 1's first instruction to the
//! first containers, beside systemd with LXC on another, the memory of our own processes, the time one start takes beside what others need for the same, and
//! the sizes of what is shipped. Prints tables and leaves a report below `target/bench/`.
//!
//! The board's clock counts instructions: times are those of a processor that takes 2 ns for each, whoever else works on this machine.
//! Its waiting for memory and disk is no real board's, so ratios say more than times.

pub(crate) mod appliance;
mod boot_times;
mod cached_images;
mod command_line;
mod first_payload;
mod hosted;
mod memory;
pub(crate) mod native;
mod rivals;
mod sizes;
mod starts;
mod systemd_lxc;

pub use command_line::main;

use crate::arch::Arch;
use crate::board::disk::DataPartition;
use crate::board::qemu::Speed;
use crate::board::{Board, BoardError, BoardOptions, BuildError, Prepared};
use crate::cache::Cache;
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// A loaded machine needs many times the usual 5 to 10 s until the agent speaks.
const BOOT_TIMEOUT: Duration = Duration::from_secs(240);
/// For anything else on a board, on a machine that has other things to do: Debian's systemd takes longest.
const TIMEOUT: Duration = Duration::from_secs(240);
/// As in the demo: Debian's systemd; ten small containers, and the largest of the others' programs, need less.
const MEMORY_MIB: u32 = 512;

/// One thing that is promised, and what was measured of it.
#[derive(Debug, Clone, Serialize)]
pub struct Promise {
    /// What should be so.
    pub what: String,
    /// What was seen.
    pub seen: String,
    /// Whether what was seen is what should be.
    pub holds: bool,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct BenchReport {
    /// The board.
    pub arch: Arch,
    /// What was on it.
    pub kernel: String,
    sizes: Vec<sizes::Size>,
    boot: Option<boot_times::BootTimes>,
    first_payload: Option<systemd_lxc::FirstPayload>,
    memory: Vec<memory::AtRest>,
    starts: Option<starts::Starts>,
    /// What design.md 9 promises of memory and size, and what was seen.
    pub budgets: Vec<Promise>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

impl BenchReport {
    /// Whether all was measured and every budget is kept.
    pub fn is_good(&self) -> bool {
        self.failures.is_empty() && !self.budgets.is_empty() && self.budgets.iter().all(|budget| budget.holds)
    }

    /// Writes the machine-readable form.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
    }

    fn promise(&mut self, what: String, seen: String, holds: bool) {
        println!("   {} {what}: {seen}", if holds { "✓" } else { "✗" });
        self.budgets.push(Promise { what, seen, holds });
    }

    /// What failed is noted; what comes after it is measured all the same.
    fn keep<T>(&mut self, what: &str, measured: Result<T, BenchError>) -> Option<T> {
        measured
            .map_err(|error| {
                println!("   ✗ {what}: {error}");
                self.failures.push(format!("{what}: {error}"));
            })
            .ok()
    }
}

/// Builds, boots, measures. The report tells how it went; an error is about what comes before the board.
pub fn run(cache: &Cache, arch: Arch, directory: &Path) -> Result<BenchReport, BuildError> {
    std::fs::create_dir_all(directory).map_err(BuildError::io(directory))?;
    let prepared = Prepared::new(cache, arch, &appliance::APPLIANCE)?;
    let data = appliance::data_partition(cache, &prepared.ingredients, directory)?;
    let mut report = BenchReport {
        arch,
        kernel: prepared.ingredients.kernel.release.clone(),
        sizes: Vec::new(),
        boot: None,
        first_payload: None,
        memory: Vec::new(),
        starts: None,
        budgets: Vec::new(),
        failures: Vec::new(),
    };
    sizes::measure(&prepared.ingredients, &mut report)?;
    let options = BoardOptions {
        speed: Speed::Defined,
        data: DataPartition::Filled(data),
        kernel_arguments: first_payload::TRACED.to_owned(),
        ..BoardOptions::usual(directory, MEMORY_MIB, appliance::DATA_MIB)
    };
    let rival = systemd_lxc::Rival::prepare(cache, &prepared, directory)?;
    let booted = Board::boot(&prepared, options, BOOT_TIMEOUT).map_err(BenchError::Board);
    let mut first = None;
    if let Some((board, _)) = report.keep("the board boots", booted) {
        first = report.keep("the first payload", first_payload::measure(&board));
        measure(&board, &mut report);
    }
    if let Some(first) = first {
        rival.measure(first, directory, &mut report);
    }
    Ok(report)
}

fn measure(board: &Board, report: &mut BenchReport) {
    if report.keep("the first containers run", wait_ready(board, &appliance::AT_BOOT)).is_none() {
        return;
    }
    // First, while init still remembers its own start.
    let boot = boot_times::measure(board, report);
    report.boot = report.keep("the boot", boot);
    memory::measure(board, report);
    starts::measure(board, report);
    cached_images::measure(board, report);
}

/// Waits until these instances are ready: they run, and did so for a while.
fn wait_ready(board: &Board, names: &[&str]) -> Result<(), BenchError> {
    let wanted = format!("{} that are ready", names.join(", "));
    Ok(board.wait_status(&wanted, TIMEOUT, |status| {
        let instances = status["instances"].as_array()?;
        let is_ready =
            |name: &&str| instances.iter().any(|instance| instance["name"] == **name && instance["state"] == "ready");
        names.iter().all(is_ready).then_some(())
    })?)
}

/// Runs a program on the board and gives back what it printed.
fn output(board: &Board, argv: &[&str]) -> Result<String, BenchError> {
    Ok(board.agent.output(argv, TIMEOUT).map_err(BoardError::Agent)?)
}

/// Why something was not measured.
#[derive(Debug)]
enum BenchError {
    /// The board did not do what was asked.
    Board(BoardError),
    /// What it said lacks what we look for.
    Lacks {
        /// Where we looked.
        place: String,
        /// For what.
        wanted: String,
    },
    /// Somebody who was to be timed could not be, or there is nobody to compare with.
    NotCompared {
        /// Who, and why.
        reason: String,
    },
}

impl From<BoardError> for BenchError {
    fn from(error: BoardError) -> BenchError {
        BenchError::Board(error)
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BenchError::Board(error) => error.fmt(out),
            BenchError::Lacks { place, wanted } => write!(out, "{place}: no {wanted}"),
            BenchError::NotCompared { reason } => write!(out, "not compared: {reason}"),
        }
    }
}

impl std::error::Error for BenchError {}
