//! That an init which ends leaves nobody behind, and does not wait for ever.

use super::{host, host::Host, name};
use std::time::{Duration, Instant};
use yado_wire::rescue::{InstanceState, Reply, Request};

#[test]
fn a_process_that_heeds_no_signal_and_belongs_to_nobody_is_killed_at_the_end() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    // Out of every group of ours, as somebody's daemon that a shell left behind.
    let group = host::own_group();
    let child = format!("trap '' TERM HUP; echo $$ >{group}/cgroup.procs; exec sleep 7654101");
    host.write_service(
        "leaver",
        &format!("#!/bin/sh\nsh -c \"{}\" &\nexec sleep 7654102\n", child.replace('$', "\\$")),
    );
    let mut host = host.start();
    let everywhere = || (host::count_everywhere("sleep 7654101"), host::count_everywhere("sleep 7654102"));
    host.wait_until("both run", |_| everywhere() == (1, 1));
    assert!(host.end().success());
    assert_eq!(everywhere(), (0, 0));
}

#[test]
fn a_stop_with_a_long_timeout_is_cut_short_by_the_end() {
    let config = "[config]\nboot.autostart = true\n\"boot.host_shutdown_timeout\" = 1\n";
    let Some(host) = Host::with(&[("deaf", config)]) else { return };
    host.use_image_with_init("deaf", &["/bin/sh", "-c", "trap '' TERM USR2; while :; do sleep 1; done"]);
    let mut host = host.start();
    host.wait_for("deaf", InstanceState::Running);
    let stop = Request::Stop { instance: name("deaf"), timeout_s: Some(3600), force: false };
    let _waits = host.connect(&stop, &[]);
    host.wait_for("deaf", InstanceState::Stopping);
    let began = Instant::now();
    assert!(host.end().success());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn what_a_service_starts_ends_with_it() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    host.write_service("crasher", "#!/bin/sh\nsh -c \"trap '' TERM; exec sleep 7654201\" &\nexit 1\n");
    host.write_service("waits", "#!/bin/sh\nsleep 7654202 &\nexec sleep 7654203\n");
    let mut host = host.start();
    host.wait_until("what it starts runs in its group", |host| {
        let group = host.service_group("waits");
        let processes = group.map(|group| std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default());
        processes.is_some_and(|list| list.lines().count() == 2)
    });
    let crashes = |host: &host::Running| {
        host.ask(&Request::Status).iter().any(|reply| match reply {
            Reply::Service(service) => service.name.as_str() == "crasher" && 2 <= service.restarts,
            _ => false,
        })
    };
    host.wait_until("it crashes and leaves nobody", |host| {
        crashes(host) && host::count_everywhere("sleep 7654201") <= 1
    });
    assert!(host.end().success());
    let left: Vec<usize> =
        (7654201..=7654203).map(|number| host::count_everywhere(&format!("sleep {number}"))).collect();
    assert_eq!((left, host.left_over()), (vec![0; 3], Vec::new()));
}

/// A FUSE server that says yes to the kernel's first question and then nothing any more, and, as the instance's init, who
/// waits for it. Both have the server's descriptor, so that it is not even closed when one of them is killed.
const SILENT_SERVER: &str = "#!/bin/sh
busybox() { /bin/busybox \"$@\"; }
busybox mkdir -p /tmp/m
exec 3<>/dev/fuse || exit 1
busybox mount -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 none /tmp/m || exit 1
busybox dd bs=65536 count=1 <&3 >/tmp/question 2>/dev/null
{
    # struct fuse_out_header: 40 bytes, no error, the number of the question; struct fuse_init_out of 7.12.
    printf '\\050\\000\\000\\000\\000\\000\\000\\000'
    busybox dd bs=1 skip=8 count=8 </tmp/question 2>/dev/null
    printf '\\007\\000\\000\\000\\014\\000\\000\\000\\000\\000\\000\\000\\000\\000\\000\\000'
    printf '\\000\\000\\000\\000\\000\\020\\000\\000'
} >/tmp/answer
busybox dd bs=40 count=1 </tmp/answer >&3 2>/dev/null || exit 1
{
    busybox dd bs=65536 count=1 <&3 >/dev/null 2>&1
    echo the question is taken
    exec busybox sleep 100000
} &
exec /bin/busybox ls /tmp/m
";

/// A host with instances that run it. Those of each test of this process `skip` another number of ranges, 1 to 7.
fn host_with_silent_servers(skip: u32, names: &[&str]) -> Option<Host> {
    let config = "[config]\nboot.autostart = true\n\"boot.host_shutdown_timeout\" = 1\n\
        [devices.fuse]\ntype = \"unix-char\"\npath = \"/dev/fuse\"\n";
    // Connections are told apart by ids of the machine, and another test's instances have the same unless somebody comes first
    // who takes many.
    let first = format!("[config]\nsecurity.idmap.size = {}\n", 65536 * (skip + 8 * (std::process::id() % 1000)));
    let instances = [("a", first.as_str())].into_iter().chain(names.iter().map(|name| (*name, config)));
    let instances: Vec<(&str, &str)> = instances.collect();
    let host = Host::with(&instances)?;
    if !std::path::Path::new("/dev/fuse").exists() || !std::path::Path::new("/sys/fs/fuse/connections").exists() {
        println!("SKIPPED: this kernel has no FUSE");
        return None;
    }
    host.write_program("bin/silent", SILENT_SERVER);
    for name in names {
        host.use_image_with_init(name, &["/bin/silent"]);
    }
    Some(host)
}

#[test]
fn a_fuse_server_that_never_answers_keeps_no_instance_alive() {
    let Some(host) = host_with_silent_servers(1, &["stopped", "left"]) else { return };
    let mut host = host.start_with_fusectl();
    for name in ["stopped", "left"] {
        host.logs_until(Some(name), "the question is taken");
    }
    let began = Instant::now();
    let stop = Request::Stop { instance: name("stopped"), timeout_s: None, force: true };
    assert_eq!(host.ask(&stop), [Reply::Done]);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(host.state("left"), InstanceState::Running, "the other's connection is its own");
    assert!(host.end().success());
    let took = began.elapsed() - took;
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn an_instance_that_the_kernel_does_not_let_end_is_told_and_holds_up_nobody() {
    let Some(host) = host_with_silent_servers(3, &["hangs"]) else { return };
    let mut host = host.start();
    host.logs_until(Some("hangs"), "the question is taken");
    let pid = host.status("hangs").pid.unwrap();
    let stop = Request::Stop { instance: name("hangs"), timeout_s: None, force: true };
    let failure = super::refusal(host.ask(&stop));
    assert!(failure.reason.contains("do not end"), "{failure}");
    assert_eq!(host.state("hangs"), InstanceState::Stuck);
    let began = Instant::now();
    assert!(host.end().success());
    let took = began.elapsed();
    host::abort_fuse(pid, "/tmp/m");
    // 1 s of timeout, 10 s for what was killed, twice, and a service's 11 s, of which there is none.
    assert!(took < Duration::from_secs(40), "{took:?}");
}
