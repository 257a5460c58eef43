//! What every guest must do. The witnesses: the kernel's view of its processes and interface, the network outside, and how the
//! kernel says that its runs ended.

use super::expected::{Commands, Guest};
use super::outside::{self, Outside};
use crate::host::{self, Host, Running};
use crate::name;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use yado_wire::rescue::{ExitStatus, InstanceState, Reply, Request, RunEnd};

/// Of 30 s that it has; Debian's own scripts wait for some seconds, and OpenRC's for ten on a busy machine.
const ORDERLY: Duration = Duration::from_secs(25);

/// How long a command may take, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Judges a guest, where its root is given.
pub(super) fn judge(guest: &Guest) {
    let Some(root) = root_of(guest.name) else { return };
    let Some(host) = Host::with(&[]) else { return };
    if let Some(tool) = ["ip", "nsenter", "dnsmasq"].into_iter().find(|tool| !has_tool(tool)) {
        return println!("SKIPPED: needs the program {tool}");
    }
    for (network, text) in outside::NETWORKS {
        host.write_network(network, text);
    }
    let nic = "[devices.eth0]\ntype = \"nic\"\nnetwork = \"lan0\"\n";
    host.add_instance_of(&root, guest.name, &format!("[config]\nboot.autostart = true\n{}{nic}", guest.health));
    let mut host = host.start();
    let outside = Outside::of(&host);
    let judged = Judged { guest, host: &host, outside: &outside };

    judged.is_well("first");
    let (stopped, took) = judged.stop();
    assert_eq!(judged.host.ask(&Request::Start(name(guest.name))), [Reply::Done]);
    judged.is_well("started-again");
    let first = host.status(guest.name).pid;
    assert_eq!(host.ask(&Request::Restart(name(guest.name))), [Reply::Done]);
    assert_ne!(host.status(guest.name).pid, first);
    judged.is_well("restarted");
    judged.succeeds(guest.commands.keep());
    judged.reboots();
    judged.is_well("rebooted");
    judged.succeeds(guest.commands.is_kept());
    judged.run(guest.commands.power_off());
    host.wait_for(guest.name, InstanceState::Stopped);

    let ends = host.ends(guest.name, 4);
    println!("{}: stopped in {took:?}: {stopped}; ends {ends:?}", guest.name);
    let expected = [RunEnd::PoweredOff, RunEnd::PoweredOff, RunEnd::Rebooted, RunEnd::PoweredOff];
    assert_eq!(ends, expected, "{}", guest.name);
    assert!(took < ORDERLY, "{took:?}");
    let failures = guest.told_failures(judged.printed());
    assert_eq!(failures, [""; 0], "{}", guest.name);
    drop(judged);
    drop(outside);
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

struct Judged<'j> {
    guest: &'j Guest,
    host: &'j Running,
    outside: &'j Outside,
}

