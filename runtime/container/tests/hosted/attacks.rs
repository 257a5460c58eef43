//! What root inside a running instance tries on us when we come in, or change something of its. The witness is the host.

use crate::cases::{disk, idle, node, script};
use crate::fixture::{BASE, Fixture};
use crate::init_role::{Payload, exec, exec_as, launch, probe, sync_devices};
use rustix::fs::{CWD, FileType, Mode, makedev};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use yado_spec::LaunchRequest;
use yado_spec::instance::{DiskSource, NodeKind, Probe, ProbeAttempt, Required};
use yado_sys::children::Ended;
use yado_wire::Step;

type Case = (&'static str, fn(&Fixture));

pub(crate) const ALL: &[Case] = &[
    ("what_is_mounted_over_dev_is_not_touched_when_devices_come", mounts_over_dev),
    ("what_stands_in_the_way_of_one_device_keeps_no_other_away", obstacles_in_dev),
    ("a_label_is_written_nowhere_but_to_the_kernel", false_proc),
    ("a_mount_point_is_made_on_no_disk_where_the_instance_may_not_write", mount_points_on_disks),
    ("a_command_and_a_probe_in_a_frozen_group_are_given_up", frozen_group),
    ("a_command_goes_into_no_group_that_the_instance_has_made", taken_leaf),
];

/// A directory of the host with a file of root's, which the instance is given at `/mnt`.
fn host_directory(fixture: &Fixture, name: &str, request: &mut LaunchRequest) -> PathBuf {
    let directory = fixture.path(name);
    fs::create_dir_all(directory.join("below")).unwrap();
    fs::write(directory.join("secret"), "as before").unwrap();
    fs::set_permissions(directory.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    request.spec.disks.push(disk(directory.to_str().unwrap(), "/mnt", false));
    directory
}

/// Root inside does all of this.
fn inside(request: &LaunchRequest, running: &Payload, script: &str) -> String {
    let (ended, output) = exec(request, running, &["sh", "-c", &format!("set -e; exec 2>&1; {script}")]).unwrap();
    assert_eq!(ended, Ended::Code(0), "{script}: {output}");
    output
}

/// A device that comes: `name` inside is the host's node at `path`.
fn declare(request: &mut LaunchRequest, name: &str, path: &Path) {
    request.spec.devices.push(node(name, path.to_str().unwrap(), Required::No, NodeKind::Char));
}

fn make_source(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(10, 237)).unwrap();
}

fn is_roots(path: &Path) -> bool {
    let found = fs::metadata(path).unwrap();
    (found.uid(), found.gid()) == (0, 0)
}

fn mounts_over_dev(fixture: &Fixture) {
    let mut request = fixture.request("dev-mounts", &["/bin/sleep", "1000"]);
    let host = host_directory(fixture, "host-dev-mounts", &mut request);
    let source = fixture.path("dev-mounts-device");
    for name in ["bus/usb/001/003", "plain", "deep/given"] {
        declare(&mut request, name, &source);
    }
    let running = idle(&request);
    inside(
        &request,
        &running,
        "cd /dev; busybox mkdir -p bus/usb deep; : >plain
         mount --bind /mnt/below bus/usb; mount --bind /mnt/secret plain; mount --bind /mnt deep",
    );
    make_source(&source);
    let synced = sync_devices(&request, &running);
    for path in ["", "below", "secret"] {
        assert!(is_roots(&host.join(path)), "{path:?} was given away");
    }
    let (mut added, removed) = synced.unwrap();
    added.sort_unstable();
    assert_eq!(added, ["/dev/bus/usb/001/003", "/dev/deep/given", "/dev/plain"]);
    assert!(removed.is_empty(), "{removed:?}");
    assert_eq!(fs::read_dir(&host).unwrap().count(), 2, "nothing was made there");
    assert_eq!(fs::read_dir(host.join("below")).unwrap().count(), 0, "nothing was made there");
    // The nodes are where they belong, and whose they are to be.
    let seen =
        inside(&request, &running, "cd /dev; umount bus/usb; umount deep; ls -ln bus/usb/001/003 deep/given plain");
    assert_eq!(seen.matches("crw-r-----    1 3        4          10, 237").count(), 3, "{seen}");

    // Over the whole of it.
    inside(&request, &running, "mount --bind /mnt /dev");
    fs::remove_file(&source).unwrap();
    assert_eq!(sync_devices(&request, &running).unwrap().1.len(), 3);
    make_source(&source);
    assert_eq!(sync_devices(&request, &running).unwrap().0.len(), 3);
    assert!(is_roots(&host) && is_roots(&host.join("secret")));
    assert_eq!(fs::read_dir(&host).unwrap().count(), 2, "nothing was made there");
    running.kill();
}

fn obstacles_in_dev(fixture: &Fixture) {
    let mut request = fixture.request("dev-obstacles", &["/bin/sleep", "1000"]);
    let host = host_directory(fixture, "host-dev-obstacles", &mut request);
    let source = fixture.path("dev-obstacles-device");
    for name in ["link/given", "directory", "file/given", "hop/on", "free"] {
        declare(&mut request, name, &source);
    }
    let running = idle(&request);
    inside(&request, &running, "cd /dev; ln -s /mnt link; busybox mkdir directory; : >file; ln -s /mnt/secret free");
    inside(&request, &running, "cd /dev; busybox mkdir real; ln -s real hop");
    make_source(&source);
    // Tried again and again, as init does.
    for _ in 0..2 {
        let failure = sync_devices(&request, &running).unwrap_err();
        assert_eq!((failure.step.name(), failure.object.as_str()), ("device", "link/given"), "{failure}");
        let seen = inside(&request, &running, "ls -ln /dev/free");
        assert!(seen.starts_with("crw-r-----    1 3        4          10, 237"), "a link is replaced: {seen}");
        assert!(is_roots(&host) && is_roots(&host.join("secret")));
        assert_eq!(fs::read_dir(&host).unwrap().count(), 2, "nothing was made there");
    }
    inside(&request, &running, "cd /dev; busybox rm -r link directory file hop");
    assert_eq!(sync_devices(&request, &running).unwrap().0.len(), 4);
    running.kill();
}

fn mount_points_on_disks(fixture: &Fixture) {
    let mut request = fixture.request("mount-points", &["/bin/sleep", "1000"]);
    let host = host_directory(fixture, "host-mount-points", &mut request);
    // Root's group may write there, and the launcher is a member of it, as where a shell of root starts init.
    rustix::thread::set_thread_groups(&[rustix::process::Gid::ROOT]).unwrap();
    fs::set_permissions(&host, fs::Permissions::from_mode(0o775)).unwrap();
    let open = fixture.path("host-mount-points-open");
    fs::create_dir(&open).unwrap();
    std::os::unix::fs::chown(&open, Some(BASE), Some(BASE)).unwrap();
    request.spec.disks.push(disk(open.to_str().unwrap(), "/open", false));
    let running = idle(&request);
    // A directory that is another's inside is the instance's all the same.
    inside(&request, &running, "busybox mkdir -p /home/user; busybox chown 1000:1000 /home/user");
    inside(&request, &running, "busybox mv /etc /etc.before; ln -s /mnt /etc");
    running.kill();

    let secret = host.join("secret");
    request.spec.disks.push(disk(secret.to_str().unwrap(), "/etc/app.conf", true));
    request.spec.disks.push(disk(secret.to_str().unwrap(), "/home/user/data/file", true));
    for shape in ["a file", "a directory"] {
        let failure = launch(&request).err().expect(shape);
        assert_eq!(
            (failure.step, failure.object.as_str(), failure.errno),
            (Step::Mount, "/etc/app.conf", 13),
            "{failure}"
        );
        assert!(failure.reason.ends_with("on another disk a mount point must exist already"), "{failure}");
        assert_eq!(fs::read_dir(&host).unwrap().count(), 2, "nothing was made there");
        request.spec.disks[2].source = DiskSource::Path(host.join("below").to_str().unwrap().to_owned());
    }

    // Where root inside may write it is made, and what is there already is taken.
    request.spec.disks[2].path = "/etc/below".to_owned();
    request.spec.disks.push(disk(secret.to_str().unwrap(), "/open/made/file", true));
    let running = idle(&request);
    inside(&request, &running, "ls -d /etc/below /open/made/file /home/user/data/file");
    assert_eq!(fs::metadata(open.join("made")).unwrap().uid(), BASE);
    running.kill();
}

fn true_as_probe(request: &LaunchRequest) -> LaunchRequest {
    let mut request = request.clone();
    request.spec.health.probe = Some(Probe {
        attempt: ProbeAttempt::Exec(vec!["/bin/true".to_owned()]),
        interval: Duration::from_secs(30),
        timeout: Duration::from_millis(500),
        failures: 3,
    });
    request
}

fn false_proc(fixture: &Fixture) {
    let mut request = fixture.request("false-proc", &["/bin/sleep", "1000"]);
    let host = host_directory(fixture, "host-false-proc", &mut request);
    let running = idle(&request);
    inside(
        &request,
        &running,
        "mount -t tmpfs tmpfs /proc; cd /proc; busybox mkdir -p thread-self/attr/apparmor self/attr/apparmor
         for where in thread-self self; do
           ln -s /mnt/secret $where/attr/exec; ln -s /mnt/secret $where/attr/apparmor/exec; : >$where/attr/current
         done",
    );
    let mut labelled = request.clone();
    labelled.spec.security.label = Some("yado-test-no-such-label".to_owned());
    let attempts = [
        exec_as(&labelled, &running, &["/bin/true"], 0).map(drop),
        exec_as(&labelled, &running, &["/bin/true"], 1000).map(drop),
        probe(&true_as_probe(&labelled), &running),
    ];
    assert_eq!(fs::read_to_string(host.join("secret")).unwrap(), "as before");
    for attempt in attempts {
        // Nobody knows this label, or, without a security module, any. Neither lets a program run without.
        let failure = attempt.expect_err("it ran without its label");
        assert_eq!(failure.step, Step::Label, "{failure}");
        assert!([0, 22].contains(&failure.errno), "a security module has answered, or there is none: {failure}");
    }
    inside(&request, &running, "true");
    running.kill();
}

fn frozen_group(fixture: &Fixture) {
    let request = fixture.request("frozen", &["/bin/sleep", "1000"]);
    let running = idle(&request);
    let group = Path::new(&request.paths.cgroup);
    fs::write(group.join("cgroup.freeze"), "1").unwrap();
    for attempt in [probe(&true_as_probe(&request), &running), exec(&request, &running, &["/bin/true"]).map(drop)] {
        let failure = attempt.expect_err("nothing runs in there");
        assert_eq!((failure.step, failure.reason.as_str()), (Step::Exec, "its control group is frozen"));
    }
    fs::write(group.join("cgroup.freeze"), "0").unwrap();
    assert_eq!(inside(&request, &running, "echo thawed"), "thawed\n");
    let left = fs::read_to_string(group.join("cgroup.procs")).unwrap();
    assert_eq!(left.trim(), running.pid.to_string(), "what was given up is gone");
    running.kill();
}

fn taken_leaf(fixture: &Fixture) {
    let mut request = script(
        fixture,
        "taken-leaf",
        "exec 2>/tmp/said; cd /sys/fs/cgroup; busybox mkdir init .yado; echo $$ >init/cgroup.procs
         until echo $CONTROLLER >cgroup.subtree_control; do :; done
         echo 1 >.yado/cgroup.freeze; exec sleep 1000",
    );
    let tests = Path::new(&request.paths.cgroup).parent().unwrap().to_owned();
    let all = tests.parent().unwrap();
    let has = fs::read_to_string(all.join("cgroup.controllers")).unwrap();
    // Any will do.
    let Some(controller) = ["pids", "hugetlb"].into_iter().find(|name| has.contains(name)) else {
        println!("SKIPPED: version 2 has no controllers here");
        return;
    };
    for above in [all, &tests] {
        fs::write(above.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
    }
    request.spec.environment.push(("CONTROLLER".to_owned(), format!("+{controller}")));
    // Only who may have containers of its own may give its groups controllers.
    request.spec.security.nesting = true;
    let group = Path::new(&request.paths.cgroup);
    let running = idle(&request);
    let until = Instant::now() + Duration::from_secs(10);
    let is_frozen = || fs::read_to_string(group.join(".yado/cgroup.freeze")).is_ok_and(|text| text == "1\n");
    while !is_frozen() {
        assert!(Instant::now() < until, "it has not made its group");
        std::thread::yield_now();
    }
    assert_eq!(inside(&request, &running, "grep ^0: /proc/self/cgroup"), "0::/.yado-1\n");
    let refused = "for file in freeze max.depth; do ! echo 1 >/sys/fs/cgroup/.yado-1/cgroup.$file; done; echo tried";
    assert!(inside(&request, &running, refused).ends_with("tried\n"));
    let text = |file: &str| fs::read_to_string(group.join(".yado-1").join(file)).unwrap();
    assert_eq!((text("cgroup.freeze").trim(), text("cgroup.max.depth").trim()), ("0", "max"));
    // It can take all names; then there are no commands in it, and that is told.
    inside(
        &request,
        &running,
        "cd /sys/fs/cgroup; for n in 2 3 4 5 6 7; do busybox mkdir .yado-$n; done
         (until busybox rmdir .yado-1; do :; done; busybox mkdir .yado-1; : >/tmp/taken) >/dev/null 2>&1 &
         echo $! >init/cgroup.procs",
    );
    let until = Instant::now() + Duration::from_secs(10);
    while !fs::exists(Path::new(&request.paths.layer).join("upper/tmp/taken")).unwrap() {
        assert!(Instant::now() < until, "it has not taken the last name");
        std::thread::yield_now();
    }
    let failure = exec(&request, &running, &["/bin/true"]).expect_err("there is no group for it");
    assert_eq!((failure.step, failure.errno), (Step::Cgroup, 17), "{failure}");
    running.kill();
}
