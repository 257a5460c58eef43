//! What root inside tries against the system and the other instances, and what the kernel answers.

use crate::cases::{disk, idle, run, script};
use crate::fixture::{BASE, Fixture};
use crate::init_role::{Payload, exec};
use rustix::fs::{CWD, FileType, Mode, OFlags, inotify, makedev};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_move, mount_remount, unmount};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use yado_sys::children::Ended;
use yado_sys::clone::{self, Forked, Namespaces, Parent};
use yado_sys::packet;
use yado_sys::pidfd::{self, NamespacesOf};

type Case = (&'static str, fn(&Fixture));

pub(crate) const ALL: &[Case] = &[
    ("a_device_node_in_the_root_opens_nothing", nodes_in_the_root),
    ("programs_run_from_a_data_partition_that_the_system_runs_none_from", from_a_partition_without_exec),
    ("a_container_that_fills_the_disk_leaves_the_reserve_to_the_system", the_reserve_of_the_disk),
    ("terminals_are_limited_and_root_inside_cannot_raise_it", terminals),
    ("controllers_are_passed_on_to_who_nests_only", own_group),
    ("what_hides_the_system_cannot_be_taken_away_inside", locked),
    ("what_one_instance_uses_up_the_others_and_the_system_still_have", own_counts),
];

fn nodes_in_the_root(fixture: &Fixture) {
    // The null device, which the device filter allows: only the mount refuses it.
    let request = script(fixture, "nodes", "cat /null; echo null=$?; cat /dev/null && echo standard");
    let upper = Path::new(&request.paths.layer).join("upper");
    fs::create_dir_all(&upper).unwrap();
    let (mode, number) = (Mode::from_raw_mode(0o666), makedev(1, 3));
    rustix::fs::mknodat(CWD, upper.join("null"), FileType::CharacterDevice, mode, number).unwrap();
    let output = run(&request);
    assert!(output.contains("Permission denied\nnull=1\nstandard\n"), "{output}");
}

fn own_counts(fixture: &Fixture) {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap().trim().parse().unwrap();
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if descriptors.is_some_and(|descriptors| descriptors < limit + 32) {
        println!("SKIPPED: a process here has fewer descriptors than a user inotify instances ({limit})");
        return;
    }
    let first = idle(&fixture.request("counts-1", &["/bin/sleep", "1000"]));
    let mut request = fixture.request("counts-2", &["/bin/sleep", "1000"]);
    request.idmap_base = BASE + 65_536;
    let second = idle(&request);
    let (in_first, first_holds) = take_inotify_instances(&first);
    let (in_second, second_holds) = take_inotify_instances(&second);
    let ours = inotify::init(inotify::CreateFlags::CLOEXEC);
    drop((first_holds, second_holds));
    first.kill();
    second.kill();
    assert_eq!((in_first, in_second), (limit, limit));
    ours.unwrap();
}

fn from_a_partition_without_exec(fixture: &Fixture) {
    let partition = fixture.path("partition");
    fs::create_dir_all(partition.join("disk")).unwrap();
    mount_bind(&partition, &partition).unwrap();
    mount_remount(&partition, MountFlags::BIND | MountFlags::NOEXEC, c"").unwrap();
    fs::copy("/bin/busybox", partition.join("disk/busybox")).unwrap();
    let outside = std::process::Command::new(partition.join("disk/busybox")).arg("true").output();
    let script_of_both = "cp /bin/busybox /root/ && /root/busybox echo above; /mnt/busybox echo shared";
    let mut request = script(fixture, "noexec", script_of_both);
    request.paths.layer = partition.join("layer").to_str().unwrap().to_owned();
    request.spec.disks.push(disk(partition.join("disk").to_str().unwrap(), "/mnt", false));
    let output = run(&request);
    unmount(&partition, UnmountFlags::DETACH).unwrap();
    assert_eq!(outside.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(output, "above\nshared\n");
}

fn the_reserve_of_the_disk(fixture: &Fixture) {
    let (image, partition) = (fixture.path("small.ext4"), fixture.path("small"));
    fs::create_dir_all(&partition).unwrap();
    fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    let succeeds = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output();
        output.is_ok_and(|output| output.status.success())
    };
    let (image, place) = (image.to_str().unwrap(), partition.to_str().unwrap());
    if !succeeds("/sbin/mke2fs", &["-q", "-F", "-t", "ext4", "-m", "5", image])
        || !succeeds("mount", &["-o", "loop", image, place])
    {
        println!("SKIPPED: needs mke2fs and loop devices");
        return;
    }
    let mut request = script(fixture, "fill", "cat /dev/zero >/root/fill; echo cat=$?; ls /root/fill");
    request.paths.layer = format!("{place}/layer");
    let output = run(&request);
    let ours =
        fs::write(partition.join("ours"), vec![1; 1 << 20]).and_then(|()| fs::File::open(&partition)?.sync_all());
    drop(fs::remove_file(format!("{place}/layer/upper/root/fill")));
    unmount(&partition, UnmountFlags::DETACH).unwrap();
    assert!(output.contains("No space left on device\ncat=1\n/root/fill\n"), "{output}");
    ours.unwrap();
}

fn terminals(fixture: &Fixture) {
    let request = fixture.request("terminals", &["/bin/sleep", "1000"]);
    let running = idle(&request);
    let (answer, _hold) = as_root_inside(&running, NamespacesOf::USER | NamespacesOf::MOUNT, || {
        let mut held = Vec::new();
        let refusal = loop {
            match rustix::fs::open("/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY, Mode::empty()) {
                Ok(terminal) => held.push(terminal),
                Err(errno) => break errno.raw_os_error(),
            }
        };
        let raised = rustix::mount::mount_remount("/dev/pts", MountFlags::empty(), c"max=100000").err();
        vec![held.len() as i32, refusal, raised.map_or(0, Errno::raw_os_error)]
    });
    let share = yado_spec::kernel_table_share::terminals(yado_sys::machine::memory_bytes());
    // One is the console.
    let taken = share as i32 - 1;
    assert_eq!(answer, [taken, Errno::NOSPC.raw_os_error(), Errno::PERM.raw_os_error()]);
    let (_, output) = exec(&request, &running, &["ls", "-ln", "/dev/pts/0", "/dev/pts/ptmx"]).unwrap();
    assert!(output.contains(" 0        5 ") && !output.contains("65534"), "{output}");
    running.kill();
}

fn own_group(fixture: &Fixture) {
    let whose = "stat -c %u:%n /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/cgroup.subtree_control";
    let mut request = script(fixture, "group", whose);
    let files = |owner| format!("0:/sys/fs/cgroup/cgroup.procs\n{owner}:/sys/fs/cgroup/cgroup.subtree_control\n");
    assert_eq!(run(&request), files(65_534));
    request.spec.security.nesting = true;
    assert_eq!(run(&request), files(0));
}

/// As root inside: makes inotify instances until the kernel refuses. Gives how many there were; they are held until the
/// descriptor is closed.
fn take_inotify_instances(running: &Payload) -> (u64, OwnedFd) {
    let (taken, hold) = as_root_inside(running, NamespacesOf::USER, || {
        let mut held = Vec::new();
        while let Ok(instance) = inotify::init(inotify::CreateFlags::CLOEXEC) {
            held.push(instance);
        }
        vec![held.into_iter().map(std::mem::forget).count() as i32]
    });
    (taken[0] as u64, hold)
}

/// What is tried on the mounts inside, what it is, and the kernel's answer.
type Attempt = (&'static str, fn() -> rustix::io::Result<()>, Errno);

const ON_THE_MOUNTS: &[Attempt] = &[
    ("unmount a cover", || unmount("/proc/timer_list", UnmountFlags::DETACH), Errno::INVAL),
    ("unmount what is read-only", || unmount("/proc/sysrq-trigger", UnmountFlags::DETACH), Errno::INVAL),
    ("move a cover", || mount_move("/proc/timer_list", "/mnt"), Errno::INVAL),
    ("make sysrq-trigger writable", || mount_remount("/proc/sysrq-trigger", MountFlags::BIND, c""), Errno::PERM),
    (
        "write to it",
        || rustix::fs::open("/proc/sysrq-trigger", OFlags::WRONLY, Mode::empty()).map(drop),
        Errno::ACCESS,
    ),
    ("unmount the boot id", || unmount("/proc/sys/kernel/random/boot_id", UnmountFlags::DETACH), Errno::INVAL),
    (
        "make the boot id writable",
        || mount_remount("/proc/sys/kernel/random/boot_id", MountFlags::BIND, c""),
        Errno::PERM,
    ),
    ("unmount /run/host", || unmount("/run/host", UnmountFlags::DETACH), Errno::INVAL),
    ("make /run/host writable", || mount_remount("/run/host", MountFlags::BIND, c""), Errno::PERM),
    ("make /sys writable", || mount_remount("/sys", MountFlags::BIND, c""), Errno::PERM),
    ("make all of sysfs writable", || mount_remount("/sys", MountFlags::empty(), c""), Errno::PERM),
    ("make a copy of /sys writable", || copy_writable("/sys"), Errno::PERM),
    ("copy /proc without its covers", || mount_bind("/proc", "/mnt"), Errno::INVAL),
    ("uncover a copy of /proc", || uncover_a_copy(), Errno::INVAL),
    ("uncover it in a user namespace below", || uncover_below(), Errno::INVAL),
    (
        "a new writable sysfs",
        || rustix::mount::mount("sysfs", "/mnt", "sysfs", MountFlags::empty(), None),
        Errno::PERM,
    ),
];

fn copy_writable(place: &str) -> rustix::io::Result<()> {
    mount_bind_recursive(place, "/mnt")?;
    let outcome = mount_remount("/mnt", MountFlags::BIND, c"");
    unmount("/mnt", UnmountFlags::DETACH)?;
    outcome
}

fn uncover_a_copy() -> rustix::io::Result<()> {
    mount_bind_recursive("/proc", "/mnt")?;
    let outcome = unmount("/mnt/timer_list", UnmountFlags::DETACH);
    unmount("/mnt", UnmountFlags::DETACH)?;
    outcome
}

fn uncover_below() -> rustix::io::Result<()> {
    clone::unshare(Namespaces::NEWUSER | Namespaces::NEWNS).map_err(|error| Errno::from_io_error(&error).unwrap())?;
    unmount("/proc/timer_list", UnmountFlags::DETACH)
}

fn locked(fixture: &Fixture) {
    let request = fixture.request("locked", &["/bin/sleep", "1000"]);
    let running = idle(&request);
    let namespaces = NamespacesOf::USER | NamespacesOf::MOUNT | NamespacesOf::NETWORK;
    for (name, attempt, expected) in ON_THE_MOUNTS {
        let (answer, _hold) =
            as_root_inside(&running, namespaces, || vec![attempt().err().map_or(0, Errno::raw_os_error)]);
        let answer = Errno::from_raw_os_error(answer[0]);
        if answer == Errno::NOENT && !Path::new("/proc/sysrq-trigger").exists() {
            println!("NOT TRIED: {name}: this kernel has no sysrq-trigger");
            continue;
        }
        assert_eq!(answer, *expected, "{name}");
    }
    // The kernel allows a new /proc only where what is seen of one is whole, and nowhere where none is seen.
    for script in ["mount -t proc proc /mnt", "umount -l /proc && mount -t proc proc /mnt"] {
        let (ended, output) = exec(&request, &running, &["sh", "-c", script]).unwrap();
        assert_eq!(ended, Ended::Code(1), "{script}: {output}");
    }
    running.kill();
    // The tops are as free as ever: an ordinary copy of the root works, and so does going on after a wild unmount.
    let output = run(&script(
        fixture,
        "unlocked",
        "mount -o bind / /mnt && ls /mnt/bin/busybox; umount /mnt && umount -l /proc && umount -l /sys && echo free",
    ));
    assert_eq!(output, "/mnt/bin/busybox\nfree\n");
}

/// Does `work` as root inside, in these namespaces of the instance. Gives its numbers; what it holds is held until the
/// descriptor is closed.
pub(crate) fn as_root_inside(
    running: &Payload,
    namespaces: NamespacesOf,
    work: impl FnOnce() -> Vec<i32>,
) -> (Vec<i32>, OwnedFd) {
    let (socket, childs_end) = packet::socketpair().unwrap();
    match clone::fork(Namespaces::empty(), Parent::Caller, None).unwrap() {
        Forked::Caller { .. } => {
            drop(childs_end);
            let mut answer = [0; 256];
            let packet = packet::recv(&socket, &mut answer).unwrap().unwrap();
            assert!(!packet.is_end(), "no answer from inside");
            let numbers =
                answer[..packet.len].chunks_exact(4).map(|number| i32::from_ne_bytes(number.try_into().unwrap()));
            (numbers.collect(), socket)
        }
        Forked::Child => {
            drop(socket);
            pidfd::enter_namespaces(&running.pidfd, namespaces).unwrap();
            let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            let numbers: Vec<u8> = work().into_iter().flat_map(i32::to_ne_bytes).collect();
            packet::send(&childs_end, &numbers, &[]).unwrap();
            let _ = packet::recv(&childs_end, &mut [0]);
            std::process::exit(0)
        }
    }
}
