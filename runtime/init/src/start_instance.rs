//! Starts instances, and launchers for tasks in running ones.

use crate::boot_clock::Moment;
use crate::deferred_close::DeferredClose;
use crate::fuse_connections::{self, FuseMounts};
use crate::identities::{self, Claim};
use crate::instance::cgroup;
use crate::instance::counter::Counter;
use crate::instance::lifecycle::{State, Wanted};
use crate::instance::spec_update::leave_actual;
use crate::instance::{Run, lifecycle};
use crate::launch::{self, Launch, LaunchDescriptors, LaunchId, Limit, MAX_LAUNCHES, Task, TaskKind};
use crate::log::Priority;
use crate::netd;
use crate::supervisor::Supervisor;
use crate::update_health;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use yado_spec::instance::Cpus;
use yado_spec::launch_request::{LaunchPaths, LaunchTask, NOTIFY_SOCKET_NAME, UPDATE_LOCK_NAME};
use yado_spec::{InstanceSpec, LaunchRequest};
use yado_sys::children;
use yado_sys::{clock, datagram, machine};
use yado_wire::{Failure, InstanceId, RunNumber, Step};

impl Supervisor {
    /// Starts an instance, whose state is "starting" already. A failure here ends the run.
    pub(crate) fn launch_instance(&mut self, id: InstanceId, now: Moment) {
        let failure = match self.prepare_run(id) {
            Ok(()) => self.start_launcher(id, Task::Run).err(),
            Err(failure) => Some(failure),
        };
        if let Some(failure) = failure {
            self.fail_start(id, failure, now);
        }
    }

    /// Notes why a start failed, and tells the table.
    pub(crate) fn fail_start(&mut self, id: InstanceId, failure: Failure, now: Moment) {
        let is_without_netd = failure.step == Step::Network && !netd::is_ready(&self.services);
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.waits_for_netd = is_without_netd;
        let event = instance.failed_start(&failure);
        // Waiting for a device is not a failure yet.
        if matches!(event, lifecycle::Event::DeviceAbsent { within } if !within.is_zero()) {
            let name = &instance.name;
            self.log.say(Priority::Notice, format_args!("{name}: waits: {failure}"));
            self.remember_failure(id, failure);
        } else {
            self.record_failure(id, failure);
        }
        self.step_instance(id, event, now);
    }

    /// Starts an instance again whose start failed because netd was not up, now that it is: on a slow board netd may come up after
    /// the time that a launcher waits for it.
    pub(crate) fn start_if_it_lacked_netd(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        // First the rest of the failed start is removed.
        let is_over = matches!(instance.state, State::Failed { .. } | State::BackingOff { .. });
        if !instance.waits_for_netd || !is_over || !netd::is_ready(&self.services) {
            return;
        }
        instance.waits_for_netd = false;
        if let Wanted::Up { .. } = instance.wanted {
            let run = instance.next_run();
            let name = &instance.name;
            self.log.say(Priority::Notice, format_args!("{name}: netd is up, it is started again"));
            self.want(id, Wanted::Up { run }, now);
        }
    }

