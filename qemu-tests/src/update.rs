//! `cargo demo --update` and the floors `update-ARCH`: one board with one disk takes one release after the other from a web
//! server, keeps the good ones and goes back from the others. What boots is decided by U-Boot, and read on the serial line. On the floor
//! `update-efi` it is decided by EDK II, and read there and in its flash.

mod any_write;
mod appliances;
mod clock_jumps;
mod containers;
mod cycles;
mod edk2;
mod fall_back;
mod faults;
mod install;
mod later_formats;
mod power_cuts;
mod releases;
mod roof;
mod sticks;
mod web_server;

use crate::arch::Arch;
use crate::board::agent::AgentError;
use crate::board::qemu::QemuError;
use crate::board::qmp::QmpError;
use crate::board::{BoardError, BuildError, Firmware, left_behind};
use crate::cache::Cache;
use crate::length::Length;
use crate::provision;
use crate::report::{NotSo, Observer, Report, StepReport};
use crate::steps::Role::{self, Boots, Follows, Looks, Prepares};
use crate::steps::Wanted;
use releases::Releases;
use roof::Roof;
use std::fmt;
use std::path::Path;
use std::time::Instant;

/// What is shown of updates: each is a floor of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Releases that are kept and releases that are left, on one board.
    Usual,
    /// Media that break, a full data partition, a clock that jumps: each step has a board of its own.
    Faults,
    /// One release after the other, each with a power cut.
    Cycles,
    /// A release that has later versions of what is on the data partition.
    LaterFormats,
    /// Power that goes away after any write of an update.
    AnyWrite,
    /// A board that EDK II starts, not U-Boot.
    ByEdk2,
}

impl Course {
    const fn steps(self) -> &'static [Step] {
        match self {
            Course::Usual => STEPS,
            Course::Faults => STEPS_OF_FAULTS,
            Course::Cycles => STEPS_OF_CYCLES,
            Course::LaterFormats => STEPS_OF_LATER_FORMATS,
            Course::AnyWrite => STEPS_OF_ANY_WRITE,
            Course::ByEdk2 => STEPS_BY_EDK2,
        }
    }

    fn firmware(self, cache: &Cache) -> Result<Firmware, BuildError> {
        Ok(match self {
            Course::ByEdk2 => Firmware::Edk2(provision::edk2(cache)?),
            Course::Usual | Course::Faults | Course::Cycles | Course::LaterFormats | Course::AnyWrite => {
                Firmware::UBoot
            }
        })
    }
}

