//! What comes from launchers and instances: reports, notifications, console output, and the kernel's counters.

use crate::boot::parts::{Part, Parts};
use crate::boot_clock::Moment;
use crate::deferred_close::{CloseBy, DeferredClose};
use crate::instance::console::Console;
use crate::instance::counter::Counter;
use crate::instance::lifecycle;
use crate::instance::notify::{self, Notification, Ping};
use crate::launch::{LaunchId, Limit, TaskKind};
use crate::log::{Priority, console_identifier};
use crate::netd::SERVICE;
use crate::process::{Output, how_it_ended};
use crate::supervisor::Supervisor;
use std::os::fd::OwnedFd;
use std::time::Duration;
use yado_sys::children::Ended;
use yado_sys::pidfd;
use yado_sys::poll::Readiness;
use yado_wire::launch::LaunchReport;
use yado_wire::names::clipped;
use yado_wire::printable::is_obeyed;
use yado_wire::rescue::EventKind;
use yado_wire::{Failure, InstanceId, MAX_FRAME_BYTES, Step};

/// How many datagrams or packets are taken from one socket before the others have their turn.
const MAX_AT_ONCE: usize = 32;

/// What one read of a launcher's output costs its instance besides the bytes. Less than for a console, which also has a ring and
/// a viewer.
const LOOK_BYTES: u32 = 128;

/// A pipe holds 64 KiB, and a read takes 2.
const MAX_READS_OF_OUTPUT: usize = 33;

impl Supervisor {
    /// Reads what a launcher has reported.
    pub(crate) fn read_reports(&mut self, id: LaunchId, now: Moment) {
        let mut buffer = [0; MAX_FRAME_BYTES];
        for _ in 0..MAX_AT_ONCE {
            let Some(launch) = self.launches.iter_mut().find(|launch| launch.id == id) else { return };
            let Some(reports) = &launch.reports else { return };
            let received = match reports.recv(&mut buffer, CloseBy::Closer) {
                Ok(Some(received)) if !received.is_end() => received,
                Ok(None) => return,
                Ok(Some(_)) | Err(_) => {
                    launch.reports = None;
                    return;
                }
            };
            match yado_wire::decode(buffer.get(..received.len).unwrap_or(&[])) {
                Ok(report) => self.take_report(id, report, received.descriptors, now),
                Err(error) => self.log.say(Priority::Error, format_args!("report of a launcher: {error}")),
            }
        }
    }

    fn take_report(&mut self, id: LaunchId, report: LaunchReport, descriptors: Vec<DeferredClose>, now: Moment) {
        let Some(launch) = self.launches.iter_mut().find(|launch| launch.id == id) else { return };
        let (instance_id, task) = (launch.instance, launch.task);
        match report {
            LaunchReport::Payload { pid } => match task {
                TaskKind::Run => self.take_payload(instance_id, pid, descriptors, now),
                TaskKind::Exec { .. } | TaskKind::Stop => {
                    let Some(pidfd) = descriptors.into_iter().next().and_then(DeferredClose::into_harmless) else {
                        return;
                    };
                    launch.command_ended = take_unknown_end(&mut self.unknown_ends, pid, &pidfd);
                    if launch.command_ended.is_none() {
                        launch.command = Some((pid, pidfd));
                    }
                    // The client may have hung up before the command was known.
                    if matches!(task, TaskKind::Exec { client } if !self.has_client(client)) {
                        self.kill_launch(id);
                    }
                }
                TaskKind::Probe | TaskKind::Devices => {}
            },
            LaunchReport::Started { steps } => {
                launch.is_done = true;
                if matches!(task, TaskKind::Exec { .. } | TaskKind::Stop) {
                    // The launcher is done; the command may run for as long as it wants.
                    launch.limit = Limit::None;
                }
                if task == TaskKind::Run {
                    let Some(instance) = self.instances.get_mut(instance_id) else { return };
                    let since = instance.state.since().unwrap_or(now);
                    let start_us = u32::try_from(now.saturating_sub(since).as_micros()).unwrap_or(u32::MAX);
                    if let Some(run) = &mut instance.run {
                        run.start_us = Some(start_us);
                        run.started = Some(now);
                        let mut descriptors = descriptors.into_iter();
                        run.dev_mount = descriptors.next();
                        run.root_mount = descriptors.next();
                    }
                    let about = instance.about();
                    self.events.publish(Some(&about), EventKind::Started { start_us, steps });
                    self.step_instance(instance_id, lifecycle::Event::Started, now);
                }
            }
            LaunchReport::Image(told) => self.take_image(id, told, descriptors),
            LaunchReport::ProbePassed => launch.is_done = true,
            LaunchReport::Failed(failure) => launch.failure = Some(Box::new(failure)),
            LaunchReport::DevicesSynced { added, removed } => {
                launch.is_done = true;
                let Some(instance) = self.instances.get(instance_id) else { return };
                let about = instance.about();
                let name = &about.name;
                for node in added {
                    self.log.say(Priority::Notice, format_args!("{name}: device {node} was added"));
                    self.events.publish(Some(&about), EventKind::DeviceAdded(node));
                }
                for node in removed {
                    self.log.say(Priority::Notice, format_args!("{name}: device {node} was removed"));
                    self.events.publish(Some(&about), EventKind::DeviceRemoved(node));
                }
            }
        }
    }

