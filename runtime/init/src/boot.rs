//! The stages of our own start. Each ends with something that happens (a job ends, a partition appears, a deadline
//! passes), and none of them can keep the system from coming up.

use crate::clock_floor;
use crate::data_partition::superblock::Content;
use crate::data_partition::{self, format_mark};
use crate::ending::how_it_ended;
use crate::id_ranges;
use crate::job::{Job, JobEnd};
use crate::log::Priority;
use crate::modules;
use crate::moment::Moment;
use crate::service_list;
use crate::specs;
use crate::supervisor::Supervisor;
use crate::trusted_keys;
use std::path::{Path, PathBuf};
use std::time::Duration;
use yado_sys::children::{EXIT_NOT_EXECUTED, Ended};
use yado_sys::named_partition::{self, Disks, SYSFS};
use yado_wire::rescue::Mode;
use yado_wire::{Failure, Step};

/// A card reader behind a USB hub takes some seconds to tell of its card.
const DATA_PATIENCE: Duration = Duration::from_secs(15);

/// Where we are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// Nothing was begun.
    Begin,
    /// The data partition is looked for.
    FindData { until: Moment },
    /// Its file system is being repaired or made.
    PrepareData { device: PathBuf },
    /// It is being mounted.
    MountData { device: PathBuf },
    /// A stand-in for it is being made.
    PrepareVolatile { file: PathBuf },
    /// Specs are being compiled.
    Compile,
    /// Up.
    Done,
}

/// Our own start.
#[derive(Debug)]
pub(crate) struct Boot {
    stage: Stage,
    /// Drivers for the devices that were there at the start are loaded, so what is absent now is absent.
    has_drivers: bool,
}

impl Boot {
    /// Nothing was begun.
    pub(crate) fn new() -> Boot {
        Boot { stage: Stage::Begin, has_drivers: false }
    }

    /// Instances may start.
    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done && self.has_drivers
    }

    /// When a stage ends for want of what it waits for.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self.stage {
            // Nothing is given up before the drivers are there, and their end wakes us.
            Stage::FindData { until } => self.has_drivers.then_some(until),
            Stage::Begin
            | Stage::PrepareData { .. }
            | Stage::MountData { .. }
            | Stage::PrepareVolatile { .. }
            | Stage::Compile
            | Stage::Done => None,
        }
    }
}

impl Supervisor {
    /// Goes on where nothing need happen first.
    pub(crate) fn advance_boot(&mut self, now: Moment) {
        if self.shutdown.is_some() {
            return;
        }
        match self.boot.stage {
            Stage::Begin => match self.places.mode {
                // Meanwhile the rest goes on: the initramfs has loaded what this partition's disk needs.
                Mode::System => {
                    self.start_job(Job::AllDrivers, now);
                    self.boot.stage = Stage::FindData { until: now.saturating_add(DATA_PATIENCE) };
                }
                Mode::Hosted => {
                    self.boot.has_drivers = true;
                    self.begin_specs(now);
                }
            },
            Stage::FindData { until } => {
                let is_late = until <= now && self.boot.has_drivers;
                let name = data_partition::PARTITION;
                match named_partition::find(Path::new(SYSFS), &[name], &Disks::of_system(is_late)) {
                    Ok(Some(device)) => self.prepare_data(device, now),
                    Ok(None) if is_late => {
                        let reason = "no partition has this name on the system's disk; \
                            a file system in memory stands in";
                        self.give_up_data(Failure::refused(Step::Data, name, reason), now);
                    }
                    Ok(None) => {}
                    Err(several) => {
                        self.give_up_data(Failure::refused(Step::Data, name, &several.to_string()), now);
                    }
                }
            }
            Stage::PrepareData { .. }
            | Stage::MountData { .. }
            | Stage::PrepareVolatile { .. }
            | Stage::Compile
            | Stage::Done => {}
        }
    }

    /// Goes on after a job.
    pub(crate) fn advance_boot_after(&mut self, job: &Job, end: &JobEnd, now: Moment) {
        // Nothing is begun any more; that a repair was cut off is no failure of the partition.
        if self.shutdown.is_some() {
            return;
        }
        let ended = end.ended;
        let is_good = ended == Ended::Code(0);
        match (job, self.boot.stage.clone()) {
            (Job::AllDrivers, _) => {
                if !self.boot.has_drivers {
                    self.boot.has_drivers = true;
                    self.next_turn = now;
                    self.reach_stage("drivers");
                    // Instances start only now.
                    if let Err(error) = modules::forbid_requests() {
                        self.log.say(Priority::Warning, format_args!("kernel.modprobe: {error}"));
                    }
                }
                self.open_power_keys();
            }
            // e2fsck(8): 1 and 2 are "errors corrected".
            (Job::Check(_), Stage::PrepareData { device }) => match ended {
                Ended::Code(0..=2 | EXIT_NOT_EXECUTED) => self.mount_data(device, "ext4", now),
                Ended::Code(_) | Ended::Signal(_) => {
                    let reason = format!("its file system is broken: e2fsck -p {}", how_it_ended(ended));
                    self.give_up_data(Failure::refused(Step::Data, &device.to_string_lossy(), &reason), now);
                }
            },
            (Job::Format { .. }, Stage::PrepareData { device }) => {
                let cleared = if is_good { format_mark::clear(&device).err() } else { None };
                match (is_good, cleared) {
                    (true, None) => self.mount_data(device, "ext4", now),
                    (true, Some(error)) => {
                        self.give_up_data(Failure::from_io(Step::Data, &device.to_string_lossy(), &error), now);
                    }
                    (false, _) => {
                        let reason =
                            format!("it is blank and could not be formatted: mke2fs {}", how_it_ended(ended));
                        self.give_up_data(Failure::refused(Step::Data, &device.to_string_lossy(), &reason), now);
                    }
                }
            }
            (Job::Mount { .. }, Stage::MountData { .. }) if is_good => self.finish_data(now),
            (Job::Mount { kind, .. }, Stage::MountData { device }) => {
                let reason = match end.last_line.as_str() {
                    "" => format!("mount as {kind}: {}", how_it_ended(ended)),
                    reason => reason.to_owned(),
                };
                self.give_up_data(Failure::refused(Step::Data, &device.to_string_lossy(), &reason), now);
            }
            (Job::FormatVolatile(_), Stage::PrepareVolatile { file }) => {
                let mounted =
                    if is_good { data_partition::mount_volatile(&file) } else { data_partition::mount_tmpfs() };
                self.finish_volatile(mounted, now);
            }
            (Job::Compile, Stage::Compile) => self.finish_specs(now),
            (
                Job::Drivers(_)
                | Job::Check(_)
                | Job::Format { .. }
                | Job::Mount { .. }
                | Job::FormatVolatile(_)
                | Job::Compile
                | Job::Unmount { .. },
                _,
            ) => {}
        }
    }

