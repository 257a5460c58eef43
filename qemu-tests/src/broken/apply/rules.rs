//! How an instance is restarted and judged: rules that change while it runs, and then something happens to it. What came of it is
//! seen by its processes.

use super::{Looks, look};
use crate::broken::bench::{Bench, shown};
use crate::broken::failure::BrokenError;
use crate::report::{Observer, Witness};

/// The instance that is judged.
const RULED: &str = "ruled";

/// What always stands in its file. No profile of the board judges it.
const BASE: &str = "image = 'busybox'\nprofiles = []\n[config]\nboot.autostart = true";

/// An instance starts with some lines, has others applied, and something happens to it.
struct Rule {
    shows: &'static [&'static str],
    what: &'static str,
    /// A shell takes them in double quotes: `$` and `"` are its own.
    before: &'static str,
    /// The state in which the others are applied.
    in_state: &'static str,
    after: &'static str,
    /// What happens then.
    happens: &'static str,
    /// What is read of its processes, and what that prints.
    reads: &'static str,
    then: &'static str,
}

const NOTHING: &str = "true";
/// The first process dies; the kernel ends the others with it.
const KILLED: &str = "kill -9 $pid; while [ -e /proc/$pid ]; do sleep 0.1; done";
/// It dies, and whoever would start it again has had the time.
const KILLED_FOR_LONG: &str = "kill -9 $pid; sleep 5";

