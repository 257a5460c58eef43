//! The process: what it owns, and its one loop. Everything that happens comes through [`Event`](crate::poll_events::Event).
//! The tables in `instance::lifecycle`, `service`, `boot` and `shutdown` decide what to do; the `impl Supervisor` blocks of the
//! other modules do it.

use crate::apply::PendingApply;
use crate::boot::parts::{self, Part};
use crate::boot::progress::Boot;
use crate::boot_clock::Moment;
use crate::close_queue::{CloseQueue, Pace};
use crate::control::client::Clients;
use crate::damaged_images::DamagedImages;
use crate::events::Events;
use crate::free_space::FreeSpace;
use crate::hardware_watchdog::HardwareWatchdog;
use crate::hotplug::table::Hotplug;
use crate::identities::Identities;
use crate::identities::stored::IdentitiesFile;
use crate::image_cache::ImageCache;
use crate::instance::Instance;
use crate::instance::lifecycle::{self, Action, Gate, State, Wanted};
use crate::instances::Instances;
use crate::job::{Job, Jobs};
use crate::launch::{Launch, LaunchId, Launchers};
use crate::log::{Log, Priority};
use crate::memory_guard::guard::MemoryGuard;
use crate::netd::{Netd, SERVICE, detach_queue};
use crate::paths::Paths;
use crate::poll_events::{PollEvents, Sockets};
use crate::reader_link::ReaderLink;
use crate::service::{self, Service};
use crate::shutdown::sequence::Shutdown;
use crate::updater::Updater;
use std::time::Duration;
use yado_sys::children::{Ended, SIGTERM};
use yado_sys::{clock, stack};
use yado_wire::Budget;
use yado_wire::booted_slot::BootedSlot;
use yado_wire::names::clipped;
use yado_wire::rescue::{EventKind, InstanceState, Mode};
use yado_wire::{Failure, InstanceId, InstanceName};

/// More starts at once only make each slower and use the memory of all.
const MAX_STARTING: usize = 4;

/// After this time without work, the process gives back memory that only work needs.
const IDLE: Duration = Duration::from_secs(1);

/// How often the table is asked again after it changed something. The longest chain of changes is three steps.
const MAX_STEPS: usize = 8;

/// How many ends of unknown processes are remembered while launchers run: a launcher may report one of them later.
const MAX_UNKNOWN_ENDS: usize = 32;

/// Everything the process owns.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) paths: Paths,
    pub(crate) log: Log,
    pub(crate) events: Events,
    pub(crate) sockets: Sockets,
    pub(crate) reader: ReaderLink,
    /// Descriptors that closers close for us.
    pub(crate) close_queue: CloseQueue,
    pub(crate) clients: Clients,
    pub(crate) instances: Instances,
    /// Ids and id ranges of all instances, also of deleted ones whose layers are still there.
    pub(crate) identities: Identities,
    /// Whether `state/ids` holds the same.
    pub(crate) identities_file: IdentitiesFile,
    /// The apply that is not over.
    pub(crate) pending_apply: Option<PendingApply>,
    pub(crate) services: Vec<Service>,
    pub(crate) updater: Updater,
    pub(crate) launches: Vec<Launch>,
    pub(crate) next_launch: LaunchId,
    pub(crate) jobs: Jobs,
    pub(crate) boot: Boot,
    pub(crate) hotplug: Hotplug,
    pub(crate) uevent_budget: Budget,
    pub(crate) netd: Netd,
    pub(crate) image_cache: ImageCache,
    pub(crate) shutdown: Option<Shutdown>,
    pub(crate) watchdog: Option<HardwareWatchdog>,
    pub(crate) slot: Option<BootedSlot>,
    /// What is wrong with the data partition.
    pub(crate) data_failure: Option<Failure>,
    pub(crate) free_space: FreeSpace,
    pub(crate) damaged_images: DamagedImages,
    pub(crate) memory_guard: MemoryGuard,
    /// Processes that ended before a launcher could tell whose they were.
    pub(crate) unknown_ends: Vec<(i32, Ended)>,
    /// When this process was started, since the boot.
    pub(crate) started: Moment,
    /// When the next instance in the boot order may start.
    pub(crate) next_turn: Moment,
}

