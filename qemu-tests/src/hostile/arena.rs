//! The board that is attacked, short ways to ask it, and the table of what was tried.

use super::appliance::{ATTACK, CALM, HOSTILE};
use super::failure::HostileError;
use super::machine::Machine;
use crate::board::agent::Pending;
use crate::board::qemu::Speed;
use crate::board::qmp::UsbStick;
use crate::board::{self, Board, BoardError, BoardOptions, Prepared};
use crate::length::Length;
use crate::report::{Observer, Witness};
use qemu_guest::Ran;
use qemu_guest::attack::{Attempt, Expected, Outcome, Verdict, Watched};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a board may take until its agent speaks; a loaded machine needs many times the usual 5 to 10 s.
const BOOT_TIMEOUT: Duration = Duration::from_secs(240);
/// How long anything on a board may take, on a machine that has other things to do.
pub(super) const TIMEOUT: Duration = Duration::from_secs(120);
pub(super) const MEMORY_MIB: u32 = 256;
const DATA_MIB: u64 = 48;
/// Errors of the kernel's go to the serial line: who was killed for lack of memory is seen there, however many they were.
const KERNEL_ARGUMENTS: &str = "loglevel=4";

/// The board, and what came of the attempts so far.
#[derive(Debug)]
pub(super) struct Arena<'a> {
    prepared: &'a Prepared,
    pub(super) directory: PathBuf,
    /// How long the ten are let loose.
    pub(super) length: Length,
    /// The stick with LXC, where there is one.
    pub(super) lxc: Option<PathBuf>,
    /// A program of 32 bits in base64, where the board is of 64.
    pub(super) of_32_bits: Option<String>,
    board: Option<Board>,
    /// As it was before the first attempt.
    pub(super) before: Option<Machine>,
    rows: Vec<Row>,
}

/// One attempt in the table.
#[derive(Debug)]
struct Row {
    attempt: &'static Attempt,
    outcome: Outcome,
}

