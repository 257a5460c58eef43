//! One instance as init knows it: its spec, its state, and its open descriptors.

pub(crate) mod cgroup;
pub(crate) mod console;
pub(crate) mod counter;
pub(crate) mod health;
pub(crate) mod lifecycle;
pub mod notify;
pub(crate) mod spec_update;

use crate::boot_clock::{Moment, whole_ms};
use crate::deferred_close::DeferredClose;
use crate::identities::{self, Identities};
use crate::image_cache::ImageUse;
use crate::reader_socket::ReaderSocket;
use crate::specs::Configured;
use console::Console;
use counter::Counter;
use lifecycle::{End, Event, Rules, State, Wanted};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use yado_spec::InstanceSpec;
use yado_spec::directory_name::directory_name;
use yado_spec::instance::{DeviceSelect, Required};
use yado_sys::children::{Ended, SIGHUP, SIGINT, SIGKILL};
use yado_wire::Budget;
use yado_wire::rescue::{ExitStatus, InstanceState, InstanceStatus, RunEnd};
use yado_wire::{AboutInstance, Failure, InstanceId, InstanceName, Retry, RunNumber};

/// How much output of launchers is logged. A launcher prints only when something is badly wrong, but probes and programs that
/// inherit its descriptors print what they like.
const PRINTED_BYTES_PER_SECOND: u32 = 1024;

/// See [`PRINTED_BYTES_PER_SECOND`].
const PRINTED_BURST_BYTES: u32 = 16 * 1024;

/// One instance.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) name: InstanceName,
    /// The spec for the next start, or why there is none. The spec that it runs by is in its run.
    pub(crate) spec: Result<Rc<InstanceSpec>, Box<Failure>>,
    /// The image file; `None`: no image with that fingerprint is on this machine.
    pub(crate) image: Option<PathBuf>,
    /// First host id of its user namespace; `None`: it was given no range.
    pub(crate) idmap_base: Option<u32>,
    pub(crate) state: State,
    /// The state that users or the boot want.
    pub(crate) wanted: Wanted,
    /// The number of the last run that was wanted.
    last_run: u32,
    /// The state that was last published.
    pub(crate) told: InstanceState,
    /// It is no longer configured: it is being stopped, and is then removed.
    pub(crate) is_deleted: bool,
    /// Why its newest configuration is not used.
    pub(crate) refused: Option<Box<Failure>>,
    /// Its turn in the boot order has not come yet.
    pub(crate) is_queued: bool,
    /// Its run, from the preparation of a start until everything of it is removed.
    pub(crate) run: Option<Run>,
    /// Processes killed for lack of memory, in this run or the last one.
    pub(crate) oom_kills: Counter,
    /// Forks refused, in this run or the last one.
    pub(crate) refused_forks: Counter,
    /// How often it was started again after it ended by itself.
    pub(crate) restarts: u32,
    /// How often it was decided that it is not healthy.
    pub(crate) unhealthy: u32,
    /// When it became ready, while it is.
    pub(crate) ready_since: Option<Moment>,
    /// Why it last failed.
    pub(crate) last_failure: Option<Box<Failure>>,
    /// Its last start failed while netd was not up: it is started again when netd is.
    pub(crate) waits_for_netd: bool,
    /// How many bytes its launchers, and programs that they start, may still print.
    pub(crate) printed: Budget,
}

