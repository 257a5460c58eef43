//! Processes of services: starts them, signals them, and handles their ends.

use crate::boot_clock::Moment;
use crate::instance::{cgroup, exit_status};
use crate::log::Priority;
use crate::process::{Output, Start, how_it_ended};
use crate::service;
use crate::supervisor::Supervisor;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use yado_sys::children::{self, Ended, SIGKILL, Session};
use yado_wire::names::clipped;
use yado_wire::rescue::EventKind;

impl Supervisor {
    /// Starts a service.
    pub(crate) fn start_service(&mut self, number: usize, now: Moment) {
        let run = self.paths.run.to_string_lossy().into_owned();
        let Some(service) = self.services.get_mut(number) else { return };
        service.is_ready = false;
        let group = service::group::make(&self.paths.service_groups, &service.name)
            .map_err(|error| {
                self.log.say(Priority::Warning, format_args!("{}: its control group: {error}", service.name));
            })
            .ok();
        let started = Output::pipe().and_then(|(output, writer)| {
            let arguments: Vec<&OsStr> = service.arguments.iter().map(|text| text.as_os_str()).collect();
            let child = Start {
                path: &service.path,
                arguments: &arguments,
                environment: &[format!("NOTIFY_SOCKET={run}/notify"), format!("YADO_RUN={run}")],
                descriptors: &[(writer.as_fd(), 1), (writer.as_fd(), 2)],
                group: group.as_ref().map(AsFd::as_fd),
                session: Session::Own,
            }
            .start()?;
            Ok((child, output))
        });
        match started {
            Ok((child, output)) => {
                service::group::spare(child.pid);
                service.process = Some((child.pid, child.pidfd));
                service.output = Some(output);
            }
            Err(error) => {
                let name = service.name.clone();
                self.log.say(Priority::Error, format_args!("start {name}: {error}"));
                self.step_service(number, service::Event::Exited, now);
            }
        }
    }

    /// Sends a signal to a service.
    pub(crate) fn signal_service(&mut self, number: usize, signal: u8) {
        if let Some((_, pidfd)) = self.services.get(number).and_then(|service| service.process.as_ref()) {
            let _ = children::send_signal(pidfd.as_fd(), signal);
        }
    }

    /// Kills a service and all that it started.
    pub(crate) fn kill_service(&mut self, number: usize) {
        self.signal_service(number, SIGKILL);
        if let Some(service) = self.services.get(number) {
            cgroup::kill(&self.paths.service_groups.join(&service.name));
        }
    }

    /// A service's process has ended; what else it started is of no use without it.
    pub(crate) fn note_service_end(&mut self, number: usize, ended: Ended, now: Moment) {
        let wanted = self.wanted_services();
        let log = &mut self.log;
        let Some(service) = self.services.get_mut(number) else { return };
        service.process = None;
        service.is_ready = false;
        let name = service.name.clone();
        if let Some(output) = &mut service.output {
            output.drain(now, &mut |line| log.record(Priority::Info as u8, &name, 0, line));
        }
        service.output = None;
        service::group::remove(&self.paths.service_groups, &name);
        if wanted == service::Wanted::Up {
            self.log.say(Priority::Warning, format_args!("{name}: {}; it is started again", how_it_ended(ended)));
            let kind = EventKind::ServiceExited { service: clipped(&name), status: exit_status(ended) };
            self.events.publish(None, kind);
        }
        self.step_service(number, service::Event::Exited, now);
    }
}
