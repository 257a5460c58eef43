//! Step 3: both containers run, and what surrounds each of them.

use super::start::{output, read};
use super::{Demo, StepError, roots};
use crate::board::{Seen, instance};
use crate::report::{Observer, Witness};
use std::time::Duration;

/// Debian's systemd on an emulated small core, on a machine that has other things to do.
const READY_TIMEOUT: Duration = Duration::from_secs(240);
const EXEC_TIMEOUT: Duration = Duration::from_secs(60);
/// `limits.memory` and `limits.processes` of each, as `appliance` has them.
const LIMITS: [(&str, &str); 2] = [("busybox", "25165824 40"), ("debian", "167772160 200")];
const NAMESPACES: [&str; 7] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

pub(super) fn run(demo: &mut Demo<'_>, observer: &mut Observer) -> Result<(), StepError> {
    for (name, limits) in LIMITS {
        let status = demo.board.wait_status(&format!("{name} that is ready"), READY_TIMEOUT, |status| {
            let status = instance(status, name)?;
            (status["state"] == "ready" || status["state"] == "failed").then(|| status.clone())
        })?;
        let failure = &status["last_failure"]["reason"];
        let shown = if failure.is_null() {
            let seconds = status["uptime_ms"].as_f64().unwrap_or(0.0) / 1000.0;
            format!("up {seconds:.1} s, start took {} us", status["start_us"])
        } else {
            status["last_failure"].to_string()
        };
        let Seen { shown: of_kernel, holds } = demo.board.first_process(name, &status["pid"]);
        let is_ready = status["state"] == "ready" && holds;
        observer.check(Witness::Kernel, &format!("{name} is ready"), format!("{shown}; {of_kernel}"), is_ready)?;
        let pid = status["pid"].to_string();
        surroundings(demo, observer, name, &pid, limits)?;
    }
    label(demo, observer)?;
    let target = demo.board.exec_output("debian", &["systemctl", "is-active", "multi-user.target"], EXEC_TIMEOUT)?;
    observer.check(
        Witness::Peer,
        "Debian's systemd reached multi-user.target",
        &target,
        target.trim() == "active",
    )?;
    let said = demo.board.wait_event("READY=1 of debian", EXEC_TIMEOUT, |event| {
        event["kind"] == "ready" && event["instance"] == "debian"
    })?;
    let shown = format!("{} ({:.1} s after the kernel started)", said["status"], micros(&said["monotonic_us"]));
    observer.note("systemd said READY=1 over $NOTIFY_SOCKET", shown);
    Ok(())
}

