//! What must work.

use crate::fixture::{BASE, Fixture, verify};
use crate::init_role::{Payload, exec, exec_as, exec_whole, launch, launch_beside, probe, sync_devices};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, makedev};
use rustix::io::Errno;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command as Program;
use std::time::{Duration, Instant};
use yado_spec::LaunchRequest;
use yado_spec::instance::{
    Device, DeviceSelect, Disk, DiskSource, KernelLimit, Nic, NicKind, NodeKind, Probe, ProbeAttempt, Required,
};
use yado_spec::launch_request::{Command, CommandUser, Verify};
use yado_sys::children::Ended;
use yado_sys::mount::{self, Attributes, FsOption};
use yado_sys::packet;
use yado_wire::network::{self, NetReply, NetRequest, NicRequest};
use yado_wire::{Failure, Step};

type Case = (&'static str, fn(&Fixture));

pub(crate) const ALL: &[Case] = &[
    ("true_runs_and_every_step_was_timed", true_runs),
    ("one_image_is_one_verified_device_until_its_last_user_is_gone", shared_device),
    ("inside_is_a_system_of_its_own", inside_is_its_own),
    ("root_inside_is_nobody_outside", root_inside_is_nobody),
    ("the_memory_of_the_kernel_is_covered", |fixture| covered(fixture, "kcore")),
    ("keys_of_others_are_covered", |fixture| covered(fixture, "keys")),
    ("timers_of_others_are_covered", |fixture| covered(fixture, "timer_list")),
    ("sysrq_is_out_of_a_privileged_roots_reach", sysrq),
    ("files_on_disk_belong_to_the_ids_inside", ids_on_disk),
    ("dangerous_calls_and_capabilities_are_gone", confinement),
    ("only_listed_devices_can_be_opened", device_filter),
    ("fuse_is_there_for_who_asks", fuse_on_request),
    ("a_command_runs_inside_as_told", commands),
    ("a_user_by_name_is_the_instances_own", users),
    ("no_link_leads_a_command_to_what_we_have_open", led_out),
    ("nobody_inside_can_look_into_a_command_before_it_is_executed", unseen),
    ("devices_come_and_go", devices),
    ("disks_are_mounted_and_read_only_stays_so", disks),
    ("limits_of_the_kernel_are_set", limits),
    ("a_privileged_instance_has_no_user_namespace", privileged),
    ("a_nested_instance_sees_all_of_proc", nesting),
    ("readiness_can_be_told", notify),
    ("a_probe_passes_or_says_why_not", probes),
    ("netd_is_asked_for_the_interfaces", network),
    ("after_its_end_the_root_is_mounted_until_init_closes_it", last_mount),
];

/// Runs a script as the instance's init; gives its output.
pub(crate) fn run(request: &LaunchRequest) -> String {
    let (ended, output) = launch(request).unwrap_or_else(|failure| panic!("{failure}")).finish();
    assert_eq!(ended, Ended::Code(0), "{output}");
    output
}

pub(crate) fn script(fixture: &Fixture, name: &str, script: &str) -> LaunchRequest {
    fixture.request(name, &["/bin/sh", "-c", script])
}

/// An instance that does nothing until it is killed.
pub(crate) fn idle(request: &LaunchRequest) -> Payload {
    launch(request).unwrap_or_else(|failure| panic!("{failure}"))
}

fn true_runs(fixture: &Fixture) {
    let request = fixture.request("true", &["/bin/true"]);
    let payload = launch(&request).unwrap_or_else(|failure| panic!("{failure}"));
    let names: Vec<&str> = payload.steps.iter().map(|time| time.step.name()).collect();
    for step in ["image-open", "image-mount", "overlay", "namespaces", "mount", "device-filter", "exec"] {
        assert!(names.contains(&step), "{names:?}");
    }
    assert_eq!(payload.finish().0, Ended::Code(0));
    // All mount points were the launcher's own, so that init has no tree to remove.
    assert_eq!(fs::read_dir(&request.paths.runtime).unwrap().count(), 0);
}

fn shared_device(fixture: &Fixture) {
    if verify() == Verify::Start {
        println!("SKIPPED: this kernel has no device-mapper; the boards that are broken show it");
        return;
    }
    assert!(fixture.devices_that_stay().is_empty(), "{:?}", fixture.devices());
    let first = idle(&fixture.request("share-1", &["/bin/sleep", "1000"]));
    let devices = fixture.devices();
    assert_eq!(devices.len(), 2, "one loop, one verity: {devices:?}");
    let second = idle(&fixture.request("share-2", &["/bin/sleep", "1000"]));
    assert_eq!(fixture.devices(), devices);
    first.kill();
    assert_eq!(fixture.devices(), devices);
    second.kill();
    assert!(fixture.devices_that_stay().is_empty(), "{:?}", fixture.devices());
}

fn inside_is_its_own(fixture: &Fixture) {
    let output = run(&script(
        fixture,
        "own",
        "echo pid=$$ host=$(hostname) from=$FROM_SPEC container=$container
         for n in user mnt pid net uts ipc cgroup; do echo $n $(stat -L -c %i /proc/self/ns/$n); done
         cat /proc/self/cgroup; ls /sys/class/net; cat /sys/fs/cgroup/cgroup.procs
         cat /proc/self/mountinfo; ls -l /proc/self/fd",
    ));
    assert!(output.starts_with("pid=1 host=own from=yes container=lxc\n"), "{output}");
    for name in ["user", "mnt", "pid", "net", "uts", "ipc", "cgroup"] {
        let ours = fs::metadata(format!("/proc/self/ns/{name}")).unwrap().ino();
        assert!(output.contains(&format!("\n{name} ")), "{output}");
        assert!(!output.contains(&format!("\n{name} {ours}\n")), "shares {name}: {output}");
    }
    assert!(output.contains("\n0::/\n"), "the cgroup's root is its own: {output}");
    assert!(output.contains("\nlo\n"), "{output}");
    let mounts: Vec<&str> = output.lines().filter(|line| line.contains(" - ")).collect();
    for kind in ["overlay", "proc", "sysfs", "cgroup2", "tmpfs", "devpts", "mqueue"] {
        assert!(mounts.iter().any(|line| line.contains(&format!(" - {kind} "))), "{kind}: {output}");
    }
    assert!(!mounts.iter().any(|line| line.contains("ext4")), "the system's mounts are out of sight: {output}");
    assert!(output.contains("0 -> /dev/console") || output.contains("0 -> /dev/pts/0"), "{output}");
    assert!(!output.contains(" 4 -> "), "a descriptor leaked: {output}");
}

fn root_inside_is_nobody(fixture: &Fixture) {
    let output = run(&script(fixture, "ids", "id -u; cat /proc/self/uid_map"));
    assert!(output.starts_with("0\n"), "{output}");
    let map: Vec<&str> = output.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(map, ["0", &BASE.to_string(), "65536"]);
}

/// A file of `/proc` that tells of the whole machine is the null device inside.
fn covered(fixture: &Fixture, file: &str) {
    if fs::metadata(format!("/proc/{file}")).is_err() {
        println!("SKIPPED: this kernel has no /proc/{file}");
        return;
    }
    let output = run(&script(fixture, "covered", &format!("stat -c %t:%T /proc/{file}")));
    assert_eq!(output, "1:3\n");
}

/// Opened and not written to. In an unprivileged instance its mode keeps root away already.
fn sysrq(fixture: &Fixture) {
    if fs::metadata("/proc/sysrq-trigger").is_err() {
        println!("SKIPPED: this kernel has no /proc/sysrq-trigger");
        return;
    }
    let mut request = script(fixture, "sysrq", "(: >/proc/sysrq-trigger); true");
    request.spec.security.privileged = true;
    request.idmap_base = 0;
    let output = run(&request);
    assert!(output.contains("Read-only file system"), "{output}");
}

fn ids_on_disk(fixture: &Fixture) {
    let request = script(fixture, "disk-ids", "touch /root/new && ls -ln /root/new /bin/busybox && stat -c %u /");
    let output = run(&request);
    assert!(output.lines().all(|line| !line.contains("65534")), "{output}");
    let written = fs::metadata(format!("{}/upper/root/new", request.paths.layer)).unwrap();
    assert_eq!((written.uid(), written.gid()), (0, 0), "on disk the ids are those inside");
}

fn confinement(fixture: &Fixture) {
    let output = run(&script(
        fixture,
        "confined",
        "grep -E 'CapBnd|Seccomp:|NoNewPrivs' /proc/self/status; umount -f /run; true",
    ));
    assert!(output.contains(&bounding_set()), "{output}");
    assert!(output.contains("Seccomp:\t2") && output.contains("NoNewPrivs:\t0"), "{output}");
    assert!(output.contains("can't unmount /run: Permission denied"), "a forced unmount: {output}");
    let mut request = script(fixture, "nnp", "grep -E 'Seccomp:|NoNewPrivs' /proc/self/status");
    request.spec.security.no_new_privs = true;
    request.spec.security.syscalls_deny_default = false;
    let output = run(&request);
    assert!(output.contains("Seccomp:\t0") && output.contains("NoNewPrivs:\t1"), "{output}");
    own_session_keyring(fixture);
}

/// The launcher's session keyring is the system's. The kernel tells who owns keys, and nobody else has this id.
fn own_session_keyring(fixture: &Fixture) {
    let mut request = fixture.request("keyring", &["/bin/sleep", "1000"]);
    request.idmap_base = BASE + 77 * 65_536;
    let owner = format!("{}:", request.idmap_base);
    let Ok(before) = fs::read_to_string("/proc/key-users") else {
        println!("SKIPPED: this kernel has no keys");
        return;
    };
    let has_keys = |users: &str| users.split_whitespace().any(|word| word == owner);
    assert!(!has_keys(&before), "{before}");
    let running = idle(&request);
    let users = fs::read_to_string("/proc/key-users").unwrap();
    assert!(has_keys(&users), "no key is {owner} {users}");
    running.kill();
}

fn device_filter(fixture: &Fixture) {
    let mut request = script(
        fixture,
        "filter",
        "cat /dev/null && echo null; cat </dev/given; echo given=$?; ls -ln /dev/given
         ls -l /dev/fd /dev/ptmx /dev/console",
    );
    request.spec.devices.push(node("given", "/dev/loop-control", Required::No, NodeKind::Char));
    let output = run(&request);
    assert!(output.contains("null\n") && output.contains("Invalid argument\ngiven=1"), "{output}");
    assert!(output.contains("crw-r-----    1 3        4          10, 237"), "{output}");
    // A second instance, whose spec does not list it, finds the node in a directory of the system and cannot open it.
    let shared = fixture.path("shared-dev");
    fs::create_dir_all(&shared).unwrap();
    let mode = Mode::from_raw_mode(0o666);
    let number = makedev(10, 237);
    rustix::fs::mknodat(rustix::fs::CWD, shared.join("node"), FileType::CharacterDevice, mode, number).unwrap();
    let mut request = script(fixture, "filter-not", "cat /mnt/node; echo done");
    request.spec.disks.push(disk(shared.to_str().unwrap(), "/mnt", false));
    let output = run(&request);
    assert!(output.contains("Permission denied") || output.contains("not permitted"), "{output}");
    // That mount has no device nodes for anybody. Only the filter keeps a privileged root, who may make nodes and does so on its
    // `/dev`, from those that are not listed.
    let mut request = script(
        fixture,
        "filter-privileged",
        "cd /dev; mknod mine c 1 3; mknod other c 10 237; (: <mine) && echo mine; (: <other) && echo other; true",
    );
    request.spec.security.privileged = true;
    request.idmap_base = 0;
    let output = run(&request);
    let refused = output.contains("can't open other: Operation not permitted\n");
    assert!(output.contains("mine\n") && refused && !output.contains("other\n"), "{output}");
}

fn fuse_on_request(fixture: &Fixture) {
    if fs::metadata("/dev/fuse").is_err() {
        println!("SKIPPED: this kernel has no /dev/fuse");
        return;
    }
    let open = "ls /dev/fuse; : <>/dev/fuse && echo opened";
    let output = run(&script(fixture, "no-fuse", &format!("{open}; true")));
    assert!(output.contains("/dev/fuse: No such file or directory"), "{output}");
    let mut request = script(fixture, "fuse", &format!("{open}; stat -c %a:%u /dev/fuse"));
    let (uid, mode) = (0, 0o666);
    request.spec.devices.push(Device {
        uid,
        mode,
        ..node("fuse", "/dev/fuse", Required::Within(Duration::ZERO), NodeKind::Char)
    });
    assert_eq!(run(&request), "/dev/fuse\nopened\n666:0\n");
}

fn commands(fixture: &Fixture) {
    let request = fixture.request("commands", &["/bin/sleep", "1000"]);
    let running = idle(&request);
    let (ended, output) = exec(
        &request,
        &running,
        &["sh", "-c", "pwd; echo $ADDED; hostname; grep ^0: /proc/self/cgroup; id -u; exit 7"],
    )
    .unwrap();
    assert_eq!((ended, output.as_str()), (Ended::Code(7), "/tmp\nby exec\ncommands\n0::/\n0\n"));
    let (_, output) =
        exec(&request, &running, &["sh", "-c", "grep -E 'CapBnd|Seccomp:' /proc/self/status; ls /proc"]).unwrap();
    assert!(output.contains(&bounding_set()) && output.contains("Seccomp:\t2"), "{output}");
    let processes = output.lines().filter(|line| line.parse::<u32>().is_ok()).count();
    assert!((2..=4).contains(&processes), "only those inside: {output}");
    let (_, output) =
        exec_as(&request, &running, &["sh", "-c", "id -u; id -g; grep CapEff /proc/self/status"], 1000).unwrap();
    assert_eq!(output, "1000\n1000\nCapEff:\t0000000000000000\n");
    let (_, output) = exec(&request, &running, &["ls", "-l", "/proc/self/fd"]).unwrap();
    assert!(output.contains(" 2 -> ") && !output.contains(" 4 -> "), "a descriptor leaked: {output}");
    let failure = exec(&request, &running, &["no-such-program"]).err().unwrap();
    assert_eq!((failure.step.name(), failure.errno), ("exec", 2));
    running.kill();
}

/// Who is named is looked up in files of the instance's own, whatever they are.
fn users(fixture: &Fixture) {
    let request = fixture.request("users", &["/bin/sleep", "1000"]);
    let running = idle(&request);
    let prepare = "mkdir -p /home/web /etc; echo 'web:x:5:6::/home/web:/bin/sh' >/etc/passwd; \
                   echo 'root:x:0:0::/home/web:/bin/sh' >>/etc/passwd; \
                   printf 'gpio:x:997:a,web\nother:x:8:a\n' >/etc/group; echo 'echo a login of $USER, $HOME' >/etc/profile";
    let (ended, output) = exec(&request, &running, &["sh", "-c", prepare]).unwrap();
    assert_eq!(ended, Ended::Code(0), "{output}");

    let named = |name: &str, gid| CommandUser::Name { name: name.to_owned(), gid };
    let run = |user: CommandUser, command: &[&str]| {
        let argv = command.iter().map(|word| (*word).to_owned()).collect();
        exec_whole(&request, &running, Command { argv, user, ..Command::default() })
    };
    let told = "id -u; id -g; grep -E 'Groups|CapEff' /proc/self/status | tr -s '\t ' ' '; echo $USER $LOGNAME $HOME $SHELL; pwd";
    let no_rights = "CapEff: 0000000000000000";
    let (_, output) = run(named("web", None), &["sh", "-c", told]).unwrap();
    assert_eq!(output, format!("5\n6\nGroups: 6 997 \n{no_rights}\nweb web /home/web /bin/sh\n/home/web\n"));
    let (_, output) = run(named("web", Some(8)), &["sh", "-c", told]).unwrap();
    assert!(output.starts_with("5\n8\nGroups: 8 997 \n"), "{output}");
    // A number is asked of nobody, and has no home.
    let (_, output) = run(CommandUser::Ids { uid: 5, gid: 7 }, &["sh", "-c", told]).unwrap();
    assert!(output.starts_with("5\n7\nGroups: \n") && output.ends_with("\n/\n"), "{output}");
    let failure = run(named("nobody-here", None), &["id"]).unwrap_err();
    assert!(failure.to_string().contains("nobody-here: no such user in the instance's /etc/passwd"), "{failure}");

    // No words: a login shell, here at the end of its input at once.
    for (user, wanted) in [
        (named("web", None), "a login of web, /home/web\n"),
        (CommandUser::default(), "a login of root, /home/web\n"),
    ] {
        assert_eq!(run(user, &[]).unwrap(), (Ended::Code(0), wanted.to_owned()));
    }

    let swap = "rm /etc/passwd; mkfifo /etc/passwd";
    exec(&request, &running, &["sh", "-c", swap]).unwrap();
    let failure = run(named("web", None), &["id"]).unwrap_err();
    assert!(
        failure.to_string().contains("/etc/passwd") && failure.to_string().contains("not a regular file"),
        "{failure}"
    );
    exec(&request, &running, &["sh", "-c", "rm /etc/passwd; head -c 1048577 /dev/zero >/etc/passwd"]).unwrap();
    let failure = run(named("web", None), &["id"]).unwrap_err();
    assert!(failure.to_string().contains("longer than 1048576 bytes"), "{failure}");
    // A number needs no such file, and root has a shell all the same.
    assert_eq!(run(CommandUser::default(), &[]).unwrap().0, Ended::Code(0));
    exec(&request, &running, &["sh", "-c", "rm /etc/passwd"]).unwrap();
    assert_eq!(run(CommandUser::default(), &[]).unwrap(), (Ended::Code(0), "a login of root, /root\n".to_owned()));
    running.kill();
}

/// Links of the instance's own that lead to what a process of ours has open, wherever a command looks before it is one.
fn led_out(fixture: &Fixture) {
    let request = fixture.request("led-out", &["/bin/sleep", "1000"]);
    let running = idle(&request);
    let outside = "stat -c %d:%i / . .. ../../..";
    let run = |cwd: Option<&str>, user: CommandUser| {
        let argv = ["sh", "-c", outside].map(str::to_owned).to_vec();
        exec_whole(&request, &running, Command { argv, user, cwd: cwd.map(str::to_owned), ..Command::default() })
    };
    let (ended, inside) = run(Some("/"), CommandUser::default()).unwrap();
    assert_eq!(ended, Ended::Code(0), "{inside}");
    for number in 0..40 {
        let link = format!("/proc/self/fd/{number}");
        let plant = format!(
            "rm -rf /root /etc/passwd /cwd; mkdir -p /etc; ln -s {link} /root; ln -s {link} /cwd; \
             echo 'web:x:0:0::{link}:/bin/sh' >/etc/passwd"
        );
        exec(&request, &running, &["sh", "-c", &plant]).unwrap();
        let named = CommandUser::Name { name: "web".to_owned(), gid: None };
        for user in [CommandUser::default(), named] {
            assert_eq!(run(None, user).unwrap().1, inside, "descriptor {number}");
        }
        let failure = run(Some("/cwd"), CommandUser::default()).unwrap_err();
        let refused = [Errno::LOOP, Errno::NOENT].map(Errno::raw_os_error);
        assert!(failure.object.as_str() == "/cwd" && refused.contains(&failure.errno), "{number}: {failure}");
        let plant = format!("rm /etc/passwd; ln -s {link} /etc/passwd");
        exec(&request, &running, &["sh", "-c", &plant]).unwrap();
        let failure = run(None, CommandUser::Name { name: "web".to_owned(), gid: None }).unwrap_err();
        assert_eq!(failure.object.as_str(), "/etc/passwd", "descriptor {number}");
    }
    running.kill();
}

fn unseen(fixture: &Fixture) {
    // Following the link to a process's working directory takes the same right as tracing it; commands go to /tmp last.
    let request = script(
        fixture,
        "watching",
        "while cd /proc; do for p in [2-9]* 1?*; do
           cd -P $p/cwd; [ $PWD = / ] && : >/tmp/seen; cd /proc
         done; done 2>/dev/null",
    );
    let running = idle(&request);
    for _ in 0..100 {
        let (ended, _) = exec(&request, &running, &["/bin/true"]).unwrap();
        assert_eq!(ended, Ended::Code(0));
    }
    let (ended, _) = exec(&request, &running, &["/bin/ls", "/tmp/seen"]).unwrap();
    assert_ne!(ended, Ended::Code(0), "root inside saw into the launcher");
    running.kill();
}

fn devices(fixture: &Fixture) {
    let source = fixture.path("some-device");
    let mut request = fixture.request("devices", &["/bin/sleep", "1000"]);
    request.spec.devices.push(node("sub/given", source.to_str().unwrap(), Required::No, NodeKind::Char));
    let running = idle(&request);
    let open = ["sh", "-c", ": </dev/sub/given && ls -ln /dev/sub/given"];
    assert_eq!(exec(&request, &running, &open).unwrap().0, Ended::Code(1));
    assert_eq!(sync_devices(&request, &running).unwrap(), (vec![], vec![]));

    let make = |minor| {
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &source, FileType::CharacterDevice, mode, makedev(10, minor)).unwrap();
    };
    make(237);
    assert_eq!(sync_devices(&request, &running).unwrap(), (vec!["/dev/sub/given".to_owned()], vec![]));
    let (ended, output) = exec(&request, &running, &open).unwrap();
    assert_eq!(ended, Ended::Code(0), "{output}");
    assert!(output.starts_with("crw-r-----    1 3        4          10, 237"), "{output}");
    assert_eq!(sync_devices(&request, &running).unwrap(), (vec![], vec![]), "the second time there is nothing to do");

    fs::remove_file(&source).unwrap();
    assert_eq!(sync_devices(&request, &running).unwrap(), (vec![], vec!["/dev/sub/given".to_owned()]));
    assert_eq!(exec(&request, &running, &open).unwrap().0, Ended::Code(1));

    // What the instance's root does to its /dev must not lead us out of it.
    exec(&request, &running, &["sh", "-c", "cd /dev && rm -rf sub && ln -s /tmp sub"]).unwrap();
    make(237);
    assert_eq!(sync_devices(&request, &running).unwrap_err().step.name(), "device");
    running.kill();
}