/// The loop of a hosted init has ended. As PID 1 the loop ends only when the machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finished;

impl Supervisor {
    /// The loop: does what is due, waits, and handles what the wait found. As PID 1 it ends only when the machine does.
    pub(crate) fn run(&mut self) -> Finished {
        let mut poll_events = PollEvents::default();
        let mut is_at_rest = false;
        loop {
            let mut now = clock::since_boot();
            self.settle(now);
            if self.finish_shutdown(now) {
                return Finished;
            }
            poll_events.collect(self, now);
            let timeout = self.deadline(now).map(|at| at.saturating_sub(now));
            let timeout = if is_at_rest { timeout } else { Some(timeout.map_or(IDLE, |timeout| timeout.min(IDLE))) };
            if let Err(error) = poll_events.wait(timeout) {
                // At worst the kernel is out of memory. The next round may succeed, and does not spin: it has other work to do first.
                self.log.say(Priority::Error, format_args!("poll: {error}"));
            }
            let began = std::mem::replace(&mut now, clock::since_boot());
            is_at_rest = poll_events.ready().next().is_none() && (is_at_rest || IDLE <= now.saturating_sub(began));
            if is_at_rest {
                // A request is decoded deep in the stack, and may be the last one for months.
                stack::give_back_unused();
            }
            for (event, readiness) in poll_events.ready() {
                self.handle(event, readiness, now);
            }
        }
    }

