//! Programs that run once and end: drivers, the file system of the data partition, the compiler, what unmounts at the end.
//! One at a time, each with a time limit, none waited for: who does not even end when it is killed is given up.

use crate::ending::how_it_ended;
use crate::log::Priority;
use crate::moment::Moment;
use crate::places::Places;
use crate::process::{Output, Start};
use crate::shutdown::FLUSH_LIMIT;
use crate::supervisor::Supervisor;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use yado_spec::file::EXIT_SOME_ARE_BAD;
use yado_sys::children::{self, Ended, SIGKILL, Session};

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Job {
    /// Loads drivers for all devices there are, and what we need ourselves.
    AllDrivers,
    /// Loads drivers for devices that came.
    Drivers(Vec<String>),
    /// Repairs an ext4 file system that was not unmounted.
    Check(PathBuf),
    /// Makes an ext4 file system of this size.
    Format { device: PathBuf, kib: u64 },
    /// Makes an ext4 file system in a file in memory.
    FormatVolatile(PathBuf),
    /// Compiles specs.
    Compile,
    /// Saves the time in this file, unmounts what is on disks, and writes everything back.
    Unmount { clock: PathBuf },
}

/// What was killed and has not ended after this long hangs in the kernel.
const KILLED_LIMIT: Duration = Duration::from_secs(10);

/// The job that runs.
#[derive(Debug)]
struct Running {
    job: Job,
    process: (i32, OwnedFd),
    output: Output,
    due: Due,
}

/// What comes next if it does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// It is killed.
    Kill { at: Moment },
    /// It was killed, and is given up.
    GiveUp { at: Moment },
}

/// At most one job, and those that wait for it to end: of each stage of our start at most one.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    running: Option<Running>,
    waiting: VecDeque<Job>,
}

impl Job {
    /// Its program's name in the log.
    fn name(&self) -> &'static str {
        match self {
            Job::AllDrivers | Job::Drivers(_) => "drivers",
            Job::Check(_) => "e2fsck",
            Job::Format { .. } | Job::FormatVolatile(_) => "mke2fs",
            Job::Compile => "compile",
            Job::Unmount { .. } => "unmount",
        }
    }

    /// How long it may take: a big, slow card is formatted in a minute and checked in some.
    fn limit(&self) -> Duration {
        Duration::from_secs(match self {
            Job::AllDrivers | Job::Drivers(_) | Job::FormatVolatile(_) | Job::Compile => 60,
            Job::Check(_) | Job::Format { .. } => 900,
            Job::Unmount { .. } => return FLUSH_LIMIT,
        })
    }

    pub(crate) fn command(&self, places: &Places) -> (PathBuf, Vec<OsString>) {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<OsString>>();
        let with = |list: &[&str], path: &Path| {
            let mut list = words(list);
            list.push(path.as_os_str().to_owned());
            list
        };
        // By the link, not by its target: after an update the running file may be another than the one by this name.
        let own = || PathBuf::from("/proc/self/exe");
        match self {
            Job::AllDrivers => (own(), words(&["yado-init", "--load-drivers"])),
            Job::Drivers(aliases) => {
                let mut list = words(&["yado-init", "--load-drivers"]);
                list.extend(aliases.iter().map(OsString::from));
                (own(), list)
            }
            Job::Check(device) => (PathBuf::from("/sbin/e2fsck"), with(&["e2fsck", "-p"], device)),
            Job::Format { device, kib } => {
                let mut list = with(&["mke2fs", "-q", "-F", "-t", "ext4", "-L", "data"], device);
                list.push(OsString::from(format!("{kib}K")));
                (PathBuf::from("/sbin/mke2fs"), list)
            }
            // Nothing survives a power cut here anyway: no journal.
            Job::FormatVolatile(file) => (
                PathBuf::from("/sbin/mke2fs"),
                with(&["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^has_journal", "-m", "0"], file),
            ),
            Job::Compile => {
                let mut list = with(&["yado", "compile", "--system"], &places.system);
                for (option, path) in [("--data", &places.data), ("--out", &places.specs())] {
                    list.push(OsString::from(option));
                    list.push(path.as_os_str().to_owned());
                }
                (places.yado.clone(), list)
            }
            Job::Unmount { clock } => (own(), with(&["yado-init", "--unmount"], clock)),
        }
    }
}