impl Judged<'_> {
    /// It is ready and answers, and has found the network.
    fn is_well(&self, word: &str) {
        let Guest { name, commands, .. } = *self.guest;
        self.host.wait_for(name, InstanceState::Ready);
        assert_eq!(self.run(commands.exits()), Some(ExitStatus::Code(7)));
        if commands.has_network() {
            self.host.wait_until("it has an address", |_| self.address().is_some());
            // Its init may write down where the name server is only then.
            self.host.wait_until("it calls", |_| self.run(call(commands, word)) == Some(ExitStatus::Code(0)));
            self.outside.expect(word);
        }
        self.host.wait_until("its programs run", |_| self.lacks().is_empty());
        if commands == Commands::Systemd {
            let (status, failed) = self.output(&["systemctl", "--failed", "--no-legend", "--plain"]);
            let failed: Vec<&str> = failed.lines().filter(|line| !self.guest.may_fail(line)).collect();
            assert_eq!((status, failed.as_slice()), (Some(ExitStatus::Code(0)), &[""; 0][..]), "{name}");
        }
    }

    /// What its interface has of our network's addresses, as the kernel says.
    fn address(&self) -> Option<Ipv4Addr> {
        let pid = self.host.status(self.guest.name).pid?;
        let routes = fs::read_to_string(format!("/proc/{pid}/net/fib_trie")).ok()?;
        let addresses = routes.lines().filter_map(|line| line.trim().strip_prefix("|-- 10.211.1."));
        let mut hosts =
            addresses.filter_map(|last| last.parse().ok()).filter(|last: &u8| !matches!(last, 0 | 1 | 255));
        hosts.next().map(|last| Ipv4Addr::new(10, 211, 1, last))
    }

    /// Which of its programs no process is called by, as the kernel says.
    fn lacks(&self) -> Vec<&str> {
        let mut lacking = self.guest.programs.to_vec();
        for pid in self.host.processes_of(self.guest.name) {
            let called = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            lacking.retain(|program| *program != called.trim());
        }
        lacking
    }

    fn reboots(&self) {
        let name = self.guest.name;
        let first = self.host.status(name).pid;
        self.run(self.guest.commands.reboot());
        self.host.wait_until("it is another run", |host| host.status(name).pid.is_some_and(|pid| Some(pid) != first));
    }

    fn stop(&self) -> (RunEnd, Duration) {
        let began = Instant::now();
        let stop = Request::Stop { instance: name(self.guest.name), timeout_s: None, force: false };
        assert_eq!(self.host.ask(&stop), [Reply::Done]);
        (self.host.ends(self.guest.name, 1)[0], began.elapsed())
    }

    fn succeeds(&self, words: Vec<String>) {
        assert_eq!(self.run(words.clone()), Some(ExitStatus::Code(0)), "{words:?}");
    }

    /// `None`: it was refused, or ended before it could be told how.
    fn run(&self, words: Vec<String>) -> Option<ExitStatus> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.host.exec(self.guest.name, &words).ok()
    }

    /// How a command ended, and what it printed.
    fn output(&self, words: &[&str]) -> (Option<ExitStatus>, String) {
        let (null, mut file) = (File::open("/dev/null").unwrap(), tempfile::tempfile().unwrap());
        let client = self.host.ask_for_command(self.guest.name, words, [null.as_fd(), file.as_fd(), file.as_fd()]);
        let status = host::replies(&client, TIMEOUT).into_iter().find_map(|reply| match reply {
            Reply::Exited(status) => Some(status),
            _ => None,
        });
        let mut output = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut output).unwrap();
        (status, output)
    }

    /// What it printed on its console.
    fn printed(&self) -> Vec<String> {
        let all = Request::Logs { instance: Some(name(self.guest.name)), follow: false };
        let replies = self.host.ask(&all).into_iter();
        let lines = replies.filter_map(|reply| match reply {
            Reply::Log(record) => Some(record.message.trim().to_owned()),
            _ => None,
        });
        lines.collect()
    }
}

/// Says a word to the server outside, which it knows by name.
fn call(commands: Commands, word: &str) -> Vec<String> {
    let (name, port) = (outside::NAME, outside::PORT);
    match commands {
        Commands::Busybox => {
            ["/bin/sh", "-c", &format!("echo {word} | nc -w 10 {name} {port}")].map(str::to_owned).into()
        }
        _ => ["/bin/bash", "-c", &format!("echo {word} >/dev/tcp/{name}/{port}")].map(str::to_owned).into(),
    }
}

/// What it printed is of interest only then.
impl Drop for Judged<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("its console:\n{}", self.printed().join("\n"));
            if self.guest.commands == Commands::Systemd {
                println!("its journal:\n{}", self.output(&["journalctl", "--boot", "--no-pager"]).1);
            }
        }
    }
}

/// Its root, where roots are given.
pub(crate) fn root_of(guest: &str) -> Option<PathBuf> {
    let Some(directory) = std::env::var_os("YADO_TEST_ROOTS") else {
        println!("SKIPPED: YADO_TEST_ROOTS names no directory of roots (cargo accept makes one)");
        return None;
    };
    let root = Path::new(&directory).join(format!("{guest}.tar"));
    if !root.exists() {
        println!("SKIPPED: no root {guest} (cargo accept --long makes it)");
        return None;
    }
    Some(root)
}

fn has_tool(tool: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
    found.is_ok_and(|output| output.status.success())
}
