//! Everything that can wake the process, and who then looks at it.

use crate::job::Lane;
use crate::launch::LaunchId;
use crate::log::journal_protocol::{self, Extent};
use crate::log::{self, Log, Priority, syslog_protocol};
use crate::moment::Moment;
use crate::supervisor::Supervisor;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use yado_sys::memfd::{self, Beginning};
use yado_sys::poll::{Interest, PollSet, Readiness};
use yado_sys::{datagram, signals};

/// One thing that can wake the process. Time is the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A signal; a child that ended is one.
    Signal,
    /// The kernel tells of a device.
    Uevent,
    /// Somebody logs by journald's protocol.
    Journal,
    /// Somebody logs by `/dev/log`.
    Syslog,
    /// A service says something of itself.
    ServiceNotify,
    /// Somebody connects.
    Connection,
    /// A client asks, hangs up, or takes more.
    Client(u32),
    /// A launcher reports.
    Report(LaunchId),
    /// A launcher prints.
    LaunchOutput(LaunchId),
    /// A service prints.
    ServiceOutput(usize),
    /// A job prints.
    JobOutput(Lane),
    /// An instance prints, or takes what was typed.
    Console(usize),
    /// Somebody at an instance's console types, or takes what was printed.
    Viewer(usize),
    /// An instance says something of itself.
    Notify(usize),
    /// The kernel refused an instance memory or a process.
    Counts(usize),
    /// netd answers.
    Netd,
    /// The power key.
    PowerKey(usize),
}

/// Sockets and descriptors that are open for as long as we live.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) signals: Option<OwnedFd>,
    pub(crate) uevents: Option<OwnedFd>,
    pub(crate) journal: Option<OwnedFd>,
    pub(crate) syslog: Option<OwnedFd>,
    pub(crate) notify: Option<OwnedFd>,
    pub(crate) control: Option<OwnedFd>,
    pub(crate) power_keys: Vec<std::fs::File>,
}

/// The poll set, and whose each entry is.
#[derive(Debug, Default)]
pub(crate) struct Waking {
    set: PollSet,
    events: Vec<Event>,
}

impl Waking {
    /// Collects what is open now.
    pub(crate) fn collect(&mut self, init: &Supervisor) {
        self.set.clear();
        self.events.clear();
        let sockets = &init.sockets;
        self.add(sockets.signals.as_ref(), Interest::Read, Event::Signal);
        self.add(sockets.uevents.as_ref(), Interest::Read, Event::Uevent);
        self.add(sockets.journal.as_ref(), Interest::Read, Event::Journal);
        self.add(sockets.syslog.as_ref(), Interest::Read, Event::Syslog);
        self.add(sockets.notify.as_ref(), Interest::Read, Event::ServiceNotify);
        let may_connect = !init.clients.is_full();
        self.add(sockets.control.as_ref().filter(|_| may_connect), Interest::Read, Event::Connection);
        for (number, key) in sockets.power_keys.iter().enumerate() {
            self.add(Some(key), Interest::Read, Event::PowerKey(number));
        }
        for client in init.clients.iter() {
            self.add(Some(&client.socket), client.interest(init), Event::Client(client.id));
        }
        for launch in &init.launches {
            self.add(launch.reports.as_ref(), Interest::Read, Event::Report(launch.id));
            self.add(launch.output.reader(), Interest::Read, Event::LaunchOutput(launch.id));
        }
        for (number, service) in init.services.iter().enumerate() {
            let reader = service.output.as_ref().and_then(|output| output.reader());
            self.add(reader, Interest::Read, Event::ServiceOutput(number));
        }
        for lane in [Lane::Drivers, Lane::Data] {
            self.add(init.jobs.reader(lane), Interest::Read, Event::JobOutput(lane));
        }
        self.add(init.netd.socket(), Interest::Read, Event::Netd);
        for (number, instance) in init.instances.iter().enumerate() {
            let run = &instance.run;
            self.add(run.notify.as_ref(), Interest::Read, Event::Notify(number));
            self.add(run.oom_kills.watched(), Interest::Change, Event::Counts(number));
            self.add(run.refused_forks.watched(), Interest::Change, Event::Counts(number));
            let Some(console) = &run.console else { continue };
            if let Some((master, interest)) = console.master() {
                self.add(Some(master), interest, Event::Console(number));
            }
            if let Some((viewer, interest)) = console.viewer() {
                self.add(Some(viewer), interest, Event::Viewer(number));
            }
        }
    }

