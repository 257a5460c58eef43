//! What the steps work with: the board that is switched on now, and short ways to ask it.

use super::condition::{ByKernel, Condition, Kernel};
use super::failure::BrokenError;
use crate::board::agent::AgentError;
use crate::board::qemu::{OnReset, QemuError};
use crate::board::qmp::QmpError;
use crate::board::spoilt_slot::Spoiling;
use crate::board::volatile_disk::Loss;
use crate::board::{self, Board, BoardError, BoardOptions, Prepared, WriteCache, left_behind};
use crate::length::Length;
use qemu_guest::Ran;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a board may take until its agent speaks; a loaded machine needs many times the usual 5 to 10 s.
const BOOT_TIMEOUT: Duration = Duration::from_secs(240);
/// How long anything on a board may take, on a machine that has other things to do.
pub(super) const TIMEOUT: Duration = Duration::from_secs(120);
/// The emulator ends at once when it is told to.
const QUIT_TIMEOUT: Duration = Duration::from_secs(30);
const MEMORY_MIB: u32 = 256;
/// Small enough to be filled in a moment.
pub(super) const DATA_MIB: u64 = 40;

/// The bench on which one board after the other is broken.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    /// What the boards share, by their kernel.
    prepared: &'a ByKernel,
    /// What the board that is on, or was last, is made of.
    kernel: Kernel,
    directory: PathBuf,
    /// How long nothing happens on a board.
    pub(super) length: Length,
    board: Option<Board>,
    options: Option<BoardOptions>,
}

impl<'a> Bench<'a> {
    /// A bench without a board.
    pub(super) fn new(prepared: &'a ByKernel, directory: &Path, length: Length) -> Bench<'a> {
        let directory = directory.to_owned();
        Bench { prepared, kernel: Kernel::Usual, directory, length, board: None, options: None }
    }

    /// What the board that is on, or was last, is made of.
    pub(super) fn prepared(&self) -> Result<&'a Prepared, BrokenError> {
        match self.kernel {
            Kernel::Usual => Ok(&self.prepared.usual),
            Kernel::Newer => self.prepared.newer.as_ref().ok_or(BrokenError::Off),
        }
    }

    /// A directory for the files of a board, made if it is not there.
    pub(super) fn directory_of(&self, name: &str) -> Result<PathBuf, BrokenError> {
        let directory = self.directory.join(name);
        std::fs::create_dir_all(&directory).map_err(BrokenError::io(&directory))?;
        Ok(directory)
    }

    /// Switches on a new board; says how long it took until its agent spoke.
    pub(super) fn switch_on(&mut self, condition: Condition) -> Result<String, BrokenError> {
        self.assemble(condition)?;
        self.await_agent(OnReset::End)
    }

    /// Makes a new board, and leaves it off.
    pub(super) fn assemble(&mut self, condition: Condition) -> Result<(), BrokenError> {
        self.clear_away();
        let Condition { name, kernel, processors, slots, data, kernel_arguments, devicetree, clock } = condition;
        let options = BoardOptions {
            processors,
            write_cache: WriteCache::Volatile,
            slots,
            data,
            kernel_arguments: kernel_arguments.to_owned(),
            devicetree: devicetree.to_owned(),
            clock: clock.map(str::to_owned),
            ..BoardOptions::usual(&self.directory_of(name)?, MEMORY_MIB, DATA_MIB)
        };
        self.options = Some(options.clone());
        self.kernel = kernel;
        Ok(Board::assemble(self.prepared()?, &options)?)
    }

    /// Spoils slot A of the board that is off.
    pub(super) fn spoil_slot_a(&self, how: Spoiling) -> Result<(), BrokenError> {
        let options = self.options.as_ref().ok_or(BrokenError::Off)?;
        Ok(Board::spoil_slot_a(self.prepared()?, options, how)?)
    }

    /// Switches on a board with the disk of the last one.
    pub(super) fn switch_on_again(&mut self, on_reset: OnReset) -> Result<String, BrokenError> {
        self.keep_serial_log();
        self.await_agent(on_reset)
    }

