//! The board on the roof: it stays on one disk, is reached by its agent, and restarts when it likes.

use super::StepError;
use super::any_write::Noted;
use super::releases::Releases;
use super::web_server::WebServer;
use crate::board::disk::copy_sparse;
use crate::board::outside::ADDRESS;
use crate::board::qemu::OnReset;
use crate::board::qmp::{QmpError, UsbStick};
use crate::board::volatile_disk::Loss;
use crate::board::{Board, BoardError, BoardOptions, BuildError, Firmware, WriteCache, disk_path, instance};
use crate::length::Length;
use qemu_guest::Ended;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a board may take until its agent speaks; a loaded machine needs many times the usual 5 to 10 s.
pub(super) const BOOT_TIMEOUT: Duration = Duration::from_secs(240);
/// How long anything on a board may take, on a machine that has other things to do.
pub(super) const TIMEOUT: Duration = Duration::from_secs(120);
/// An install writes tens of megabytes, and hashes them on a processor that is emulated.
pub(super) const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);
/// The emulator ends at once when it is told to.
const QUIT_TIMEOUT: Duration = Duration::from_secs(30);
/// What the emulator has told already is there at once.
const FORGET: Duration = Duration::from_millis(50);
/// Between looks at a board that may reset at any time.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A board that ends in order takes less until it resets.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(60);
/// What `yado update` said that was begun last, and with which code it ended.
const UPDATE_LOG: &str = "/run/update.log";
/// So much of a serial log is shown where it did not say what was waited for; all of it is kept.
const MAX_SHOWN_LINES: usize = 5;
/// A board that is up answers sooner.
const ANSWER: Duration = Duration::from_millis(600);
/// Asks how far an update is.
const STATUS: [&str; 5] = ["/usr/bin/yado", "update", "status", "--format", "json"];
const MEMORY_MIB: u32 = 256;
pub(super) const DATA_MIB: u64 = 64;

/// The board, and the server it is updated from.
#[derive(Debug)]
pub(super) struct Roof<'a> {
    pub(super) releases: &'a Releases,
    pub(super) server: Arc<WebServer>,
    pub(super) directory: PathBuf,
    firmware: Firmware,
    board: Option<Board>,
    /// Of a board whose power is cut.
    options: Option<BoardOptions>,
    /// How long a run may take.
    pub(super) length: Length,
    /// What another board wrote while it was updated.
    pub(super) noted: Option<Noted>,
    /// So much of the serial log was looked at by earlier steps.
    seen: usize,
}