    /// Waits until something is ready or `timeout` is over.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.set.wait(timeout)
    }

    /// What is ready.
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
    /// Looks at what is ready. What an earlier event of the same round took away is simply not found any more.
    pub(crate) fn handle(&mut self, event: Event, readiness: Readiness, now: Moment) {
        match event {
            Event::Signal => self.read_signals(now),
            Event::Uevent => self.read_uevents(now),
            Event::Journal => self.read_journal(),
            Event::Syslog => self.read_syslog(),
            Event::ServiceNotify => self.read_service_notifications(),
            Event::Connection => self.accept_client(),
            Event::Client(id) => self.serve_client(id, readiness, now),
            Event::Report(id) => self.read_reports(id, now),
            Event::LaunchOutput(id) => self.read_launch_output(id, now),
            Event::ServiceOutput(number) => {
                let log = &mut self.log;
                if let Some(service) = self.services.get_mut(number) {
                    let name = &service.name;
                    if let Some(output) = &mut service.output {
                        output.read(now, |line| log.record(Priority::Info as u8, name, 0, line));
                    }
                }
            }
            Event::JobOutput(lane) => self.read_job_output(lane, now),
            Event::Console(number) => self.read_console(number, now),
            Event::Viewer(number) => {
                if let Some(instance) = self.instances.get_mut(number) {
                    if let Some(console) = &mut instance.run.console {
                        console.serve_viewer();
                    }
                }
            }
            Event::Notify(number) => self.read_notifications(number, now),
            Event::Counts(number) => self.read_counts(number),
            Event::Netd => self.read_netd(now),
            Event::PowerKey(number) => self.read_power_key(number, now),
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

    fn read_journal(&mut self) {
        let mut buffer = vec![0; MAX_ENTRY_BYTES];
        for _ in 0..MOST_AT_ONCE {
            let Some(socket) = &self.sockets.journal else { return };
            let Ok(Some(received)) = datagram::recv(socket, &mut buffer) else { return };
            let pid = received.sender.map_or(0, |sender| sender.pid);
            // An entry too long for a datagram comes as a sealed memfd with an empty one.
            match received.descriptors.into_iter().next() {
                Some(descriptor) if received.len == 0 => {
                    let beginning = memfd::read_sealed_beginning(descriptor, MAX_ENTRY_BYTES as u64);
                    if let Ok(Beginning { bytes, is_all }) = beginning {
                        let extent = if is_all { Extent::Whole } else { Extent::Beginning };
                        record_entry(&mut self.log, pid, &bytes, extent);
                    }
                }
                Some(_) | None => {
                    let bytes = buffer.get(..received.len).unwrap_or(&[]);
                    let extent = if received.is_cut { Extent::Beginning } else { Extent::Whole };
                    record_entry(&mut self.log, pid, bytes, extent);
                }
            }
        }
    }

    fn read_syslog(&mut self) {
        let mut buffer = [0; MAX_SYSLOG_BYTES];
        for _ in 0..MOST_AT_ONCE {
            let Some(socket) = &self.sockets.syslog else { return };
            let Ok(Some(received)) = datagram::recv(socket, &mut buffer) else { return };
            let message = syslog_protocol::parse_syslog(buffer.get(..received.len).unwrap_or(&[]));
            let pid = received.sender.map_or(0, |sender| sender.pid);
            self.log.record(message.priority, message.identifier.unwrap_or("syslog"), pid, &message.message);
        }
    }
}

/// So much of a journal entry is looked at: more than a record of the log holds. Clients send more than their socket takes,
/// some 200 KiB, as a memfd.
const MAX_ENTRY_BYTES: usize = 64 * 1024;

/// syslog(3) of musl cuts at 1 KiB; others do not, but a line is a line.
const MAX_SYSLOG_BYTES: usize = 2048;

/// Datagrams that are taken from one socket before the others have their turn.
const MOST_AT_ONCE: usize = 64;

fn record_entry(log: &mut Log, pid: i32, bytes: &[u8], extent: Extent) {
    let Some(entry) = journal_protocol::parse_journal_entry(bytes, extent) else { return };
    let identifier = entry.identifier.as_deref().filter(|name| !name.is_empty() && *name != log::OWN_IDENTIFIER);
    log.record(entry.priority, identifier.unwrap_or("journal"), pid, &entry.message);
}
