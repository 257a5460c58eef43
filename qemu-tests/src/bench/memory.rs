//! What init, its datagram reader and netd take at rest, with two and with ten containers, and so what one more container costs.

use super::appliance::{DEBIAN, EIGHT_MORE, TWO};
use super::{BenchError, BenchReport, output, wait_ready};
use crate::board::{Board, BoardError};
use serde::Serialize;
use std::thread::sleep;
use std::time::Duration;

/// design.md 9.
const INIT_PSS_KIB: u64 = 1024;
const ALL_PSS_KIB: u64 = 1536;
const ONE_MORE_KIB: f64 = 64.0;
/// Our processes rest when nobody wanted anything from them for so long.
const REST: Duration = Duration::from_secs(10);

/// Our own processes at rest.
#[derive(Debug, Clone, Serialize)]
pub(super) struct AtRest {
    containers: usize,
    /// Ours, containers' not counted; the tests' agent is not ours.
    processes: usize,
    init: Memory,
    reader: Memory,
    netd: Memory,
    /// What the kernel itself takes on the whole board.
    kernel_kib: u64,
    /// netd just after it was asked something: what it then gives back is code that only work needs.
    netd_at_work: Memory,
}

/// Of `/proc/PID/smaps_rollup`.
#[derive(Debug, Clone, Copy, Serialize)]
struct Memory {
    pss_kib: u64,
    private_dirty_kib: u64,
}

/// Measures twice, and compares with the budgets. What was started for it is stopped again.
pub(super) fn measure(board: &Board, report: &mut BenchReport) {
    println!("\nmemory of our own processes at rest, in KiB");
    println!(
        "   containers  processes  init PSS (private dirty)  reader PSS (private dirty)  netd PSS (private dirty)  netd PSS at work"
    );
    let few = only_two(board).and_then(|()| at_rest(board, TWO.len()));
    let started = start(board, &EIGHT_MORE).and_then(|()| at_rest(board, TWO.len() + EIGHT_MORE.len()));
    let many = report.keep("memory with ten containers", started);
    let few = report.keep("memory with two containers", few);
    let stop = [&["rescue", "stop", "--force"], EIGHT_MORE.as_slice()].concat();
    report.keep("the others stop", output(board, &[&["/usr/bin/yado"], stop.as_slice()].concat()));
    let (Some(few), Some(many)) = (few, many) else { return };
    report.memory = vec![few.clone(), many.clone()];
    compare(&few, &many, report);
}

fn compare(few: &AtRest, many: &AtRest, report: &mut BenchReport) {
    let all = |at_rest: &AtRest| at_rest.init.pss_kib + at_rest.reader.pss_kib + at_rest.netd.pss_kib;
    let containers = many.containers;
    report.promise(
        format!("init takes at most {INIT_PSS_KIB} KiB with {containers} containers"),
        format!("PSS {} KiB", many.init.pss_kib),
        many.init.pss_kib <= INIT_PSS_KIB,
    );
    report.promise(
        format!(
            "init, its datagram reader and netd together take at most {ALL_PSS_KIB} KiB with {containers} containers"
        ),
        format!("PSS {} KiB", all(many)),
        all(many) <= ALL_PSS_KIB,
    );
    let one_more = (all(many) as f64 - all(few) as f64) / (many.containers - few.containers) as f64;
    report.promise(
        format!("one more container costs us less than {ONE_MORE_KIB} KiB"),
        format!("PSS {one_more:+.1} KiB"),
        one_more < ONE_MORE_KIB,
    );
    let of_kernel = (many.kernel_kib as f64 - few.kernel_kib as f64) / (many.containers - few.containers) as f64;
    println!("   one more container takes {of_kernel:.0} KiB of the kernel's own memory: {KERNEL_FIELDS:?}");
    report.promise(
        "one more container costs us no process".to_owned(),
        format!("{} with {}, {} with {containers}", few.processes, few.containers, many.processes),
        few.processes == many.processes,
    );
}

/// Debian, which came with the boot, makes room for a second container of busybox.
fn only_two(board: &Board) -> Result<(), BenchError> {
    output(board, &["/usr/bin/yado", "rescue", "stop", "--force", DEBIAN])?;
    start(board, &TWO)
}

fn start(board: &Board, names: &[&str]) -> Result<(), BenchError> {
    output(board, &[&["/usr/bin/yado", "rescue", "start"], names].concat())?;
    wait_ready(board, names)
}

