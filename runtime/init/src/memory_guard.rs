//! Guards the machine against memory that no limit counts: the kernel charges the queues of some sockets to nobody, so a
//! container can use up the whole machine's memory within its own limits. When memory runs short and the control groups do not
//! explain it, all instances are frozen until the one whose sockets hold the most is found, and that one is ended. `shortage`
//! measures the memory, `table` decides, and `sockets` looks for the instance, in a child process, since it reads long files.
//!
//! If the control groups do explain the shortage, it is left to the kernel: an instance without a memory limit may take all there
//! is. Hosted, the machine's memory is the host's business.

mod descriptors;
mod freezer;
mod frozen;
pub(crate) mod guard;
mod scan_limit;
mod shortage;
pub(crate) mod sockets;
mod table;
mod weight;

use crate::boot_clock::{Moment, whole_ms};
use crate::instance::Instance;
use crate::instance::lifecycle::State;
use crate::log::Priority;
use crate::process::{Output, Start};
use crate::service;
use crate::supervisor::Supervisor;
use freezer::Thaw;
use guard::Weigher;
use shortage::{Figures, Memory};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;
use table::{Action, Event, step};
use weight::{NO_MEMORY, Search, Weight, guilty};
use yado_sys::children::{self, Session};
use yado_wire::rescue::Mode;
use yado_wire::{Failure, Step};

/// What is ended frees its sockets after its last process is gone: the kernel takes its time for that.
const GIVING_BACK: Duration = Duration::from_secs(2);

/// Where the kernel cannot wake us, we look so often when something else does.
const PAUSE_WITHOUT_TRIGGER: Duration = Duration::from_secs(1);

impl Supervisor {
    /// The kernel says that memory is short. Before the first figures are known nobody can be found.
    pub(crate) fn note_memory_pressure(&mut self, now: Moment) {
        if self.memory_guard.first.is_some() {
            self.step_memory_guard(Event::Pressure, now);
        }
    }

    /// Looks at the machine's memory, if it is time.
    pub(crate) fn advance_memory_guard(&mut self, now: Moment) {
        let thaw = self.memory_guard.freezer.retry(now);
        self.note_thaw(thaw);
        if self.instances.iter().any(|one| one.is_active() && one.is_ended_for_memory()) {
            self.memory_guard.given_back_at = now.saturating_add(GIVING_BACK);
        }
        if self.paths.mode != Mode::System || !self.boot.may_start_some() {
            return;
        }
        let Some(first) = self.memory_guard.first else {
            // Nothing was started yet.
            let figures = Figures::read(&self.paths);
            if figures.is_none() {
                self.log.say(
                    Priority::Notice,
                    format_args!("this kernel does not tell how much memory no control group counts"),
                );
            }
            // Without figures nothing is ever missing.
            self.memory_guard.first_modules = shortage::modules();
            self.memory_guard.first = Some(figures.map_or(u64::MAX, |figures| figures.uncounted()));
            return;
        };
        if self.memory_guard.trigger.is_none()
            && self.memory_guard.looked_at.saturating_add(PAUSE_WITHOUT_TRIGGER) <= now
        {
            self.step_memory_guard(Event::Pressure, now);
        }
        self.step_memory_guard(Event::Wake, now);
        if self.memory_guard.state.wants_look(now) {
            self.memory_guard.looked_at = now;
            let memory = Figures::read(&self.paths).map_or(Memory::Plenty, |figures| figures.judge(first));
            if memory != Memory::Plenty && self.image_cache.release_unused() {
                self.log.say(Priority::Info, format_args!("memory is short: unused images are unmounted"));
            }
            if let Memory::Missing { bytes } = memory {
                self.memory_guard.missing_bytes = bytes;
            }
            self.step_memory_guard(Event::Looked(memory), now);
        }
    }

    fn step_memory_guard(&mut self, event: Event, now: Moment) {
        let (state, action) = step(self.memory_guard.state, event, now);
        self.memory_guard.state = state;
        match action {
            Action::None => {}
            Action::Weigh => self.weigh(now),
            Action::Judge => self.judge_weights(now),
        }
    }

    /// Freezes all instances, so that nothing gets worse meanwhile, and starts the child.
    fn weigh(&mut self, now: Moment) {
        match self.memory_guard.freezer.freeze(now) {
            Ok(()) => self.begin_freeze(),
            // Instances that go on only get the rest of what there is.
            Err(error) => self.log.say(Priority::Error, format_args!("freeze all instances: {error}")),
        }
        match self.start_weigher(now) {
            Ok(weigher) => self.memory_guard.weigher = Some(weigher),
            Err(error) => {
                self.log.say(Priority::Error, format_args!("start the child that measures sockets: {error}"));
                self.step_memory_guard(Event::WeigherEnded, now);
            }
        }
    }

