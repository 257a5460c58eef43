//! A real init, hosted, with real launchers and busybox containers, on the running kernel. It needs root, a cgroup2 mount,
//! erofs, overlayfs, a static busybox in /bin, and the other binary beside ours (`cargo build -p yado`); it says so when
//! it skips.
#![allow(clippy::unwrap_used)]

mod added_images;
mod after_update;
mod apply;
mod attacked_images;
mod bad_input;
mod cached_images;
mod enforcement;
mod frozen_start;
mod guests;
mod host;
mod host_ids;
mod killed_apply;
mod late_netd;
mod many;
mod nesting;
mod own_root;
mod pinned_images;
mod projects;
mod reader;
mod readme;
mod shutdown;
mod stalled;
mod stop_methods;
mod update_command;
mod update_health;
mod updates;
mod weighed_sockets;

use host::{Host, replies, words_without_root};
use stalled::Stalled;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;
use yado_sys::packet;
use yado_wire::rescue::{EventKind, ExitStatus, InstanceState, Reply, Request, Verify};
use yado_wire::{Failure, InstanceName, Step};

fn name(text: &str) -> InstanceName {
    InstanceName::parse(text).unwrap()
}

/// The one refusal that these replies are.
fn refusal(replies: Vec<Reply>) -> Box<Failure> {
    match replies.as_slice() {
        [Reply::Refused(failure)] => Box::new(failure.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_instance_starts_answers_and_stops_and_nothing_of_it_is_left() {
    let Some(host) = Host::with(&[("one", "[config]\nboot.autostart = true\n")]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    assert_eq!(host.exec("one", &["sh", "-c", "exit 7"]), Ok(ExitStatus::Code(7)));
    assert_eq!(host.exec("one", &["sh", "-c", "kill -9 $$"]), Ok(ExitStatus::Signal(9)));
    // Of signals 1 to 28; how Rust's library starts programs has glibc's own two ignored, 32 and 33.
    let heeds_all = ["/bin/busybox", "grep", "-q", "^SigIgn:.*0000000$", "/proc/self/status"];
    assert_eq!(host.exec("one", &heeds_all), Ok(ExitStatus::Code(0)), "it inherited an ignored signal");
    let printed = host.logs_until(Some("one"), "hello from busybox");
    assert!(printed.iter().any(|line| line.contains("hello from busybox")), "{printed:?}");

    let stop = Request::Stop { instance: name("one"), timeout_s: None, force: false };
    assert_eq!(host.ask(&stop), [Reply::Done]);
    assert_eq!(host.state("one"), InstanceState::Stopped);
    let exec = host.exec("one", &["true"]).unwrap_err();
    assert_eq!(exec.reason.as_str(), "it is not running");
    assert_eq!(host.ask(&Request::Start(name("one"))), [Reply::Done]);
    let first = host.status("one").pid;
    assert_eq!(host.ask(&Request::Restart(name("one"))), [Reply::Done]);
    assert_ne!(host.status("one").pid, first);

    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn runtime_directories_are_on_the_hosts_tmpfs() {
    let Some(host) = Host::with(&[("one", "[config]\nboot.autostart = true\n")]) else { return };
    let mut host = host.start_with_tmpfs();
    host.wait_for("one", InstanceState::Running);
    let link = std::fs::read_link(host.path("run/instances")).unwrap();
    assert!(link.to_str().unwrap().starts_with("/run/yado-hosted-"), "{link:?}");
    let seen = host.seen_by_init(&link);
    assert_eq!(seen.read_dir().unwrap().count(), 1);
    assert_eq!(host.ask(&Request::Restart(name("one"))), [Reply::Done]);
    let stop = Request::Stop { instance: name("one"), timeout_s: None, force: false };
    assert_eq!(host.ask(&stop), [Reply::Done]);
    assert_eq!(seen.read_dir().unwrap().count(), 0);
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn what_is_wrong_with_one_instance_is_told_and_the_others_run() {
    let Some(host) = Host::with(&[
        ("good", "[config]\nboot.autostart = true\n"),
        ("typo", "[config]\nboot.autostrat = true\n"),
        ("tampered", "[config]\nboot.autostart = true\n"),
        ("root", "[config]\nboot.autostart = true\nsecurity.privileged = true\n"),
        ("protected", "[config]\nboot.autostart = true\nsecurity.protection.start = true\n"),
    ]) else {
        return;
    };
    host.use_tampered_image("tampered");
    let mut host = host.start();
    host.wait_for("good", InstanceState::Running);
    host.wait_for("tampered", InstanceState::Failed);
    let failure = host.status("tampered").last_failure.unwrap();
    assert!(matches!(failure.step, Step::ImagePayload | Step::ImageTree), "{failure}");
    let failure = host.status("typo").last_failure.unwrap();
    assert_eq!(failure.step, Step::Spec);
    assert!(failure.reason.contains("did you mean boot.autostart?"), "{failure}");
    assert_eq!(refusal(host.ask(&Request::Start(name("typo")))).step, Step::Spec);
    let failure = host.status("root").last_failure.unwrap();
    assert_eq!((failure.step, failure.object.as_str()), (Step::Spec, "security.privileged"));
    for request in [Request::Start(name("protected")), Request::Restart(name("protected"))] {
        assert_eq!(refusal(host.ask(&request)).reason.as_str(), "security.protection.start is set");
    }
    assert_eq!(host.state("protected"), InstanceState::Stopped);
    assert!(host.end().success());
    // Where the system allows it, it is as its name says.
    host.allow_privileged();
    let mut host = host.start_again();
    host.wait_for("root", InstanceState::Running);
    let map = ["/bin/busybox", "grep", "-q", " 4294967295$", "/proc/self/uid_map"];
    assert_eq!(host.exec("root", &map), Ok(ExitStatus::Code(0)), "it has a user namespace");
    assert!(host.end().success());
}

#[test]
fn an_instance_that_keeps_ending_is_started_again_and_fails_in_the_end() {
    let config = "[config]\nboot.autostart = true\n\"boot.restart\" = \"on-failure\"\n\"boot.restart.pause\" = \"100ms\"\n\
        \"boot.restart.attempts\" = 3\n";
    let Some(host) = Host::with(&[("crash", config)]) else { return };
    host.use_image_with_init("crash", &["/bin/sh", "-c", "exit 9"]);
    let mut host = host.start();
    host.wait_for("crash", InstanceState::Failed);
    let status = host.status("crash");
    assert_eq!(status.restarts, 2);
    assert!(status.last_failure.unwrap().reason.contains("code 9"));
    assert!(host.end().success());
}

#[test]
fn after_is_waited_for_and_dependents_stop_first() {
    let Some(host) = Host::with(&[
        (
            "web",
            "after = [\"db\"]\n[config]\n\"boot.autostart\" = true\n\"boot.autostart.priority\" = 9\nhealth.window = \"200ms\"\n",
        ),
        ("db", "[config]\nboot.autostart = true\nhealth.window = \"200ms\"\n"),
    ]) else {
        return;
    };
    let mut host = host.start();
    host.wait_for("web", InstanceState::Ready);
    let states = host.states_until(|kind| matches!(kind, (name, InstanceState::Ready) if name == "web"));
    let at = |name: &str, state| states.iter().position(|(of, is)| of == name && *is == state).unwrap();
    assert!(at("db", InstanceState::Ready) < at("web", InstanceState::Starting), "{states:?}");
    let events = host.connect(&Request::Events, &[]);
    assert!(host.end().success());
    let stopped: Vec<String> = replies(&events, Duration::from_secs(1))
        .into_iter()
        .filter_map(|reply| match reply {
            Reply::Event(event) if event.kind == Some(EventKind::State(InstanceState::Stopped)) => {
                event.instance.map(|about| about.name.to_string())
            }
            _ => None,
        })
        .collect();
    assert_eq!(stopped, ["web", "db"]);
}

#[test]
fn an_instance_is_ready_while_its_probe_passes_and_started_again_when_it_does_not() {
    let config = "[config]\nboot.autostart = true\n\"boot.restart\" = \"on-failure\"\n\"boot.restart.pause\" = \"100ms\"\n\
        health.ready = \"probe\"\n\"health.probe\" = \"exec:/bin/ls /run/well\"\n\
        \"health.probe.interval\" = 1\n\"health.probe.failures\" = 2\n";
    let Some(host) = Host::with(&[("one", config)]) else { return };
    let mut host = host.start();
    host.logs_until(Some("one"), "hello from busybox");
    // It may speak before its launcher has told that it runs.
    host.wait_for("one", InstanceState::Running);
    let told = host.logs_until(Some("one"), "No such file");
    assert_eq!(host.state("one"), InstanceState::Running, "its probe did not pass");
    assert!(told.iter().any(|line| line.starts_with("ls: /run/well:")), "what it prints is its own word: {told:?}");
    host.exec("one", &["sh", "-c", "echo >/run/well"]).unwrap();
    host.wait_for("one", InstanceState::Ready);
    host.exec("one", &["/bin/busybox", "rm", "/run/well"]).unwrap();
    host.wait_until("it is started again", |host| host.status("one").restarts == 1);
    let failure = host.status("one").last_failure.unwrap();
    assert_eq!(failure.step, Step::Health);
    let reason = "its probe failed 2 times in a row: exec:/bin/ls /run/well: it ended with code 1";
    assert_eq!(failure.reason.as_str(), reason);
    host.wait_for("one", InstanceState::Running);
    host.exec("one", &["sh", "-c", "echo >/run/well"]).unwrap();
    host.wait_for("one", InstanceState::Ready);
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn an_instance_that_falls_silent_is_told_and_may_speak_again() {
    let config = "[config]\nboot.autostart = true\nhealth.window = \"100ms\"\nhealth.watchdog = 1\n";
    let Some(host) = Host::with(&[("one", config)]) else { return };
    let mut host = host.start();
    host.wait_until("it is not well", |host| host.status("one").last_failure.is_some());
    let unwell = |host: &host::Running, reason: &str| {
        let status = host.status("one");
        let failure = status.last_failure.unwrap();
        (status.state, failure.step, failure.reason.as_str()) == (InstanceState::Unhealthy, Step::Health, reason)
    };
    assert!(unwell(&host, "it did not say WATCHDOG=1 for 1 s"));
    host.notify("one", "WATCHDOG=1");
    host.wait_for("one", InstanceState::Ready);
    host.notify("one", "STATUS=\u{1b}[2J\u{202e}fine\rWATCHDOG=1");
    host.notify("one", "WATCHDOG=trigger");
    // What may move a cursor or turn writing around is gone.
    let reason = "it said WATCHDOG=trigger; its last status:  [2J fine WATCHDOG=1";
    host.wait_until("it is not well by its own word", |host| unwell(host, reason));
    // At once, as the reader also joins what comes in two datagrams.
    host.notify("one", "WATCHDOG=1");
    host.wait_for("one", InstanceState::Ready);
    host.notify("one", "READY=1\nSTATUS=both\nWATCHDOG=trigger");
    let reason = "it said WATCHDOG=trigger; its last status: both";
    host.wait_until("its last word counts", |host| unwell(host, reason));
    assert_eq!(host.status("one").restarts, 0);
    let told = host.exec("one", &["/bin/busybox", "grep", "-q", "WATCHDOG_USEC=1000000", "/proc/1/environ"]);
    assert_eq!(told, Ok(ExitStatus::Code(0)));
    assert!(host.end().success());
}

#[test]
fn what_a_network_says_counts_from_the_next_start_on() {
    let on_it = "[config]\nboot.autostart = true\n[devices.eth0]\ntype = \"nic\"\nnetwork = \"lan0\"\n";
    let Some(host) = Host::with(&[("one", on_it)]) else { return };
    host.write_network("lan0", "[config]\nipv4.address = \"10.201.1.1/24\"\n");
    let mut host = host.start();
    host.wait_until("the bridge has its address", |host| host.has_address("10.201.1.1"));
    assert!(host.end().success());
    host.write_network("lan0", "[config]\nipv4.address = \"10.201.2.1/24\"\n");
    let mut host = host.start_again();
    host.wait_until("the bridge has its new address", |host| host.has_address("10.201.2.1"));
    assert!(host.end().success());
}

#[test]
fn a_killed_init_leaves_containers_that_its_successor_clears_away() {
    let Some(host) = Host::with(&[("one", "[config]\nboot.autostart = true\n")]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    let before = host.status("one").pid.unwrap();
    host.kill();
    let mut host = host.start_again();
    host.wait_for("one", InstanceState::Running);
    assert!(!host.is_process_of_ours(before), "{before} still runs");
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn groups_that_are_nested_and_frozen_do_not_outlive_their_instance() {
    let Some(host) = Host::with(&[("one", "[config]\nboot.autostart = true\n")]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    let mut frozen = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    // As deep as an instance's group allows, and more than are removed at once.
    host.nest_groups("one", 16, frozen.id());
    assert_eq!(host.ask(&Request::Restart(name("one"))), [Reply::Done]);
    assert_eq!(frozen.wait().unwrap().signal(), Some(9));
    host.wait_for("one", InstanceState::Running);
    // Those that are there when init ends.
    let mut frozen = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    host.nest_groups("one", 16, frozen.id());
    assert!(host.end().success());
    assert_eq!(frozen.wait().unwrap().signal(), Some(9));
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn the_console_replays_is_taken_by_force_and_types() {
    let Some(host) = Host::with(&[("one", "[config]\nboot.autostart = true\n")]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    host.logs_until(Some("one"), "hello from busybox");
    let ask = |force| Request::Console { instance: name("one"), force };
    let mut first = host.console(&ask(false)).unwrap();
    let mut seen = String::new();
    host::read_until(&mut first, &mut seen, "hello from busybox");
    assert!(host.console(&ask(false)).is_err());
    let mut second = host.console(&ask(true)).unwrap();
    let mut rest = Vec::new();
    first.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    first.read_to_end(&mut rest).unwrap();
    second.write_all(b"echo $((40+2))-typed\n").unwrap();
    host::read_until(&mut second, &mut seen, "42-typed");
    assert!(host.end().success());
}

const NOTIFIES: &str = "[config]\nboot.autostart = true\nhealth.ready = \"notify\"\n";

#[test]
fn a_descriptor_whose_close_waits_holds_up_nobody_but_its_sender() {
    let Some(host) = Host::with(&[("bad", NOTIFIES), ("good", NOTIFIES)]) else { return };
    let mut host = host.start();
    for instance in ["bad", "good"] {
        host.wait_for(instance, InstanceState::Running);
    }
    let mut peers = Vec::new();
    for _ in 0..3 {
        let (socket, peer) = host::lingering_socket(20);
        host.notify_with("bad", "STATUS=mine is the last reference", socket);
        peers.push(peer);
        let began = std::time::Instant::now();
        host.state("good");
        assert!(began.elapsed() < Duration::from_secs(2), "status took {:?}", began.elapsed());
    }
    host.notify("good", "READY=1");
    host.wait_for("good", InstanceState::Ready);
    // The last of its sockets is closed with all of them in its queue.
    let began = std::time::Instant::now();
    let stop = Request::Stop { instance: name("bad"), timeout_s: None, force: true };
    assert_eq!(host.ask(&stop), [Reply::Done]);
    host.state("good");
    assert!(began.elapsed() < Duration::from_secs(10), "to stop it took {:?}", began.elapsed());
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn what_a_client_must_not_send_holds_up_nobody_when_it_is_refused() {
    let Some(host) = Host::with(&[("one", "[config]\nboot.autostart = true\n")]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    let answers_at_once = |what: &str| {
        let began = std::time::Instant::now();
        host.state("one");
        assert!(began.elapsed() < Duration::from_secs(2), "{what}: status took {:?}", began.elapsed());
    };
    let mut peers = Vec::new();
    let mut lingering = || {
        let (socket, peer) = host::lingering_socket(20);
        peers.push(peer);
        socket
    };
    // More descriptors than a request has; and a request that is longer than any.
    let client = host.raw();
    host::send_many(&client, None, &(0..20).map(|_| lingering()).collect::<Vec<_>>());
    assert_eq!(replies(&client, Duration::from_secs(10)), [], "it is hung up on");
    answers_at_once("too many");
    let client = host.raw();
    packet::send(&client, &[1; yado_wire::MAX_FRAME_BYTES + 1], &[lingering().as_fd()]).unwrap().unwrap();
    assert_eq!(replies(&client, Duration::from_secs(10)), [], "it is hung up on");
    answers_at_once("too long");
    // A descriptor among what is typed.
    let viewer = host.console(&Request::Console { instance: name("one"), force: false }).unwrap();
    host::send_many(&viewer, None, &[lingering()]);
    answers_at_once("typed");
    drop(viewer);
    answers_at_once("the viewer is gone");
    // What is never read: it is in the queue of a connection that is closed.
    let client = host.connect(&Request::Events, &[]);
    host::send_many(&client, None, &[lingering()]);
    drop(client);
    answers_at_once("the client is gone");
    // What nobody refuses is closed at once all the same: who waits for the end of a pipe sees it.
    let (end, writer) = host::pipe();
    let null = std::fs::File::open("/dev/null").unwrap();
    let client = host.ask_for_command("one", &["true"], [null.as_fd(), writer.as_fd(), writer.as_fd()]);
    drop(writer);
    assert_eq!(replies(&client, Duration::from_secs(60)), [Reply::Exited(ExitStatus::Code(0))]);
    host.wait_until("nobody holds the pipe", |_| matches!((&end).read(&mut [0; 1]), Ok(0)));
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn an_end_waits_for_nothing_that_a_client_has_just_sent() {
    let Some(host) = Host::with(&[("one", "[config]\nboot.autostart = true\n")]) else { return };
    let mut host = host.start();
    let (sockets, _peers): (Vec<_>, Vec<_>) = (0..10).map(|_| host::lingering_socket(20)).unzip();
    let client = host.raw();
    host::send_many(&client, None, &sockets);
    drop(sockets);
    assert_eq!(replies(&client, Duration::from_secs(10)), [], "it is hung up on");
    let began = std::time::Instant::now();
    assert!(host.end().success());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn packet_sockets_in_a_datagram_hold_up_neither_init_nor_the_others_nor_the_senders_next_run() {
    let Some(host) = Host::with(&[("bad", NOTIFIES), ("good", NOTIFIES)]) else { return };
    let mut host = host.start();
    for instance in ["bad", "good"] {
        host.wait_for(instance, InstanceState::Running);
    }
    host.wait_until("the reader runs", |host| host.reader().is_some());
    let reader = host.reader();
    let (last_end, writer) = host::pipe();
    let mut sent = vec![host::socket_holding(&host::packet_sockets(200))];
    sent.extend(host::packet_sockets(200));
    sent.push(writer);
    host.notify_with_many("bad", sent);
    let began = std::time::Instant::now();
    host.notify("good", "READY=1");
    host.wait_for("good", InstanceState::Ready);
    assert!(began.elapsed() < Duration::from_secs(1), "the other was heard after {:?}", began.elapsed());
    host.logs_until(None, "bad: sent descriptors on its $NOTIFY_SOCKET");
    // The end of what is in its queue is waited for by nobody.
    for _ in 0..20 {
        let began = std::time::Instant::now();
        assert_eq!(host.state("good"), InstanceState::Ready);
        assert!(began.elapsed() < Duration::from_millis(100), "status took {:?}", began.elapsed());
    }
    // It hides nothing there while it runs. How long that takes is the kernel's affair: the end of the pipe that was sent last
    // is closed after all others.
    host.wait_until("the last is closed", |_| matches!((&last_end).read(&mut [0; 1]), Ok(0)));
    host.wait_until("nobody holds its socket", |host| host.is_not_heard("bad"));
    assert_eq!(host.state("bad"), InstanceState::Running);
    let stop = Request::Stop { instance: name("bad"), timeout_s: None, force: true };
    assert_eq!(host.ask(&stop), [Reply::Done]);
    assert_eq!(host.ask(&Request::Start(name("bad"))), [Reply::Done]);
    host.wait_for("bad", InstanceState::Running);
    host.notify("bad", "READY=1");
    host.wait_for("bad", InstanceState::Ready);
    assert_eq!(host.reader(), reader, "it never hung");
    host.wait_until("the closer ends", |host| host.closers() == 0);
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn a_reader_that_is_killed_is_back_and_only_an_instances_own_users_are_heard() {
    let Some(host) = Host::with(&[("one", NOTIFIES)]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    host.wait_until("the reader runs", |host| host.reader().is_some());
    let first = host.reader().unwrap();
    host.kill_process(first);
    host.wait_until("another reader runs", |host| host.reader().is_some_and(|pid| pid != first));
    // Root of the host is none of them, and nobody else is.
    host.notify_as(0, "one", "READY=1\nSTATUS=root");
    host.notify_as(65_534, "one", "READY=1\nSTATUS=nobody");
    host.notify("one", "STATUS=own");
    host.notify("one", "WATCHDOG=trigger");
    assert_eq!(host.state("one"), InstanceState::Running);
    host.notify("one", "READY=1");
    host.wait_for("one", InstanceState::Ready);
    // Whoever is not in it does not even reach the socket, whose budget is the instance's.
    let refused = host.notify_from_outside(65_534, "one", "STATUS=outside").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    // It has no way to send us anything but bytes.
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.reader().unwrap())).unwrap();
    for line in [
        "Uid:\t65534\t65534\t65534\t65534",
        "CapPrm:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    assert!(host.end().success());
}

#[test]
fn a_reader_that_calls_what_it_has_no_use_for_is_killed_and_another_one_hears() {
    let Some(host) = Host::with(&[("one", NOTIFIES)]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    host.wait_until("the reader runs", |host| host.reader().is_some());
    // It has said something, and so has given up what it had.
    host.notify("one", "WATCHDOG=1");
    let first = host.reader().unwrap();
    host.wait_until("it has its filter", |_| {
        let status = std::fs::read_to_string(format!("/proc/{first}/status")).unwrap();
        status.contains("Seccomp:\t2")
    });
    // rt_sigaction(2) is none of its calls.
    host.disturb_process(first);
    host.logs_until(None, "datagram-reader: made a system call that it has no use for");
    host.wait_until("another reader runs", |host| host.reader().is_some_and(|pid| pid != first));
    host.notify("one", "READY=1");
    host.wait_for("one", InstanceState::Ready);
    assert!(host.end().success());
}

#[test]
fn floods_of_words_cost_init_little_and_the_others_are_heard() {
    let Some(host) = Host::with(&[("bad", NOTIFIES), ("good", NOTIFIES)]) else { return };
    let mut host = host.start();
    for instance in ["bad", "good"] {
        host.wait_for(instance, InstanceState::Running);
    }
    let window = Duration::from_secs(3);
    let flood = host.flood("bad", "STATUS=again and again", window);
    let share = host.share_of_processor(Duration::from_secs(2));
    assert!(share < 0.05, "init takes {share} of a processor");
    host.notify("good", "READY=1");
    host.wait_for("good", InstanceState::Ready);
    flood.join().unwrap();
    // What was said last is heard, if late.
    host.notify("bad", "READY=1");
    host.wait_for("bad", InstanceState::Ready);
    assert!(host.end().success());
}

#[test]
fn ten_floods_on_consoles_cost_init_little_and_status_answers() {
    let names: Vec<String> = (0..10).map(|number| format!("bad{number}")).collect();
    let instances: Vec<_> = names.iter().map(|name| (name.as_str(), "[config]\nboot.autostart = true\n")).collect();
    let Some(host) = Host::with(&instances) else { return };
    for name in &names {
        host.use_image_with_init(name, &["/bin/sh", "-c", "trap 'exit 0' USR2; while :; do echo flood; done"]);
    }
    let mut host = host.start();
    for name in &names {
        host.wait_for(name, InstanceState::Running);
    }
    let first = host.share_of_processor(Duration::from_secs(3));
    let later = host.share_of_processor(Duration::from_secs(2));
    assert!(first < 0.2 && later < 0.05, "init takes {first}, later {later} of a processor");
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..40 {
        let began = std::time::Instant::now();
        host.state("bad0");
        times.push(began.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    times.sort();
    println!(
        "status beside ten floods: median {:?}, slowest {:?}; init {first}, later {later}",
        times[20], times[39]
    );
    // Other tests run beside this one, so that a single answer may be late.
    assert!(times[20] < Duration::from_millis(100) && times[39] < Duration::from_secs(1), "{times:?}");
    let stop = Request::Stop { instance: name("bad0"), timeout_s: Some(1), force: false };
    assert_eq!(host.ask(&stop), [Reply::Done]);
    assert!(host.end().success());
}

/// An init that reads nothing, and ends when it is asked to.
const SLEEPER: [&str; 3] = ["/bin/sh", "-c", "trap 'exit 0' USR2; while :; do sleep 1; done"];

#[test]
fn a_console_that_nobody_reads_costs_nothing_when_its_viewer_hangs_up() {
    let Some(host) = Host::with(&[("one", "[config]\nboot.autostart = true\n")]) else { return };
    host.use_image_with_init("one", &SLEEPER);
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    let mut viewer = host.console(&Request::Console { instance: name("one"), force: false }).unwrap();
    // More than the pty takes, and less than the socket before it.
    viewer.write_all(&b"typed\n".repeat(7000)).unwrap();
    // What the pty has taken it echoes; then it is quiet, and there is nothing to tell the viewer that would fail.
    viewer.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    while viewer.read(&mut [0; 4096]).is_ok_and(|len| 0 < len) {}
    drop(viewer);
    let share = host.share_of_processor(Duration::from_secs(1));
    assert!(share < 0.2, "init takes {share} of a processor");
    assert!(host.console(&Request::Console { instance: name("one"), force: false }).is_ok(), "the viewer is gone");
    assert!(host.end().success());
}

#[test]
fn a_misspelt_word_on_verifying_is_told_and_the_safe_one_holds() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    host.say_verify("Start\n");
    let mut host = host.start();
    let told = host.logs_until(None, "system/verify: expected start or block");
    assert!(told.iter().any(|line| line.contains("images are verified at each block")), "{told:?}");
    let replies = host.ask(&Request::Status);
    let Some(Reply::System(system)) = replies.first() else { panic!("{replies:?}") };
    assert_eq!(system.verify, Verify::Block);
    assert!(host.end().success());
}

#[test]
fn init_may_open_as_many_files_as_its_tables_hold() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    let mut host = host.start();
    let limit = host.open_files_limit();
    assert!((3000..4096).contains(&limit), "{limit}");
    assert!(host.end().success());
}

#[test]
fn a_device_that_comes_makes_a_hosted_init_load_nothing() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    let Some(device) = host::device_with_alias() else {
        return println!("SKIPPED: no device here has a module alias");
    };
    let mut host = host.start();
    // Now and then a child closes connections of clients, such as ours; three times running that is none.
    let has_loaded = (0..3).all(|_| {
        let (children, before) = (host.children(), host.faults_of_ended_children());
        // The kernel tells everybody once more that it has come.
        std::fs::write(device.join("uevent"), "add").unwrap();
        // Init has seen it before it answers two requests that were made later, and a job would run or have run.
        assert_eq!((host.state("one"), host.state("one")), (InstanceState::Stopped, InstanceState::Stopped));
        host.wait_until("no child is new", |host| host.children() <= children);
        host.faults_of_ended_children() != before
    });
    assert!(!has_loaded, "each time a child has run");
    assert!(host.end().success());
}

#[test]
fn a_device_that_tells_of_itself_without_end_costs_init_little() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    let Some(device) = host::device_with_alias() else {
        return println!("SKIPPED: no device here has a module alias");
    };
    let mut host = host.start();
    let end = std::time::Instant::now() + Duration::from_secs(5);
    let flood = std::thread::spawn(move || {
        while std::time::Instant::now() < end {
            std::fs::write(device.join("uevent"), "change").unwrap();
        }
    });
    let first = host.share_of_processor(Duration::from_secs(1));
    let later = host.share_of_processor(Duration::from_secs(3));
    assert!(first < 0.3 && later < 0.03, "init takes {first}, later {later} of a processor");
    flood.join().unwrap();
    assert!(host.end().success());
}

#[test]
fn who_is_not_root_is_told_that_a_hosted_init_needs_it() {
    let words = words_without_root();
    assert!(words.contains("needs root") && words.lines().count() == 1, "{words}");
}

#[test]
fn hostile_clients_get_errors_and_init_answers_on() {
    let Some(host) = Host::with(&[("one", "[config]\nboot.autostart = true\n")]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    // Not a message; a message of a later version; one that is cut off; more than init has ever heard of.
    for bytes in [&b"\0"[..], b"\x02\0", b"\x01\x02", b"\x01\xff\xff", &[1; 4096]] {
        let socket = host.raw();
        packet::send(&socket, bytes, &[]).unwrap().unwrap();
        assert_eq!(refusal(replies(&socket, Duration::from_secs(5))).step, Step::Request);
    }
    // Somebody who asks for everything and reads nothing, many times, and goes away in the middle.
    let sleepers: Vec<_> =
        (0..10).map(|_| host.connect(&Request::Logs { instance: None, follow: true }, &[])).collect();
    let event_sleepers: Vec<_> = (0..5).map(|_| host.connect(&Request::Events, &[])).collect();
    // A command whose client hangs up is killed.
    let null = std::fs::File::open("/dev/null").unwrap();
    let client = host.ask_for_command("one", &["sleep", "1000"], [null.as_fd(), null.as_fd(), null.as_fd()]);
    host.wait_until("the command runs", |host| host.processes_named("sleep 1000") == 1);
    drop(client);
    host.wait_until("the command is gone", |host| host.processes_named("sleep 1000") == 0);
    // Too few descriptors; and a command's file that could still be changed, is too long, is none, or says nothing.
    let exec = Request::Exec { instance: name("one") };
    refusal(host.ask(&exec));
    let sealed = |bytes: &[u8]| yado_sys::memfd::sealed("command", bytes).unwrap();
    let (end, writer) = host::pipe();
    for (file, told) in [
        (null.as_fd(), "Invalid argument"),
        (writer.as_fd(), "Invalid argument"),
        (end.as_fd(), "Invalid argument"),
        (sealed(&[1; 40_000]).as_fd(), "at most 32768 bytes"),
        (sealed(b"").as_fd(), "empty packet"),
        (sealed(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f]).as_fd(), "malformed"),
    ] {
        let client = host.connect(&exec, &[null.as_fd(), null.as_fd(), null.as_fd(), file]);
        let refused = refusal(replies(&client, Duration::from_secs(60)));
        assert!(refused.reason.contains(told), "{refused}");
    }
    let long = "[ ${#1} = 30000 ] && exit 42";
    assert_eq!(host.exec("one", &["sh", "-c", long, "sh", &"x".repeat(30_000)]), Ok(ExitStatus::Code(42)));
    // More connections than there may be: those that fit are answered.
    let crowd: Vec<_> = (0..20).map(|_| host.raw()).collect();
    drop(crowd);
    assert_eq!(host.state("one"), InstanceState::Running);
    drop((sleepers, event_sleepers));
    refusal(host.ask(&Request::Poweroff));
    assert!(host.end().success());
}

#[test]
fn a_second_request_on_a_connection_whose_command_runs_is_refused_and_the_command_ends() {
    let Some(host) = Host::with(&[("one", "[config]\nboot.autostart = true\n")]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    let null = std::fs::File::open("/dev/null").unwrap();
    let client = host.ask_for_command("one", &["sleep", "1001"], [null.as_fd(), null.as_fd(), null.as_fd()]);
    host.wait_until("the command runs", |host| host.processes_named("sleep 1001") == 1);
    packet::send(&client, &yado_wire::encode(&Request::Status).unwrap(), &[]).unwrap().unwrap();
    let reason = refusal(replies(&client, Duration::from_secs(60))).reason;
    assert!(reason.contains("one request at a time"), "{reason}");
    assert_eq!(replies(&client, Duration::from_secs(60)), [], "the connection is closed");
    host.wait_until("the command is gone", |host| host.processes_named("sleep 1001") == 0);
    assert!(host.end().success());
}

#[test]
fn starts_that_hang_in_the_kernel_hold_up_nobody_and_are_told_until_they_end() {
    let Some(host) = Host::with(&[]) else { return };
    let Some(stalled) = Stalled::at(&host.path("stalled")) else { return };
    host.say_start_timeout(1);
    let hanging = ["a", "b", "c", "d"];
    for name in hanging {
        let source = host.path("stalled/file");
        let disk = format!("[devices.data]\ntype = \"disk\"\nsource = \"{}\"\npath = \"/mnt\"\n", source.display());
        host.add_instance(name, &format!("[config]\nboot.autostart = true\n{disk}"));
    }
    host.add_instance("well", "[config]\nboot.autostart = true\nhealth.window = \"100ms\"\n");
    let mut host = host.start();
    // As many as may start at once hang; the fifth starts all the same.
    host.wait_for("well", InstanceState::Ready);
    for one in hanging {
        host.wait_for(one, InstanceState::Stuck);
        let failure = host.status(one).last_failure.unwrap();
        assert!(failure.reason.contains("do not end"), "{failure}");
    }
    let told = host.logs_until(Some("a"), "a: stuck");
    assert!(
        told.iter().any(|line| line.contains("it was not started") && line.contains("its step was mount")),
        "{told:?}"
    );
    // Nothing takes its place, and nobody who asks is kept waiting.
    let stop = Request::Stop { instance: name("a"), timeout_s: None, force: true };
    for request in [Request::Start(name("a")), stop, Request::Start(name("a"))] {
        assert!(refusal(host.ask(&request)).reason.contains("do not end"), "{request:?}");
    }
    assert_eq!(host.exec("well", &["true"]), Ok(ExitStatus::Code(0)));
    // What hung ends: it is still wanted, and now the source is merely absent.
    drop(stalled);
    for one in hanging {
        host.wait_for(one, InstanceState::Failed);
    }
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn a_probe_whose_launcher_hangs_has_failed_and_the_next_one_is_tried() {
    let config = "[config]\nboot.autostart = true\nhealth.window = \"100ms\"\n\
        \"health.probe\" = \"exec:/bin/sleep 1003\"\n\"health.probe.timeout\" = \"2s\"\n\
        \"health.probe.interval\" = 1\n\"health.probe.failures\" = 2\n";
    let Some(host) = Host::with(&[("one", config)]) else { return };
    let mut host = host.start();
    host.wait_until("a probe is tried", |host| host.processes_named("sleep 1003") == 1);
    host.stop_launchers("probe");
    host.wait_for("one", InstanceState::Unhealthy);
    let told = host.logs_until(Some("one"), "one: unhealthy");
    assert!(told.iter().any(|line| line.contains("the probe did not end within 7 s")), "{told:?}");
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn who_comes_after_an_instance_that_does_not_become_ready_starts_and_is_told() {
    let never_ready = "[config]\nboot.autostart = true\nhealth.ready = \"notify\"\nhealth.timeout = \"1s\"\n";
    let after = "after = [\"db\"]\n[config]\nboot.autostart = true\n";
    let Some(host) = Host::with(&[("db", never_ready), ("web", after)]) else { return };
    let mut host = host.start();
    host.wait_for("web", InstanceState::Running);
    let status = host.status("db");
    assert_eq!(status.state, InstanceState::Unhealthy);
    assert!(status.pid.is_some(), "it is left as it is");
    host.logs_until(Some("web"), "web: waits no longer for db: unhealthy");
    host.notify("db", "READY=1");
    host.wait_for("db", InstanceState::Ready);
    assert!(host.end().success());
}
