//! What every guest must do on the board, as the hosted tests of init ask it of the same roots on this machine. It comes by
//! `yado image add` and `yado apply`, and goes on the same board when the next one comes.

use super::bench::{Bench, TIMEOUT, shown_end};
use super::failure::GuestError;
use super::images::OnStick;
use crate::board::container_images::greeting;
use crate::board::outside::{ADDRESS, PAGE};
use crate::board::{BoardError, Seen, own_addresses};
use crate::report::{Observer, Witness};
use qemu_guest::Ended;
use serde_json::{Value, json};
use std::time::Duration;

/// By the board's own clock, which counts instructions, and of the two minutes that each guest has. OpenRC's is the longest: after
/// `openrc off` it stops about twenty services once more, each by two shells.
const ORDERLY: Duration = Duration::from_secs(45);
/// How the addresses begin that netd gives on its own network.
const NETWORK: &str = "10.158.0.";
/// How a run's end is told when the guest powered itself off, and when it rebooted.
const POWERED_OFF: &str = r#"{"powered_off":true}"#;
const REBOOTED: &str = r#"{"rebooted":true}"#;

/// One guest, from the stick to its power off.
pub(super) fn judge(bench: &Bench<'_>, observer: &mut Observer, guest: &OnStick) -> Result<(), GuestError> {
    let name = guest.instance;
    bench.bring(observer, guest)?;
    let judged = Judged { bench, guest };
    let first = judged.is_well(observer, "started")?;

    let began = bench.uptime()?;
    bench.yado(&["rescue", "stop", name])?;
    let took = bench.uptime()?.saturating_sub(began);
    let Seen { shown, holds } = bench.has_nothing_left(name)?;
    let shown = format!("{:.1} s; {shown}", took.as_secs_f64());
    observer.check(Witness::Kernel, "told to stop, it ends in order", shown, holds && took < ORDERLY)?;

    bench.yado(&["rescue", "start", name])?;
    let second = judged.is_well(observer, "started again")?;
    let pids = format!("{first}, then {second}");
    observer.check(Witness::Kernel, "it is another process", &pids, first != second)?;

    bench.yado(&["rescue", "restart", name])?;
    let third = judged.is_well(observer, "restarted")?;
    observer.check(Witness::Kernel, "it is another process", format!("{second}, then {third}"), second != third)?;

    let kept = bench.inside(name, &guest.guest.commands.keep())?;
    observer.check(Witness::Peer, "it keeps a file", shown_end(&kept), kept.ended == Ended::Code(0))?;
    bench.inside(name, &guest.guest.commands.reboot())?;
    bench.wait_instance(name, "is another run", |status| status["pid"].is_number() && status["pid"] != third)?;
    let fourth = judged.is_well(observer, "rebooted from inside")?;
    observer.check(Witness::Kernel, "it is another process", format!("{third}, then {fourth}"), third != fourth)?;
    let is_kept = bench.inside(name, &guest.guest.commands.is_kept())?;
    observer.check(Witness::Peer, "it still has the file", shown_end(&is_kept), is_kept.ended == Ended::Code(0))?;

    bench.inside(name, &guest.guest.commands.power_off())?;
    bench.wait_instance(name, "is stopped", |status| status["state"] == "stopped")?;
    let Seen { shown, holds } = bench.has_nothing_left(name)?;
    observer.check(Witness::Kernel, "powered off from inside, it is stopped", shown, holds)?;
    let ends = ends(&bench.board()?.events()?, name);
    let expected = [POWERED_OFF, POWERED_OFF, REBOOTED, POWERED_OFF];
    observer.check(Witness::OwnWord, "each end is told by its name", ends.join(" "), ends == expected)?;
    judged.told_no_failure(observer)
}

