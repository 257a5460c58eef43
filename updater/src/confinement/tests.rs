#![allow(clippy::unwrap_used)]
use super::*;
use crate::boot_loader::StatePartition;
use landlock::{ABI, Access, CompatLevel, Compatible, Ruleset, RulesetAttr};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, XattrFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};
use std::fs::File;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use yado_sys::hostile;

const INSIDE: &str = "confinement::tests::what_the_other_test_runs";

/// Of those that the filter answers, one of each kind.
const DENIED_CALLS: [&str; 12] = [
    "kexec_load",
    "init_module",
    "bpf",
    "perf_event_open",
    "syslog",
    "add_key",
    "open_by_handle_at",
    "fanotify_init",
    "unshare",
    "mount",
    "fsopen",
    "swapon",
];

/// The folders of a board, and what is none of the updater's business.
fn board() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in
        ["system", "data/instances", "data/state", "data/images/one", "run/specs", "run/updater", "stick", "other"]
    {
        fs::create_dir_all(at(name)).unwrap();
    }
    for name in ["system/update.toml", "data/instances/web.toml", "run/boot", "stick/release", "other/secret"] {
        fs::write(at(name), "x").unwrap();
    }
    folder
}

/// A process of its own is confined as an updater that installs from the folder `stick`, tries, and says what the kernel answered.
#[test]
fn what_an_update_needs_is_there_and_nothing_else_is() {
    let board = board();
    let arguments = ["--exact", INSIDE, "--ignored", "--nocapture", "--test-threads=1"];
    let itself = std::env::current_exe().unwrap();
    let output = Command::new(itself).args(arguments).env("YADO_CONFINED", board.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("SKIPPED: needs root for its capabilities");
    }
    let has_landlock = !said.contains("landlock: Err");
    if !has_landlock {
        println!("SKIPPED: this kernel has no Landlock");
    }
    let says = |line: &str| {
        assert!(said.contains(&format!("\n{line}\n")), "{line}:\n{said}{}", String::from_utf8_lossy(&output.stderr));
    };
    let refused = |errno: Errno| format!("Err({})", errno.raw_os_error());
    for needed in [
        "read of the source",
        "read of the system",
        "write of a record",
        "image moved to its place",
        "pins exchanged",
        "configuration read",
        "spec written",
        "lock of apply",
        "init's socket",
        "its own program",
        "a thread",
    ] {
        says(&format!("{needed}: Ok"));
    }
    for denied in DENIED_CALLS {
        says(&format!("{denied}: {}", refused(Errno::NOSYS)));
    }
    for denied in ["packet socket", "netlink socket"] {
        says(&format!("{denied}: {}", refused(Errno::AFNOSUPPORT)));
    }
    if is_root {
        for needed in ["device in a layer", "attribute of an overlay", "owner of a file"] {
            says(&format!("{needed}: Ok"));
        }
        says(&format!("clock: {}", refused(Errno::PERM)));
        says(&format!("low port: {}", refused(Errno::ACCESS)));
    }
    if has_landlock {
        for denied in [
            "read of other files",
            "read of memory",
            "configuration written",
            "running slot's word",
            "file of the system",
            "device outside of layers",
            "kernel parameter",
            "another program",
        ] {
            says(&format!("{denied}: {}", refused(Errno::ACCESS)));
        }
    }
}

#[test]
#[ignore = "confines its process: the test above runs it in one of its own"]
fn what_the_other_test_runs() {
    let Some(board) = std::env::var_os("YADO_CONFINED").map(PathBuf::from) else { return };
    let at = |name: &str| board.join(name);
    let landlock = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let landlock = landlock.handle_access(AccessFs::from_all(ABI::V2)).and_then(|rules| rules.create());
    println!("\nlandlock: {:?}", landlock.map(drop));
    let _init = UnixListener::bind(at("run/init.sock")).unwrap();

    let places = Places { system: at("system"), data: at("data"), run: at("run"), state: None };
    let loader = StatePartition::in_file(&at("boot-state"), None).unwrap();
    let source = at("stick").display().to_string();
    let (policy, record) = (UpdatePolicy::usual(), Record::default());
    let needed = Needed {
        places: &places,
        policy: &policy,
        loader: &loader,
        booted: Slot::A,
        record: &record,
        source: Some(&source),
    };
    confine(&needed).unwrap();
    println!();

    say("read of the source", File::open(at("stick/release")));
    say("read of the system", File::open(at("system/update.toml")));
    say("write of a record", fs::write(at("data/state/update"), "x"));
    fs::write(at("data/images/.incoming"), "x").unwrap();
    say("image moved to its place", fs::rename(at("data/images/.incoming"), at("data/images/one/image")));
    for name in ["data/images/two", "data/images/three"] {
        fs::create_dir(at(name)).unwrap();
        symlink("x", at(name).join("pin")).unwrap();
    }
    let (two, three) = (at("data/images/two"), at("data/images/three"));
    say("pins exchanged", rustix::fs::renameat_with(CWD, two, CWD, three, RenameFlags::EXCHANGE));
    say("configuration read", File::open(at("data/instances/web.toml")));
    say("spec written", fs::write(at("run/specs/web.bin"), "x"));
    say("lock of apply", file_lock::open(&at("run/apply.lock")).and_then(|file| file_lock::try_lock(&file)));
    say("init's socket", UnixStream::connect(at("run/init.sock")));
    let itself = Command::new("/proc/self/exe").args(["--exact", "none"]).output();
    say("its own program", itself.map(|output| assert!(output.status.success(), "{output:?}")));
    say("a thread", std::thread::Builder::new().spawn(|| ()));

    let device = |name: &str| {
        rustix::fs::mknodat(CWD, at(name), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3))
    };
    say("device in a layer", device("data/layers/null"));
    let record = at("data/state/update");
    say(
        "attribute of an overlay",
        rustix::fs::setxattr(&record, "trusted.overlay.opaque", b"y", XattrFlags::empty()),
    );
    say("owner of a file", std::os::unix::fs::chown(&record, Some(1_000_000), Some(1_000_000)));

    say("read of other files", File::open(at("other/secret")));
    say("read of memory", File::open("/dev/zero"));
    say("configuration written", fs::write(at("data/instances/web.toml"), "y"));
    say("running slot's word", fs::write(at("run/boot"), "y"));
    say("file of the system", fs::write(at("system/new"), "y"));
    say("device outside of layers", device("data/state/null"));
    say("kernel parameter", File::options().write(true).open("/proc/sys/kernel/hostname"));
    say("another program", Command::new("/bin/true").status());

    let top = File::open(at("data/state")).unwrap();
    let attributes = yado_sys::mount::Attributes::empty();
    let mounted = yado_sys::mount::new_file_system("tmpfs", &[], attributes).map_err(|error| error.source);
    let calls: [io::Result<()>; 12] = [
        hostile::kexec_load(),
        hostile::init_module(),
        hostile::bpf_map(),
        hostile::perf_whole_processor(),
        hostile::read_kernel_log(&mut [0; 16]).map(drop),
        hostile::add_key(c"yado", b"x"),
        hostile::open_by_handle(&top),
        hostile::fanotify_with_permissions(),
        yado_sys::clone::unshare(yado_sys::clone::Namespaces::NEWNS),
        yado_sys::mount::make_all_private(),
        mounted.map(drop),
        hostile::swapon(c"/nonexistent"),
    ];
    for (name, answer) in DENIED_CALLS.iter().zip(calls) {
        say(name, answer);
    }
    say("packet socket", rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, None));
    say("netlink socket", rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None));
    say("clock", hostile::set_clock());
    say("low port", std::net::TcpListener::bind("127.0.0.1:7"));
}

