//! Programs that run once and end: loading drivers, the file system of the data partition, the compiler, unmounting at the end.
//! Each has a time limit, and init waits for none. A job that does not end when it is killed is given up.

use crate::boot_clock::Moment;
use crate::instance::cgroup::CgroupWrite;
use crate::last_reset::BY_WATCHDOG;
use crate::log::{Log, Priority};
use crate::paths::Paths;
use crate::process::{KILLED_LIMIT, Output, Start};
use crate::shutdown::sequence::FLUSH_LIMIT;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use yado_spec::instance::Limits;
use yado_sys::children::{self, Ended, Session};
use yado_wire::InstanceId;

/// A program that runs once, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Job {
    /// Loads modules that every instance needs.
    ModulesOfInstances,
    /// Loads modules that netd needs.
    ModulesOfNetworks,
    /// Loads drivers for all devices there are.
    AllDrivers,
    /// Loads drivers for new devices.
    Drivers(Vec<String>),
    /// Repairs an ext4 file system that was not unmounted.
    Check(PathBuf),
    /// Makes an ext4 file system of this size.
    Format { device: PathBuf, kib: u64 },
    /// Mounts the data partition, which may replay a journal.
    Mount { device: PathBuf, kind: &'static str },
    /// Refills the reserve of files on the data partition.
    FillReserve,
    /// Makes an ext4 file system in a file in memory.
    FormatVolatile(PathBuf),
    /// Compiles specs.
    Compile,
    /// Writes the ids and id ranges of all instances to this file on the data partition.
    SaveIdentities { file: PathBuf, text: String },
    /// Writes new limits to the control group of a running instance. A job, because reclaiming memory for a lower limit can take the
    /// kernel long.
    SetLimits {
        instance: InstanceId,
        group: PathBuf,
        writes: Vec<CgroupWrite>,
        /// The limits that it has if that fails.
        before: Box<Limits>,
    },
    /// Notes why the system was started, and that it is up.
    NoteBoot { was_watchdog: bool, slot: Option<char> },
    /// Saves the time in this file and `mark` beside it, unmounts what is on disks, and writes everything back.
    Unmount { clock: PathBuf, mark: String },
}

/// A job whose process has not ended.
#[derive(Debug)]
struct Running {
    job: Job,
    process: (i32, OwnedFd),
    output: Output,
    /// The last line that it printed.
    last_line: String,
    due: JobLimit,
}

/// What is done to a job that does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JobLimit {
    /// It runs: when it is killed.
    Kill { at: Moment },
    /// It was killed: when it is given up.
    GiveUp { at: Moment },
}