/// One run of an instance: its descriptors, and what is known of it.
#[derive(Debug)]
pub(crate) struct Run {
    /// Distinguishes this run from earlier ones, also for netd.
    pub(crate) number: RunNumber,
    /// The spec that it was started with, with the keys that were changed since.
    pub(crate) spec: Rc<InstanceSpec>,
    /// Its image's file.
    pub(crate) image_file: PathBuf,
    /// The instance's init: process id and pidfd; `None` before it was reported and after it has ended.
    pub(crate) payload: Option<(i32, OwnedFd)>,
    /// A mount of its `/dev` that it does not see.
    pub(crate) dev_mount: Option<DeferredClose>,
    /// A mount of its root. Whoever closes it last waits until the file system of its layer is written back.
    pub(crate) root_mount: Option<DeferredClose>,
    /// It uses a mount of its image in the cache.
    pub(crate) image: Option<ImageUse>,
    /// `None`: the launcher has not sent its terminal yet.
    pub(crate) console: Option<Console>,
    /// Its `$NOTIFY_SOCKET`.
    pub(crate) notify: Option<ReaderSocket>,
    /// Its memory limit as the kernel shows it; `None`: it has none.
    pub(crate) memory_limit_bytes: Option<u64>,
    /// Its last `STATUS=`.
    pub(crate) status: String,
    /// Microseconds from the decision to start until its init was executed.
    pub(crate) start_us: Option<u32>,
    /// Its health.
    pub(crate) watch: health::Watch,
    /// The log has said that FUSE connections of it were aborted.
    pub(crate) are_aborts_told: bool,
    /// The memory guard has killed it, because its sockets held too much memory.
    pub(crate) is_ended_for_memory: bool,
    /// When its init was executed.
    pub(crate) started: Option<Moment>,
    /// When its init is asked again to stop.
    pub(crate) ask_at: Option<Moment>,
    /// When it was first asked to stop.
    pub(crate) asked_since: Option<Moment>,
    /// The log has said that its stop command failed.
    pub(crate) is_refusal_told: bool,
    /// How long after it was first asked to stop it was killed; `None`: it was not killed.
    pub(crate) killed_after: Option<Duration>,
    /// When its devices are updated next.
    pub(crate) devices_due: Option<Moment>,
    /// The pause before the last update that was a repetition after a failure.
    pub(crate) devices_pause: Duration,
}

impl Run {
    /// A run without any descriptors yet.
    pub(crate) fn new(number: RunNumber, spec: Rc<InstanceSpec>, image_file: PathBuf) -> Run {
        Run {
            number,
            spec,
            image_file,
            payload: None,
            dev_mount: None,
            root_mount: None,
            image: None,
            console: None,
            notify: None,
            memory_limit_bytes: None,
            status: String::new(),
            start_us: None,
            watch: health::Watch::default(),
            are_aborts_told: false,
            is_ended_for_memory: false,
            started: None,
            ask_at: None,
            asked_since: None,
            is_refusal_told: false,
            killed_after: None,
            devices_due: None,
            devices_pause: Duration::ZERO,
        }
    }
}

impl Instance {
    /// An instance that does not run. `autostart`: it is wanted up. `None`: it has no id, because there are too many instances.
    pub(crate) fn of(configured: Configured, identities: &Identities) -> Option<Instance> {
        let id = identities.id(&configured.name)?;
        let count = identities::stored::claim(&configured).count;
        let first = identities.first_host_id(&configured.name, count.unwrap_or(0));
        Some(Instance::new(id, first, configured))
    }

    fn new(id: InstanceId, idmap_base: Option<u32>, configured: Configured) -> Instance {
        let Configured { name, spec, image } = configured;
        let autostart = spec.as_ref().is_ok_and(|spec| spec.boot.autostart && !spec.security.protection_start);
        let last_run = u32::from(autostart);
        let wanted = if autostart { Wanted::Up { run: last_run } } else { Wanted::Down { timeout: Duration::ZERO } };
        let failed = spec.is_err();
        Instance {
            id,
            name,
            last_failure: spec.as_ref().err().cloned(),
            spec,
            image,
            idmap_base,
            state: if failed { State::Failed { run: 0 } } else { State::Stopped },
            wanted,
            last_run,
            told: if failed { InstanceState::Failed } else { InstanceState::Stopped },
            is_deleted: false,
            refused: None,
            is_queued: autostart,
            run: None,
            oom_kills: Counter::default(),
            refused_forks: Counter::default(),
            restarts: 0,
            unhealthy: 0,
            ready_since: None,
            waits_for_netd: false,
            printed: Budget::per_second(PRINTED_BYTES_PER_SECOND, PRINTED_BURST_BYTES),
        }
    }

