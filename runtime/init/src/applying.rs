//! What is configured changes while it runs: the specs are read again as the compiler has written them, and what runs is made what
//! they say. What an instance does not take on while it runs waits for its next start.

use crate::identities::{self, Identities};
use crate::instance::lifecycle::{State, Wanted};
use crate::instance::{Instance, cgroup};
use crate::job::{Job, JobEnd};
use crate::log::Priority;
use crate::moment::Moment;
use crate::places::Places;
use crate::service_list;
use crate::specs::{self, Configured};
use crate::supervisor::Supervisor;
use std::rc::Rc;
use yado_spec::{apply, file};
use yado_sys::children::Ended;
use yado_sys::{machine, replace_file};
use yado_wire::rescue::{AboutInstance, Applied, ApplyOutcome, EventKind, Reply};
use yado_wire::{Failure, InstanceId, MAX_INSTANCES, Step};

/// An apply that is not over.
#[derive(Debug)]
pub(crate) struct Applying {
    /// Who asked for it.
    client: u32,
    /// Who is gone is not remembered.
    forget: bool,
    /// What it waits for.
    left: Vec<Left>,
}

/// Something that an apply waits for.
#[derive(Debug)]
struct Left {
    about: AboutInstance,
    until: Until,
}

#[derive(Debug, PartialEq, Eq)]
enum Until {
    /// Nothing of the instance is left.
    Gone,
    /// Its new limits are written; then this is what became of it.
    Limited(Box<ApplyOutcome>),
}

/// What becomes of an instance whose configuration was read again.
#[derive(Debug, PartialEq, Eq)]
enum Renewed {
    /// It is as it was.
    Unchanged,
    /// This, at once.
    Now(ApplyOutcome),
    /// This, when these limits are written.
    WithLimits(ApplyOutcome, Vec<cgroup::CgroupWrite>),
}

impl Supervisor {
    /// Reads the specs again, and begins to make what runs what they say.
    pub(crate) fn begin_apply(&mut self, client: u32, forget: bool, now: Moment) -> Result<(), Failure> {
        if let Some(reason) = self.why_not_apply() {
            return Err(Failure::refused(Step::Request, "apply", reason));
        }
        let configured = specs::read_compiled(&self.places)?;
        self.applying = Some(Applying { client, forget, left: Vec::new() });
        self.identify(&configured, forget, now);
        for &number in self.instances.ids().iter() {
            let is_configured = |instance: &Instance| configured.iter().any(|one| one.name == instance.name);
            if !self.instances.get(number).is_some_and(is_configured) {
                self.begin_removal(number, now);
            }
        }
        for one in configured {
            match self.instances.named(&one.name).map(|known| known.id) {
                Some(number) => self.renew(number, one, now),
                None => self.add_instance(one, client),
            }
        }
        self.instances.set_order();
        if let Some(netd) = service_list::netd(&self.places, &self.instances) {
            if !self.services.iter().any(|service| service.name == netd.name) {
                // At the end: the others keep their numbers.
                self.services.push(netd);
                self.netd.since = Some(now);
            }
        }
        Ok(())
    }

