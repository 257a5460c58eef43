//! Ends of child processes: reaps all of them, and removes what an ended instance leaves.

use crate::boot_clock::Moment;
use crate::instance::Instance;
use crate::instance::counter::Counter;
use crate::instance::lifecycle::{self, End};
use crate::instance::{cgroup, end_of_payload, exit_status, run_end};
use crate::launch::{LaunchId, Launchers, TaskKind};
use crate::log::Priority;
use crate::netd::detach_queue::{self, Peer};
use crate::netd::{self, Peering};
use crate::process::how_it_ended;
use crate::reader_link::Surroundings;
use crate::service::Wanted;
use crate::supervisor::{Supervisor, keep_unknown_end};
use std::fs;
use std::io;
use yado_sys::children::{self, Ended};
use yado_sys::directory_tree::Removal;
use yado_wire::rescue::EventKind;
use yado_wire::{Failure, InstanceId, Step};

impl Supervisor {
    /// Reaps every child that has ended, adopted ones too.
    pub(crate) fn reap(&mut self, now: Moment) {
        // Reports of launchers come first: they may say to which instance a process belongs.
        let ids: Vec<LaunchId> = self.launches.iter().map(|launch| launch.id).collect();
        for id in ids {
            self.read_reports(id, now);
        }
        loop {
            match children::reap() {
                Ok(Some((pid, ended))) => self.note_end(pid, ended, now),
                Ok(None) => return,
                Err(error) => {
                    self.log.say(Priority::Error, format_args!("wait for children: {error}"));
                    return;
                }
            }
        }
    }

    fn note_end(&mut self, pid: i32, ended: Ended, now: Moment) {
        let is = |process: &Option<(i32, std::os::fd::OwnedFd)>| process.as_ref().is_some_and(|(own, _)| *own == pid);
        let is_payload = |instance: &&Instance| instance.payload().is_some_and(|(own, _)| *own == pid);
        let payload = self.instances.iter().find(is_payload).map(|instance| instance.id);
        if let Some(id) = payload {
            self.note_payload_end(id, ended, now);
        } else if let Some(launch) = self.launches.iter_mut().find(|launch| is(&launch.launcher)) {
            launch.launcher = None;
            let id = launch.id;
            self.note_launcher_end(id, ended, now);
        } else if let Some(launch) = self.launches.iter_mut().find(|launch| is(&launch.command)) {
            launch.command = None;
            launch.command_ended = Some(ended);
            let id = launch.id;
            self.finish_launch(id, now);
        } else if let Some(number) = self.services.iter().position(|service| is(&service.process)) {
            self.note_service_end(number, ended, now);
        } else if self.updater.is(pid) {
            self.note_updater_end(ended, now);
        } else if self.reader.is(pid) {
            let wanted = self.wanted_reader();
            let surroundings = Surroundings::new(wanted, &self.paths, self.close_queue.discarded());
            self.reader.note_end(ended, &surroundings, &mut self.log, now);
        } else if let Some(lane) = self.jobs.lane_of(pid) {
            self.note_job_end(lane, ended, now);
        } else if self.memory_guard.is(pid) {
            self.note_weigher_end(now);
        } else if !self.close_queue.note_end(pid) && !self.launches.is_empty() {
            keep_unknown_end(&mut self.unknown_ends, pid, ended);
        }
    }

    /// The init of an instance has ended. With it the kernel has killed all other processes of its pid namespace.
    pub(crate) fn note_payload_end(&mut self, id: InstanceId, ended: Ended, now: Moment) {
        // If the kernel killed it for lack of memory, that is told before the end itself.
        self.read_counts(id);
        self.tell_counts(id, Counter::last_news);
        let Some(instance) = self.instances.get_mut(id) else { return };
        let mut killed_after = None;
        if let Some(run) = &mut instance.run {
            run.payload = None;
            killed_after = run.killed_after;
        }
        let end = run_end(ended, killed_after);
        let about = instance.about();
        // If the memory guard ended it, the reason was told already.
        let is_untold = instance.is_up() && !instance.is_ended_for_memory();
        self.kill_probe(id);
        self.drain_console(id, now);
        self.log.say(Priority::Notice, format_args!("{}: {end}", about.name));
        self.events.publish(Some(&about), EventKind::Exited(end));
        if is_untold && end_of_payload(ended) == End::Crash {
            let how = format!("its init {}", how_it_ended(ended));
            self.record_failure(id, Failure::refused(Step::Exec, about.name.as_str(), &how));
        }
        self.step_instance(id, lifecycle::Event::Ended(end_of_payload(ended)), now);
    }

