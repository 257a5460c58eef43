//! The board that the guests come to, and short ways to ask it.

use super::failure::GuestError;
use super::images::OnStick;
use crate::board::disk::DataPartition;
use crate::board::outside::Outside;
use crate::board::qemu::{OnReset, Speed};
use crate::board::qmp::UsbStick;
use crate::board::{Board, BoardOptions, Prepared, Slots, WriteCache};
use qemu_guest::Ran;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a board may take until its agent speaks; a loaded machine needs many times the usual 5 to 10 s.
const BOOT_TIMEOUT: Duration = Duration::from_secs(240);
/// How long anything on the board may take, on a machine that has other things to do: a whole distribution starts.
pub(super) const TIMEOUT: Duration = Duration::from_secs(600);
pub(super) const MEMORY_MIB: u32 = 512;
/// All images, and what each guest writes.
const DATA_MIB: u64 = 2048;
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
        let options = BoardOptions {
            memory_mib: MEMORY_MIB,
            processors: 1,
            speed: Speed::OfThisMachine,
            write_cache: WriteCache::Kept,
            slots: Slots::OnlyA,
            data_mib: DATA_MIB,
            data: DataPartition::Blank,
            kernel_arguments: String::new(),
            clock: None,
            on_reset: OnReset::End,
            directory: self.directory.clone(),
        };
        let (board, hello) = Board::boot(self.prepared, options, BOOT_TIMEOUT)?;
        let seconds = board.qemu.started().elapsed().as_secs_f64();
        self.board = Some(board);
        Ok(format!("{} {}, {seconds:.1} s after power on", hello.machine, hello.kernel))
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
        for name in ["disk.img", "flash.img", "guests.stick", "data.part"] {
            // What cannot be removed is overwritten by the next run.
            let _ = std::fs::remove_file(self.directory.join(name));
        }
        let _ = std::fs::remove_dir_all(self.directory.join("parts"));
    }

    /// Runs a shell script on the board that must succeed; what it printed.
    pub(super) fn shell(&self, script: &str) -> Result<String, GuestError> {
        Ok(self.board()?.agent.output(&["/bin/sh", "-c", script], TIMEOUT)?.trim().to_owned())
    }

    /// Runs `yado` on the board, which must succeed and may take long; what it printed.
    pub(super) fn yado(&self, words: &[&str]) -> Result<String, GuestError> {
        let argv = [&["/usr/bin/yado"], words].concat();
        Ok(self.board()?.agent.output(&argv, TIMEOUT)?.trim().to_owned())
    }

    /// Runs a command in an instance to its end, whatever that is.
    pub(super) fn inside(&self, instance: &str, words: &[String]) -> Result<Ran, GuestError> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Ok(self.board()?.exec(instance, &words, TIMEOUT)?)
    }

    /// The entry of one instance in the status.
    pub(super) fn instance(&self, name: &str) -> Result<Value, GuestError> {
        Ok(entry(&self.board()?.status()?, name).unwrap_or_default())
    }

    /// Waits until an instance's status is as it should be, and gives it back.
    pub(super) fn wait_instance(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<Value, GuestError> {
        let find = |status: &Value| entry(status, name).filter(|entry| is_so(entry));
        Ok(self.board()?.wait_status(&format!("{name} that {what}"), TIMEOUT, find)?)
    }
}

fn entry(status: &Value, name: &str) -> Option<Value> {
    status["instances"].as_array()?.iter().find(|entry| entry["name"] == name).cloned()
}