/// The same of one for 32 bits, whose programs must also be told of such a machine.
pub(super) fn judge_of_32_bits(
    bench: &Bench<'_>,
    observer: &mut Observer,
    guest: &OnStick,
) -> Result<(), GuestError> {
    judge(bench, observer, guest)?;
    bench.yado(&["rescue", "start", guest.instance])?;
    bench.wait_instance(guest.instance, "is ready", |status| status["state"] == "ready")?;
    let ran = bench.inside(guest.instance, &["uname", "-m"].map(str::to_owned))?;
    let machine = ran.stdout.trim();
    let is_of_32_bits = matches!(machine, "armv7l" | "armv8l");
    observer.check(Witness::Kernel, "uname -m inside names a machine of 32 bits", machine, is_of_32_bits)?;
    bench.yado(&["rescue", "stop", guest.instance])?;
    Ok(())
}

struct Judged<'j> {
    bench: &'j Bench<'j>,
    guest: &'j OnStick,
}

impl Judged<'_> {
    /// It is ready and answers, has found the network, and runs what it has. Its first process.
    fn is_well(&self, observer: &mut Observer, when: &str) -> Result<Value, GuestError> {
        let (bench, name) = (self.bench, self.guest.instance);
        let commands = self.guest.guest.commands;
        let status = bench.is_ready(observer, &format!("{when}, {name} is ready"), name)?;
        let ran = bench.inside(name, &commands.exits())?;
        observer.check(
            Witness::Peer,
            "a command inside ends as it should",
            shown_end(&ran),
            ran.ended == Ended::Code(7),
        )?;
        if commands.has_network() {
            self.has_network(observer, &status["pid"])?;
        }
        self.programs_run(observer)?;
        if commands == super::expected::Commands::Systemd {
            self.no_unit_failed(observer)?;
        }
        Ok(status["pid"].clone())
    }

    /// An address that netd leased and the kernel shows inside; a neighbour by its name; a server outside.
    fn has_network(&self, observer: &mut Observer, pid: &Value) -> Result<(), GuestError> {
        let (bench, name) = (self.bench, self.guest.instance);
        let board = bench.board()?;
        let table = format!("/proc/{pid}/net/fib_trie");
        let ask = || Ok(json!(board.agent.read_file(&table).map_err(BoardError::Agent)?));
        let address = board.wait_for(&format!("address in {name}"), TIMEOUT, ask, |table| {
            own_addresses(table.as_str()?).find(|address| address.starts_with(NETWORK)).map(str::to_owned)
        })?;
        let leased = board.wait_lease(name, TIMEOUT)?;
        let is_that = leased.split('/').next() == Some(&address);
        let shown = format!("{leased}; inside {address}");
        observer.check(Witness::Kernel, "it has the address that it was leased", shown, is_that)?;
        let said = self.fetch(self.guest.guest.neighbour, 80, &greeting("busybox"))?;
        observer.check(Witness::Peer, "a neighbour answers, asked by its name", &said, true)?;
        let before = bench.outside.answered();
        let said = self.fetch(ADDRESS, bench.outside.port(), PAGE)?;
        let came = bench.outside.answered() - before;
        observer.check(
            Witness::OtherEnd,
            "it reaches a server outside",
            format!("{said}, {came} asked"),
            0 < came,
        )?;
        Ok(())
    }

    /// Asks until the answer has these words: its init may write down where the name server is only later.
    fn fetch(&self, host: &str, port: u16, words: &str) -> Result<String, GuestError> {
        let board = self.bench.board()?;
        let argv = self.guest.guest.commands.fetch(host, port);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let ask = || {
            let ran = board.exec(self.guest.instance, &argv, TIMEOUT)?;
            Ok(Value::String(format!("{}{}", ran.stdout, ran.stderr)))
        };
        Ok(board.wait_for(&format!("page of {host} in {}", self.guest.instance), TIMEOUT, ask, |said| {
            said.as_str()?.lines().find(|line| line.contains(words)).map(str::to_owned)
        })?)
    }

    fn programs_run(&self, observer: &mut Observer) -> Result<(), GuestError> {
        let (board, wanted) = (self.bench.board()?, self.guest.guest.programs);
        let script = format!(
            "for group in $(find /sys/fs/cgroup/instances/{}.* -name cgroup.procs); do cat $group; done 2>/dev/null |
             while read pid; do cat /proc/$pid/comm; done 2>/dev/null",
            self.guest.instance
        );
        let ask = || {
            let said = board.agent.output(&["/bin/sh", "-c", &script], TIMEOUT).map_err(BoardError::Agent)?;
            Ok(Value::String(said))
        };
        let what = format!("{} alone among the processes of {}", wanted.join(", "), self.guest.instance);
        let running = board.wait_for(&what, TIMEOUT, ask, |said| {
            let running: Vec<&str> = said.as_str()?.lines().collect();
            let is_up = wanted.iter().all(|program| running.contains(program));
            let still_boots = running.iter().any(|program| self.guest.guest.boots_by.contains(program));
            (is_up && !still_boots).then(|| running.join(" "))
        })?;
        observer.check(Witness::Kernel, "what it starts is there", running, true)?;
        Ok(())
    }

    fn no_unit_failed(&self, observer: &mut Observer) -> Result<(), GuestError> {
        let words = ["systemctl", "--failed", "--no-legend", "--plain"].map(str::to_owned);
        let ran = self.bench.inside(self.guest.instance, &words)?;
        let failed: Vec<&str> = ran.stdout.lines().filter(|line| !self.guest.guest.may_fail(line)).collect();
        let holds = ran.ended == Ended::Code(0) && failed.is_empty();
        let shown = format!("{}; {}", failed.join(", "), shown_end(&ran));
        observer.check(Witness::Peer, "no unit has failed but what does in any container", shown, holds)?;
        Ok(())
    }

    /// Of what it said on its console, whatever its init.
    fn told_no_failure(&self, observer: &mut Observer) -> Result<(), GuestError> {
        let said = self.bench.yado(&["rescue", "logs", self.guest.instance, "--format", "json"])?;
        let failures = self.guest.guest.told_failures(console_lines(&said));
        let shown = if failures.is_empty() { "none".to_owned() } else { failures.join(" | ") };
        observer.check(
            Witness::Peer,
            "its console tells of no failure but what fails in any container",
            shown,
            failures.is_empty(),
        )?;
        Ok(())
    }
}

