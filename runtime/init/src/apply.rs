//! `yado apply`: reads the specs again after the compiler has written them, and changes what runs accordingly. Keys that an
//! instance cannot change while it runs wait for its next start.

use crate::boot_clock::Moment;
use crate::identities::stored::IdentitiesFile;
use crate::identities::{self, Identities};
use crate::instance::health::Phase;
use crate::instance::lifecycle::{State, Wanted};
use crate::instance::spec_update::{SpecUpdate, leave_actual};
use crate::instance::{Instance, cgroup};
use crate::job::{Job, JobEnd};
use crate::log::Priority;
use crate::netd;
use crate::service_list;
use crate::specs::{self, Configured};
use crate::supervisor::Supervisor;
use std::path::PathBuf;
use std::rc::Rc;
use yado_spec::InstanceSpec;
use yado_spec::instance::Limits;
use yado_sys::children::Ended;
use yado_wire::rescue::{Applied, ApplyOutcome, EventKind, Reply};
use yado_wire::{AboutInstance, Failure, InstanceId, InstanceName, MAX_INSTANCES, Step};

/// The apply that is not over; there is at most one.
#[derive(Debug)]
pub(crate) struct PendingApply {
    /// The client that is answered.
    client: u32,
    /// Ids and id ranges of deleted instances are forgotten.
    forget: bool,
    /// The apply is over when this is empty.
    left: Vec<PendingInstance>,
}

/// An instance that an apply waits for.
#[derive(Debug)]
struct PendingInstance {
    about: AboutInstance,
    until: PendingEvent,
}

#[derive(Debug, PartialEq, Eq)]
enum PendingEvent {
    /// The instance is removed.
    Gone,
    /// Its new limits are written. Then the client is told this outcome.
    Limited(Box<ApplyOutcome>),
}

impl Supervisor {
    /// Reads the specs again, and begins to add, change and remove instances.
    pub(crate) fn begin_apply(&mut self, client: u32, forget: bool, now: Moment) -> Result<(), Failure> {
        if let Some(reason) = self.why_not_apply() {
            return Err(Failure::refused(Step::Request, "apply", reason));
        }
        let names = specs::compiled_names(&self.paths)?;
        self.pending_apply = Some(PendingApply { client, forget, left: Vec::new() });
        for &id in self.instances.ids().iter() {
            let is_configured = |instance: &Instance| names.contains(&instance.name);
            if !self.instances.get(id).is_some_and(is_configured) {
                self.begin_removal(id, now);
            }
        }
        // Deleted instances that do not run are removed first: they make room for new ones.
        self.forget_gone(now);
        // Cloned only now: `forget_gone` may have removed identities.
        let mut identities = self.identities.clone();
        if forget {
            let is_known = |name: &InstanceName| self.instances.named(name).is_some() || names.contains(name);
            identities = identities.with(&[], is_known);
        }
        // One at a time: all specs at once would take much memory, and fragment it.
        for name in names {
            let mut one = specs::read_compiled(&self.paths, name);
            one.image = self.image_of(&one);
            let claim = identities::stored::claim(&one);
            if !identities.has(&claim) {
                let before = identities.first_host_id(&claim.name, 1);
                identities = identities.with(std::slice::from_ref(&claim), |_| true);
                identities::stored::say_change(&mut self.log, before, &identities, &claim);
            }
            match self.instances.named(&one.name).map(|known| known.id) {
                Some(id) => self.update_spec(id, one, now),
                None => self.add_instance(one, &identities),
            }
        }
        self.save_identities(identities, now);
        self.instances.set_order();
        if !self.services.iter().any(|service| service.name == netd::SERVICE) {
            if let Some(netd) = service_list::netd(&self.paths, &self.instances) {
                // At the end: the other services keep their indices.
                self.services.push(netd);
                self.netd.since = Some(now);
            }
        }
        Ok(())
    }

    /// The file of an instance's image. A known file is not looked for again: its disk may hang.
    fn image_of(&self, configured: &Configured) -> Option<PathBuf> {
        let spec = configured.spec.as_ref().ok()?;
        let known = self.instances.named(&configured.name);
        let known = known.filter(|known| known.spec.as_ref().is_ok_and(|before| before.image == spec.image));
        known.and_then(|known| known.image.clone()).or_else(|| self.paths.image(&spec.image))
    }