    fn prepare_data(&mut self, device: PathBuf, now: Moment) {
        let content = match data_partition::read_content(&device) {
            Ok(content) => content,
            Err(error) => {
                let failure = Failure::from_io(Step::Data, &device.to_string_lossy(), &error);
                return self.give_up_data(failure, now);
            }
        };
        match content {
            Content::Ext4Clean => self.mount_data(device, "ext4", now),
            Content::F2fs => self.mount_data(device, "f2fs", now),
            Content::Btrfs => self.mount_data(device, "btrfs", now),
            Content::Ext4Dirty => {
                self.boot.stage = Stage::PrepareData { device: device.clone() };
                self.start_job(Job::Check(device), now);
            }
            Content::Blank => {
                self.log.say(Priority::Notice, format_args!("{} is blank: it is formatted", device.display()));
                let kib = match format_mark::set(&device) {
                    Ok(kib) => kib,
                    Err(error) => {
                        let failure = Failure::from_io(Step::Data, &device.to_string_lossy(), &error);
                        return self.give_up_data(failure, now);
                    }
                };
                self.boot.stage = Stage::PrepareData { device: device.clone() };
                self.start_job(Job::Format { device, kib }, now);
            }
            Content::Unknown => {
                let reason = "neither blank nor a file system we know: it is left as it is";
                self.give_up_data(Failure::refused(Step::Data, &device.to_string_lossy(), reason), now);
            }
        }
    }

    /// In a child: a journal may have to be replayed, and a slow card takes longer than the watchdog waits.
    fn mount_data(&mut self, device: PathBuf, kind: &'static str, now: Moment) {
        self.boot.stage = Stage::MountData { device: device.clone() };
        self.start_job(Job::Mount { device, kind }, now);
    }

    fn finish_data(&mut self, now: Moment) {
        self.data_failure = data_partition::fullness();
        if let Some(failure) = &self.data_failure {
            let text = failure.to_string();
            self.log.say(Priority::Error, format_args!("{text}"));
        }
        self.reach_stage("data");
        self.raise_clock();
        self.begin_specs(now);
    }

    /// The data partition cannot be used: a file system in memory stands in for it.
    fn give_up_data(&mut self, failure: Failure, now: Moment) {
        self.log.say(Priority::Error, format_args!("{failure}"));
        self.data_failure = Some(failure);
        let file = self.places.run.join("volatile.ext4");
        match data_partition::create_volatile(&file) {
            Ok(()) => {
                self.boot.stage = Stage::PrepareVolatile { file: file.clone() };
                self.start_job(Job::FormatVolatile(file), now);
            }
            Err(_) => {
                let mounted = data_partition::mount_tmpfs();
                self.finish_volatile(mounted, now);
            }
        }
    }

    fn finish_volatile(&mut self, mounted: Result<(), Failure>, now: Moment) {
        if let Err(failure) = mounted {
            // Layers then have no place to be made in, and each instance says so.
            self.log.say(Priority::Error, format_args!("{failure}"));
        }
        self.reach_stage("data-volatile");
        self.raise_clock();
        self.begin_specs(now);
    }

    fn raise_clock(&mut self) {
        if let Some(to) = clock_floor::raise(&self.places.system, &self.clock_file()) {
            self.log.say(Priority::Notice, format_args!("the clock was behind: it is set to {to} s since 1970"));
        }
    }

    pub(crate) fn clock_file(&self) -> PathBuf {
        self.places.data.join("state/clock")
    }

    fn begin_specs(&mut self, now: Moment) {
        let found = specs::read(&self.places, &mut self.log);
        if found.is_stale {
            self.boot.stage = Stage::Compile;
            self.start_job(Job::Compile, now);
        } else {
            self.finish_start(found, now);
        }
    }

    fn finish_specs(&mut self, now: Moment) {
        let found = specs::read(&self.places, &mut self.log);
        self.finish_start(found, now);
    }

    fn finish_start(&mut self, found: specs::Found, now: Moment) {
        self.instances = found.instances;
        id_ranges::stored::assign(&self.places, &mut self.instances, &mut self.log);
        for instance in &self.instances {
            if let Err(failure) = &instance.spec {
                self.log.say(Priority::Error, format_args!("{}: {failure}", instance.name));
            }
        }
        trusted_keys::collect(&self.places, &mut self.log);
        self.services = service_list::services(&self.places, &self.instances, &mut self.log);
        self.netd.since = Some(now);
        self.next_turn = now;
        self.boot.stage = Stage::Done;
        self.reach_stage("specs");
    }
}
