//! Everything that can wake the process, and which function handles it.

use crate::boot_clock::Moment;
use crate::control::client::Streams;
use crate::image_cache::CachedImageId;
use crate::job::Lane;
use crate::launch::LaunchId;
use crate::log::Priority;
use crate::supervisor::Supervisor;
use crate::updater;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use yado_sys::poll::{Interest, PollSet, Readiness};
use yado_sys::signals;
use yado_wire::InstanceId;

/// One thing that can wake the process. Time is the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A signal; a child that ended is one.
    Signal,
    /// The kernel tells of a device.
    Uevent,
    /// The datagram reader tells what somebody said of itself or logged, or takes more.
    Reader,
    /// The datagram reader wrote to its standard error.
    ReaderOutput,
    /// Somebody connects.
    Connection,
    /// A client asks, hangs up, or takes more.
    Client(u32),
    /// A launcher sent a report, or hung up.
    Report(LaunchId),
    /// A launcher, or a command that it started, wrote to its output.
    LaunchOutput(LaunchId),
    /// The service of this index wrote to its output.
    ServiceOutput(usize),
    /// The updater wrote to its output.
    UpdaterOutput,
    /// The job of this lane wrote to its output.
    JobOutput(Lane),
    /// An instance prints, or takes what was typed.
    Console(InstanceId),
    /// Somebody at an instance's console types, or takes what was printed.
    Viewer(InstanceId),
    /// The kernel refused an instance memory or a process.
    Counts(InstanceId),
    /// netd answers.
    Netd,
    /// Somebody waits for memory.
    MemoryPressure,
    /// The weigher of the memory guard wrote its result, or has ended.
    WeigherOutput,
    /// An input device with a power key has an event.
    PowerKey(usize),
    /// The file of an image is changed or removed.
    ImageFile(CachedImageId),
}

/// Sockets and descriptors that are open for as long as we live.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) signals: Option<OwnedFd>,
    pub(crate) uevents: Option<OwnedFd>,
    pub(crate) control: Option<OwnedFd>,
    pub(crate) power_keys: Vec<std::fs::File>,
}

/// The poll set, and whose each entry is.
#[derive(Debug, Default)]
pub(crate) struct PollEvents {
    set: PollSet,
    events: Vec<Event>,
}

impl PollEvents {
    /// Collects what is open now.
    pub(crate) fn collect(&mut self, init: &Supervisor, now: Moment) {
        self.set.clear();
        self.events.clear();
        let sockets = &init.sockets;
        self.add(sockets.signals.as_ref(), Interest::Read, Event::Signal);
        let may_come = init.uevent_budget.paused(now).is_none();
        self.add(sockets.uevents.as_ref().filter(|_| may_come), Interest::Read, Event::Uevent);
        if let Some((link, interest)) = init.reader.link() {
            self.add(Some(link), interest, Event::Reader);
        }
        self.add(init.reader.output(), Interest::Read, Event::ReaderOutput);
        let may_connect = !init.clients.is_full() && !init.close_queue.is_own_overdue();
        self.add(sockets.control.as_ref().filter(|_| may_connect), Interest::Read, Event::Connection);
        for (number, key) in sockets.power_keys.iter().enumerate() {
            self.add(Some(key), Interest::Read, Event::PowerKey(number));
        }
        let streams = Streams::of(&init.log, &init.events);
        for client in init.clients.iter().filter(|_| !init.close_queue.is_own_overdue()) {
            self.add(Some(&client.socket), client.interest(&streams), Event::Client(client.id));
        }
        for launch in &init.launches {
            self.add(launch.reports.as_ref(), Interest::Read, Event::Report(launch.id));
            let may_print = init.instances.get(launch.instance).is_some_and(|of| of.printed.paused(now).is_none());
            let output = launch.output.reader().filter(|_| may_print);
            self.add(output, Interest::Read, Event::LaunchOutput(launch.id));
        }
        for (number, service) in init.services.iter().enumerate() {
            let reader = service.output.as_ref().and_then(|output| output.reader());
            self.add(reader, Interest::Read, Event::ServiceOutput(number));
        }
        let reader = init.updater.output.as_ref().and_then(|output| output.reader());
        self.add(reader, Interest::Read, Event::UpdaterOutput);
        for lane in Lane::ALL {
            self.add(init.jobs.reader(lane), Interest::Read, Event::JobOutput(lane));
        }
        self.add(init.netd.socket(), Interest::Read, Event::Netd);
        for (id, watch) in init.image_cache.watches() {
            self.add(Some(watch), Interest::Read, Event::ImageFile(id));
        }
        self.add(init.memory_guard.trigger(), Interest::Change, Event::MemoryPressure);
        self.add(init.memory_guard.output(), Interest::Read, Event::WeigherOutput);
        for instance in init.instances.iter() {
            let id = instance.id;
            self.add(instance.oom_kills.watched(), Interest::Change, Event::Counts(id));
            self.add(instance.refused_forks.watched(), Interest::Change, Event::Counts(id));
            let Some(console) = instance.run.as_ref().and_then(|run| run.console.as_ref()) else { continue };
            if let Some((master, interest)) = console.master(now) {
                self.add(Some(master), interest, Event::Console(id));
            }
            if let Some((viewer, interest)) = console.viewer() {
                self.add(Some(viewer), interest, Event::Viewer(id));
            }
        }
    }

