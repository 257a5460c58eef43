//! Runs commands and makes requests in turns, and tells how long each took, from before it was started until what it started
//! is gone. Reads a `Contest` from its standard input and prints `Results`; judges nothing.
//!
//! All take turns, in another order each time, so that whatever else the machine does, and what one leaves for the next,
//! falls on all alike.

use qemu_guest::contest::{Contest, Contestant, Disqualified, Gone, Lap, Results, Start};
use serde_json::Value;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;
use yado_sys::packet;
use yado_wire::InstanceName;
use yado_wire::rescue::{Reply, Request};

fn main() -> ExitCode {
    match read_contest().and_then(|contest| print(&race(contest))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("guest-race: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn read_contest() -> Result<Contest, String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| format!("read the contest: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("not a contest: {error}"))
}

fn print(results: &Results) -> Result<(), String> {
    let text = serde_json::to_string(results).map_err(|error| error.to_string())?;
    println!("{text}");
    Ok(())
}

fn race(contest: Contest) -> Results {
    let Contest { laps, mut contestants } = contest;
    let mut results = Results::default();
    // They follow until the end, so that their own start falls on nobody's time.
    let mut events = HashMap::new();
    // The first turn fills caches and loads modules.
    for lap in 0..=laps {
        // Its keys are random.
        let random = RandomState::new();
        contestants.sort_by_cached_key(|contestant| random.hash_one(&contestant.name));
        contestants.retain(|contestant| match take_turn(contestant, &mut events) {
            Ok(time) => {
                if lap != 0 {
                    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                    results.laps.push(Lap { contestant: contestant.name.clone(), micros });
                }
                true
            }
            Err(reason) => {
                results.disqualified.push(Disqualified { contestant: contestant.name.clone(), reason });
                false
            }
        });
    }
    results
}

fn take_turn(contestant: &Contestant, followed: &mut HashMap<Vec<String>, Events>) -> Result<Duration, String> {
    let Contestant { name: _, before, start, gone } = contestant;
    if !before.is_empty() {
        run(before, &[])?;
    }
    let events = match gone {
        Gone::WhenItEnds => None,
        Gone::WhenStopped { instance, events } => {
            if !followed.contains_key(events) {
                followed.insert(events.clone(), Events::follow(events)?);
            }
            followed.get_mut(events).map(|events| (events, instance))
        }
    };
    let began = now();
    match start {
        Start::Command { argv, environment } => run(argv, environment)?,
        Start::Request { socket, instance } => ask(socket, instance)?,
    }
    let ended = now();
    let gone = match events {
        Some((events, instance)) => ended.max(events.wait_stopped(instance, began)?),
        None => ended,
    };
    Ok(gone.saturating_sub(began))
}

fn run(argv: &[String], environment: &[(String, String)]) -> Result<(), String> {
    let (program, arguments) = argv.split_first().ok_or("no program is named")?;
    let mut command = Command::new(program);
    command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("run {program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&said).trim()))
}

/// What `yado rescue start` does.
fn ask(socket: &str, instance: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{socket}: {error}");
    let request = Request::Start(InstanceName::parse(instance).map_err(|error| error.to_string())?);
    let socket = packet::connect(Path::new(socket)).map_err(failed)?;
    let bytes = yado_wire::encode(&request).ok_or("a request longer than a packet")?;
    packet::send(&socket, &bytes, &[]).map_err(failed)?;
    let mut buffer = vec![0; yado_wire::MAX_FRAME_BYTES];
    let received = packet::recv(&socket, &mut buffer).map_err(failed)?.ok_or("no answer in time")?;
    match yado_wire::decode(&buffer[..received.len]) {
        Ok(Reply::Done) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// sched(7), "The nice value".
const LEAST_PRIORITY: i32 = 19;

/// Init's events as they come. They carry init's own time, on the clock that we read: how late we hear of one costs nothing.
struct Events {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Events {
    fn follow(argv: &[String]) -> Result<Events, String> {
        let (program, arguments) = argv.split_first().ok_or("no program is named")?;
        let child = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("run {program}: {error}"))?;
        // It is part of no start, and must take the processor from none.
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::setpriority_process(Some(pid), LEAST_PRIORITY)
            .map_err(|error| format!("the priority of {program}: {error}"))?;
        let stdout = child.stdout.take().ok_or("no pipe from the events")?;
        Ok(Events { child, lines: BufReader::new(stdout) })
    }

    /// When `instance`, started after `began`, was gone. Older events are what init remembers of earlier turns.
    fn wait_stopped(&mut self, instance: &str, began: Duration) -> Result<Duration, String> {
        let mut line = String::new();
        loop {
            line.clear();
            match self.lines.read_line(&mut line) {
                Ok(0) => return Err("the events ended".to_owned()),
                Ok(_) => {}
                Err(error) => return Err(format!("read events: {error}")),
            }
            let event: Value = serde_json::from_str(&line).map_err(|error| format!("{line}: {error}"))?;
            let at = Duration::from_micros(event["monotonic_us"].as_u64().unwrap_or(0));
            if event["instance"] != instance || at < began {
                continue;
            }
            let is_bad_exit = event["kind"] == "exited" && event["exit"]["code"] != 0;
            if is_bad_exit || event["state"] == "failed" {
                return Err(line.trim().to_owned());
            }
            if event["state"] == "stopped" {
                return Ok(at);
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The clock of init's events.
fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}