    fn why_not_apply(&self) -> Option<&'static str> {
        match (&self.applying, &self.shutdown) {
            (_, Some(_)) => Some("the system is shutting down"),
            (Some(_), None) => Some("another one is at work: ask again when it is over"),
            (None, None) if !self.boot.is_done() => Some("the system is still starting: ask again in a moment"),
            (None, None) => None,
        }
    }

    /// Gives those that are new their ids, which are written down meanwhile: until they are, layers say who was who.
    fn identify(&mut self, configured: &[Configured], forget: bool, now: Moment) {
        let claims: Vec<_> = configured.iter().map(identities::stored::claim).collect();
        let is_known = |name: &_| self.instances.named(name).is_some();
        let identities = self.identities.clone().with(&claims, |name| !forget || is_known(name));
        self.save_identities(identities, now);
    }

    fn save_identities(&mut self, identities: Identities, now: Moment) {
        if self.identities != identities {
            let text = identities.text();
            self.identities = identities;
            self.start_job(Job::SaveIdentities { file: self.places.identities(), text }, now);
        }
    }

    fn begin_removal(&mut self, number: InstanceId, now: Moment) {
        let Some(instance) = self.instances.get_mut(number) else { return };
        instance.is_deleted = true;
        let about = instance.about();
        let patience = instance.rules().map(|rules| rules.patience).unwrap_or_default();
        self.log.say(Priority::Notice, format_args!("{}: is configured no more, and is stopped", about.name));
        if let Some(applying) = &mut self.applying {
            applying.left.push(Left { about, until: Until::Gone });
        }
        self.want(number, Wanted::Down { patience }, now);
    }

    fn add_instance(&mut self, configured: Configured, client: u32) {
        let name = configured.name.clone();
        let identity = self.identities.id(&name);
        let instance = Instance::of(configured, &self.identities).filter(|_| self.instances.count() < MAX_INSTANCES);
        let Some(instance) = instance else {
            let reason = format!("there are {MAX_INSTANCES} instances already, and no more can be");
            let failure = Failure::refused(Step::Spec, name.as_str(), &reason).in_vain();
            self.log.say(Priority::Error, format_args!("{failure}"));
            let instance = AboutInstance { id: identity.unwrap_or(InstanceId(0)), name };
            return self
                .reply(client, &Reply::Applied(Applied { instance, outcome: ApplyOutcome::Refused(failure) }));
        };
        let about = instance.about();
        let outcome = match &instance.spec {
            Ok(_) => ApplyOutcome::Added,
            Err(failure) => ApplyOutcome::Refused(failure.as_ref().clone()),
        };
        self.instances.insert(instance);
        self.log.say(Priority::Notice, format_args!("{}: is new", about.name));
        self.events.publish(Some(&about), EventKind::Added);
        self.reply(client, &Reply::Applied(Applied { instance: about, outcome }));
    }

    fn renew(&mut self, number: InstanceId, configured: Configured, now: Moment) {
        let processors = self.processors_for(number, configured.spec.as_deref().ok());
        let Some(instance) = self.instances.get_mut(number) else { return };
        // It comes back before it was gone.
        let is_back = std::mem::take(&mut instance.is_deleted);
        let renewed = instance.renew(configured, &processors, &self.places, now);
        if is_back && instance.is_to_start_by_itself() {
            let run = instance.next_run();
            self.want(number, Wanted::Up { run }, now);
        }
        let Some(instance) = self.instances.get_mut(number) else { return };
        let about = instance.about();
        let (outcome, writes) = match renewed {
            Renewed::Unchanged if is_back => (ApplyOutcome::Changed, Vec::new()),
            Renewed::Unchanged => return,
            Renewed::Now(outcome) => (outcome, Vec::new()),
            Renewed::WithLimits(outcome, writes) => (outcome, writes),
        };
        let name = &about.name;
        match &outcome {
            ApplyOutcome::Refused(failure) => {
                self.log.say(Priority::Error, format_args!("{name}: its new configuration is not used: {failure}"));
            }
            ApplyOutcome::WaitsForRestart => {
                self.log
                    .say(Priority::Notice, format_args!("{name}: is changed; some of it waits for its next start"));
                self.events.publish(Some(&about), EventKind::Changed);
            }
            ApplyOutcome::Added | ApplyOutcome::Removed | ApplyOutcome::Changed => {
                self.log.say(Priority::Notice, format_args!("{name}: is changed"));
                self.events.publish(Some(&about), EventKind::Changed);
            }
        }
        if writes.is_empty() {
            return self.answer_applied(about, outcome);
        }
        let group = self.places.group(&instance.place());
        if let Some(applying) = &mut self.applying {
            applying.left.push(Left { about, until: Until::Limited(Box::new(outcome)) });
        }
        self.start_job(Job::SetLimits { instance: number, group, writes }, now);
    }

    fn answer_applied(&mut self, instance: AboutInstance, outcome: ApplyOutcome) {
        let Some(client) = self.applying.as_ref().map(|applying| applying.client) else { return };
        self.reply(client, &Reply::Applied(Applied { instance, outcome }));
    }

    /// New limits of an instance are written, or not.
    pub(crate) fn note_limits(&mut self, number: InstanceId, end: &JobEnd) {
        let Some(instance) = self.instances.get_mut(number) else { return };
        let group = self.places.group(&instance.place());
        if instance.is_active() {
            instance.run.memory_limit_bytes = cgroup::read_number(&group, "memory.max");
        }
        let is_active = instance.is_active();
        let failure = (end.ended != Ended::Code(0)).then(|| {
            let reason = if end.last_line.is_empty() { "writing them took too long" } else { &end.last_line };
            Failure::refused(Step::Limits, instance.name.as_str(), reason)
        });
        // One that has ended meanwhile has its limits from its next start.
        let failure = failure.filter(|_| is_active);
        if let Some(failure) = &failure {
            self.record_failure(number, failure.clone());
        }
        let Some(applying) = &mut self.applying else { return };
        let is_it = |left: &Left| left.about.id == number && matches!(left.until, Until::Limited(_));
        let Some(at) = applying.left.iter().position(is_it) else { return };
        let Left { about, until } = applying.left.remove(at);
        if let Until::Limited(outcome) = until {
            self.answer_applied(about, failure.map_or(*outcome, ApplyOutcome::Refused));
        }
    }

    /// Forgets those that are configured no more and gone, and answers who waits for that.
    pub(crate) fn advance_apply(&mut self, now: Moment) {
        for &number in self.instances.ids().iter() {
            let Some(instance) = self.instances.get(number).filter(|instance| instance.is_deleted) else { continue };
            let is_stuck = matches!(instance.state, State::Stuck { .. });
            let is_launching = self.launches.iter().any(|launch| launch.instance == number);
            let about = instance.about();
            if is_stuck {
                let failure = instance.last_failure.as_deref().cloned();
                let failure =
                    failure.unwrap_or_else(|| Failure::refused(Step::Cgroup, about.name.as_str(), "it does not end"));
                self.answer_removal(&about, || ApplyOutcome::Refused(failure));
            } else if !instance.is_active() && !is_launching {
                self.instances.remove(number);
                self.instances.set_order();
                self.log.say(Priority::Notice, format_args!("{}: is gone", about.name));
                self.events.publish(Some(&about), EventKind::Removed);
                self.log.release_ring(about.name.as_str());
                if self.applying.as_ref().is_some_and(|applying| applying.forget) {
                    let identities = self.identities.clone().with(&[], |name| *name != about.name);
                    self.save_identities(identities, now);
                }
                self.answer_removal(&about, || ApplyOutcome::Removed);
            }
        }
        if self.applying.as_ref().is_some_and(|applying| applying.left.is_empty()) {
            if let Some(Applying { client, .. }) = self.applying.take() {
                self.end_exchange(client, &Reply::Done);
            }
        }
    }

    fn answer_removal(&mut self, about: &AboutInstance, outcome: impl FnOnce() -> ApplyOutcome) {
        let Some(applying) = &mut self.applying else { return };
        let is_it = |left: &Left| left.about == *about && left.until == Until::Gone;
        if let Some(at) = applying.left.iter().position(is_it) {
            let Left { about, .. } = applying.left.remove(at);
            self.answer_applied(about, outcome());
        }
    }
}

