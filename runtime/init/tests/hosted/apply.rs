//! What is configured changes while it runs.

use crate::host::{Host, Running, replies};
use crate::{name, refusal};
use std::fs;
use std::time::Duration;
use yado_wire::rescue::{ApplyOutcome, EventKind, InstanceState, Reply, Request};

const RUNS: &str = "[config]\nboot.autostart = true\n";

fn changed(name: &str, outcome: ApplyOutcome) -> (String, ApplyOutcome) {
    (name.to_owned(), outcome)
}

/// The ids and names of those that are there.
fn present(host: &Running) -> Vec<(u32, String)> {
    let replies = host.ask(&Request::Status);
    let all = replies.into_iter().filter_map(|reply| match reply {
        Reply::Instance(status) => Some((status.id.0, status.name.to_string())),
        _ => None,
    });
    let mut all: Vec<_> = all.collect();
    all.sort();
    all
}

#[test]
fn a_new_one_starts_a_deleted_one_goes_and_the_others_run_on() {
    let Some(host) = Host::with(&[("goes", RUNS), ("stays", RUNS)]) else { return };
    let mut host = host.start();
    for name in ["goes", "stays"] {
        host.wait_for(name, InstanceState::Running);
    }
    let pid = host.status("stays").pid;
    host.remove_instance("goes");
    host.add_instance("comes", RUNS);
    host.add_instance("waits", "");
    assert_eq!(
        host.apply(),
        [
            changed("comes", ApplyOutcome::Added),
            changed("waits", ApplyOutcome::Added),
            changed("goes", ApplyOutcome::Removed)
        ]
    );
    host.wait_for("comes", InstanceState::Running);
    let names = |list: Vec<(u32, String)>| list.into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    assert_eq!(names(present(&host)), ["stays", "comes", "waits"]);
    assert_eq!((host.status("stays").pid, host.state("waits")), (pid, InstanceState::Stopped));
    // What is left of it is its layer alone, by which it is the same one when it comes back.
    let runtime: Vec<String> = fs::read_dir(host.path("run/instances"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|place| place.starts_with("goes."))
        .collect();
    assert!(runtime.is_empty(), "{runtime:?}");
    host.add_instance("goes", "");
    assert_eq!(host.apply(), [changed("goes", ApplyOutcome::Added)]);
    assert_eq!(present(&host).first(), Some(&(1, "goes".to_owned())));
    assert!(host.apply().is_empty(), "nothing is new");
    assert!(host.end().success());
}

#[test]
fn what_applies_at_once_does_and_the_rest_waits_for_the_next_start() {
    let Some(host) = Host::with(&[("one", RUNS)]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    let pid = host.status("one").pid;
    // From now on it is started again whenever it ends.
    host.add_instance("one", &format!("{RUNS}boot.autorestart = true\n"));
    assert_eq!(host.apply(), [changed("one", ApplyOutcome::Changed)]);
    assert_eq!((host.status("one").pid, host.status("one").waits_for_restart), (pid, false));
    rustix_kill(pid.unwrap());
    host.wait_until("it was started again", |host| host.status("one").restarts == 1);
    host.wait_for("one", InstanceState::Running);
    let pid = host.status("one").pid;

    host.add_instance("one", &format!("{RUNS}environment.COLOUR = \"blue\"\n"));
    assert_eq!(host.apply(), [changed("one", ApplyOutcome::WaitsForRestart)]);
    let is_blue = |host: &Running| {
        let environ = fs::read(format!("/proc/{}/environ", host.status("one").pid.unwrap())).unwrap();
        String::from_utf8_lossy(&environ).contains("COLOUR=blue")
    };
    assert!(host.status("one").waits_for_restart && host.status("one").pid == pid && !is_blue(&host));
    assert_eq!(host.ask(&Request::Restart(name("one"))), [Reply::Done]);
    assert!(!host.status("one").waits_for_restart && is_blue(&host));
    // And back, before it was started again.
    host.add_instance("one", RUNS);
    assert_eq!(host.apply(), [changed("one", ApplyOutcome::WaitsForRestart)]);
    host.add_instance("one", &format!("{RUNS}environment.COLOUR = \"blue\"\n"));
    assert_eq!(host.apply(), [changed("one", ApplyOutcome::Changed)]);
    assert!(host.end().success());
}

fn rustix_kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_bad_file_changes_nothing_for_its_instance_and_the_others_change() {
    let Some(host) = Host::with(&[("bad", RUNS), ("good", RUNS)]) else { return };
    let mut host = host.start();
    for name in ["bad", "good"] {
        host.wait_for(name, InstanceState::Running);
    }
    let pid = host.status("bad").pid;
    host.add_instance("bad", "[config]\nboot.autostrat = true\n");
    host.add_instance("good", &format!("{RUNS}boot.stop.priority = 1\n"));
    let applied = host.apply();
    let (refused, others): (Vec<_>, Vec<_>) =
        applied.into_iter().partition(|(_, outcome)| matches!(outcome, ApplyOutcome::Refused(_)));
    assert_eq!(others, [changed("good", ApplyOutcome::Changed)]);
    assert!(matches!(refused.as_slice(), [(name, _)] if name == "bad"), "{refused:?}");
    let status = host.status("bad");
    assert_eq!((status.pid, status.state), (pid, InstanceState::Running));
    let reason = status.refused.unwrap().reason.to_string();
    assert!(reason.contains("boot.autostrat") && reason.contains("boot.autostart"), "{reason}");
    assert_eq!(host.ask(&Request::Restart(name("bad"))), [Reply::Done], "it starts as it was");
    // The same words are no news, and a good file takes them back.
    assert!(host.apply().is_empty());
    host.add_instance("bad", RUNS);
    assert_eq!(host.apply(), [changed("bad", ApplyOutcome::Changed)]);
    assert_eq!(host.status("bad").refused, None);
    // A new one with a bad file is there, and says why it cannot start; mended, it starts.
    host.add_instance("new", "[config]\nboot.autostrat = true\n");
    assert!(matches!(host.apply().as_slice(), [(_, ApplyOutcome::Refused(_))]));
    assert_eq!(host.state("new"), InstanceState::Failed);
    host.add_instance("new", RUNS);
    assert_eq!(host.apply(), [changed("new", ApplyOutcome::Changed)]);
    host.wait_for("new", InstanceState::Running);
    assert!(host.end().success());
}

#[test]
fn one_apply_at_a_time_and_a_name_that_comes_back_while_it_goes() {
    // It takes its time to stop.
    let slow = "[config]\nboot.autostart = true\nboot.host_shutdown_timeout = 60\n";
    let Some(host) = Host::with(&[("slow", slow)]) else { return };
    host.use_image_with_init("slow", &["/bin/sh", "-c", "trap '' PWR USR1 USR2 TERM; while :; do sleep 1; done"]);
    let mut host = host.start();
    host.wait_for("slow", InstanceState::Running);
    let text = fs::read_to_string(host.path("system/appliance/slow.toml")).unwrap();
    host.remove_instance("slow");
    host.compile();
    let first = host.connect(&Request::Apply { forget: false }, &[]);
    host.wait_for("slow", InstanceState::Stopping);
    let refused = refusal(host.ask(&Request::Apply { forget: false }));
    assert!(refused.reason.contains("another one is at work"), "{refused}");
    assert!(refusal(host.ask(&Request::Start(name("slow")))).reason.contains("no longer configured"));
    // Whoever asked hangs up, and it goes on.
    drop(first);
    fs::write(host.path("system/appliance/slow.toml"), text).unwrap();
    assert_eq!(host.ask(&Request::Stop { instance: name("slow"), timeout_s: None, force: true }), [Reply::Done]);
    host.wait_until("it is gone", |host| present(host).is_empty());
    assert_eq!(host.apply(), [changed("slow", ApplyOutcome::Added)]);
    host.wait_for("slow", InstanceState::Running);
    assert_eq!(host.ask(&Request::Stop { instance: name("slow"), timeout_s: None, force: true }), [Reply::Done]);
    let events = host.connect(&Request::Events, &[]);
    assert!(host.end().success());
    let about = |reply: Reply| match reply {
        Reply::Event(event) if matches!(event.kind, Some(EventKind::Added | EventKind::Removed)) => event.kind,
        _ => None,
    };
    let kinds: Vec<_> = replies(&events, Duration::from_secs(1)).into_iter().filter_map(about).collect();
    assert_eq!(kinds, [EventKind::Removed, EventKind::Added]);
}

#[test]
fn the_command_shows_what_changes_and_has_it_made_so() {
    let Some(host) = Host::with(&[("one", RUNS), ("two", RUNS)]) else { return };
    let mut host = host.start();
    for name in ["one", "two"] {
        host.wait_for(name, InstanceState::Running);
    }
    let socket = host.path("run/init.sock").display().to_string();
    let apply = |words: &[&str], input: &str| host.yado(&[&["apply", "--socket", &socket], words].concat(), input);
    assert_eq!(apply(&[], ""), (0, "nothing changes\n".to_owned(), String::new()));
    // What is given must be right, and is then on the data partition.
    let text = fs::read_to_string(host.path("system/appliance/one.toml")).unwrap();
    let bad = format!("{text}limits.memroy = \"64MiB\"\n");
    let (code, out, err) = apply(&["-", "--name", "one"], &bad);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("limits.memroy") && err.contains("nothing was changed"), "{err}");
    assert!(!host.path("data/instances/one").exists());
    let good = format!("{text}boot.autorestart = true\nenvironment.COLOUR = \"blue\"\n");
    let (code, out, _) = apply(&["--dry-run", "-", "--name", "one"], &good);
    assert_eq!((code, host.path("data/instances/one").exists()), (0, false));
    let rows: Vec<Vec<&str>> = out.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["one", "environment.COLOUR", "-", "blue", "at", "restart"]), "{out}");
    assert!(rows.iter().any(|row| row[1].starts_with("boot.") && row.ends_with(&["at", "once"])), "{out}");
    host.remove_instance("two");
    let (code, out, err) = apply(&["-", "--name", "one"], &good);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("two       (deleted)") && out.ends_with("two: is gone\n"), "{out}");
    assert!(out.contains("one: is changed; some of it waits for the next start: yado rescue restart one\n"), "{out}");
    assert_eq!(fs::read_to_string(host.path("data/instances/one/instance.toml")).unwrap(), good);
    let (_, out, _) = host.yado(&["rescue", "--socket", &socket, "status", "one"], "");
    assert!(
        out.contains("KEY                 RUNS WITH  CONFIGURED\nenvironment.COLOUR  -          blue\n"),
        "{out}"
    );
    // Its layer is there until it is asked for, and then it is another instance.
    let layers = || {
        let entries = fs::read_dir(host.path("data/layers")).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(layers(), ["1", "2"]);
    let (code, out, _) = apply(&["--delete-data"], "");
    assert!(code == 0 && out.contains("two's layer 2: deleted"), "{out}");
    assert_eq!(layers(), ["1"]);
    host.add_instance("two", RUNS);
    let (_, out, _) = apply(&["--format", "json"], "");
    assert!(out.contains("\"outcome\": \"added\"") && out.contains("\"id\": 3"), "{out}");
    // The same at once.
    host.remove_instance("two");
    let (code, out, _) = apply(&["--delete-data"], "");
    assert!(code == 0 && out.contains("two's layer 3: deleted"), "{out}");
    host.add_instance("two", "");
    apply(&[], "");
    assert_eq!(present(&host), [(1, "one".to_owned()), (4, "two".to_owned())]);
    // And of one that does not run.
    host.remove_instance("two");
    let (code, out, _) = apply(&["--delete-data"], "");
    assert!(code == 0 && out.contains("two: is gone"), "{out}");
    host.add_instance("two", "");
    apply(&[], "");
    assert_eq!(present(&host), [(1, "one".to_owned()), (5, "two".to_owned())]);
    // What the root is meant to have is kept, shown, and told as not enforced.
    let sized = format!("{good}[devices.root]\ntype = \"disk\"\npath = \"/\"\nsize = \"1GiB\"\n");
    let (code, out, err) = apply(&["-", "--name", "one"], &sized);
    assert!(code == 0 && out.contains("devices.root.size   -    1GiB  at restart\n"), "{out}{err}");
    assert!(err.contains("yado: warning: instance one: devices.root.size: not enforced"), "{err}");
    let (_, out, _) = host.yado(&["rescue", "--socket", &socket, "status", "one"], "");
    assert!(out.contains("devices.root.size   -          1GiB\n"), "{out}");
    assert!(out.contains("\ndevices.root.size: not enforced: the root's layer has no quota yet"), "{out}");
    host.ask(&Request::Restart(crate::name("one")));
    host.logs_until(None, "one: devices.root.size: not enforced");
    // Where specs are being written, nobody else writes any.
    let specs = yado_sys::file_lock::open(&host.path("run/specs/.lock")).unwrap();
    yado_sys::file_lock::try_lock(&specs).unwrap();
    fs::write(host.path("data/instances/one/instance.toml"), &good).unwrap();
    let mut waits = host.begin_apply::<&str>(&[]);
    host.wait_until("it waits", |_| fs::read_to_string(host.path("log")).unwrap().contains("1GiB  -"));
    assert_eq!(waits.try_wait().unwrap(), None);
    let before = fs::read(host.path("run/specs/one.bin")).unwrap();
    drop(specs);
    assert!(waits.wait().unwrap().success());
    assert_ne!(fs::read(host.path("run/specs/one.bin")).unwrap(), before);
    // What cannot be read may be there.
    fs::rename(host.path("system/appliance"), host.path("system/aside")).unwrap();
    fs::write(host.path("system/appliance"), "").unwrap();
    let (code, _, err) = apply(&[], "");
    assert!(code == 1 && err.contains("nothing was changed"), "{err}");
    assert_eq!(present(&host).len(), 2);
    assert!(host.end().success());
}

