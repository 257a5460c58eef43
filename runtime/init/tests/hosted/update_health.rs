//! What the updater learns of instances while a release is on trial: who is required, who is ready since when, who was started again, who
//! holds the update lock. The kernel's own lock is what decides that.

use super::{host::Host, name};
use crate::host::Running;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::time::{Duration, Instant};
use yado_wire::rescue::{ExitStatus, InstanceHealth, InstanceState, Reply, Request};

fn health(host: &Running) -> Vec<InstanceHealth> {
    let mut replies = host.ask(&Request::Health);
    assert_eq!(replies.pop(), Some(Reply::Done), "{replies:?}");
    let healths = replies.into_iter().map(|reply| match reply {
        Reply::Health(health) => health,
        other => panic!("{other:?}"),
    });
    healths.collect()
}

fn health_of(host: &Running, instance: &str) -> InstanceHealth {
    health(host).into_iter().find(|health| health.instance.name.as_str() == instance).unwrap()
}

#[test]
fn what_a_trial_is_judged_by_is_told_of_each_instance() {
    let runs = "[config]\nboot.autostart = true\nhealth.window = \"1s\"\n";
    let may_fail = "[config]\nboot.autostart = true\nhealth.required = false\nhealth.window = \"1h\"\n";
    let crashes = "[config]\nboot.autostart = true\nboot.restart = \"always\"\n\"boot.restart.pause\" = \"100ms\"\n\
                   health.window = \"1s\"\n";
    let Some(host) = Host::with(&[("one", runs), ("two", ""), ("may-fail", may_fail), ("crashes", crashes)]) else {
        return;
    };
    host.use_image_with_init("crashes", &["/bin/sh", "-c", "exit 3"]);
    let mut host = host.start();
    host.wait_for("one", InstanceState::Ready);
    let asked_at = Instant::now();
    let one = health_of(&host, "one");
    assert_eq!((one.is_required, one.is_wanted, one.state), (true, true, InstanceState::Ready));
    assert_eq!((one.restarts, one.unhealthy, one.holds_update), (0, 0, false));
    assert_eq!(one.fingerprint, host.status("one").fingerprint);
    let ready_ms = one.ready_ms.unwrap();
    host.wait_until("it was ready for a second", |host| ready_ms + 1000 <= health_of(host, "one").ready_ms.unwrap());
    assert!(asked_at.elapsed() < Duration::from_secs(30), "{:?}", asked_at.elapsed());
    let two = health_of(&host, "two");
    assert_eq!((two.is_required, two.is_wanted, two.ready_ms), (false, false, None), "it does not start by itself");
    let may_fail = health_of(&host, "may-fail");
    assert_eq!((may_fail.is_required, may_fail.is_wanted), (false, true));
    host.wait_until("it was started again", |host| 2 <= health_of(host, "crashes").restarts);
    let crashes = health_of(&host, "crashes");
    assert_eq!((crashes.is_required, crashes.ready_ms), (true, None));
    assert!(crashes.last_failure.is_some());
    // A start anew begins to count anew.
    assert_eq!(host.ask(&Request::Restart(name("one"))), [Reply::Done]);
    assert_eq!(health_of(&host, "one").ready_ms, None);
    // Whether it is required applies at once.
    host.add_instance("one", "[config]\nboot.autostart = true\nhealth.required = false\n");
    host.apply();
    assert!(!health_of(&host, "one").is_required);
    assert!(host.end().success());
}

#[test]
fn an_instance_delays_a_reboot_by_a_lock_and_by_nothing_else() {
    let locks = "[config]\nboot.autostart = true\nsecurity.update_lock = true\n";
    let Some(host) = Host::with(&[("locks", locks), ("other", "[config]\nboot.autostart = true\n")]) else { return };
    let mut host = host.start();
    for instance in ["locks", "other"] {
        host.wait_for(instance, InstanceState::Running);
    }
    let inside = |script: &str| host.exec("locks", &["sh", "-c", script]);
    let is_held = || health_of(&host, "locks").holds_update;
    assert!(!is_held());
    // Who was not given the key has no such file.
    assert_eq!(host.exec("other", &["sh", "-c", "[ ! -e /run/yado ]"]), Ok(ExitStatus::Code(0)));
    let lock = "/run/yado/update-lock";
    // As the instance sees it, past its mount. Static busybox has no flock(1).
    let seen = format!("/proc/{}/root{lock}", host.status("locks").pid.unwrap());
    let alone = File::open(&seen).unwrap();
    flock(&alone, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(is_held());
    drop(alone);
    assert!(!is_held());
    let [first, second] = [(); 2].map(|()| File::open(&seen).unwrap());
    for common in [&first, &second] {
        flock(common, FlockOperation::NonBlockingLockShared).unwrap();
    }
    drop(first);
    assert!(is_held(), "its last holder is still there");
    assert!(!health_of(&host, "other").holds_update);
    // Nothing can be put in its place, made larger, removed or made to wait for, and to ask takes no time.
    for attempt in ["/bin/busybox rm -f", "echo x >", "/bin/busybox truncate -s 1G", "/bin/busybox chmod 777"] {
        let done = inside(&format!("{attempt} {lock}"));
        assert!(matches!(done, Ok(ExitStatus::Code(code)) if code != 0), "{attempt}: {done:?}");
    }
    // Not even by who owns the file.
    let written = File::options().write(true).open(&seen).unwrap_err();
    assert_eq!(written.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    // What is put in its place inside is not what is asked.
    let hidden =
        "set -e; b=/bin/busybox; $b mv /run/yado /run/x; $b mkdir /run/yado; $b mkfifo /run/yado/update-lock";
    assert_eq!(inside(hidden), Ok(ExitStatus::Code(0)));
    let began = Instant::now();
    assert!(is_held());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // It ends with the instance, and the next run begins without it.
    assert_eq!(host.ask(&Request::Restart(name("locks"))), [Reply::Done]);
    assert!(!is_held());
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}
