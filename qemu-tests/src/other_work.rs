//! How much of this machine's processors others take while something of ours runs: a time that was measured beside them says
//! nothing of us.

use std::fs;

/// What has been used since the machine was switched on, when it was asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessorTime {
    /// Of all processors, idle or not.
    all: u64,
    /// By anybody; what a hypervisor took away counts too.
    used: u64,
    /// By us and by the children that we waited for.
    ours: u64,
}

impl ProcessorTime {
    /// As it is now. `None`: the kernel does not tell.
    pub fn now() -> Option<ProcessorTime> {
        let (all, used) = parse_all(&fs::read_to_string("/proc/stat").ok()?)?;
        let ours = parse_own(&fs::read_to_string("/proc/self/stat").ok()?)?;
        Some(ProcessorTime { all, used, ours })
    }

    /// The part of the machine that others took from `self` until `later`, from 0 to 1.
    pub fn others_until(&self, later: &ProcessorTime) -> f64 {
        let all = later.all.saturating_sub(self.all);
        let ours = later.ours.saturating_sub(self.ours);
        let others = later.used.saturating_sub(self.used).saturating_sub(ours);
        if all == 0 { 0.0 } else { others as f64 / all as f64 }
    }
}

/// All and used ticks, from the first line of proc(5)'s `stat`: `cpu user nice system idle iowait irq softirq steal guest …`.
fn parse_all(stat: &str) -> Option<(u64, u64)> {
    /// A guest's time is in its host's `user` already.
    const COUNTED: usize = 8;
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(COUNTED);
    let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    let all = ticks.iter().sum::<u64>();
    let [_, _, _, idle, waiting, ..] = ticks.as_slice() else { return None };
    Some((all, all - idle - waiting))
}

/// `utime`, `stime`, `cutime` and `cstime` of proc(5)'s `PID/stat`. The name before them may have blanks in it.
fn parse_own(stat: &str) -> Option<u64> {
    /// `utime` is field 14; what stands behind the name begins with field 3.
    const UTIME: usize = 14 - 3;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(UTIME).take(4).map(str::parse).collect::<Result<_, _>>().ok()?;
    (ticks.len() == 4).then(|| ticks.iter().sum())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_neither_idle_nor_ours_is_others() {
        let before = ProcessorTime { all: 1000, used: 100, ours: 40 };
        let after = ProcessorTime { all: 2000, used: 700, ours: 540 };
        assert_eq!(before.others_until(&after), 0.1);
        assert_eq!(before.others_until(&before), 0.0);
    }

    #[test]
    fn the_kernels_lines_are_read_by_their_places() {
        let stat = "cpu  10 1 20 300 50 2 3 4 9 9\ncpu0 10 1 20 300 50 2 3 4 9 9\n";
        assert_eq!(parse_all(stat), Some((390, 40)));
        assert_eq!(parse_all("cpu0 1 2 3 4 5\n"), None);
        let own = "7 (a b) c) S 1 7 7 0 -1 4194560 99 98 97 96 11 22 33 44 20 0 1 0 5 6 7\n";
        assert_eq!(parse_own(own), Some(110));
        assert_eq!(parse_own("7 (a) S 1 7"), None);
    }

    #[test]
    fn this_machine_tells_and_time_goes_on() {
        let now = ProcessorTime::now().unwrap();
        let later = ProcessorTime::now().unwrap();
        assert!(now.ours <= now.used && now.used <= now.all && now.all <= later.all);
    }
}