#[test]
fn one_that_waits_for_a_device_looks_again_when_it_is_configured_otherwise() {
    let needs =
        |rest: &str| format!("{RUNS}[devices.modem]\ntype = \"unix-char\"\nsource = \"/dev/not-here\"\n{rest}\n");
    let patient = needs("\"required.timeout\" = \"1h\"");
    let Some(host) = Host::with(&[("one", &patient), ("two", &patient)]) else { return };
    let mut host = host.start();
    for name in ["one", "two"] {
        host.wait_until("it waits for the device", |host| {
            let status = host.status(name);
            status.state == InstanceState::Waiting && status.last_failure.is_some()
        });
    }
    host.add_instance("one", &needs("required = false"));
    host.add_instance("two", &needs("\"required.timeout\" = \"1s\""));
    let both = ["one", "two"].map(|name| changed(name, ApplyOutcome::Changed));
    assert_eq!(host.apply(), both);
    host.wait_for("one", InstanceState::Running);
    host.wait_for("two", InstanceState::Failed);
    assert!(host.end().success());
}

#[test]
fn another_order_of_stopping_holds_at_once() {
    let with = |priority: i32| format!("{RUNS}boot.stop.priority = {priority}\n");
    let Some(host) = Host::with(&[("one", &with(1)), ("two", &with(2))]) else { return };
    let mut host = host.start();
    for name in ["one", "two"] {
        host.wait_for(name, InstanceState::Running);
    }
    host.add_instance("one", &with(3));
    assert_eq!(host.apply(), [changed("one", ApplyOutcome::Changed)]);
    let events = host.connect(&Request::Events, &[]);
    assert!(host.end().success());
    let stopped = |reply: Reply| match reply {
        Reply::Event(event) if event.kind == Some(EventKind::State(InstanceState::Stopped)) => event.instance,
        _ => None,
    };
    let order: Vec<String> = replies(&events, Duration::from_secs(1))
        .into_iter()
        .filter_map(stopped)
        .map(|about| about.name.to_string())
        .collect();
    assert_eq!(order, ["one", "two"]);
}

