//! Kills launchers that take too long. The task of such a launcher has failed, and its place among [`MAX_LAUNCHES`] is free, even
//! if it hangs in the kernel and cannot be killed.
//!
//! [`MAX_LAUNCHES`]: crate::launch::MAX_LAUNCHES

use crate::boot_clock::Moment;
use crate::launch::{Launch, LaunchId, Limit, TaskKind};
use crate::log::Priority;
use crate::process::KILLED_LIMIT;
use crate::supervisor::Supervisor;
use std::fs;
use std::path::Path;
use std::time::Duration;
use yado_spec::InstanceSpec;
use yado_spec::launch_request::Verify;
use yado_wire::{Failure, Step};

/// A start takes a second or two, with a large image on a slow card some more; what takes minutes hangs. Waiting for a device
/// does not count, because the start after it is a new one. The file `start-timeout` of a system sets another limit, in seconds.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// The slowest reading that is expected where a whole image is verified before a start.
const MIN_BYTES_PER_S: u64 = 1 << 20;

/// A command is executed within milliseconds; the instance's own files are read to find it.
const EXEC_TIMEOUT: Duration = Duration::from_secs(60);

/// Making and removing nodes takes milliseconds.
const DEVICES_TIMEOUT: Duration = Duration::from_secs(10);

/// The launcher itself ends a probe in time. If it does not, it is killed this much later.
const PROBE_SLACK: Duration = Duration::from_secs(5);

impl Supervisor {
    /// How long a launch may take.
    pub(crate) fn launch_timeout(&self, task: TaskKind, spec: &InstanceSpec, image: &Path) -> Duration {
        match task {
            TaskKind::Run => {
                let read_bytes = match self.paths.verify() {
                    Verify::Block => 0,
                    Verify::Start => fs::metadata(image).map_or(0, |found| found.len()),
                };
                let timeout = self.paths.start_timeout().unwrap_or(START_TIMEOUT);
                timeout.saturating_add(Duration::from_secs(read_bytes / MIN_BYTES_PER_S))
            }
            TaskKind::Exec { .. } | TaskKind::Stop => EXEC_TIMEOUT,
            TaskKind::Probe => {
                spec.health.probe.as_ref().map_or(Duration::ZERO, |probe| probe.timeout).saturating_add(PROBE_SLACK)
            }
            TaskKind::Devices => DEVICES_TIMEOUT,
        }
    }

    /// Kills launchers that take too long, and tells which then hang. Not while instances are frozen: launchers inside are frozen
    /// with them, and others may wait for processes inside.
    pub(crate) fn give_up_late_launches(&mut self, now: Moment) {
        if self.is_frozen() {
            return;
        }
        let is_due = |launch: &&Launch| launch.limit.deadline().is_some_and(|at| at <= now);
        let due: Vec<LaunchId> = self.launches.iter().filter(is_due).map(|launch| launch.id).collect();
        for id in due {
            self.give_up_launch(id, now);
        }
    }

    fn give_up_launch(&mut self, id: LaunchId, now: Moment) {
        let Some(launch) = self.launches.iter_mut().find(|launch| launch.id == id) else { return };
        let Some(instance) = self.instances.get(launch.instance) else { return };
        let name = instance.name.clone();
        let after = match launch.limit {
            Limit::None | Limit::Stuck => return,
            Limit::GivenUp { .. } => {
                launch.limit = Limit::Stuck;
                let pid = launch.launcher.as_ref().map_or(0, |(pid, _)| *pid);
                return self.log.say(
                    Priority::Error,
                    format_args!("{name}: its launcher {pid} was killed and hangs in the kernel"),
                );
            }
            Limit::GiveUp { after, .. } => after,
        };
        launch.limit = Limit::GivenUp { tell_at: now.saturating_add(KILLED_LIMIT) };
        let step = launch.step_shown();
        launch.kill();
        if launch.is_done {
            // It has done its task and only had to exit.
            return;
        }
        let (instance_id, task) = (launch.instance, launch.task);
        let failure = too_late(task, name.as_str(), after, instance.payload().is_some(), step.as_deref());
        launch.failure = Some(Box::new(failure.clone()));
        match task {
            TaskKind::Run => self.fail_launched(instance_id, failure, now),
            TaskKind::Exec { client } => self.answer_exec(client, Some(&failure), None),
            TaskKind::Stop => self.note_stop_command(instance_id, Some(&failure), now),
            TaskKind::Probe => self.note_probe(instance_id, Some(Box::new(failure)), now),
            TaskKind::Devices => self.fail_devices(instance_id, failure, now),
        }
    }
}

fn too_late(task: TaskKind, name: &str, after: Duration, has_payload: bool, step: Option<&str>) -> Failure {
    let what = match (task, has_payload) {
        (TaskKind::Run, false) => "it was not started: no process of its own was made",
        (TaskKind::Run, true) => "it was not started: its first process did not execute its init",
        (TaskKind::Exec { .. } | TaskKind::Stop, _) => "the command was not executed",
        (TaskKind::Probe, _) => "the probe did not end",
        (TaskKind::Devices, _) => "its devices were not brought up to date",
    };
    let step = step.unwrap_or("unknown");
    Failure::refused(Step::Launcher, name, &format!("{what} within {} s; its step was {step}", after.as_secs()))
}