fn at_rest(board: &Board, containers: usize) -> Result<AtRest, BenchError> {
    let status = board.status()?;
    let services = status["services"].as_array().into_iter().flatten();
    let netd = services.clone().find(|service| service["name"] == "netd").and_then(|netd| netd["pid"].as_u64());
    let netd = netd.ok_or_else(|| lacks("the status", "process of netd"))?;
    let netd_at_work = memory(board, netd)?;
    let processes = count_processes(board)?;
    sleep(REST);
    let measured = AtRest {
        containers,
        processes,
        init: memory(board, 1)?,
        reader: memory(board, reader(board)?)?,
        netd: memory(board, netd)?,
        kernel_kib: kernel_memory(board)?,
        netd_at_work,
    };
    let AtRest { containers, processes, init, reader, netd, kernel_kib: _, netd_at_work } = &measured;
    println!(
        "   {containers:>10}  {processes:>9}  {:>8} ({:>4})           {:>8} ({:>4})             {:>8} ({:>4})           {:>8}",
        init.pss_kib,
        init.private_dirty_kib,
        reader.pss_kib,
        reader.private_dirty_kib,
        netd.pss_kib,
        netd.private_dirty_kib,
        netd_at_work.pss_kib
    );
    Ok(measured)
}

/// The datagram reader: the one process beside PID 1 that executes init's program.
fn reader(board: &Board) -> Result<u64, BenchError> {
    let script =
        "for exe in /proc/[0-9]*/exe; do [ \"$(readlink $exe)\" = /sbin/yado-init ] && echo $exe; done; true";
    let found = output(board, &["/bin/sh", "-c", script])?;
    let mut pids = found.lines().filter_map(|path| path.strip_prefix("/proc/")?.strip_suffix("/exe")?.parse().ok());
    pids.find(|pid| *pid != 1).ok_or_else(|| lacks("/proc", "process of the datagram reader"))
}

/// Those that execute one of the two programs, whatever they are called.
fn count_processes(board: &Board) -> Result<usize, BenchError> {
    let programs = output(board, &["/bin/sh", "-c", "for exe in /proc/[0-9]*/exe; do readlink $exe; done; true"])?;
    Ok(programs.lines().filter(|path| ["/sbin/yado-init", "/usr/bin/yado"].contains(path)).count())
}

fn memory(board: &Board, pid: u64) -> Result<Memory, BenchError> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = board.agent.read_file(&path).map_err(BoardError::Agent)?;
    parse_memory(&text).ok_or_else(|| lacks(&path, "Pss and Private_Dirty"))
}

fn parse_memory(rollup: &str) -> Option<Memory> {
    let field = |name: &str| {
        let value = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some(Memory { pss_kib: field("Pss:")?, private_dirty_kib: field("Private_Dirty:")? })
}

/// Objects, stacks, page tables, and what each processor has its own of.
const KERNEL_FIELDS: [&str; 4] = ["Slab", "KernelStack", "PageTables", "Percpu"];

fn kernel_memory(board: &Board) -> Result<u64, BenchError> {
    const PATH: &str = "/proc/meminfo";
    let text = board.agent.read_file(PATH).map_err(BoardError::Agent)?;
    parse_kernel_memory(&text).ok_or_else(|| lacks(PATH, "kernel's own memory"))
}

fn parse_kernel_memory(meminfo: &str) -> Option<u64> {
    let field = |name: &str| -> Option<u64> {
        let value = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix(" kB")?.parse().ok()
    };
    KERNEL_FIELDS.into_iter().map(field).sum()
}

fn lacks(place: &str, wanted: &str) -> BenchError {
    BenchError::Lacks { place: place.to_owned(), wanted: wanted.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_rollup_is_read_by_its_names() {
        let text = "00010000-bee30000 ---p 00000000 00:00 0   [rollup]\n\
            Rss:                 700 kB\nPss:                 512 kB\nPss_Dirty:            90 kB\n\
            Private_Clean:       400 kB\nPrivate_Dirty:        88 kB\n";
        let memory = parse_memory(text).unwrap();
        assert_eq!((memory.pss_kib, memory.private_dirty_kib), (512, 88));
        assert!(parse_memory("Rss: 700 kB\n").is_none());
    }

    #[test]
    fn the_kernels_own_memory_is_the_sum_of_its_lines() {
        let text = "MemTotal:         239276 kB\nSlab:              20000 kB\nSReclaimable:       7000 kB\n\
            KernelStack:         900 kB\nPageTables:          300 kB\nPercpu:               40 kB\n";
        assert_eq!(parse_kernel_memory(text), Some(21240));
        assert_eq!(parse_kernel_memory(&text.replace("Percpu", "Perhaps")), None);
    }
}