fn disks(fixture: &Fixture) {
    let shared = fixture.path("shared");
    fs::create_dir_all(shared.join("below")).unwrap();
    fs::write(shared.join("file"), "hello\n").unwrap();
    // Anybody may write there: only the mount keeps them from it.
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let mut request = script(
        fixture,
        "disks",
        "cat /mnt/ro/file; touch /mnt/ro/x; mount -o remount,bind,rw /mnt/ro; umount /mnt/ro; touch /mnt/ro/y
         touch /mnt/rw/new && stat -c %u /mnt/rw/file; cat /one/deep/file; touch /mnt/tmp/x && echo tmpfs; exit 0",
    );
    request.spec.disks = vec![
        disk(shared.to_str().unwrap(), "/mnt/ro", true),
        Disk { shift: true, ..disk(shared.to_str().unwrap(), "/mnt/rw", false) },
        disk(shared.join("file").to_str().unwrap(), "/one/deep/file", true),
        Disk { source: DiskSource::Tmpfs { size_bytes: Some(65_536) }, ..disk("", "/mnt/tmp", false) },
        Disk { required: false, ..disk("/no/such/source", "/mnt/none", false) },
    ];
    let output = run(&request);
    assert!(output.starts_with("hello\n") && output.contains("\n0\nhello\ntmpfs\n"), "{output}");
    assert!(!shared.join("x").exists() && !shared.join("y").exists(), "{output}");
    assert_eq!(fs::metadata(shared.join("new")).unwrap().uid(), 0, "shifted");
}

