//! What a client is being told after its request: a position in a ring, or what it waits for.

use super::Client;
use crate::instance::Instance;
use crate::instance::lifecycle::{State, Wanted};
use crate::launch::LaunchId;
use crate::log::rings::LogPosition;
use crate::reports::console_identifier;
use crate::supervisor::Supervisor;
use yado_wire::rescue::{ExitStatus, Reply};
use yado_wire::{Failure, InstanceName, Step};

/// Packets that one client gets before the others have their turn.
const MOST_AT_ONCE: usize = 64;

/// What a client is being told.
#[derive(Debug)]
pub(super) enum Exchange {
    /// Nothing.
    Idle,
    /// Records of the log.
    Logs {
        /// How far it has read.
        position: LogPosition,
        /// Only this instance's.
        instance: Option<InstanceName>,
        /// It goes on after the last one.
        follow: bool,
    },
    /// Events from this one on.
    Events {
        /// The next one's number.
        sequence: u64,
    },
    /// Until this run of this instance has started or failed.
    Starting {
        /// Its number.
        instance: usize,
        /// The run.
        run: u32,
    },
    /// Until this instance is gone.
    Stopping {
        /// Its number.
        instance: usize,
    },
    /// Until its command has ended.
    Command {
        /// The launch that runs it.
        launch: LaunchId,
    },
}

impl Exchange {
    /// Something can be sent without anything happening first.
    pub(super) fn has_more(&self, init: &Supervisor) -> bool {
        match self {
            Exchange::Logs { position, .. } => init.log.rings().is_some_and(|rings| rings.has_more(position)),
            Exchange::Events { sequence } => *sequence < init.events.next(),
            Exchange::Idle | Exchange::Starting { .. } | Exchange::Stopping { .. } | Exchange::Command { .. } => {
                false
            }
        }
    }
}

impl Client {
    /// Sends what it can take of a ring.
    pub(super) fn stream(&mut self, init: &Supervisor) {
        match &self.exchange {
            Exchange::Logs { position, instance, follow } => {
                let (position, instance, follow) = (position.clone(), instance.clone(), *follow);
                self.stream_log(init, position, instance, follow);
            }
            Exchange::Events { sequence } => {
                let mut sequence = *sequence;
                for _ in 0..MOST_AT_ONCE {
                    let Some((packet, next)) = init.events.read(sequence) else { break };
                    if !self.send(packet) {
                        break;
                    }
                    sequence = next;
                }
                self.exchange = Exchange::Events { sequence };
            }
            Exchange::Idle | Exchange::Starting { .. } | Exchange::Stopping { .. } | Exchange::Command { .. } => {}
        }
    }

    fn stream_log(&mut self, init: &Supervisor, position: LogPosition, instance: Option<InstanceName>, follow: bool) {
        let mut position = position;
        let mut packet = Vec::new();
        for _ in 0..MOST_AT_ONCE {
            let before = position.clone();
            let is_record = init.log.rings().is_some_and(|rings| rings.read(&mut position, &mut packet));
            if !is_record {
                if !follow {
                    self.exchange = Exchange::Idle;
                    self.reply(&Reply::Done);
                    return;
                }
                break;
            }
            if instance.as_ref().is_none_or(|name| is_about(&packet, name)) && !self.send(&packet) {
                position = before;
                break;
            }
        }
        self.exchange = Exchange::Logs { position, instance, follow };
    }
}

impl Supervisor {
    /// Answers those who wait for an instance to start or to be gone.
    pub(crate) fn answer_waiting(&mut self) {
        let mut clients = std::mem::take(&mut self.clients.list);
        for client in &mut clients {
            let answer = match client.exchange {
                Exchange::Starting { instance, run } => self.start_answer(instance, run),
                Exchange::Stopping { instance } => self.stop_answer(instance),
                Exchange::Idle | Exchange::Logs { .. } | Exchange::Events { .. } | Exchange::Command { .. } => None,
            };
            if let Some(answer) = answer {
                client.exchange = Exchange::Idle;
                client.reply(&answer);
            }
        }
        self.clients.list = clients;
    }

    fn start_answer(&self, number: usize, wished: u32) -> Option<Reply> {
        let instance = self.instances.get(number)?;
        if instance.wanted != (Wanted::Up { run: wished }) {
            let reason = "somebody else wished otherwise in the meantime";
            return Some(Reply::Refused(Failure::refused(Step::Request, instance.name.as_str(), reason)));
        }
        match instance.state {
            State::Running { run, .. }
            | State::Ready { run, .. }
            | State::Unhealthy { run, .. }
            | State::Finished { run }
                if run == wished =>
            {
                Some(Reply::Done)
            }
            State::Stuck { .. } => Some(refusal_of_stuck(instance)),
            State::Failed { run } | State::BackingOff { run, .. } if run == wished => {
                let failure = instance.last_failure.as_deref().cloned();
                Some(Reply::Refused(
                    failure
                        .unwrap_or_else(|| Failure::refused(Step::Exec, instance.name.as_str(), "it ended at once")),
                ))
            }
            State::Stopped
            | State::Waiting { .. }
            | State::WaitingForDevice { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Ready { .. }
            | State::Unhealthy { .. }
            | State::Stopping { .. }
            | State::Collecting { .. }
            | State::BackingOff { .. }
            | State::Finished { .. }
            | State::Failed { .. } => None,
        }
    }

    fn stop_answer(&self, number: usize) -> Option<Reply> {
        let instance = self.instances.get(number)?;
        match instance.wanted {
            Wanted::Down { .. } if matches!(instance.state, State::Stuck { .. }) => Some(refusal_of_stuck(instance)),
            Wanted::Down { .. } => (!instance.is_active()).then_some(Reply::Done),
            Wanted::Up { .. } => {
                let reason = "somebody else wished otherwise in the meantime";
                Some(Reply::Refused(Failure::refused(Step::Request, instance.name.as_str(), reason)))
            }
        }
    }

    /// A command has ended, or could not be started.
    pub(crate) fn answer_exec(&mut self, client: u32, failure: Option<&Failure>, ended: Option<ExitStatus>) {
        let Some(client) = self.clients.find(client) else { return };
        client.exchange = Exchange::Idle;
        match (failure, ended) {
            (Some(failure), _) => client.reply(&Reply::Refused(failure.clone())),
            (None, Some(status)) => client.reply(&Reply::Exited(status)),
            (None, None) => {}
        }
    }

    /// A client is gone: what ran for it alone ends.
    pub(super) fn forget_client(&mut self, client: &Client) {
        let Exchange::Command { launch } = client.exchange else { return };
        let Some(launch) = self.launches.iter().find(|known| known.id == launch) else { return };
        launch.kill();
    }

    /// Whether a client is still connected.
    pub(crate) fn has_client(&self, id: u32) -> bool {
        self.clients.list.iter().any(|client| client.id == id)
    }
}

fn refusal_of_stuck(instance: &Instance) -> Reply {
    let failure = instance.last_failure.as_deref().cloned();
    Reply::Refused(failure.unwrap_or_else(|| {
        Failure::refused(Step::Request, instance.name.as_str(), "something of it does not end though it was killed")
    }))
}

/// Whether a record is what the instance's console or we said about it.
fn is_about(packet: &[u8], name: &InstanceName) -> bool {
    let Ok(Reply::Log(record)) = yado_wire::decode(packet) else { return false };
    record.identifier.as_str() == console_identifier(name.as_str())
        || (record.identifier.as_str() == crate::log::OWN_IDENTIFIER
            && record.message.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(':')))
}