    /// Switches on a board with the disk of the last one, and waits until it resets, no agent having spoken. What was said
    /// on its serial line.
    pub(super) fn switch_on_in_vain(&mut self) -> Result<String, BrokenError> {
        self.keep_serial_log();
        let mut board = self.start(OnReset::End)?;
        match board.agent.hello(BOOT_TIMEOUT) {
            Err(AgentError::Closed { .. }) => {}
            Ok(hello) => return Err(BrokenError::CameUp(hello)),
            Err(error) => {
                print_serial_end(&board);
                return Err(BoardError::Agent(error).into());
            }
        }
        board.qemu.wait_end(QUIT_TIMEOUT).map_err(BoardError::Qemu)?;
        Ok(board.serial())
    }

    /// A log of the boot before is of use, and its absence is no fault of this one.
    fn keep_serial_log(&self) {
        if let Some(options) = &self.options {
            let log = board::serial_log(&options.directory);
            let _ = std::fs::rename(&log, log.with_extension("before.log"));
        }
    }

    fn start(&self, on_reset: OnReset) -> Result<Board, BrokenError> {
        let options = self.options.clone().ok_or(BrokenError::Off)?;
        Ok(Board::power_on_again(self.prepared()?, BoardOptions { on_reset, ..options })?)
    }

    fn await_agent(&mut self, on_reset: OnReset) -> Result<String, BrokenError> {
        let board = self.start(on_reset)?;
        let hello = match board.agent.hello(BOOT_TIMEOUT) {
            Ok(hello) => hello,
            Err(error) => {
                print_serial_end(&board);
                return Err(BoardError::Agent(error).into());
            }
        };
        let said = board.introduced(&hello);
        self.board = Some(board);
        Ok(said)
    }

    /// Takes the power away: nothing on the board gets to know, and what it has not flushed may be lost.
    pub(super) fn cut_power(&mut self) -> Result<Loss, BrokenError> {
        let board = self.board.take().ok_or(BrokenError::Off)?;
        Ok(board.cut_power(QUIT_TIMEOUT)?)
    }

    /// Tells the board, which must be one that boots again, to reboot, and waits until its agent speaks again.
    pub(super) fn reboot(&mut self) -> Result<String, BrokenError> {
        self.board()?.yado(&["rescue", "reboot"])?;
        self.await_reset()
    }

    /// Has the kernel panic, of a board that boots again, and waits until its agent speaks again.
    pub(super) fn panic(&mut self) -> Result<String, BrokenError> {
        let crash = ["/bin/sh", "-c", "echo c > /proc/sysrq-trigger"];
        let _crashing = self.board()?.agent.start_run(&crash, "", TIMEOUT).map_err(BoardError::Agent)?;
        self.await_reset()
    }

    fn await_reset(&mut self) -> Result<String, BrokenError> {
        let board = self.board.as_mut().ok_or(BrokenError::Off)?;
        // Whoever answers after the reset is not the agent that was there before.
        let reset = board.qemu.qmp.wait_event("RESET", TIMEOUT).map_err(qmp)?;
        let began = Instant::now();
        board.agent.hello(BOOT_TIMEOUT).map_err(BoardError::Agent)?;
        Ok(format!("{}, the agent speaks {:.1} s later", text(&reset["reason"]), began.elapsed().as_secs_f64()))
    }

    /// What was said of a journal that had to be replayed, by e2fsck or the kernel; nothing, if none had to be.
    pub(super) fn journal_replayed(&self) -> Result<String, BrokenError> {
        self.shell("{ yado rescue logs; dmesg; } | grep -E 'recovering journal|recovery complete' || true")
    }

    /// Powers off in order, and gives back the data partition as it then is.
    pub(super) fn power_off(&mut self) -> Result<PathBuf, BrokenError> {
        let mut board = self.board.take().ok_or(BrokenError::Off)?;
        board.yado(&["rescue", "poweroff"])?;
        board.qemu.wait_end(TIMEOUT).map_err(BoardError::Qemu)?;
        Ok(board.partition("data")?)
    }

    /// Ends the board at once, and gives back the data partition with all that was ever written to it.
    pub(super) fn data_as_written(&mut self) -> Result<PathBuf, BrokenError> {
        let mut board = self.board.take().ok_or(BrokenError::Off)?;
        board.qemu.quit(QUIT_TIMEOUT).map_err(BoardError::Qemu)?;
        Ok(board.partition("data")?)
    }

    /// Ends the board that is on, and removes its disk; logs stay.
    pub(super) fn clear_away(&mut self) {
        self.board = None;
        if let Some(BoardOptions { directory, .. }) = self.options.take() {
            board::remove_disk(&directory, &[]);
        }
    }