fn limits(fixture: &Fixture) {
    let mut request = script(fixture, "limits", "ulimit -n; ulimit -H -n");
    let ceiling = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap();
    request.spec.limits.kernel =
        vec![KernelLimit { resource: "nofile".to_owned(), soft: Some(77), hard: Some(ceiling - 1) }];
    assert_eq!(run(&request), format!("77\n{}\n", ceiling - 1));

    let request = script(
        fixture,
        "limits-default",
        "ulimit -n; ulimit -H -n; set -- $(grep processes /proc/self/limits); echo $3",
    );
    let usual = yado_spec::kernel_table_share::open_files(yado_sys::machine::memory_bytes());
    let output = run(&request);
    // As systemd leaves it to its services: what the kernel gave the first process, if nobody has changed it on the way to us.
    let processes = rustix::process::getrlimit(rustix::process::Resource::Nproc).current;
    let processes = processes.map_or("unlimited".to_owned(), |most| most.to_string());
    let may_raise = output == format!("1024\n{usual}\n{processes}\n");
    assert!(may_raise || ceiling < usual && output.ends_with(&format!("\n{ceiling}\n{processes}\n")), "{output}");
}

fn privileged(fixture: &Fixture) {
    let mut request = script(fixture, "privileged", "cat /proc/self/uid_map; echo x >/proc/sys/kernel/hostname");
    request.spec.security.privileged = true;
    request.idmap_base = 0;
    request.spec.init = vec!["/bin/sh".into(), "-c".into(), format!("{}; true", request.spec.init[2])];
    let output = run(&request);
    assert!(output.split_whitespace().take(3).eq(["0", "0", "4294967295"]), "{output}");
    assert!(output.contains("Read-only file system"), "sysctls: {output}");
}

