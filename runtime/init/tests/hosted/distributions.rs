//! Whole roots of Debian with the inits that it has, each judged by its own ends: an orderly stop in seconds, a reboot and a power off
//! from inside. Only where such roots are given: `YADO_TEST_ROOTS=DIRECTORY`, in which each directory or tar archive is one.

use crate::host::{Host, Running};
use crate::name;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use yado_wire::rescue::{ExitStatus, InstanceState, Reply, Request, RunEnd};

/// Its init has then started what it starts, on a busy machine too.
const RUNS: &str = "[config]\nboot.autostart = true\nhealth.window = \"10s\"\n";

/// Of 30 that it has; Debian's own scripts wait for some seconds.
const ORDERLY: Duration = Duration::from_secs(20);

#[test]
fn each_init_of_debian_starts_answers_reboots_and_stops_in_its_own_way() {
    let Some(directory) = std::env::var_os("YADO_TEST_ROOTS") else {
        println!("SKIPPED: YADO_TEST_ROOTS names no directory of roots");
        return;
    };
    let mut roots: Vec<PathBuf> =
        Path::new(&directory).read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    roots.retain(|root| root.is_dir() || root.extension().is_some_and(|end| end == "tar"));
    roots.sort();
    assert!(!roots.is_empty(), "{directory:?}");
    let failed: Vec<String> = roots.iter().filter_map(|root| judge(root).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn judge(root: &Path) -> Result<(), String> {
    let guest = root.file_stem().unwrap().to_str().unwrap();
    let Some(host) = Host::with(&[]) else { return Ok(()) };
    host.add_instance_of(root, guest, RUNS);
    let mut host = host.start();
    host.wait_for(guest, InstanceState::Ready);
    let answers = host.exec(guest, &["/bin/sh", "-c", "exit 7"]) == Ok(ExitStatus::Code(7));
    let (stopped, took) = stop(&host, guest);
    assert_eq!(host.ask(&Request::Start(name(guest))), [Reply::Done]);
    host.wait_for(guest, InstanceState::Ready);
    let first = host.status(guest).pid;
    let _ = host.exec(guest, &["/bin/sh", "-c", &format!("echo kept >/root/kept; {}", from_inside("reboot", "-r"))]);
    host.wait_until("it is another run", |host| host.status(guest).pid.is_some_and(|pid| Some(pid) != first));
    host.wait_for(guest, InstanceState::Ready);
    let keeps = host.exec(guest, &["/bin/grep", "-q", "kept", "/root/kept"]) == Ok(ExitStatus::Code(0));
    let _ = host.exec(guest, &["/bin/sh", "-c", &from_inside("poweroff", "-p")]);
    host.wait_for(guest, InstanceState::Stopped);
    let ends = host.ends(guest, 3);
    assert!(host.end().success());
    println!("{guest}: stopped in {took:?}: {stopped}; then {} and {}", ends[1], ends[2]);
    let is_right =
        answers && keeps && took < ORDERLY && ends == [RunEnd::PoweredOff, RunEnd::Rebooted, RunEnd::PoweredOff];
    match is_right {
        true => Ok(()),
        false => Err(format!("{guest}: answers {answers}, keeps {keeps}, stopped in {took:?}, {ends:?}")),
    }
}

/// openrc-init has a program of its own for it.
fn from_inside(program: &str, option: &str) -> String {
    format!(
        "case $(readlink /sbin/init) in *openrc-init) exec openrc-shutdown {option} now ;; esac; exec /sbin/{program}"
    )
}

fn stop(host: &Running, guest: &str) -> (RunEnd, Duration) {
    let began = Instant::now();
    let stop = Request::Stop { instance: name(guest), timeout_s: None, force: false };
    assert_eq!(host.ask(&stop), [Reply::Done]);
    (host.ends(guest, 1)[0], began.elapsed())
}