impl JobLimit {
    fn at(self) -> Moment {
        match self {
            JobLimit::Kill { at } | JobLimit::GiveUp { at } => at,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobEnd {
    pub(crate) ended: Ended,
    /// The last line that it printed, often the reason of its failure.
    pub(crate) last_line: String,
}

/// Jobs of one lane run one after the other; lanes run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Loading drivers, and jobs that need one.
    Drivers,
    /// Limits of instances that run.
    Limits,
    /// The data partition and what is on it: its disk's driver was loaded by the initramfs.
    Data,
}

impl Lane {
    /// All of them.
    pub(crate) const ALL: [Lane; 3] = [Lane::Drivers, Lane::Data, Lane::Limits];
}

/// The jobs of all lanes.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    drivers: Queue,
    data: Queue,
    limits: Queue,
}

/// At most one job, and those that wait for it to end: of each stage of our start at most one, and of each instance's limits.
#[derive(Debug, Default)]
struct Queue {
    running: Option<Running>,
    waiting: VecDeque<Job>,
}

impl Job {
    /// Its program's name in the log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Job::ModulesOfInstances | Job::ModulesOfNetworks => "modules",
            Job::AllDrivers | Job::Drivers(_) => "drivers",
            Job::Check(_) => "e2fsck",
            Job::Format { .. } | Job::FormatVolatile(_) => "mke2fs",
            Job::Mount { .. } => "mount",
            Job::FillReserve => "reserve",
            Job::Compile => "compile",
            Job::SaveIdentities { .. } => "identities",
            Job::SetLimits { .. } => "limits",
            Job::NoteBoot { .. } => "last-reset",
            Job::Unmount { .. } => "unmount",
        }
    }

    fn lane(&self) -> Lane {
        match self {
            // The stand-in is mounted by a loop device, whose driver may still have to be loaded.
            Job::ModulesOfInstances
            | Job::ModulesOfNetworks
            | Job::AllDrivers
            | Job::Drivers(_)
            | Job::FormatVolatile(_) => Lane::Drivers,
            Job::Check(_)
            | Job::Format { .. }
            | Job::Mount { .. }
            | Job::FillReserve
            | Job::Compile
            | Job::SaveIdentities { .. }
            | Job::NoteBoot { .. }
            | Job::Unmount { .. } => Lane::Data,
            Job::SetLimits { .. } => Lane::Limits,
        }
    }

    /// How long it may take: a big, slow card is formatted in a minute and checked in some. The largest journal, 1 GiB, is
    /// read from one in as long.
    fn limit(&self) -> Duration {
        Duration::from_secs(match self {
            Job::ModulesOfInstances
            | Job::ModulesOfNetworks
            | Job::AllDrivers
            | Job::Drivers(_)
            | Job::FormatVolatile(_)
            | Job::FillReserve
            | Job::Compile
            | Job::NoteBoot { .. }
            | Job::SaveIdentities { .. } => 60,
            Job::SetLimits { .. } => 10,
            Job::Check(_) | Job::Format { .. } => 900,
            Job::Mount { .. } => 300,
            Job::Unmount { .. } => return FLUSH_LIMIT,
        })
    }

    pub(crate) fn command(&self, paths: &Paths) -> (PathBuf, Vec<OsString>) {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<OsString>>();
        let with = |list: &[&str], path: &Path| {
            let mut list = words(list);
            list.push(path.as_os_str().to_owned());
            list
        };
        // By the link, not by its target: after an update the running file may be another than the one by this name.
        let own = || PathBuf::from("/proc/self/exe");
        match self {
            Job::ModulesOfInstances => (own(), words(&["yado-init", "--load-modules", "instances"])),
            Job::ModulesOfNetworks => (own(), words(&["yado-init", "--load-modules", "networks"])),
            Job::AllDrivers => (own(), words(&["yado-init", "--load-drivers"])),
            Job::Drivers(aliases) => {
                let mut list = words(&["yado-init", "--load-drivers"]);
                list.extend(aliases.iter().map(OsString::from));
                (own(), list)
            }
            Job::Check(device) => (PathBuf::from("/sbin/e2fsck"), with(&["e2fsck", "-p"], device)),
            Job::Format { device, kib } => {
                let reserve = reserved_percent(*kib);
                let mut list = with(&["mke2fs", "-q", "-F", "-t", "ext4", "-L", "data", "-m", &reserve], device);
                list.push(OsString::from(format!("{kib}K")));
                (PathBuf::from("/sbin/mke2fs"), list)
            }
            Job::Mount { device, kind } => {
                let mut list = with(&["yado-init", "--mount"], device);
                list.push(OsString::from(kind));
                (own(), list)
            }
            Job::FillReserve => (own(), words(&["yado-init", "--fill-reserve"])),
            // Nothing survives a power cut here anyway: no journal.
            Job::FormatVolatile(file) => (
                PathBuf::from("/sbin/mke2fs"),
                with(&["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^has_journal"], file),
            ),
            Job::Compile => {
                let mut list = with(&["yado", "compile", "--system"], &paths.system);
                for (option, path) in [("--data", &paths.data), ("--out", &paths.specs())] {
                    list.push(OsString::from(option));
                    list.push(path.as_os_str().to_owned());
                }
                (paths.yado.clone(), list)
            }
            Job::SaveIdentities { file, text } => {
                let mut list = with(&["yado-init", "--save-identities"], file);
                list.push(OsString::from(text));
                (own(), list)
            }
            Job::SetLimits { instance: _, group, writes, before: _ } => {
                let mut list = with(&["yado-init", "--set-limits"], group);
                list.extend(writes.iter().map(|write| OsString::from(write.to_string())));
                (own(), list)
            }
            Job::NoteBoot { was_watchdog, slot } => {
                let mut list = with(&["yado-init", "--note-boot"], &paths.data);
                list.push(paths.run.as_os_str().to_owned());
                list.push(OsString::from(if *was_watchdog { BY_WATCHDOG } else { "other" }));
                list.push(OsString::from(slot.map_or("-".to_owned(), String::from)));
                (own(), list)
            }
            Job::Unmount { clock, mark } => {
                let mut list = with(&["yado-init", "--unmount"], clock);
                list.push(OsString::from(mark));
                (own(), list)
            }
        }
    }
}