/// Whether it has processes, and whether its first one is among them. The group goes with the last.
const PROCESSES: &str = "
pids=$(cat $(find /sys/fs/cgroup/instances/ruled.* -name cgroup.procs))
if [ -z \"$pids\" ]; then echo none
elif echo \"$pids\" | grep -qx $pid; then echo the same
else echo others
fi";
const PROBED: &str = "[ -e /proc/$pid/root/run/probed ] && echo probed || echo not";
const STATE: &str = "yado rescue status ruled | grep -q ready && [ -e /proc/$pid ] && echo ready || echo not";

const QUICK: &str = "health.window = '200ms'\nboot.restart = 'always'\n'boot.restart.pause' = '100ms'";

const RULES: &[Rule] = &[
    Rule {
        shows: &["boot.restart"],
        what: "boot.restart = always",
        before: "health.window = '200ms'",
        in_state: "ready",
        after: QUICK,
        happens: KILLED,
        reads: PROCESSES,
        then: "others",
    },
    Rule {
        shows: &["boot.restart"],
        what: "boot.restart = never",
        before: QUICK,
        in_state: "ready",
        after: "health.window = '200ms'",
        happens: KILLED_FOR_LONG,
        reads: PROCESSES,
        then: "none",
    },
    Rule {
        shows: &["boot.autorestart"],
        what: "boot.autorestart",
        before: "health.window = '200ms'\n'boot.restart.pause' = '100ms'",
        in_state: "ready",
        after: "health.window = '200ms'\n'boot.restart.pause' = '100ms'\nboot.autorestart = true",
        happens: KILLED,
        reads: PROCESSES,
        then: "others",
    },
    Rule {
        shows: &["boot.restart.pause", "boot.restart.pause_max"],
        what: "boot.restart.pause and pause_max, shorter ones",
        before: "health.window = '200ms'\nboot.restart = 'always'\n'boot.restart.pause' = '1h'\n'boot.restart.pause_max' = '1h'",
        in_state: "ready",
        after: "health.window = '200ms'\nboot.restart = 'always'\n'boot.restart.pause' = '1s'\n'boot.restart.pause_max' = '1s'",
        happens: KILLED,
        reads: PROCESSES,
        then: "others",
    },
    Rule {
        shows: &["boot.restart.pause"],
        what: "boot.restart.pause, a longer one",
        before: QUICK,
        in_state: "ready",
        after: "health.window = '200ms'\nboot.restart = 'always'\n'boot.restart.pause' = '1m'",
        happens: KILLED_FOR_LONG,
        reads: PROCESSES,
        then: "none",
    },
    Rule {
        shows: &["boot.restart.attempts"],
        what: "boot.restart.attempts",
        before: QUICK,
        in_state: "ready",
        after: "health.window = '1h'\nboot.restart = 'always'\n'boot.restart.pause' = '100ms'\n'boot.restart.attempts' = 1",
        happens: KILLED_FOR_LONG,
        reads: PROCESSES,
        then: "none",
    },
    Rule {
        shows: &["health.window"],
        what: "health.window",
        before: "health.window = '1h'",
        in_state: "running",
        after: "health.window = '200ms'",
        happens: NOTHING,
        reads: STATE,
        then: "ready",
    },
    Rule {
        shows: &["health.ready"],
        what: "health.ready",
        before: "health.ready = 'notify'\nhealth.timeout = '1h'",
        in_state: "running",
        after: "health.window = '200ms'",
        happens: NOTHING,
        reads: STATE,
        then: "ready",
    },
    Rule {
        shows: &["health.timeout"],
        what: "health.timeout",
        before: "health.ready = 'notify'\nhealth.timeout = '1h'\nboot.restart = 'always'",
        in_state: "running",
        after: "health.ready = 'notify'\nhealth.timeout = '1s'\nboot.restart = 'always'",
        happens: NOTHING,
        reads: PROCESSES,
        then: "others",
    },
    Rule {
        shows: &["health.probe"],
        what: "health.probe",
        before: "health.window = '200ms'",
        in_state: "ready",
        after: "health.window = '200ms'\nhealth.probe = 'exec:/bin/touch /run/probed'\n'health.probe.interval' = '1s'",
        happens: NOTHING,
        reads: PROBED,
        then: "probed",
    },
    Rule {
        shows: &["health.probe.interval"],
        what: "health.probe.interval",
        before: "health.window = '200ms'\nhealth.probe = 'exec:/bin/touch /run/probed'\n'health.probe.interval' = '1h'",
        in_state: "ready",
        after: "health.window = '200ms'\nhealth.probe = 'exec:/bin/touch /run/probed'\n'health.probe.interval' = '1s'",
        happens: "rm -f /proc/$pid/root/run/probed",
        reads: PROBED,
        then: "probed",
    },
    Rule {
        shows: &["health.probe.timeout"],
        what: "health.probe.timeout",
        before: "health.window = '200ms'\nboot.restart = 'always'\n'boot.restart.pause' = '100ms'\n\
                 health.probe = 'exec:/bin/sleep 2'\n'health.probe.interval' = '1s'\n'health.probe.timeout' = '1m'\n\
                 'health.probe.failures' = 1",
        in_state: "ready",
        after: "health.window = '200ms'\nboot.restart = 'always'\n'boot.restart.pause' = '100ms'\n\
                 health.probe = 'exec:/bin/sleep 2'\n'health.probe.interval' = '1s'\n'health.probe.timeout' = '100ms'\n\
                 'health.probe.failures' = 1",
        happens: NOTHING,
        reads: PROCESSES,
        then: "others",
    },
    Rule {
        shows: &["health.probe.failures"],
        what: "health.probe.failures",
        before: "health.window = '200ms'\nboot.restart = 'always'\n'boot.restart.pause' = '100ms'\n\
                 health.probe = 'exec:/bin/false'\n'health.probe.interval' = '1s'\n'health.probe.failures' = 1000",
        in_state: "ready",
        after: "health.window = '200ms'\nboot.restart = 'always'\n'boot.restart.pause' = '100ms'\n\
                 health.probe = 'exec:/bin/false'\n'health.probe.interval' = '1s'\n'health.probe.failures' = 1",
        happens: NOTHING,
        reads: PROCESSES,
        then: "others",
    },
    Rule {
        shows: &["boot.host_shutdown_timeout"],
        what: "boot.host_shutdown_timeout",
        before: "health.window = '200ms'\nboot.host_shutdown_timeout = 3600",
        in_state: "ready",
        after: "health.window = '200ms'\nboot.host_shutdown_timeout = 1",
        // It cannot do what it is asked.
        happens: "kill -STOP $pid; yado rescue stop ruled",
        reads: PROCESSES,
        then: "none",
    },
    Rule {
        shows: &["security.protection.start"],
        what: "security.protection.start",
        before: "health.window = '200ms'",
        in_state: "ready",
        after: "health.window = '200ms'\nsecurity.protection.start = true",
        happens: "yado rescue stop --force ruled; yado rescue start ruled; sleep 3",
        reads: PROCESSES,
        then: "none",
    },
    Rule {
        shows: &["device.required"],
        what: "required of a device that it waits for",
        before: "[devices.relays]\ntype = 'gpio'\nchip = 'nowhere'\nrequired = true\n'required.timeout' = '1h'",
        in_state: "waiting",
        after: "[devices.relays]\ntype = 'gpio'\nchip = 'nowhere'\nrequired = false",
        happens: NOTHING,
        reads: PROCESSES,
        then: "others",
    },
    Rule {
        shows: &["device.required.timeout"],
        what: "required.timeout of a device that it waits for",
        before: "[devices.relays]\ntype = 'gpio'\nchip = 'nowhere'\nrequired = true\n'required.timeout' = '1h'",
        in_state: "waiting",
        after: "[devices.relays]\ntype = 'gpio'\nchip = 'nowhere'\nrequired = true\n'required.timeout' = '1s'",
        happens: NOTHING,
        // It has no processes before and after.
        reads: "yado rescue status ruled | grep -q failed && echo failed || echo waits",
        then: "failed",
    },
];

pub(in crate::broken) fn every_rule(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    for Rule { shows, what, before, in_state, after, happens, reads, then } in RULES {
        apply(bench, "security.protection.start = true")?;
        bench.shell(&format!("yado rescue stop --force {RULED}"))?;
        apply(bench, before)?;
        // It says when the instance is ready, which some never are.
        bench.shell(&format!("yado rescue start {RULED} > /dev/null 2>&1 &"))?;
        let wanted = format!("is {in_state}");
        let status = bench.wait_instance(RULED, &wanted, |status| status["state"] == *in_state)?;
        let pid = status["pid"].as_u64().unwrap_or_default();
        let said = apply(bench, after)?;
        bench.shell(&format!("pid={pid}; ({happens}) > /dev/null 2>&1 || true"))?;
        let seen = look(bench, &format!("pid={pid}; {reads}"), then, Looks::UntilSo)?;
        let shown =
            if seen == *then { seen.clone() } else { format!("{seen}; {}; {said}", shown(&bench.instance(RULED)?)) };
        let witness = if reads.contains("yado rescue") { Witness::OwnWord } else { Witness::Kernel };
        observer.check(
            witness,
            &format!("{what} is followed at once ({})", shows.join(", ")),
            shown,
            seen == *then,
        )?;
    }
    bench.shell(&format!("rm -r /data/instances/{RULED}; yado apply --delete-data 2> /dev/null || [ $? = 3 ]"))?;
    Ok(())
}

/// What a person would write by hand. 3: other files on this board are bad.
fn apply(bench: &Bench<'_>, lines: &str) -> Result<String, BrokenError> {
    bench.shell(&format!("printf '%s\\n' \"{BASE}\" \"{lines}\" | yado apply - --name {RULED} 2>&1 || [ $? = 3 ]"))
}

#[cfg(test)]
pub(super) fn shown_keys() -> impl Iterator<Item = &'static str> {
    RULES.iter().flat_map(|rule| rule.shows).copied()
}
