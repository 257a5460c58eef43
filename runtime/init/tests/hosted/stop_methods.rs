//! How an instance's init is asked to power off: by a signal or a command, again until it hears, by the key before the image, and
//! what its end is called. The instance's own exit is the witness.

use crate::host::{Host, Running};
use crate::name;
use std::time::{Duration, Instant};
use yado_wire::rescue::{ApplyOutcome, InstanceState, Reply, Request, RunEnd};

const RUNS: &str = "[config]\nboot.autostart = true\nhealth.window = \"100ms\"\n";

/// An init that ends with code 3 when the program `/bin/stopit` was run inside, and hears no signal.
const BY_COMMAND: &str = "#!/bin/sh\necho up\nwhile [ ! -e /tmp/stop ]; do sleep 0.1; done\nexit 3\n";

/// Ends with code 4 at SIGUSR1, which it hears only after more than five seconds.
const LATE: &str = "#!/bin/sh\necho up\nfor i in 1 2 3 4 5 6 7; do sleep 1; done\ntrap 'exit 4' USR1\n\
                    while :; do sleep 0.1; done\n";

/// Hears nothing.
const DEAF: &str = "#!/bin/sh\necho up\nwhile :; do sleep 1; done\n";

fn stop(host: &Running, instance: &str) -> (RunEnd, Duration) {
    let began = Instant::now();
    let stop = Request::Stop { instance: name(instance), timeout_s: None, force: false };
    assert_eq!(host.ask(&stop), [Reply::Done]);
    let took = began.elapsed();
    assert_eq!(host.state(instance), InstanceState::Stopped);
    (host.ends(instance, 1)[0], took)
}

fn with_init(script: &str, options: &[&str], rest: &str) -> Option<Running> {
    let host = Host::with(&[("one", rest)])?;
    host.write_program("bin/own-init", script);
    host.write_program("bin/stopit", "#!/bin/sh\n[ \"$1\" = now ] || exit 1\n: >/tmp/stop\n");
    host.use_image("one", &[&["--init", "/bin/own-init"], options].concat());
    let host = host.start();
    host.wait_for("one", InstanceState::Ready);
    Some(host)
}

#[test]
fn an_instance_is_stopped_by_a_command_that_its_image_names() {
    let Some(mut host) = with_init(BY_COMMAND, &["--halt-command", "/bin/stopit now"], RUNS) else { return };
    let (end, took) = stop(&host, "one");
    assert_eq!(end, RunEnd::Code(3));
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn the_key_comes_before_the_image() {
    let rest = format!("{RUNS}boot.stop.method = \"/bin/stopit now\"\n");
    let Some(mut host) = with_init(BY_COMMAND, &["--halt-signal", "SIGUSR2"], &rest) else { return };
    assert_eq!(stop(&host, "one").0, RunEnd::Code(3));
    assert!(host.end().success());
}

#[test]
fn the_key_holds_at_once_on_what_runs() {
    let Some(mut host) = with_init(BY_COMMAND, &["--halt-signal", "SIGUSR2"], RUNS) else { return };
    let first = host.status("one").pid;
    let file = host.path("system/appliance/one.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}boot.stop.method = \"/bin/stopit now\"\n")).unwrap();
    assert_eq!(host.apply(), [("one".to_owned(), ApplyOutcome::Changed)]);
    assert_eq!(host.status("one").pid, first);
    assert_eq!(stop(&host, "one").0, RunEnd::Code(3));
    assert!(host.end().success());
}

#[test]
fn a_stop_that_is_asked_while_the_guest_boots_waits_until_it_hears() {
    let Some(mut host) = with_init(LATE, &["--halt-signal", "SIGUSR1"], RUNS) else { return };
    let (end, took) = stop(&host, "one");
    assert_eq!(end, RunEnd::Code(4));
    assert!(Duration::from_secs(5) < took, "it heard the first one: {took:?}");
    assert!(host.end().success());
}

#[test]
fn a_guest_that_ignores_every_way_is_killed_in_time_and_that_is_what_is_told() {
    let rest = format!("{RUNS}boot.host_shutdown_timeout = \"2s\"\n");
    for options in
        [["--halt-signal", "SIGUSR1"], ["--halt-command", "/bin/nothing"], ["--halt-command", "/bin/sleep 99"]]
    {
        let Some(mut host) = with_init(DEAF, &options, &rest) else { return };
        let (end, took) = stop(&host, "one");
        assert!(matches!(end, RunEnd::Killed { after_ms: 1_900..=4_000 }), "{options:?}: {end:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert!(host.end().success());
        assert_eq!(host.left_over(), [""; 0]);
    }
}

#[test]
fn powering_off_and_rebooting_from_inside_are_told_by_their_names() {
    let Some(host) = Host::with(&[("one", RUNS)]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Ready);
    let first = host.status("one").pid;
    let _ = host.exec("one", &["/bin/busybox", "reboot"]);
    host.wait_until("it runs again", |host| host.status("one").pid.is_some_and(|pid| Some(pid) != first));
    assert_eq!(host.ends("one", 1), [RunEnd::Rebooted]);
    host.wait_for("one", InstanceState::Ready);
    let _ = host.exec("one", &["poweroff"]);
    host.wait_for("one", InstanceState::Stopped);
    assert_eq!(host.ends("one", 2), [RunEnd::Rebooted, RunEnd::PoweredOff]);
    assert!(host.end().success());
}
