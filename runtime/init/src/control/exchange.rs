//! Answers to clients that wait for an event.

use super::client::{Client, Exchange};
use crate::boot_clock::Moment;
use crate::instance::Instance;
use crate::instance::lifecycle::{State, Wanted};
use crate::supervisor::Supervisor;
use crate::updater;
use yado_wire::rescue::{ExitStatus, Reply};
use yado_wire::{Failure, InstanceId, Step};

impl Supervisor {
    /// Answers those who wait for an instance to start or to be gone.
    pub(crate) fn answer_waiting(&mut self) {
        let mut clients = std::mem::take(&mut self.clients.list);
        for client in &mut clients {
            let answer = match client.exchange {
                Exchange::Starting { instance, run } => self.start_answer(instance, run),
                Exchange::Stopping { instance } => self.stop_answer(instance),
                Exchange::StoppingUpdate => (!self.updater.is_active()).then_some(Reply::Done),
                Exchange::Idle
                | Exchange::Logs { .. }
                | Exchange::Events { .. }
                | Exchange::Applying
                | Exchange::StartingUpdate { .. }
                | Exchange::Updating
                | Exchange::Command { .. } => None,
            };
            if let Some(answer) = answer {
                client.exchange = Exchange::Idle;
                client.reply(&answer);
            }
        }
        self.clients.list = clients;
    }

    fn start_answer(&self, id: InstanceId, wanted_run: u32) -> Option<Reply> {
        let Some(instance) = self.instances.get(id) else {
            return Some(Reply::Refused(Failure::refused(Step::Request, "start", "it is no longer configured")));
        };
        if instance.wanted != (Wanted::Up { run: wanted_run }) {
            let reason = "another request has changed what is wanted of it in the meantime";
            return Some(Reply::Refused(Failure::refused(Step::Request, instance.name.as_str(), reason)));
        }
        match instance.state {
            State::Running { run, .. }
            | State::Ready { run, .. }
            | State::Unhealthy { run, .. }
            | State::Finished { run }
                if run == wanted_run =>
            {
                Some(Reply::Done)
            }
            State::Stuck { .. } => Some(refusal_of_stuck(instance)),
            State::Failed { run } | State::BackingOff { run, .. } if run == wanted_run => {
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

    fn stop_answer(&self, id: InstanceId) -> Option<Reply> {
        let Some(instance) = self.instances.get(id) else { return Some(Reply::Done) };
        match instance.wanted {
            Wanted::Down { .. } if matches!(instance.state, State::Stuck { .. }) => Some(refusal_of_stuck(instance)),
            Wanted::Down { .. } => (!instance.is_active()).then_some(Reply::Done),
            Wanted::Up { .. } => {
                let reason = "another request has changed what is wanted of it in the meantime";
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

    /// Starts the updater for those who asked for it, or tells them why not.
    pub(crate) fn serve_update_requests(&mut self, now: Moment) {
        if self.updater.is_stopping() {
            return;
        }
        let asks = |client: &&Client| matches!(client.exchange, Exchange::StartingUpdate { .. });
        let waiting: Vec<u32> = self.clients.list.iter().filter(asks).map(|client| client.id).collect();
        for id in waiting {
            let Some(client) = self.clients.find(id) else { continue };
            let asked = std::mem::replace(&mut client.exchange, Exchange::Updating);
            let Exchange::StartingUpdate { words, input } = asked else { continue };
            match self.run_updater(&words, input.as_ref(), now) {
                Ok(status) => self.reply(id, &Reply::Service(status)),
                Err(reason) => {
                    let refused = Reply::Refused(Failure::refused(Step::Request, updater::NAME, &reason));
                    self.end_exchange(id, &refused);
                }
            }
        }
    }

    /// The updater has ended: who started it, and is still there, is told how.
    pub(crate) fn answer_update(&mut self, status: ExitStatus) {
        for client in &mut self.clients.list {
            if matches!(client.exchange, Exchange::Updating) {
                client.exchange = Exchange::Idle;
                client.reply(&Reply::Exited(status));
            }
        }
    }

    /// Ends what a client waits for.
    pub(crate) fn end_exchange(&mut self, client: u32, last: &Reply) {
        let Some(client) = self.clients.find(client) else { return };
        client.exchange = Exchange::Idle;
        client.reply(last);
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
        Failure::refused(Step::Request, instance.name.as_str(), "processes of it were killed and do not end")
    }))
}
