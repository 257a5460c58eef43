//! What keeps instances apart from each other, and strangers from init, as the kernel or the other end sees it.

use super::host::{self, Host};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;
use yado_spec::kernel_table_share;
use yado_sys::{machine, packet};
use yado_wire::rescue::{InstanceState, Request};

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
