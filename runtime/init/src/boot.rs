//! The boot of this system: does what `boot::table` says.

pub(crate) mod parts;
pub(crate) mod progress;
mod table;

use crate::boot_clock::{Moment, whole_ms};
use crate::booted_slot;
use crate::clock_floor;
use crate::data_partition::{self, format_mark};
use crate::hardware_watchdog::HardwareWatchdog;
use crate::identities;
use crate::identities::stored::{IdentitiesFile, Persistence};
use crate::instance::Instance;
use crate::instances::Instances;
use crate::job::{Job, JobEnd, Lane};
use crate::log::Priority;
use crate::modules;
use crate::process::how_it_ended;
use crate::service_list;
use crate::specs;
use crate::supervisor::Supervisor;
use crate::trusted_keys;
use parts::{Part, Parts};
use std::io;
use std::path::{Path, PathBuf};
use table::{Action, Event, Search, Stage};
use yado_spec::file::EXIT_SOME_ARE_BAD;
use yado_sys::children::{Ended, SIGKILL};
use yado_sys::clock;
use yado_sys::named_partition::{self, Disks, SYSFS};
use yado_wire::names::clipped;
use yado_wire::rescue::{EventKind, Mode};
use yado_wire::{Failure, Step};

impl Supervisor {
    /// Goes on where nothing need happen first.
    pub(crate) fn advance_boot(&mut self, now: Moment) {
        if self.shutdown.is_some() {
            return;
        }
        while let Some(part) = self.boot.reached.begin_next(now) {
            self.begin_part(part, now);
        }
        match self.boot.stage {
            Stage::FindData { until } => {
                let search = self.look_for_data(until <= now);
                self.step_boot(Event::Looked(search), now);
            }
            Stage::Begin
            | Stage::ReadData { .. }
            | Stage::MarkData { .. }
            | Stage::PrepareData { .. }
            | Stage::ClearMark { .. }
            | Stage::MountData { .. }
            | Stage::MakeVolatile
            | Stage::FormatVolatile { .. }
            | Stage::MountVolatile
            | Stage::ReadSpecs
            | Stage::Compile
            | Stage::ReadCompiled
            | Stage::Done => {}
        }
    }

    fn begin_part(&mut self, part: Part, now: Moment) {
        match (part, self.paths.mode) {
            (Part::Modules, Mode::System) => self.start_job(Job::ModulesOfInstances, now),
            (Part::Network, Mode::System) => self.start_job(Job::ModulesOfNetworks, now),
            (Part::Drivers, Mode::System) => self.start_job(Job::AllDrivers, now),
            // On a host nothing is loaded, and nothing of ours was before us.
            (Part::System | Part::Modules | Part::Network | Part::Drivers, Mode::Hosted) => self.reach(part),
            // The table's goes on to the specs.
            (Part::Data, mode) => self.step_boot(Event::Begin(mode), now),
            (Part::Netd, _) => self.netd.since = Some(now),
            // Begun before our loop; or gone on to.
            (Part::System, Mode::System) | (Part::Specs, _) => {}
        }
    }

    /// A part of our start is over.
    pub(crate) fn reach(&mut self, part: Part) {
        // What was done at once took its time too.
        let now = clock::since_boot();
        let Some(took) = self.boot.reached.finish(part, now) else { return };
        if part == Part::Data {
            self.boot.reached.begin(Part::Specs, now);
        }
        let (name, waited_for) = (part.name(), Parts::of(part.waits_for()));
        let took = whole_ms(took);
        self.log.say(Priority::Info, format_args!("stage: {name} ({took} ms, after {waited_for})"));
        self.events.publish(None, EventKind::Stage(clipped(name)));
    }

    /// Starts a job, now or after the one that runs in its lane.
    pub(crate) fn start_job(&mut self, job: Job, now: Moment) {
        if let Some((job, end)) = self.jobs.start(job, &self.paths, &mut self.log, now) {
            self.take_job_end(&job, &end, now);
        }
    }

