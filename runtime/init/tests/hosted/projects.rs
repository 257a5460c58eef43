//! Instances of one name in two projects.

use crate::host::Host;
use std::fs;
use yado_wire::InstanceName;
use yado_wire::rescue::{ExitStatus, InstanceState};

const RUNS: &str = "[config]\nboot.autostart = true\n";

#[test]
fn two_of_one_name_in_two_projects_are_two_instances() {
    let after = "after = [\"web\"]\n[config]\nboot.autostart = true\n";
    // Its `web` is that of its own project.
    let Some(host) = Host::with(&[("web", ""), ("lab_web", RUNS), ("lab_db", after)]) else { return };
    let mut host = host.start();
    for name in ["lab_web", "lab_db"] {
        host.wait_for(name, InstanceState::Running);
    }
    assert_eq!(host.state("web"), InstanceState::Stopped);
    let rescue = |words: &[&str]| {
        let socket = host.path("run/init.sock").display().to_string();
        host.yado(&[&["rescue", "--socket", &socket], words].concat(), "")
    };
    assert_eq!(rescue(&["start", "web"]).0, 0);
    let [web, lab] = ["web", "lab_web"].map(|name| host.status(name));
    let group = |pid: Option<i32>| fs::read_to_string(format!("/proc/{}/cgroup", pid.unwrap())).unwrap();
    for (status, place) in [(&web, "/web."), (&lab, "/lab_web.")] {
        let (place, group) = (format!("{place}{}", status.id), group(status.pid));
        assert!(group.lines().any(|line| line.ends_with(&place)), "{place} {group}");
    }
    // The kernel's own word for it, inside each.
    for arguments in [&["exec", "web"][..], &["exec", "--project", "lab", "web"], &["exec", "lab_web"]] {
        let command = ["--", "cat", "/proc/sys/kernel/hostname"];
        let (code, shown, errors) = rescue(&[arguments, &command].concat());
        assert_eq!((code, shown.trim_end()), (0, "web"), "{arguments:?} {errors}");
    }
    let (_, shown, _) = rescue(&["status", "--project", "lab", "web", "--format", "json"]);
    assert!(shown.contains("\"name\": \"lab_web\"") && shown.contains("\"project\": \"lab\""), "{shown}");
    let (_, shown, _) = rescue(&["status", "--project", "lab", "--format", "json"]);
    assert_eq!(shown.matches("\"project\": \"lab\"").count(), 2, "{shown}");
    assert!(!shown.contains("\"project\": \"default\""), "{shown}");
    assert_eq!(rescue(&["stop", "--force", "--project", "lab", "web"]).0, 0);
    assert_eq!((host.state("web"), host.state("lab_web")), (InstanceState::Running, InstanceState::Stopped));
    assert_eq!(host.status("web").pid, web.pid);
    // What cannot be meant is told.
    for (words, reason) in [
        (&["stop", "--project", "lab", "lab_web"][..], "'_' is not a letter"),
        (&["stop", "default_web"], "named without it"),
        (&["events", "--project", "lab"], "name one"),
        (&["stop", "--project", "none", "web"], "no such instance"),
    ] {
        let (code, _, errors) = rescue(words);
        assert!(code != 0 && errors.contains(reason), "{words:?} {errors}");
    }
    assert!(host.end().success());
}

#[test]
fn the_longest_names_start_wherever_they_are_configured() {
    let part = "x".repeat(InstanceName::MAX_PART_LEN);
    let (image, data) = (format!("{part}_{part}"), format!("{}_{part}", "y".repeat(InstanceName::MAX_PART_LEN)));
    let Some(host) = Host::with(&[(&image, RUNS)]) else { return };
    host.write(&format!("data/instances/{data}/instance.toml"), &format!("image = \"busybox\"\n{RUNS}"));
    let mut host = host.start();
    for name in [&image, &data] {
        host.wait_for(name, InstanceState::Running);
        // What it says on its socket arrives.
        host.notify(name, "STATUS=here\nREADY=1");
        assert_eq!(host.exec(name, &["sh", "-c", "true"]), Ok(ExitStatus::Code(0)));
    }
    assert!(host.end().success());
}
