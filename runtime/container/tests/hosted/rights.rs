//! What comes along with a process inside, or does not: groups, rights, and what mounts allow. The kernel's word on each is in
//! `/proc`.

use crate::cases::{bounding_set, disk, idle, run, script};
use crate::fixture::{BASE, Fixture};
use crate::init_role::{exec_as, launch, probe_beside};
use crate::walls::as_root_inside;
use rustix::io::Errno;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};
use yado_spec::instance::{Disk, DiskSource, Probe, ProbeAttempt};
use yado_sys::pidfd::NamespacesOf;
use yado_wire::Step;

type Case = (&'static str, fn(&Fixture));

pub(crate) const ALL: &[Case] = &[
    ("no_mount_but_dev_has_nodes_and_none_but_the_root_set_user_id", flags_of_mounts),
    ("no_group_of_the_systems_comes_along", groups),
    ("a_probe_has_the_rights_of_the_instances_root", rights_of_probes),
    ("an_instances_init_is_not_looked_for_in_what_the_launcher_has_open", led_by_init),
];

/// Where, and of `nosuid`, `nodev` and `noexec` those that must be there.
const FLAGS: [(&str, &[&str]); 11] = [
    ("/", &["nodev"]),
    ("/proc", &["nosuid", "nodev", "noexec"]),
    ("/sys", &["ro", "nosuid", "nodev", "noexec"]),
    ("/sys/fs/cgroup", &["nosuid", "nodev", "noexec"]),
    ("/dev", &["nosuid"]),
    ("/dev/pts", &["nosuid", "noexec"]),
    ("/dev/shm", &["nosuid", "nodev", "noexec"]),
    ("/dev/mqueue", &["nosuid", "nodev", "noexec"]),
    ("/run", &["nosuid", "nodev"]),
    ("/mnt/shared", &["nosuid", "nodev"]),
    ("/mnt/tmp", &["nosuid", "nodev"]),
];

fn flags_of_mounts(fixture: &Fixture) {
    let shared = fixture.path("shared-flags");
    fs::create_dir_all(&shared).unwrap();
    let mut request = script(fixture, "flags", "cat /proc/self/mountinfo");
    request.spec.disks = vec![
        disk(shared.to_str().unwrap(), "/mnt/shared", false),
        Disk { source: DiskSource::Tmpfs { size_bytes: Some(65_536) }, ..disk("", "/mnt/tmp", false) },
    ];
    let output = run(&request);
    for (place, flags) in FLAGS {
        // proc_pid_mountinfo(5): the fifth field is where, the sixth how.
        let mut mounts = output.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = mounts.find(|fields| fields.get(4) == Some(&place));
        let mount = mount.unwrap_or_else(|| panic!("nothing is mounted on {place}: {output}"));
        let has = |flag: &&str| mount[5].split(',').any(|has| has == *flag);
        assert!(flags.iter().all(has), "{place} is {}", mount[5]);
    }
}

fn groups(fixture: &Fixture) {
    let ours = rustix::process::getgroups().unwrap();
    rustix::thread::set_thread_groups(&[rustix::process::Gid::from_raw(7777)]).unwrap();
    let request = fixture.request("groups", &["/bin/sleep", "1000"]);
    let running = idle(&request);
    let of_command = exec_as(&request, &running, &["/bin/busybox", "grep", "Groups", "/proc/self/status"], 1000);
    let of_init = fs::read_to_string(format!("/proc/{}/status", running.pid)).unwrap();
    running.kill();
    rustix::thread::set_thread_groups(&ours).unwrap();
    let of_init = of_init.lines().find(|line| line.starts_with("Groups:")).unwrap();
    assert_eq!((of_init.trim(), of_command.unwrap().1.trim()), ("Groups:", "Groups:"));
}

/// Who answers is not to be trusted, so that whoever reads the answer must not have the system's rights.
fn rights_of_probes(fixture: &Fixture) {
    let mut request = fixture.request("rights", &["/bin/sleep", "1000"]);
    let running = idle(&request);
    // It is connected to, and never answers.
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    let (_, hold) = as_root_inside(&running, NamespacesOf::USER | NamespacesOf::NETWORK, || {
        std::mem::forget(TcpListener::bind(address).unwrap());
        vec![0]
    });
    let (interval, timeout) = (Duration::from_secs(30), Duration::from_secs(4));
    let attempt = ProbeAttempt::Http(address, "/".to_owned());
    request.spec.health.probe = Some(Probe { attempt, interval, timeout, failures: 3 });
    let wanted = [
        format!("\nUid:\t{0}\t{0}\t{0}\t{0}\n", BASE),
        format!("\n{}", bounding_set()),
        "\nSeccomp:\t2\n".to_owned(),
    ];
    let outcome = probe_beside(&request, &running, |launcher| {
        let until = Instant::now() + Duration::from_secs(3);
        loop {
            let status = fs::read_to_string(format!("/proc/{launcher}/status")).unwrap();
            if wanted.iter().all(|line| status.contains(line)) {
                break;
            }
            assert!(Instant::now() < until, "none of it is {wanted:?}: {status}");
            std::thread::yield_now();
        }
    });
    assert_eq!(outcome.unwrap_err().reason.as_str(), "not within 4s");
    drop(hold);
    running.kill();
}

/// The launcher has the instance's control group open, and in it is this file.
fn led_by_init(fixture: &Fixture) {
    for number in 3..24 {
        let init = format!("/proc/self/fd/{number}/cgroup.controllers");
        let failure = launch(&fixture.request("led-by-init", &[&init])).err().expect("it is no program");
        let absent = [Errno::NOENT, Errno::NOTDIR].map(Errno::raw_os_error);
        assert!(failure.step == Step::Exec && absent.contains(&failure.errno), "descriptor {number}: {failure}");
    }
}
