//! The command line of `guest-attack`, for the program of that name and for tests that are the program themselves.

use super::{Attempt, Line, Outcome, Watched};
use crate::denied_calls;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// The program's name: a test that is the program too goes by it.
pub const PROGRAM: &str = "guest-attack";

const USAGE: &str = "\
usage: guest-attack list            every attempt, and what is tried
       guest-attack inside          all whose verdict is seen inside, each in a process of its own
       guest-attack these NAME…     these, likewise
       guest-attack all             all of them, likewise
       guest-attack one NAME        one of them
       guest-attack hold NAME FILE  one of them; says so in FILE, and keeps what it took until FILE is gone
       guest-attack flood NAME SECONDS  one of them, for so long
       guest-attack ready           says READY=1, and attacks nobody
       guest-attack spare NAME      takes one of what the attempt takes, as a neighbour does
       guest-attack denied-calls    makes each call that the filter of containers denies, and says what it gets";

/// An attempt that hangs has an answer too.
const TIMEOUT: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Nobody who forgets us keeps the machine short for ever.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// Does what the words after the program's name say.
pub fn main(words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["list"] => {
            for Attempt { name, what, .. } in super::all() {
                println!("{name:<20} {what}");
            }
            Ok(())
        }
        ["inside"] => each(|attempt| matches!(attempt.watched, Watched::Inside)),
        ["these", names @ ..] => each(|attempt| names.contains(&attempt.name)),
        ["all"] => each(|_| true),
        ["one", name] => find(name).map(|attempt| print(attempt, (attempt.run)())),
        ["hold", name, file] => find(name).and_then(|attempt| hold(attempt, Path::new(file))),
        ["flood", name, seconds] => find(name).and_then(|attempt| flood(attempt, seconds)),
        ["ready"] => super::say_ready().map_err(|error| format!("{error}")),
        ["spare", name] => find(name).map(spare),
        [denied_calls::VERB] => {
            denied_calls::make_all().for_each(|answered| println!("{answered}"));
            Ok(())
        }
        ["role", "sleep"] => {
            sleep_while_parent_lives();
            Ok(())
        }
        ["role", "hog"] => {
            hog();
            Ok(())
        }
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("guest-attack: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// This program once more.
pub(super) fn again() -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(PROGRAM);
    command
}

fn find(name: &str) -> Result<&'static Attempt, String> {
    super::find(name).ok_or_else(|| format!("{name}: no such attempt"))
}

fn print(attempt: &Attempt, outcome: Outcome) {
    println!("{}", Line { name: attempt.name.to_owned(), outcome });
    // What one that hangs or is killed said before must not be lost with it.
    let _ = std::io::stdout().flush();
}

/// Each in a process of its own, which takes with it what it took.
fn each(is_wanted: impl Fn(&Attempt) -> bool) -> Result<(), String> {
    for attempt in super::all().filter(|attempt| is_wanted(attempt)) {
        let child = again().args(["one", attempt.name]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let outcome = match child {
            Err(error) => Outcome::refused(&error),
            Ok(child) => awaited(child, attempt.name),
        };
        print(attempt, outcome);
    }
    Ok(())
}

fn awaited(mut child: Child, name: &str) -> Outcome {
    let until = Instant::now() + TIMEOUT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK_AGAIN),
            Ok(None) => {
                let _ = child.kill();
                return Outcome::bounded(format!("no end after {} s", TIMEOUT.as_secs()));
            }
            Err(error) => return Outcome::refused(&error),
        }
    };
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        // What it left running may have its output open: only what is there is read.
        let mut bytes = [0; 4096];
        if let Ok(count) = std::io::Read::read(&mut stdout, &mut bytes) {
            said = String::from_utf8_lossy(&bytes[..count]).into_owned();
        }
    }
    let line = said.lines().find_map(Line::parse).filter(|line| line.name == name);
    match line {
        Some(line) => line.outcome,
        None if status.code().is_none() => Outcome::bounded(format!("killed: {status}")),
        None => Outcome::succeeded(format!("no word, {status}")),
    }
}

/// The file is made before: when all is taken, there may be no descriptor left for it.
fn hold(attempt: &Attempt, file: &Path) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", file.display());
    let aside = file.with_extension("aside");
    let mut told = std::fs::File::create(&aside).map_err(said)?;
    let outcome = (attempt.run)();
    told.write_all(Line { name: attempt.name.to_owned(), outcome: outcome.clone() }.to_string().as_bytes())
        .map_err(said)?;
    std::fs::rename(&aside, file).map_err(said)?;
    print(attempt, outcome);
    let until = Instant::now() + LONGEST_HOLD;
    while file.symlink_metadata().is_ok() && Instant::now() < until {
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// In a process of its own: how long it lasts is told by the environment.
fn flood(attempt: &Attempt, seconds: &str) -> Result<(), String> {
    let status = again().args(["one", attempt.name]).env(super::SECONDS, seconds).status();
    status.map(drop).map_err(|error| error.to_string())
}

fn spare(attempt: &Attempt) {
    let outcome = match attempt.watched {
        Watched::ByNeighbour(one) => Outcome::of(one(), "there is one"),
        Watched::Inside | Watched::InMemory | Watched::InWholeMemory | Watched::ByService | Watched::ByBoard => {
            Outcome::not_here("nothing to spare")
        }
    };
    print(attempt, outcome);
}

fn sleep_while_parent_lives() {
    let parent = rustix::process::getppid();
    while rustix::process::getppid() == parent {
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Takes memory, 512 MiB at most.
fn hog() {
    for _ in 0..512 {
        let mut chunk = vec![0u8; 1024 * 1024];
        for page in chunk.chunks_mut(4096) {
            page[0] = 1;
        }
        std::mem::forget(std::hint::black_box(chunk));
    }
}