    /// Does everything that the tables say is due now. Not inlined: its stack frame, with those of all it calls, would become
    /// that of the loop, and what the loop itself holds is never given back.
    #[inline(never)]
    fn settle(&mut self, now: Moment) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.feed_when_due(&mut self.log, now);
        }
        self.advance_shutdown(now);
        self.advance_boot(now);
        self.advance_jobs(now);
        for number in 0..self.services.len() {
            self.step_service(number, service::Event::Wake, now);
        }
        self.advance_updater(now);
        self.give_up_late_launches(now);
        self.advance_hotplug(now);
        self.step_netd(detach_queue::Event::Wake, now);
        self.release_queued(now);
        self.image_cache.trim();
        // Hosted, free space is the host's business, and its file system may be on a network and block us.
        let is_ours = self.paths.mode == Mode::System && self.boot.may_start_some() && self.shutdown.is_none();
        if is_ours && self.free_space.look(&mut self.log, now) {
            self.start_job(Job::FillReserve, now);
        }
        self.advance_memory_guard(now);
        for &id in self.instances.ids().iter() {
            self.start_if_it_lacked_netd(id, now);
            self.wake_instance(id, now);
            self.ask_again(id, now);
            self.watch_health(id, now);
            self.tell_counts(id, |counter| counter.news(now));
        }
        self.advance_apply(now);
        // After the instances: runs that began have a new socket for the reader, and runs that ended have left one.
        self.advance_reader(now);
        self.answer_waiting();
        self.serve_streams();
        let pace = if self.shutdown.is_some() { Pace::AtOnce } else { Pace::Gather };
        if let Err(error) = self.close_queue.advance(&mut self.reader, pace, now) {
            self.log.say(Priority::Error, format_args!("start a closer of descriptors: {error}"));
        }
    }

    /// The next time at which something is due even if no event comes.
    fn deadline(&self, now: Moment) -> Option<Moment> {
        let is_frozen = self.is_frozen();
        let instances = self.instances.iter().flat_map(|instance| {
            let state = instance.state.deadline().filter(|_| !is_frozen || !instance.state.waits_for_inside());
            let counts = [instance.oom_kills.deadline(), instance.refused_forks.deadline()];
            let run = instance.run.iter().flat_map(move |run| {
                let health = run.watch.deadline().filter(|_| instance.is_up() && !is_frozen);
                let console = run.console.as_ref().and_then(|console| console.deadline(now));
                [run.devices_due, run.ask_at, health, console]
            });
            counts.into_iter().chain([state]).chain(run)
        });
        let services = self.services.iter().map(Service::deadline);
        let launches = self.launches.iter().flat_map(|launch| {
            let instance = self.instances.get(launch.instance);
            let limit = launch.limit.deadline().filter(|_| !is_frozen);
            [limit, instance.and_then(|instance| instance.printed.paused(now))]
        });
        let queued = self.instances.iter().any(|instance| instance.is_queued && self.is_turn_open());
        let others = [
            self.boot.deadline(),
            self.jobs.deadline(),
            self.reader.deadline(),
            self.close_queue.deadline(),
            self.hotplug.deadline(now),
            self.uevent_budget.paused(now),
            self.netd.deadline(),
            self.updater.deadline(),
            self.memory_guard.deadline(),
            self.shutdown.as_ref().and_then(Shutdown::deadline),
            self.watchdog.as_ref().map(HardwareWatchdog::next_feed),
            queued.then_some(self.next_turn),
            self.netd.timeout(&self.services),
        ];
        instances.chain(services).chain(launches).chain(others).flatten().min()
    }

    /// Tells the table that time passed; not while the instance is frozen and the table waits for its processes.
    fn wake_instance(&mut self, id: InstanceId, now: Moment) {
        let is_waiting = self.instances.get(id).is_some_and(|instance| instance.state.waits_for_inside());
        if !(is_waiting && self.is_frozen()) {
            self.step_instance(id, lifecycle::Event::Wake, now);
        }
    }

    /// Tells the table that something happened to an instance, and does what it says.
    pub(crate) fn step_instance(&mut self, id: InstanceId, event: lifecycle::Event, now: Moment) {
        let mut event = event;
        for _ in 0..MAX_STEPS {
            let gate = self.gate(id);
            let Some(instance) = self.instances.get_mut(id) else { return };
            let Some(rules) = instance.rules() else { return };
            let before = instance.state;
            let (state, action) = lifecycle::step(before, instance.wanted, gate, event, now, &rules);
            instance.state = state;
            if matches!((before, state), (State::BackingOff { .. }, State::Waiting { .. })) {
                instance.restarts = instance.restarts.saturating_add(1);
            }
            // If removing the rest succeeds at once, "stopping" is not reported.
            if !matches!(action, Action::Collect | Action::CollectByForce) {
                self.tell_state(id);
            }
            self.act(id, action, now);
            self.tell_state(id);
            if state == before && action == Action::None {
                return;
            }
            event = lifecycle::Event::Wake;
        }
    }

    fn act(&mut self, id: InstanceId, action: Action, now: Moment) {
        match action {
            Action::None => {}
            Action::Launch => self.launch_instance(id, now),
            Action::AskToStop => self.ask_to_stop(id, now),
            Action::Kill => {
                self.note_kill(id, now);
                self.kill_instance(id);
            }
            Action::ReportUnhealthy => self.report_unhealthy(id),
            Action::Collect => self.collect(id, Launchers::LetFinish, now),
            Action::CollectByForce => self.collect(id, Launchers::Kill, now),
            Action::ReportStuck => self.report_stuck(id),
            Action::StopUnhealthy => {
                self.report_unhealthy(id);
                self.ask_to_stop(id, now);
            }
        }
    }

    /// Publishes the state of an instance if it has changed since it was last published.
    fn tell_state(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let shown = instance.state.shown();
        if shown == instance.told {
            return;
        }
        instance.told = shown;
        instance.ready_since = (shown == InstanceState::Ready).then(clock::since_boot);
        let about = instance.about();
        let name = &about.name;
        self.events.publish(Some(&about), EventKind::State(shown));
        let is_bad = matches!(shown, InstanceState::Failed | InstanceState::Unhealthy | InstanceState::Stuck);
        let priority = if is_bad { Priority::Error } else { Priority::Notice };
        self.log.say(priority, format_args!("{name}: {}", shown.name()));
        if is_bad {
            self.tell_those_after(name, shown);
        }
    }

    /// `after` is an order and no requirement: an instance that waited for one that will not become ready starts all the same. The
    /// log says so.
    fn tell_those_after(&mut self, name: &InstanceName, shown: InstanceState) {
        for other in self.instances.iter() {
            let is_after = other.spec.as_ref().is_ok_and(|spec| spec.boot.after.contains(name));
            if is_after && matches!(other.state, State::Waiting { .. }) {
                let other = &other.name;
                self.log
                    .say(Priority::Warning, format_args!("{other}: waits no longer for {name}: {}", shown.name()));
            }
        }
    }

    /// Whether an instance may start now.
    fn gate(&self, id: InstanceId) -> Gate {
        let Some(instance) = self.instances.get(id) else { return Gate::Closed };
        let Ok(spec) = &instance.spec else { return Gate::Closed };
        let starting = self.instances.iter().filter(|other| matches!(other.state, State::Starting { .. })).count();
        let is_open = !instance.is_queued
            && self.boot.has(parts::of_instance(spec, &self.paths.data).without(Part::Netd))
            && self.shutdown.is_none()
            && starting < MAX_STARTING
            && !self.is_image_being_verified(instance.image.as_deref())
            && (spec.nics.is_empty() || self.netd.is_decided(&self.services))
            && spec.boot.after.iter().all(|name| self.is_settled(name));
        if is_open { Gate::Open } else { Gate::Closed }
    }

    fn is_settled(&self, name: &yado_wire::InstanceName) -> bool {
        self.instances.named(name).is_none_or(Instance::is_settled)
    }

    /// Lets instances start in boot order: each when the delay of the one before is over.
    fn release_queued(&mut self, now: Moment) {
        while self.is_turn_open() && self.next_turn <= now {
            let Some(next) = self.instances.in_order().find(|instance| instance.is_queued).map(|next| next.id) else {
                return;
            };
            let Some(instance) = self.instances.get_mut(next) else { return };
            instance.is_queued = false;
            let Ok(spec) = &instance.spec else { continue };
            let (name, parts) = (&instance.name, parts::of_instance(spec, &self.paths.data));
            self.log.say(Priority::Info, format_args!("{name}: starts after {parts}"));
            let delay = spec.boot.delay;
            self.next_turn = now.saturating_add(delay);
        }
    }

    fn is_turn_open(&self) -> bool {
        self.boot.may_start_some() && self.shutdown.is_none()
    }

    /// Tells a service's table that something happened, and does what it says.
    pub(crate) fn step_service(&mut self, number: usize, event: service::Event, now: Moment) {
        let wanted = self.wanted_services();
        let is_netd_early = self.netd.since.is_none();
        let Some(service) = self.services.get_mut(number) else { return };
        let wanted = if is_netd_early && service.name == SERVICE { service::Wanted::Down } else { wanted };
        let (state, action) = service::step(service.state, wanted, event, now);
        if matches!((service.state, state), (service::State::BackingOff { .. }, service::State::Running { .. })) {
            service.restarts = service.restarts.saturating_add(1);
        }
        service.state = state;
        match action {
            service::Action::None => {}
            service::Action::Spawn => self.start_service(number, now),
            service::Action::Terminate => self.signal_service(number, SIGTERM),
            service::Action::Kill => self.kill_service(number),
        }
    }

    /// Records why something of an instance failed.
    pub(crate) fn record_failure(&mut self, id: InstanceId, failure: Failure) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let about = instance.about();
        instance.last_failure = Some(Box::new(failure.clone()));
        self.log.say(Priority::Error, format_args!("{}: {failure}", about.name));
        self.events.publish(Some(&about), EventKind::Failed(failure));
    }

    /// Tells that a stage of the boot was reached.
    pub(crate) fn reach_stage(&mut self, stage: &str) {
        self.log.say(Priority::Info, format_args!("stage: {stage}"));
        self.events.publish(None, EventKind::Stage(clipped(stage)));
    }

    /// Sets the wanted state of an instance.
    pub(crate) fn want(&mut self, id: InstanceId, wanted: Wanted, now: Moment) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.wanted = wanted;
            instance.is_queued = false;
        }
        self.step_instance(id, lifecycle::Event::Wake, now);
    }
}

/// Remembers the end of a process that a launcher may still report as its own.
pub(crate) fn keep_unknown_end(ends: &mut Vec<(i32, Ended)>, pid: i32, ended: Ended) {
    if MAX_UNKNOWN_ENDS <= ends.len() {
        ends.remove(0);
    }
    ends.push((pid, ended));
}
