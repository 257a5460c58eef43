//! The matrix of guests on a board: roots with the inits that there are, each added from a USB stick by a user's own commands,
//! started, stopped, rebooted and powered off, one after the other in one boot. Init's hosted tests judge the same roots, and more
//! often; what is looked for is one table, `expected.rs`.

mod appliance;
mod bench;
mod expected;
mod failure;
mod images;
mod inner_init;
mod judge;
mod nested;
mod nesting;
mod whole_board;

use crate::arch::Arch;
use crate::board::{BuildError, Prepared, left_behind};
use crate::cache::Cache;
use crate::report::{Observer, Report, StepReport};
use crate::steps::Role::{self, Boots, Follows, Looks};
use crate::steps::Wanted;
use appliance::APPLIANCE;
use bench::Bench;
use expected::Guest;
use failure::GuestError;
use images::OnStick;
use std::path::Path;
use std::time::Instant;

/// One step: what it is to show, and how.
struct Step {
    title: &'static str,
    role: Role,
    take: Take,
}

/// What is done in a step.
enum Take {
    /// Something on the board as it is.
    Board(fn(&mut Bench<'_>, &mut Observer) -> Result<(), GuestError>),
    /// Something with a guest that comes to it.
    Guest(OnStick, fn(&Bench<'_>, &mut Observer, &OnStick) -> Result<(), GuestError>),
}

const fn judged(title: &'static str, guest: &'static Guest) -> Step {
    let on_stick = OnStick { guest, instance: guest.name, arch: Arch::Arm64, more: "" };
    Step { title, role: Looks, take: Take::Guest(on_stick, judge::judge) }
}

const fn follows(title: &'static str, take: fn(&mut Bench<'_>, &mut Observer) -> Result<(), GuestError>) -> Step {
    Step { title, role: Follows, take: Take::Board(take) }
}

/// With an interface, and what podman needs.
const NESTS: OnStick =
    OnStick { guest: &expected::NESTING, instance: nesting::NESTS, arch: Arch::Arm64, more: nested::FUSE };

/// Of another architecture that the board's processor runs too.
const OF_32_BITS: OnStick = OnStick { guest: &expected::SYSTEMD, instance: "armhf", arch: Arch::Armhf, more: "" };

const STEPS: &[Step] = &[
    Step {
        title: "a board of 512 MiB boots, and a stick with guests is plugged in",
        role: Boots,
        take: Take::Board(whole_board::boot),
    },
    judged("busybox, and nothing else", &expected::BUSYBOX),
    judged("Debian 12 with systemd", &expected::SYSTEMD),
    judged("Debian 11 with systemd", &expected::BULLSEYE),
    judged("Debian sid with systemd", &expected::SID),
    judged("Debian 12 with systemd, ssh, cron and rsyslog", &expected::FULL),
    judged("sysvinit", &expected::SYSVINIT),
    judged("OpenRC, started by init of SysV", &expected::OPENRC),
    judged("OpenRC with its own init", &expected::OPENRC_INIT),
    judged("runit", &expected::RUNIT),
    judged("finit", &expected::FINIT),
    judged("one static program", &expected::PROGRAM),
    Step {
        title: "Debian 12 of 32 bits with systemd",
        role: Looks,
        take: Take::Guest(OF_32_BITS, judge::judge_of_32_bits),
    },
    Step { title: "a root with tools for containers nests", role: Looks, take: Take::Guest(NESTS, nesting::prepare) },
    follows("bubblewrap runs a container inside", |bench, observer| nesting::run(bench, observer, "bwrap")),
    follows("bubblewrap runs one for a user", |bench, observer| nesting::run(bench, observer, "bwrap of a user")),
    follows("crun runs one", |bench, observer| nesting::run(bench, observer, "crun")),
    follows("podman runs one without a network", |bench, observer| {
        nesting::run(bench, observer, "podman without a network")
    }),
    follows("podman runs one for a user", |bench, observer| {
        nesting::run(bench, observer, "podman of a user, without a network")
    }),
    follows("podman runs one with a network of its own", |bench, observer| {
        nesting::run(bench, observer, "podman")?;
        nesting::reaches_outside(bench, observer, nesting::Whose::Root)
    }),
    follows("podman runs one for a user with a network of its own", |bench, observer| {
        nesting::run(bench, observer, "podman of a user")?;
        nesting::reaches_outside(bench, observer, nesting::Whose::Users)
    }),
    follows("a limit that podman sets is held by the board's kernel", |bench, observer| {
        nesting::limit(bench, observer)
    }),
    follows("what nests is stopped whole", |bench, observer| nesting::end(bench, observer)),
    Step {
        title: "an init of ours in a privileged instance keeps one of its own, whose limit holds",
        role: Looks,
        take: Take::Board(|bench, observer| inner_init::run(bench, observer)),
    },
    Step {
        title: "the board is powered off in time with guests running",
        role: Looks,
        take: Take::Board(whole_board::power_off),
    },
];

/// Boots, and judges. The report tells how it went; an error is about what comes before the board.
pub fn run(cache: &Cache, directory: &Path, wanted: &Wanted) -> Result<Report, BuildError> {
    let (began, arch) = (Instant::now(), Arch::Arm64);
    let places = wanted.places(STEPS.iter().map(|step| (step.title, step.role)))?;
    std::fs::create_dir_all(directory).map_err(BuildError::io(directory))?;
    let prepared = Prepared::new(cache, arch, &APPLIANCE)?;
    // A root takes minutes the first time: of one step that is wanted, only its own is made.
    let guests: Vec<OnStick> = places.iter().filter_map(|&place| STEPS[place].on_stick()).collect();
    let stick = images::stick(cache, &prepared, &guests, directory)?;
    let prepare_seconds = began.elapsed().as_secs_f64();
    left_behind::clear(directory);
    let switched_on = Instant::now();
    let planned = places.len();
    let mut bench = Bench::new(&prepared, directory, stick, guests).map_err(BuildError::io(directory))?;
    let steps = places.into_iter().map(|place| take(&mut bench, place + 1, &STEPS[place])).collect();
    bench.clear_away();
    Ok(Report::ended(&prepared.ingredients, prepare_seconds, switched_on, planned, steps))
}

impl Step {
    fn on_stick(&self) -> Option<OnStick> {
        match &self.take {
            Take::Board(_) => None,
            Take::Guest(on_stick, _) => Some(*on_stick),
        }
    }
}

fn take(bench: &mut Bench<'_>, number: usize, step: &Step) -> StepReport {
    let taken = Observer::observe(number, step.title, |observer| match &step.take {
        Take::Board(take) => take(bench, observer),
        Take::Guest(on_stick, take) => take(bench, observer, on_stick),
    });
    if taken.failure.is_some() {
        left_behind::keep(&bench.directory, number, bench.board().ok(), &bench.directory);
    }
    // Whatever it still does would be in the next one's way.
    if let (Some(_), Some(guest)) = (&taken.failure, step.on_stick()) {
        let _ = bench.yado(&["rescue", "stop", "--force", guest.instance]);
    }
    taken
}
