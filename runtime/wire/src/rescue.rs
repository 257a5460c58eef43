//! What `yado rescue` (and later `api`) asks of init, over `init.sock`: one request packet, then reply packets until one
//! that ends the exchange ([`Reply::Done`], [`Reply::Refused`], [`Reply::Exited`]).

use crate::failure::Failure;
use crate::frame::{DecodeError, VERSION};
use crate::launch::StepTimes;
use crate::names::{AboutInstance, InstanceId, InstanceName, RebootArgument, Text};
use serde::{Deserialize, Serialize};

/// The longest command, all its words and variables together, as [`Command::encode`] writes it.
pub const MAX_COMMAND_BYTES: usize = 32 * 1024;

/// A request to init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Answered by one [`Reply::System`], one [`Reply::Instance`] each, one [`Reply::Service`] each, then `Done`.
    Status,
    /// Answered by [`Reply::Log`] records, oldest first, then `Done`; with `follow` it goes on until the peer hangs up.
    Logs {
        /// Only what this instance's console and events said.
        instance: Option<InstanceName>,
        /// Keep the connection and send what comes.
        follow: bool,
    },
    /// Runs a command in a running instance. Its stdin, stdout and stderr travel along as three descriptors, and as a fourth a
    /// sealed memfd (memfd_create(2), with `F_SEAL_SHRINK`, `F_SEAL_GROW` and `F_SEAL_WRITE`) that holds a [`Command`]. Answered by
    /// `Exited` or `Refused`. The command is killed when the peer hangs up.
    Exec {
        /// Where.
        instance: InstanceName,
    },
    /// Start a stopped or failed instance. Answered when its init runs, or `Refused` with what failed.
    Start(InstanceName),
    /// Stop: ask the payload by its halt signal, wait, then kill the group. Answered when it is gone, or `Refused` when
    /// something of it does not end.
    Stop {
        /// Which.
        instance: InstanceName,
        /// Seconds to wait before killing; `None`: as the instance says.
        timeout_s: Option<u32>,
        /// Do not ask, kill.
        force: bool,
    },
    /// Stop and start.
    Restart(InstanceName),
    /// Answered by [`Reply::Console`] with a stream socket, then `Done`. The stream first gives what the ring holds.
    Console {
        /// Whose console.
        instance: InstanceName,
        /// Take it from whoever has it.
        force: bool,
    },
    /// Orderly: stop all instances, unmount, then reboot. Answered by `Done` at once.
    Reboot,
    /// Orderly: stop all instances, unmount, then power off. Answered by `Done` at once.
    Poweroff,
    /// Answered by [`Reply::Event`] as they come, until the peer hangs up; first those still in the ring.
    Events,
    /// Reads the compiled specs again, and adds, changes and removes instances accordingly. Answered by [`Reply::Applied`] for each
    /// instance that changes or is wrong, then by `Done` when all of it is done. One at a time.
    Apply {
        /// Forgets the ids of instances that are no longer configured, because their layers are going to be deleted. An instance
        /// that later has the same name is a new one.
        forget: bool,
    },
    /// Starts the updater: `yado-updater run WORDS…`, 1 to [`MAX_UPDATE_WORDS`] of together at most [`MAX_UPDATE_BYTES`]. A descriptor
    /// that travels along is its standard input. Answered by one [`Reply::Service`] when it runs, then by `Exited` when it has
    /// ended; or by `Refused`, as while it does what somebody else asked for. If it only goes on with what it began, it is first asked
    /// to end, and is resumed afterwards. One that runs goes on when the peer hangs up.
    Update {
        /// What it is to do.
        words: Vec<String>,
    },
    /// Asks the updater that runs to end (SIGTERM), and kills it if it does not. Answered by `Done` when none runs.
    StopUpdate,
    /// As [`Request::Reboot`], by somebody who says who asks and why, for the next boot: [`last_reset`](crate::last_reset).
    RebootFor {
        /// Who asks: `updater`.
        by: Text<31>,
        /// What for.
        reason: Text<200>,
    },
    /// What a trial is judged by. Answered by one [`Reply::Health`] for each instance, then `Done`.
    Health,
    /// As [`Request::RebootFor`], with an argument for the boot loader (`LINUX_REBOOT_CMD_RESTART2` of reboot(2)).
    RebootWith {
        /// Who asks: `updater`.
        by: Text<31>,
        /// What for.
        reason: Text<200>,
        /// What the kernel passes on.
        argument: RebootArgument,
    },
}

