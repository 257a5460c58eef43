//! One request in, its first answers out.

use super::client::Exchange;
use crate::instance::Instance;
use crate::instance::lifecycle::{State, Wanted};
use crate::launch::Task;
use crate::log::Priority;
use crate::log::rings::LogPosition;
use crate::moment::{Moment, whole_ms};
use crate::shutdown::sequence::Goal;
use crate::supervisor::Supervisor;
use crate::untrusted::{Untrusted, Way};
use std::time::Duration;
use yado_spec::launch_request::{Command, CommandUser, Verify};
use yado_sys::memfd;
use yado_wire::names::clipped;
use yado_wire::rescue::{self as wire, MAX_COMMAND_BYTES, Mode, Reply, Request, ServiceStatus, SystemStatus};
use yado_wire::{Failure, InstanceId, InstanceName, MAX_FRAME_BYTES, Step};

impl Supervisor {
    /// Reads what a client sent. A call of its own: with the longest request in it, its frame is larger than all others,
    /// and inlined it would be that of the loop.
    #[inline(never)]
    pub(super) fn read_request(&mut self, id: u32, now: Moment) {
        let mut buffer = [0; MAX_FRAME_BYTES];
        let Some(client) = self.clients.find(id) else { return };
        let received = match client.socket.recv(&mut buffer, Way::Reader) {
            Ok(Some(received)) if !received.is_end() => received,
            Ok(None) => return,
            Ok(Some(_)) | Err(_) => {
                client.is_lost = true;
                return;
            }
        };
        if !matches!(client.exchange, Exchange::Idle) {
            // What was begun is kept, so that what runs for this client alone ends with it.
            let reason = "one request at a time on a connection: it is closed, and what ran for it ends";
            client.reply(&Reply::Refused(Failure::refused(Step::Request, "request", reason)));
            client.is_lost = true;
            return;
        }
        match yado_wire::decode(buffer.get(..received.len).unwrap_or(&[])) {
            Ok(request) => self.take_request(id, request, &received.descriptors, now),
            Err(error) => client.refuse("request", &error.to_string()),
        }
    }

    fn take_request(&mut self, id: u32, request: Request, descriptors: &[Untrusted], now: Moment) {
        match request {
            Request::Status => self.answer_status(id, now),
            Request::Logs { instance, follow } => {
                self.set_exchange(id, Exchange::Logs { position: LogPosition::default(), instance, follow });
            }
            Request::Exec { instance } => self.exec(id, &instance, descriptors),
            Request::Start(name) => self.start(id, &name, now),
            Request::Stop { instance, timeout_s, force } => {
                let patience = match (force, timeout_s) {
                    (true, _) => Some(Duration::ZERO),
                    (false, Some(seconds)) => Some(Duration::from_secs(seconds.into())),
                    (false, None) => None,
                };
                self.stop(id, &instance, patience, now);
            }
            Request::Restart(name) => self.restart(id, &name, now),
            Request::Console { instance, force } => self.open_console(id, &instance, force),
            Request::Reboot => self.end_machine(id, Goal::Reboot, now),
            Request::Poweroff => self.end_machine(id, Goal::PowerOff, now),
            Request::Apply { forget } => match self.begin_apply(id, forget, now) {
                Ok(()) => self.set_exchange(id, Exchange::Applying),
                Err(failure) => self.reply(id, &Reply::Refused(failure)),
            },
            Request::Events => self.set_exchange(id, Exchange::Events { sequence: 0 }),
        }
    }

    fn set_exchange(&mut self, id: u32, exchange: Exchange) {
        if let Some(client) = self.clients.find(id) {
            client.exchange = exchange;
        }
    }

    fn answer_status(&mut self, id: u32, now: Moment) {
        let since = match self.places.mode {
            Mode::System => now,
            Mode::Hosted => now.saturating_sub(self.started),
        };
        let system = SystemStatus {
            version: clipped(env!("CARGO_PKG_VERSION")),
            mode: self.places.mode,
            fingerprint: self.slot.map(|slot| slot.fingerprint),
            slot: self.slot.map(|slot| slot.name),
            uptime_ms: whole_ms(since),
            data: self.data_failure.clone(),
            verify: match self.places.verify() {
                Verify::Block => wire::Verify::Block,
                Verify::Start => wire::Verify::Start,
            },
        };
        let Some(client) = self.clients.list.iter_mut().find(|client| client.id == id) else { return };
        client.reply(&Reply::System(system));
        for instance in self.instances.iter() {
            client.reply(&Reply::Instance(instance.status(&self.places.group(&instance.place()), now)));
        }
        for service in &self.services {
            client.reply(&Reply::Service(ServiceStatus {
                name: clipped(&service.name),
                pid: service.process.as_ref().map(|(pid, _)| *pid),
                restarts: service.restarts,
            }));
        }
        client.reply(&Reply::Done);
    }

    /// The instance, or a refusal to the client.
    fn find_instance(&mut self, id: u32, name: &InstanceName) -> Option<InstanceId> {
        let number = self.instances.named(name).map(|instance| instance.id);
        if number.is_none() {
            self.refuse(id, name.as_str(), "there is no such instance");
        }
        number
    }

