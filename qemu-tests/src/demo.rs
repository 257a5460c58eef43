//! `cargo demo`: the main job before your eyes. Builds everything, boots a board, and takes eleven steps, each ticked by what
//! was seen on the board. Leaves the serial log and a report below `target/demo/`.

mod apply;
mod command_line;
mod console;
mod devices;
mod limits;
mod log;
mod network;
mod power_off;
mod refusals;
mod roots;
mod sandboxes;
mod start;
mod time_limit;

pub use command_line::main;

use crate::arch::Arch;
use crate::board::left_behind;
use crate::board::outside::Outside;
use crate::board::system_image::DEMO;
use crate::board::{Board, BoardError, BoardOptions, BuildError, Prepared, instance};
use crate::cache::Cache;
use crate::other_work::ProcessorTime;
use crate::report::{NotSo, Observer, Report, StepReport};
use crate::steps::Role::{self, Boots, Looks, Prepares};
use crate::steps::Wanted;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What the steps work with.
#[derive(Debug)]
struct Demo<'a> {
    prepared: &'a Prepared,
    board: Board,
    /// A server on this machine, outside of the board.
    outside: Outside,
    /// Where reports and scratch files go.
    directory: PathBuf,
}

/// One step: what it is to show, and how.
struct Step {
    title: &'static str,
    role: Role,
    take: fn(&mut Demo<'_>, &mut Observer) -> Result<(), StepError>,
}

const STEPS: &[Step] = &[
    Step {
        title: "the initramfs verifies slot A and hands over to yado-init",
        role: Boots,
        take: start::verified_boot,
    },
    Step { title: "data partition, netd, and a lease for the uplink", role: Prepares, take: start::services },
    Step { title: "Debian with systemd and busybox run, each in its sandbox", role: Prepares, take: sandboxes::run },
    Step {
        title: "the containers reach each other by name, and the world outside",
        role: Looks,
        take: network::reach,
    },
    Step { title: "memory, processor and process limits hold", role: Looks, take: limits::hold },
    Step { title: "a GPIO chip is in the one container that declares it", role: Looks, take: devices::gpio },
    Step {
        title: "a USB stick comes and goes in the container that declares it",
        role: Looks,
        take: devices::usb_stick,
    },
    Step { title: "tampered images are refused, each with its reason", role: Looks, take: refusals::each },
    Step { title: "what is configured changes while it runs", role: Looks, take: apply::change },
    Step { title: "whoever sits at the board's console has a shell", role: Looks, take: console::answers },
    Step { title: "an orderly power off: units stopped, file systems clean", role: Looks, take: power_off::orderly },
];

/// What happens between the last question and the power off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visitor {
    /// Nobody is there.
    None,
    /// Somebody sits at the terminal and gets the board's console.
    AtConsole,
}

/// How long the board may take until the agent on it speaks; a loaded machine needs many times the usual 5 to 10 s.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);
/// Enough for Debian's systemd and everything else.
const MEMORY_MIB: u32 = 512;
const DATA_MIB: u64 = 256;

/// Builds, boots, takes the steps. The report tells how it went; an error is about what comes before the board.
pub fn run(
    cache: &Cache,
    arch: Arch,
    visitor: Visitor,
    directory: &Path,
    wanted: &Wanted,
) -> Result<Report, BuildError> {
    let places = wanted.places(STEPS.iter().map(|step| (step.title, step.role)))?;
    let (began, used_before, made_before) = (Instant::now(), ProcessorTime::now(), cache.made().len());
    let prepared = Prepared::new(cache, arch, &DEMO)?;
    let prepare_seconds = began.elapsed().as_secs_f64();
    left_behind::clear(directory);
    let switched_on = Instant::now();
    let mut report = Report {
        arch,
        kernel: None,
        prepare_seconds,
        board_seconds: 0.0,
        time: None,
        planned: places.len(),
        steps: Vec::new(),
    };
    match switch_on(&prepared, directory) {
        Ok(mut demo) => {
            take_steps(&mut demo, visitor, &places, &mut report);
            report.kernel = Some(prepared.ingredients.kernel.release.clone());
        }
        Err(error) => report.steps.push(Observer::begin(1, "the board boots").end(Err(error.to_string()))),
    }
    report.board_seconds = switched_on.elapsed().as_secs_f64();
    let others = used_before.zip(ProcessorTime::now()).map(|(before, now)| before.others_until(&now));
    let made = cache.made().split_off(made_before);
    report.time = Some(time_limit::compare(began.elapsed(), &made, visitor, others));
    Ok(report)
}

fn switch_on<'a>(prepared: &'a Prepared, directory: &Path) -> Result<Demo<'a>, StepError> {
    let usual = BoardOptions::usual(directory, MEMORY_MIB, DATA_MIB);
    let options = BoardOptions { kernel_arguments: "yado.rescue=1".to_owned(), ..usual };
    let outside = Outside::open().map_err(StepError::Outside)?;
    let board = Board::power_on(prepared, options)?;
    Ok(Demo { prepared, board, outside, directory: directory.to_owned() })
}

/// Takes one step after the other. A step that fails does not keep the later ones from telling what they see, except where
/// the board never came up.
fn take_steps(demo: &mut Demo<'_>, visitor: Visitor, places: &[usize], report: &mut Report) {
    for &place in places {
        let is_last = place + 1 == STEPS.len();
        if is_last && visitor == Visitor::AtConsole {
            console::until_detached(&demo.board);
        }
        let taken = take(demo, place + 1, &STEPS[place]);
        let is_hopeless = place == 0 && taken.failure.is_some();
        report.steps.push(taken);
        if is_hopeless {
            break;
        }
    }
}

fn take(demo: &mut Demo<'_>, number: usize, step: &Step) -> StepReport {
    let taken = Observer::observe(number, step.title, |observer| (step.take)(demo, observer));
    if taken.failure.is_some() {
        left_behind::keep(&demo.directory, number, Some(&demo.board), &demo.directory);
    }
    taken
}

/// Why a step ended early.
#[derive(Debug)]
enum StepError {
    /// Something was seen that should not be so.
    NotSo(NotSo),
    /// The board did not do what was asked.
    Board(BoardError),
    /// A file of the step could not be read or written.
    Io {
        /// Which.
        path: PathBuf,
        /// What the kernel answered.
        source: std::io::Error,
    },
    /// The board's serial line could not be read or written.
    Console(std::io::Error),
    /// The server outside could not be opened.
    Outside(std::io::Error),
}

impl From<NotSo> for StepError {
    fn from(not_so: NotSo) -> StepError {
        StepError::NotSo(not_so)
    }
}

impl From<BoardError> for StepError {
    fn from(error: BoardError) -> StepError {
        StepError::Board(error)
    }
}

impl StepError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> StepError + use<> {
        let path = path.to_owned();
        move |source| StepError::Io { path, source }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepError::NotSo(not_so) => not_so.fmt(out),
            StepError::Board(error) => error.fmt(out),
            StepError::Io { path, source } => write!(out, "{}: {source}", path.display()),
            StepError::Console(source) => write!(out, "the board's serial line: {source}"),
            StepError::Outside(source) => write!(out, "open a server on this machine: {source}"),
        }
    }
}

impl std::error::Error for StepError {}

/// The id of one instance in a status: its layer's name.
fn id_of(status: &serde_json::Value, name: &str) -> String {
    instance(status, name).map_or(String::new(), |entry| entry["id"].to_string())
}

/// `name=value` among the lines that the payload tool printed.
fn printed<'t>(lines: &'t str, name: &str) -> Option<&'t str> {
    lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}