/// The most words of [`Request::Update`].
pub const MAX_UPDATE_WORDS: usize = 16;

/// All words of [`Request::Update`] together are no longer: an address of 2 KiB is as long as web servers take.
pub const MAX_UPDATE_BYTES: usize = 4096;

/// What [`Request::Exec`] runs. Too long for a packet, so it lies in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments; a program without a slash is looked up in the instance's `PATH`. None: the user's own shell, as at a
    /// login.
    pub argv: Vec<String>,
    /// `NAME=value` each, added to the instance's environment.
    pub environment: Vec<String>,
    /// Working directory inside. `None`: `$HOME`, or `/` where there is none.
    pub cwd: Option<String>,
    /// Who runs it.
    pub user: CommandUser,
}

/// Who a command inside runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandUser {
    /// These ids, and no other groups. Nothing is asked of the instance's own files.
    Ids {
        /// User id inside.
        uid: u32,
        /// Group id inside.
        gid: u32,
    },
    /// One whom the instance's own `/etc/passwd` names, with all its groups.
    Name {
        /// As there.
        name: String,
        /// Another first group than there.
        gid: Option<u32>,
    },
}

impl Command {
    /// The bytes of the file: version and postcard, as of a packet. `None`: over [`MAX_COMMAND_BYTES`].
    pub fn encode(&self) -> Option<Vec<u8>> {
        let bytes = postcard::to_extend(self, vec![VERSION]).ok()?;
        (bytes.len() <= MAX_COMMAND_BYTES).then_some(bytes)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// As [`decode`](crate::decode).
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        crate::decode(bytes)
    }
}

/// A reply of init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The system as a whole.
    System(SystemStatus),
    /// One instance.
    Instance(InstanceStatus),
    /// One of our own processes that init supervises.
    Service(ServiceStatus),
    /// One log record.
    Log(LogRecord),
    /// One event.
    Event(Event),
    /// The console's stream socket travels along.
    Console,
    /// The command ended.
    Exited(ExitStatus),
    /// The request is fulfilled.
    Done,
    /// The request is not fulfilled, and nothing is left half done.
    Refused(Failure),
    /// What became of an instance by [`Request::Apply`].
    Applied(Applied),
    /// How an instance does.
    Health(InstanceHealth),
}

/// How an instance does, for who judges a release on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceHealth {
    /// Which.
    pub instance: AboutInstance,
    /// It starts with the system, and `health.required` is not false.
    pub is_required: bool,
    /// Somebody wants it to run.
    pub is_wanted: bool,
    /// Where in its life it is.
    pub state: InstanceState,
    /// Milliseconds since it became ready, while it is.
    pub ready_ms: Option<u64>,
    /// How often it was started again after it ended by itself.
    pub restarts: u32,
    /// How often it was decided that it is not healthy.
    pub unhealthy: u32,
    /// Somebody in it holds the update lock.
    pub holds_update: bool,
    /// Fingerprint of the image that it runs by, or that it would be started by.
    pub fingerprint: Option<[u8; 32]>,
    /// Why it last failed.
    pub last_failure: Option<Failure>,
}

/// What became of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Which one.
    pub instance: AboutInstance,
    /// What became of it.
    pub outcome: ApplyOutcome,
}

/// What an instance's new configuration came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApplyOutcome {
    /// It is new.
    Added,
    /// It is stopped, and nothing of it is left but its layer.
    Removed,
    /// It is as it is configured.
    Changed,
    /// What applies to it at once is as it is configured; the rest waits for its next start.
    WaitsForRestart,
    /// What is wrong. It is as it was.
    Refused(Failure),
    /// Its limits could not be written, and why. All else of its configuration that applies at once does.
    NotLimited(Failure),
}