fn nesting(fixture: &Fixture) {
    let mut request = script(
        fixture,
        "nesting",
        "grep -o ' /proc[^ ]*' /proc/self/mountinfo; mount -t proc proc /mnt && echo proc",
    );
    request.spec.security.nesting = true;
    assert_eq!(run(&request), " /proc\n /proc/sys/kernel/random/boot_id\nproc\n");
}

fn notify(fixture: &Fixture) {
    let request = script(fixture, "notify", "ls -l $NOTIFY_SOCKET");
    let socket = std::os::unix::net::UnixDatagram::bind(format!("{}/notify", request.paths.runtime)).unwrap();
    let output = run(&request);
    assert!(output.starts_with('s') && output.contains("/run/host/notify"), "{output}");
    drop(socket);
}

/// All capabilities of this kernel but mac_override 32, mac_admin 33, sys_module 16, sys_rawio 17, sys_time 25.
pub(crate) fn bounding_set() -> String {
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    let all = (2u64 << last.trim().parse::<u32>().unwrap()) - 1;
    format!("CapBnd:\t{:016x}\n", all & !0x3_0203_0000)
}

fn probes(fixture: &Fixture) {
    let mut request = script(
        fixture,
        "probed",
        "/bin/busybox mkdir /tmp/www && echo well >/tmp/www/health && cd /tmp/www && exec /bin/busybox httpd -f -p 80",
    );
    let running = idle(&request);
    let mut attempt = |attempt: ProbeAttempt| {
        let (interval, timeout) = (Duration::from_secs(30), Duration::from_millis(500));
        request.spec.health.probe = Some(Probe { attempt, interval, timeout, failures: 3 });
        probe(&request, &running)
    };
    let place = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let program = |line: &str| ProbeAttempt::Exec(line.split(' ').map(str::to_owned).collect());
    let until = Instant::now() + Duration::from_secs(10);
    while let Err(failure) = attempt(ProbeAttempt::Tcp(place(80))) {
        assert!(Instant::now() < until, "the server does not come up: {failure}");
    }
    for passes in [ProbeAttempt::Http(place(80), "/health".to_owned()), program("true"), program("/bin/ls /tmp/www")]
    {
        assert_eq!(attempt(passes.clone()), Ok(()), "{passes}");
    }
    let fails = [
        (ProbeAttempt::Http(place(80), "/none".to_owned()), 0, "HTTP/1.1 404 Not Found"),
        (ProbeAttempt::Tcp(place(81)), 111, "Connection refused (os error 111)"),
        (program("/bin/ls /none"), 0, "it ended with code 1"),
        (program("/bin/sh -c kill$IFS-9$IFS$$"), 0, "it was killed by signal 9"),
        (program("/bin/sleep 1000"), 0, "not within 500ms"),
    ];
    for (failing, errno, reason) in fails {
        let failure = attempt(failing.clone()).expect_err("it cannot pass");
        assert_eq!(
            (failure.step, failure.object.as_str(), failure.errno, failure.reason.as_str()),
            (Step::Health, failing.to_string().as_str(), errno, reason)
        );
    }
    let failure = attempt(program("/bin/none")).expect_err("no such program");
    assert_eq!((failure.step, failure.errno), (Step::Exec, 2), "{failure}");
    let (_, left) = exec(&request, &running, &["/bin/busybox", "ps"]).unwrap();
    assert!(!left.contains("sleep 1000"), "{left}");
    running.kill();
}