    fn refuse(&mut self, id: u32, object: &str, reason: &str) {
        if let Some(client) = self.clients.find(id) {
            client.refuse(object, reason);
        }
    }

    pub(crate) fn reply(&mut self, id: u32, reply: &Reply) {
        if let Some(client) = self.clients.find(id) {
            client.reply(reply);
        }
    }

    /// The instance, if it can be started now, or a refusal to the client.
    fn startable(&mut self, id: u32, name: &InstanceName) -> Option<InstanceId> {
        let number = self.find_instance(id, name)?;
        if self.instances.get(number).is_some_and(|instance| instance.is_deleted) {
            self.refuse(id, name.as_str(), "it is configured no more");
            return None;
        }
        match &self.instances.get(number)?.spec {
            Err(failure) => {
                let failure = failure.as_ref().clone();
                self.reply(id, &Reply::Refused(failure));
                return None;
            }
            Ok(spec) if spec.security.protection_start => {
                self.refuse(id, name.as_str(), "security.protection.start is set");
                return None;
            }
            Ok(_) => {}
        }
        if self.shutdown.is_some() {
            self.refuse(id, name.as_str(), "the system is shutting down");
            return None;
        }
        Some(number)
    }

    fn start(&mut self, id: u32, name: &InstanceName, now: Moment) {
        let Some(number) = self.startable(id, name) else { return };
        let Some(instance) = self.instances.get_mut(number) else { return };
        // Who runs or is about to is not started once more; who waits for its next attempt is not let wait any longer.
        let run = match (instance.wanted, instance.state) {
            (
                Wanted::Up { run },
                State::Starting { .. } | State::Running { .. } | State::Ready { .. } | State::Unhealthy { .. },
            ) => run,
            (Wanted::Up { .. } | Wanted::Down { .. }, _) => instance.next_run(),
        };
        self.set_exchange(id, Exchange::Starting { instance: number, run });
        self.want(number, Wanted::Up { run }, now);
    }

    fn stop(&mut self, id: u32, name: &InstanceName, patience: Option<Duration>, now: Moment) {
        let Some(number) = self.find_instance(id, name) else { return };
        let as_said = self.instances.get(number).and_then(Instance::rules).map(|rules| rules.patience);
        let patience = patience.or(as_said).unwrap_or(Duration::ZERO);
        self.set_exchange(id, Exchange::Stopping { instance: number });
        self.want(number, Wanted::Down { patience }, now);
    }

    fn restart(&mut self, id: u32, name: &InstanceName, now: Moment) {
        let Some(number) = self.startable(id, name) else { return };
        let Some(instance) = self.instances.get_mut(number) else { return };
        let run = instance.next_run();
        self.set_exchange(id, Exchange::Starting { instance: number, run });
        self.want(number, Wanted::Up { run }, now);
    }

    fn exec(&mut self, id: u32, name: &InstanceName, descriptors: &[Untrusted]) {
        let Some(number) = self.find_instance(id, name) else { return };
        let (Some(standard), Some(file), 4) = (descriptors.get(..3), descriptors.get(3), descriptors.len()) else {
            return self.refuse(
                id,
                name.as_str(),
                "exec needs four descriptors: stdin, stdout, stderr and the command",
            );
        };
        let command = match read_command(file) {
            Ok(command) => command,
            Err(reason) => return self.refuse(id, name.as_str(), &reason),
        };
        let is_up = |instance: &Instance| instance.is_up() && instance.payload().is_some();
        if !self.instances.get(number).is_some_and(is_up) {
            return self.refuse(id, name.as_str(), "it is not running");
        }
        match self.start_launcher(number, Task::Exec { client: id, command, standard }) {
            Ok(launch) => self.set_exchange(id, Exchange::Command { launch }),
            Err(failure) => self.reply(id, &Reply::Refused(failure)),
        }
    }

    fn open_console(&mut self, id: u32, name: &InstanceName, force: bool) {
        let Some(number) = self.find_instance(id, name) else { return };
        let console = self.instances.run_mut(number).and_then(|run| run.console.as_mut());
        let Some(console) = console else { return self.refuse(id, name.as_str(), "it has no console now") };
        if console.has_viewer() && !force {
            return self.refuse(id, name.as_str(), "somebody else has the console; force takes it");
        }
        match console.attach() {
            Ok(stream) => {
                let Some(client) = self.clients.find(id) else { return };
                client.reply_with(&Reply::Console, &stream);
                client.reply(&Reply::Done);
            }
            Err(error) => {
                let failure = Failure::from_io(Step::Console, name.as_str(), &error);
                self.reply(id, &Reply::Refused(failure));
            }
        }
    }

    fn end_machine(&mut self, id: u32, goal: Goal, now: Moment) {
        if self.places.mode == Mode::Hosted {
            return self.refuse(id, "system", "a hosted init does not end the machine; send it SIGTERM to end it");
        }
        self.reply(id, &Reply::Done);
        self.log.say(Priority::Notice, format_args!("{goal:?} was asked for"));
        self.begin_shutdown(goal, now);
    }
}

/// The command in a client's file, which nobody can change any more.
fn read_command(file: &Untrusted) -> Result<Command, String> {
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
