//! Ten hostile containers at once, each with another flood, again and again, while a calm one must not notice.

use super::appliance::{CALM, LATE, TEN};
use super::arena::{Arena, TIMEOUT};
use super::attempts::back_where_it_was;
use super::failure::HostileError;
use crate::board::instance;
use crate::report::{Observer, Witness};
use crate::spread::spread;
use std::time::Duration;

/// The one of these that each begins with is another one.
const FLOODS: [&str; 10] = [
    "notify-flood",
    "console-flood",
    "console-paced",
    "memory-events",
    "fork-storm",
    "modprobe-storm",
    "link-flaps",
    "dhcp-flood",
    "dns-flood",
    "notify-descriptors",
];

/// How long is looked at what our own asking costs.
const IDLE: Duration = Duration::from_secs(10);

/// Of one processor, for all ten.
const INIT_PERCENT: f64 = 5.0;

/// The same for netd.
const NETD_PERCENT: f64 = 10.0;

/// For a whole `yado rescue status`, its start included, while ten take all they get of the processor.
pub(super) const SLOWEST_STATUS: Duration = Duration::from_millis(100);

/// For each ping of a calm container then.
const SLOWEST_PING_MS: f64 = 100.0;

/// For pings on average.
const MEAN_PING_MS: f64 = 50.0;

/// What takes a minute on the board may take so many of this machine's, which emulates instructions one by one.
const REAL_TIME: u32 = 30;

pub(super) fn ten(arena: &mut Arena<'_>, observer: &mut Observer) -> Result<(), HostileError> {
    let before = arena.machine()?;
    let router = arena.board()?.exec_output(CALM, &["sh", "-c", "ip route | awk '/default/ {print $3}'"], TIMEOUT)?;
    let router = router.trim().to_owned();
    for name in TEN {
        arena.board()?.yado(&["rescue", "start", name])?;
    }
    for name in TEN {
        let status = arena.wait_settled(name)?;
        observer.check(
            Witness::OwnWord,
            &format!("{name} is ready"),
            &status["state"],
            status["state"] == "ready",
        )?;
    }
    let began = arena.machine()?;
    let idle = ask_for(arena, IDLE)?;
    let asking = arena.machine()?.since(&began)?;
    let asking_percent = asking.percent(asking.init);
    observer.note("status beside containers that sleep", format!("PID 1 takes {asking_percent:.1} %"));
    for (what, shown) in idle.shown() {
        observer.note(what, shown);
    }
    let pids = arena.pids()?;
    let length = super::together(arena.length);
    let seconds = length.as_secs().to_string();
    let began = arena.machine()?;
    let timeout = length * REAL_TIME + TIMEOUT;
    let mut running = Vec::new();
    for (name, flood) in TEN.into_iter().zip(FLOODS) {
        running.push(arena.start_attack(name, &["flood", flood, &seconds], timeout)?);
    }
    let pings = arena.start_inside(CALM, &["ping", "-c", &seconds, "-W", "2", &router], timeout)?;
    let asked = ask_for(arena, length)?;
    let spent = arena.machine()?.since(&began)?;
    let pinged = pings.ran()?;
    for one in running {
        one.ran()?;
    }
    let [init, netd, outside] = [spent.init, spent.netd, spent.outside].map(|of| spent.percent(of));
    let init = (init - asking_percent).max(0.0);
    let shown = format!(
        "{init:.1} % of {:.0} s beside our asking; {} wake-ups, {} ms in the kernel",
        spent.wall.as_secs_f64(),
        spent.init_wakes,
        spent.init_in_kernel.as_millis()
    );
    observer.check(Witness::Kernel, "PID 1's share of it is bounded", shown, init < INIT_PERCENT)?;
    observer.check(
        Witness::Kernel,
        "netd's too",
        format!("{netd:.1} %; all outside {outside:.0} %"),
        netd < NETD_PERCENT,
    )?;
    for (what, shown) in asked.shown() {
        observer.note(what, shown);
    }
    let slowest = [&asked.statuses, &asked.answers].map(|taken| median_and_slowest(taken)[1]);
    let shown = slowest.map(|duration| format!("{} ms", duration.as_millis())).join(", ");
    let are_in_time = slowest.iter().all(|duration| *duration < SLOWEST_STATUS);
    observer.check(
        Witness::Peer,
        "the slowest status, and PID 1's slowest answer, are in time",
        shown,
        are_in_time,
    )?;
    let late_ones = late_pings(&pinged.stdout).join(", ");
    let shown = pinged.stdout.lines().rev().take(2).collect::<Vec<_>>().join("; ");
    let shown = if late_ones.is_empty() { shown } else { format!("{shown}; late ones: {late_ones}") };
    let are_answered = mean_and_slowest_ping_ms(&pinged.stdout)
        .is_some_and(|(mean, slowest)| mean < MEAN_PING_MS && slowest < SLOWEST_PING_MS);
    observer.check(Witness::Peer, "each of calm's pings was answered in time", shown, are_answered)?;
    let status = arena.instance(CALM)?;
    observer.check(
        Witness::OwnWord,
        "calm is still ready, by its probes",
        &status["state"],
        status["state"] == "ready",
    )?;
    observer.check(
        Witness::OwnWord,
        "as the same process",
        format!("{}", status["pid"]),
        arena.pids()?[1] == pids[1],
    )?;
    late(arena, observer)?;
    for name in TEN {
        arena.board()?.yado(&["rescue", "stop", name])?;
    }
    let gone = arena.board()?.wait_status("all ten that are stopped", TIMEOUT, |status| {
        TEN.iter().all(|name| instance(status, name).is_some_and(|entry| entry["state"] == "stopped")).then_some(())
    });
    observer.check(
        Witness::OwnWord,
        "all ten stop",
        if gone.is_ok() { "stopped" } else { "not all" },
        gone.is_ok(),
    )?;
    gone?;
    back_where_it_was(arena, observer, &before)
}

