//! The control group of an instance: which files hold its limits (pure), and how the group is made, killed and removed.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use yado_spec::instance::{CpuAllowance, Cpus, Limits, MemoryLimit};
use yado_spec::kernel_table_share;
use yado_sys::directory_tree::{self, Removal};
use yado_sys::machine;
use yado_wire::{Failure, Step};

/// The controllers that limits and figures need.
const CONTROLLERS: [&str; 5] = ["cpu", "memory", "pids", "cpuset", "io"];

/// The files of limits, and whose they are.
const LIMIT_FILES: [(&str, &str); 8] = [
    ("memory", "memory.max"),
    ("memory", "memory.high"),
    ("memory", "memory.oom.group"),
    ("memory", "memory.swap.max"),
    ("cpu", "cpu.weight"),
    ("cpu", "cpu.max"),
    ("cpuset", "cpuset.cpus"),
    ("pids", "pids.max"),
];

/// By this file a group and all below are frozen, and go on.
pub(crate) const FREEZE: &str = "cgroup.freeze";

/// How deep below an instance's group others may lie; systemd makes five levels, and containers in its services some more.
const MAX_DEPTH: u32 = 16;

/// How many groups one call removes. Each may take a slow board half a millisecond, and init does nothing else meanwhile.
const MAX_REMOVALS: u32 = 32;

/// A 64-bit number and the end of its line.
const MAX_NUMBER_BYTES: usize = 24;

/// So many processes are kept for the system where the kernel gives few: threads of its own, services and launchers.
const MIN_RESERVE: u64 = 64;

/// One file of a control group and what is written into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupWrite {
    /// The controller it belongs to.
    pub(crate) controller: &'static str,
    /// The name of a file in the control group.
    pub(crate) file: &'static str,
    pub(crate) value: String,
}

/// What says `limits` on a machine with so much memory and these processors, the ones to take first before the others.
/// What is left at the kernel's default is not written, so it needs no controller.
pub(crate) fn limit_writes(limits: &Limits, machine_bytes: u64, processors: &[u16]) -> Vec<CgroupWrite> {
    let mut writes = Vec::new();
    let mut add = |controller, file, value: String| writes.push(CgroupWrite { controller, file, value });
    if let Some(memory) = limits.memory {
        let bytes = memory.bytes(machine_bytes).to_string();
        match memory {
            MemoryLimit::Hard(_) | MemoryLimit::HardPercent(_) => add("memory", "memory.max", bytes),
            MemoryLimit::Soft(_) | MemoryLimit::SoftPercent(_) => add("memory", "memory.high", bytes),
        }
        // One process is killed for lack of memory, not all: the instance's init restarts what it lost.
        add("memory", "memory.oom.group", "0".to_owned());
    }
    if let Some(swap_bytes) = limits.swap_bytes {
        add("memory", "memory.swap.max", swap_bytes.to_string());
    }
    let share = match limits.cpu {
        Some(CpuAllowance::Share(percent)) => u16::from(percent),
        Some(CpuAllowance::Quota { .. }) | None => 100,
    };
    // LXD's rule: the priority is taken off the share.
    let weight = share.saturating_sub(u16::from(10u8.saturating_sub(limits.cpu_priority))).max(1);
    if weight != 100 {
        add("cpu", "cpu.weight", weight.to_string());
    }
    if let Some(CpuAllowance::Quota { quota_us, period_us }) = limits.cpu {
        add("cpu", "cpu.max", format!("{quota_us} {period_us}"));
    }
    match &limits.cpus {
        Some(Cpus::Set(list)) => add("cpuset", "cpuset.cpus", list.clone()),
        Some(Cpus::Count(count)) => {
            let count = usize::from(*count).max(1);
            if let Some(taken) = processors.get(..count).filter(|_| count < processors.len()) {
                let list: Vec<String> = taken.iter().map(u16::to_string).collect();
                add("cpuset", "cpuset.cpus", list.join(","));
            }
        }
        None => {}
    }
    if let Some(processes) = limits.processes {
        add("pids", "pids.max", processes.to_string());
    }
    writes
}