/// One step: what it is to show, and how.
struct Step {
    title: &'static str,
    role: Role,
    take: fn(&mut Roof<'_>, &mut Observer) -> Result<(), StepError>,
}

const STEPS: &[Step] = &[
    Step { title: "release 1 runs from slot A", role: Boots, take: install::first },
    Step {
        title: "release 2 is fetched from a web server, written into slot B, and armed",
        role: Prepares,
        take: install::second,
    },
    Step {
        title: "release 2 boots on trial, its containers become healthy, and it is confirmed",
        role: Prepares,
        take: install::confirmed,
    },
    Step {
        title: "release 3 has a container that never becomes healthy: the board comes back to release 2",
        role: Follows,
        take: fall_back::unhealthy,
    },
    Step {
        title: "release 4 panics before its PID 1 is up: its tries are used up, and release 2 comes back",
        role: Follows,
        take: fall_back::panics,
    },
    Step {
        title: "release 5 hangs, and its watchdog is fed no more: release 2 comes back",
        role: Follows,
        take: fall_back::hangs,
    },
    Step {
        title: "release 6 is good, and a user goes back from it all the same",
        role: Follows,
        take: fall_back::on_wish,
    },
    Step {
        title: "a block of the running system goes bad: the board leaves it for the other slot's, and says so",
        role: Follows,
        take: fall_back::damaged,
    },
    Step {
        title: "releases 7 and 8 are one container's alone: kept, and put back with image and layer, without a restart",
        role: Follows,
        take: containers::alone,
    },
    Step {
        title: "release 9 comes on a stick with the partition names of the system; one by another signer is refused",
        role: Looks,
        take: sticks::plugged_in,
    },
    Step {
        title: "power is cut at six moments of an update: each time a whole release runs, and it goes on by itself",
        role: Boots,
        take: power_cuts::at_any_moment,
    },
];

/// The floor `update-writes`: what is left of an update whose power goes away after any of its writes.
const STEPS_OF_ANY_WRITE: &[Step] = &[
    Step { title: "each write of an update from release 1 to 2 is noted", role: Boots, take: any_write::noted },
    Step {
        title: "power goes away after any write that is not of an image or a kernel: a whole release runs",
        role: Follows,
        take: any_write::after_each_small_one,
    },
    Step {
        title: "power goes away after sampled writes of images and kernels, torn and reordered: a whole release runs",
        role: Looks,
        take: any_write::after_some_of_data,
    },
];

/// Those of a board that EDK II starts.
const STEPS_BY_EDK2: &[Step] = &[
    Step {
        title: "EDK II starts release 1 from slot A, and takes a variable from the running system",
        role: Boots,
        take: edk2::first,
    },
    Step {
        title: "release 2 is written into slot B and armed by BootNext, and boots on trial",
        role: Prepares,
        take: edk2::second,
    },
    Step {
        title: "its containers become healthy, and it is confirmed: BootOrder has slot B first",
        role: Prepares,
        take: edk2::confirmed,
    },
    Step {
        title: "release 4 panics before its PID 1 is up: EDK II forgets it each time, and release 2 comes back",
        role: Follows,
        take: edk2::panics,
    },
    Step {
        title: "release 6 is good, and a user goes back from it all the same: BootOrder follows",
        role: Follows,
        take: edk2::on_wish,
    },
];

const STEPS_OF_FAULTS: &[Step] = &[
    Step {
        title: "the medium below the slot that is written breaks: the update fails, and works when the medium does",
        role: Boots,
        take: faults::broken_medium,
    },
    Step {
        title: "what the boot loader reads is on a read-only medium: the update fails, and works when it can be written",
        role: Boots,
        take: faults::read_only_boot_medium,
    },
    Step {
        title: "the data partition is full, before an update and in the middle of one: it goes on when there is room",
        role: Boots,
        take: faults::full_data,
    },
    Step {
        title: "the clock jumps by decades, forth and back, in downloads and in trials: updates do not go by it",
        role: Boots,
        take: clock_jumps::in_the_middle,
    },
];

const STEPS_OF_CYCLES: &[Step] = &[Step {
    title: "from slot to slot, and in each update the power is cut: each ends with the release that was asked for",
    role: Boots,
    take: cycles::with_cuts,
}];

const STEPS_OF_LATER_FORMATS: &[Step] = &[
    Step {
        title: "a release with later formats is on trial and is left: the one before reads all that it had kept",
        role: Boots,
        take: later_formats::left,
    },
    Step {
        title: "a release with later formats is kept: it reads all, and writes its own",
        role: Follows,
        take: later_formats::kept,
    },
];

/// Builds the releases, boots, takes the steps. The report tells how it went; an error is about what comes before the board.
pub fn run(
    cache: &Cache,
    arch: Arch,
    directory: &Path,
    course: Course,
    length: Length,
    wanted: &Wanted,
) -> Result<Report, BuildError> {
    let all = course.steps();
    let places = wanted.places(all.iter().map(|step| (step.title, step.role)))?;
    let began = Instant::now();
    let firmware = course.firmware(cache)?;
    std::fs::create_dir_all(directory).map_err(BuildError::io(directory))?;
    let releases = Releases::build(cache, arch, directory, course)?;
    let prepare_seconds = began.elapsed().as_secs_f64();
    left_behind::clear(directory);
    let switched_on = Instant::now();
    let mut roof = Roof::new(&releases, firmware, directory, length)?;
    let planned = places.len();
    let mut steps: Vec<StepReport> = Vec::new();
    for place in places {
        let Step { title, take, .. } = &all[place];
        let taken = Observer::observe(place + 1, title, |observer| take(&mut roof, observer));
        let is_failed = taken.failure.is_some();
        if is_failed {
            left_behind::keep(directory, place + 1, roof.board_if_on(), directory);
        }
        steps.push(taken);
        // Each goes on from the release that the one before has left.
        if is_failed && course != Course::Faults {
            break;
        }
    }
    Ok(Report::ended(&releases.prepared.ingredients, prepare_seconds, switched_on, planned, steps))
}

/// Why a step ended early.
#[derive(Debug)]
enum StepError {
    /// Something was seen that should not be so.
    NotSo(NotSo),
    /// The board did not do what was asked.
    Board(BoardError),
    /// There is no board that is on.
    Off,
    /// What a step needs could not be made.
    Build(BuildError),
    /// `yado update` failed and said this, and the board was not reset.
    UpdateFailed(String),
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

impl From<AgentError> for StepError {
    fn from(error: AgentError) -> StepError {
        StepError::Board(BoardError::Agent(error))
    }
}

impl From<BuildError> for StepError {
    fn from(error: BuildError) -> StepError {
        StepError::Build(error)
    }
}

impl From<QmpError> for StepError {
    fn from(error: QmpError) -> StepError {
        StepError::Board(BoardError::Qemu(QemuError::Qmp(error)))
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepError::NotSo(not_so) => not_so.fmt(out),
            StepError::Board(error) => error.fmt(out),
            StepError::Build(error) => error.fmt(out),
            StepError::Off => out.write_str("no board is on: an earlier step failed"),
            StepError::UpdateFailed(said) => write!(out, "the board was not reset: yado update: {said}"),
        }
    }
}

impl std::error::Error for StepError {}