impl Instance {
    /// Takes on what it is to be. What applies to a running one at once, but for limits, does when this returns.
    fn renew(&mut self, configured: Configured, processors: &[u16], places: &Places, now: Moment) -> Renewed {
        let Configured { name: _, spec, image } = configured;
        let desired = match spec {
            Ok(desired) => desired,
            Err(failure) => {
                let is_known = self.refused.as_ref() == Some(&failure) || self.spec.as_ref().err() == Some(&failure);
                if let Err(known) = &mut self.spec {
                    *known = failure.clone();
                    self.last_failure = Some(failure.clone());
                } else {
                    self.refused = Some(failure.clone());
                }
                return if is_known { Renewed::Unchanged } else { Renewed::Now(ApplyOutcome::Refused(*failure)) };
            }
        };
        let was_refused = self.refused.take().is_some();
        let is_same = self.spec.as_ref().is_ok_and(|before| *before == desired) && self.image == image;
        if is_same {
            return if was_refused { Renewed::Now(self.as_changed()) } else { Renewed::Unchanged };
        }
        self.image = image;
        if std::mem::replace(&mut self.spec, Ok(desired.clone())).is_err() {
            // It had none, and could not be started.
            self.last_failure = None;
            self.is_queued = self.is_to_start_by_itself();
            let run = self.next_run();
            if self.is_queued {
                self.wanted = Wanted::Up { run };
            }
            self.state = State::Stopped;
            return Renewed::Now(ApplyOutcome::Changed);
        }
        let Some(actual) = self.run.spec.clone() else { return Renewed::Now(ApplyOutcome::Changed) };
        let next = apply::split(&actual, &desired);
        let machine_bytes = machine::memory_bytes();
        let writes = cgroup::limit_changes(
            &cgroup::limit_writes(&actual.limits, machine_bytes, processors),
            &cgroup::limit_writes(&next.limits, machine_bytes, processors),
        );
        if next.devices != actual.devices {
            self.run.devices_due = Some(now);
        }
        self.run.spec = Some(Rc::new(next));
        self.leave_actual(places);
        let outcome = self.as_changed();
        if writes.is_empty() { Renewed::Now(outcome) } else { Renewed::WithLimits(outcome, writes) }
    }

    /// Leaves the spec that the instance runs by where whoever asks finds it, for the time that it runs.
    pub(crate) fn leave_actual(&self, places: &Places) {
        let Some(Ok(bytes)) = self.run.spec.as_ref().map(|spec| file::encode(spec, file::Digest([0; 32]))) else {
            return;
        };
        let path = places.runtime(&self.place()).join(file::ACTUAL);
        // It is looked at by people only, who are then shown what is configured.
        let _ = replace_file::replace_on_tmpfs(&path, 0o600, &bytes);
    }

    fn as_changed(&self) -> ApplyOutcome {
        if self.waits_for_restart() { ApplyOutcome::WaitsForRestart } else { ApplyOutcome::Changed }
    }
}