    /// The spec that it runs by, or else the one for its next start; `None`: there is none.
    pub(crate) fn actual(&self) -> Option<&InstanceSpec> {
        self.run.as_ref().map(|run| &*run.spec).or(self.spec.as_deref().ok())
    }

    /// Whether changed keys wait for its next start.
    pub(crate) fn waits_for_restart(&self) -> bool {
        match (&self.run, &self.spec) {
            (Some(run), Ok(desired)) => *run.spec != **desired,
            (Some(_), Err(_)) | (None, _) => false,
        }
    }

    /// Whether it starts with the system.
    pub(crate) fn is_to_start_by_itself(&self) -> bool {
        self.spec.as_ref().is_ok_and(|spec| spec.boot.autostart && !spec.security.protection_start)
    }

    /// The rules of its spec; `None`: it has no spec.
    pub(crate) fn rules(&self) -> Option<Rules> {
        self.actual().map(Rules::of)
    }

    /// Whether a user of the host's is one of its own. A privileged instance has the host's ids, and of these only root's is
    /// known to be its own.
    pub(crate) fn has_user(&self, uid: u32) -> bool {
        let Some(spec) = self.actual() else { return false };
        match spec.security.privileged {
            true => uid == 0,
            false => self.host_ids().is_some_and(|ids| ids.contains(&uid)),
        }
    }

    /// The host's ids that are its own; `None`: it is privileged, or was given no range.
    pub(crate) fn host_ids(&self) -> Option<Range<u32>> {
        let count = self.actual()?.security.id_count()?;
        let first = self.idmap_base?;
        Some(first..first.saturating_add(count))
    }

    /// Its id and name, as in events.
    pub(crate) fn about(&self) -> AboutInstance {
        AboutInstance { id: self.id, name: self.name.clone() }
    }

    /// The name of its control group and of its runtime directory.
    pub(crate) fn directory_name(&self) -> String {
        directory_name(&self.name, self.id)
    }

    /// The instance's init, if it runs: process id and pidfd.
    pub(crate) fn payload(&self) -> Option<&(i32, OwnedFd)> {
        self.run.as_ref()?.payload.as_ref()
    }

