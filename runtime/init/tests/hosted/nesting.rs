//! Containers in an instance that has `security.nesting`: those of others (bubblewrap, crun, podman), for root and for a user, and an
//! init of ours. What a container inside says is what its kernel told it; groups and limits are looked at from outside.

#[path = "../../../../qemu-tests/src/guests_on_board/nested.rs"]
mod nested;

use crate::host::{self, Host, Running};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use yado_sys::packet;
use yado_wire::hash::fnv32;
use yado_wire::rescue::{ExitStatus, InstanceState, Reply, Request};

const INIT: &str = env!("CARGO_BIN_EXE_yado-init");

/// A container's first start on a busy machine takes some seconds.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What the root with the others' programs is called among those that are given.
const ROOT: &str = "nesting";

/// Without `/dev/fuse`.
const NESTS: &str = "[config]\nboot.autostart = true\nsecurity.nesting = true\nhealth.ready = \"notify\"\n\
                     [devices.eth0]\ntype = \"nic\"\nnetwork = \"lan0\"\nipv4.address = \"10.205.9.7\"\n";

#[test]
fn containers_of_others_run_inside_for_root_and_for_a_user() {
    let Some(mut host) = with_root_for_nesting() else { return };
    prepare(&host);
    let base = host.first_host_id("guest").to_string();
    let failed: Vec<String> = nested::CONTAINERS
        .iter()
        .filter_map(|nested| {
            let map = nested.map(&base);
            let (status, said) = run(&host, "guest", &nested.command());
            let is_right = status == ExitStatus::Code(0) && nested::words_of_map(&said) == map;
            (!is_right).then(|| format!("{}: {status:?}, {said}, and not {map}", nested.what))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

/// The kernel's own file says the limit, in the group of what podman runs.
#[test]
fn a_limit_of_podmans_holds_one_level_down() {
    if !has_memory_controller() {
        println!("SKIPPED: version 2 has no memory controller here");
        return;
    }
    let Some(mut host) = with_root_for_nesting() else { return };
    prepare(&host);
    let (status, said) = run(&host, "guest", nested::LIMITED);
    assert_eq!(status, ExitStatus::Code(0), "{said}");
    let groups = groups_below(&host.group_of("guest"));
    let has = |group: &PathBuf| {
        let read = |file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
        let is_sleep =
            |pid: &str| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x001000\0");
        read("memory.max") == "33554432\n" && read("cgroup.procs").lines().any(is_sleep)
    };
    assert!(groups.iter().any(has), "{groups:?}");
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

/// systemd-networkd waits for a udev where `/sys` is writable, and this root has none. What it configures, the kernel shows.
#[test]
fn systemd_networkd_configures_its_interface_without_a_udev() {
    let Some(mut host) = with_root_for_nesting() else { return };
    let configure = "mkdir -p /run/systemd/network && printf '[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv4\\n' \
                     >/run/systemd/network/10-eth0.network && systemctl restart systemd-networkd \
                     && /lib/systemd/systemd-networkd-wait-online --interface=eth0 --timeout=40; networkctl; ip -4 -o address";
    let (status, said) = run(&host, "guest", configure);
    assert!(status == ExitStatus::Code(0) && said.contains(" 10.205.9.7/24 "), "{status:?} {said}");
    assert!(said.lines().any(|line| line.contains("eth0") && line.contains("configured")), "{said}");
    assert!(host.end().success());
}

/// It needs no user namespace above it: only there the kernel mounts images and takes device filters.
#[test]
fn an_init_of_ours_runs_in_a_privileged_instance_and_its_limits_hold_one_level_down() {
    let limit = if has_memory_controller() { "limits.memory = \"32MiB\"\n" } else { "" };
    let one = format!("[config]\nboot.autostart = true\nhealth.window = \"100ms\"\n{limit}");
    let Some(inner) = Host::with(&[("one", &one)]) else { return };
    let privileged = "security.privileged = true\nsecurity.syscalls.deny_default = false\n";
    let Some(outer) = Host::with(&[("outer", &around(&inner.path(""), privileged))]) else { return };
    outer.write("system/privileged", "allow\n");
    // A group that passes controllers on has no processes of its own.
    let script = format!(
        "#!/bin/busybox sh\nmkdir /sys/fs/cgroup/leaf && echo 0 >/sys/fs/cgroup/leaf/cgroup.procs\n\
         {INIT} --hosted {} &\ntrap 'kill $!' USR2\nwait; wait\n",
        inner.path("").display()
    );
    outer.write_program("bin/outer-init", &script);
    outer.use_image_with_init("outer", &["/bin/outer-init"]);
    let mut outer = outer.start();
    outer.wait_until("the inner instance is ready", |_| is_ready(&inner.path("run/init.sock")));
    let hash = fnv32(inner.path("").canonicalize().unwrap().as_os_str().as_encoded_bytes().iter().copied());
    let group = outer.group_of("outer").join(format!("yado-{hash:08x}/one.1"));
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap();
    assert!(!processes.is_empty(), "{}", group.display());
    match has_memory_controller() {
        true => assert_eq!(fs::read_to_string(group.join("memory.max")).unwrap(), "33554432\n"),
        false => println!("SKIPPED: version 2 has no memory controller here"),
    }
    assert!(outer.end().success());
    assert_eq!(outer.left_over(), [""; 0]);
}

#[test]
fn an_init_of_ours_in_a_user_namespace_says_what_it_needs() {
    let Some(host) = Host::with(&[]) else { return };
    let inner = host.path("inner");
    fs::create_dir(&inner).unwrap();
    host.add_instance("guest", &around(&inner, ""));
    let mut host = host.start();
    host.wait_for("guest", InstanceState::Running);
    let (status, said) = run(&host, "guest", &format!("{INIT} --hosted {}", inner.display()));
    assert_eq!(status, ExitStatus::Code(1), "{said}");
    assert!(said.contains("in a user namespace") && said.contains("security.privileged"), "{said}");
    assert!(host.end().success());
}

/// An instance that has our programs, with what they are linked to, and this directory, each where it is outside.
fn around(directory: &Path, config: &str) -> String {
    let mut text =
        format!("[config]\nboot.autostart = true\nsecurity.nesting = true\nhealth.window = \"100ms\"\n{config}");
    let programs = Path::new(INIT).parent().unwrap().to_str().unwrap();
    let disk = |name: &str, path: &str, rest: &str| {
        format!("[devices.{name}]\ntype = \"disk\"\nsource = \"{path}\"\npath = \"{path}\"\n{rest}")
    };
    text += &disk("directory", directory.to_str().unwrap().trim_end_matches('/'), "");
    for (name, path) in [("programs", programs), ("lib", "/lib"), ("lib64", "/lib64")] {
        text += &disk(name, path, "readonly = true\nrequired = false\n");
    }
    // Before 6.12 the kernel mounts an image by a loop device.
    text += "[devices.loops]\ntype = \"unix-char\"\nsource = \"/dev/loop-control\"\nrequired = false\n";
    for number in 0..8 {
        text += &format!(
            "[devices.loop{number}]\ntype = \"unix-block\"\nsource = \"/dev/loop{number}\"\nrequired = false\n"
        );
    }
    text
}

fn is_ready(socket: &Path) -> bool {
    let Ok(connection) = packet::connect(socket) else { return false };
    let asked = packet::send(&connection, &yado_wire::encode(&Request::Status).unwrap(), &[]);
    let replies = if asked.is_ok() { host::replies(&connection, Duration::from_secs(10)) } else { Vec::new() };
    replies.iter().any(|reply| matches!(reply, Reply::Instance(status) if status.state == InstanceState::Ready))
}

/// `None`: no such root is given, or it cannot be done here, which was printed.
fn with_root_for_nesting() -> Option<Running> {
    let directory = std::env::var_os("YADO_TEST_ROOTS").unwrap_or_default();
    let names = [ROOT.to_owned(), format!("{ROOT}.tar")];
    let Some(root) = names.iter().map(|name| Path::new(&directory).join(name)).find(|root| root.exists()) else {
        println!("SKIPPED: no root {ROOT} in what YADO_TEST_ROOTS names (cargo accept makes it)");
        return None;
    };
    if !Path::new("/dev/fuse").exists() {
        println!("SKIPPED: this kernel has no /dev/fuse");
        return None;
    }
    let host = Host::with(&[])?;
    host.add_instance_of(&root, "guest", &format!("{NESTS}{}", nested::FUSE));
    host.write_network("lan0", "[config]\nipv4.address = \"10.205.9.1/24\"\n");
    let host = host.start();
    host.wait_for("guest", InstanceState::Ready);
    Some(host)
}

fn prepare(host: &Running) {
    let (status, said) = run(host, "guest", nested::PREPARE);
    assert_eq!(status, ExitStatus::Code(0), "{said}");
}

/// As the instance's root; gives all that it printed.
fn run(host: &Running, instance: &str, script: &str) -> (ExitStatus, String) {
    let null = File::open("/dev/null").unwrap();
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let words = ["/bin/sh", "-c", script];
    let connection = host.ask_for_command(instance, &words, [null.as_fd(), writer.as_fd(), writer.as_fd()]);
    drop(writer);
    let said = std::thread::spawn(move || read_all(reader));
    match host::replies(&connection, TIMEOUT).pop() {
        Some(Reply::Exited(status)) => (status, said.join().unwrap()),
        other => panic!("{script}: {other:?}"),
    }
}

fn read_all(reader: OwnedFd) -> String {
    let mut said = Vec::new();
    File::from(reader).read_to_end(&mut said).unwrap();
    String::from_utf8_lossy(&said).into_owned()
}

fn has_memory_controller() -> bool {
    let controllers = host::cgroup2().map(|root| fs::read_to_string(root.join("cgroup.controllers")).unwrap());
    controllers.is_some_and(|controllers| controllers.split_whitespace().any(|name| name == "memory"))
}

fn groups_below(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.flat_map(|entry| [vec![entry.path()], groups_below(&entry.path())].concat()).collect()
}
