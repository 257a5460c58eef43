//! What each start gives an instance without being asked: a boot id of its own, what systemd's "Container Interface" wants of mounts
//! and of `/run/host`, and the machine that its image is for.

use crate::cases::{disk, idle, run, script};
use crate::fixture::{Fixture, key};
use crate::init_role::{exec, probe};
use std::fs;
use std::num::NonZeroUsize;
use std::time::Duration;
use yado_image::manifest::Manifest;
use yado_image::pack::{self, BuildOptions, Source};
use yado_image::{Architecture, ImageKind, erofs};
use yado_spec::instance::{Probe, ProbeAttempt};
use yado_sys::children::Ended;

type Case = (&'static str, fn(&Fixture));

pub(crate) const ALL: &[Case] = &[
    ("each_start_is_a_boot_of_its_own", boot_id),
    ("a_mount_inside_is_seen_below_and_never_outside", propagation),
    ("run_host_names_the_manager", run_host),
    ("an_image_for_32_bits_finds_such_a_machine", machine),
    ("what_nests_mounts_its_own_proc_and_sys_beside_a_read_only_sys", nested_mounts),
];

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn boot_id(fixture: &Fixture) {
    let outside = fs::read_to_string(BOOT_ID).unwrap();
    let mut seen = vec![outside];
    for nesting in [false, false, true] {
        let mut request = fixture.request("boot-id", &["/bin/sleep", "1000"]);
        request.spec.security.nesting = nesting;
        let running = idle(&request);
        let read = || exec(&request, &running, &["cat", BOOT_ID]).unwrap().1;
        let id = read();
        // As the kernel writes it: a random UUID (version 4) and the end of the line.
        let form: String =
            id.chars().map(|c| if c.is_ascii_hexdigit() && !c.is_uppercase() { 'x' } else { c }).collect();
        assert_eq!((form.as_str(), id.get(14..15)), ("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx\n", Some("4")), "{id}");
        assert_eq!(read(), id, "a boot has one id");
        let (ended, output) =
            exec(&request, &running, &["sh", "-c", &format!("exec 2>&1; echo x >{BOOT_ID}")]).unwrap();
        assert!(ended == Ended::Code(1) && output.contains("Read-only file system"), "{output}");
        assert!(!seen.contains(&id), "{id} again: {seen:?}");
        seen.push(id);
        running.kill();
    }
    let mut request = script(fixture, "boot-id-privileged", &format!("cat {BOOT_ID}"));
    request.spec.security.privileged = true;
    request.idmap_base = 0;
    let id = run(&request);
    assert!(id.len() == 37 && !seen.contains(&id), "{id}: {seen:?}");
}

/// Only what is mounted outside after the start could be seen inside, and the other way round: so both are done.
fn propagation(fixture: &Fixture) {
    let shared = fixture.path("peers");
    fs::create_dir_all(shared.join("below")).unwrap();
    rustix::mount::mount_bind(&shared, &shared).unwrap();
    rustix::mount::mount_change(&shared, rustix::mount::MountPropagationFlags::SHARED).unwrap();
    let mut request = fixture.request("propagation", &["/bin/sleep", "1000"]);
    request.spec.disks.push(disk(shared.to_str().unwrap(), "/mnt", false));
    let running = idle(&request);
    let mount = "mount -t tmpfs -o size=64k of-the-instance /mnt/below";
    let script = format!(
        "grep -v ' shared:' /proc/self/mountinfo; grep ' master:' /proc/self/mountinfo
         unshare -m --propagation shared sh -c '{mount}; exec sleep 1000' >/dev/null 2>&1 &
         timeout 20 sh -c 'until grep of-the-instance /proc/self/mountinfo | grep -q shared; do :; done' && echo seen"
    );
    let (ended, output) = exec(&request, &running, &["/bin/busybox", "sh", "-c", &script]).unwrap();
    let outside = fs::read_to_string("/proc/self/mountinfo").unwrap();
    running.kill();
    rustix::mount::unmount(&shared, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!((ended, output.as_str()), (Ended::Code(0), "seen\n"));
    assert!(!outside.contains("of-the-instance"), "{outside}");
}

fn run_host(fixture: &Fixture) {
    let output = run(&script(
        fixture,
        "run-host",
        "cat /run/host/container-manager; echo $container; ls /run
         for i in /run/host/new /run/host/container-manager; do echo x >>$i; done
         umount -l /run/host; echo x >/run/own && ls -ln /run/host/container-manager",
    ));
    assert!(output.starts_with("lxc\nlxc\nhost\n"), "{output}");
    let refusals = [
        "create /run/host/new: Read-only file system",
        "create /run/host/container-manager: Read-only file system",
        "can't unmount /run/host: Invalid argument",
        "-r--r--r--    1 0        0",
    ];
    for refusal in refusals {
        assert!(output.contains(refusal), "{refusal}: {output}");
    }
}

/// The program is of 64 bits: what uname(2) tells is the kernel's word.
fn machine(fixture: &Fixture) {
    let (wide, (narrow, architecture)) = match std::env::consts::ARCH {
        "x86_64" => ("x86_64", ("i686", Architecture::I386)),
        "aarch64" => ("aarch64", ("armv8l", Architecture::Armhf)),
        other => {
            println!("SKIPPED: no 32 bits on {other}");
            return;
        }
    };
    let uname = "/bin/busybox uname -m";
    assert_eq!(run(&script(fixture, "wide", uname)), format!("{wide}\n"));
    let output = fixture.path("image-of-32-bits");
    let options = BuildOptions {
        source: Source::Directory(fixture.root()),
        output: output.clone(),
        kind: ImageKind::Container,
        manifest: Manifest::new("narrow", architecture),
        security_epoch: 0,
        compression: erofs::Compression::None,
        threads: NonZeroUsize::MIN,
        owners: erofs::Owners::All { uid: 0, gid: 0 },
        timestamp: Some(0),
        on_progress: |_| (),
        keys: vec![key(7)],
    };
    let fingerprint = pack::build(&options).unwrap().fingerprint;
    let mut request = script(fixture, "narrow", &format!("{uname} >/tmp/said; exec sleep 1000"));
    request.spec.image = fingerprint;
    request.paths.image = output.to_str().unwrap().to_owned();
    let running = idle(&request);
    let of_a_command = exec(&request, &running, &["/bin/busybox", "uname", "-m"]).unwrap();
    assert_eq!(of_a_command, (Ended::Code(0), format!("{narrow}\n")));
    let said = exec(&request, &running, &["sh", "-c", "until grep . /tmp/said; do :; done"]).unwrap();
    assert_eq!(said, (Ended::Code(0), format!("{narrow}\n")), "init's");
    let check = format!("[ $({uname}) = {narrow} ]");
    let attempt = ProbeAttempt::Exec(["/bin/sh", "-c", &check].map(str::to_owned).to_vec());
    let (interval, timeout) = (Duration::from_secs(30), Duration::from_secs(10));
    request.spec.health.probe = Some(Probe { attempt, interval, timeout, failures: 3 });
    assert_eq!(probe(&request, &running), Ok(()));
    running.kill();
}

/// An inner container of root, and one of a user who makes a user namespace: there all mounts and their flags are locked.
fn nested_mounts(fixture: &Fixture) {
    let inner = "mount -t proc proc /mnt && mount -t sysfs sysfs /root && ls /mnt/self/comm /root/kernel/mm
                 umount /mnt; umount /root";
    let script_of_both = format!(
        "(: >/sys/fs/cgroup/cgroup.procs) && echo cgroup; grep ' /sys ' /proc/self/mountinfo | grep -c ' ro,'
         unshare -mnpf sh -c '{inner}'; unshare -rmnpf sh -c '{inner}'; ls -ld /dev/.lxc; true"
    );
    let mut request = fixture.request("nested-mounts", &["/bin/busybox", "sh", "-c", &script_of_both]);
    let refused = run(&request);
    let is_whole = |output: &str| output.matches("/mnt/self/comm").count();
    assert!(refused.contains("cgroup\n1\n") && refused.contains("mount"), "{refused}");
    assert_eq!(is_whole(&refused), 0, "without security.nesting: {refused}");
    request.spec.security.nesting = true;
    let output = run(&request);
    assert!(output.starts_with("cgroup\n1\n"), "{output}");
    assert_eq!(is_whole(&output), 2, "{output}");
    assert!(output.contains("drwx------"), "{output}");
}