    /// A launcher has ended. Without a report of success that is a failure.
    fn note_launcher_end(&mut self, id: LaunchId, ended: Ended, now: Moment) {
        self.read_reports(id, now);
        self.drain_launch_output(id, now);
        let Some(launch) = self.launches.iter_mut().find(|launch| launch.id == id) else { return };
        if launch.is_given_up() {
            // Its task was reported as failed when it was given up.
            let instance_id = launch.instance;
            self.finish_launch(id, now);
            return self.collect_at_once(instance_id, now);
        }
        if !launch.is_done && launch.failure.is_none() {
            let how = match ended {
                Ended::Code(_) => format!("{} and without a report", how_it_ended(ended)),
                Ended::Signal(_) => how_it_ended(ended),
            };
            launch.failure = Some(Box::new(Failure::refused(Step::Launcher, "yado-container", &how)));
        }
        let (instance_id, task, failure) = (launch.instance, launch.task, launch.failure.clone());
        self.finish_launch(id, now);
        match (task, failure) {
            (TaskKind::Run, Some(failure)) => self.fail_launched(instance_id, *failure, now),
            (TaskKind::Probe, Some(failure)) if failure.step == Step::Cgroup => {
                self.note_unmade_probe(instance_id, *failure, now);
            }
            (TaskKind::Probe, failure) => self.note_probe(instance_id, failure, now),
            (TaskKind::Devices, Some(failure)) => self.fail_devices(instance_id, *failure, now),
            (TaskKind::Run | TaskKind::Devices, None) | (TaskKind::Exec { .. } | TaskKind::Stop, _) => {}
        }
        self.collect_at_once(instance_id, now);
    }

    /// A process ended that may have been the last one of a run that is being removed.
    fn collect_at_once(&mut self, id: InstanceId, now: Moment) {
        use lifecycle::State;
        let Some(instance) = self.instances.get(id) else { return };
        if matches!(instance.state, State::Collecting { .. } | State::Stuck { .. }) {
            self.step_instance(id, lifecycle::Event::ProcessEnded, now);
        }
    }

    /// The launcher of a start has failed.
    pub(crate) fn fail_launched(&mut self, id: InstanceId, failure: Failure, now: Moment) {
        let Some(instance) = self.instances.get(id) else { return };
        // It was killed because the instance is to stop: that is no failure.
        if matches!(instance.state, lifecycle::State::Stopping { .. }) {
            self.step_instance(id, lifecycle::Event::Ended(End::StartFailed), now);
        } else {
            self.fail_start(id, failure, now);
        }
    }

    /// Forgets a launch that is over, and answers the client that waits for its command.
    fn finish_launch(&mut self, id: LaunchId, now: Moment) {
        let Some(at) = self.launches.iter().position(|launch| launch.id == id) else { return };
        let is_over = self.launches.get(at).is_some_and(|launch| {
            launch.launcher.is_none()
                && match launch.task {
                    TaskKind::Run | TaskKind::Probe | TaskKind::Devices => true,
                    TaskKind::Exec { .. } | TaskKind::Stop => {
                        launch.failure.is_some() || launch.command_ended.is_some()
                    }
                }
        });
        if !is_over {
            return;
        }
        let launch = self.launches.remove(at);
        if let (TaskKind::Exec { client }, false) = (launch.task, launch.is_given_up()) {
            if launch.failure.is_some() {
                // A command that still runs has nobody left who waits for it.
                launch.kill();
            }
            self.answer_exec(client, launch.failure.as_deref(), launch.command_ended.map(exit_status));
        }
        if (launch.task, launch.is_given_up()) == (TaskKind::Stop, false) {
            let unheeded = launch.command_ended.filter(|ended| *ended != Ended::Code(0));
            let unheeded = unheeded.map(|ended| Failure::refused(Step::Exec, "command", &how_it_ended(ended)));
            self.note_stop_command(launch.instance, launch.failure.as_deref().or(unheeded.as_ref()), now);
        }
        if self.launches.is_empty() {
            self.unknown_ends.clear();
        }
    }