impl Jobs {
    /// None runs, and none waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty()
    }

    /// Whether this process is the job's.
    pub(crate) fn is(&self, pid: i32) -> bool {
        self.running.as_ref().is_some_and(|running| running.process.0 == pid)
    }

    /// What it prints.
    pub(crate) fn reader(&self) -> Option<&File> {
        self.running.as_ref().and_then(|running| running.output.reader())
    }

    /// When it is killed, or given up.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.running.as_ref().map(|running| match running.due {
            Due::Kill { at } | Due::GiveUp { at } => at,
        })
    }

    /// None is started any more after the one that runs.
    pub(crate) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// What runs is not waited for any more.
    pub(crate) fn abandon(&mut self) {
        self.running = None;
    }
}

impl Supervisor {
    /// Starts a job, now or after the one that runs. That it could not be started is its end.
    pub(crate) fn start_job(&mut self, job: Job, now: Moment) {
        if self.jobs.running.is_some() {
            self.jobs.waiting.push_back(job);
            return;
        }
        let (path, arguments) = job.command(&self.places);
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
                let due = Due::Kill { at: now.saturating_add(job.limit()) };
                self.jobs.running = Some(Running { job, process: (child.pid, child.pidfd), output, due });
            }
            Err(error) => {
                self.log.say(Priority::Error, format_args!("start {}: {error}", path.display()));
                self.take_job_end(job, Ended::Code(children::EXIT_NOT_EXECUTED), now);
            }
        }
    }

    /// Kills a job that takes too long, and gives up one that hangs.
    pub(crate) fn advance_jobs(&mut self, now: Moment) {
        let Some(running) = &mut self.jobs.running else { return };
        let name = running.job.name();
        match running.due {
            Due::Kill { at } if at <= now => {
                running.due = Due::GiveUp { at: now.saturating_add(KILLED_LIMIT) };
                children::kill(running.process.1.as_fd());
                self.log.say(Priority::Error, format_args!("{name}: takes too long, it is killed"));
            }
            Due::GiveUp { at } if at <= now => {
                self.log
                    .say(Priority::Error, format_args!("{name}: hangs in the kernel, it is not waited for any more"));
                self.note_job_end(Ended::Signal(SIGKILL), now);
            }
            Due::Kill { .. } | Due::GiveUp { .. } => {}
        }
    }

    /// Reads what the job prints.
    pub(crate) fn read_job_output(&mut self, now: Moment) {
        let log = &mut self.log;
        let Some(running) = &mut self.jobs.running else { return };
        let name = running.job.name();
        running.output.read(now, |line| log.record(Priority::Notice as u8, name, 0, line));
    }

    /// The job has ended.
    pub(crate) fn note_job_end(&mut self, ended: Ended, now: Moment) {
        let log = &mut self.log;
        let Some(mut running) = self.jobs.running.take() else { return };
        let name = running.job.name();
        running.output.drain(now, |line| log.record(Priority::Notice as u8, name, 0, line));
        self.take_job_end(running.job, ended, now);
        if let Some(job) = self.jobs.waiting.pop_front() {
            self.start_job(job, now);
        }
    }

    fn take_job_end(&mut self, job: Job, ended: Ended, now: Moment) {
        // What is bad is told with its instance.
        let are_some_bad = job == Job::Compile && ended == Ended::Code(EXIT_SOME_ARE_BAD);
        let is_normal = ended == Ended::Code(0) || are_some_bad;
        if !is_normal {
            self.log.say(Priority::Warning, format_args!("{}: {}", job.name(), how_it_ended(ended)));
        }
        self.advance_boot_after(&job, ended, now);
    }
}
