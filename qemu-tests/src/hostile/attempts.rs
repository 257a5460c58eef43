//! The attempts one by one, each with the witness that it needs.

use super::appliance::{CALM, HOSTILE};
use super::arena::{Arena, MEMORY_MIB, TIMEOUT};
use super::failure::HostileError;
use super::machine::Machine;
use super::together::{SLOWEST_STATUS, late};
use crate::report::{Observer, Witness};
use qemu_guest::attack::{self, Attempt, Expected, Line, Outcome, Verdict, Watched};
use std::time::{Duration, Instant};

/// Where one that holds says so, inside.
pub(super) const TAKEN: &str = "/run/taken";
/// A neighbour that is not answered so long has nothing.
const SPARE_TIMEOUT: Duration = Duration::from_secs(20);
/// So much more of the machine's memory than its own group has may one attempt take: half of its limit.
const UNCHARGED_MIB: u64 = 16;
/// A flood lasts so long, by the guest's own default.
const FLOOD_SECONDS: &str = "4";
/// The kernel has cleared away what a container took within this; an emulated board is slow.
const CLEARED_TIMEOUT: Duration = Duration::from_secs(30);
/// Of one processor: what one flood may cost PID 1.
const INIT_PERCENT: f64 = 5.0;
/// The same for netd, in the four seconds that begin with all that its limits let through at once.
const NETD_PERCENT: f64 = 10.0;
/// Of one processor: what one flood may cost everybody but the instances. The emulated network counts here too.
const OUTSIDE_PERCENT: f64 = 50.0;

pub(super) fn boot(arena: &mut Arena<'_>, observer: &mut Observer) -> Result<(), HostileError> {
    let said = arena.switch_on()?;
    observer.note("the agent on the board speaks", said);
    for name in [HOSTILE, CALM] {
        let status = arena.wait_settled(name)?;
        observer.check(
            Witness::OwnWord,
            &format!("{name} is ready"),
            &status["state"],
            status["state"] == "ready",
        )?;
    }
    let said = arena.shell("yado rescue logs")?;
    let lacking: Vec<&str> = said.lines().filter(|line| line.contains("the kernel cannot limit")).collect();
    observer.check(Witness::OwnWord, "netd limits all that it would", lacking.join("\n"), lacking.is_empty())?;
    let machine = arena.machine()?;
    let memory = format!("{} of {} KiB", machine.get("MemAvailable")?, machine.get("MemTotal")?);
    let is_small = machine.get("MemTotal")? <= u64::from(MEMORY_MIB) * 1024;
    observer.check(Witness::Kernel, "the board has no more memory than it is to have", memory, is_small)?;
    arena.before = Some(machine);
    Ok(())
}

pub(super) fn inside(arena: &mut Arena<'_>, observer: &mut Observer) -> Result<(), HostileError> {
    let first = arena.rows();
    smuggle(arena)?;
    let pids = arena.pids()?;
    let ran = arena.attack(HOSTILE, &["inside"])?;
    for line in ran.stdout.lines().filter_map(Line::parse) {
        if let Some(attempt) = attack::find(&line.name) {
            arena.note(observer, attempt, line.outcome);
        }
    }
    let wanted = attack::all().filter(|attempt| matches!(attempt.watched, Watched::Inside)).count();
    let seen = arena.rows() - first;
    observer.check(
        Witness::Peer,
        "each was tried",
        format!("{seen} of {wanted} {}", ran.stderr.trim()),
        seen == wanted,
    )?;
    let after = arena.pids()?;
    observer.check(Witness::OwnWord, "both containers run on", format!("pids {after:?}"), pids == after)?;
    arena.judge(first, observer)
}

/// Nodes that the system's root puts into the hostile container's root.
fn smuggle(arena: &Arena<'_>) -> Result<(), HostileError> {
    let pid = arena.instance(HOSTILE)?["pid"].to_string();
    let place = format!("/proc/{pid}/root{}", attack::SMUGGLED);
    // Where no node can be put there, there is none to be opened: the attempt says so.
    arena.shell(&format!(
        "mkdir -p {place} && cd {place} && mknod -m 666 console c 5 1 && mknod -m 666 kmsg c 1 11 &&
         mknod -m 666 mem c 1 1 && mknod -m 666 serial c 204 64 && mknod -m 666 disk b $(tr : ' ' < /sys/block/vda/dev) || true"
    ))?;
    Ok(())
}