    /// Gives up the jobs that hang.
    pub(crate) fn advance_jobs(&mut self, now: Moment) {
        for lane in Lane::ALL {
            if self.jobs.is_hanging(lane, &mut self.log, now) {
                self.note_job_end(lane, Ended::Signal(SIGKILL), now);
            }
        }
    }

    /// The job in a lane has ended.
    pub(crate) fn note_job_end(&mut self, lane: Lane, ended: Ended, now: Moment) {
        let Some((job, end)) = self.jobs.end(lane, ended, &mut self.log, now) else { return };
        self.take_job_end(&job, &end, now);
        if let Some(job) = self.jobs.next(lane) {
            self.start_job(job, now);
        }
    }

    fn take_job_end(&mut self, job: &Job, end: &JobEnd, now: Moment) {
        let ended = end.ended;
        // What is bad is told with its instance.
        let are_some_bad = *job == Job::Compile && ended == Ended::Code(EXIT_SOME_ARE_BAD);
        if ended != Ended::Code(0) && !are_some_bad {
            self.log.say(Priority::Warning, format_args!("{}: {}", job.name(), how_it_ended(ended)));
        }
        if let Job::SetLimits { instance, before, .. } = job {
            self.note_limits(*instance, before, end);
        }
        if matches!(job, Job::SaveIdentities { .. }) && ended != Ended::Code(0) {
            // The next apply tries it again.
            self.identities_file = IdentitiesFile::Behind;
        }
        if self.shutdown.is_none() {
            match job {
                Job::ModulesOfInstances => self.reach(Part::Modules),
                Job::ModulesOfNetworks => self.reach(Part::Network),
                Job::AllDrivers => self.finish_drivers(),
                Job::Drivers(_)
                | Job::Check(_)
                | Job::Format { .. }
                | Job::Mount { .. }
                | Job::FillReserve
                | Job::FormatVolatile(_)
                | Job::Compile
                | Job::SaveIdentities { .. }
                | Job::SetLimits { .. }
                | Job::Unmount { .. } => {}
                // It asks why the system was started.
                Job::NoteBoot { .. } => self.begin_updates(now),
            }
        }
        self.step_boot(Event::JobEnded(job, end), now);
    }

    /// Tells the table that something happened, and does what it says, until something has to be waited for.
    fn step_boot(&mut self, event: Event<'_>, now: Moment) {
        let mut event = event;
        // Nothing is begun any more; that a repair was cut off is no failure of the partition.
        while self.shutdown.is_none() {
            let stage = std::mem::replace(&mut self.boot.stage, Stage::Done);
            let (stage, action) = table::step(stage, event, now);
            self.boot.stage = stage;
            event = match action {
                Action::None => return,
                Action::Start(job) => return self.start_job(job, now),
                Action::Read(device) => {
                    Event::Read(data_partition::read_content(&device).map_err(|error| failure_of(&device, &error)))
                }
                Action::Mark(device) => {
                    self.log.say(Priority::Notice, format_args!("{} is blank: it is formatted", device.display()));
                    Event::Marked(format_mark::set(&device).map_err(|error| failure_of(&device, &error)))
                }
                Action::ClearMark(device) => {
                    Event::Cleared(format_mark::clear(&device).map_err(|error| failure_of(&device, &error)))
                }
                Action::MakeVolatile(failure) => {
                    self.log.say(Priority::Error, format_args!("{failure}"));
                    self.data_failure = Some(*failure);
                    let file = self.paths.run.join("volatile.ext4");
                    Event::FileMade(data_partition::create_volatile(&file).is_ok().then_some(file))
                }
                Action::MountVolatile(file) => {
                    let mounted = match file {
                        Some(file) => data_partition::mount_volatile(&file),
                        None => data_partition::mount_tmpfs(),
                    };
                    if let Err(failure) = mounted {
                        // Layers then have no place to be made in, and each instance says so.
                        self.log.say(Priority::Error, format_args!("{failure}"));
                    }
                    Event::DataMounted
                }
                Action::UseData => {
                    self.finish_data();
                    self.read_specs()
                }
                Action::UseVolatile => {
                    self.boot.data = Persistence::UntilReboot;
                    self.reach(Part::Data);
                    self.raise_clock();
                    self.read_specs()
                }
                Action::ReadSpecs => {
                    self.reach(Part::Data);
                    self.read_specs()
                }
                Action::Finish => return self.finish_start(now),
            };
        }
    }