    /// Removes control groups and files of a run that has ended, and tells the table whether processes remain.
    pub(crate) fn collect(&mut self, id: InstanceId, launchers: Launchers, now: Moment) {
        let event = self.remove_run(id, launchers, now);
        self.step_instance(id, event, now);
    }

    fn remove_run(&mut self, id: InstanceId, launchers: Launchers, now: Moment) -> lifecycle::Event {
        let has_launcher = self.launches.iter().any(|launch| launch.instance == id && launch.launcher.is_some());
        let Some(instance) = self.instances.get_mut(id) else { return lifecycle::Event::Gone };
        let has_payload = instance.payload().is_some();
        if has_launcher || has_payload {
            if has_payload || launchers == Launchers::Kill {
                self.kill_instance(id);
            }
            return lifecycle::Event::Remains;
        }
        let directory_name = instance.directory_name();
        let group = self.paths.group(&directory_name);
        match cgroup::remove(&group) {
            Ok(Removal::Done) => {}
            // All processes are killed, so fewer groups are left after each call.
            Ok(Removal::More) => {
                cgroup::kill(&group);
                return lifecycle::Event::PartlyRemoved;
            }
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                cgroup::kill(&group);
                // Processes that do not die may wait for a FUSE server.
                if launchers == Launchers::Kill {
                    self.abort_fuse(id);
                }
                return lifecycle::Event::Remains;
            }
            Err(error) => self.log.say(Priority::Error, format_args!("remove {}: {error}", group.display())),
        }
        let _ = fs::remove_dir_all(self.paths.runtime(&directory_name));
        let Some(instance) = self.instances.get_mut(id) else { return lifecycle::Event::Gone };
        for count in [&mut instance.oom_kills, &mut instance.refused_forks] {
            *count = std::mem::take(count).closed();
        }
        let run = instance.run.take();
        // A closer closes its descriptors. Among them is the last mount of its root: closing that writes back the whole file system
        // of the layer. Neither this end nor the next start waits for it.
        if let Some(run) = run.filter(|run| !run.spec.nics.is_empty()) {
            self.step_netd(detach_queue::Event::Ended((id, run.number)), now);
        }
        lifecycle::Event::Gone
    }

    /// Gives an event to the queue of ended runs that netd must be told of, and does what it says.
    pub(crate) fn step_netd(&mut self, event: detach_queue::Event, now: Moment) {
        let has_netd = self.services.iter().any(|service| service.name == netd::SERVICE);
        let peer = match self.wanted_services() {
            Wanted::Up if has_netd => Peer::Here,
            Wanted::Up | Wanted::Down => Peer::Gone,
        };
        let socket = self.paths.netd_socket();
        let peering = Peering { peer, socket: &socket, discarded: self.close_queue.discarded() };
        self.netd.step(event, &peering, &mut self.log, now);
    }

    /// Records which processes of an instance do not end.
    pub(crate) fn report_stuck(&mut self, id: InstanceId) {
        const MAX_NAMED: usize = 8;
        let Some(instance) = self.instances.get(id) else { return };
        let launchers = self.launches.iter().filter(|launch| launch.instance == id);
        let ours = launchers.filter_map(|launch| launch.launcher.as_ref()).chain(instance.payload());
        let mut pids: Vec<i32> = ours.map(|(pid, _)| *pid).collect();
        for pid in cgroup::processes(&self.paths.group(&instance.directory_name())) {
            if !pids.contains(&pid) {
                pids.push(pid);
            }
        }
        let named: Vec<String> = pids.iter().take(MAX_NAMED).map(i32::to_string).collect();
        let reason = format!(
            "killed processes do not end ({}): it is not started again until they are gone",
            if named.is_empty() { "in groups below".to_owned() } else { named.join(" ") }
        );
        let failure = Failure::refused(Step::Cgroup, instance.name.as_str(), &reason);
        self.record_failure(id, failure);
    }
}