/// The system as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemStatus {
    /// Version of the init that answers; after an update of a hosted one it can be older than the program that asks.
    pub version: Text<32>,
    /// Booted as PID 1, or hosted.
    pub mode: Mode,
    /// Fingerprint of the running system image; `None` hosted.
    pub fingerprint: Option<[u8; 32]>,
    /// `A` or `B`; `None` hosted.
    pub slot: Option<char>,
    /// Milliseconds since the kernel started, or since init did when hosted.
    pub uptime_ms: u64,
    /// What is wrong with the data partition, if it is not in use: then a file system in memory is.
    pub data: Option<Failure>,
    /// Whether images are verified at each block read, or only at start.
    pub verify: Verify,
}

/// How init runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// PID 1 of a board.
    System,
    /// A daemon on somebody else's Linux.
    Hosted,
}

/// When an image's bytes are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verify {
    /// dm-verity: each block when it is read. The only value on an appliance.
    Block,
    /// The whole image before it is mounted, and again when its file was changed: hosted, where the kernel has no
    /// device-mapper and policy says so.
    Start,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its id, which is never given to another instance, also not to a later one of the same name.
    pub id: InstanceId,
    /// Its name, by which requests address it; renamed, it is another instance.
    pub name: InstanceName,
    /// Where in its life it is.
    pub state: InstanceState,
    /// Its init, as a process of the host; `None`: it does not run.
    pub pid: Option<i32>,
    /// SHA-256 of the header of the image that it runs or would be started from; `None`: its configuration is wrong.
    pub fingerprint: Option<[u8; 32]>,
    /// Milliseconds since it was started; `None`: it does not run.
    pub uptime_ms: Option<u64>,
    /// How often it was started again after it ended by itself.
    pub restarts: u32,
    /// Microseconds from the decision to start it to its init's exec.
    pub start_us: Option<u32>,
    /// Bytes of memory its cgroup uses, if the kernel counts them.
    pub memory_bytes: Option<u64>,
    /// `memory.max` of its group; `None`: no limit, or it does not run.
    pub memory_limit_bytes: Option<u64>,
    /// Threads in its cgroup, as the pids controller counts; `None`: it does not run, or there is no such controller.
    pub processes: Option<u32>,
    /// How often the kernel killed a process in it for want of memory.
    pub oom_kills: u64,
    /// Why it last failed, also when it runs again.
    pub last_failure: Option<Failure>,
    /// Something of its configuration waits for its next start.
    pub waits_for_restart: bool,
    /// What is wrong with its newest configuration, which is not used.
    pub refused: Option<Failure>,
}

/// Where in its life an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstanceState {
    /// Nobody wants it to run.
    Stopped,
    /// It waits for another instance (`after`) or for a required device.
    Waiting,
    /// The launcher is at work.
    Starting,
    /// Its init runs; health has not been reported.
    Running,
    /// Its init runs, and it said that it is ready, was alive for its stable window, or its probe passes.
    Ready,
    /// It was asked to stop, or it has ended and what is left of it is being removed.
    Stopping,
    /// It ended and will be started again.
    BackingOff,
    /// It will not be started again by itself; the last failure says why.
    Failed,
    /// Its init runs, and it is decided that it is not healthy; the last failure says why. It is left as it is, because its
    /// restart policy is `never`. Since version 1.
    Unhealthy,
    /// Something of it does not end though it was killed; the last failure says what. Nothing is started in its place until
    /// it is gone. Since version 1.
    Stuck,
}

impl InstanceState {
    /// The state's name as shown to people and in reports.
    pub fn name(self) -> &'static str {
        match self {
            InstanceState::Stopped => "stopped",
            InstanceState::Waiting => "waiting",
            InstanceState::Starting => "starting",
            InstanceState::Running => "running",
            InstanceState::Ready => "ready",
            InstanceState::Stopping => "stopping",
            InstanceState::BackingOff => "backing-off",
            InstanceState::Failed => "failed",
            InstanceState::Unhealthy => "unhealthy",
            InstanceState::Stuck => "stuck",
        }
    }
}

/// One of our own processes that init supervises (`netd`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name in events and in the log: `netd`, or the file's name in `system.d`.
    pub name: Text<31>,
    /// Its process, while it runs.
    pub pid: Option<i32>,
    /// How often it was started again.
    pub restarts: u32,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(u8),
    /// It was killed by this signal.
    Signal(u8),
}

