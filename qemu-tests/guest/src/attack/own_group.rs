//! The instance's own limits: raised by itself.

use super::kernel_doors::rewrite_all;
use super::{Attempt, Expected, Outcome, Watched};
use rustix::process::{Resource, Rlimit};
use std::fs::File;
use std::io::Write;
use std::path::Path;

pub(super) const ATTEMPTS: &[Attempt] = &[
    own("group-limits", "the instance's own limits are written", limits),
    own("group-freeze", "the instance's own group is frozen or killed from inside", freeze),
    own("group-psi", "a pressure trigger is set on the instance's own group", trigger),
    own("rlimits", "hard limits are raised", rlimits),
    own("oom-score", "this process is spared by the out-of-memory killer", oom_score),
    own("nice", "this process goes before all others", priority),
    own("realtime", "this process is never interrupted", realtime),
    own("fork-bomb", "children are started until one is refused", fork_bomb),
    own("memory-hog", "memory is taken until a process is killed", memory_hog),
];

const GROUP: &str = "/sys/fs/cgroup";

const fn own(name: &'static str, what: &'static str, run: fn() -> Outcome) -> Attempt {
    Attempt { name, what, run, watched: Watched::Inside, expected: Expected::Held }
}

fn limits() -> Outcome {
    const FILES: [&str; 8] = [
        "memory.max",
        "memory.high",
        "memory.swap.max",
        "memory.oom.group",
        "pids.max",
        "cpu.max",
        "cpu.weight",
        "cgroup.max.descendants",
    ];
    let paths: Vec<_> = FILES.iter().map(|file| Path::new(GROUP).join(file)).collect();
    rewrite_all(paths.iter().map(|path| path.as_path()))
}

/// Only opened: a write would end the test.
fn freeze() -> Outcome {
    let open = |file: &str| File::options().write(true).open(Path::new(GROUP).join(file));
    Outcome::of(open("cgroup.freeze").or_else(|_| open("cgroup.kill")), "it could be")
}

fn trigger() -> Outcome {
    let set = || -> std::io::Result<()> {
        let mut file = File::options().read(true).write(true).open(Path::new(GROUP).join("memory.pressure"))?;
        file.write_all(b"some 500000 1000000\0")
    };
    match set() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Outcome::not_here("memory.pressure"),
        set => Outcome::of(set, "set"),
    }
}

fn rlimits() -> Outcome {
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
    let Some(more) = hard.map(|hard| hard + 1) else { return Outcome::succeeded("nofile has no limit") };
    let raised = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(more), maximum: Some(more) });
    Outcome::of(raised.map_err(std::io::Error::from), "nofile was raised")
}

fn oom_score() -> Outcome {
    let written =
        File::options().write(true).open("/proc/self/oom_score_adj").and_then(|mut file| file.write_all(b"-1000"));
    Outcome::of(written, "written")
}

fn priority() -> Outcome {
    Outcome::of(rustix::process::setpriority_process(None, -20).map_err(std::io::Error::from), "granted")
}

fn realtime() -> Outcome {
    Outcome::of(yado_sys::hostile::become_realtime(), "granted")
}

fn fork_bomb() -> Outcome {
    const MAX: usize = 4096;
    let mut children = Vec::new();
    let refused = loop {
        match super::floods::sleeper().spawn() {
            Ok(child) if children.len() < MAX => children.push(child),
            Ok(_) => break None,
            Err(error) => break Some(error),
        }
    };
    let count = children.len();
    for mut child in children {
        let _ = child.kill();
        let _ = child.wait();
    }
    match refused {
        Some(error) => Outcome::bounded(format!("{count} children, then {}", super::verdict::errno_name(&error))),
        None => Outcome::succeeded(format!("{count} children and no end")),
    }
}

/// In a child: whoever takes the memory is who is killed.
fn memory_hog() -> Outcome {
    match super::floods::hog().status() {
        Ok(status) if status.success() => Outcome::succeeded("512 MiB and no end"),
        Ok(status) => Outcome::bounded(status),
        Err(error) => Outcome::refused(&error),
    }
}
