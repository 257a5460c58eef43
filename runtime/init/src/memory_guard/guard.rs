//! The state of the memory guard: the pressure trigger by which the kernel wakes us, the state of its table, and the child that
//! measures sockets.

use super::freezer::Freezer;
use super::shortage::{self, Figures};
use super::table::State;
use super::weight::Weight;
use crate::boot_clock::Moment;
use crate::log::{Log, Priority};
use crate::paths::Paths;
use crate::process::Output;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The kernel wakes us when somebody waited for memory for so long of so long, in microseconds. The window is the shortest that
/// it takes; it looks ten times in it, and tells us once (psi.rst). The last byte is not looked at: it becomes a NUL.
const TRIGGER: &str = "some 20000 500000\0";

/// Where it is asked for that.
const PRESSURE: &str = "/proc/pressure/memory";

#[derive(Debug, Default)]
pub(crate) struct MemoryGuard {
    pub(super) trigger: Option<File>,
    pub(super) freezer: Freezer,
    pub(super) state: State,
    /// What no group counted before the first instance started.
    pub(super) first: Option<u64>,
    /// What modules took then.
    pub(super) first_modules: u64,
    /// What is missing of the memory beyond that.
    pub(super) missing_bytes: u64,
    pub(super) weigher: Option<Weigher>,
    pub(super) looked_at: Moment,
    /// What was ended for memory may not have given back all of it before.
    pub(super) given_back_at: Moment,
}

/// The child that looks into the instances' sockets.
#[derive(Debug)]
pub(super) struct Weigher {
    pub(super) process: (i32, OwnedFd),
    pub(super) output: Output,
    pub(super) weights: Vec<Weight>,
}

impl MemoryGuard {
    /// Drivers were loaded beside the first instances, and what they took no group counts either.
    pub(crate) fn count_drivers(&mut self, paths: &Paths) {
        if let (Some(first), Some(figures)) = (self.first, Figures::read(paths)) {
            let modules = shortage::modules().saturating_sub(self.first_modules);
            self.first = Some(figures.first_with_drivers(first, modules));
        }
    }

    /// Asks the kernel to wake us. `groups`: the group that holds all instances.
    pub(crate) fn open(groups: &Path, log: &mut Log) -> MemoryGuard {
        let trigger = ask_kernel(TRIGGER).map_err(|error| {
            let instead = "memory is only looked at when something else wakes us";
            log.say(Priority::Notice, format_args!("{PRESSURE}: {error}: {instead}"));
        });
        let freezer = Freezer::open(groups).map_err(|error| {
            log.say(Priority::Notice, format_args!("instances cannot be frozen: {}: {error}", groups.display()));
        });
        MemoryGuard { trigger: trigger.ok(), freezer: freezer.unwrap_or_default(), ..MemoryGuard::default() }
    }

    /// What wakes us when memory is short.
    pub(crate) fn trigger(&self) -> Option<&File> {
        self.trigger.as_ref()
    }

    /// The weigher's standard output, while it runs.
    pub(crate) fn output(&self) -> Option<&File> {
        self.weigher.as_ref().and_then(|weigher| weigher.output.reader())
    }

    /// When something is to be done though nothing happens.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.state.deadline().into_iter().chain(self.freezer.deadline()).min()
    }

    /// Whether it is the child.
    pub(crate) fn is(&self, pid: i32) -> bool {
        self.weigher.as_ref().is_some_and(|weigher| weigher.process.0 == pid)
    }
}

impl Weigher {
    /// Reads what it says.
    pub(super) fn read(&mut self, now: Moment) {
        let weights = &mut self.weights;
        self.output.read(now, &mut |line| take_weight(weights, line));
    }

    /// It has ended: reads what it said last.
    pub(super) fn drain(&mut self, now: Moment) {
        let weights = &mut self.weights;
        self.output.drain(now, &mut |line| take_weight(weights, line));
    }
}

fn ask_kernel(trigger: &str) -> io::Result<File> {
    let mut file = File::options().read(true).write(true).open(PRESSURE)?;
    file.write_all(trigger.as_bytes())?;
    Ok(file)
}

/// What the child says later of an instance takes the place of what it said before.
fn take_weight(weights: &mut Vec<Weight>, line: &str) {
    if let Some(weight) = Weight::parse(line) {
        weights.retain(|before| before.name != weight.name);
        weights.push(weight);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_the_trigger() {
        if !Path::new(PRESSURE).exists() {
            println!("SKIPPED: needs {PRESSURE}");
            return;
        }
        // Whoever lacks CAP_SYS_RESOURCE must take a window of two seconds.
        let longer = TRIGGER.replace(" 500000", " 2000000");
        assert_ne!(longer, TRIGGER);
        ask_kernel(TRIGGER).or_else(|_| ask_kernel(&longer)).unwrap();
    }

    #[test]
    fn what_is_said_last_of_an_instance_counts() {
        let mut weights = Vec::new();
        for line in ["one 1 0 0", "two 2 0 0", "noise", "one 1 7 7"] {
            take_weight(&mut weights, line);
        }
        let expected = ["two 2 0 0", "one 1 7 7"].map(|line| Weight::parse(line).unwrap());
        assert_eq!(weights, expected);
    }
}