    fn why_not_apply(&self) -> Option<&'static str> {
        match (&self.pending_apply, &self.shutdown) {
            (_, Some(_)) => Some("the system is shutting down"),
            (Some(_), None) => Some("another one is at work: ask again when it is over"),
            (None, None) if !self.boot.is_done() => Some("the system is still starting: ask again in a moment"),
            (None, None) => None,
        }
    }

    /// Replaces the identities, and has a job write them to `state/ids`. Until it has, the layers hold the same facts.
    fn save_identities(&mut self, identities: Identities, now: Moment) {
        let is_new = self.identities != identities;
        self.identities = identities;
        let file = self.paths.identities();
        match self.identities_file {
            IdentitiesFile::NotOurs if is_new => {
                let file = file.display();
                self.log
                    .say(Priority::Error, format_args!("{file} is not changed: ids of new instances are not saved"));
            }
            IdentitiesFile::NotOurs => {}
            IdentitiesFile::Written if !is_new => {}
            IdentitiesFile::Written | IdentitiesFile::Behind => {
                self.identities_file = IdentitiesFile::Written;
                self.start_job(Job::SaveIdentities { file, text: self.identities.text() }, now);
            }
        }
    }

    fn begin_removal(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.is_deleted = true;
        let about = instance.about();
        let timeout = instance.rules().map(|rules| rules.stop_timeout).unwrap_or_default();
        self.log.say(Priority::Notice, format_args!("{}: is no longer configured and is stopped", about.name));
        if let Some(apply) = &mut self.pending_apply {
            apply.left.push(PendingInstance { about, until: PendingEvent::Gone });
        }
        self.want(id, Wanted::Down { timeout }, now);
    }

    fn add_instance(&mut self, configured: Configured, identities: &Identities) {
        let name = configured.name.clone();
        let identity = identities.id(&name);
        let instance = Instance::of(configured, identities).filter(|_| self.instances.count() < MAX_INSTANCES);
        let Some(instance) = instance else {
            let reason = match identity {
                Some(_) => format!("there are {MAX_INSTANCES} instances already, and no more are possible"),
                None => {
                    "too many deleted instances have left layers: yado apply --delete-data removes them".to_owned()
                }
            };
            let failure = Failure::refused(Step::Spec, name.as_str(), &reason).in_vain();
            self.log.say(Priority::Error, format_args!("{failure}"));
            let instance = AboutInstance { id: identity.unwrap_or(InstanceId(0)), name };
            return self.answer_applied(instance, ApplyOutcome::Refused(failure));
        };
        let about = instance.about();
        let outcome = match &instance.spec {
            Ok(_) => ApplyOutcome::Added,
            Err(failure) => ApplyOutcome::Refused(failure.as_ref().clone()),
        };
        self.instances.insert(instance);
        self.events.keep_for(self.instances.count());
        self.log.say(Priority::Notice, format_args!("{}: is new", about.name));
        self.events.publish(Some(&about), EventKind::Added);
        self.answer_applied(about, outcome);
    }

    fn update_spec(&mut self, id: InstanceId, configured: Configured, now: Moment) {
        let running = self.instances.get(id).and_then(|instance| Some(instance.run.as_ref()?.spec.clone()));
        let specs: Vec<_> = running.as_deref().into_iter().chain(configured.spec.as_deref().ok()).collect();
        let processors = self.processors_for(id, &specs);
        let Some(instance) = self.instances.get_mut(id) else { return };
        // It was deleted, and is configured again before it was removed.
        let is_back = std::mem::take(&mut instance.is_deleted);
        let update = instance.update_spec(configured, &processors, &self.paths, now);
        let is_changed = !matches!(update, SpecUpdate::Unchanged | SpecUpdate::Now(ApplyOutcome::Refused(_)));
        // After a refused start only a new configuration starts it again.
        let has_failed = is_changed && matches!(instance.state, State::Failed { .. });
        // It may now need another device, or none, or wait for another time.
        let waits = is_changed && matches!(instance.state, State::WaitingForDevice { .. });
        if waits || ((is_back || has_failed) && instance.is_to_start_by_itself()) {
            let run = instance.next_run();
            self.want(id, Wanted::Up { run }, now);
        }
        if is_changed {
            self.judge_anew(id, running.as_deref(), now);
        }
        let Some(instance) = self.instances.get_mut(id) else { return };
        let about = instance.about();
        let (outcome, writes, before) = match update {
            SpecUpdate::Unchanged if is_back => (ApplyOutcome::Changed, Vec::new(), Box::default()),
            SpecUpdate::Unchanged => return,
            SpecUpdate::Now(outcome) => (outcome, Vec::new(), Box::default()),
            SpecUpdate::WithLimits(outcome, writes, before) => (outcome, writes, before),
        };
        let name = &about.name;
        match &outcome {
            ApplyOutcome::Refused(failure) => {
                self.log.say(Priority::Error, format_args!("{name}: its new configuration is not used: {failure}"));
            }
            ApplyOutcome::WaitsForRestart => {
                self.log
                    .say(Priority::Notice, format_args!("{name}: is changed; some of it waits for the next start"));
                self.events.publish(Some(&about), EventKind::Changed);
            }
            ApplyOutcome::Added | ApplyOutcome::Removed | ApplyOutcome::Changed | ApplyOutcome::NotLimited(_) => {
                self.log.say(Priority::Notice, format_args!("{name}: is changed"));
                self.events.publish(Some(&about), EventKind::Changed);
            }
        }
        if writes.is_empty() {
            return self.answer_applied(about, outcome);
        }
        let group = self.paths.group(&instance.directory_name());
        if let Some(apply) = &mut self.pending_apply {
            apply.left.push(PendingInstance { about, until: PendingEvent::Limited(Box::new(outcome)) });
        }
        self.start_job(Job::SetLimits { instance: id, group, writes, before }, now);
    }

    /// Judges the health of a running instance by its new rules, if they differ from those of `before`.
    fn judge_anew(&mut self, id: InstanceId, before: Option<&InstanceSpec>, now: Moment) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let (Some(before), Some(rules), Some(run)) = (before, instance.rules(), &mut instance.run) else { return };
        if before.health == run.spec.health {
            return;
        }
        instance.state = instance.state.by_rules(run.started.unwrap_or(now), &rules);
        let verdict = run.watch.update_spec(&run.spec.health, Phase::of(instance.state));
        self.take_verdict(id, verdict, now);
    }

    fn answer_applied(&mut self, instance: AboutInstance, outcome: ApplyOutcome) {
        let Some(client) = self.pending_apply.as_ref().map(|apply| apply.client) else { return };
        self.reply(client, &Reply::Applied(Applied { instance, outcome }));
    }

    /// The job that writes new limits of an instance has ended.
    pub(crate) fn note_limits(&mut self, id: InstanceId, before: &Limits, end: &JobEnd) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let group = self.paths.group(&instance.directory_name());
        if let Some(run) = &mut instance.run {
            run.memory_limit_bytes = cgroup::read_number(&group, "memory.max");
        }
        let is_active = instance.is_active();
        let failure = (end.ended != Ended::Code(0)).then(|| {
            let reason = match end.ended {
                Ended::Signal(_) => "writing them took too long",
                Ended::Code(_) if end.last_line.is_empty() => "what writes them could not be started",
                Ended::Code(_) => &end.last_line,
            };
            Failure::refused(Step::Limits, instance.name.as_str(), reason)
        });
        // An instance that has ended meanwhile gets its limits at its next start.
        let failure = failure.filter(|_| is_active);
        if let Some(failure) = &failure {
            // The old limits stay in the spec, so that the next apply sees a difference and tries again.
            let runtime = self.paths.runtime(&instance.directory_name());
            if let Some(run) = &mut instance.run {
                run.spec = Rc::new(InstanceSpec { limits: before.clone(), ..InstanceSpec::clone(&run.spec) });
                leave_actual(&runtime, &run.spec);
            }
            self.record_failure(id, failure.clone());
        }
        let Some(apply) = &mut self.pending_apply else { return };
        let is_it = |left: &PendingInstance| left.about.id == id && matches!(left.until, PendingEvent::Limited(_));
        let Some(at) = apply.left.iter().position(is_it) else { return };
        let PendingInstance { about, until } = apply.left.remove(at);
        if let PendingEvent::Limited(outcome) = until {
            self.answer_applied(about, failure.map_or(*outcome, ApplyOutcome::NotLimited));
        }
    }

    /// Removes deleted instances that have ended, and answers the client when nothing is pending.
    pub(crate) fn advance_apply(&mut self, now: Moment) {
        self.forget_gone(now);
        if self.pending_apply.as_ref().is_some_and(|apply| apply.left.is_empty()) {
            if let Some(PendingApply { client, .. }) = self.pending_apply.take() {
                self.end_exchange(client, &Reply::Done);
            }
        }
    }

    fn forget_gone(&mut self, now: Moment) {
        for &id in self.instances.ids().iter() {
            let Some(instance) = self.instances.get(id).filter(|instance| instance.is_deleted) else { continue };
            let is_stuck = matches!(instance.state, State::Stuck { .. });
            let is_launching = self.launches.iter().any(|launch| launch.instance == id);
            let about = instance.about();
            if is_stuck {
                let failure = instance.last_failure.as_deref().cloned();
                let failure =
                    failure.unwrap_or_else(|| Failure::refused(Step::Cgroup, about.name.as_str(), "it does not end"));
                self.answer_removal(&about, || ApplyOutcome::Refused(failure));
            } else if !instance.is_active() && !is_launching {
                self.instances.remove(id);
                self.instances.set_order();
                self.log.say(Priority::Notice, format_args!("{}: is gone", about.name));
                self.events.publish(Some(&about), EventKind::Removed);
                self.log.release_ring(about.name.as_str());
                if self.pending_apply.as_ref().is_some_and(|apply| apply.forget) {
                    let identities = self.identities.clone().with(&[], |name| *name != about.name);
                    self.save_identities(identities, now);
                }
                self.answer_removal(&about, || ApplyOutcome::Removed);
            }
        }
    }

    fn answer_removal(&mut self, about: &AboutInstance, outcome: impl FnOnce() -> ApplyOutcome) {
        let Some(apply) = &mut self.pending_apply else { return };
        let is_it = |left: &PendingInstance| left.about == *about && left.until == PendingEvent::Gone;
        if let Some(at) = apply.left.iter().position(is_it) {
            let PendingInstance { about, .. } = apply.left.remove(at);
            self.answer_applied(about, outcome());
        }
    }
}