    /// Waits until something is ready or `timeout` is over.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.set.wait(timeout)
    }

    /// What the last wait found ready, in the order in which it was added.
    pub(crate) fn ready(&self) -> impl Iterator<Item = (Event, Readiness)> {
        let events = self.events.iter().enumerate();
        events
            .map(|(number, event)| (*event, self.set.readiness(number)))
            .filter(|(_, readiness)| !readiness.is_none())
    }

    fn add(&mut self, descriptor: Option<&impl AsFd>, interest: Interest, event: Event) {
        if let Some(descriptor) = descriptor {
            self.set.add(descriptor, interest);
            self.events.push(event);
        }
    }
}

impl Supervisor {
    /// Looks at what is ready. What an earlier event of the same round took away is simply not found any more. Not inlined, as
    /// [`Supervisor::settle`].
    #[inline(never)]
    pub(crate) fn handle(&mut self, event: Event, readiness: Readiness, now: Moment) {
        match event {
            Event::Signal => self.read_signals(now),
            Event::Uevent => self.read_uevents(now),
            Event::Reader => self.read_reader(readiness.writable, now),
            Event::ReaderOutput => self.reader.read_output(&mut self.log, now),
            Event::Connection => self.accept_client(),
            Event::Client(id) => self.serve_client(id, readiness, now),
            Event::Report(id) => self.read_reports(id, now),
            Event::LaunchOutput(id) => {
                self.read_launch_output(id, now);
            }
            Event::ServiceOutput(number) => {
                let log = &mut self.log;
                if let Some(service) = self.services.get_mut(number) {
                    let name = &service.name;
                    if let Some(output) = &mut service.output {
                        output.read(now, &mut |line| log.record(Priority::Info as u8, name, 0, line));
                    }
                }
            }
            Event::UpdaterOutput => {
                let log = &mut self.log;
                if let Some(output) = &mut self.updater.output {
                    output.read(now, &mut |line| log.record(Priority::Info as u8, updater::NAME, 0, line));
                }
            }
            Event::JobOutput(lane) => self.jobs.read_output(lane, &mut self.log, now),
            Event::Console(id) => self.read_console(id, now),
            Event::Viewer(id) => {
                if let Some(console) = self.instances.run_mut(id).and_then(|run| run.console.as_mut()) {
                    console.serve_viewer(readiness);
                }
            }
            Event::Counts(id) => self.read_counts(id),
            Event::Netd => {
                if let Some(event) = self.netd.read(&mut self.log) {
                    self.step_netd(event, now);
                }
            }
            Event::MemoryPressure => self.note_memory_pressure(now),
            Event::WeigherOutput => self.read_weigher(now),
            Event::PowerKey(number) => self.read_power_key(number, now),
            Event::ImageFile(id) => self.image_cache.forget(id),
        }
    }

    fn read_signals(&mut self, now: Moment) {
        loop {
            let Some(descriptor) = &self.sockets.signals else { return };
            match signals::read_signal(descriptor) {
                Ok(Some(signals::Signal::Child)) => self.reap(now),
                Ok(Some(signal)) => self.take_signal(signal, now),
                Ok(None) => return,
                Err(error) => {
                    self.log.say(Priority::Error, format_args!("read a signal: {error}"));
                    return;
                }
            }
        }
    }
}
