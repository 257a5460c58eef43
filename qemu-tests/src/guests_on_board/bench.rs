//! The board that the guests come to, and short ways to ask it.

use super::failure::GuestError;
use super::images::OnStick;
use crate::board::outside::Outside;
use crate::board::qemu::Speed;
use crate::board::qmp::UsbStick;
use crate::board::{self, Board, BoardOptions, Prepared, Seen};
use crate::report::{Observer, Witness};
use qemu_guest::Ran;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a board may take until its agent speaks; a loaded machine needs many times the usual 5 to 10 s.
const BOOT_TIMEOUT: Duration = Duration::from_secs(240);
/// How long anything on the board may take, on a machine that has other things to do: a whole distribution starts.
pub(super) const TIMEOUT: Duration = Duration::from_secs(600);
pub(super) const MEMORY_MIB: u32 = 512;
/// All images, and what each guest writes.
const DATA_MIB: u64 = 4096;
/// Where the stick is mounted.
pub(super) const STICK: &str = "/run/stick";

/// The board.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    prepared: &'a Prepared,
    pub(super) directory: PathBuf,
    /// The content of the stick, and what is on it.
    stick: PathBuf,
    pub(super) guests: Vec<OnStick>,
    /// A server on this machine, outside of the board.
    pub(super) outside: Outside,
    board: Option<Board>,
}

impl<'a> Bench<'a> {
    /// Without a board, and with a server for who comes.
    pub(super) fn new(
        prepared: &'a Prepared,
        directory: &Path,
        stick: PathBuf,
        guests: Vec<OnStick>,
    ) -> io::Result<Bench<'a>> {
        let outside = Outside::open()?;
        Ok(Bench { prepared, directory: directory.to_owned(), stick, guests, outside, board: None })
    }

    /// Switches the board on, and says how long it took until its agent spoke.
    pub(super) fn switch_on(&mut self) -> Result<String, GuestError> {
        let usual = BoardOptions::usual(&self.directory, MEMORY_MIB, DATA_MIB);
        // How long a stop takes is judged.
        let options = BoardOptions { speed: Speed::Defined, ..usual };
        let (board, hello) = Board::boot(self.prepared, options, BOOT_TIMEOUT)?;
        let said = board.introduced(&hello);
        self.board = Some(board);
        Ok(said)
    }

    /// Plugs the stick in.
    pub(super) fn plug(&mut self) -> Result<(), GuestError> {
        let stick = UsbStick { id: "guests".to_owned(), content: self.stick.clone(), serial: "0003".to_owned() };
        self.board_mut()?.qemu.qmp.plug(&stick).map_err(GuestError::qmp)
    }

    /// The board that is on.
    pub(super) fn board(&self) -> Result<&Board, GuestError> {
        self.board.as_ref().ok_or(GuestError::Off)
    }

    /// The same, to do something to the machine.
    pub(super) fn board_mut(&mut self) -> Result<&mut Board, GuestError> {
        self.board.as_mut().ok_or(GuestError::Off)
    }

    /// Ends the board, and removes its disk; logs stay.
    pub(super) fn clear_away(&mut self) {
        self.board = None;
        board::remove_disk(&self.directory, &["guests.stick"]);
    }

    /// Runs a shell script on the board that must succeed; what it printed.
    pub(super) fn shell(&self, script: &str) -> Result<String, GuestError> {
        Ok(self.board()?.shell(script, TIMEOUT)?)
    }

    /// Runs `yado` on the board, which must succeed and may take long; what it printed.
    pub(super) fn yado(&self, words: &[&str]) -> Result<String, GuestError> {
        let argv = [&["/usr/bin/yado"], words].concat();
        Ok(self.board()?.agent.output(&argv, TIMEOUT)?.trim().to_owned())
    }

    /// Since when the board's kernel runs, by its own clock.
    pub(super) fn uptime(&self) -> Result<Duration, GuestError> {
        Ok(self.board()?.uptime()?)
    }

    /// Runs a command in an instance to its end, whatever that is.
    pub(super) fn inside(&self, instance: &str, words: &[String]) -> Result<Ran, GuestError> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Ok(self.board()?.exec(instance, &words, TIMEOUT)?)
    }

    /// The entry of one instance in the status.
    pub(super) fn instance(&self, name: &str) -> Result<Value, GuestError> {
        Ok(board::instance(&self.board()?.status()?, name).cloned().unwrap_or_default())
    }

    /// Brings an instance from the stick, as its user would, and starts it.
    pub(super) fn bring(&self, observer: &mut Observer, guest: &OnStick) -> Result<(), GuestError> {
        let name = guest.instance;
        observer.note("yado image add", self.yado(&["image", "add", &format!("{STICK}/{name}.img")])?);
        self.yado(&["apply", &format!("{STICK}/{name}.toml")])?;
        self.yado(&["rescue", "start", name])?;
        Ok(())
    }

    /// Whether nothing is left of an instance.
    pub(super) fn has_nothing_left(&self, name: &str) -> Result<Seen, GuestError> {
        let left = self.board()?.remains(name)?;
        let holds = left.is_empty();
        Ok(Seen { shown: if holds { "nothing is left".to_owned() } else { left }, holds })
    }

    /// Waits for an instance that was started, and checks that it is ready and that its first process is there. Its status.
    pub(super) fn is_ready(&self, observer: &mut Observer, what: &str, name: &str) -> Result<Value, GuestError> {
        let began = Instant::now();
        let status = self.wait_instance(name, "is ready or has failed", |status| {
            matches!(status["state"].as_str(), Some("ready" | "failed"))
        })?;
        let Seen { shown, holds } = self.board()?.first_process(name, &status["pid"]);
        let state = status["state"].as_str().unwrap_or_default();
        let shown = format!("{state} after {:.1} s; {shown}", began.elapsed().as_secs_f64());
        observer.check(Witness::Kernel, what, shown, state == "ready" && holds)?;
        Ok(status)
    }

    /// Waits until an instance's status is as it should be, and gives it back.
    pub(super) fn wait_instance(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<Value, GuestError> {
        let find = |status: &Value| board::instance(status, name).filter(|entry| is_so(entry)).cloned();
        Ok(self.board()?.wait_status(&format!("{name} that {what}"), TIMEOUT, find)?)
    }
}

/// How a command ended, and what it printed.
pub(super) fn shown_end(ran: &Ran) -> String {
    format!("{:?} {}{}", ran.ended, ran.stdout.trim(), ran.stderr.trim())
}