pub(super) fn neighbours(arena: &mut Arena<'_>, observer: &mut Observer) -> Result<(), HostileError> {
    let first = arena.rows();
    for attempt in attack::all().filter(|attempt| matches!(attempt.watched, Watched::ByNeighbour(_))) {
        let outcome = held(arena, attempt, |arena, outcome| {
            let spare = arena.start_attack(CALM, &["spare", attempt.name], SPARE_TIMEOUT)?.ran()?;
            let found = spare.stdout.lines().find_map(Line::parse).map(|line| line.outcome);
            let latency = arena.status_latency()?;
            Ok(match found {
                Some(Outcome { verdict: Verdict::Succeeded, .. }) => {
                    Outcome { figure: format!("{}; calm has its own, status {latency:?}", outcome.figure), ..outcome }
                }
                // Where nobody gets any, nobody takes it from anybody.
                Some(Outcome { verdict: Verdict::Refused, .. }) if outcome.verdict == Verdict::Refused => outcome,
                Some(refused) => Outcome::succeeded(format!("{}; calm gets {}", outcome.figure, refused.figure)),
                None => {
                    Outcome::succeeded(format!("{}; calm: {:?} {}", outcome.figure, spare.ended, spare.stderr.trim()))
                }
            })
        })?;
        arena.note(observer, attempt, outcome);
    }
    arena.judge(first, observer)
}

