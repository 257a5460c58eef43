//! README's recipe for a laptop, run as it stands there.

use super::host::Host;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use yado_wire::rescue::InstanceState;

const README: &str = include_str!("../../../../README.md");
const HEADING: &str = "## Containers on your laptop";
const FIRST_LINE: &str = "cargo build && PATH=$PWD/target/debug:$PATH\n";
const AS_ROOT: &str = "# From here on as root.\n";
const START_INIT: &str = "yado-init --hosted DIR &\n";

#[test]
fn the_recipe_for_a_laptop_starts_a_container() {
    let Some(host) = Host::with(&[]) else { return };
    for made in ["system", "data", "run", "key.key", "key.pub"] {
        let path = host.path(made);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.unwrap();
    }
    symlink("busybox", host.path("root/bin/ps")).unwrap();
    let (_, chapter) = README.split_once(HEADING).unwrap();
    let recipe = block(chapter, "sh").strip_prefix(FIRST_LINE).expect("it builds first");
    let (as_anybody, as_root) = recipe.split_once(AS_ROOT).expect("it says what root must do");
    let work = tempfile::tempdir().unwrap();
    let has_controllers = has_controllers();
    let mut instance = block(chapter, "toml").to_owned();
    if !has_controllers {
        println!("SKIPPED: version 2 has no controllers here: README's container runs without its limits");
        instance =
            instance.lines().filter(|line| !line.starts_with("limits.")).flat_map(|line| [line, "\n"]).collect();
    }
    fs::write(work.path().join("web.toml"), instance).unwrap();
    run(as_anybody, &host, work.path());

    let questions: Vec<String> = as_root
        .strip_prefix(START_INIT)
        .expect("it starts init")
        .lines()
        .map(|line| line.replace("DIR", host.path("").to_str().unwrap()))
        .collect();
    let [status, ps] = &questions[..] else { panic!("it asks twice: {questions:?}") };
    let mut host = host.start();
    host.wait_until("web runs", |host| [InstanceState::Running, InstanceState::Ready].contains(&host.state("web")));
    let said = run_line(status, work.path());
    assert!(said.lines().any(|line| line.starts_with("web ")), "{said}");
    let said = run_line(ps, work.path());
    let mut processes = said.lines().filter(|line| line.trim_start().starts_with("1 "));
    assert!(processes.next().is_some_and(|line| line.contains("init")), "{said}");
    if has_controllers {
        let pid = host.status("web").pid.unwrap();
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let group = groups.trim().rsplit("::").next().unwrap();
        let limit = fs::read_to_string(format!("/sys/fs/cgroup{group}/memory.max")).unwrap();
        assert_eq!(limit.trim(), (32 << 20).to_string(), "limits.memory of {group}");
    }
    assert!(host.end().success());
}

/// Whether limits can be written: a kernel may have given the controllers to version 1.
fn has_controllers() -> bool {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    ["memory", "pids"].iter().all(|name| controllers.split_whitespace().any(|one| one == *name))
}

/// The first block of commands or settings of a kind.
fn block<'a>(text: &'a str, kind: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("```{kind}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

fn run(commands: &str, host: &Host, work: &Path) {
    let commands = commands.replace("DIR", host.path("").to_str().unwrap());
    let commands = commands.replace(" ROOT ", &format!(" {} ", host.path("root").display()));
    run_line(&format!("set -eu\n{commands}"), work);
}

/// What it printed, where `yado` is what was built.
fn run_line(commands: &str, work: &Path) -> String {
    let built = Path::new(env!("CARGO_BIN_EXE_yado-init")).parent().unwrap();
    let path = format!("{}:{}", built.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", commands]).current_dir(work).env("PATH", path).env("EDITOR", "cp web.toml");
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{commands}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
