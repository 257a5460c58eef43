//! Handles a client's request, and sends the first answers.

use super::client::Exchange;
use crate::boot_clock::{Moment, whole_ms};
use crate::deferred_close::{CloseBy, DeferredClose};
use crate::instance::Instance;
use crate::instance::lifecycle::{State, Wanted};
use crate::last_reset::Asked;
use crate::launch::Task;
use crate::log::Priority;
use crate::log::rings::LogPosition;
use crate::shutdown::sequence::Goal;
use crate::supervisor::Supervisor;
use crate::updater;
use std::time::Duration;
use yado_spec::launch_request::{Command, CommandUser, Verify};
use yado_sys::memfd;
use yado_wire::last_reset;
use yado_wire::names::clipped;
use yado_wire::rescue::{
    self as wire, MAX_COMMAND_BYTES, MAX_UPDATE_BYTES, MAX_UPDATE_WORDS, Mode, Reply, Request, ServiceStatus,
    SystemStatus,
};
use yado_wire::{Failure, InstanceId, InstanceName, MAX_FRAME_BYTES, Step};

impl Supervisor {
    /// Reads what a client sent. Not inlined: its stack frame holds the longest request, and would become that of the loop.
    #[inline(never)]
    pub(super) fn read_request(&mut self, client_id: u32, now: Moment) {
        let mut buffer = [0; MAX_FRAME_BYTES];
        let Some(client) = self.clients.find(client_id) else { return };
        let received = match client.socket.recv(&mut buffer, CloseBy::Reader) {
            Ok(Some(received)) if !received.is_end() => received,
            Ok(None) => return,
            Ok(Some(_)) | Err(_) => {
                client.is_lost = true;
                return;
            }
        };
        if !matches!(client.exchange, Exchange::Idle) {
            // The exchange is kept: what runs for this client alone ends when the client is removed.
            let reason = "one request at a time on a connection: it is closed, and what ran for it ends";
            client.reply(&Reply::Refused(Failure::refused(Step::Request, "request", reason)));
            client.is_lost = true;
            return;
        }
        match yado_wire::decode(buffer.get(..received.len).unwrap_or(&[])) {
            Ok(request) => self.take_request(client_id, request, received.descriptors, now),
            Err(error) => client.refuse("request", &error.to_string()),
        }
    }

    fn take_request(&mut self, client_id: u32, request: Request, descriptors: Vec<DeferredClose>, now: Moment) {
        match request {
            Request::Status => self.answer_status(client_id, now),
            Request::Logs { instance, follow } => {
                self.set_exchange(client_id, Exchange::Logs { position: LogPosition::default(), instance, follow });
            }
            Request::Exec { instance } => self.exec(client_id, &instance, &descriptors),
            Request::Start(name) => self.start(client_id, &name, now),
            Request::Stop { instance, timeout_s, force } => {
                let timeout = match (force, timeout_s) {
                    (true, _) => Some(Duration::ZERO),
                    (false, Some(seconds)) => Some(Duration::from_secs(seconds.into())),
                    (false, None) => None,
                };
                self.stop(client_id, &instance, timeout, now);
            }
            Request::Restart(name) => self.restart(client_id, &name, now),
            Request::Console { instance, force } => self.open_console(client_id, &instance, force),
            Request::Reboot => self.end_machine(client_id, Goal::Reboot, Asked::by("yado rescue"), now),
            Request::Poweroff => self.end_machine(client_id, Goal::PowerOff, Asked::by("yado rescue"), now),
            Request::RebootFor { by, reason } => self.end_machine(client_id, Goal::Reboot, Asked { by, reason }, now),
            Request::RebootWith { by, reason, argument } => {
                self.end_machine(client_id, Goal::RebootWith(argument), Asked { by, reason }, now);
            }
            Request::Apply { forget } => match self.begin_apply(client_id, forget, now) {
                Ok(()) => self.set_exchange(client_id, Exchange::Applying),
                Err(failure) => self.reply(client_id, &Reply::Refused(failure)),
            },
            Request::Update { words } => self.update(client_id, words, descriptors, now),
            Request::Health => self.answer_health(client_id, now),
            Request::StopUpdate => {
                self.set_exchange(client_id, Exchange::StoppingUpdate);
                self.stop_updater(now);
            }
            Request::Events => self.set_exchange(client_id, Exchange::Events { sequence: 0 }),
        }
    }

    fn set_exchange(&mut self, client_id: u32, exchange: Exchange) {
        if let Some(client) = self.clients.find(client_id) {
            client.exchange = exchange;
        }
    }