/// How many applies: `YADO_TEST_APPLIES`, as `cargo accept --long` says it, or a few.
fn applies() -> u32 {
    std::env::var("YADO_TEST_APPLIES").map_or(150, |count| count.parse().unwrap())
}

#[test]
fn thousands_of_applies_leave_nothing_behind() {
    let Some(host) = Host::with(&[("one", RUNS)]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    let pid = host.status("one").pid;
    let round = |number: u32| {
        host.add_instance("one", &format!("{RUNS}boot.stop.priority = {}\n", 1 + number % 2));
        match number % 10 {
            3 => host.add_instance("guest", "[config]\n"),
            7 => host.remove_instance("guest"),
            _ => {}
        }
        let outcomes = host.apply();
        let expected = if matches!(number % 10, 3 | 7) { 2 } else { 1 };
        assert_eq!(outcomes.len(), expected, "{number}: {outcomes:?}");
    };
    // Buffers find their sizes first, and the log's ring is full.
    (0..40).for_each(round);
    let before = host.held();
    (0..applies()).for_each(round);
    let after = host.held();
    println!("{} applies: {before:?} before, {after:?} after", applies());
    assert_eq!((after.mounts, after.groups), (before.mounts, before.groups));
    // Connections that have ended are closed some at a time.
    assert!(after.descriptors <= before.descriptors + 20, "{before:?} {after:?}");
    assert!(after.resident_kib < before.resident_kib + 128, "{before:?} {after:?}");
    assert_eq!(host.status("one").pid, pid);
    assert!(host.end().success());
}

#[test]
fn a_socket_that_is_named_by_another_path_is_that_of_the_same_host() {
    let Some(host) = Host::with(&[("one", RUNS)]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    let aside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(host.path("run"), aside.path().join("run")).unwrap();
    let socket = aside.path().join("run/init.sock").display().to_string();
    let (code, out, err) = host.yado(&["apply", "--socket", &socket], "");
    assert_eq!((code, out.as_str()), (0, "nothing changes\n"), "{err}");
    assert_eq!(present(&host), [(1, "one".to_owned())]);
    assert!(host.end().success());
}

#[test]
fn a_probe_that_is_taken_away_or_changed_is_waited_for_no_more() {
    let probe = |words: &str, interval: &str| {
        format!(
            "{RUNS}health.ready = \"probe\"\n\"health.probe\" = \"exec:{words}\"\n\"health.probe.interval\" = \"{interval}\"\n"
        )
    };
    let Some(host) = Host::with(&[("one", &probe("/bin/true", "1s"))]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Ready);
    host.add_instance("one", RUNS);
    assert_eq!(host.apply(), [changed("one", ApplyOutcome::Changed)]);
    // Past the time when it would have been tried.
    assert!(host.share_of_processor(Duration::from_secs(2)) < 0.2);
    // One that is due in an hour, and then in a second.
    host.add_instance("one", &probe("/bin/true", "1h"));
    assert_eq!(host.apply(), [changed("one", ApplyOutcome::Changed)]);
    host.add_instance("one", &format!("{}\"health.probe.failures\" = 1\n", probe("/bin/false", "1s")));
    assert_eq!(host.apply(), [changed("one", ApplyOutcome::Changed)]);
    host.wait_for("one", InstanceState::Unhealthy);
    // It was left as it is for its probe alone.
    host.add_instance("one", RUNS);
    assert_eq!(host.apply(), [changed("one", ApplyOutcome::Changed)]);
    host.wait_for("one", InstanceState::Ready);
    assert!(host.end().success());
}

/// Refused where its controller is missing.
const LIMITED: &str = "limits.processes = 50\n";

#[test]
fn a_limit_that_cannot_be_written_is_told_each_time_until_it_is_mended() {
    let Some(host) = Host::with(&[("one", RUNS), ("two", &format!("{RUNS}{LIMITED}"))]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    if host.has_controller("pids") {
        println!("SKIPPED: this machine has the controller, and refuses no limit that the compiler lets through");
        assert!(host.end().success());
        return;
    }
    host.wait_for("two", InstanceState::Failed);
    host.add_instance("one", &format!("{RUNS}{LIMITED}boot.stop.priority = 7\n"));
    for _ in 0..2 {
        let outcomes = host.apply();
        let [(name, ApplyOutcome::NotLimited(failure))] = outcomes.as_slice() else { panic!("{outcomes:?}") };
        assert!(name == "one" && failure.reason.contains("pids.max"), "{failure}");
        assert!(host.status("one").waits_for_restart, "it is not as it is configured");
    }
    host.add_instance("one", RUNS);
    assert_eq!(host.apply(), [changed("one", ApplyOutcome::Changed)]);
    assert!(!host.status("one").waits_for_restart);
    // Whose start was refused for it starts when it is mended.
    host.add_instance("two", RUNS);
    assert_eq!(host.apply(), [changed("two", ApplyOutcome::Changed)]);
    host.wait_for("two", InstanceState::Running);
    assert!(host.end().success());
}

#[test]
fn what_netd_does_not_answer_holds_up_nobody_and_is_told() {
    let Some(host) = Host::with(&[("one", RUNS)]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    // Nobody listens on it any more.
    drop(std::os::unix::net::UnixListener::bind(host.path("run/netd.sock")).unwrap());
    let socket = host.path("run/init.sock").display().to_string();
    host.add_instance("two", "");
    let (code, out, err) = host.yado(&["apply", "--socket", &socket, "--format", "json"], "");
    assert_eq!((code, err.as_str()), (3, ""), "{out}");
    assert!(out.contains("\"outcome\": \"added\""), "{out}");
    assert!(out.contains("netd does not answer on ") && out.contains("\"network\": null"), "{out}");
    let (code, out, err) = host.yado(&["apply", "--socket", &socket], "");
    assert_eq!((code, out.as_str()), (3, "nothing changes\n"), "{err}");
    assert!(err.contains("yado: networks: network: netd: netd does not answer on "), "{err}");
    assert_eq!(present(&host), [(1, "one".to_owned()), (2, "two".to_owned())]);
    assert!(host.end().success());
}

#[test]
fn a_file_of_ids_of_a_later_version_is_left_as_it_is() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    let later = "yado-ids 99\nwhatever it says\n";
    host.write("data/state/ids", later);
    let mut host = host.start();
    host.wait_until("init is up", |host| present(host).len() == 1);
    host.add_instance("two", "");
    assert_eq!(host.apply(), [changed("two", ApplyOutcome::Added)]);
    assert!(host.end().success());
    assert_eq!(fs::read_to_string(host.path("data/state/ids")).unwrap(), later);
}

#[test]
fn one_that_init_has_without_a_spec_is_shown_as_a_new_one() {
    let Some(host) = Host::with(&[("one", RUNS)]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    let socket = host.path("run/init.sock").display().to_string();
    let apply = |words: &[&str]| host.yado(&[&["apply", "--socket", &socket], words].concat(), "");
    host.add_instance("new", "[config]\nboot.autostrat = true\n");
    assert_eq!(apply(&[]).0, 3);
    host.add_instance("new", RUNS);
    let is_new = |out: &str| {
        let mut rows = out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.any(|row| row == ["new", "(new)", "-", "started", "at", "once"])
    };
    let (code, out, err) = apply(&["--dry-run"]);
    assert!(code == 0 && is_new(&out), "{out}{err}");
    // Nor does it have the one that came with the system's image.
    fs::create_dir_all(host.path("system/specs")).unwrap();
    fs::copy(host.path("run/specs/one.bin"), host.path("system/specs/new.bin")).unwrap();
    let (code, out, err) = apply(&["--dry-run"]);
    assert!(code == 0 && is_new(&out), "{out}{err}");
    assert!(host.end().success());
}