impl<'a> Roof<'a> {
    /// The server runs, the board is off.
    pub(super) fn new(
        releases: &'a Releases,
        firmware: Firmware,
        directory: &Path,
        length: Length,
    ) -> Result<Roof<'a>, BuildError> {
        let server = Arc::new(WebServer::start(&releases.root, &directory.join("web"))?);
        let directory = directory.to_owned();
        Ok(Roof { releases, server, directory, firmware, board: None, options: None, length, noted: None, seen: 0 })
    }

    /// Another board that is off, beside this one and with the same server. Its disk and its flash are in the directory.
    pub(super) fn beside(&self, directory: &Path) -> Roof<'a> {
        let usual = BoardOptions::usual(directory, MEMORY_MIB, DATA_MIB);
        Roof {
            releases: self.releases,
            server: Arc::clone(&self.server),
            directory: directory.to_owned(),
            firmware: self.firmware.clone(),
            board: None,
            options: Some(BoardOptions { on_reset: OnReset::BootAgain, ..usual }),
            length: self.length,
            noted: None,
            seen: 0,
        }
    }

    /// Switches on the board as the factory made it; says how long it took until its agent spoke.
    pub(super) fn switch_on(&mut self) -> Result<String, StepError> {
        let usual = BoardOptions::usual(&self.directory, MEMORY_MIB, DATA_MIB);
        let firmware = self.firmware.clone();
        let options = BoardOptions { firmware, on_reset: OnReset::BootAgain, has_watchdog: true, ..usual };
        let (board, hello) = Board::boot(&self.releases.prepared, options, BOOT_TIMEOUT)?;
        let said = board.introduced(&hello);
        self.board = Some(board);
        Ok(said)
    }

    /// Switches on another board as the factory made it, with a disk that loses what was not flushed when the power goes away.
    pub(super) fn switch_on_volatile(&mut self) -> Result<String, StepError> {
        self.board = None;
        let usual = BoardOptions::usual(&self.directory.join("volatile"), MEMORY_MIB, DATA_MIB);
        let options = BoardOptions { on_reset: OnReset::BootAgain, write_cache: WriteCache::Volatile, ..usual };
        self.seen = 0;
        let (board, hello) = Board::boot(&self.releases.prepared, options.clone(), BOOT_TIMEOUT)?;
        let said = board.introduced(&hello);
        (self.board, self.options) = (Some(board), Some(options));
        Ok(said)
    }

    /// Switches on another board as the factory made it, whose writes are noted. A copy of its disk as it was before is made at
    /// `begin`.
    pub(super) fn switch_on_logged(&mut self, directory: &Path, begin: &Path) -> Result<(), StepError> {
        self.board = None;
        let usual = BoardOptions::usual(directory, MEMORY_MIB, DATA_MIB);
        let options = BoardOptions { on_reset: OnReset::BootAgain, write_cache: WriteCache::Logged, ..usual };
        Board::assemble(&self.releases.prepared, &options)?;
        copy_sparse(&disk_path(directory), begin).map_err(BuildError::io(begin))?;
        self.options = Some(options);
        self.switch_on_again()
    }

    /// Takes the power away.
    pub(super) fn cut_power(&mut self) -> Result<Loss, StepError> {
        let board = self.board.take().ok_or(StepError::Off)?;
        Ok(board.cut_power(QUIT_TIMEOUT)?)
    }

    /// Gives the power back, and waits until a system is up.
    pub(super) fn switch_on_again(&mut self) -> Result<(), StepError> {
        let options = self.options.clone().ok_or(StepError::Off)?;
        self.seen = 0;
        let board = Board::power_on_again(&self.releases.prepared, options)?;
        board.agent.hello(BOOT_TIMEOUT)?;
        self.board = Some(board);
        Ok(())
    }

    /// What the board says that it is at, if it says so at once; or else how far it has come up.
    pub(super) fn at_work(&self) -> Result<String, StepError> {
        if let Some(status) = self.status_within(ANSWER)? {
            let stage = status["work"]["stage"].as_str().map_or_else(String::new, |stage| format!(", {stage}"));
            return Ok(format!("{}{stage}", status["phase"].as_str().unwrap_or("not known")));
        }
        let serial = self.board()?.serial();
        let since = serial.rfind("U-Boot 20").map_or(serial.as_str(), |at| &serial[at..]);
        let is_booted = since.contains("boot: slot ") && !since.contains("Restarting system");
        Ok(if is_booted { "kernel and init start" } else { "the machine restarts" }.to_owned())
    }

    /// Whether a slot is armed or on trial, and has no tries left after this boot.
    pub(super) fn is_on_last_try(&self) -> bool {
        let status = self.status_now();
        let is_tried = status["phase"] == "armed" || status["phase"] == "trial";
        let slots = status["slots"].as_array().map(Vec::as_slice).unwrap_or_default();
        is_tried && slots.iter().any(|slot| slot["tries_left"] == 0)
    }

    /// What `yado update status` says.
    pub(super) fn update_status(&self) -> Result<Value, StepError> {
        Ok(update_status(self.board()?)?)
    }

    /// The same, if anybody can tell.
    pub(super) fn status_now(&self) -> Value {
        self.update_status().unwrap_or_default()
    }

    /// The same, if the board says it so soon.
    fn status_within(&self, time: Duration) -> Result<Option<Value>, StepError> {
        let asked = self.board()?.agent.start_run(&STATUS, "", time)?;
        Ok(asked.ran_within(time).and_then(|ran| serde_json::from_str(ran.stdout.trim()).ok()))
    }

    /// The board that is on.
    pub(super) fn board(&self) -> Result<&Board, StepError> {
        self.board.as_ref().ok_or(StepError::Off)
    }

    /// The board, if it is on.
    pub(super) fn board_if_on(&self) -> Option<&Board> {
        self.board.as_ref()
    }

    /// Where a release is, as the board's user writes it.
    pub(super) fn address_of(&self, release: &str) -> String {
        format!("http://{ADDRESS}:{}/{release}/", self.server.port())
    }

    /// Runs `yado update …` on the board to its end, whatever that is: what it said and its exit code.
    pub(super) fn update(&self, words: &[&str], timeout: Duration) -> Result<(String, Ended), StepError> {
        let argv = [&["/usr/bin/yado", "update"], words].concat();
        let ran = self.board()?.agent.run(&argv, timeout)?;
        Ok((format!("{}{}", ran.stdout, ran.stderr), ran.ended))
    }

    /// Begins `yado update install` of a release and does not wait for its end.
    pub(super) fn begin_install(&mut self, release: &str) -> Result<(), StepError> {
        self.begin(&format!("install {}", self.address_of(release)))
    }

    /// Begins what the words of `yado update` say, and does not wait for its end.
    pub(super) fn begin(&mut self, words: &str) -> Result<(), StepError> {
        self.forget_resets()?;
        let script = format!("{{ yado update {words}; echo ended: $?; }} > {UPDATE_LOG} 2>&1 &");
        self.board()?.shell(&script, TIMEOUT)?;
        Ok(())
    }

    /// Waits until what was begun last has ended, and gives back what it said.
    pub(super) fn wait_update_end(&self) -> Result<String, StepError> {
        let board = self.board()?;
        let ask = || Ok(Value::String(board.shell(&format!("cat {UPDATE_LOG}"), TIMEOUT)?));
        let end = |said: &Value| said.as_str().filter(|said| said.contains("ended: ")).map(str::to_owned);
        Ok(board.wait_for("an update that has ended", INSTALL_TIMEOUT, ask, end)?)
    }

    /// What somebody asked for earlier has ended, well or not: the board does what it does by itself.
    pub(super) fn forget_update(&self) -> Result<(), StepError> {
        self.board()?.shell(&format!("rm -f {UPDATE_LOG}"), TIMEOUT)?;
        Ok(())
    }

    /// Plugs a stick in: what the board does then, it does by itself.
    pub(super) fn plug(&mut self, stick: &UsbStick) -> Result<(), StepError> {
        self.forget_resets()?;
        self.forget_update()?;
        let board = self.board.as_mut().ok_or(StepError::Off)?;
        Ok(board.qemu.qmp.plug(stick)?)
    }

    /// Pulls it out.
    pub(super) fn unplug(&mut self, stick: &UsbStick) -> Result<(), StepError> {
        let board = self.board.as_mut().ok_or(StepError::Off)?;
        Ok(board.qemu.qmp.unplug(stick)?)
    }

    /// Resets of before are not taken for those that follow.
    pub(super) fn forget_resets(&mut self) -> Result<(), StepError> {
        let board = self.board.as_mut().ok_or(StepError::Off)?;
        while board.qemu.qmp.wait_event("RESET", FORGET).is_ok() {}
        Ok(())
    }

    /// Waits for the board's next reset and, where a system comes up, for its agent. What boot loader and kernel said since the
    /// last time that was asked.
    pub(super) fn wait_boot(&mut self, timeout: Duration) -> Result<String, StepError> {
        self.wait_up(timeout)?;
        self.serial_since()
    }

    /// Waits for the board's next reset, and for the agent of the system that comes up.
    pub(super) fn wait_up(&mut self, timeout: Duration) -> Result<(), StepError> {
        self.wait_reset(timeout)?;
        self.board()?.agent.hello(BOOT_TIMEOUT)?;
        Ok(())
    }

    /// Waits for the board's next reset. An update that fails instead is told at once, in its own words.
    fn wait_reset(&mut self, timeout: Duration) -> Result<(), StepError> {
        let board = self.board.as_mut().ok_or(StepError::Off)?;
        let mut deadline = Instant::now() + timeout;
        let mut failed: Option<String> = None;
        loop {
            match board.qemu.qmp.wait_event("RESET", LOOK_AGAIN) {
                Ok(_) => return Ok(()),
                Err(QmpError::Deadline { .. }) if Instant::now() < deadline => {}
                Err(error) => return Err(failed.map_or_else(|| error.into(), StepError::UpdateFailed)),
            }
            if failed.is_none() {
                // While it shuts down nobody answers.
                let said = board.agent.run(&["/bin/cat", UPDATE_LOG], LOOK_AGAIN).map(|ran| ran.stdout);
                failed = said.ok().filter(|said| said.contains("ended: ") && !said.contains("ended: 0"));
                if failed.is_some() {
                    deadline = deadline.min(Instant::now() + SHUTDOWN_TIMEOUT);
                }
            }
        }
    }

    /// Waits until the board has been reset, and the serial line has said what it should since the last time that was asked: then for
    /// the agent of the system that comes up.
    pub(super) fn wait_said(
        &mut self,
        what: &str,
        timeout: Duration,
        is_so: impl Fn(&str) -> bool,
    ) -> Result<String, StepError> {
        let deadline = Instant::now() + timeout;
        self.wait_reset(timeout)?;
        while !is_so(self.board()?.serial().get(self.seen..).unwrap_or_default()) {
            if deadline <= Instant::now() {
                let serial = self.serial_since()?;
                let last_seen = serial.lines().rev().take(MAX_SHOWN_LINES).collect::<Vec<_>>();
                let last_seen = last_seen.into_iter().rev().collect::<Vec<_>>().join("\n");
                return Err(BoardError::Deadline { waited_for: what.to_owned(), last_seen }.into());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        self.board()?.agent.hello(BOOT_TIMEOUT)?;
        self.serial_since()
    }

    /// What was said on the serial line since the last time that was asked.
    pub(super) fn serial_since(&mut self) -> Result<String, StepError> {
        let serial = self.board()?.serial();
        let new = serial.get(self.seen..).unwrap_or_default().to_owned();
        self.seen = serial.len();
        Ok(new)
    }

    /// Waits until `yado update status` is as it should be.
    pub(super) fn wait_status(
        &self,
        what: &str,
        timeout: Duration,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<Value, StepError> {
        let board = self.board()?;
        Ok(board.wait_for(what, timeout, || update_status(board), |status| is_so(status).then(|| status.clone()))?)
    }

    /// Waits until this release is confirmed, however often the board restarts before.
    pub(super) fn wait_confirmed(&self, release: u64) -> Result<Value, StepError> {
        self.wait_status(&format!("release {release} that is confirmed"), INSTALL_TIMEOUT, |status| {
            status["phase"] == "idle" && status["release"] == release
        })
    }

    /// Runs a script in an instance; what it printed.
    pub(super) fn inside(&self, name: &str, script: &str) -> Result<String, StepError> {
        let said = self.board()?.exec_output(name, &["sh", "-c", script], TIMEOUT)?;
        Ok(said.trim().to_owned())
    }

    /// The kernel's name of a partition of the board's disk.
    pub(super) fn device_of(&self, partition: &str) -> Result<String, StepError> {
        let script = format!("cd /sys/class/block; grep -l '^PARTNAME={partition}$' vda*/uevent");
        Ok(self.board()?.shell(&script, TIMEOUT)?.trim_end_matches("/uevent").to_owned())
    }

    /// The slot that the kernel was told, and the release that is written in the image it runs from.
    pub(super) fn running(&self) -> Result<String, StepError> {
        let script = "tr ' ' '\\n' < /proc/cmdline | sed -n 's/^yado.slot=//p'; cat /usr/lib/yado/appliance/release";
        Ok(self.board()?.shell(script, TIMEOUT)?.replace('\n', " "))
    }

    /// Waits until a system has come up whose kernel was given this word, however often the board resets before.
    pub(super) fn wait_boot_of(&mut self, word: &str, timeout: Duration) -> Result<(), StepError> {
        let deadline = Instant::now() + timeout;
        self.wait_reset(timeout)?;
        let board = self.board()?;
        loop {
            let said = board.agent.hello(LOOK_AGAIN).and_then(|_| board.agent.read_file("/proc/cmdline"));
            match said {
                Ok(command_line) if command_line.split_whitespace().any(|found| found == word) => return Ok(()),
                // Another system is up, or none yet.
                Ok(_) => std::thread::sleep(LOOK_AGAIN),
                Err(error) if deadline <= Instant::now() => return Err(error.into()),
                Err(_) => {}
            }
        }
    }

    /// Waits until an instance is ready.
    pub(super) fn wait_ready(&self, name: &str, timeout: Duration) -> Result<Value, StepError> {
        let found = self.board()?.wait_status(&format!("{name} that is ready"), timeout, |status| {
            instance(status, name).filter(|status| status["state"] == "ready").cloned()
        })?;
        Ok(found)
    }

    /// Waits for what `yado update history` says of the last update to a release.
    pub(super) fn wait_history(&self, release: u64) -> Result<Value, StepError> {
        let board = self.board()?;
        let ask = || {
            let said = board.yado(&["update", "history", "--format", "json"])?;
            Ok(serde_json::from_str(said.trim()).unwrap_or(Value::String(said)))
        };
        let last = |history: &Value| {
            let mut entries = history.as_array().into_iter().flatten();
            entries.rfind(|entry| entry["release"]["number"] == release).cloned()
        };
        Ok(board.wait_for(&format!("release {release} in the history"), INSTALL_TIMEOUT, ask, last)?)
    }
}

/// What `yado update status` says; what is no JSON as a text.
fn update_status(board: &Board) -> Result<Value, BoardError> {
    let said = board.yado(&STATUS[1..])?;
    Ok(serde_json::from_str(said.trim()).unwrap_or(Value::String(said)))
}