impl<'a> Arena<'a> {
    /// Without a board.
    pub(super) fn new(
        prepared: &'a Prepared,
        directory: &Path,
        length: Length,
        lxc: Option<PathBuf>,
        of_32_bits: Option<String>,
    ) -> Arena<'a> {
        let directory = directory.to_owned();
        Arena { prepared, directory, length, lxc, of_32_bits, board: None, before: None, rows: Vec::new() }
    }

    /// Switches the board on; says how long it took until its agent spoke.
    pub(super) fn switch_on(&mut self) -> Result<String, HostileError> {
        let options = BoardOptions {
            speed: Speed::Defined,
            kernel_arguments: KERNEL_ARGUMENTS.to_owned(),
            ..BoardOptions::usual(&self.directory, MEMORY_MIB, DATA_MIB)
        };
        let (board, hello) = Board::boot(self.prepared, options, BOOT_TIMEOUT)?;
        let said = board.introduced(&hello);
        self.board = Some(board);
        Ok(said)
    }

    /// The board that is on.
    pub(super) fn board(&self) -> Result<&Board, HostileError> {
        self.board.as_ref().ok_or(HostileError::Off)
    }

    /// The same, to plug something into it.
    pub(super) fn board_mut(&mut self) -> Result<&mut Board, HostileError> {
        self.board.as_mut().ok_or(HostileError::Off)
    }

    /// A stick to be plugged in, blank.
    pub(super) fn stick(&self, id: &str, bytes: u64) -> Result<UsbStick, HostileError> {
        let content = self.directory.join(format!("{id}.img"));
        let made = std::fs::File::create(&content).and_then(|file| file.set_len(bytes));
        let content = made.and_then(|()| std::fs::canonicalize(&content));
        let content = content.map_err(|source| BoardError::Directory { path: self.directory.clone(), source })?;
        Ok(UsbStick { id: id.to_owned(), content, serial: "0001".to_owned() })
    }

    /// Ends the board, and removes its disk; logs stay.
    pub(super) fn clear_away(&mut self) {
        self.board = None;
        board::remove_disk(&self.directory, &["crossing.img", "lxc.stick"]);
    }

    /// Runs a shell script on the board that must succeed; what it printed.
    pub(super) fn shell(&self, script: &str) -> Result<String, HostileError> {
        Ok(self.board()?.shell(script, TIMEOUT)?)
    }

    /// Runs the attacking program in an instance to its end, whatever that is.
    pub(super) fn attack(&self, instance: &str, words: &[&str]) -> Result<Ran, HostileError> {
        Ok(self.board()?.exec(instance, &[&[ATTACK], words].concat(), TIMEOUT)?)
    }

    /// Starts the attacking program in an instance.
    pub(super) fn start_attack(
        &self,
        instance: &str,
        words: &[&str],
        timeout: Duration,
    ) -> Result<Pending, HostileError> {
        self.start_inside(instance, &[&[ATTACK], words].concat(), timeout)
    }

    /// Starts a program in an instance.
    pub(super) fn start_inside(
        &self,
        instance: &str,
        words: &[&str],
        timeout: Duration,
    ) -> Result<Pending, HostileError> {
        let argv = [&["/usr/bin/yado", "rescue", "exec", "--no-tty", instance, "--"], words].concat();
        Ok(self.board()?.agent.start_run(&argv, "", timeout)?)
    }

    /// The entry of one instance in the status.
    pub(super) fn instance(&self, name: &str) -> Result<Value, HostileError> {
        Ok(board::instance(&self.board()?.status()?, name).cloned().unwrap_or_default())
    }

    /// Waits until an instance is ready, or has failed: the caller looks which.
    pub(super) fn wait_settled(&self, name: &str) -> Result<Value, HostileError> {
        let found = self.board()?.wait_status(&format!("{name} that is ready"), TIMEOUT, |status| {
            board::instance(status, name)
                .filter(|entry| entry["state"] == "ready" || entry["state"] == "failed")
                .cloned()
        })?;
        Ok(found)
    }

    /// How long `yado rescue status` takes on the board, by the board's own clock.
    pub(super) fn status_latency(&self) -> Result<Duration, HostileError> {
        self.latency_of(&["/usr/bin/yado", "rescue", "status"])
    }

    /// How long a command takes there that does nothing.
    pub(super) fn command_latency(&self) -> Result<Duration, HostileError> {
        self.latency_of(&["/bin/sh", "-c", ":"])
    }

    /// Of one that must succeed: an error that comes fast is no answer.
    fn latency_of(&self, argv: &[&str]) -> Result<Duration, HostileError> {
        Ok(Duration::from_millis(self.board()?.agent.run_well(argv, TIMEOUT)?.wall_ms))
    }

    /// How long `init` or `netd` itself takes for its status, from the request to the last packet of its answer, by another
    /// program's watch.
    pub(super) fn answer_latency(&self, who: &str) -> Result<Duration, HostileError> {
        let socket = format!("/run/yado/{who}.sock");
        let said = self.board()?.agent.output(&["/usr/bin/guest-tool", "ask", who, &socket], TIMEOUT)?;
        let micros = said.lines().find_map(|line| line.strip_prefix("answer_us=")?.parse().ok());
        micros
            .map(Duration::from_micros)
            .ok_or(HostileError::Lacks { place: "guest-tool ask", wanted: "answer_us".to_owned() })
    }

    /// How long the board has been on, by its own clock.
    pub(super) fn uptime(&self) -> Result<Duration, HostileError> {
        Ok(self.board()?.uptime()?)
    }

    /// The machine as it is now.
    pub(super) fn machine(&self) -> Result<Machine, HostileError> {
        let status = self.board()?.status()?;
        let services = status["services"].as_array().into_iter().flatten();
        let netd = services.filter(|service| service["name"] == "netd").find_map(|service| service["pid"].as_u64());
        Machine::parse(&self.shell(&Machine::script(netd.unwrap_or(0)))?)
    }

    /// Notes what came of an attempt: a check where it is promised to be held.
    pub(super) fn note(&mut self, observer: &mut Observer, attempt: &'static Attempt, outcome: Outcome) {
        let shown = format!("{} {}", outcome.verdict, outcome.figure);
        let holds = outcome.is_held();
        match attempt.expected {
            Expected::Held => {
                let what = format!("{}: {}", attempt.name, attempt.what);
                // The step ends at its end, when all attempts have had their turn.
                let _ = observer.check(witness_of(attempt), &what, shown, holds);
            }
            Expected::Open(why) if holds => {
                observer.note(&format!("{}: known as open ({why}), and HELD NOW", attempt.name), shown);
            }
            Expected::Open(why) => observer.note(&format!("{}: known as open: {why}", attempt.name), shown),
        }
        self.rows.push(Row { attempt, outcome });
    }

    /// An error if one that was promised to be held was not, among those that this step has noted.
    pub(super) fn judge(&self, since: usize, observer: &mut Observer) -> Result<(), HostileError> {
        let rows = self.rows.get(since..).unwrap_or(&[]);
        let is_broken = |row: &&Row| row.attempt.expected == Expected::Held && !row.outcome.is_held();
        let broken: Vec<&str> = rows.iter().filter(is_broken).map(|row| row.attempt.name).collect();
        let is_not_here = |row: &&Row| row.outcome.verdict == Verdict::NotHere;
        let not_here: Vec<&str> = rows.iter().filter(is_not_here).map(|row| row.attempt.name).collect();
        let listed = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(" ") };
        let shown = format!("{} attempts, broken: {}, not here: {}", rows.len(), listed(&broken), listed(&not_here));
        Ok(observer.check(Witness::Peer, "each that is promised to be held is held", shown, broken.is_empty())?)
    }

    /// How many attempts were noted so far.
    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// What came of an attempt that was noted.
    pub(super) fn outcome_of(&self, name: &str) -> Option<&Outcome> {
        self.rows.iter().find(|row| row.attempt.name == name).map(|row| &row.outcome)
    }

    /// Attempt, verdict, errno or figure.
    pub(super) fn print_table(&self) {
        println!("\n{:<20} {:<10} {:<6} figure", "attempt", "verdict", "");
        for Row { attempt, outcome } in &self.rows {
            let mark = match (attempt.expected, outcome.is_held()) {
                (Expected::Held, true) => "",
                (Expected::Held, false) => "BROKEN",
                (Expected::Open(_), true) => "HELD",
                (Expected::Open(_), false) => "open",
            };
            println!("{:<20} {:<10} {mark:<6} {}", attempt.name, outcome.verdict, outcome.figure);
        }
        let count = |verdict: Verdict| self.rows.iter().filter(|row| row.outcome.verdict == verdict).count();
        let counts: Vec<String> = [Verdict::Refused, Verdict::Bounded, Verdict::Succeeded, Verdict::NotHere]
            .into_iter()
            .map(|verdict| format!("{} {verdict}", count(verdict)))
            .collect();
        println!("{}", counts.join(", "));
    }

    /// Whether both run on as the processes that they were.
    pub(super) fn pids(&self) -> Result<[Value; 2], HostileError> {
        let status = self.board()?.status()?;
        Ok([HOSTILE, CALM]
            .map(|name| board::instance(&status, name).map(|entry| entry["pid"].clone()).unwrap_or_default()))
    }

    /// Asks until a file is there, or the time is over.
    pub(super) fn wait_file(&self, path: &str, timeout: Duration) -> Result<bool, HostileError> {
        let began = Instant::now();
        let seen = self.board()?.agent.wait_path(path, qemu_guest::Presence::Present, timeout);
        match seen {
            Ok(()) => Ok(true),
            Err(_) if timeout <= began.elapsed() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Who says what came of an attempt.
const fn witness_of(attempt: &Attempt) -> Witness {
    match attempt.watched {
        Watched::Inside | Watched::ByNeighbour(_) => Witness::Peer,
        Watched::InMemory | Watched::InWholeMemory | Watched::ByService | Watched::ByBoard => Witness::Kernel,
    }
}
