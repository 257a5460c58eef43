//! The shutdown: instances first (dependents before what they come `after`, each with its timeout), then services, then all other
//! processes, then file systems. `sequence` has the order and the limits as a table; this module does it, and logs what was left.

mod remaining;
pub(crate) mod sequence;
pub(crate) mod unmount;

use crate::boot_clock::Moment;
use crate::boot_order::may_stop;
use crate::fuse_connections::{self, FuseMounts};
use crate::instance::cgroup;
use crate::instance::lifecycle::Wanted;
use crate::job::{Job, Lane};
use crate::last_reset::Asked;
use crate::last_reset::mark::{Ended, Mark};
use crate::log::Priority;
use crate::runtime_directories;
use crate::service;
use crate::supervisor::Supervisor;
use crate::updater;
use sequence::{Action, Goal, Remaining, Shutdown, Stage};
use std::fs;
use std::time::Duration;
use yado_sys::children::{self, SIGHUP, SIGKILL, SIGTERM};
use yado_sys::reboot;
use yado_sys::signals::Signal;
use yado_wire::rescue::Mode;

impl Supervisor {
    /// Begins the shutdown. A second request changes only its goal, and whose it is.
    pub(crate) fn begin_shutdown(&mut self, goal: Goal, asked: Asked, now: Moment) {
        if let Some(shutdown) = &mut self.shutdown {
            (shutdown.goal, shutdown.asked) = (goal, asked);
            return;
        }
        let timeout: Duration =
            self.instances.iter().filter_map(|instance| instance.rules()).map(|rules| rules.stop_timeout).sum();
        self.shutdown = Some(Shutdown { goal, asked, stage: Stage::first(timeout, now) });
        // An instance that is already stopping gets no longer than its own boot.host_shutdown_timeout.
        for instance in self.instances.iter_mut() {
            let own = instance.rules().map_or(Duration::ZERO, |rules| rules.stop_timeout);
            if let Wanted::Down { timeout } = &mut instance.wanted {
                *timeout = own.min(*timeout);
            }
        }
        self.jobs.forget_waiting();
        // Their files lie on the data partition.
        self.image_cache.clear();
        self.reach_stage("shutdown");
    }

    /// A signal that asks us to end.
    pub(crate) fn take_signal(&mut self, signal: Signal, now: Moment) {
        let (goal, by) = match (signal, self.paths.mode) {
            (Signal::Terminate | Signal::Interrupt | Signal::Power, Mode::Hosted) => (Goal::Exit, "a signal"),
            (Signal::Interrupt, Mode::System) => (Goal::Reboot, "ctrl-alt-del"),
            (Signal::Power, Mode::System) => (Goal::PowerOff, "the power key"),
            // Anybody may send PID 1 a SIGTERM by mistake; what is meant is asked for over the socket.
            (Signal::Terminate, Mode::System) | (Signal::HangUp | Signal::Child, _) => return,
        };
        self.log.say(Priority::Notice, format_args!("{signal:?}: {goal:?}"));
        self.begin_shutdown(goal, Asked::by(by), now);
    }

    /// Asks those whose turn it is to stop.
    pub(crate) fn advance_shutdown(&mut self, now: Moment) {
        if self.shutdown.is_none() {
            return;
        }
        for &id in self.instances.ids().iter() {
            let Some(instance) = self.instances.get(id) else { continue };
            let Some(rules) = instance.rules() else { continue };
            if matches!(instance.wanted, Wanted::Down { .. }) {
                continue;
            }
            let Ok(spec) = &instance.spec else { continue };
            let others = || {
                let others = self.instances.iter().filter(|other| other.id != id && other.is_active());
                others.filter_map(|other| Some((&other.name, &other.spec.as_ref().ok()?.boot)))
            };
            let may_stop = !instance.is_active() || may_stop((&instance.name, &spec.boot), others());
            if may_stop {
                self.want(id, Wanted::Down { timeout: rules.stop_timeout }, now);
            }
        }
    }

    /// What we want of services: they outlive the instances.
    pub(crate) fn wanted_services(&self) -> service::Wanted {
        match &self.shutdown {
            Some(shutdown) if shutdown.stage.is_after_instances() => service::Wanted::Down,
            Some(_) | None => service::Wanted::Up,
        }
    }

    /// Goes on with a shutdown as far as nothing has to be waited for. `true`: the process is to end.
    pub(crate) fn finish_shutdown(&mut self, now: Moment) -> bool {
        // Each round is one stage further.
        while let Some(shutdown) = &self.shutdown {
            let (goal, before) = (shutdown.goal.clone(), shutdown.stage);
            let left = self.left();
            let (stage, action) = sequence::step(before, left, self.paths.mode, now);
            if stage == before {
                return false;
            }
            if std::mem::discriminant(&before) != std::mem::discriminant(&stage) && left.is_of(before) {
                self.tell_who_is_left(before);
            }
            if let Some(shutdown) = &mut self.shutdown {
                shutdown.stage = stage;
            }
            match action {
                Action::None => {}
                Action::KillInstances => {
                    for &id in self.instances.ids().iter() {
                        self.want(id, Wanted::Down { timeout: Duration::ZERO }, now);
                    }
                }
                Action::AskOthers => self.signal_others(&[SIGTERM, SIGHUP]),
                Action::KillOthers => {
                    if self.paths.mode == Mode::System {
                        fuse_connections::abort(&FuseMounts::All, Mode::System);
                    }
                    cgroup::kill(&self.paths.groups);
                    cgroup::kill(&self.paths.service_groups);
                    cgroup::kill(&self.paths.updater_group);
                    self.signal_others(&[SIGKILL]);
                }
                Action::Flush => self.start_flush(now),
                Action::End => match (&goal, self.paths.mode) {
                    (Goal::Exit, _) | (Goal::Reboot | Goal::RebootWith(_) | Goal::PowerOff, Mode::Hosted) => {
                        self.leave_host();
                        return true;
                    }
                    (Goal::Reboot | Goal::RebootWith(_) | Goal::PowerOff, Mode::System) => {
                        self.end_machine_now(&goal, now);
                        return false;
                    }
                },
            }
        }
        false
    }

