//! Attempts whose effect only the board sees: each is looked at in a way of its own.

use super::appliance::{CALM, FUSER, HOSTILE};
use super::arena::{Arena, TIMEOUT};
use super::attempts::TAKEN;
use super::failure::HostileError;
use super::together::SLOWEST_STATUS;
use crate::board::instance;
use crate::board::qmp::UsbStick;
use crate::report::Observer;
use qemu_guest::Ended;
use qemu_guest::attack::{self, Line, Outcome, Verdict};
use std::time::{Duration, Instant};

/// How one attempt is made and looked at, by its name.
type Look = fn(&mut Arena<'_>) -> Result<Outcome, HostileError>;

const LOOKS: &[(&str, Look)] = &[
    ("notify-linger", lingering),
    ("notify-fuse", unflushed),
    ("console-typed", typed),
    ("group-frozen", frozen),
    ("dev-crossing", crossing),
    ("setuid-file", set_user_id),
    ("disk-full", full_disk),
    ("no-inodes", no_inodes),
    ("forged-log", forged),
    ("restart-storm", restart_storm),
    ("nested-groups", nested),
    ("linked-places", linked),
    ("fuse-stuck", stuck),
];

/// Something that should come at once and does not come in so long does not come.
const SOON: Duration = Duration::from_secs(15);

pub(super) fn look(arena: &mut Arena<'_>, observer: &mut Observer) -> Result<(), HostileError> {
    let first = arena.rows();
    for (name, look) in LOOKS {
        let Some(attempt) = attack::find(name) else {
            return Err(HostileError::Lacks { place: "the attempts", wanted: (*name).to_owned() });
        };
        let outcome = match look(arena) {
            Ok(outcome) => outcome,
            // What could not be looked at is not held, and the next ones have their turn.
            Err(error) => Outcome::succeeded(error),
        };
        arena.note(observer, attempt, outcome);
    }
    arena.judge(first, observer)
}

/// What the guest's program said of an attempt.
fn told(stdout: &str) -> Option<Outcome> {
    stdout.lines().find_map(Line::parse).map(|line| line.outcome)
}

/// Makes an attempt to its end.
fn made(arena: &Arena<'_>, instance: &str, name: &str) -> Result<Outcome, HostileError> {
    let ran = arena.attack(instance, &["one", name])?;
    Ok(told(&ran.stdout).unwrap_or_else(|| Outcome::bounded(format!("{:?} {}", ran.ended, ran.stderr.trim()))))
}

/// The outcome, if what the board saw is `held`.
fn judged(outcome: Outcome, seen: &str, held: bool) -> Outcome {
    let figure = format!("{}; {seen}", outcome.figure);
    let verdict = if held { outcome.verdict } else { Verdict::Succeeded };
    Outcome { verdict, figure }
}

/// Status must answer while what was sent is held.
fn status_while_held(arena: &Arena<'_>, name: &str) -> Result<Outcome, HostileError> {
    let mut idle = Duration::ZERO;
    for _ in 0..3 {
        idle = idle.max(arena.status_latency()?);
    }
    let pid = arena.instance(HOSTILE)?["pid"].to_string();
    let taken = format!("/proc/{pid}/root{TAKEN}");
    let holding = arena.start_attack(HOSTILE, &["hold", name, TAKEN], TIMEOUT)?;
    let is_taken = arena.wait_file(&taken, SOON)?;
    let said = if is_taken { arena.board()?.agent.read_file(&taken)? } else { String::new() };
    let mut slowest = Duration::ZERO;
    for _ in 0..4 {
        slowest = slowest.max(arena.status_latency()?);
    }
    arena.shell(&format!("rm -f {taken}"))?;
    let ran = holding.ran()?;
    let outcome = Line::parse(&said).map(|line| line.outcome).or_else(|| told(&ran.stdout));
    let outcome = outcome.unwrap_or_else(|| Outcome::bounded(format!("{:?} {}", ran.ended, ran.stderr.trim())));
    let seen = format!("slowest status {} ms, before {} ms", slowest.as_millis(), idle.as_millis());
    Ok(judged(outcome, &seen, slowest < SLOWEST_STATUS))
}

fn lingering(arena: &mut Arena<'_>) -> Result<Outcome, HostileError> {
    status_while_held(arena, "notify-linger")
}

fn unflushed(arena: &mut Arena<'_>) -> Result<Outcome, HostileError> {
    status_while_held(arena, "notify-fuse")
}

/// The client types and hangs up; PID 1 must not spin on what it could not get rid of.
fn typed(arena: &mut Arena<'_>) -> Result<Outcome, HostileError> {
    arena.shell(&format!(
        "head -c 20480 /dev/zero | tr '\\0' x | busybox timeout 3 yado rescue console --force {HOSTILE} > /dev/null 2>&1; true"
    ))?;
    let before = arena.machine()?;
    arena.shell("sleep 3")?;
    let spent = arena.machine()?.since(&before)?;
    let percent = spent.percent(spent.init);
    Ok(judged(Outcome::bounded("20 KiB"), &format!("init {percent:.1} % afterwards"), percent < 5.0))
}

/// The next exec must have an answer, whatever it is.
fn frozen(arena: &mut Arena<'_>) -> Result<Outcome, HostileError> {
    let freezing = arena.start_attack(HOSTILE, &["one", "group-frozen"], SOON)?;
    let groups = format!("/sys/fs/cgroup/instances/{HOSTILE}.*");
    let is_frozen =
        format!("cat {groups}/.*/cgroup.events {groups}/*/cgroup.events 2>/dev/null | grep -c 'frozen 1' || true");
    let began = Instant::now();
    let mut count = arena.shell(&is_frozen)?;
    while count == "0" && began.elapsed() < Duration::from_secs(3) {
        count = arena.shell(&is_frozen)?;
    }
    let began = Instant::now();
    let ran = arena.start_inside(HOSTILE, &["true"], SOON)?.ran()?;
    let waited = began.elapsed();
    let latency = arena.status_latency()?;
    arena.shell(&format!(
        "for file in {groups}/.[a-z]*/cgroup.freeze {groups}/*/cgroup.freeze; do [ -e $file ] && echo 0 > $file; done; true"
    ))?;
    let froze = freezing.ran()?;
    let outcome = told(&froze.stdout).unwrap_or_else(|| Outcome::bounded(format!("{count} groups frozen")));
    let seen = format!(
        "the next exec: {:?} after {:.1} s, status {} ms",
        ran.ended,
        waited.as_secs_f64(),
        latency.as_millis()
    );
    Ok(judged(outcome, &seen, ran.ended != Ended::TimedOut))
}

const STICK_BYTES: u64 = 1024 * 1024;

/// A stick is plugged in: the node of it is made, by root, where limits of the group are bound.
fn crossing(arena: &mut Arena<'_>) -> Result<Outcome, HostileError> {
    let groups = format!("/sys/fs/cgroup/instances/{HOSTILE}.*");
    let owners = format!("cd {groups} && stat -c '%u %a %n' memory.max pids.max cpu.max memory.swap.max");
    let before = arena.shell(&owners)?;
    let outcome = made(arena, HOSTILE, "dev-crossing")?;
    let stick = arena.stick("crossing", STICK_BYTES)?;
    plug(arena, &stick)?;
    let found = arena.board()?.wait_for(
        "stick on the board",
        SOON,
        || Ok(serde_json::Value::String(arena.shell("ls /dev/bus/usb/*").unwrap_or_default())),
        |listing| listing.as_str().is_some_and(|listing| listing.contains("002")).then_some(()),
    );
    // The job that makes nodes runs in answer to the kernel's event: seen by its own, or by a failure that names it.
    let told = arena.board()?.wait_event("device job", SOON, |event| {
        event["instance"] == HOSTILE
            && matches!(event["kind"].as_str(), Some("device-added" | "failed" | "device-failed"))
    });
    let after = arena.shell(&owners)?;
    unplug(arena, &stick)?;
    let clear = "for place in /dev/bus/usb/*/*; do umount $place; rm -f $place; done 2>/dev/null; true";
    arena.board()?.exec(HOSTILE, &["sh", "-c", clear], TIMEOUT)?;
    // Without a stick and a job, nothing was made over the limits.
    let is_tried = found.is_ok() && told.is_ok();
    let seen = format!(
        "owner, mode of its limits: {}; stick {}, {}",
        after.replace('\n', ", "),
        if found.is_ok() { "seen" } else { "not seen" },
        told.map_or_else(|_| "no event".to_owned(), |event| event["kind"].to_string())
    );
    Ok(judged(outcome, &seen, is_tried && before == after))
}

fn plug(arena: &mut Arena<'_>, stick: &UsbStick) -> Result<(), HostileError> {
    arena.board_mut()?.qemu.qmp.plug(stick).map_err(HostileError::qmp)
}

fn unplug(arena: &mut Arena<'_>, stick: &UsbStick) -> Result<(), HostileError> {
    arena.board_mut()?.qemu.qmp.unplug(stick).map_err(HostileError::qmp)
}

fn set_user_id(arena: &mut Arena<'_>) -> Result<Outcome, HostileError> {
    let outcome = made(arena, HOSTILE, "setuid-file")?;
    let data = arena.shell("awk '$2 == \"/data\" {print $4}' /proc/mounts")?;
    let is_held = ["nosuid", "nodev"].into_iter().all(|option| data.split(',').any(|word| word == option));
    arena.board()?.exec(HOSTILE, &["rm", "-f", "/root/attack-suid"], TIMEOUT)?;
    Ok(judged(outcome, &format!("/data is {data}"), is_held))
}

fn full_disk(arena: &mut Arena<'_>) -> Result<Outcome, HostileError> {
    let outcome = made(arena, HOSTILE, "disk-full")?;
    let room =
        arena.shell("dd if=/dev/zero of=/data/ours bs=64k count=4 2>&1 | tail -n 1; sync; rm -f /data/ours")?;
    let is_held = !room.contains("No space");
    arena.board()?.exec(HOSTILE, &["rm", "-f", "/root/attack-fill"], TIMEOUT)?;
    Ok(judged(outcome, &format!("ours: {room}"), is_held))
}

fn no_inodes(arena: &mut Arena<'_>) -> Result<Outcome, HostileError> {
    let outcome = made(arena, HOSTILE, "no-inodes")?;
    // Files of ours are made of those that are kept.
    let kept = arena.shell("ls /data/.reserved-files | grep -c .; df -i /data | tail -n 1");
    // Whatever was seen, others need them. Before a restart: without an inode for its work directory an overlay is read-only.
    arena.board()?.exec(HOSTILE, &["rm", "-rf", "/root/attack-inodes"], TIMEOUT)?;
    let kept = kept?;
    let outcome = judged(outcome, &format!("kept for ours: {}", kept.replace('\n', ", ")), kept.starts_with("64\n"));
    starts_again(arena, outcome)
}

/// Every line with the forged words must say whose they are, and send nothing to a terminal.
fn forged(arena: &mut Arena<'_>) -> Result<Outcome, HostileError> {
    let script = "{ yado rescue logs; dmesg; } | grep FORGER || true";
    let ask = || Ok(serde_json::Value::String(arena.shell(script).unwrap_or_default()));
    let lines = arena.board()?.wait_for("words of a probe", SOON, ask, |said| {
        said.as_str().filter(|said| !said.is_empty()).map(str::to_owned)
    });
    let Ok(lines) = lines else { return Ok(Outcome::bounded("its words are in no log")) };
    let nameless = lines.lines().filter(|line| !line.contains("forger")).count();
    let raw = lines.chars().filter(|char| matches!(char, '\u{1b}' | '\u{202e}')).count();
    let shown = lines.lines().next().unwrap_or_default().replace(char::is_control, "?").replace('\u{202e}', "?");
    let seen = format!("{nameless} lines without its name, {raw} characters for a terminal: {shown}");
    Ok(judged(Outcome::bounded("said"), &seen, nameless == 0 && raw == 0))
}

/// The back-off must hold it: PID 1 has work with our own asking, and little more, and status answers.
fn restart_storm(arena: &mut Arena<'_>) -> Result<Outcome, HostileError> {
    let before = arena.machine()?;
    let began = Instant::now();
    let (mut asked, mut slowest) = (0, Duration::ZERO);
    while began.elapsed() < Duration::from_secs(6) {
        // Between two lives there is nobody to ask.
        let ran = arena.start_attack(HOSTILE, &["one", "restart-storm"], SOON)?.ran()?;
        asked += u32::from(told(&ran.stdout).is_some());
        slowest = slowest.max(arena.status_latency()?);
    }
    let spent = arena.machine()?.since(&before)?;
    let percent = spent.percent(spent.init);
    let status = arena.wait_settled(HOSTILE)?;
    let seen = format!("init {percent:.1} %, slowest status {} ms, then {}", slowest.as_millis(), status["state"]);
    let is_held = 0 < asked && percent < 30.0 && status["state"] == "ready";
    Ok(judged(Outcome::bounded(format!("{asked} ends")), &seen, is_held))
}

fn nested(arena: &mut Arena<'_>) -> Result<Outcome, HostileError> {
    let outcome = made(arena, HOSTILE, "nested-groups")?;
    starts_again(arena, outcome)
}

fn linked(arena: &mut Arena<'_>) -> Result<Outcome, HostileError> {
    let mounts = arena.shell("ls -ld /data /run /dev /proc /sys | cut -c 1-10; grep -c . /proc/mounts")?;
    let outcome = made(arena, HOSTILE, "linked-places")?;
    // Whether it starts or is refused is its own affair.
    let again = starts_again(arena, outcome)?;
    let outcome = Outcome { verdict: Verdict::Bounded, ..again };
    let after = arena.shell("ls -ld /data /run /dev /proc /sys | cut -c 1-10; grep -c . /proc/mounts")?;
    let seen =
        if mounts == after { "the host's places are what they were" } else { "the host's places have changed" };
    Ok(judged(outcome, seen, mounts == after))
}

/// Restarts the hostile container: it must be ready again.
fn starts_again(arena: &Arena<'_>, outcome: Outcome) -> Result<Outcome, HostileError> {
    if let Err(refused) = arena.board()?.yado(&["rescue", "restart", HOSTILE]) {
        return Ok(judged(outcome, &format!("it does not start: {refused}"), false));
    }
    let status = arena.wait_settled(HOSTILE)?;
    let seen = match status["state"] == "ready" {
        true => "it starts again".to_owned(),
        false => format!("it does not start: {}", status["last_failure"]["reason"]),
    };
    Ok(judged(outcome, &seen, status["state"] == "ready"))
}

/// Whoever waits for its own file system must end when its instance is stopped.
fn stuck(arena: &mut Arena<'_>) -> Result<Outcome, HostileError> {
    arena.board()?.yado(&["rescue", "start", FUSER])?;
    let status = arena.wait_settled(FUSER)?;
    if status["state"] != "ready" {
        return Ok(Outcome::not_here(format!("fuser: {}", status["last_failure"]["reason"])));
    }
    let pid = status["pid"].to_string();
    let taken = format!("/proc/{pid}/root{TAKEN}");
    let holding = arena.start_attack(FUSER, &["hold", "fuse-stuck", TAKEN], TIMEOUT)?;
    let outcome = if arena.wait_file(&taken, SOON)? {
        Line::parse(&arena.board()?.agent.read_file(&taken)?).map(|line| line.outcome)
    } else {
        None
    };
    let began = Instant::now();
    arena.board()?.yado(&["rescue", "stop", "--force", FUSER])?;
    let stopped = arena.board()?.wait_status("fuser that is stopped", TIMEOUT / 2, |status| {
        instance(status, FUSER).filter(|entry| entry["state"] == "stopped").map(|_| ())
    });
    let seen = format!(
        "stopped: {} after {:.1} s, calm is {}",
        stopped.is_ok(),
        began.elapsed().as_secs_f64(),
        arena.instance(CALM)?["state"]
    );
    drop(holding);
    Ok(judged(outcome.unwrap_or_else(|| Outcome::bounded("not told")), &seen, stopped.is_ok()))
}
