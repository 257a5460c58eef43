//! A board with hostile containers on it: every attempt of `guest-attack`, one after the other, with a well-behaved container
//! beside it; then ten of them together. What is only felt outside is looked at from outside.
//!
//! A row that is held is a check; one that is known to succeed says why ([`Expected::Open`]), and does not fail the run.

mod appliance;
mod arena;
mod attempts;
mod denied_calls;
mod failure;
mod lxc;
mod machine;
mod outside;
mod together;
mod whole_memory;

use crate::arch::Arch;
use crate::board::{BuildError, Prepared, left_behind};
use crate::cache::Cache;
use crate::length::Length;
use crate::report::{Observer, Report, StepReport};
use crate::steps::Role::{self, Boots, Looks};
use crate::steps::Wanted;
use appliance::APPLIANCE;
use arena::Arena;
use failure::HostileError;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the ten are let loose.
fn together(length: Length) -> Duration {
    match length {
        Length::Short => Duration::from_secs(60),
        Length::Long => Duration::from_secs(600),
    }
}

/// One step: what it is to show, and how.
struct Step {
    title: &'static str,
    role: Role,
    take: fn(&mut Arena<'_>, &mut Observer) -> Result<(), HostileError>,
}

const STEPS: &[Step] = &[
    Step {
        title: "a board of 256 MiB boots, with a hostile container and a calm one",
        role: Boots,
        take: attempts::boot,
    },
    Step { title: "what is tried inside is refused or bounded", role: Looks, take: attempts::inside },
    Step {
        title: "each call that the filter denies is refused, and would not be without it",
        role: Looks,
        take: denied_calls::look,
    },
    Step { title: "what one takes all of, its neighbour still gets", role: Looks, take: attempts::neighbours },
    Step {
        title: "beside one that has taken all it can get, another one starts",
        role: Looks,
        take: attempts::at_every_limit,
    },
    Step { title: "no memory of the machine's is taken beyond the limit", role: Looks, take: attempts::memory },
    Step { title: "no container takes the machine's memory from all others", role: Looks, take: whole_memory::taken },
    Step { title: "work for PID 1 and netd is bounded, and status answers", role: Looks, take: attempts::services },
    Step { title: "nobody outside is held up, or acts for those inside", role: Looks, take: outside::look },
    Step { title: "afterwards the machine is as it was", role: Looks, take: attempts::afterwards },
    Step { title: "ten hostile containers together", role: Looks, take: together::ten },
];

/// LXC's programs come to this board only.
const STEPS_ON_ARM64: &[Step] =
    &[Step { title: "the same inside a container of LXC's, with its defaults", role: Looks, take: lxc::compare }];

const LAST: &[Step] = &[Step { title: "the board is powered off in time", role: Looks, take: attempts::power_off }];

fn steps(arch: Arch) -> impl Iterator<Item = &'static Step> {
    STEPS.iter().chain(if has_lxc(arch) { STEPS_ON_ARM64 } else { &[] }).chain(LAST)
}

fn has_lxc(arch: Arch) -> bool {
    arch == Arch::Arm64
}

/// Boots, attacks, and looks. The report tells how it went; an error is about what comes before the board.
pub fn run(
    cache: &Cache,
    arch: Arch,
    directory: &Path,
    length: Length,
    wanted: &Wanted,
) -> Result<Report, BuildError> {
    let began = Instant::now();
    let all: Vec<&Step> = steps(arch).collect();
    let places = wanted.places(all.iter().map(|step| (step.title, step.role)))?;
    std::fs::create_dir_all(directory).map_err(BuildError::io(directory))?;
    let prepared = Prepared::new(cache, arch, &APPLIANCE)?;
    let lxc = has_lxc(arch).then(|| lxc::stick(cache, &prepared, directory)).transpose()?;
    let of_32_bits = denied_calls::program_of_32_bits(cache, arch)?;
    let prepare_seconds = began.elapsed().as_secs_f64();
    left_behind::clear(directory);
    let switched_on = Instant::now();
    let mut arena = Arena::new(&prepared, directory, length, lxc, of_32_bits);
    let planned = places.len();
    let steps = places.into_iter().map(|place| take(&mut arena, place + 1, all[place])).collect();
    arena.print_table();
    arena.clear_away();
    Ok(Report::ended(&prepared.ingredients, prepare_seconds, switched_on, planned, steps))
}

fn take(arena: &mut Arena<'_>, number: usize, step: &Step) -> StepReport {
    let taken = Observer::observe(number, step.title, |observer| (step.take)(arena, observer));
    if taken.failure.is_some() {
        left_behind::keep(&arena.directory, number, arena.board().ok(), &arena.directory);
    }
    taken
}