    /// Keeps what the board that is on, or was last, says of a step that failed.
    pub(super) fn leave_behind(&self, step: usize) {
        let directory = self.options.as_ref().map_or(&self.directory, |options| &options.directory);
        left_behind::keep(&self.directory, step, self.board.as_ref(), directory);
    }

    /// The board that is on.
    pub(super) fn board(&self) -> Result<&Board, BrokenError> {
        self.board.as_ref().ok_or(BrokenError::Off)
    }

    /// The board that is on, to plug something into it.
    pub(super) fn board_mut(&mut self) -> Result<&mut Board, BrokenError> {
        self.board.as_mut().ok_or(BrokenError::Off)
    }

    /// The status of everything.
    pub(super) fn status(&self) -> Result<Value, BrokenError> {
        Ok(self.board()?.status()?)
    }

    /// The status of one instance; null if there is none of that name.
    pub(super) fn instance(&self, name: &str) -> Result<Value, BrokenError> {
        Ok(board::instance(&self.status()?, name).cloned().unwrap_or_default())
    }

    /// Waits until an instance's status is as it should be, and gives it back.
    pub(super) fn wait_instance(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<Value, BrokenError> {
        let found = self.board()?.wait_status(&format!("{name} that {what}"), TIMEOUT, |status| {
            board::instance(status, name).filter(|status| is_so(status)).cloned()
        })?;
        Ok(found)
    }

    /// Waits until an instance is ready, or has failed: the caller looks which.
    pub(super) fn wait_settled(&self, name: &str) -> Result<Value, BrokenError> {
        self.wait_instance(name, "is ready or has failed", |status| {
            status["state"] == "ready" || status["state"] == "failed"
        })
    }

    /// Runs a shell script on the board that must succeed; what it printed.
    pub(super) fn shell(&self, script: &str) -> Result<String, BrokenError> {
        Ok(self.board()?.shell(script, TIMEOUT)?)
    }

    /// Runs a shell script on the board to its end, whatever that is.
    pub(super) fn shell_ran(&self, script: &str) -> Result<Ran, BrokenError> {
        Ok(self.board()?.agent.run(&["/bin/sh", "-c", script], TIMEOUT).map_err(BoardError::Agent)?)
    }

    /// Runs a shell script in an instance to its end, whatever that is.
    pub(super) fn inside(&self, instance: &str, script: &str) -> Result<Ran, BrokenError> {
        Ok(self.board()?.exec(instance, &["sh", "-c", script], TIMEOUT)?)
    }

    /// Runs a shell script in an instance that must succeed; what it printed.
    pub(super) fn inside_output(&self, instance: &str, script: &str) -> Result<String, BrokenError> {
        Ok(self.board()?.exec_output(instance, &["sh", "-c", script], TIMEOUT)?.trim().to_owned())
    }
}

/// The entry of one of our services in a status.
pub(super) fn service<'v>(status: &'v Value, name: &str) -> Option<&'v Value> {
    status["services"].as_array()?.iter().find(|service| service["name"] == name)
}

/// Whether an instance has failed for good, at this step, for the sake of this object.
pub(super) fn has_failed_at(status: &Value, step: &str, object: &str) -> bool {
    let failure = &status["last_failure"];
    status["state"] == "failed" && failure["step"] == step && failure["object"] == object
}

/// `state, step: object: reason` of an instance, for people.
pub(super) fn shown(status: &Value) -> String {
    let failure = &status["last_failure"];
    match failure.is_null() {
        true => format!("{}, pid {}", text(&status["state"]), status["pid"]),
        false => format!(
            "{}: {}: {}: {}",
            text(&status["state"]),
            text(&failure["step"]),
            text(&failure["object"]),
            text(&failure["reason"])
        ),
    }
}

/// A string of a status without its quotes.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn print_serial_end(board: &Board) {
    const SHOWN: usize = 40;
    let serial = board.serial();
    let lines: Vec<&str> = serial.lines().collect();
    eprintln!("--- the end of {}", board.serial_log().display());
    for line in &lines[lines.len().saturating_sub(SHOWN)..] {
        eprintln!("    {line}");
    }
}

fn qmp(error: QmpError) -> BrokenError {
    BrokenError::Board(BoardError::Qemu(QemuError::Qmp(error)))
}
