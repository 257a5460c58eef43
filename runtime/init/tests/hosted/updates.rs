//! The updater's process: started on request and when the time that it named is over, one at a time, with limits of its own, and
//! gone at the end. What it does is not looked at here: a shell script stands in its place.

use super::{host, host::Host, refusal};
use crate::host::{Running, next_reply, pipe, replies};
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use yado_sys::packet;
use yado_wire::rescue::{ExitStatus, MAX_UPDATE_BYTES, MAX_UPDATE_WORDS, Reply, Request, ServiceStatus};

const UPDATER: &str = "\
echo \"$*\" >>$YADO_RUN/seen
case \"$1 $2\" in
'run say') echo \"$3, for $YADO_DATA: $(cat)\"; exit 7 ;;
'run wait') trap 'echo it was asked to end; exit 3' TERM; sleep 7654301 & wait ;;
'run deaf') trap '' TERM; sleep 7654302; sleep 7654302; sleep 7654302 ;;
'run later') echo 1 >$YADO_RUN/updater/next-start ;;
'resume ') [ $(grep -c resume $YADO_RUN/seen) != 1 ] || kill -SEGV $$ ;;
esac
";

fn update(words: &[&str]) -> Request {
    Request::Update { words: words.iter().map(|word| (*word).to_owned()).collect() }
}

fn updater_of(host: &Running) -> Option<ServiceStatus> {
    host.ask(&Request::Status).into_iter().find_map(|reply| match reply {
        Reply::Service(service) if service.name.as_str() == "updater" => Some(service),
        _ => None,
    })
}

pub(super) fn seen(host: &Running) -> String {
    fs::read_to_string(host.path("run/seen")).unwrap_or_default()
}

#[test]
fn an_updater_gets_words_and_input_and_its_output_and_exit_code_are_told() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    let mut host = host.start_with_updater(UPDATER);
    assert_eq!(updater_of(&host), None);
    let (input, mut writer) = UnixStream::pair().unwrap();
    writer.write_all(b"a bundle").unwrap();
    drop(writer);
    let socket = host.connect(&update(&["say", "two words"]), &[input.as_fd()]);
    let answers = replies(&socket, Duration::from_secs(60));
    let [Reply::Service(started), Reply::Exited(ended)] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!((started.name.as_str(), started.pid.is_some(), *ended), ("updater", true, ExitStatus::Code(7)));
    let printed = format!("two words, for {}: a bundle", host.path("data").canonicalize().unwrap().display());
    host.logs_until(None, &printed);
    // Without input of its own it has none to wait for, and without a client it is done all the same.
    host.connect(&update(&["say", "nobody"]), &[]);
    host.wait_until("it is done", |host| seen(host).contains("run say nobody") && updater_of(host).is_none());
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn one_updater_runs_at_a_time_whoever_hangs_up_and_ends_when_it_is_asked() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    let mut host = host.start_with_updater(UPDATER);
    let first = host.connect(&update(&["wait"]), &[]);
    let Some(Reply::Service(started)) = next_reply(&first) else { panic!() };
    drop(first);
    let refused = refusal(host.ask(&update(&["say", "me", "too"])));
    assert_eq!(refused.to_string(), "request: updater: it is at work: run wait");
    host.wait_until("its child runs", |_| host::count_everywhere("sleep 7654301") == 1);
    assert_eq!(updater_of(&host).map(|status| status.pid), Some(started.pid));
    let group = host.group_of_updater();
    let of_group = |file: &str| fs::read_to_string(group.join(file)).unwrap().trim().to_owned();
    assert!(of_group("run-0/cgroup.procs").lines().any(|pid| Some(pid.parse().unwrap()) == started.pid));
    if host.has_controller("memory") {
        assert_eq!(of_group("memory.max"), (32 << 20).to_string());
    }
    if host.has_controller("cpu") {
        assert_eq!(of_group("cpu.weight"), "10");
    }
    assert_eq!(host.ask(&Request::StopUpdate), [Reply::Done]);
    host.logs_until(None, "it was asked to end");
    // All that it started is gone with it.
    host.wait_until("nothing of it is left", |_| host::count_everywhere("sleep 7654301") == 0);
    assert_eq!((updater_of(&host), host.ask(&Request::StopUpdate)), (None, vec![Reply::Done]));
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn an_updater_that_heeds_nothing_is_killed_on_request_and_at_the_end() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    let mut host = host.start_with_updater(UPDATER);
    let runs = |host: &Running| {
        host.wait_until("it runs", |_| host::count_everywhere("sleep 7654302") == 1);
    };
    let first = host.connect(&update(&["deaf"]), &[]);
    runs(&host);
    assert_eq!(host.ask(&Request::StopUpdate), [Reply::Done]);
    let answers = replies(&first, Duration::from_secs(60));
    assert_eq!(answers.last(), Some(&Reply::Exited(ExitStatus::Signal(9))));
    let _second = host.connect(&update(&["deaf"]), &[]);
    runs(&host);
    let began = Instant::now();
    assert!(host.end().success());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!((host::count_everywhere("sleep 7654302"), host.left_over()), (0, Vec::new()));
}