    fn answer_status(&mut self, client_id: u32, now: Moment) {
        let since = match self.paths.mode {
            Mode::System => now,
            Mode::Hosted => now.saturating_sub(self.started),
        };
        let system = SystemStatus {
            version: clipped(env!("CARGO_PKG_VERSION")),
            mode: self.paths.mode,
            fingerprint: self.slot.map(|slot| slot.fingerprint),
            slot: self.slot.map(|slot| slot.name),
            uptime_ms: whole_ms(since),
            data: self.data_failure.clone(),
            verify: match self.paths.verify() {
                Verify::Block => wire::Verify::Block,
                Verify::Start => wire::Verify::Start,
            },
        };
        let updater = self.updater_status();
        let Some(client) = self.clients.list.iter_mut().find(|client| client.id == client_id) else { return };
        client.reply(&Reply::System(system));
        for instance in self.instances.in_order() {
            client.reply(&Reply::Instance(instance.status(&self.paths.group(&instance.directory_name()), now)));
        }
        for service in &self.services {
            client.reply(&Reply::Service(ServiceStatus {
                name: clipped(&service.name),
                pid: service.process.as_ref().map(|(pid, _)| *pid),
                restarts: service.restarts,
            }));
        }
        if let Some(updater) = updater {
            client.reply(&Reply::Service(updater));
        }
        client.reply(&Reply::Done);
    }

    /// The instance, or a refusal to the client.
    fn find_instance(&mut self, client_id: u32, name: &InstanceName) -> Option<InstanceId> {
        let id = self.instances.named(name).map(|instance| instance.id);
        if id.is_none() {
            self.refuse(client_id, name.as_str(), "there is no such instance");
        }
        id
    }

    fn refuse(&mut self, client_id: u32, object: &str, reason: &str) {
        if let Some(client) = self.clients.find(client_id) {
            client.refuse(object, reason);
        }
    }

    pub(crate) fn reply(&mut self, client_id: u32, reply: &Reply) {
        if let Some(client) = self.clients.find(client_id) {
            client.reply(reply);
        }
    }

    /// The instance, if it can be started now, or a refusal to the client.
    fn startable(&mut self, client_id: u32, name: &InstanceName) -> Option<InstanceId> {
        let id = self.find_instance(client_id, name)?;
        if self.instances.get(id).is_some_and(|instance| instance.is_deleted) {
            self.refuse(client_id, name.as_str(), "it is no longer configured");
            return None;
        }
        match &self.instances.get(id)?.spec {
            Err(failure) => {
                let failure = failure.as_ref().clone();
                self.reply(client_id, &Reply::Refused(failure));
                return None;
            }
            Ok(spec) if spec.security.protection_start => {
                self.refuse(client_id, name.as_str(), "security.protection.start is set");
                return None;
            }
            Ok(_) => {}
        }
        if self.shutdown.is_some() {
            self.refuse(client_id, name.as_str(), "the system is shutting down");
            return None;
        }
        Some(id)
    }

    fn start(&mut self, client_id: u32, name: &InstanceName, now: Moment) {
        let Some(id) = self.startable(client_id, name) else { return };
        let Some(instance) = self.instances.get_mut(id) else { return };
        // An instance that runs or is starting is not started again; an instance in back-off starts at once.
        let run = match (instance.wanted, instance.state) {
            (
                Wanted::Up { run },
                State::Starting { .. } | State::Running { .. } | State::Ready { .. } | State::Unhealthy { .. },
            ) => run,
            (Wanted::Up { .. } | Wanted::Down { .. }, _) => instance.next_run(),
        };
        self.set_exchange(client_id, Exchange::Starting { instance: id, run });
        self.want(id, Wanted::Up { run }, now);
    }

    fn stop(&mut self, client_id: u32, name: &InstanceName, timeout: Option<Duration>, now: Moment) {
        let Some(id) = self.find_instance(client_id, name) else { return };
        let as_said = self.instances.get(id).and_then(Instance::rules).map(|rules| rules.stop_timeout);
        let timeout = timeout.or(as_said).unwrap_or(Duration::ZERO);
        self.set_exchange(client_id, Exchange::Stopping { instance: id });
        self.want(id, Wanted::Down { timeout }, now);
    }

    fn restart(&mut self, client_id: u32, name: &InstanceName, now: Moment) {
        let Some(id) = self.startable(client_id, name) else { return };
        let Some(instance) = self.instances.get_mut(id) else { return };
        let run = instance.next_run();
        self.set_exchange(client_id, Exchange::Starting { instance: id, run });
        self.want(id, Wanted::Up { run }, now);
    }