/// How a run of an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunEnd {
    /// Its init exited with this code.
    Code(u8),
    /// Its init was killed by this signal.
    Signal(u8),
    /// It powered itself off, or halted. Since version 1.
    PoweredOff,
    /// It restarted itself. Since version 1.
    Rebooted,
    /// It was killed, so many milliseconds after it was asked to power off; 0: it was not asked. Since version 1.
    Killed {
        /// Milliseconds.
        after_ms: u32,
    },
}

impl core::fmt::Display for RunEnd {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            RunEnd::Code(code) => write!(out, "ended with code {code}"),
            RunEnd::Signal(signal) => write!(out, "was killed by signal {signal}"),
            RunEnd::PoweredOff => out.write_str("powered off"),
            RunEnd::Rebooted => out.write_str("rebooted"),
            RunEnd::Killed { after_ms: 0 } => out.write_str("killed"),
            RunEnd::Killed { after_ms } => write!(out, "killed after {} s", after_ms / 1000),
        }
    }
}

/// One log record, as journald would have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Milliseconds since the kernel started.
    pub monotonic_ms: u64,
    /// syslog(3) priority, 0 (emergency) to 7 (debug).
    pub priority: u8,
    /// `SYSLOG_IDENTIFIER`: the program, or `instance/NAME` for a console line.
    pub identifier: Text<144>,
    /// `_PID`, as the kernel attested it; 0 when not known.
    pub pid: i32,
    /// `MESSAGE`.
    pub message: Text<2048>,
}

impl LogRecord {
    /// The record in a packet that holds [`Reply::Log`]; `None`: the packet holds something else. PID 1 filters its log by this:
    /// with [`decode`](crate::decode) it would link the readers of all replies, which it only ever writes.
    pub fn in_packet(packet: &[u8]) -> Option<LogRecord> {
        /// The first kinds of [`Reply`]. What a packet of another kind holds is left over, and that is an error.
        #[derive(Deserialize)]
        enum LogReply {
            System,
            Instance,
            Service,
            Log(LogRecord),
        }
        match crate::decode(packet) {
            Ok(LogReply::Log(record)) => Some(record),
            Ok(LogReply::System | LogReply::Instance | LogReply::Service) | Err(_) => None,
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Rises by one with each event since init started.
    pub sequence: u64,
    /// Microseconds since the kernel started (hosted: on the monotonic clock).
    pub monotonic_us: u64,
    /// Which instance, if it is about one.
    pub instance: Option<AboutInstance>,
    /// What. `None`: something that this release does not know and init, of a newer one, does; the stream goes on. Never sent.
    #[serde(with = "crate::skippable")]
    pub kind: Option<EventKind>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A stage of our own start was reached (`modules`, `data`, `netd`, …).
    Stage(Text<31>),
    /// The instance changed its state.
    State(InstanceState),
    /// Its init runs.
    Started {
        /// Microseconds from the decision to the exec.
        start_us: u32,
        /// Microseconds of each step.
        steps: StepTimes,
    },
    /// The payload said `READY=1`, with its last `STATUS=`.
    Ready(Text<128>),
    /// The payload ended.
    Exited(RunEnd),
    /// A start failed.
    Failed(Failure),
    /// The kernel killed processes in it for want of memory.
    OomKill {
        /// How many since the instance was started.
        count: u64,
    },
    /// A fork in it was refused by `limits.processes`.
    ProcessLimit {
        /// How often since the instance was started.
        count: u64,
    },
    /// A device node appeared in it.
    DeviceAdded(Text<64>),
    /// A device node left it.
    DeviceRemoved(Text<64>),
    /// A service of ours ended and is started again.
    ServiceExited {
        /// Its name.
        service: Text<31>,
        /// How it ended.
        status: ExitStatus,
    },
    /// It is configured, and was not before.
    Added,
    /// Its configuration is another. What of it applies at once does.
    Changed,
    /// It is no longer configured, and nothing of it is left but its layer.
    Removed,
    /// Blocks of an image that is in use do not verify. Told of the first, the tenth and the hundredth.
    ImageDamaged {
        /// The file, or which system.
        image: Text<200>,
        /// How many since the start.
        blocks: u32,
    },
}