/// How long each took when it was asked for again and again.
#[derive(Default)]
struct Asked {
    /// PID 1's answer.
    answers: Vec<Duration>,
    /// netd's.
    netd_answers: Vec<Duration>,
    /// A whole `yado rescue status`.
    statuses: Vec<Duration>,
    /// A whole command that does nothing.
    nothings: Vec<Duration>,
}

impl Asked {
    fn shown(&self) -> [(&'static str, String); 4] {
        let shown = |taken: &[Duration]| {
            let [median, slowest] = median_and_slowest(taken).map(|duration| duration.as_secs_f64() * 1e3);
            format!("{} times, median {median:.1} ms, slowest {slowest:.1} ms", taken.len())
        };
        [
            ("PID 1's answer to status", shown(&self.answers)),
            ("netd's answer", shown(&self.netd_answers)),
            ("yado rescue status as a whole", shown(&self.statuses)),
            ("beside it, a command that does nothing", shown(&self.nothings)),
        ]
    }
}

fn median_and_slowest(taken: &[Duration]) -> [Duration; 2] {
    let (_, median, slowest) = spread(taken).unwrap_or_default();
    [median, slowest]
}

/// Asks for the status again and again, for so long by the board's clock: PID 1 by itself, and the command.
fn ask_for(arena: &Arena<'_>, length: Duration) -> Result<Asked, HostileError> {
    // Asking more often would be a flood of our own.
    const PAUSE: Duration = Duration::from_secs(1);
    let until = arena.uptime()? + length;
    let mut asked = Asked::default();
    while arena.uptime()? < until {
        asked.answers.push(arena.answer_latency("init")?);
        asked.netd_answers.push(arena.answer_latency("netd")?);
        std::thread::sleep(PAUSE);
        asked.statuses.push(arena.status_latency()?);
        asked.nothings.push(arena.command_latency()?);
        std::thread::sleep(PAUSE);
    }
    Ok(asked)
}

/// Another one starts all the same, has its lease, and can be asked.
pub(super) fn late(arena: &Arena<'_>, observer: &mut Observer) -> Result<(), HostileError> {
    arena.board()?.yado(&["rescue", "start", LATE])?;
    let status = arena.wait_settled(LATE)?;
    observer.check(Witness::OwnWord, "another one starts", &status["state"], status["state"] == "ready")?;
    // Its layer may still have the name server of an earlier run.
    let script = "until ip -4 addr show eth0 | grep inet && grep nameserver /etc/resolv.conf; do sleep 1; done";
    let said = arena.board()?.exec_output(LATE, &["sh", "-c", script], TIMEOUT)?;
    observer.check(Witness::Peer, "it has a lease", &said, said.contains("inet "))?;
    arena.board()?.yado(&["rescue", "stop", LATE])?;
    Ok(())
}

/// Those of busybox's lines, shortened, that took too long.
fn late_pings(said: &str) -> Vec<String> {
    let late = |line: &str| {
        let (before, time) = line.split_once(" time=")?;
        let (_, sequence) = before.split_once("seq=")?;
        let time: f64 = time.trim_end_matches(" ms").parse().ok()?;
        let number = sequence.split(' ').next()?;
        (SLOWEST_PING_MS <= time).then(|| format!("number {number} {time} ms"))
    };
    said.lines().filter_map(late).collect()
}

/// The second and the third of busybox's `round-trip min/avg/max = 0.1/0.2/0.3 ms`; `None` also when an answer is missing.
fn mean_and_slowest_ping_ms(said: &str) -> Option<(f64, f64)> {
    let is_whole = said.contains(" 0% packet loss");
    let times = said.lines().find_map(|line| line.split_once("= "))?.1;
    let mut times = times.trim_end_matches(" ms").rsplit('/').map(str::parse);
    let (slowest, mean) = (times.next()?.ok()?, times.next()?.ok()?);
    is_whole.then_some((mean, slowest))
}

#[cfg(test)]
mod tests {
    use super::{late_pings, mean_and_slowest_ping_ms};

    #[test]
    fn a_late_ping_is_told_by_its_number() {
        let said = "64 bytes from 10.0.0.1: seq=0 ttl=64 time=99.999 ms\n64 bytes from 10.0.0.1: seq=17 ttl=64 time=476.134 ms\n";
        assert_eq!(late_pings(said), ["number 17 476.134 ms"]);
    }

    #[test]
    fn the_slowest_ping_counts_and_a_lost_one_too() {
        let said = |loss: &str| {
            format!(
                "60 packets transmitted, 60 packets received, {loss}% packet loss\nround-trip min/avg/max = 0.351/0.718/41.502 ms\n"
            )
        };
        assert_eq!(mean_and_slowest_ping_ms(&said("0")), Some((0.718, 41.502)));
        assert_eq!(mean_and_slowest_ping_ms(&said("1")), None);
        assert_eq!(mean_and_slowest_ping_ms("ping: sendto: Operation not permitted"), None);
    }
}