const READER_INSIDE: &str = "confinement::tests::what_the_test_of_the_reader_runs";

/// The same for the process that reads sticks: it mounts, reads what is anybody's, and changes nothing.
#[test]
fn who_reads_sticks_mounts_and_reads_and_writes_nothing() {
    if !rustix::process::geteuid().is_root() {
        return println!("SKIPPED: needs root to mount");
    }
    let board = board();
    let secret = board.path().join("other/secret");
    std::os::unix::fs::chown(&secret, Some(1_000_000), Some(1_000_000)).unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
    let arguments = ["--exact", READER_INSIDE, "--ignored", "--nocapture", "--test-threads=1"];
    let itself = std::env::current_exe().unwrap();
    let output = Command::new(itself).args(arguments).env("YADO_CONFINED", board.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let says = |line: &str| {
        assert!(said.contains(&format!("\n{line}\n")), "{line}:\n{said}{}", String::from_utf8_lossy(&output.stderr));
    };
    let refused = |errno: Errno| format!("Err({})", errno.raw_os_error());
    for needed in ["a file system of its own", "read of anybody's file"] {
        says(&format!("{needed}: Ok"));
    }
    for denied in ["mount at a place", "namespace", "file by its number"] {
        says(&format!("{denied}: {}", refused(Errno::NOSYS)));
    }
    if said.contains("landlock: Err") {
        return println!("SKIPPED: this kernel has no Landlock");
    }
    for denied in
        ["file written", "file made", "file removed", "device made", "device written", "file made where it mounts"]
    {
        says(&format!("{denied}: {}", refused(Errno::ACCESS)));
    }
}

#[test]
#[ignore = "confines its process: the test above runs it in one of its own"]
fn what_the_test_of_the_reader_runs() {
    let Some(board) = std::env::var_os("YADO_CONFINED").map(PathBuf::from) else { return };
    let at = |name: &str| board.join(name);
    let landlock = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let landlock = landlock.handle_access(AccessFs::from_all(ABI::V2)).and_then(|rules| rules.create());
    println!("\nlandlock: {:?}", landlock.map(drop));
    let top = File::open(at("data/state")).unwrap();
    confine_reader_of_sticks().unwrap();
    println!();

    let attributes = yado_sys::mount::Attributes::empty();
    let mounted = yado_sys::mount::new_file_system("tmpfs", &[], attributes).map_err(|error| error.source);
    if let Ok(mounted) = &mounted {
        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
        say("file made where it mounts", rustix::fs::openat(mounted, "file", flags, Mode::RUSR));
    }
    say("a file system of its own", mounted);
    say("read of anybody's file", File::open(at("other/secret")));
    say("mount at a place", yado_sys::mount::make_all_private());
    say("namespace", yado_sys::clone::unshare(yado_sys::clone::Namespaces::NEWNS));
    say("file by its number", hostile::open_by_handle(&top));
    say(
        "device made",
        rustix::fs::mknodat(CWD, at("null"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3)),
    );
    say("file written", fs::write(at("run/boot"), "y"));
    say("file made", fs::write(at("data/state/new"), "y"));
    say("file removed", fs::remove_file(at("run/boot")));
    say("device written", File::options().write(true).open("/dev/zero"));
}

/// What the kernel answered, on a line of its own.
fn say<T>(what: &str, answer: Result<T, impl Into<io::Error>>) {
    match answer {
        Ok(_) => println!("{what}: Ok"),
        Err(error) => println!("{what}: Err({})", error.into().raw_os_error().unwrap_or_default()),
    }
}
