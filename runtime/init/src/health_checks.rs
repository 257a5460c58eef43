//! Health of running instances: tries their probes, and hears their watchdogs.

use crate::boot_clock::Moment;
use crate::instance::Run;
use crate::instance::health::{Cause, HealthAction, Phase, Ping, Verdict};
use crate::instance::{cgroup, lifecycle};
use crate::launch::{Launch, Task, TaskKind};
use crate::log::Priority;
use crate::supervisor::Supervisor;
use std::os::fd::AsFd;
use yado_spec::instance::Readiness;
use yado_sys::children;
use yado_wire::{Failure, InstanceId, Step};

impl Supervisor {
    /// Does what is due for an instance's health.
    pub(crate) fn watch_health(&mut self, id: InstanceId, now: Moment) {
        if self.is_frozen() {
            return;
        }
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(run) = &mut instance.run else { return };
        match run.watch.due(&run.spec.health, Phase::of(instance.state), now) {
            HealthAction::Nothing => {}
            HealthAction::Probe => {
                if run.payload.is_none() {
                    run.watch.postpone(now);
                    return;
                }
                let is_last_try = |launch: &Launch| launch.instance == id && launch.task == TaskKind::Probe;
                if self.launches.iter().any(is_last_try) {
                    let failure = Failure::refused(Step::Health, instance.name.as_str(), "the last try still hangs");
                    self.note_probe(id, Some(Box::new(failure)), now);
                } else if let Err(failure) = self.start_launcher(id, Task::Probe) {
                    self.note_unmade_probe(id, failure, now);
                }
            }
            HealthAction::Unhealthy => self.step_instance(id, lifecycle::Event::HealthLost, now),
        }
    }

    /// Kills a try of the probe whose result no longer matters.
    pub(crate) fn kill_probe(&mut self, id: InstanceId) {
        let probe = self.launches.iter().find(|launch| launch.instance == id && launch.task == TaskKind::Probe);
        if let Some((_, pidfd)) = probe.and_then(|launch| launch.launcher.as_ref()) {
            children::kill(pidfd.as_fd());
        }
    }

    /// A try of the probe could not be made. That counts against the instance only if its own process limit is the cause: otherwise
    /// other instances could make it unhealthy by using up what all share.
    pub(crate) fn note_unmade_probe(&mut self, id: InstanceId, failure: Failure, now: Moment) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if cgroup::is_at_process_limit(&self.paths.group(&instance.directory_name())) {
            return self.note_probe(id, Some(Box::new(failure)), now);
        }
        let is_told = instance.run.as_mut().is_some_and(|run| run.watch.postpone(now));
        if is_told {
            let name = &instance.name;
            self.log.say(Priority::Warning, format_args!("{name}: its probe cannot be tried: {failure}"));
        }
    }

    /// A try of the probe has ended. `failure`: why it did not pass.
    pub(crate) fn note_probe(&mut self, id: InstanceId, failure: Option<Box<Failure>>, now: Moment) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(run) = &mut instance.run else { return };
        if failure.is_some() && run.watch.is_disturbed() {
            run.watch.postpone(now);
            return;
        }
        let phase = Phase::of(instance.state);
        let told = failure.clone().filter(|_| phase == Phase::Ready);
        let verdict = run.watch.probed(failure, &run.spec.health, phase, now);
        if let (Some(failure), Verdict::AsBefore) = (told, verdict) {
            let (failures, name) = (run.watch.failures(), &instance.name);
            self.log.say(Priority::Notice, format_args!("{name}: {failure} ({failures} in a row)"));
        }
        self.take_verdict(id, verdict, now);
    }

    /// An instance said `WATCHDOG=1` or `WATCHDOG=trigger`.
    pub(crate) fn note_ping(&mut self, id: InstanceId, ping: Ping, now: Moment) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(run) = &mut instance.run else { return };
        let verdict = run.watch.pinged(ping, &run.spec.health, Phase::of(instance.state), now);
        self.take_verdict(id, verdict, now);
    }

    pub(crate) fn take_verdict(&mut self, id: InstanceId, verdict: Verdict, now: Moment) {
        match verdict {
            Verdict::AsBefore => {}
            Verdict::Healthy => self.step_instance(id, lifecycle::Event::SaidReady, now),
            Verdict::Unhealthy => self.step_instance(id, lifecycle::Event::HealthLost, now),
        }
    }

    /// Records why an instance is not healthy.
    pub(crate) fn report_unhealthy(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get(id) else { return };
        let Some(Run { spec, watch, status, .. }) = &instance.run else { return };
        let last = || match &watch.last_failure {
            Some(failure) => format!("{}: {}", failure.object, failure.reason),
            None => "never tried".to_owned(),
        };
        let mut reason = match (watch.unhealthy, &spec.health.ready) {
            (Some(Cause::Probe), _) => {
                let often = spec.health.probe.as_ref().map_or(0, |probe| probe.failures);
                format!("its probe failed {often} times in a row: {}", last())
            }
            (Some(Cause::Silence), _) => {
                let longest = spec.health.watchdog.unwrap_or_default();
                format!("it did not say WATCHDOG=1 for {} s", longest.as_secs())
            }
            (Some(Cause::OwnWord), _) => "it said WATCHDOG=trigger".to_owned(),
            (None, Readiness::Probe { .. }) => format!("its probe did not pass in time: {}", last()),
            (None, Readiness::Notify { .. } | Readiness::Alive { .. }) => "it did not say READY=1 in time".to_owned(),
        };
        if !status.is_empty() {
            reason = format!("{reason}; its last status: {status}");
        }
        let failure = Failure::refused(Step::Health, instance.name.as_str(), &reason);
        if let Some(instance) = self.instances.get_mut(id) {
            instance.unhealthy = instance.unhealthy.saturating_add(1);
        }
        self.record_failure(id, failure);
    }
}