    /// Whether the memory guard ended its run.
    pub(crate) fn is_ended_for_memory(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.is_ended_for_memory)
    }

    /// Whether processes of it run.
    pub(crate) fn is_active(&self) -> bool {
        match self.state {
            State::Starting { .. }
            | State::Running { .. }
            | State::Ready { .. }
            | State::Unhealthy { .. }
            | State::Stopping { .. }
            | State::Collecting { .. } => true,
            // Processes that hang in the kernel do no work, and nobody waits for them.
            State::Stopped
            | State::Stuck { .. }
            | State::Waiting { .. }
            | State::WaitingForDevice { .. }
            | State::BackingOff { .. }
            | State::Finished { .. }
            | State::Failed { .. } => false,
        }
    }

    /// Whether its init runs and is not to be stopped.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Ready { .. } | State::Unhealthy { .. })
    }

    /// Whether it is ready, or will not become ready by itself: then, as with systemd's `After=`, no other instance waits for it.
    pub(crate) fn is_settled(&self) -> bool {
        match self.state {
            State::Ready { .. }
            | State::Unhealthy { .. }
            | State::Stuck { .. }
            | State::Finished { .. }
            | State::Failed { .. } => true,
            State::Stopped => matches!(self.wanted, Wanted::Down { .. }),
            State::Waiting { .. }
            | State::WaitingForDevice { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Collecting { .. }
            | State::BackingOff { .. } => false,
        }
    }

    /// The next number for [`Wanted::Up`]. None is ever given twice: a request for a run that another request has ended must not
    /// be taken for that run.
    pub(crate) fn next_run(&mut self) -> u32 {
        self.last_run = self.last_run.wrapping_add(1);
        self.last_run
    }

    /// Whether it has devices that come and go.
    pub(crate) fn has_hotplug(&self) -> bool {
        let Some(spec) = self.actual() else { return false };
        spec.devices.iter().any(|device| match (&device.select, device.required) {
            (DeviceSelect::Usb(_) | DeviceSelect::Hotplug { .. } | DeviceSelect::Gpio { .. }, _) => true,
            (DeviceSelect::Node { .. }, Required::No) => true,
            (DeviceSelect::Node { .. }, Required::Within(_)) => false,
        })
    }

    /// The lifecycle event for a start that failed in this way.
    pub(crate) fn failed_start(&self, failure: &Failure) -> Event {
        match failure.retry {
            Retry::MayHelp => Event::Ended(End::StartFailed),
            Retry::InVain => Event::Ended(End::StartRefused),
            Retry::WhenDeviceComes => Event::DeviceAbsent { within: self.device_timeout() },
        }
    }

    fn device_timeout(&self) -> Duration {
        let Some(spec) = self.actual() else { return Duration::ZERO };
        let timeout = spec.devices.iter().filter_map(|device| match device.required {
            Required::Within(timeout) => Some(timeout),
            Required::No => None,
        });
        timeout.max().unwrap_or(Duration::ZERO)
    }

    /// What people are shown. `group`: its control group.
    pub(crate) fn status(&self, group: &std::path::Path, now: Moment) -> InstanceStatus {
        let read = |file| if self.is_active() { cgroup::read_number(group, file) } else { None };
        InstanceStatus {
            id: self.id,
            name: self.name.clone(),
            state: self.state.shown(),
            pid: self.payload().map(|(pid, _)| *pid),
            fingerprint: self.actual().map(|spec| spec.image),
            uptime_ms: self.state.since().map(|since| whole_ms(now.saturating_sub(since))),
            restarts: self.restarts,
            start_us: self.run.as_ref().and_then(|run| run.start_us),
            memory_bytes: read("memory.current"),
            memory_limit_bytes: self.run.as_ref().and_then(|run| run.memory_limit_bytes),
            processes: read("pids.current").and_then(|count| u32::try_from(count).ok()),
            oom_kills: self.oom_kills.count(),
            last_failure: self.last_failure.as_deref().cloned(),
            waits_for_restart: self.waits_for_restart(),
            refused: self.refused.as_deref().cloned(),
        }
    }
}

/// What the end of its init means. If the init of a pid namespace calls reboot(2), the kernel ends it by a signal that says what
/// was asked for.
pub(crate) fn end_of_payload(ended: Ended) -> End {
    match ended {
        Ended::Code(0) | Ended::Signal(SIGINT) => End::InOrder,
        Ended::Signal(SIGHUP) => End::Reboot,
        Ended::Code(_) | Ended::Signal(_) => End::Crash,
    }
}

/// The end of a run for people. `killed_after`: how long after it was first asked to stop it was killed.
pub(crate) fn run_end(ended: Ended, killed_after: Option<Duration>) -> RunEnd {
    match (ended, killed_after) {
        (Ended::Signal(SIGKILL), Some(after)) => {
            RunEnd::Killed { after_ms: u32::try_from(after.as_millis()).unwrap_or(u32::MAX) }
        }
        (Ended::Signal(SIGINT), _) => RunEnd::PoweredOff,
        (Ended::Signal(SIGHUP), _) => RunEnd::Rebooted,
        (Ended::Code(code), _) => RunEnd::Code(code),
        (Ended::Signal(signal), _) => RunEnd::Signal(signal),
    }
}

