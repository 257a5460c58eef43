//! What each start gives an instance without being asked: a boot id of its own, what systemd's "Container Interface" wants of mounts
//! and of `/run/host`, and the machine that its image is for.

use crate::attack_program::copy_tree;
use crate::cases::{disk, idle, run, script};
use crate::fixture::{Fixture, key};
use crate::init_role::{exec, launch, probe};
use rustix::io::Errno;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use yado_image::manifest::Manifest;
use yado_image::pack::{self, BuildOptions, Source};
use yado_image::{Architecture, ImageKind, erofs};
use yado_spec::LaunchRequest;
use yado_spec::instance::{Probe, ProbeAttempt};
use yado_sys::children::Ended;

type Case = (&'static str, fn(&Fixture));

pub(crate) const ALL: &[Case] = &[
    ("each_start_is_a_boot_of_its_own", boot_id),
    ("a_mount_inside_is_seen_below_and_never_outside", propagation),
    ("run_host_names_the_manager", run_host),
    ("an_image_for_32_bits_finds_such_a_machine", machine),
    ("socketcall_is_for_images_for_i386_only", socketcall),
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
    // What the instance's init makes of itself is not asked: only it would know when the answer comes.
    let request = fixture.request("wide-with-narrow-init", &["/bin/busybox", "linux32", "/bin/sleep", "1000"]);
    let running = idle(&request);
    let of_a_command = exec(&request, &running, &["/bin/busybox", "uname", "-m"]).unwrap();
    assert_eq!(of_a_command, (Ended::Code(0), format!("{wide}\n")));
    running.kill();
    let mut request = script(fixture, "narrow", &format!("{uname} >/tmp/said; exec sleep 1000"));
    use_image_for(fixture, &mut request, fixture.root(), architecture);
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

/// Gives the request an image of this root for this architecture.
fn use_image_for(fixture: &Fixture, request: &mut LaunchRequest, root: PathBuf, architecture: Architecture) {
    let output = fixture.path(&format!("{}-image", request.spec.name));
    let options = BuildOptions {
        source: Source::Directory(root),
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
    request.spec.image = pack::build(&options).unwrap().fingerprint;
    request.paths.image = output.to_str().unwrap().to_owned();
}

/// Asks for a Unix socket by socketcall(2), and ends with the kernel's errno, or 0.
const SOCKETCALL_PROGRAM: &[u8] = &[
    0x6a, 0x00, // push 0
    0x6a, 0x01, // push 1: SOCK_STREAM
    0x6a, 0x01, // push 1: AF_UNIX
    0x89, 0xe1, // mov ecx, esp
    0x6a, 0x01, 0x5b, // push 1; pop ebx: SYS_SOCKET
    0x6a, 0x66, 0x58, // push 102; pop eax: socketcall
    0xcd, 0x80, // int 0x80
    0x31, 0xdb, // xor ebx, ebx
    0x85, 0xc0, // test eax, eax
    0x79, 0x04, // jns: past the next two
    0x89, 0xc3, // mov ebx, eax
    0xf7, 0xdb, // neg ebx
    0x6a, 0x01, 0x58, // push 1; pop eax: exit
    0xcd, 0x80, // int 0x80
];

/// An executable for i386 of nothing but this: elf(5), a header and one segment.
fn i386_program(code: &[u8]) -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    let len = HEADERS + code.len() as u32;
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // ET_EXEC, EM_386
    file.extend([2_u16, 3].iter().flat_map(|half| half.to_le_bytes()));
    // Version, entry, where the segment's header is, no sections, no flags.
    file.extend([1, BASE + HEADERS, 52, 0, 0].iter().flat_map(|word: &u32| word.to_le_bytes()));
    // Sizes and counts of headers.
    file.extend([52_u16, 32, 1, 0, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    // PT_LOAD of the whole file, readable and executable.
    file.extend([1, 0, BASE, BASE, len, len, 5, 4096].iter().flat_map(|word: &u32| word.to_le_bytes()));
    file.extend(code);
    file
}

/// i386's one call for all of sockets has its arguments where no filter sees them. The kernel says whether it is there.
fn socketcall(fixture: &Fixture) {
    let root = fixture.path("socketcall-root");
    copy_tree(&fixture.root(), &root);
    let program = root.join("bin/socketcall");
    fs::write(&program, i386_program(SOCKETCALL_PROGRAM)).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    match Command::new(&program).status() {
        Ok(status) => assert_eq!(status.code(), Some(0), "outside, where nothing is denied"),
        Err(error) => {
            println!("SKIPPED: no i386 programs on {}: {error}", std::env::consts::ARCH);
            return;
        }
    }
    let denied = Ended::Code(Errno::NOSYS.raw_os_error().try_into().unwrap());
    for (architecture, expected) in [(Architecture::X86_64, denied), (Architecture::I386, Ended::Code(0))] {
        let mut request = fixture.request("socketcall", &["/bin/socketcall"]);
        use_image_for(fixture, &mut request, root.clone(), architecture);
        let (of_init, output) = launch(&request).unwrap_or_else(|failure| panic!("{failure}")).finish();
        assert_eq!(of_init, expected, "{architecture:?}, init: {output}");
        // One whose init says that it is of the other machine.
        let mut request = fixture.request("socketcall-idle", &["/bin/busybox", "linux32", "/bin/sleep", "1000"]);
        use_image_for(fixture, &mut request, root.clone(), architecture);
        let running = idle(&request);
        let (of_a_command, output) = exec(&request, &running, &["/bin/socketcall"]).unwrap();
        assert_eq!(of_a_command, expected, "{architecture:?}, a command: {output}");
        running.kill();
    }
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
