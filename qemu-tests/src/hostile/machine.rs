//! The machine seen by its root: processor time of our services, memory, tables, kills. Read in one go, so that it costs the
//! board little.

use super::appliance::HOSTILE;
use super::failure::HostileError;
use std::collections::BTreeMap;
use std::time::Duration;

/// One look at the machine.
#[derive(Debug, Clone)]
pub(super) struct Machine(BTreeMap<String, u64>);

/// Two looks: what happened between them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    /// Of the board's clock.
    pub(super) wall: Duration,
    /// Processor time of PID 1.
    pub(super) init: Duration,
    /// The part of it that was spent in the kernel.
    pub(super) init_in_kernel: Duration,
    /// How often PID 1 was woken.
    pub(super) init_wakes: u64,
    /// Processor time of netd.
    pub(super) netd: Duration,
    /// Processor time of everybody but the instances: services, and the kernel's own threads.
    pub(super) outside: Duration,
}

impl Machine {
    /// A shell script that prints what [`Machine::parse`] reads, netd being process `netd`: a name, a number, one to a line.
    pub(super) fn script(netd: u64) -> String {
        format!(
            "awk '{{print \"uptime_ms\", int($1 * 1000)}}' /proc/uptime
             awk '{{print \"init_ticks\", $14 + $15; print \"init_kernel_ticks\", $15}}' /proc/1/stat
             awk '/^voluntary/ {{print \"init_wakes\", $2}}' /proc/1/status
             awk '{{print \"netd_ticks\", $14 + $15}}' /proc/{netd}/stat 2> /dev/null
             awk '{{sub(\":\", \"\", $1); print $1, $2}}' /proc/meminfo
             grep '^oom_kill ' /proc/vmstat
             awk '{{print \"open_files\", $1}}' /proc/sys/fs/file-nr
             awk 'END {{print \"mounts\", NR}}' /proc/self/mounts
             ls /proc/1/fd | awk 'END {{print \"init_fds\", NR}}'
             cat /sys/fs/cgroup/cgroup.stat
             grep usage_usec /sys/fs/cgroup/cpu.stat
             awk '/usage_usec/ {{print \"instances_usec\", $2}}' /sys/fs/cgroup/instances/cpu.stat
             awk '{{print \"hostile_bytes\", $1}}' /sys/fs/cgroup/instances/{HOSTILE}.*/memory.current
             ps | awk '/psimon/ && !/awk/ {{n++}} END {{print \"psimon\", n + 0}}'"
        )
    }

    /// Reads what the script printed.
    pub(super) fn parse(text: &str) -> Result<Machine, HostileError> {
        let pair = |line: &str| {
            let (name, value) = line.trim().split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        Ok(Machine(text.lines().filter_map(pair).collect()))
    }

    /// One number by its name.
    pub(super) fn get(&self, name: &str) -> Result<u64, HostileError> {
        self.0.get(name).copied().ok_or_else(|| HostileError::Lacks { place: "the machine", wanted: name.to_owned() })
    }

    /// What was spent since `earlier`.
    pub(super) fn since(&self, earlier: &Machine) -> Result<Spent, HostileError> {
        let grown = |name: &str| Ok::<u64, HostileError>(self.get(name)?.saturating_sub(earlier.get(name)?));
        // USER_HZ is 100 on every architecture here.
        let ticks = |name: &str| Ok::<Duration, HostileError>(Duration::from_millis(grown(name)? * 10));
        let outside = grown("usage_usec")?.saturating_sub(grown("instances_usec")?);
        Ok(Spent {
            wall: Duration::from_millis(grown("uptime_ms")?),
            init: ticks("init_ticks")?,
            init_in_kernel: ticks("init_kernel_ticks").unwrap_or_default(),
            init_wakes: grown("init_wakes").unwrap_or_default(),
            netd: ticks("netd_ticks").unwrap_or_default(),
            outside: Duration::from_micros(outside),
        })
    }
}

impl Spent {
    /// A share of the time that went by, in percent.
    pub(super) fn percent(&self, of: Duration) -> f64 {
        100.0 * of.as_secs_f64() / self.wall.as_secs_f64().max(0.001)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_spent_is_the_difference_of_two_looks() {
        let look = |uptime: u32, init: u32, all: u32, instances: u32| {
            let text = format!(
                "uptime_ms {uptime}\ninit_ticks {init}\nnoise\nusage_usec {all}\ninstances_usec {instances}\n"
            );
            Machine::parse(&text).unwrap()
        };
        let began = look(10_000, 10, 1_000_000, 500_000);
        let spent = look(14_000, 30, 4_000_000, 3_000_000).since(&began).unwrap();
        assert_eq!((spent.wall, spent.init), (Duration::from_secs(4), Duration::from_millis(200)));
        assert_eq!(spent.outside, Duration::from_millis(500));
        assert!((spent.percent(spent.init) - 5.0).abs() < 0.001);
        assert!(look(0, 0, 0, 0).get("netd_ticks").is_err());
    }
}