/// What the kernel says of the container's first process, and what is inside.
fn surroundings(
    demo: &Demo<'_>,
    observer: &mut Observer,
    name: &str,
    pid: &str,
    limits: &str,
) -> Result<(), StepError> {
    let links = |of: &str| {
        let paths: Vec<String> = NAMESPACES.iter().map(|kind| format!("/proc/{of}/ns/{kind}")).collect();
        let mut argv = vec!["/bin/readlink"];
        argv.extend(paths.iter().map(String::as_str));
        argv.iter().skip(1).map(|path| output(demo, &["/bin/readlink", path])).collect::<Result<Vec<_>, _>>()
    };
    let (ours, theirs) = (links("1")?, links(pid)?);
    let shared: Vec<&str> =
        NAMESPACES.iter().zip(ours.iter().zip(&theirs)).filter(|(_, (a, b))| a == b).map(|(kind, _)| *kind).collect();
    observer.check(
        Witness::Kernel,
        &format!("{name}: seven namespaces of its own"),
        if shared.is_empty() { NAMESPACES.join(" ") } else { format!("shares {}", shared.join(" ")) },
        shared.is_empty(),
    )?;
    let map = read(demo, &format!("/proc/{pid}/uid_map"))?;
    let map: Vec<&str> = map.split_whitespace().collect();
    observer.check(
        Witness::Kernel,
        &format!("{name}: its root is nobody outside"),
        map.join(" "),
        map.get(1).is_some_and(|id| *id != "0"),
    )?;
    roots::look(demo, observer, name, pid, map.get(1).unwrap_or(&""))?;
    let process = read(demo, &format!("/proc/{pid}/status"))?;
    let field = |field: &str| {
        process.lines().find_map(|line| line.strip_prefix(field)).map(str::trim).unwrap_or_default().to_owned()
    };
    let bounding = field("CapBnd:");
    let is_dropped = u64::from_str_radix(&bounding, 16).is_ok_and(|bounding| bounding & DROPPED == 0);
    let rights = format!("{name}: its root has no right to load modules, reach hardware or set the clock");
    observer.check(Witness::Kernel, &rights, &bounding, is_dropped)?;
    observer.check(
        Witness::Kernel,
        &format!("{name}: its system calls are filtered"),
        field("Seccomp:"),
        field("Seccomp:") == "2",
    )?;
    let cgroup = read(demo, &format!("/proc/{pid}/cgroup"))?;
    // systemd moves itself into a group below; the limits are on the instance's own.
    let group: Vec<&str> = cgroup.trim().trim_start_matches("0::/").split('/').take(2).collect();
    let group = format!("/sys/fs/cgroup/{}", group.join("/"));
    let found = output(demo, &["/bin/cat", &format!("{group}/memory.max"), &format!("{group}/pids.max")])?;
    let found: Vec<&str> = found.split_whitespace().collect();
    observer.check(
        Witness::Kernel,
        &format!("{name}: its group has its limits"),
        format!("{group}: {}", found.join(" ")),
        found.join(" ") == limits,
    )?;
    device_filter(demo, observer, name, pid)
}

/// AppArmor knows busybox by the profile that it declares, and debian, which declares none, by none.
fn label(demo: &Demo<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let label_of = |name: &str| demo.board.exec_output(name, &["cat", "/proc/1/attr/current"], EXEC_TIMEOUT);
    let label = label_of("busybox")?;
    observer.check(
        Witness::Kernel,
        "busybox: AppArmor's profile is its own",
        label.trim(),
        label.trim() == "yado-guarded (enforce)",
    )?;
    let ran = demo.board.exec("busybox", &["cat", "/proc/version"], EXEC_TIMEOUT)?;
    let is_denied = ran.stderr.contains("Permission denied");
    observer.check(
        Witness::Peer,
        "busybox: what the profile denies is denied to its root",
        ran.stderr.trim(),
        is_denied,
    )?;
    let label = label_of("debian")?;
    observer.check(Witness::Kernel, "debian: no profile, as declared", label.trim(), label.trim() == "unconfined")?;
    Ok(())
}

/// `CAP_SYS_MODULE`, `CAP_SYS_RAWIO` and `CAP_SYS_TIME`. Not `CAP_SYS_BOOT`: by it a container's init restarts the container.
const DROPPED: u64 = 1 << 16 | 1 << 17 | 1 << 25;

/// The board's own disk is put there from outside: only the device filter stands between it and them.
fn device_filter(demo: &Demo<'_>, observer: &mut Observer, name: &str, pid: &str) -> Result<(), StepError> {
    let node = format!("/proc/{pid}/root/dev/smuggled");
    let smuggle = format!("mknod -m 666 {node} b $(tr : ' ' < /sys/block/vda/dev) && head -c 1 {node} > /dev/null");
    output(demo, &["/bin/sh", "-c", &smuggle])?;
    let ran = demo.board.exec(name, &["head", "-c", "1", "/dev/smuggled"], EXEC_TIMEOUT)?;
    output(demo, &["/bin/rm", &node])?;
    let is_refused = ran.stderr.contains("not permitted");
    observer.check(
        Witness::Peer,
        &format!("{name}: a smuggled node of the board's disk cannot be opened"),
        &ran.stderr,
        is_refused,
    )?;
    Ok(())
}

fn micros(value: &serde_json::Value) -> f64 {
    value.as_f64().unwrap_or(0.0) / 1_000_000.0
}
