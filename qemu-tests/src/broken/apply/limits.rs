//! What an instance may use: its group's files.

use super::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        shows: &["limits.memory"],
        what: "limits.memory",
        lines: "limits.memory = '16MiB'",
        reads: "cat $group/memory.max",
        then: "16777216",
        without: "max",
    },
    Case {
        shows: &["limits.memory.enforce"],
        what: "limits.memory.enforce",
        lines: "limits.memory = '16MiB'\n'limits.memory.enforce' = 'soft'",
        reads: "cat $group/memory.max $group/memory.high",
        then: "max 16777216",
        without: "max max",
    },
    Case {
        shows: &["limits.memory.swap"],
        what: "limits.memory.swap",
        lines: "'limits.memory.swap' = false",
        reads: "cat $group/memory.swap.max",
        then: "0",
        without: "max",
    },
    Case {
        shows: &["limits.cpu"],
        what: "limits.cpu, one that is named",
        lines: "limits.cpu = '1-1'",
        reads: "cat $group/cpuset.cpus.effective",
        then: "1",
        // The board of this step has two.
        without: "0-1",
    },
    Case {
        shows: &["limits.cpu"],
        what: "limits.cpu, a number",
        lines: "limits.cpu = 1",
        reads: "case $(cat $group/cpuset.cpus.effective) in 0 | 1) echo one ;; 0-1) echo two ;; esac",
        then: "one",
        without: "two",
    },
    Case {
        shows: &["limits.cpu.allowance"],
        what: "limits.cpu.allowance, a quota",
        lines: "'limits.cpu.allowance' = '20ms/100ms'",
        reads: "cat $group/cpu.max",
        then: "20000 100000",
        without: "max 100000",
    },
    Case {
        shows: &["limits.cpu.allowance"],
        what: "limits.cpu.allowance, a share",
        lines: "'limits.cpu.allowance' = '40%'",
        reads: "cat $group/cpu.weight",
        then: "40",
        without: "100",
    },
    Case {
        shows: &["limits.cpu.priority"],
        what: "limits.cpu.priority",
        lines: "'limits.cpu.priority' = 4",
        reads: "cat $group/cpu.weight",
        then: "94",
        without: "100",
    },
    Case {
        shows: &["limits.processes"],
        what: "limits.processes",
        lines: "limits.processes = 30",
        reads: "[ $(cat $group/pids.max) = 30 ] && echo 30 || echo more",
        then: "30",
        without: "more",
    },
];