/// What it said, of its log in JSON.
fn console_lines(log: &str) -> impl Iterator<Item = String> {
    let records = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.map(|record| record["message"].as_str().unwrap_or_default().trim().to_owned())
}

/// How the runs of an instance ended, oldest first.
fn ends(events: &[Value], instance: &str) -> Vec<String> {
    let of_it = events.iter().filter(|event| event["kind"] == "exited" && event["instance"] == instance);
    of_it.map(|event| event["exit"].to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests_on_board::expected::{SYSTEMD, SYSVINIT};

    #[test]
    fn a_line_that_tells_of_a_failure_is_found_and_one_that_may_is_not() {
        let log =
            |lines: &[&str]| lines.iter().map(|line| format!("{}\n", json!({ "message": line }))).collect::<String>();
        let said = log(&["starting cron ...", "failed!", "mount: after failed mount system call.", "fine"]);
        assert_eq!(SYSVINIT.told_failures(console_lines(&said)), ["starting cron ... failed"]);
        assert_eq!(SYSTEMD.told_failures(console_lines(&said)), [""; 0]);
    }

    #[test]
    fn the_ends_of_one_instance_are_those_of_no_other() {
        let event = |instance: &str, exit: Value| json!({ "kind": "exited", "instance": instance, "exit": exit });
        let events = [
            event("one", json!({ "powered_off": true })),
            event("two", json!({ "code": 1 })),
            event("one", json!({ "rebooted": true })),
        ];
        assert_eq!(ends(&events, "one"), [POWERED_OFF, REBOOTED]);
    }
}