/// Makes an attempt, looks while it holds what it took, and lets it go.
fn held(
    arena: &Arena<'_>,
    attempt: &Attempt,
    look: impl FnOnce(&Arena<'_>, Outcome) -> Result<Outcome, HostileError>,
) -> Result<Outcome, HostileError> {
    let pid = arena.instance(HOSTILE)?["pid"].to_string();
    let taken = format!("/proc/{pid}/root{TAKEN}");
    let holding = arena.start_attack(HOSTILE, &["hold", attempt.name, TAKEN], TIMEOUT)?;
    let outcome = if arena.wait_file(&taken, Duration::from_secs(15))? {
        let said = arena.board()?.agent.read_file(&taken)?;
        match Line::parse(&said) {
            Some(line) => look(arena, line.outcome)?,
            None => Outcome::succeeded(format!("not understood: {said}")),
        }
    } else {
        // Whoever was killed, or never came that far, has nothing.
        Outcome::bounded("it did not come to its end")
    };
    arena.shell(&format!("rm -f {taken}"))?;
    holding.ran()?;
    Ok(outcome)
}

/// What is taken all at once while another one starts: little of it is charged, so that its own limit of memory does not end
/// it before.
const EVERY_LIMIT: [&str; 7] = ["ptys", "inotify", "sigpending", "keys", "netlink-queues", "shm", "conntrack"];

/// One container has taken all that it can get, and another one starts, is asked, and gets an address.
pub(super) fn at_every_limit(arena: &mut Arena<'_>, observer: &mut Observer) -> Result<(), HostileError> {
    let pid = arena.instance(HOSTILE)?["pid"].to_string();
    let place = |name: &str| format!("{TAKEN}-{name}");
    let mut holding = Vec::new();
    let mut said = Vec::new();
    // What is known to succeed would only be seen once more.
    let is_held = |name: &&str| attack::find(name).is_some_and(|attempt| attempt.expected == Expected::Held);
    let names: Vec<&str> = EVERY_LIMIT.into_iter().filter(is_held).collect();
    for name in &names {
        let taken = format!("/proc/{pid}/root{}", place(name));
        holding.push(arena.start_attack(HOSTILE, &["hold", name, &place(name)], TIMEOUT)?);
        // What has no process or descriptor left to come that far has found its limit too.
        if arena.wait_file(&taken, Duration::from_secs(10))? {
            said.push(arena.board()?.agent.read_file(&taken)?.replace('\t', " "));
        }
    }
    observer.check(
        Witness::Peer,
        "one container is at its limits",
        said.join("; "),
        names.len() / 2 <= said.len(),
    )?;
    let outcome = late(arena, observer);
    arena.shell(&format!("rm -f /proc/{pid}/root{TAKEN}-*"))?;
    for one in holding {
        one.ran()?;
    }
    outcome
}

pub(super) fn memory(arena: &mut Arena<'_>, observer: &mut Observer) -> Result<(), HostileError> {
    let first = arena.rows();
    for attempt in attack::all().filter(|attempt| matches!(attempt.watched, Watched::InMemory)) {
        let before = arena.machine()?;
        let outcome = held(arena, attempt, |arena, outcome| weighed(outcome, &before, &arena.machine()?))?;
        arena.note(observer, attempt, outcome);
    }
    arena.judge(first, observer)
}

fn weighed(outcome: Outcome, before: &Machine, during: &Machine) -> Result<Outcome, HostileError> {
    let gone_kib = before.get("MemAvailable")?.saturating_sub(during.get("MemAvailable")?);
    let charged_kib = during.get("hostile_bytes")?.saturating_sub(before.get("hostile_bytes")?) / 1024;
    let uncharged_mib = gone_kib.saturating_sub(charged_kib) / 1024;
    let threads = during.get("psimon")?;
    let figure = format!(
        "{}; {:.1} MiB gone, {:.1} of them charged{}",
        outcome.figure,
        gone_kib as f64 / 1024.0,
        charged_kib as f64 / 1024.0,
        if threads == 0 { String::new() } else { format!(", {threads} threads of the kernel's") },
    );
    let is_held = outcome.is_held() && uncharged_mib < UNCHARGED_MIB;
    Ok(Outcome { verdict: if is_held { outcome.verdict } else { Verdict::Succeeded }, figure })
}

pub(super) fn services(arena: &mut Arena<'_>, observer: &mut Observer) -> Result<(), HostileError> {
    let first = arena.rows();
    let idle = observed(arena, || arena.start_inside(HOSTILE, &["sleep", FLOOD_SECONDS], TIMEOUT))?;
    observer.note("beside a container that sleeps", &idle.shown);
    for attempt in attack::all().filter(|attempt| matches!(attempt.watched, Watched::ByService)) {
        let seen = observed(arena, || arena.start_attack(HOSTILE, &["one", attempt.name], TIMEOUT))?;
        let inside = seen.stdout.lines().find_map(Line::parse);
        let Some(Line { outcome, .. }) = inside else {
            // Killed by its own limits: nothing was flooded.
            arena.note(observer, attempt, Outcome::bounded(format!("it did not come to its end; {}", seen.shown)));
            continue;
        };
        let more = |of: fn(&Seen) -> f64| of(&seen) - of(&idle);
        let is_held = more(|seen| seen.init_percent) < INIT_PERCENT
            && more(|seen| seen.netd_percent) < NETD_PERCENT
            && more(|seen| seen.outside_percent) < OUTSIDE_PERCENT
            && seen.slowest < SLOWEST_STATUS;
        let is_made = outcome.verdict == Verdict::Bounded;
        let verdict = if is_held || !is_made { outcome.verdict } else { Verdict::Succeeded };
        arena.note(observer, attempt, Outcome { verdict, figure: format!("{}; {}", outcome.figure, seen.shown) });
    }
    arena.judge(first, observer)
}

/// What was seen while something ran.
struct Seen {
    init_percent: f64,
    netd_percent: f64,
    outside_percent: f64,
    slowest: Duration,
    stdout: String,
    shown: String,
}

fn observed(
    arena: &Arena<'_>,
    start: impl FnOnce() -> Result<crate::board::agent::Pending, HostileError>,
) -> Result<Seen, HostileError> {
    let before = arena.machine()?;
    let running = start()?;
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        slowest = slowest.max(arena.status_latency()?);
    }
    let ran = running.ran()?;
    let spent = arena.machine()?.since(&before)?;
    let [init, netd, outside] = [spent.init, spent.netd, spent.outside].map(|of| spent.percent(of));
    let shown = format!(
        "in {:.1} s: init {init:.1} %, netd {netd:.1} %, all outside {outside:.0} %, slowest status {} ms",
        spent.wall.as_secs_f64(),
        slowest.as_millis()
    );
    Ok(Seen { init_percent: init, netd_percent: netd, outside_percent: outside, slowest, stdout: ran.stdout, shown })
}