    fn exec(&mut self, client_id: u32, name: &InstanceName, descriptors: &[DeferredClose]) {
        let Some(id) = self.find_instance(client_id, name) else { return };
        let (Some(standard), Some(file), 4) = (descriptors.get(..3), descriptors.get(3), descriptors.len()) else {
            return self.refuse(
                client_id,
                name.as_str(),
                "exec needs four descriptors: stdin, stdout, stderr and the command",
            );
        };
        let command = match read_command(file) {
            Ok(command) => command,
            Err(reason) => return self.refuse(client_id, name.as_str(), &reason),
        };
        let is_up = |instance: &Instance| instance.is_up() && instance.payload().is_some();
        if !self.instances.get(id).is_some_and(is_up) {
            return self.refuse(client_id, name.as_str(), "it is not running");
        }
        match self.start_launcher(id, Task::Exec { client: client_id, command, standard }) {
            Ok(launch) => self.set_exchange(client_id, Exchange::Command { launch }),
            Err(failure) => self.reply(client_id, &Reply::Refused(failure)),
        }
    }

    fn open_console(&mut self, client_id: u32, name: &InstanceName, force: bool) {
        let Some(id) = self.find_instance(client_id, name) else { return };
        let console = self.instances.run_mut(id).and_then(|run| run.console.as_mut());
        let Some(console) = console else { return self.refuse(client_id, name.as_str(), "it has no console now") };
        if console.has_viewer() && !force {
            return self.refuse(client_id, name.as_str(), "somebody else has the console; force takes it");
        }
        match console.attach() {
            Ok(stream) => {
                let Some(client) = self.clients.find(client_id) else { return };
                client.reply_with(&Reply::Console, &stream);
                client.reply(&Reply::Done);
            }
            Err(error) => {
                let failure = Failure::from_io(Step::Console, name.as_str(), &error);
                self.reply(client_id, &Reply::Refused(failure));
            }
        }
    }

    fn update(&mut self, client_id: u32, words: Vec<String>, mut descriptors: Vec<DeferredClose>, now: Moment) {
        let bytes = words.iter().fold(0usize, |bytes, word| bytes.saturating_add(word.len()));
        if !(1..=MAX_UPDATE_WORDS).contains(&words.len()) || MAX_UPDATE_BYTES < bytes {
            let reason =
                format!("it takes 1 to {MAX_UPDATE_WORDS} words of at most {MAX_UPDATE_BYTES} bytes together");
            return self.refuse(client_id, updater::NAME, &reason);
        }
        let input = descriptors.pop();
        if !descriptors.is_empty() {
            return self.refuse(client_id, updater::NAME, "it takes one descriptor at most: its standard input");
        }
        self.set_exchange(client_id, Exchange::StartingUpdate { words, input });
        self.make_way_for_update(now);
        self.serve_update_requests(now);
    }

    fn end_machine(&mut self, client_id: u32, goal: Goal, asked: Asked, now: Moment) {
        if self.paths.mode == Mode::Hosted {
            return self.refuse(
                client_id,
                "system",
                "a hosted init does not end the machine; send it SIGTERM to end it",
            );
        }
        self.reply(client_id, &Reply::Done);
        let by = last_reset::one_line(&asked.by);
        let reason = last_reset::one_line(&asked.reason);
        let separator = if reason.is_empty() { "" } else { ": " };
        self.log.say(Priority::Notice, format_args!("{goal:?} was asked for by {by}{separator}{reason}"));
        self.begin_shutdown(goal, asked, now);
    }
}

/// Reads the command from a client's memfd, which is sealed.
fn read_command(file: &DeferredClose) -> Result<Command, String> {
    let bytes = memfd::read_sealed(file, MAX_COMMAND_BYTES as u64).map_err(|error| {
        format!("the command's file: {error} (a sealed memfd of at most {MAX_COMMAND_BYTES} bytes)")
    })?;
    let wire::Command { argv, environment, cwd, user } =
        wire::Command::decode(&bytes).map_err(|error| format!("the command's file: {error}"))?;
    let user = match user {
        wire::CommandUser::Ids { uid, gid } => CommandUser::Ids { uid, gid },
        wire::CommandUser::Name { name, gid } => CommandUser::Name { name, gid },
    };
    Ok(Command { argv, environment, cwd, user })
}