    fn take_payload(&mut self, id: InstanceId, pid: i32, descriptors: Vec<DeferredClose>, now: Moment) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let directory_name = instance.directory_name();
        let Some(run) = &mut instance.run else { return };
        let mut descriptors = descriptors.into_iter();
        let Some(pidfd) = descriptors.next().and_then(DeferredClose::into_harmless) else { return };
        let ended = take_unknown_end(&mut self.unknown_ends, pid, &pidfd);
        run.payload = Some((pid, pidfd));
        if let Some(master) = descriptors.next() {
            match Console::new(master, &self.paths.runtime(&directory_name).join("console")) {
                Ok(console) => run.console = Some(console),
                Err(error) => {
                    let failure = Failure::from_io(Step::Console, instance.name.as_str(), &error);
                    self.record_failure(id, failure);
                }
            }
        }
        if let Some(ended) = ended {
            self.log
                .say(Priority::Info, format_args!("process {pid} {} before it was reported", how_it_ended(ended)));
            self.note_payload_end(id, ended, now);
        }
    }

    /// An instance sent a notification. Only its own processes may: hosted, others can reach the directory of its socket.
    pub(crate) fn take_notification(
        &mut self,
        id: InstanceId,
        uid: u32,
        notification: &Notification<'_>,
        now: Moment,
    ) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if !instance.has_user(uid) {
            return;
        }
        let Notification { ready, status, ping } = *notification;
        if let (Some(status), Some(run)) = (status, &mut instance.run) {
            // It may be printed on a terminal.
            let harmless = status.replace(|char: char| char == '\t' || is_obeyed(char), " ");
            run.status = clipped::<{ notify::MAX_STATUS_BYTES }>(&harmless).as_str().to_owned();
        }
        // The reader joins notifications of about the same time. `WATCHDOG=trigger` counts whatever else is said with it.
        let (ping, last_word) = match ping {
            Some(Ping::Trigger) => (None, ping),
            Some(Ping::Alive) | None => (ping, None),
        };
        if let Some(ping) = ping {
            self.note_ping(id, ping, now);
        }
        if ready {
            self.note_ready(id, now);
        }
        if let Some(ping) = last_word {
            self.note_ping(id, ping, now);
        }
    }

    fn note_ready(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let may_be_ready = matches!(
            instance.state,
            lifecycle::State::Starting { .. } | lifecycle::State::Running { .. } | lifecycle::State::Unhealthy { .. }
        );
        if may_be_ready {
            let about = instance.about();
            let status = instance.run.as_ref().map_or("", |run| &run.status);
            self.events.publish(Some(&about), EventKind::Ready(clipped(status)));
            self.step_instance(id, lifecycle::Event::SaidReady, now);
        }
    }

    /// Reads console output of an instance; each line becomes a line of the log.
    pub(crate) fn read_console(&mut self, id: InstanceId, now: Moment) {
        let log = &mut self.log;
        let Some(instance) = self.instances.get_mut(id) else { return };
        let identifier = console_identifier(instance.name.as_str());
        let Some(console) = instance.run.as_mut().and_then(|run| run.console.as_mut()) else { return };
        console.write_input();
        console.look(now, &mut |line| log.record(Priority::Info as u8, &identifier, 0, line));
    }

    /// The last lines of an instance that has ended.
    pub(crate) fn drain_console(&mut self, id: InstanceId, now: Moment) {
        let log = &mut self.log;
        let Some(instance) = self.instances.get_mut(id) else { return };
        let identifier = console_identifier(instance.name.as_str());
        let Some(console) = instance.run.as_mut().and_then(|run| run.console.as_mut()) else { return };
        console.drain(now, &mut |line| log.record(Priority::Info as u8, &identifier, 0, line));
        console.serve_viewer(Readiness::default());
    }

    /// Reads output of a launcher, or of a command that it started. Returns the number of bytes.
    pub(crate) fn read_launch_output(&mut self, id: LaunchId, now: Moment) -> u32 {
        let bytes = self.take_launch_output(id, |output, log| output.read(now, log));
        let instance = self.launches.iter().find(|launch| launch.id == id).map(|launch| launch.instance);
        if let Some(instance) = instance.and_then(|instance| self.instances.get_mut(instance)) {
            instance.printed.spend(bytes.saturating_add(LOOK_BYTES), now);
        }
        bytes
    }

    /// Reads the last lines of a launcher that has ended, as far as its instance's budget allows.
    pub(crate) fn drain_launch_output(&mut self, id: LaunchId, now: Moment) {
        for _ in 0..MAX_READS_OF_OUTPUT {
            let launch = self.launches.iter().find(|launch| launch.id == id);
            let instance = launch.and_then(|launch| self.instances.get(launch.instance));
            if instance.is_none_or(|instance| instance.printed.paused(now).is_some())
                || self.read_launch_output(id, now) == 0
            {
                break;
            }
        }
        self.take_launch_output(id, |output, log| {
            output.finish(now, log);
            0
        });
    }

    fn take_launch_output(
        &mut self,
        id: LaunchId,
        take: impl FnOnce(&mut Output, &mut dyn FnMut(&str)) -> u32,
    ) -> u32 {
        let log = &mut self.log;
        let Some(launch) = self.launches.iter_mut().find(|launch| launch.id == id) else { return 0 };
        let Some(instance) = self.instances.get(launch.instance) else { return 0 };
        let (priority, identifier) = match launch.task.lends_its_output() {
            true => (Priority::Info, console_identifier(instance.name.as_str())),
            false => (Priority::Warning, "yado-container".to_owned()),
        };
        take(&mut launch.output, &mut |line| log.record(priority as u8, &identifier, 0, line))
    }

    /// Reads how often the kernel refused memory or processes.
    pub(crate) fn read_counts(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.oom_kills.look();
        instance.refused_forks.look();
    }

    /// Tells such counts in the log, where that is due.
    pub(crate) fn tell_counts(&mut self, id: InstanceId, news: impl Fn(&mut Counter) -> Option<u64>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let (killed, refused) = (news(&mut instance.oom_kills), news(&mut instance.refused_forks));
        if killed.is_none() && refused.is_none() {
            return;
        }
        let about = instance.about();
        let name = &about.name;
        if let Some(count) = killed {
            self.log.say(Priority::Warning, format_args!("{name}: {count} processes killed for lack of memory"));
            self.events.publish(Some(&about), EventKind::OomKill { count });
        }
        if let Some(count) = refused {
            self.log.say(Priority::Warning, format_args!("{name}: {count} forks refused by limits.processes"));
            self.events.publish(Some(&about), EventKind::ProcessLimit { count });
        }
    }

    /// A service said that it is ready.
    pub(crate) fn note_service_ready(&mut self, pid: i32) {
        let is_sender = |process: &(i32, OwnedFd)| process.0 == pid;
        let service = self.services.iter_mut().find(|service| service.process.as_ref().is_some_and(is_sender));
        let Some(service) = service.filter(|service| !service.is_ready) else { return };
        service.is_ready = true;
        let name = service.name.clone();
        match name == SERVICE && !self.boot.has(Parts::of(&[Part::Netd])) {
            true => self.reach(Part::Netd),
            false => self.reach_stage(&name),
        }
    }
}

/// The end of a process that a launcher reports only now. `pidfd` excludes an earlier process with the same id.
fn take_unknown_end(ends: &mut Vec<(i32, Ended)>, pid: i32, pidfd: &OwnedFd) -> Option<Ended> {
    let at = ends.iter().rposition(|(known, _)| *known == pid)?;
    pidfd::ends_within(pidfd, Duration::ZERO).is_ok_and(|ended| ended).then(|| ends.remove(at).1)
}
