//! What keeps instances apart from each other, and strangers from init, as the kernel or the other end sees it.

use super::host::{self, Host, Running};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;
use yado_spec::kernel_table_share;
use yado_sys::{machine, packet};
use yado_wire::rescue::{EventKind, ExitStatus, InstanceState, Reply, Request};

const RUNS: &str = "[config]\nboot.autostart = true\n";

/// How many ids each has, unless it says more.
const IDS: u32 = 65_536;

#[test]
fn no_two_instances_have_a_host_id_in_common() {
    let Some(host) = Host::with(&[("one", RUNS), ("two", RUNS), ("three", RUNS)]) else { return };
    let mut host = host.start();
    let mut first: Vec<u32> = ["one", "two", "three"]
        .map(|name| {
            host.wait_for(name, InstanceState::Running);
            host.first_host_id(name)
        })
        .into();
    first.sort_unstable();
    assert!(first.windows(2).all(|pair| pair[0] + IDS <= pair[1]), "{first:?}");
    assert!(first.iter().all(|first| IDS <= *first), "the system's own users: {first:?}");
    assert!(host.end().success());
}

/// Its mode keeps others away, and were that lost, its owner: each of the two is seen without the other.
#[test]
fn init_listens_for_root_alone_and_answers_nobody_else_whatever_the_sockets_mode() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    let mut host = host.start();
    let socket = host.path("run/init.sock");
    let found = fs::symlink_metadata(&socket).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid()), (0o600, 0));
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let connection = host::connect_as(65_534, &socket);
    // It may be hung up on before anything is sent.
    let _ = packet::send(&connection, &yado_wire::encode(&Request::Status).unwrap(), &[]);
    assert_eq!(host::replies(&connection, Duration::from_secs(10)), []);
    host.logs_until(None, "of user 65534 may not ask: only root may");
    assert!(host.end().success());
}

/// What an instance has said when it said that it is ready, up to this.
fn ready_words(host: &Running, instance: &str, last: &str) -> Vec<String> {
    let socket = host.connect(&Request::Events, &[]);
    packet::set_timeout(&socket, Duration::from_secs(60)).unwrap();
    let mut words: Vec<String> = Vec::new();
    while words.last().is_none_or(|word| word != last) {
        let Some(Reply::Event(event)) = host::next_reply(&socket) else { panic!("only {words:?}") };
        if let (Some(about), Some(EventKind::Ready(word))) = (event.instance, event.kind) {
            words.extend((about.name.as_str() == instance).then(|| word.to_string()));
        }
    }
    words
}

/// The kernel says whose a datagram is. The socket alone proves nothing: root of the host reaches it, and an instance can pass
/// it on to whomever it likes.
#[test]
fn nobody_outside_an_instances_range_of_ids_speaks_for_it() {
    let config = format!(
        "{RUNS}health.ready = \"notify\"\nhealth.watchdog = 600\nboot.restart = \"on-failure\"\n\
         \"boot.restart.pause\" = \"100ms\"\n"
    );
    let Some(host) = Host::with(&[("one", &config), ("two", RUNS)]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    host.wait_for("two", InstanceState::Running);
    let (first, pid) = (host.first_host_id("one"), host.status("one").pid.unwrap());
    let from_outside = |text: &str| {
        for uid in [0, 65_534, first - 1, first + IDS, host.first_host_id("two")] {
            host.notify_as(uid, "one", text);
        }
    };
    // What comes out of the socket later was not heard before.
    from_outside("READY=1\nSTATUS=from outside");
    from_outside("WATCHDOG=trigger");
    host.notify("one", "READY=1\nSTATUS=from inside");
    assert_eq!(ready_words(&host, "one", "from inside"), ["from inside"]);
    host.wait_for("one", InstanceState::Ready);
    from_outside("STATUS=from outside\nWATCHDOG=trigger");
    host.notify("one", "STATUS=from inside, too\nWATCHDOG=trigger");
    let told = host.logs_until(Some("one"), "from inside, too");
    assert!(!told.iter().any(|line| line.contains("from outside")), "{told:?}");
    host.wait_until("it is started again", |host| host.status("one").restarts == 1);
    assert!(!host.is_process_of_ours(pid), "its first process is still there");
    assert!(host.end().success());
}

#[test]
fn the_groups_below_an_instances_own_are_bounded_in_number_and_depth() {
    let Some(host) = Host::with(&[("one", RUNS)]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    let group = host.group_of("one");
    let read = |file: &str| fs::read_to_string(group.join(file)).unwrap().trim().to_owned();
    assert_eq!(
        read("cgroup.max.descendants"),
        kernel_table_share::control_groups(machine::memory_bytes()).to_string()
    );
    assert_eq!(read("cgroup.max.depth"), "16");
    let (mut below, mut made) = (group, 0);
    let refusal = loop {
        below.push("deeper");
        match fs::create_dir(&below) {
            Ok(()) => made += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((made, refusal.raw_os_error()), (16, Some(rustix::io::Errno::AGAIN.raw_os_error())));
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

/// Their network goes with netd, which is such a service: what an instance says when it ends would be lost.
#[test]
fn a_service_is_asked_to_end_only_when_no_instance_is_left() {
    let Some(host) = Host::with(&[("slow", RUNS)]) else { return };
    host.use_image_with_init(
        "slow",
        &["/bin/sh", "-c", "trap 'sleep 1; exit 0' USR2; while :; do sleep 1000 & wait $!; done"],
    );
    let directory = host.path("").display().to_string();
    let ended = format!(
        "if [ -d /proc/$(cat {directory}/pid) ]; then echo runs; else echo gone; fi >{directory}/verdict; exit 0"
    );
    host.write_service(
        "witness",
        &format!("#!/bin/sh\ntrap '{ended}' TERM\necho >{directory}/ready\nwhile :; do sleep 1000 & wait $!; done\n"),
    );
    let mut host = host.start();
    host.wait_for("slow", InstanceState::Running);
    host.wait_until("the service listens", |host| host.path("ready").exists());
    fs::write(host.path("pid"), host.status("slow").pid.unwrap().to_string()).unwrap();
    assert!(host.end().success());
    assert_eq!(fs::read_to_string(host.path("verdict")).unwrap(), "gone\n");
}

/// On disk the files of its root are the host's root's, with all that they may do.
#[test]
fn nobody_else_on_the_host_reaches_the_files_of_an_instance() {
    let Some(host) = Host::with(&[("one", RUNS)]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    let plant = "/bin/busybox cp /bin/busybox /root/mine && /bin/busybox chmod 4755 /root/mine";
    assert_eq!(host.exec("one", &["sh", "-c", plant]), Ok(ExitStatus::Code(0)));
    let layers = fs::read_dir(host.path("data/layers")).unwrap().map(|layer| layer.unwrap().path());
    let planted: Vec<_> = layers.map(|layer| layer.join("upper/root/mine")).collect();
    let [planted] = planted.as_slice() else { panic!("{planted:?}") };
    let found = fs::metadata(planted).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o7777), (0, 0o4755));
    assert_eq!(host::open_as(65_534, planted).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    assert!(host.end().success());
}