#[test]
fn an_updater_goes_on_at_the_time_that_it_named_and_again_when_it_crashes_then() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    let mut host = host.start_with_updater(UPDATER);
    let answers = host.ask(&update(&["later"]));
    assert_eq!(answers.last(), Some(&Reply::Exited(ExitStatus::Code(0))));
    host.wait_until("it went on twice", |host| seen(host) == "run later\nresume\nresume\n");
    let log = host.logs_until(None, "updater: was killed by signal 11");
    assert!(!log.iter().any(|line| line.contains("run later was killed")), "{log:?}");
    host.wait_until("it is done", |host| updater_of(host).is_none());
    assert!(!host.path("run/updater/next-start").exists());
    assert!(host.end().success());
}

#[test]
fn a_request_that_no_updater_could_take_is_refused_and_starts_none() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    let mut host = host.start_with_updater(UPDATER);
    let long = "x".repeat(MAX_UPDATE_BYTES);
    let many = vec!["x"; MAX_UPDATE_WORDS + 1];
    for (words, reason) in [
        (&[] as &[&str], "1 to 16 words"),
        (&many, "1 to 16 words"),
        (&["x", &long], "4096 bytes"),
        (&["a\0b"], "start it"),
    ] {
        let refused = refusal(host.ask(&update(words)));
        assert!(refused.reason.contains(reason), "{refused}");
    }
    let (reader, writer) = pipe();
    let socket = host.connect(&update(&["say"]), &[reader.as_fd(), writer.as_fd()]);
    let refused = refusal(replies(&socket, Duration::from_secs(60)));
    assert!(refused.reason.contains("one descriptor at most"), "{refused}");
    // The connection is as good as before.
    packet::send(&socket, &yado_wire::encode(&Request::StopUpdate).unwrap(), &[]).unwrap().unwrap();
    assert_eq!(replies(&socket, Duration::from_secs(60)), [Reply::Done]);
    assert_eq!((seen(&host), updater_of(&host)), (String::new(), None));
    assert!(host.end().success());
}

#[test]
fn one_that_only_goes_on_makes_way_for_what_is_asked_and_goes_on_afterwards() {
    const GOES_ON: &str = "\
echo \"$*\" >>$YADO_RUN/seen
case \"$*\" in
'run soon') echo 0 >$YADO_RUN/updater/next-start ;;
'run something') exit 5 ;;
'resume') [ $(grep -c resume $YADO_RUN/seen) = 1 ] || exit 0
    trap 'echo asked >>$YADO_RUN/seen; exit 3' TERM; sleep 7654303 & wait ;;
esac
";
    let Some(host) = Host::with(&[("one", "")]) else { return };
    let mut host = host.start_with_updater(GOES_ON);
    host.ask(&update(&["soon"]));
    host.wait_until("it goes on", |_| host::count_everywhere("sleep 7654303") == 1);
    let (input, _writer) = UnixStream::pair().unwrap();
    let answers = replies(&host.connect(&update(&["something"]), &[input.as_fd()]), Duration::from_secs(60));
    let [Reply::Service(_), Reply::Exited(ended)] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!(*ended, ExitStatus::Code(5));
    host.wait_until("it goes on again", |host| seen(host) == "run soon\nresume\nasked\nrun something\nresume\n");
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}