fn network(fixture: &Fixture) {
    let path = fixture.path("netd.sock");
    let listener = packet::listen(&path).unwrap();
    let mut request = script(fixture, "network", "cat /sys/class/net/eth0/flags");
    request.paths.netd = Some(path.to_str().unwrap().to_owned());
    // Every field said, so that one which is not passed on shows.
    request.spec.nics.push(Nic {
        name: "lan".to_owned(),
        interface: "eth0".try_into().unwrap(),
        kind: NicKind::Network { network: "yado0".try_into().unwrap() },
        hwaddr: Some([2, 0, 0, 0, 0, 1]),
        mtu: Some(1400),
        host_name: Some("vlan7".try_into().unwrap()),
        ipv4_address: Some([10, 158, 0, 20].into()),
    });
    let asked_for = NicRequest {
        name: "eth0".try_into().unwrap(),
        kind: network::NicKind::Network { network: "yado0".try_into().unwrap() },
        hwaddr: Some([2, 0, 0, 0, 0, 1]),
        mtu: Some(1400),
        host_name: Some("vlan7".try_into().unwrap()),
        ipv4_address: Some([10, 158, 0, 20]),
    };

    let attached = launch_beside(&request, || {
        let (attach, namespace) = serve_netd_after(&listener, Some(&NetReply::Attached), |namespace| {
            let namespace = format!("--net=/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
            let link =
                Program::new("nsenter").arg(namespace).args("ip link add eth0 type bridge".split(' ')).status();
            assert!(link.unwrap().success());
        });
        let NetRequest::Attach { instance, run, nics } = attach else { panic!("{attach:?}") };
        assert_eq!((instance.name.as_str(), run, nics.as_slice()), ("network", request.run, [asked_for].as_slice()));
        let ours = fs::metadata("/proc/self/ns/net").unwrap().ino();
        assert_ne!(rustix::fs::fstat(&namespace).unwrap().st_ino, ours);
    });
    // IFF_MULTICAST, IFF_BROADCAST, IFF_UP: netd leaves it down.
    assert_eq!(attached.unwrap().finish(), (Ended::Code(0), "0x1003\n".to_owned()));

    let absent = launch_beside(&request, || drop(serve_netd(&listener, Some(&NetReply::Attached))));
    let failure = absent.err().expect("netd made no interface");
    assert_eq!((failure.step, failure.object.as_str(), failure.errno), (Step::Network, "eth0", 19), "{failure}");

    let refusal = Failure::refused(Step::Network, "eth0", "no such network");
    let refused = launch_beside(&request, || {
        serve_netd(&listener, Some(&NetReply::Failed(refusal.clone())));
    });
    assert_eq!(refused.err(), Some(refusal));

    let silent = launch_beside(&request, || {
        serve_netd_after(&listener, None, |_| wait_for_child_in(Step::Network));
    });
    assert_eq!(silent.err().unwrap().reason.as_str(), "netd closed the connection without an answer");
}

/// A launcher shows what it waits for as its name.
fn wait_for_child_in(step: Step) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let children = fs::read_to_string("/proc/thread-self/children").unwrap();
        let names: Vec<String> = children
            .split_whitespace()
            .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok())
            .collect();
        if names.iter().any(|name| name.trim_end() == step.name()) {
            return;
        }
        assert!(Instant::now() < until, "{names:?}");
        std::thread::yield_now();
    }
}