/// How a command ended, for the wire.
pub(crate) fn exit_status(ended: Ended) -> ExitStatus {
    match ended {
        Ended::Code(code) => ExitStatus::Code(code),
        Ended::Signal(signal) => ExitStatus::Signal(signal),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lifecycle::{Action, Gate, Then};
    use yado_spec::instance::{
        Boot, Health, Limits, Readiness, Restart, RestartPolicy, RootSpec, Security, StopMethod,
    };

    /// It has what every instance has.
    pub(crate) fn spec(name: &InstanceName, privileged: bool) -> InstanceSpec {
        let second = Duration::from_secs(1);
        InstanceSpec {
            name: name.clone(),
            image: [0; 32],
            init: vec!["/sbin/init".to_owned()],
            image_stop_method: StopMethod::Signal(15),
            environment: Vec::new(),
            boot: Boot {
                autostart: false,
                delay: Duration::ZERO,
                priority: 0,
                after: Vec::new(),
                shutdown_timeout: second,
                stop_priority: 0,
                stop_method: None,
            },
            health: Health {
                ready: Readiness::Alive { window: second },
                probe: None,
                watchdog: None,
                required: true,
            },
            restart: Restart {
                policy: RestartPolicy::Never,
                first_pause: second,
                longest_pause: second,
                attempts: 1,
            },
            limits: Limits::default(),
            security: Security { privileged, ..Security::default() },
            nics: Vec::new(),
            root: RootSpec::default(),
            disks: Vec::new(),
            devices: Vec::new(),
        }
    }

    #[test]
    fn no_id_of_the_host_belongs_to_an_instance_that_was_given_no_range() {
        let name = InstanceName::parse("one").unwrap();
        let configured = Configured { name: name.clone(), spec: Ok(Rc::new(spec(&name, false))), image: None };
        let mut instance = Instance::new(InstanceId(1), None, configured);
        assert_eq!(instance.host_ids(), None);
        assert!(!instance.has_user(0) && !instance.has_user(1000));
        instance.idmap_base = Some(1_000_000);
        assert_eq!(instance.host_ids(), Some(1_000_000..1_065_536));
        let users = [0, 999_999, 1_000_000, 1_065_535, 1_065_536].map(|uid| instance.has_user(uid));
        assert_eq!(users, [false, false, true, true, false]);
        // It keeps the range that it once had, and does not use it.
        instance.spec = Ok(Rc::new(spec(&name, true)));
        assert_eq!(instance.host_ids(), None);
        assert!(instance.has_user(0) && !instance.has_user(1_000_000));
    }

    #[test]
    fn a_start_after_a_stop_is_not_taken_for_the_run_that_was_ended_for_its_health() {
        let name = InstanceName::parse("one").unwrap();
        let failure = Failure::refused(yado_wire::Step::Spec, "one", "it was not compiled");
        let configured = Configured { name, spec: Err(Box::new(failure)), image: None };
        let mut instance = Instance::new(InstanceId(1), None, configured);
        let second = Duration::from_secs(1);
        let rules = Rules {
            ready: Readiness::Alive { window: second },
            restart: Restart {
                policy: RestartPolicy::OnFailure,
                first_pause: second,
                longest_pause: second,
                attempts: 1,
            },
            stop_timeout: second,
        };
        let run = instance.next_run();
        instance.wanted = Wanted::Up { run };
        let then = Then::AfterEnd { run, crashes: 0, end: End::Crash };
        instance.state = State::Collecting { then, tries: 0, again_at: second };
        // Its last attempt was that one; but somebody stops it, and starts it again before it is gone.
        instance.wanted = Wanted::Down { timeout: second };
        instance.wanted = Wanted::Up { run: instance.next_run() };
        let gone = Event::Gone;
        let (next, action) = lifecycle::step(instance.state, instance.wanted, Gate::Open, gone, second, &rules);
        assert_eq!((next, action), (State::Waiting { run: 2, crashes: 0 }, Action::None));
    }
}
