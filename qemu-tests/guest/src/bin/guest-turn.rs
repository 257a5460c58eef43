//! Runs one command and tells what it cost: time until all that it wrote is on the disk, bytes written as the kernel counts them, and
//! memory of all its processes. Reads a `Turn` from its standard input and prints a `Turned`; judges nothing.
//!
//! The command runs in a control group of its own, so that whatever it starts is known.

use qemu_guest::Ended;
use qemu_guest::turn::{Memory, Peaks, Turn, Turned};
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: guest-turn < TURN    or    guest-turn enter GROUP PROGRAM [ARGUMENT…]";
/// Where the command runs.
const GROUP: &str = "/sys/fs/cgroup/turn";
/// Between two looks at the memory.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// So much of what it said is told.
const MAX_SAID_BYTES: usize = 2000;
/// Of the kernel's statistics, whatever the disk's own sectors are.
const SECTOR_BYTES: u64 = 512;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [] => measure(),
        ["enter", group, program, arguments @ ..] => Err(enter(group, program, arguments)),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("guest-turn: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Goes into the group and becomes the program; comes back only if that fails.
fn enter(group: &str, program: &str, arguments: &[&str]) -> String {
    let procs = Path::new(group).join("cgroup.procs");
    match fs::write(&procs, "0") {
        Ok(()) => format!("run {program}: {}", Command::new(program).args(arguments).exec()),
        Err(error) => format!("{}: {error}", procs.display()),
    }
}

fn measure() -> Result<(), String> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|error| format!("read the turn: {error}"))?;
    let turn = serde_json::from_str(&text).map_err(|error| format!("not a turn: {error}"))?;
    let turned = take(&turn)?;
    println!("{}", serde_json::to_string(&turned).map_err(|error| error.to_string())?);
    Ok(())
}

fn take(turn: &Turn) -> Result<Turned, String> {
    let Turn { argv, environment, disk, partition, services, memory } = turn;
    fs::create_dir_all(GROUP).map_err(|error| format!("{GROUP}: {error}"))?;
    let own = std::env::current_exe().map_err(|error| format!("our own program: {error}"))?;
    let mut command = Command::new(own);
    command.args(["enter", GROUP]).args(argv).envs(environment.iter().cloned()).stdin(Stdio::null());
    rustix::fs::sync();
    let groups: Vec<PathBuf> = services.iter().map(PathBuf::from).chain([GROUP.into()]).collect();
    let before = [Written::of(disk)?, Written::of(partition)?];
    let [user_before, system_before] = worked(&groups);
    let is_over = AtomicBool::new(false);
    let began = Instant::now();
    let (output, micros, peaks) = thread::scope(|scope| {
        let sampler =
            (*memory == Memory::Sampled).then(|| scope.spawn(|| sample(&groups, || is_over.load(Ordering::SeqCst))));
        let output = command.output();
        rustix::fs::sync();
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        is_over.store(true, Ordering::SeqCst);
        (output, micros, sampler.and_then(|sampler| sampler.join().ok()))
    });
    let output = output.map_err(|error| format!("run {}: {error}", argv.join(" ")))?;
    let [user_after, system_after] = worked(&groups);
    let [disk_before, partition_before] = before;
    let [disk_after, partition_after] = [Written::of(disk)?, Written::of(partition)?];
    let ended = match (output.status.code(), output.status.signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, signal) => Ended::Signal(signal.unwrap_or(0)),
    };
    Ok(Turned {
        ended,
        said: end_of(&[output.stdout, output.stderr].concat()),
        micros,
        user_micros: user_after.saturating_sub(user_before),
        system_micros: system_after.saturating_sub(system_before),
        disk_written_bytes: disk_after.written_bytes - disk_before.written_bytes,
        partition_written_bytes: partition_after.written_bytes - partition_before.written_bytes,
        disk_read_bytes: disk_after.read_bytes - disk_before.read_bytes,
        peaks,
    })
}

fn end_of(said: &[u8]) -> String {
    String::from_utf8_lossy(&said[said.len().saturating_sub(MAX_SAID_BYTES)..]).trim().to_owned()
}

/// What the kernel counts of a disk or a partition (Documentation/block/stat.rst).
struct Written {
    read_bytes: u64,
    written_bytes: u64,
}

impl Written {
    fn of(device: &str) -> Result<Written, String> {
        let path = format!("/sys/class/block/{device}/stat");
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let sectors = |place: usize| text.split_whitespace().nth(place).and_then(|word| word.parse::<u64>().ok());
        match (sectors(2), sectors(6)) {
            (Some(read), Some(written)) => {
                Ok(Written { read_bytes: read * SECTOR_BYTES, written_bytes: written * SECTOR_BYTES })
            }
            _ => Err(format!("{path}: no count of sectors")),
        }
    }
}

/// What the processors have worked for these groups, outside and inside of the kernel, in microseconds (cgroup-v2.rst, `cpu.stat`).
fn worked(groups: &[PathBuf]) -> [u64; 2] {
    let texts: Vec<String> =
        groups.iter().map(|group| fs::read_to_string(group.join("cpu.stat")).unwrap_or_default()).collect();
    ["user_usec", "system_usec"].map(|name| texts.iter().filter_map(|text| number(text, name)).sum())
}

/// Looks at the processes of these groups until it is over.
fn sample(groups: &[PathBuf], mut is_over: impl FnMut() -> bool) -> Peaks {
    let mut peaks = Peaks::default();
    while !is_over() {
        let (mut processes, mut rss_kib, mut pss_kib) = (0, 0, 0);
        for group in groups {
            // A service that is not started yet has no group.
            let pids = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines() {
                // One that ends just now has nothing any more.
                let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let Some(rss) = number(&rollup, "Rss:") else { continue };
                processes += 1;
                rss_kib += rss;
                pss_kib += number(&rollup, "Pss:").unwrap_or(0);
                peaks.one_process_kib = peaks.one_process_kib.max(number(&status, "VmHWM:").unwrap_or(0));
            }
        }
        peaks.processes = peaks.processes.max(processes);
        peaks.rss_kib = peaks.rss_kib.max(rss_kib);
        peaks.pss_kib = peaks.pss_kib.max(pss_kib);
        thread::sleep(LOOK_AGAIN);
    }
    peaks
}

/// The number behind this name.
fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_whole_name() {
        let rollup = "00-ff ---p 0 00:00 0 [rollup]\nRss:   700 kB\nPss:   512 kB\nPss_Dirty:  90 kB\n";
        assert_eq!(
            (number(rollup, "Rss:"), number(rollup, "Pss:"), number(rollup, "VmHWM:")),
            (Some(700), Some(512), None)
        );
    }

    #[test]
    fn the_memory_of_a_running_process_is_seen() {
        let group = std::env::temp_dir().join(format!("guest-turn-{}", std::process::id()));
        fs::create_dir_all(&group).unwrap_or_default();
        fs::write(group.join("cgroup.procs"), std::process::id().to_string()).unwrap_or_default();
        let mut looks = 0;
        let peaks = sample(std::slice::from_ref(&group), || {
            looks += 1;
            2 < looks
        });
        let _ = fs::remove_dir_all(&group);
        assert_eq!(peaks.processes, 1, "{peaks:?}");
        assert!(0 < peaks.pss_kib && peaks.pss_kib <= peaks.rss_kib && 0 < peaks.one_process_kib, "{peaks:?}");
    }
}