    fn look_for_data(&self, is_late: bool) -> Search {
        let is_late = is_late && self.boot.has_drivers();
        match named_partition::find(Path::new(SYSFS), &[data_partition::PARTITION], &Disks::of_system(is_late)) {
            Ok(Some(device)) => Search::Device(device),
            Ok(None) if self.boot.has_drivers() => Search::Nothing,
            Ok(None) => Search::NotYet,
            Err(several) => Search::Several(several.to_string()),
        }
    }

    fn finish_drivers(&mut self) {
        if !self.boot.has_drivers() {
            self.reach(Part::Drivers);
            self.memory_guard.count_drivers(&self.paths);
            if modules::are_requests_forbidden() {
                let why = "processes made the kernel ask for modules too often: it asked no more, for parts of drivers either";
                self.log.say(Priority::Warning, format_args!("{why}"));
            } else if let Err(error) = modules::forbid_requests() {
                self.log.say(Priority::Warning, format_args!("kernel.modprobe: {error}"));
            }
        }
        self.open_power_keys();
    }

    fn finish_data(&mut self) {
        self.data_failure = data_partition::fullness();
        if let Some(failure) = &self.data_failure {
            let text = failure.to_string();
            self.log.say(Priority::Error, format_args!("{text}"));
        }
        self.reach(Part::Data);
        self.raise_clock();
    }

    fn raise_clock(&mut self) {
        if let Some(to) = clock_floor::raise(&self.paths.system, &self.clock_file()) {
            self.log.say(Priority::Notice, format_args!("the clock was behind: it is set to {to} s since 1970"));
        }
    }

    pub(crate) fn clock_file(&self) -> PathBuf {
        self.paths.data.join("state/clock")
    }

    fn read_specs(&mut self) -> Event<'static> {
        let found = specs::read(&self.paths, &mut self.log);
        self.boot.configured = found.instances;
        Event::SpecsRead { are_stale: found.is_stale }
    }

    fn finish_start(&mut self, now: Moment) {
        let configured = std::mem::take(&mut self.boot.configured);
        let standing = booted_slot::standing(self.slot, &self.paths.state());
        let assigned = identities::stored::assign(&self.paths, self.boot.data, standing, &configured, &mut self.log);
        (self.identities, self.identities_file) = assigned;
        let identities = &self.identities;
        self.instances =
            Instances::new(configured.into_iter().filter_map(|one| Instance::of(one, identities)).collect());
        self.events.keep_for(self.instances.count());
        for instance in self.instances.in_order() {
            if let Err(failure) = &instance.spec {
                self.log.say(Priority::Error, format_args!("{}: {failure}", instance.name));
            }
        }
        trusted_keys::collect(&self.paths, &mut self.log);
        self.services = service_list::services(&self.paths, &self.instances, &mut self.log);
        self.next_turn = now;
        if self.paths.mode == Mode::System {
            let was_watchdog = self.watchdog.as_ref().is_some_and(HardwareWatchdog::did_reset);
            self.start_job(Job::NoteBoot { was_watchdog, slot: self.slot.map(|slot| slot.name) }, now);
        }
        self.reach(Part::Specs);
    }
}

fn failure_of(device: &Path, error: &io::Error) -> Failure {
    Failure::from_io(Step::Data, &device.to_string_lossy(), error)
}