/// What makes the limits of a running instance, which were written as `before`, those that are written as `now`. What is not
/// limited any more gets the value that a new group has.
pub(crate) fn limit_changes(before: &[CgroupWrite], now: &[CgroupWrite]) -> Vec<CgroupWrite> {
    let is_lifted = |old: &&CgroupWrite| now.iter().all(|new| new.file != old.file);
    let lifted = before.iter().filter(is_lifted).filter_map(|old| {
        let value = match old.file {
            "memory.max" | "memory.high" | "memory.swap.max" => "max".to_owned(),
            "cpu.max" => "max 100000".to_owned(),
            "cpu.weight" => "100".to_owned(),
            "pids.max" => max_processes()?,
            // All that its parent has.
            "cpuset.cpus" => String::new(),
            _ => return None,
        };
        Some(CgroupWrite { controller: old.controller, file: old.file, value })
    });
    let changed = now.iter().filter(|new| !before.contains(new)).cloned();
    // What is lifted first: two limits that exclude each other never stand together.
    lifted.chain(changed).collect()
}

/// The helper: writes limits to the group of an instance that runs.
pub(crate) fn run_set_limits(group: &Path, writes: &[String]) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for write in writes {
        let Some(write) = CgroupWrite::parse(write) else {
            println!("{write}: is not FILE=VALUE of a limit");
            return ExitCode::FAILURE;
        };
        // A group in which something runs may not have none: it gets all that its parent has.
        let of_parent = write.value.is_empty().then(|| group.join("../cpuset.cpus.effective"));
        let value = of_parent.map_or(Ok(write.value.clone()), fs::read_to_string);
        if let Err(error) = value.and_then(|value| fs::write(group.join(write.file), value)) {
            println!("{}", limit_failure(group, &write, &error));
            code = ExitCode::FAILURE;
        }
    }
    code
}

impl CgroupWrite {
    /// Parses what [`Display`](fmt::Display) writes.
    fn parse(text: &str) -> Option<CgroupWrite> {
        let (file, value) = text.split_once('=')?;
        let (controller, file) = LIMIT_FILES.iter().find(|(_, known)| *known == file)?;
        Some(CgroupWrite { controller, file, value: value.to_owned() })
    }
}

impl fmt::Display for CgroupWrite {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}={}", self.file, self.value)
    }
}

/// The processors of a machine, those first on which the fewest of the other instances were put.
pub(crate) fn by_use(online: &[u16], others: &[Vec<u16>]) -> Vec<u16> {
    let uses = |processor: &u16| others.iter().filter(|list| list.contains(processor)).count();
    let (mut left, mut ordered) = (online.to_vec(), Vec::new());
    // Of equals the first. A handful of numbers is not worth the code of a sort.
    while let Some((at, _)) = left.iter().enumerate().min_by_key(|(_, processor)| uses(processor)) {
        ordered.push(left.remove(at));
    }
    ordered
}

/// The processors in a file of a group, such as `0-2,7`. None where it is missing, or says none.
pub(crate) fn read_processors(group: &Path, file: &str) -> Vec<u16> {
    parse_processors(&fs::read_to_string(group.join(file)).unwrap_or_default())
}

