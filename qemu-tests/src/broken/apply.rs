//! What is configured changes while it runs: each key that applies at once is seen to do so, by what the kernel shows of it. Which
//! keys these are say the compiler's tables, and a test holds the cases here to them.

#[cfg(test)]
mod coverage;
mod devices;
mod limits;
mod networks;
mod rules;

use super::bench::Bench;
use super::failure::BrokenError;
use super::instance_runs::{is_ready, runs};
use crate::report::{Observer, Witness};

pub(super) use devices::come_and_go;
pub(super) use networks::every_network_key;
pub(super) use rules::every_rule;

/// The instance whose configuration changes.
pub(super) const NAME: &str = "changing";

/// What always stands in its file, as words of a shell.
pub(super) const BASE: &str = "'image = \"busybox\"' '[config]' 'boot.autostart = true' 'health.window = \"200ms\"'";

/// What lines and scripts of some cases have to know stands in this file.
const KNOWN: &str = "[ ! -e /run/known ] || . /run/known";

/// Lines of a configuration, and what must hold on the board then, as a shell says it.
struct Case {
    /// The keys of `[config]`, device types, options as `device.mode`, and keys of networks as `bridge.ipv4.nat` that are shown.
    shows: &'static [&'static str],
    what: &'static str,
    /// A shell takes them in double quotes: `$` and `"` are its own.
    lines: &'static str,
    reads: &'static str,
    /// What that prints then, and when the lines are taken away again.
    then: &'static str,
    without: &'static str,
}

/// How often it is looked, a second apart, until it is so.
#[derive(Clone, Copy)]
enum Looks {
    /// It was so before the command returned.
    Once,
    /// A process of ours makes it so in a moment.
    UntilSo,
}

pub(super) fn every_limit(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let said = apply(bench, "")?;
    observer.check(Witness::OwnWord, "a new instance is applied", &said, said.contains("changing: is new"))?;
    is_ready(bench, observer, "it runs", NAME)?;
    take_all(bench, observer, limits::CASES, Looks::Once)
}

/// Applies each of the cases to the instance that runs, and takes it away again.
fn take_all(bench: &mut Bench<'_>, observer: &mut Observer, cases: &[Case], looks: Looks) -> Result<(), BrokenError> {
    let pid = bench.instance(NAME)?["pid"].clone();
    for Case { shows, what, lines, reads, then, without } in cases {
        let read = format!("{KNOWN}; group=$(echo /sys/fs/cgroup/instances/{NAME}.*); pid={pid}; {reads}");
        apply(bench, lines)?;
        let seen = look(bench, &read, then, looks)?;
        let title = format!("{what} applies at once, says the kernel ({})", shows.join(", "));
        observer.check(Witness::Kernel, &title, &seen, seen == *then)?;
        apply(bench, "")?;
        let seen = look(bench, &read, without, looks)?;
        observer.check(Witness::Kernel, "and is lifted again", &seen, seen == *without)?;
    }
    let status = bench.instance(NAME)?;
    runs(bench, observer, "it has run on", NAME, &status, status["pid"] == pid)
}

/// Words that a script prints, looked at again until they are those that are waited for.
fn look(bench: &Bench<'_>, script: &str, awaited: &str, looks: Looks) -> Result<String, BrokenError> {
    let tries = match looks {
        Looks::Once => 1,
        Looks::UntilSo => 30,
    };
    let seen = bench.shell(&format!(
        "reads() {{\n{script}\n}}
         for try in $(seq {tries}); do
             [ $try = 1 ] || sleep 1
             seen=$(reads 2> /dev/null)
             [ \"$(echo $seen)\" = '{awaited}' ] && break
         done
         echo $seen"
    ))?;
    Ok(words(&seen))
}

/// What a person would write by hand. 3: other files on this board are bad.
fn apply(bench: &Bench<'_>, lines: &str) -> Result<String, BrokenError> {
    bench.shell(&format!(
        "{KNOWN}
         printf '%s\\n' {BASE} \"{lines}\" | yado apply - --name {NAME} 2> /dev/null || [ $? = 3 ]"
    ))
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