/// Whatever is stuck: the file systems are unmounted, and the power goes off.
pub(super) fn power_off(arena: &mut Arena<'_>, observer: &mut Observer) -> Result<(), HostileError> {
    let began = Instant::now();
    arena.board()?.yado(&["rescue", "poweroff"])?;
    let ended = arena.board_mut()?.qemu.wait_end(TIMEOUT).map_err(crate::board::BoardError::Qemu);
    let shown = format!("{:.1} s", began.elapsed().as_secs_f64());
    observer.check(
        Witness::OtherEnd,
        "it is off",
        shown,
        ended.is_ok() && began.elapsed() < Duration::from_secs(60),
    )?;
    Ok(())
}

/// Nothing of what was taken is still gone.
pub(super) fn afterwards(arena: &mut Arena<'_>, observer: &mut Observer) -> Result<(), HostileError> {
    let Some(before) = arena.before.clone() else { return Err(HostileError::Off) };
    back_where_it_was(arena, observer, &before)?;
    let status = arena.instance(CALM)?;
    observer.check(Witness::OwnWord, "calm is still ready", &status["state"], status["state"] == "ready")?;
    let restarts = &status["restarts"];
    observer.check(
        Witness::OwnWord,
        "and was never started again",
        restarts,
        restarts.is_null() || *restarts == 0,
    )?;
    Ok(())
}

/// Compares the machine with what it was, when the kernel has had time to clear away.
pub(super) fn back_where_it_was(
    arena: &Arena<'_>,
    observer: &mut Observer,
    before: &Machine,
) -> Result<(), HostileError> {
    /// Name, and how much more is as good as none.
    const COUNTS: [(&str, u64); 6] = [
        ("open_files", 128),
        ("mounts", 2),
        // Connections of ours that have ended are closed sixteen at a time.
        ("init_fds", 4 + 16),
        ("nr_descendants", 4),
        ("nr_dying_descendants", 16),
        ("SUnreclaim", 6 * 1024),
    ];
    // Dying groups go when memory is wanted: ask for it.
    arena.shell("sync; echo 3 > /proc/sys/vm/drop_caches")?;
    let grown = |now: &Machine| {
        let more = |name: &str| now.get(name).unwrap_or(0).saturating_sub(before.get(name).unwrap_or(0));
        COUNTS.iter().filter(|(name, allowed)| *allowed < more(name)).map(|(name, _)| *name).collect::<Vec<_>>()
    };
    let deadline = Instant::now() + CLEARED_TIMEOUT;
    let mut now = arena.machine()?;
    while !grown(&now).is_empty() && Instant::now() < deadline {
        now = arena.machine()?;
    }
    for (name, allowed) in COUNTS {
        let (was, is) = (before.get(name)?, now.get(name)?);
        observer.check(
            Witness::Kernel,
            &format!("{name} is back"),
            format!("{is}, was {was}"),
            is <= was + allowed,
        )?;
    }
    let lost_kib = before.get("MemAvailable")?.saturating_sub(now.get("MemAvailable")?);
    observer.check(Witness::Kernel, "memory is back", format!("{lost_kib} KiB less"), lost_kib < 12 * 1024)?;
    let killed = killed_outside(arena)?;
    observer.check(Witness::Kernel, "nobody outside was killed for lack of memory", &killed, killed.is_empty())?;
    Ok(())
}

/// The kernel's words on its serial line for a kill that no group's limit was the reason of.
pub(super) fn killed_outside(arena: &Arena<'_>) -> Result<String, HostileError> {
    let serial = arena.board()?.serial();
    Ok(serial.lines().filter(|line| line.contains("] Out of memory: Killed")).collect::<Vec<_>>().join("\n"))
}
