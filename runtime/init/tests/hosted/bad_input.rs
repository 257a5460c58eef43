//! What is configured is cut, huge, no file, elsewhere, written while it is read, or of another release: that is told, with file
//! and reason, and what runs goes on.

use crate::host::{Host, Running};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use yado_spec::file::SCHEMA;
use yado_wire::rescue::{Applied, ApplyOutcome, InstanceState, Reply, Request};

const RUNS: &str = "[config]\nboot.autostart = true\n";

/// Where the schema of a compiled spec stands, behind eight bytes that say what it is.
const SCHEMA_AT: u64 = 8;

fn file_of(host: &Running, name: &str) -> std::path::PathBuf {
    host.path(&format!("data/instances/{name}/instance.toml"))
}

/// Has the command apply what there is.
fn apply(host: &Running, words: &[&str]) -> (i32, String, String) {
    let socket = host.path("run/init.sock").display().to_string();
    host.yado(&[&["apply", "--socket", &socket], words].concat(), "")
}

#[test]
fn a_bad_file_on_the_data_partition_is_named_and_its_instance_runs_on_as_it_was() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil, &str); 6] = [
        ("cut", |file| fs::write(file, "image = \"busybox\"\n[config]\nlimits.mem").unwrap(), ":3: "),
        ("huge", |file| fs::File::create(file).unwrap().set_len(8 << 30).unwrap(), "longer than 65536 bytes"),
        ("bytes", |file| fs::write(file, [0xff; 100]).unwrap(), "UTF-8"),
        ("fifo", |file| assert!(Command::new("mkfifo").arg(file).status().unwrap().success()), "not a regular file"),
        // To read it takes until the kernel says something.
        ("linked", |file| symlink("/proc/kmsg", file).unwrap(), "leads out of"),
        ("dangling", |file| symlink("/none", file).unwrap(), "No such file"),
    ];
    let names = cases.map(|(name, ..)| (name, RUNS));
    let Some(host) = Host::with(&names) else { return };
    let mut host = host.start();
    let pids = names.map(|(name, _)| {
        host.wait_for(name, InstanceState::Running);
        host.status(name).pid
    });
    for (name, spoil, _) in cases {
        fs::create_dir_all(file_of(&host, name).parent().unwrap()).unwrap();
        spoil(&file_of(&host, name));
    }
    let (code, out, err) = apply(&host, &[]);
    assert_eq!(code, 3, "{out}{err}");
    for ((name, _, reason), pid) in cases.iter().zip(pids) {
        let file = file_of(&host, name).display().to_string();
        let is_named = |line: &str| line.contains(&file) && line.contains(reason);
        assert!(err.lines().any(is_named), "{name}: {err}");
        let status = host.status(name);
        assert_eq!((status.state, status.pid), (InstanceState::Running, pid), "{name}");
        assert!(status.refused.unwrap().reason.contains(reason), "{name}");
    }
    // They are there, and nobody waits for them, when init starts, too.
    assert!(host.end().success());
    let mut host = host.start_again();
    for (name, _, reason) in cases {
        host.wait_for(name, InstanceState::Failed);
        let failure = host.status(name).last_failure.unwrap();
        assert!(failure.reason.contains(reason), "{name}: {failure}");
    }
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn a_file_that_is_written_while_it_is_read_is_taken_whole_or_refused() {
    let Some(host) = Host::with(&[("one", RUNS)]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    let pid = host.status("one").pid;
    let texts = [1, 2].map(|priority| {
        // The key that counts stands at the end.
        let filling = "# a line that says nothing\n".repeat(300);
        format!("image = \"busybox\"\n{RUNS}{filling}boot.stop.priority = {priority}\n")
    });
    fs::create_dir_all(file_of(&host, "one").parent().unwrap()).unwrap();
    fs::write(file_of(&host, "one"), &texts[0]).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (path, texts, is_over) = (file_of(&host, "one"), texts.clone(), is_over.clone());
        move || {
            // As an editor that writes in place, in pieces.
            for text in texts.iter().cycle() {
                let mut file = fs::File::create(&path).unwrap();
                for piece in text.as_bytes().chunks(1000) {
                    file.write_all(piece).unwrap();
                }
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
    });
    for _ in 0..40 {
        for (name, outcome) in host.apply() {
            let is_one =
                matches!(outcome, ApplyOutcome::Changed | ApplyOutcome::WaitsForRestart | ApplyOutcome::Refused(_));
            assert!(name == "one" && is_one, "{name}: {outcome:?}");
        }
        let status = host.status("one");
        assert_eq!((status.pid, status.state == InstanceState::Failed), (pid, false));
    }
    is_over.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    fs::write(file_of(&host, "one"), &texts[1]).unwrap();
    host.apply();
    let status = host.status("one");
    assert_eq!((status.pid, status.refused, status.waits_for_restart), (pid, None, false));
    assert!(host.end().success());
}

#[test]
fn of_two_commands_at_once_one_applies_and_the_other_says_so() {
    let Some(host) = Host::with(&[("one", RUNS)]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    let pid = host.status("one").pid;
    // It waits for its standard input, and keeps others away, as the kernel's list of locks says.
    let (words, input) = (["-", "--name", "two"], "image = \"busybox\"\n");
    let begin = |host: &Running| {
        let first = host.begin_apply(&words);
        let lock = format!("FLOCK  ADVISORY  WRITE {} ", first.id());
        host.wait_until("it has the lock", |_| fs::read_to_string("/proc/locks").unwrap().contains(&lock));
        first
    };
    let mut first = begin(&host);
    let (code, _, err) = apply(&host, &[]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("another yado apply is at work: try again when it is over"), "{err}");
    // Whoever is killed holds up nobody.
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(apply(&host, &[]).0, 0);
    let mut first = begin(&host);
    first.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(first.wait().unwrap().success());
    assert_eq!((host.state("two"), host.status("one").pid), (InstanceState::Stopped, pid));
    assert!(host.end().success());
}

#[test]
fn a_spec_of_another_schema_is_not_used_and_is_compiled_again() {
    let Some(host) = Host::with(&[("one", RUNS)]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    let pid = host.status("one").pid;
    let spec = host.path("run/specs/one.bin");
    let spoil = |path: &Path, schema: u32| {
        let mut file = fs::File::options().write(true).open(path).unwrap();
        file.seek(SeekFrom::Start(SCHEMA_AT)).unwrap();
        file.write_all(&schema.to_le_bytes()).unwrap();
    };
    for schema in [SCHEMA - 1, SCHEMA + 1] {
        spoil(&spec, schema);
        let replies = host.ask(&Request::Apply { forget: false });
        let [Reply::Applied(Applied { outcome: ApplyOutcome::Refused(failure), .. }), Reply::Done] =
            replies.as_slice()
        else {
            panic!("{replies:?}");
        };
        assert!(failure.reason.contains(&format!("schema {schema}")), "{failure}");
        let status = host.status("one");
        assert_eq!((status.state, status.pid), (InstanceState::Running, pid));
        let (code, out, err) = apply(&host, &[]);
        assert_eq!((code, host.status("one").refused), (0, None), "{out}{err}");
    }
    assert!(host.end().success());
    // As an image has it that was built by another release.
    fs::create_dir_all(host.path("system/specs")).unwrap();
    for file in ["one.bin", "networks.bin"] {
        fs::copy(host.path("run/specs").join(file), host.path("system/specs").join(file)).unwrap();
    }
    spoil(&host.path("system/specs/one.bin"), SCHEMA + 1);
    let mut host = host.start_again();
    host.wait_for("one", InstanceState::Running);
    assert!(spec.exists(), "it was compiled");
    assert!(host.end().success());
}

#[test]
fn networks_that_came_with_the_system_are_kept_until_others_are_compiled() {
    let nic = format!("{RUNS}[devices.eth0]\ntype = \"nic\"\nnetwork = \"lan0\"\n");
    let Some(host) = Host::with(&[("one", &nic)]) else { return };
    host.write_network("lan0", "[config]\nipv4.address = \"10.205.1.1/24\"\n");
    host.compile_system();
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    // Nothing had to be compiled: netd was given a file that is not there, and this one.
    assert!(!host.path("run/specs/networks.bin").exists());
    let files =
        ["run/specs/networks.bin", "system/specs/networks.bin"].map(|file| host.path(file).display().to_string());
    let line = fs::read(format!("/proc/{}/cmdline", host.child_with(&["yado-netd"]).unwrap())).unwrap();
    let line = String::from_utf8(line).unwrap();
    let expected = files.map(|file| format!("--networks\0{file}\0")).concat();
    assert!(line.ends_with(&expected), "{line:?}");
    assert!(host.has_address("10.205.1.1"));
    // What is compiled later counts at once, and for a netd that is started again.
    fs::create_dir_all(host.path("data/networks")).unwrap();
    fs::write(host.path("data/networks/lan0.toml"), "[config]\nipv4.address = \"10.205.2.1/24\"\n").unwrap();
    let (code, out, err) = apply(&host, &[]);
    assert_eq!(code, 0, "{out}{err}");
    host.wait_until("the bridge has its new address", |host| host.has_address("10.205.2.1"));
    assert!(!host.has_address("10.205.1.1"));
    let before = host.child_with(&["yado-netd"]).unwrap();
    host.kill_process(before);
    host.wait_until("netd is back", |host| host.child_with(&["yado-netd"]).is_some_and(|pid| pid != before));
    host.wait_until("it answers", |host| apply(host, &[]).0 == 0);
    assert!(host.has_address("10.205.2.1") && !host.has_address("10.205.1.1"));
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}