/// What ext4 keeps for root, which no unprivileged container is: our own files can still be written when containers have
/// filled the rest. (overlayfs writes with the rights of the instance's root, and cannot use it.) Of a small partition
/// mke2fs' own 5 %, of a large one 32 MiB. Of inodes we keep some ourselves: see [`file_reserve`](yado_sys::file_reserve).
fn reserved_percent(kib: u64) -> String {
    const MAX_KIB: u64 = 32 << 10;
    let hundredths = (MAX_KIB * 10_000).checked_div(kib).unwrap_or(u64::MAX).min(500);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

impl Jobs {
    /// None runs in this lane, and none waits.
    pub(crate) fn is_idle(&self, lane: Lane) -> bool {
        let queue = self.queue(lane);
        queue.running.is_none() && queue.waiting.is_empty()
    }

    /// In which lane the job runs that is this process.
    pub(crate) fn lane_of(&self, pid: i32) -> Option<Lane> {
        let is_it = |lane: &Lane| self.queue(*lane).running.as_ref().is_some_and(|running| running.process.0 == pid);
        Lane::ALL.into_iter().find(is_it)
    }

    /// What the job in a lane prints.
    pub(crate) fn reader(&self, lane: Lane) -> Option<&File> {
        self.queue(lane).running.as_ref().and_then(|running| running.output.reader())
    }

    /// When one is killed, or given up.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let running =
            [&self.drivers, &self.data, &self.limits].into_iter().filter_map(|queue| queue.running.as_ref());
        running.map(|running| running.due.at()).min()
    }

    /// Drops the jobs that wait.
    pub(crate) fn forget_waiting(&mut self) {
        self.drivers.waiting.clear();
        self.data.waiting.clear();
        self.limits.waiting.clear();
    }

    /// Gives up the jobs that run.
    pub(crate) fn abandon(&mut self) {
        *self = Jobs::default();
    }

    /// Starts a job, now or after the one that runs in its lane. If it cannot be started, its end is returned.
    pub(crate) fn start(&mut self, job: Job, paths: &Paths, log: &mut Log, now: Moment) -> Option<(Job, JobEnd)> {
        let queue = self.queue_mut(job.lane());
        if queue.running.is_some() {
            // The newer file says all that the older one does.
            let is_older =
                |other: &Job| matches!((other, &job), (Job::SaveIdentities { .. }, Job::SaveIdentities { .. }));
            queue.waiting.retain(|other| !is_older(other));
            queue.waiting.push_back(job);
            return None;
        }
        let (path, arguments) = job.command(paths);
        let started = Output::pipe().and_then(|(output, writer)| {
            let arguments: Vec<_> = arguments.iter().map(OsString::as_os_str).collect();
            let child = Start {
                path: &path,
                arguments: &arguments,
                environment: &[],
                descriptors: &[(writer.as_fd(), 1), (writer.as_fd(), 2)],
                group: None,
                session: Session::Own,
            }
            .start()?;
            Ok((child, output))
        });
        match started {
            Ok((child, output)) => {
                let due = JobLimit::Kill { at: now.saturating_add(job.limit()) };
                let (process, last_line) = ((child.pid, child.pidfd), String::new());
                queue.running = Some(Running { job, process, output, last_line, due });
                None
            }
            Err(error) => {
                log.say(Priority::Error, format_args!("start {}: {error}", path.display()));
                let end = JobEnd { ended: Ended::Code(children::EXIT_NOT_EXECUTED), last_line: String::new() };
                Some((job, end))
            }
        }
    }

    /// The next job of a lane in which none runs any more.
    pub(crate) fn next(&mut self, lane: Lane) -> Option<Job> {
        self.queue_mut(lane).waiting.pop_front()
    }

    /// Kills the job in a lane if it takes too long. `true`: it hangs, and is to be given up.
    pub(crate) fn is_hanging(&mut self, lane: Lane, log: &mut Log, now: Moment) -> bool {
        let Some(running) = &mut self.queue_mut(lane).running else { return false };
        let name = running.job.name();
        match running.due {
            JobLimit::Kill { at } if at <= now => {
                running.due = JobLimit::GiveUp { at: now.saturating_add(KILLED_LIMIT) };
                children::kill(running.process.1.as_fd());
                log.say(Priority::Error, format_args!("{name}: takes too long, it is killed"));
                false
            }
            JobLimit::GiveUp { at } if at <= now => {
                log.say(Priority::Error, format_args!("{name}: hangs in the kernel; init no longer waits for it"));
                true
            }
            JobLimit::Kill { .. } | JobLimit::GiveUp { .. } => false,
        }
    }

    /// Reads what the job in a lane prints.
    pub(crate) fn read_output(&mut self, lane: Lane, log: &mut Log, now: Moment) {
        let Some(running) = &mut self.queue_mut(lane).running else { return };
        let name = running.job.name();
        let last_line = &mut running.last_line;
        running.output.read(now, &mut |line| {
            line.clone_into(last_line);
            log.record(Priority::Notice as u8, name, 0, line);
        });
    }

    /// The job in a lane has ended, or is given up.
    pub(crate) fn end(&mut self, lane: Lane, ended: Ended, log: &mut Log, now: Moment) -> Option<(Job, JobEnd)> {
        let mut running = self.queue_mut(lane).running.take()?;
        let name = running.job.name();
        let mut last_line = running.last_line;
        running.output.drain(now, &mut |line| {
            line.clone_into(&mut last_line);
            log.record(Priority::Notice as u8, name, 0, line);
        });
        Some((running.job, JobEnd { ended, last_line }))
    }

    fn queue(&self, lane: Lane) -> &Queue {
        match lane {
            Lane::Drivers => &self.drivers,
            Lane::Data => &self.data,
            Lane::Limits => &self.limits,
        }
    }

    fn queue_mut(&mut self, lane: Lane) -> &mut Queue {
        match lane {
            Lane::Drivers => &mut self.drivers,
            Lane::Data => &mut self.data,
            Lane::Limits => &mut self.limits,
        }
    }
}
