//! The updater's process: starts it, asks it to end, and takes its end.

use super::{Action, End, Event, NAME, Wanted, group, next_start};
use crate::boot_clock::Moment;
use crate::deferred_close::DeferredClose;
use crate::instance::{cgroup, exit_status};
use crate::log::Priority;
use crate::process::{Output, Start, how_it_ended};
use crate::supervisor::Supervisor;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use yado_sys::children::{self, EXIT_NOT_EXECUTED, Ended, SIGKILL, SIGTERM, Session};
use yado_wire::names::clipped;
use yado_wire::rescue::{EventKind, ServiceStatus};

impl Supervisor {
    /// From now on it is started whenever it is due, first now.
    pub(crate) fn begin_updates(&mut self, now: Moment) {
        self.updater.trial_ends = self.trial_end();
        self.step_updater(Event::MayResume, now);
    }

    /// Starts it when that is due, and ends it when the system does.
    pub(crate) fn advance_updater(&mut self, now: Moment) {
        // Those who asked come first.
        self.serve_update_requests(now);
        self.end_late_trial(now);
        self.step_updater(Event::Wake, now);
    }

    /// Starts it for somebody, with these words and, if there is one, this as its standard input. `Err`: why not.
    pub(crate) fn run_updater(
        &mut self,
        words: &[String],
        input: Option<&DeferredClose>,
        now: Moment,
    ) -> Result<ServiceStatus, String> {
        if self.updater.is_active() {
            return Err(format!("it is at work: {}", self.updater.words));
        }
        if self.shutdown.is_some() {
            return Err("the system is shutting down".to_owned());
        }
        self.start_updater("run", words, input).map_err(|error| format!("start it: {error}"))?;
        self.step_updater(Event::RunStarted, now);
        self.updater_status().ok_or_else(|| "it has ended".to_owned())
    }

    /// Somebody wants it: what it goes on with by itself makes way.
    pub(crate) fn make_way_for_update(&mut self, now: Moment) {
        self.step_updater(Event::RunAsked, now);
    }

    /// Asks it to end.
    pub(crate) fn stop_updater(&mut self, now: Moment) {
        self.step_updater(Event::StopAsked, now);
    }

    /// It as one of the services, while it runs.
    pub(crate) fn updater_status(&self) -> Option<ServiceStatus> {
        let pid = self.updater.process.as_ref().map(|(pid, _)| *pid)?;
        Some(ServiceStatus { name: clipped(NAME), pid: Some(pid), restarts: self.updater.starts.saturating_sub(1) })
    }

    /// Its process has ended; what else it started ends with it.
    pub(crate) fn note_updater_end(&mut self, ended: Ended, now: Moment) {
        self.updater.process = None;
        let log = &mut self.log;
        if let Some(output) = &mut self.updater.output {
            output.drain(now, &mut |line| log.record(Priority::Info as u8, NAME, 0, line));
        }
        self.updater.output = None;
        group::remove(&self.paths.updater_group);
        self.answer_update(exit_status(ended));
        let how = match ended {
            Ended::Code(code) if code != EXIT_NOT_EXECUTED => End::Exit,
            Ended::Code(_) | Ended::Signal(_) => End::Crash,
        };
        if how == End::Crash && !self.updater.is_stopping() {
            self.log.say(Priority::Error, format_args!("{NAME}: {}", how_it_ended(ended)));
            let kind = EventKind::ServiceExited { service: clipped(NAME), status: exit_status(ended) };
            self.events.publish(None, kind);
        }
        let next_start = next_start::take(&self.updater_directory());
        self.step_updater(Event::Ended { how, next_start }, now);
    }

    fn wanted_updater(&self) -> Wanted {
        if self.shutdown.is_some() { Wanted::Stopped } else { Wanted::Allowed }
    }

    /// Tells the table that something happened, and does what it says.
    pub(crate) fn step_updater(&mut self, event: Event, now: Moment) {
        let (state, action) = super::step(self.updater.state, self.wanted_updater(), event, now);
        self.updater.state = state;
        match action {
            Action::None => {}
            Action::Resume => {
                if let Err(error) = self.start_updater("resume", &[], None) {
                    self.log.say(Priority::Error, format_args!("start {NAME}: {error}"));
                    self.step_updater(Event::Ended { how: End::Crash, next_start: None }, now);
                }
            }
            Action::Terminate => self.signal_updater(SIGTERM),
            Action::Kill => {
                self.signal_updater(SIGKILL);
                cgroup::kill(&self.paths.updater_group);
            }
            Action::TellGivenUp => {
                let reason = "it crashed too often, and is not started again by itself before the next boot";
                self.log.say(Priority::Error, format_args!("{NAME}: {reason}"));
                self.leave_trial("it crashed too often in a system that is on trial", now);
            }
        }
    }

    fn start_updater(&mut self, verb: &str, words: &[String], input: Option<&DeferredClose>) -> io::Result<()> {
        let directory = self.updater_directory();
        fs::create_dir_all(&directory)?;
        // What its last run left is not taken for this one's.
        for file in ["status", next_start::FILE] {
            let _ = fs::remove_file(directory.join(file));
        }
        let group = group::make(&self.paths.updater_group)
            .map_err(|error| self.log.say(Priority::Warning, format_args!("{NAME}: its control group: {error}")))
            .ok();
        let (output, writer) = Output::pipe()?;
        let arguments: Vec<OsString> =
            ["yado-updater", verb].into_iter().chain(words.iter().map(String::as_str)).map(OsString::from).collect();
        let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
        let environment = [("RUN", &self.paths.run), ("DATA", &self.paths.data), ("SYSTEM", &self.paths.system)]
            .map(|(name, path)| format!("YADO_{name}={}", path.display()));
        let mut descriptors = vec![(writer.as_fd(), 1), (writer.as_fd(), 2)];
        descriptors.extend(input.map(|input| (input.as_fd(), 0)));
        let child = Start {
            path: &self.paths.yado,
            arguments: &arguments,
            environment: &environment,
            descriptors: &descriptors,
            group: group.as_ref().map(AsFd::as_fd),
            session: Session::Own,
        }
        .start()?;
        let updater = &mut self.updater;
        (updater.process, updater.output) = (Some((child.pid, child.pidfd)), Some(output));
        updater.starts = updater.starts.saturating_add(1);
        updater.words = [verb].into_iter().chain(words.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
        self.log.say(Priority::Info, format_args!("{NAME}: {}", updater.words));
        Ok(())
    }

    fn signal_updater(&mut self, signal: u8) {
        if let Some((_, pidfd)) = &self.updater.process {
            let _ = children::send_signal(pidfd.as_fd(), signal);
        }
    }

    /// Where it shows what it does, and says when it is to be started again.
    fn updater_directory(&self) -> PathBuf {
        self.paths.run.join(NAME)
    }
}
