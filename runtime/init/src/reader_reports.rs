//! Checks what the datagram reader reports, and acts on it.

use crate::boot_clock::Moment;
use crate::instance::Instance;
use crate::instance::notify::{Notification, Ping};
use crate::log::{INSTANCE_PREFIX, OWN_IDENTIFIER, Priority};
use crate::reader_link::Surroundings;
use crate::service::{State, Wanted};
use crate::supervisor::Supervisor;
use yado_wire::datagrams::{ReaderReport, WatchdogPing};

/// Reports that are taken before the others have their turn.
const MAX_AT_ONCE: usize = 32;

impl Supervisor {
    /// Keeps the reader running, and tells it what it does not know yet.
    pub(crate) fn advance_reader(&mut self, now: Moment) {
        let around = Surroundings::new(self.wanted_reader(), &self.paths, self.close_queue.discarded());
        let runs = self.instances.iter_mut().filter_map(|instance| instance.run.as_mut()?.notify.as_mut());
        self.reader.advance(runs, &around, &mut self.log, now);
    }

    /// What we want of the reader: it outlives the services, whose last words it hears.
    pub(crate) fn wanted_reader(&self) -> Wanted {
        let is_alone = self.services.iter().all(|service| service.state == State::Stopped);
        match self.wanted_services() {
            Wanted::Down if is_alone => Wanted::Down,
            Wanted::Down | Wanted::Up => Wanted::Up,
        }
    }

    /// Reads what the reader tells.
    pub(crate) fn read_reader(&mut self, is_writable: bool, now: Moment) {
        if is_writable {
            self.reader.note_writable();
        }
        for _ in 0..MAX_AT_ONCE {
            let Some(report) = self.reader.read_report(now) else { return };
            self.take_reader_report(report, now);
        }
    }

    fn take_reader_report(&mut self, report: ReaderReport, now: Moment) {
        match report {
            // Counted by the link.
            ReaderReport::Done => {}
            ReaderReport::Notification { run, uid, is_ready, status, ping } => {
                let is_of = |instance: &&Instance| {
                    let notify = instance.run.as_ref().and_then(|run| run.notify.as_ref());
                    notify.is_some_and(|socket| socket.is_of(run))
                };
                let Some(id) = self.instances.iter().find(is_of).map(|instance| instance.id) else { return };
                let ping = ping.map(|ping| match ping {
                    WatchdogPing::Alive => Ping::Alive,
                    WatchdogPing::Trigger => Ping::Trigger,
                });
                let notification = Notification { ready: is_ready, status: status.as_deref(), ping };
                self.take_notification(id, uid, &notification, now);
            }
            ReaderReport::SentDescriptors { run } => {
                for instance in self.instances.iter_mut() {
                    // Reader and closer let the socket go, and with it what waits in its queue: nobody can send to it, or keep
                    // anything in it, any more.
                    let notify = instance.run.as_mut().map(|run| &mut run.notify);
                    if notify.is_some_and(|notify| notify.take_if(|socket| socket.is_of(run)).is_some()) {
                        let name = &instance.name;
                        let what = "sent descriptors on its $NOTIFY_SOCKET: it is not heard any more in this run";
                        self.log.say(Priority::Error, format_args!("{name}: {what}"));
                    }
                }
            }
            ReaderReport::ServiceReady { pid } => self.note_service_ready(pid),
            ReaderReport::Record(record) => {
                let identifier = record.identifier.as_str();
                let is_ours = identifier == OWN_IDENTIFIER || identifier.starts_with(INSTANCE_PREFIX);
                let identifier = if is_ours { "journal" } else { identifier };
                self.log.record(record.priority, identifier, record.pid, &record.message);
            }
        }
    }
}