    fn left(&self) -> Remaining {
        Remaining {
            instances: self.instances.iter().any(|instance| instance.is_active()),
            services: self.updater.is_active()
                || self.services.iter().any(|service| service.state != service::State::Stopped),
            processes: children::has_any(),
            flush: !self.jobs.is_idle(Lane::Data),
        }
    }

    fn tell_who_is_left(&mut self, stage: Stage) {
        let left = match stage {
            Stage::Instances { .. } | Stage::InstancesKilled { .. } => {
                let active = self.instances.iter().filter(|instance| instance.is_active());
                active.map(|instance| instance.name.as_str()).collect::<Vec<_>>().join(", ")
            }
            Stage::Services { .. } => {
                let left = self.services.iter().filter(|service| service.state != service::State::Stopped);
                let updater = self.updater.is_active().then_some(updater::NAME);
                left.map(|service| service.name.as_str()).chain(updater).collect::<Vec<_>>().join(", ")
            }
            Stage::OthersAsked { .. } | Stage::OthersKilled { .. } => remaining::names(&remaining::children()),
            Stage::Flushing { .. } | Stage::Over { .. } => "unmount".to_owned(),
        };
        // What was asked is now killed; what was killed, or cannot be, is left.
        let (priority, what) = match stage {
            Stage::Instances { .. } | Stage::OthersAsked { .. } => (Priority::Warning, "is killed"),
            Stage::InstancesKilled { .. }
            | Stage::Services { .. }
            | Stage::OthersKilled { .. }
            | Stage::Flushing { .. }
            | Stage::Over { .. } => (Priority::Error, "does not end, and is not waited for any more"),
        };
        self.log.say(priority, format_args!("shutdown: {what}: {left}"));
    }

    /// Sends signals to everybody who is ours to end: on a board all others, on a host our own children; theirs become
    /// ours as they end.
    fn signal_others(&mut self, signals: &[u8]) {
        match self.paths.mode {
            Mode::System => {
                for signal in signals {
                    if let Err(error) = children::signal_all_others(*signal) {
                        self.log.say(Priority::Error, format_args!("signal {signal} to all processes: {error}"));
                    }
                }
            }
            Mode::Hosted => {
                for child in remaining::children() {
                    for signal in signals {
                        children::signal_child(child.pid, *signal);
                    }
                }
            }
        }
    }

    /// Everything that could write is gone: what is left to do may take long on a slow card, and we go on feeding the
    /// watchdog meanwhile.
    fn start_flush(&mut self, now: Moment) {
        for run in self.instances.iter_mut().filter_map(|instance| instance.run.as_mut()) {
            // Who hangs keeps its root, and so the data partition, in use; what we hold of it we need not keep.
            run.root_mount = None;
        }
        self.jobs.abandon();
        let ended = self
            .shutdown
            .as_ref()
            .map(|shutdown| Ended { goal: (&shutdown.goal).into(), asked: shutdown.asked.clone() });
        let mark = Mark { slot: self.slot.map(|slot| slot.name), ended }.lines();
        self.start_job(Job::Unmount { clock: self.clock_file(), mark }, now);
    }

    fn leave_host(&mut self) {
        for groups in [&self.paths.groups, &self.paths.service_groups, &self.paths.updater_group] {
            cgroup::clear_away(groups);
        }
        runtime_directories::remove(&self.paths.run.join("instances"));
        for socket in [self.paths.socket(), self.paths.run.join("notify")] {
            let _ = fs::remove_file(socket);
        }
        self.log.say(Priority::Notice, format_args!("ended"));
    }

    fn end_machine_now(&mut self, goal: &Goal, now: Moment) {
        // It stays armed: a machine that hangs on its way down is reset.
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.feed(&mut self.log, now);
        }
        let word = match goal {
            Goal::Reboot | Goal::RebootWith(_) => "reboot",
            Goal::PowerOff | Goal::Exit => "power off",
        };
        self.log.say(Priority::Notice, format_args!("{word}"));
        if let Goal::RebootWith(argument) = goal {
            if let Err(error) = reboot::restart_with(argument) {
                self.log.say(Priority::Error, format_args!("{word} with \"{}\": {error}", argument.escape_debug()));
            }
        }
        // Where the kernel does not take the argument the machine restarts all the same: what was on trial then does not start.
        let ended = match goal {
            Goal::Reboot | Goal::RebootWith(_) => reboot::restart(),
            Goal::PowerOff | Goal::Exit => reboot::power_off(),
        };
        if let Err(error) = ended {
            self.log.say(Priority::Error, format_args!("{word}: {error}"));
        }
    }
}