    fn remember_failure(&mut self, id: InstanceId, failure: Failure) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.last_failure = Some(Box::new(failure));
        }
    }

    /// Makes what the launcher needs: the control group with its limits, the directory of the layer, and the runtime directory
    /// with the notification socket.
    fn prepare_run(&mut self, id: InstanceId) -> Result<(), Failure> {
        let spec = self.instances.get(id).and_then(|instance| instance.spec.clone().ok());
        let Some(spec) = spec else { return Ok(()) };
        let begun_us = u64::try_from(clock::since_boot().as_micros()).unwrap_or(u64::MAX);
        let processors = self.processors_for(id, &[&spec]);
        let Some(instance) = self.instances.get_mut(id) else { return Ok(()) };
        instance.waits_for_netd = false;
        let claim = Claim { name: instance.name.clone(), count: spec.security.id_count(), witness: None };
        instance.idmap_base = self.identities.first_host_id(&claim.name, claim.count.unwrap_or(0));
        if let Some(change) = self.identities.change(None, &claim) {
            return Err(Failure::refused(Step::IdMap, instance.name.as_str(), &change.to_string()).in_vain());
        }
        if self.close_queue.is_overdue() {
            let reason = "too many descriptors of ended instances wait to be closed";
            return Err(Failure::refused(Step::Launcher, instance.name.as_str(), reason));
        }
        let Some(image) = instance.image.clone() else {
            let fingerprint = yado_wire::hex::encode(&spec.image);
            let reason = "no image of this fingerprint is here";
            return Err(Failure::refused(Step::ImageOpen, &fingerprint, reason).in_vain());
        };
        let (group, runtime) =
            (self.paths.group(&instance.directory_name()), self.paths.runtime(&instance.directory_name()));
        let run = instance.run.insert(Run::new(RunNumber(begun_us), spec.clone(), image));

        if let Some((key, reason)) = spec.not_enforced() {
            self.log.say(Priority::Warning, format_args!("{}: {key}: {reason}", spec.name));
        }
        let writes = cgroup::limit_writes(&spec.limits, machine::memory_bytes(), &processors);
        cgroup::create(&group, &writes)?;
        run.memory_limit_bytes = cgroup::read_number(&group, "memory.max");
        instance.oom_kills = Counter::open(&group.join("memory.events"), "oom_kill");
        instance.refused_forks = Counter::open(&group.join("pids.events"), "max");

        let layer = self.paths.layer(instance.id);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&layer)
            .map_err(|error| Failure::from_io(Step::Layer, &layer.to_string_lossy(), &error))?;
        // A copy in the layer, in case `state/ids` is lost. A failure here costs nothing as long as that file is there.
        let _ = identities::stored::leave_witness(&layer, &instance.name, instance.idmap_base);

        let at = |path: &Path, error| Failure::from_io(Step::Launcher, &path.to_string_lossy(), &error);
        // Left by a run that was cut off: only files of ours and empty mount points, since nothing is mounted in our namespace.
        let _ = fs::remove_dir_all(&runtime);
        // For root only: other users of the machine could use up the instance's budget of notifications through the socket. The
        // launcher is root, and the instance gets the socket by a mount.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&runtime).map_err(|error| at(&runtime, error))?;
        leave_actual(&runtime, &spec);
        if spec.security.update_lock {
            update_health::make_lock(&runtime).map_err(|error| at(&runtime.join(UPDATE_LOCK_NAME), error))?;
        }
        let notify = runtime.join(NOTIFY_SOCKET_NAME);
        let socket = datagram::bind(&notify, 0o666).map_err(|error| at(&notify, error))?;
        run.notify = Some(self.reader.watch_run(socket, self.close_queue.discarded()));
        Ok(())
    }

    /// The processors on which an instance may run, least used first. Empty if `limits.cpu` of no spec in `specs` is a number.
    /// `specs`: what it runs by, and what it is to run by.
    pub(crate) fn processors_for(&self, id: InstanceId, specs: &[&InstanceSpec]) -> Vec<u16> {
        if !specs.iter().any(|spec| matches!(spec.limits.cpus, Some(Cpus::Count(_)))) {
            return Vec::new();
        }
        let mut online = cgroup::read_processors(&self.paths.groups, "cpuset.cpus.effective");
        if online.is_empty() {
            // Without the controller, writing the limit fails later, and the failure is reported there.
            online = (0..machine::processors()).collect();
        }
        let others = self.instances.iter().filter(|other| other.id != id && other.is_active());
        let others: Vec<Vec<u16>> = others
            .map(|other| cgroup::read_processors(&self.paths.group(&other.directory_name()), "cpuset.cpus"))
            .collect();
        cgroup::by_use(&online, &others)
    }

    /// Starts the launcher for an instance.
    pub(crate) fn start_launcher(&mut self, id: InstanceId, task: Task<'_>) -> Result<LaunchId, Failure> {
        let (kind, task, standard): (_, _, &[DeferredClose]) = match task {
            Task::Run => (TaskKind::Run, LaunchTask::Run, &[]),
            Task::Exec { client, command, standard } => {
                (TaskKind::Exec { client }, LaunchTask::Exec(command), standard)
            }
            Task::Stop { command } => (TaskKind::Stop, LaunchTask::Exec(command), &[]),
            Task::Probe => (TaskKind::Probe, LaunchTask::Probe, &[]),
            Task::Devices => (TaskKind::Devices, LaunchTask::Devices, &[]),
        };
        let Some(instance) = self.instances.get(id) else {
            return Err(Failure::refused(Step::Launcher, "", "there is no such instance"));
        };
        let name = &instance.name;
        let count = |is_given_up| self.launches.iter().filter(|launch| launch.is_given_up() == is_given_up).count();
        if MAX_LAUNCHES <= count(false) || MAX_LAUNCHES <= count(true) {
            return Err(Failure::refused(Step::Launcher, name.as_str(), "too many launchers are at work"));
        }
        if self.close_queue.is_own_overdue() {
            return Err(Failure::refused(Step::Launcher, name.as_str(), "too many descriptors wait to be closed"));
        }
        let Some(run) = &instance.run else {
            return Err(Failure::refused(Step::Launcher, name.as_str(), "it is not running"));
        };
        let (spec, image) = (InstanceSpec::clone(&run.spec), &run.image_file);
        let text = |path: &Path| path.to_string_lossy().into_owned();
        // From here on the image counts as used, so that its mount is not dropped while the launcher starts.
        let image_use = self.image_cache.take(image).filter(|_| kind.mounts_image());
        let cached = image_use.as_ref().and_then(|_| self.image_cache.get(image));
        let has_netd = self.services.iter().any(|service| service.name == netd::SERVICE);
        let group = self.paths.group(&instance.directory_name());
        let request = LaunchRequest {
            id,
            // The launcher refuses 0 for an instance that is not privileged.
            idmap_base: instance.idmap_base.filter(|_| !spec.security.privileged).unwrap_or(0),
            run: run.number,
            spec,
            paths: LaunchPaths {
                image: text(image),
                trust: text(&self.paths.trust()),
                layer: text(&self.paths.layer(id)),
                runtime: text(&self.paths.runtime(&instance.directory_name())),
                cgroup: text(&group),
                netd: has_netd.then(|| text(&self.paths.netd_socket())),
            },
            verify: self.paths.verify(),
            cached_image: cached.map(|(identity, _)| identity),
            task,
        };
        let payload = run.payload.as_ref().map(|(_, pidfd)| pidfd.as_fd());
        let dev = run.dev_mount.as_ref().map(AsFd::as_fd);
        let (payload, dev) = match kind {
            TaskKind::Run => (None, None),
            TaskKind::Exec { .. } | TaskKind::Stop | TaskKind::Probe => (payload, None),
            TaskKind::Devices => (None, dev),
        };
        // A launcher for a running instance stays outside its control group, so that the instance cannot hold it up there.
        let group = match kind {
            TaskKind::Run => Some(group.as_path()),
            TaskKind::Exec { .. } | TaskKind::Stop | TaskKind::Probe | TaskKind::Devices => None,
        };
        let after = self.launch_timeout(kind, &request.spec, Path::new(&request.paths.image));
        let at = clock::since_boot().saturating_add(after);
        let (child, reports, output) = launch::start(
            &self.paths.yado,
            group,
            &request,
            &LaunchDescriptors { payload, dev, image: cached.map(|(_, mount)| mount), standard },
            self.close_queue.discarded(),
        )?;
        let launch_id = self.next_launch;
        self.next_launch = self.next_launch.wrapping_add(1);
        self.launches.push(Launch {
            id: launch_id,
            instance: id,
            task: kind,
            launcher: Some((child.pid, child.pidfd)),
            reports: Some(reports),
            output,
            is_done: false,
            failure: None,
            command: None,
            command_ended: None,
            limit: Limit::GiveUp { at, after },
            awaits_image: kind.mounts_image(),
        });
        if let (Some(run), Some(image_use)) = (self.instances.run_mut(id), image_use) {
            run.image = Some(image_use);
        }
        Ok(launch_id)
    }

    /// Kills a launcher, and the command that it started.
    pub(crate) fn kill_launch(&self, id: LaunchId) {
        if let Some(launch) = self.launches.iter().find(|launch| launch.id == id) {
            launch.kill();
        }
    }

    /// Aborts FUSE connections of an instance that is about to be killed, or does not die: a process that waits for a FUSE server
    /// cannot be killed.
    pub(crate) fn abort_fuse(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(ids) = instance.host_ids() else { return };
        let count = fuse_connections::abort(&FuseMounts::Ids(ids), self.paths.mode);
        // An aborted connection stays in the list until its file system is unmounted, so it would be told again.
        let Some(run) = &mut instance.run else { return };
        if count != 0 && !std::mem::replace(&mut run.are_aborts_told, true) {
            let name = instance.name.clone();
            self.log.say(Priority::Notice, format_args!("{name}: {count} FUSE connections were aborted"));
        }
    }

    /// Kills all processes of an instance, and its launchers.
    pub(crate) fn kill_instance(&mut self, id: InstanceId) {
        self.abort_fuse(id);
        let Some(instance) = self.instances.get(id) else { return };
        let launchers = self.launches.iter().filter(|launch| launch.instance == id);
        let processes = launchers.filter_map(|launch| launch.launcher.as_ref()).chain(instance.payload());
        for (_, pidfd) in processes {
            children::kill(pidfd.as_fd());
        }
        cgroup::kill(&self.paths.group(&instance.directory_name()));
    }
}