    fn start_weigher(&self, now: Moment) -> io::Result<Weigher> {
        let (output, writer) = Output::pipe()?;
        // Who is looked for among those that tables show: for none at all, tables are enough.
        let missing = match self.search(now) {
            Search::Suspects => self.memory_guard.missing_bytes,
            Search::Seen => 0,
        };
        let missing = missing.to_string();
        let groups = self.paths.groups.as_os_str();
        let mut arguments = ["yado-init", "--weigh-sockets", &missing].map(OsString::from).to_vec();
        arguments.push(groups.to_owned());
        let holding = self.instances.iter().filter(|instance| is_holding(instance));
        arguments.extend(holding.map(|instance| OsString::from(instance.directory_name())));
        let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
        let child = Start {
            path: Path::new("/proc/self/exe"),
            arguments: &arguments,
            environment: &[],
            descriptors: &[(writer.as_fd(), 1)],
            group: None,
            session: Session::Own,
        }
        .start()?;
        service::group::spare(child.pid);
        Ok(Weigher { process: (child.pid, child.pidfd), output, weights: Vec::new() })
    }

    /// Reads what the child says.
    pub(crate) fn read_weigher(&mut self, now: Moment) {
        if let Some(weigher) = &mut self.memory_guard.weigher {
            weigher.read(now);
        }
    }

    /// The child has ended.
    pub(crate) fn note_weigher_end(&mut self, now: Moment) {
        if let Some(weigher) = &mut self.memory_guard.weigher {
            weigher.drain(now);
        }
        self.step_memory_guard(Event::WeigherEnded, now);
    }

    /// Ends the instance that holds most, if there is one, and lets the others go on.
    fn judge_weights(&mut self, now: Moment) {
        let weights = match self.memory_guard.weigher.take() {
            Some(weigher) => {
                // It has ended, or takes too long.
                children::kill(weigher.process.1.as_fd());
                weigher.weights
            }
            None => Vec::new(),
        };
        let missing = self.memory_guard.missing_bytes;
        // Who cannot end, though he was killed for it, keeps what he holds, and others may hold the rest.
        let (kept, weights): (Vec<Weight>, Vec<Weight>) =
            weights.into_iter().partition(|weight| self.is_stuck_with(&weight.name));
        let kept_bytes = kept.iter().fold(0u64, |sum, weight| sum.saturating_add(weight.queued_bytes));
        let found = guilty(&weights, missing, kept_bytes, self.search(now));
        match found {
            Some(weight) => self.end_for_memory(weight, missing),
            None => self.log.say(
                Priority::Warning,
                format_args!("memory is short: {} MiB are missing that no instance is seen to hold", missing >> 20),
            ),
        }
        let thaw = self.memory_guard.freezer.thaw(now);
        self.note_thaw(thaw);
        self.step_memory_guard(if found.is_some() { Event::Found } else { Event::FoundNobody }, now);
    }

    /// While what was ended gives its memory back, only who is seen to hold most of what is missing is ended.
    fn search(&self, now: Moment) -> Search {
        if now < self.memory_guard.given_back_at { Search::Seen } else { Search::Suspects }
    }

    fn is_stuck_with(&self, name: &str) -> bool {
        let is_so = |one: &Instance| matches!(one.state, State::Stuck { .. }) && one.is_ended_for_memory();
        self.instances.iter().any(|one| one.directory_name() == name && is_so(one))
    }

    fn end_for_memory(&mut self, weight: &Weight, missing: u64) {
        let Some(id) = self.instances.iter().find(|one| one.directory_name() == weight.name).map(|one| one.id) else {
            return;
        };
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(run) = &mut instance.run else { return };
        // What was ended for it already needs a moment to be gone.
        if !std::mem::replace(&mut run.is_ended_for_memory, true) {
            let failure = Failure::refused(Step::Limits, instance.name.as_str(), &weight.reason(missing));
            self.record_failure(id, Failure { errno: NO_MEMORY, ..failure });
        }
        self.kill_instance(id);
    }

    fn note_thaw(&mut self, thaw: Thaw) {
        match thaw {
            Thaw::AsBefore => {}
            Thaw::After(time) => {
                self.end_freeze(time);
                self.log.say(Priority::Info, format_args!("all instances were frozen for {} ms", whole_ms(time)));
            }
            Thaw::Refused(error) => {
                let what = "let all instances go on";
                self.log.say(Priority::Error, format_args!("{what}: {error}: it is tried again until it succeeds"));
            }
        }
    }
}

/// Whether something of it may hold memory. What hangs in the kernel and does not end keeps its own.
fn is_holding(instance: &Instance) -> bool {
    instance.is_active() || matches!(instance.state, State::Stuck { .. })
}
