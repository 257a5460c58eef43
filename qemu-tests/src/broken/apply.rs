//! What is configured changes while it runs: each key that applies at once is read back from the kernel.

use super::bench::{Bench, shown};
use super::failure::BrokenError;
use crate::report::Observer;

/// The instance whose configuration changes.
pub(super) const NAME: &str = "changing";

/// What always stands in its file, as words of a shell.
pub(super) const BASE: &str = "'image = \"busybox\"' '[config]' 'boot.autostart = true' 'health.window = \"200ms\"'";

/// Lines of its configuration, and what must hold on the board then, as a shell says it.
struct Case {
    key: &'static str,
    lines: &'static str,
    reads: &'static str,
    /// What that prints then, and when the lines are taken away again.
    then: &'static str,
    without: &'static str,
}

const CASES: &[Case] = &[
    Case {
        key: "limits.memory",
        lines: "limits.memory = \"16MiB\"",
        reads: "cat $group/memory.max",
        then: "16777216",
        without: "max",
    },
    Case {
        key: "limits.memory.enforce",
        lines: "limits.memory = \"16MiB\"\n\"limits.memory.enforce\" = \"soft\"",
        reads: "cat $group/memory.max $group/memory.high",
        then: "max 16777216",
        without: "max max",
    },
    Case {
        key: "limits.memory.swap",
        lines: "\"limits.memory.swap\" = false",
        reads: "cat $group/memory.swap.max",
        then: "0",
        without: "max",
    },
    Case {
        key: "limits.cpu",
        lines: "limits.cpu = \"0-0\"",
        reads: "cat $group/cpuset.cpus",
        then: "0",
        // This board has no other.
        without: "0",
    },
    Case {
        key: "limits.cpu, a number",
        lines: "limits.cpu = 1",
        reads: "cat $group/cpuset.cpus.effective",
        then: "0",
        without: "0",
    },
    Case {
        key: "limits.cpu.allowance, a quota",
        lines: "\"limits.cpu.allowance\" = \"20ms/100ms\"",
        reads: "cat $group/cpu.max",
        then: "20000 100000",
        without: "max 100000",
    },
    Case {
        key: "limits.cpu.allowance, a share",
        lines: "\"limits.cpu.allowance\" = \"40%\"",
        reads: "cat $group/cpu.weight",
        then: "40",
        without: "100",
    },
    Case {
        key: "limits.cpu.priority",
        lines: "\"limits.cpu.priority\" = 4",
        reads: "cat $group/cpu.weight",
        then: "94",
        without: "100",
    },
    Case {
        key: "limits.processes",
        lines: "limits.processes = 30",
        reads: "[ $(cat $group/pids.max) = 30 ] && echo 30 || echo more",
        then: "30",
        without: "more",
    },
    Case {
        key: "a unix-char device",
        lines: "[devices.random]\ntype = \"unix-char\"\nsource = \"/dev/zero\"\npath = \"/dev/mine\"\nrequired = false",
        reads: "for n in 1 2 3 4 5 6 7 8; do [ -e /proc/$pid/root/dev/mine ] && break; [ -e /run/waits ] || break; sleep 1; done; \
                [ -e /proc/$pid/root/dev/mine ] && echo there || echo none",
        then: "there",
        without: "none",
    },
];

pub(super) fn every_key(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let said = apply(bench, "")?;
    observer.check("a new instance is applied", &said, said.contains("changing: is new"))?;
    let status = bench.wait_settled(NAME)?;
    let pid = status["pid"].clone();
    observer.check("it runs", shown(&status), status["state"] == "ready")?;
    for Case { key, lines, reads, then, without } in CASES {
        let read = format!("group=$(echo /sys/fs/cgroup/instances/{NAME}.*); pid={pid}; {reads}");
        apply(bench, lines)?;
        let seen = bench.shell(&format!("touch /run/waits; {read}"))?;
        let is_so = words(&seen) == words(then);
        observer.check(&format!("{key} applies at once, says the kernel"), words(&seen), is_so)?;
        apply(bench, "")?;
        // A node is taken away by a process of ours, which needs a moment.
        let seen = bench.shell(&format!("rm /run/waits; sleep 1; {read}"))?;
        observer.check("and is lifted again", words(&seen), words(&seen) == words(without))?;
    }
    let status = bench.instance(NAME)?;
    observer.check("it has run on", shown(&status), status["pid"] == pid)?;
    Ok(())
}

/// What a person would write by hand. 3: other files on this board are bad.
fn apply(bench: &Bench<'_>, lines: &str) -> Result<String, BrokenError> {
    bench.shell(&format!("printf '%s\\n' {BASE} '{lines}' | yado apply - --name {NAME} 2> /dev/null || [ $? = 3 ]"))
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