fn parse_processors(text: &str) -> Vec<u16> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// Makes the group, empty and fresh, and writes its limits. What a predecessor of the same name left is killed and removed
/// first. Where that takes longer the next attempt goes on with it: only processes that cannot be killed keep an instance from
/// starting, and these still use its files.
pub(crate) fn create(group: &Path, writes: &[CgroupWrite]) -> Result<(), Failure> {
    let object = group.to_string_lossy();
    if group.exists() {
        kill(group);
        match remove(group) {
            Ok(Removal::Done) => {}
            Ok(Removal::More) => {
                return Err(Failure::refused(
                    Step::Cgroup,
                    &object,
                    "groups of its last run are still being removed",
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                return Err(Failure::refused(Step::Cgroup, &object, "processes of its last run cannot be killed"));
            }
            Err(error) => return Err(Failure::from_io(Step::Cgroup, &object, &error)),
        }
    }
    fs::create_dir(group).map_err(|error| Failure::from_io(Step::Cgroup, &object, &error))?;
    // Its root may make groups below. These two files stay ours.
    let descendants = kernel_table_share::control_groups(machine::memory_bytes());
    for (file, value) in [("cgroup.max.depth", MAX_DEPTH), ("cgroup.max.descendants", descendants)] {
        fs::write(group.join(file), value.to_string())
            .map_err(|error| Failure::from_io(Step::Cgroup, &group.join(file).to_string_lossy(), &error))?;
    }
    if let Some(processes) = max_processes() {
        // Without the controller there is no such file, and only a limit that was asked for is missed.
        let _ = fs::write(group.join("pids.max"), processes);
    }
    for write in writes {
        let path = group.join(write.file);
        if let Err(error) = fs::write(&path, &write.value) {
            return Err(limit_failure(group, write, &error));
        }
    }
    Ok(())
}

/// Bounds the group that holds all instances: whatever they do together, processes are left for the system. Without the
/// controller there is no such file, and no bound.
pub(crate) fn bound_all(groups: &Path) {
    if let Some(processes) = read_processes_of_all() {
        let _ = fs::write(groups.join("pids.max"), processes.to_string());
    }
}

/// How many processes an instance may have whose limit nobody says: half of what all may have, so that no single one keeps all
/// others from starting any.
fn max_processes() -> Option<String> {
    read_processes_of_all().map(|processes| (processes / 2).to_string())
}

fn read_processes_of_all() -> Option<u64> {
    let kernel = Path::new("/proc/sys/kernel");
    Some(processes_of_all(read_number(kernel, "threads-max")?, read_number(kernel, "pid_max")?))
}

/// How many processes all instances together may have: what the kernel gives, by number of threads or of ids, but an eighth of
/// it, and at least [`MIN_RESERVE`].
fn processes_of_all(max_threads: u64, max_pid: u64) -> u64 {
    let all = max_threads.min(max_pid);
    all.saturating_sub((all / 8).max(MIN_RESERVE)).max(1)
}

/// Gives the children of `parent` all controllers that there are. A controller that cannot be had is missed only by the
/// limit that needs it.
pub(crate) fn enable_controllers(parent: &Path) {
    for controller in CONTROLLERS {
        let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Kills all processes in the group and below.
pub(crate) fn kill(group: &Path) {
    // Gone already, or a kernel before 5.14, where the payload's pid namespace dies with its first process anyway.
    let _ = fs::write(group.join("cgroup.kill"), "1");
}

/// The processes in the group itself.
pub(crate) fn processes(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Removes the group and the groups below it, at most [`MAX_REMOVALS`] of them. `ResourceBusy`: there are processes in it.
pub(crate) fn remove(group: &Path) -> io::Result<Removal> {
    directory_tree::remove(group, MAX_REMOVALS)
}

/// Kills and removes what is below the group for instances, and the group: an init that was killed leaves its containers, which
/// nobody keeps any more. This is before our loop begins or after it has ended, so it may wait.
pub(crate) fn clear_away(groups: &Path) {
    const MAX_PAUSES: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(20);
    // Many times what containers that are killed may have left.
    const MAX_PORTIONS: u32 = 10_000;
    let mut pauses = 0u32;
    for _ in 0..MAX_PORTIONS {
        kill(groups);
        match remove(groups) {
            Ok(Removal::More) => {}
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && pauses < MAX_PAUSES => {
                pauses = pauses.saturating_add(1);
                std::thread::sleep(PAUSE);
            }
            Ok(Removal::Done) | Err(_) => return,
        }
    }
}

/// The number in a file of one number. `None`: no such file (the controller is missing), or no number (`max`).
pub(crate) fn read_number(group: &Path, file: &str) -> Option<u64> {
    // A status reads some of these of every instance: no call more than it takes.
    let mut buffer = [0; MAX_NUMBER_BYTES];
    let len = fs::File::open(group.join(file)).ok()?.read(&mut buffer).ok()?;
    core::str::from_utf8(buffer.get(..len)?).ok()?.trim().parse().ok()
}

/// Whether `limits.processes` lets no further process into a group.
pub(crate) fn is_at_process_limit(group: &Path) -> bool {
    match (read_number(group, "pids.current"), read_number(group, "pids.max")) {
        (Some(current), Some(max)) => max <= current,
        (None, _) | (_, None) => false,
    }
}

/// The number behind `name` in a file of `name number` lines.
pub(crate) fn parse_count(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn limit_failure(group: &Path, write: &CgroupWrite, error: &io::Error) -> Failure {
    let controllers = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    if controllers.split_whitespace().any(|name| name == write.controller) {
        let failure = Failure::from_io(Step::Limits, &format!("{} = {}", write.file, write.value), error);
        // A value that this kernel does not know it will not know later either.
        let is_lasting = error.kind() == io::ErrorKind::InvalidInput;
        return if is_lasting { failure.in_vain() } else { failure };
    }
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let v1 = fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let reason = missing_reason(write.controller, &command_line, &v1);
    let failure = Failure::refused(Step::Limits, &format!("{} = {}", write.file, write.value), &reason);
    Failure { errno: error.raw_os_error().unwrap_or(0), ..failure }.in_vain()
}

/// Why a controller is missing, as far as the kernel's command line and `/proc/cgroups` tell.
fn missing_reason(controller: &str, command_line: &str, proc_cgroups: &str) -> String {
    let disabled = command_line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("cgroup_disable="))
        .any(|list| list.split(',').any(|name| name == controller));
    if disabled {
        return format!("the kernel was booted with cgroup_disable={controller}: remove it");
    }
    // subsys_name hierarchy num_cgroups enabled
    let fields = proc_cgroups.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        (fields.next() == Some(controller)).then(|| (fields.next(), fields.nth(1)))
    });
    match fields {
        Some((_, Some("0"))) => {
            format!("controller {controller} is off: boot the kernel with cgroup_enable={controller}")
        }
        Some((Some(hierarchy), _)) if hierarchy != "0" => {
            format!("controller {controller} is taken by cgroup v1: boot the kernel with cgroup_no_v1={controller}")
        }
        // cgroups(7), "no internal processes": an init in a container that is not alone in the group it found itself in.
        Some(_) => format!(
            "controller {controller} was not given to this group: the one above has processes of its own, or does not have it"
        ),
        None => format!("the kernel has no controller {controller}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    fn written(limits: &Limits) -> Vec<String> {
        limit_writes(limits, 256 << 20, &[2, 3, 0, 1])
            .iter()
            .map(|write| format!("{}={}", write.file, write.value))
            .collect()
    }

    #[test]
    fn limits_become_files() {
        let none = Limits { cpu_priority: 10, ..Limits::default() };
        assert_eq!(written(&none), [""; 0]);
        let all = Limits {
            memory: Some(MemoryLimit::Hard(32 << 20)),
            swap_bytes: Some(0),
            cpu: Some(CpuAllowance::Quota { quota_us: 25_000, period_us: 100_000 }),
            cpus: Some(Cpus::Count(2)),
            cpu_priority: 5,
            processes: Some(50),
            kernel: Vec::new(),
        };
        assert_eq!(
            written(&all),
            [
                "memory.max=33554432",
                "memory.oom.group=0",
                "memory.swap.max=0",
                "cpu.weight=95",
                "cpu.max=25000 100000",
                "cpuset.cpus=2,3",
                "pids.max=50",
            ]
        );
        let soft = Limits {
            memory: Some(MemoryLimit::SoftPercent(50)),
            cpu: Some(CpuAllowance::Share(3)),
            cpus: Some(Cpus::Count(9)),
            cpu_priority: 0,
            ..Limits::default()
        };
        assert_eq!(written(&soft), ["memory.high=134217700", "memory.oom.group=0", "cpu.weight=1"]);
    }

    #[test]
    fn no_instance_may_have_all_processes_and_a_limit_of_its_own_stands() {
        let directory = tempfile::tempdir().unwrap();
        let made = |name: &str, limits: &Limits| {
            let group = directory.path().join(name);
            create(&group, &limit_writes(limits, 256 << 20, &[])).unwrap();
            read_number(&group, "pids.max").unwrap()
        };
        bound_all(directory.path());
        let all = read_number(directory.path(), "pids.max").unwrap();
        assert_eq!(made("usual", &Limits { cpu_priority: 10, ..Limits::default() }), all / 2);
        assert_eq!(made("own", &Limits { cpu_priority: 10, processes: Some(50), ..Limits::default() }), 50);
    }

    #[test]
    fn all_instances_together_leave_processes_for_the_system() {
        // 64 MiB; 256 MiB; and a machine that has fewer ids than threads.
        assert_eq!(processes_of_all(440, 32_768), 376);
        assert_eq!(processes_of_all(1_900, 32_768), 1_663);
        assert_eq!(processes_of_all(256_000, 32_768), 28_672);
        // Nothing is left to give, and no limit would be none.
        assert_eq!(processes_of_all(20, 32_768), 1);
    }

    #[test]
    fn instances_are_spread_over_the_processors() {
        let online = parse_processors("0-2,4\n");
        assert_eq!(online, [0, 1, 2, 4]);
        assert_eq!(parse_processors("\n"), [0; 0]);
        assert_eq!(by_use(&online, &[]), online);
        assert_eq!(by_use(&online, &[vec![0], vec![0, 1], vec![]]), [2, 4, 1, 0]);
        assert_eq!(by_use(&online, &[vec![0], vec![1], vec![2], vec![4], vec![0]]), [1, 2, 4, 0]);
    }

    #[test]
    fn a_missing_controller_is_named_with_the_parameter_that_brings_it() {
        // /proc/cgroups of a Raspberry Pi's kernel, of a machine with cgroup v1, and of one that has all.
        let off = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t0\t60\t1\nmemory\t0\t60\t0\n";
        let v1 = "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t5\t1\t1\n";
        let here = "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t60\t1\n";
        let not_given = "controller memory was not given to this group: the one above has processes of its own, or does not have it";
        let table = [
            ("", here, not_given),
            ("console=tty", off, "controller memory is off: boot the kernel with cgroup_enable=memory"),
            ("x cgroup_disable=pids,memory", off, "the kernel was booted with cgroup_disable=memory: remove it"),
            ("", v1, "controller memory is taken by cgroup v1: boot the kernel with cgroup_no_v1=memory"),
            ("", "", "the kernel has no controller memory"),
        ];
        for (command_line, cgroups, reason) in table {
            assert_eq!(missing_reason("memory", command_line, cgroups), reason);
        }
    }

    #[test]
    fn what_cgroup_files_of_any_text_say_is_a_number_and_a_reason_of_one_line() {
        let seeds: [&[u8]; 3] = [
            b"low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n",
            b"#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t5\t1\t1\n",
            b"quiet cgroup_disable=pids,memory\n",
        ];
        fuzz("cgroup files", &seeds.map(<[u8]>::to_vec), &["memory\t0", "cgroup_disable=", "oom_kill "], |bytes| {
            let text = String::from_utf8_lossy(bytes);
            if let Some(count) = parse_count(&text, "oom_kill") {
                assert_eq!(parse_count(&format!("oom_kill {count}\n"), "oom_kill"), Some(count));
            }
            for reason in [missing_reason("memory", &text, ""), missing_reason("memory", "", &text)] {
                assert_eq!(reason.lines().count(), 1, "{reason:?}");
                assert!(!reason.contains(char::is_control), "{reason:?}");
            }
        });
    }

    #[test]
    fn counts_are_found_by_their_whole_name() {
        let events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(parse_count(events, "oom_kill"), Some(2));
        assert_eq!(parse_count(events, "oom"), Some(3));
        assert_eq!(parse_count(events, "kill"), None);
        assert_eq!(parse_count("max 7", "max"), Some(7));
    }
}