fn serve_netd(listener: &OwnedFd, reply: Option<&NetReply>) -> (NetRequest, OwnedFd) {
    serve_netd_after(listener, reply, |_| ())
}

/// netd's part for one request; without a reply it hangs up.
pub(crate) fn serve_netd_after(
    listener: &OwnedFd,
    reply: Option<&NetReply>,
    meanwhile: impl FnOnce(&OwnedFd),
) -> (NetRequest, OwnedFd) {
    rustix::event::poll(&mut [PollFd::new(listener, PollFlags::IN)], None).unwrap();
    let connection = packet::accept(listener).unwrap().unwrap();
    rustix::event::poll(&mut [PollFd::new(&connection, PollFlags::IN)], None).unwrap();
    let mut buffer = vec![0; yado_wire::MAX_FRAME_BYTES];
    let mut received = packet::recv(&connection, &mut buffer).unwrap().unwrap();
    let namespace = received.descriptors.pop().unwrap();
    meanwhile(&namespace);
    if let Some(reply) = reply {
        packet::send(&connection, &yado_wire::encode(reply).unwrap(), &[]).unwrap().unwrap();
    }
    (yado_wire::decode(&buffer[..received.len]).unwrap(), namespace)
}

pub(crate) fn node(name: &str, source: &str, required: Required, kind: NodeKind) -> Device {
    let select = DeviceSelect::Node { kind, source: source.to_owned(), path: format!("/dev/{name}") };
    Device { name: name.to_owned(), select, required, uid: 3, gid: 4, mode: 0o640 }
}

