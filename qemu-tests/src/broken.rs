//! What breaks, and what of it must not matter: boards with spoilt configuration, foreign images, absent devices, killed
//! processes, a full, a foreign and a missing data partition, a kernel without a controller and a module, a clock past 2038,
//! a power cut, a reboot, and a spoilt system slot. And a kernel that is not the usual one. Every step is ticked by what was
//! seen on the board.
//!
//! The steps share few boots. One that fails does not keep the later ones from telling what they see; a boot that fails
//! ends only those that need its board.

mod appliance;
mod apply;
mod bench;
mod boots;
mod clock;
mod compressed_modules;
mod condition;
mod configuration;
mod controllers;
mod cut_apply;
mod data_partition;
mod devices;
mod failure;
mod fullness;
mod idle;
mod instance_runs;
mod killed_apply;
mod killed_launcher;
mod killed_processes;
mod last_words;
mod lingering_mount;
mod power_cut;
mod pressure;
mod reboot;
mod shared_image;
mod slots;

use crate::arch::Arch;
use crate::board::{BuildError, Prepared, left_behind};
use crate::cache::Cache;
use crate::length::Length;
use crate::report::{Observer, Report, StepReport};
use crate::steps::Role::{self, Boots, Follows, Looks};
use crate::steps::Wanted;
use appliance::APPLIANCE;
use bench::Bench;
use condition::ByKernel;
use failure::BrokenError;
use std::path::Path;
use std::time::Instant;

/// One step: what it is to show, and how.
struct Step {
    title: &'static str,
    role: Role,
    take: fn(&mut Bench<'_>, &mut Observer) -> Result<(), BrokenError>,
}

const STEPS: &[Step] = &[
    Step {
        title: "a board boots with spoilt specs and bad files on its data partition",
        role: Boots,
        take: boots::spoilt,
    },
    Step {
        title: "spoilt specs are compiled again, and their instances run",
        role: Looks,
        take: configuration::spoilt_specs,
    },
    Step {
        title: "bad configuration is named, and costs only its own instance",
        role: Looks,
        take: configuration::bad_files,
    },
    Step {
        title: "images for another machine or a newer runtime are refused",
        role: Looks,
        take: configuration::foreign_images,
    },
    Step { title: "instances of one image share its devices", role: Looks, take: shared_image::one_device },
    Step { title: "each limit applies at once to what runs", role: Looks, take: apply::every_limit },
    Step {
        title: "devices come and go in what runs when they are configured",
        role: Looks,
        take: apply::come_and_go,
    },
    Step { title: "whoever applies is killed at any moment", role: Looks, take: killed_apply::killed },
    Step {
        title: "devices that are not there: done without, refused, waited for",
        role: Looks,
        take: devices::absent,
    },
    Step { title: "clocks of an instance's own, where the kernel has them", role: Looks, take: clock::of_its_own },
    Step { title: "at rest we use little memory and write nothing", role: Looks, take: idle::budgets },
    Step { title: "netd is killed, and the containers do not notice", role: Looks, take: killed_processes::netd },
    Step {
        title: "an instance's init is killed, and its restart policy is followed",
        role: Looks,
        take: killed_processes::init,
    },
    Step {
        title: "a launcher is killed in the middle, and nothing of its start is left",
        role: Looks,
        take: killed_launcher::at_work,
    },
    Step { title: "the data partition fills up", role: Looks, take: fullness::fill },
    Step { title: "the power is cut, and what was synced is there afterwards", role: Follows, take: power_cut::cut },
    Step { title: "the same board starts from a full data partition", role: Follows, take: power_cut::after },
    Step {
        title: "told to reboot, the board comes up by itself, and has lost nothing",
        role: Follows,
        take: reboot::by_itself,
    },
    Step {
        title: "a board boots without the memory controller and veth, its data partition full of something else",
        role: Boots,
        take: boots::foreign_data,
    },
    Step {
        title: "what is not ours is not formatted; instances run without it",
        role: Looks,
        take: data_partition::foreign,
    },
    Step {
        title: "a limit without its controller is refused, with the boot parameter",
        role: Looks,
        take: controllers::missing,
    },
    Step {
        title: "an interface without its module is refused, with the boot parameter",
        role: Looks,
        take: controllers::missing_module,
    },
    Step { title: "the foreign data is what it was, byte for byte", role: Looks, take: data_partition::untouched },
    Step {
        title: "a board boots in the year 2040, without a data partition and figures of pressure",
        role: Boots,
        take: boots::in_2040,
    },
    Step {
        title: "a missing data partition is named; instances run without it",
        role: Looks,
        take: data_partition::missing,
    },
    Step { title: "the clock is right, and everything runs, after 2038", role: Looks, take: clock::after_2038 },
    Step {
        title: "a kernel that does not tell when memory is short costs only the telling",
        role: Looks,
        take: pressure::untold,
    },
    Step {
        title: "a system on trial that is not what was signed is refused, and the board restarts",
        role: Boots,
        take: slots::refused,
    },
    Step {
        title: "when its tries are used up, the other slot's system comes up",
        role: Follows,
        take: slots::fallen_back,
    },
];

/// On arm64 alone: what they show is the same on any board, and an emulated armhf takes three times as long for it.
const STEPS_ON_ARM64: &[Step] = &[
    Step { title: "a board boots a newer kernel, with compressed modules", role: Boots, take: boots::newer_kernel },
    Step { title: "compressed modules are loaded, and instances run", role: Looks, take: compressed_modules::loaded },
    Step { title: "rules of restarts and health apply at once to what runs", role: Looks, take: apply::every_rule },
    Step { title: "networks change at once below what runs", role: Looks, take: apply::every_network_key },
    Step {
        title: "a start waits for the mount of the run before, where the kernel mounts no layer twice",
        role: Looks,
        take: lingering_mount::waited_for,
    },
    Step {
        title: "the power is cut in the middle of applies, and it is before or after",
        role: Looks,
        take: cut_apply::cut,
    },
    Step {
        title: "the kernel panics, and after the restart it is told why, with its last words",
        role: Looks,
        take: last_words::kept,
    },
];

fn steps(arch: Arch) -> impl Iterator<Item = &'static Step> {
    STEPS.iter().chain(if has_newer_kernel(arch) { STEPS_ON_ARM64 } else { &[] })
}

fn has_newer_kernel(arch: Arch) -> bool {
    arch == Arch::Arm64
}

/// Boots, breaks, and looks. The report tells how it went; an error is about what comes before the first board.
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
    let usual = Prepared::new(cache, arch, &APPLIANCE)?;
    let newer = has_newer_kernel(arch).then(|| usual.with_newer_kernel(cache, &APPLIANCE)).transpose()?;
    let prepared = ByKernel { usual, newer };
    let prepare_seconds = began.elapsed().as_secs_f64();
    left_behind::clear(directory);
    let switched_on = Instant::now();
    let mut bench = Bench::new(&prepared, directory, length);
    let planned = places.len();
    let steps = places.into_iter().map(|place| take(&mut bench, place + 1, all[place])).collect();
    bench.clear_away();
    Ok(Report::ended(&prepared.usual.ingredients, prepare_seconds, switched_on, planned, steps))
}

fn take(bench: &mut Bench<'_>, number: usize, step: &Step) -> StepReport {
    let taken = Observer::observe(number, step.title, |observer| (step.take)(bench, observer));
    if taken.failure.is_some() {
        bench.leave_behind(number);
    }
    taken
}