pub(crate) fn disk(source: &str, path: &str, readonly: bool) -> Disk {
    Disk {
        name: "disk".to_owned(),
        source: DiskSource::Path(source.to_owned()),
        path: path.to_owned(),
        readonly,
        required: true,
        shift: false,
        recursive: false,
    }
}

/// Unmounting it writes back the whole file system of the layer. With `index=on` the kernel tells whether the layer is in use.
fn last_mount(fixture: &Fixture) {
    let request = fixture.request("last-mount", &["/bin/true"]);
    let mut payload = idle(&request);
    let root = payload.root.take().expect("it travels with the report of the start");
    assert_eq!(payload.finish().0, Ended::Code(0));
    let layer = |name: &str| format!("{}/{name}", request.paths.layer);
    let mount_again = || {
        let (lower, upper, work) = (fixture.root(), layer("upper"), layer("work"));
        let options = [
            FsOption::Value("lowerdir", lower.to_str().unwrap()),
            FsOption::Value("upperdir", &upper),
            FsOption::Value("workdir", &work),
            FsOption::Value("index", "on"),
        ];
        mount::new_file_system("overlay", &options, Attributes::empty())
    };
    assert_eq!(mount_again().unwrap_err().source.raw_os_error(), Some(Errno::BUSY.raw_os_error()));
    drop(root);
    mount_again().unwrap();
}
