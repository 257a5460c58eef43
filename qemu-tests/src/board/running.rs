//! A board from its parts to its end: prepared once, booted as often as wanted, asked through its agent, powered off.

use crate::arch::Arch;
use crate::board::agent::{Agent, AgentError, Hello};
use crate::board::disk::{self, DataPartition, DiskContent, DiskError, Extent, Firmware, System};
use crate::board::efi_flash::{self, BootVariables};
use crate::board::failure::{BoardError, BuildError};
use crate::board::host_yado::HostYado;
use crate::board::ingredients::{self, Ingredients};
use crate::board::keys::Keys;
use crate::board::qemu::{self, Disk, OnReset, Qemu, QemuOptions, Speed};
use crate::board::spoilt_slot::Spoiling;
use crate::board::system_image::{self, Appliance};
use crate::board::volatile_disk::{Loss, VolatileDisk};
use crate::cache::Cache;
use qemu_guest::Ran;
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use yado_updater::boot_state::{BootState, Mark, Slot};

/// Everything that boards of one architecture share: fetched, built, signed.
#[derive(Debug)]
pub struct Prepared {
    /// What they are made of.
    pub ingredients: Ingredients,
    /// What is in their slot A.
    pub system: System,
    /// Who signed it, and who did not.
    pub keys: Keys,
}

/// What one board has of its own.
#[derive(Debug, Clone)]
pub struct BoardOptions {
    /// Its memory.
    pub memory_mib: u32,
    /// Its processors. A second one makes it no faster, and costs the machine below up to half as much again.
    pub processors: u32,
    /// How fast they are.
    pub speed: Speed,
    /// What starts its kernel.
    pub firmware: Firmware,
    /// What becomes of what it has written and not flushed when the power goes away.
    pub write_cache: WriteCache,
    /// What is in its two slots.
    pub slots: Slots,
    /// The size of its data partition.
    pub data_mib: u64,
    /// What is in it.
    pub data: DataPartition,
    /// Words for the end of the kernel's command line.
    pub kernel_arguments: String,
    /// Commands of U-Boot's that add to the devicetree.
    pub devicetree: String,
    /// The time that its clock chip begins with, as `2040-01-01T00:00:00`; `None`: today's.
    pub clock: Option<String>,
    /// Whether it has a watchdog, which resets it.
    pub has_watchdog: bool,
    /// What happens when it resets.
    pub on_reset: OnReset,
    /// Where its disk, its logs and its scratch files go; made if it is not there.
    pub directory: PathBuf,
}

impl BoardOptions {
    /// Those of a board with one processor that comes from the factory, and loses nothing.
    pub fn usual(directory: &Path, memory_mib: u32, data_mib: u64) -> BoardOptions {
        BoardOptions {
            memory_mib,
            processors: 1,
            speed: Speed::OfThisMachine,
            firmware: Firmware::UBoot,
            write_cache: WriteCache::Kept,
            slots: Slots::OnlyA,
            data_mib,
            data: DataPartition::Blank,
            kernel_arguments: String::new(),
            devicetree: String::new(),
            clock: None,
            has_watchdog: false,
            on_reset: OnReset::End,
            directory: directory.to_owned(),
        }
    }
}

/// What is in the two slots of a new board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slots {
    /// A system in A, and nothing in B: as it comes from the factory.
    OnlyA,
    /// A system in each: that in A was just installed and is on trial, that in B is known to be good.
    TrialOfA,
}

/// What becomes of what a board has written and not flushed when the power goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteCache {
    /// It stays: quicker, for boards whose power is not cut.
    Kept,
    /// It is lost, or torn, by chance.
    Volatile,
    /// It stays, and each write and flush is noted in a [`crate::board::write_log`].
    Logged,
}

/// A running board.
#[derive(Debug)]
pub struct Board {
    /// The emulator.
    pub qemu: Qemu,
    /// Hands and eyes inside.
    pub agent: Agent,
    options: BoardOptions,
    /// Its disk, where that may lose something.
    disk: Option<VolatileDisk>,
    // Last: the sockets in it are in use until the others are gone.
    sockets: tempfile::TempDir,
}

/// A command of ours on the board answers in well under a second, the emulator being busy in a few.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// So much of what was seen last is kept: some instances' status, and not a screen full of it.
const MAX_SHOWN: usize = 600;
/// How often a state is asked for while waiting for it.
const ASK_AGAIN: Duration = Duration::from_millis(200);

impl Prepared {
    /// Fetches and builds what is not in the cache yet, for a board with this appliance.
    pub fn new(cache: &Cache, arch: Arch, appliance: &Appliance) -> Result<Prepared, BuildError> {
        let ingredients = ingredients::gather(cache, arch)?;
        let yado = HostYado::build(cache)?;
        let keys = Keys::open(cache, &yado)?;
        let system = system_image::system(cache, &ingredients, &yado, &keys, appliance)?;
        Ok(Prepared { ingredients, system, keys })
    }

    /// The same with the kernel of bookworm's backports.
    pub fn with_newer_kernel(&self, cache: &Cache, appliance: &Appliance) -> Result<Prepared, BuildError> {
        let ingredients = self.ingredients.with_newer_kernel(cache)?;
        let system = system_image::system(cache, &ingredients, &HostYado::build(cache)?, &self.keys, appliance)?;
        Ok(Prepared { ingredients, system, keys: self.keys.clone() })
    }
}

impl Board {
    /// Makes the disk, starts the emulator, and returns at once: the board is still booting.
    pub fn power_on(prepared: &Prepared, options: BoardOptions) -> Result<Board, BoardError> {
        Board::assemble(prepared, &options)?;
        Board::power_on_again(prepared, options)
    }

    /// Makes the disk of a board that is not switched on yet.
    pub fn assemble(prepared: &Prepared, options: &BoardOptions) -> Result<(), BoardError> {
        let BoardOptions { firmware, slots, data_mib, data, kernel_arguments, devicetree, directory, .. } = options;
        let scratch = directory.join("parts");
        fs::create_dir_all(&scratch).map_err(|source| BoardError::Directory { path: scratch.clone(), source })?;
        let (b, state) = match slots {
            Slots::OnlyA => (None, BootState::factory(Some(Mark::Empty))),
            Slots::TrialOfA => {
                let state = BootState { trial: Some(Slot::A), ..BootState::factory(None) };
                (Some(prepared.system.clone()), state)
            }
        };
        let content = DiskContent {
            arch: prepared.ingredients.arch,
            firmware: firmware.clone(),
            a: prepared.system.clone(),
            b,
            state,
            kernel_arguments: kernel_arguments.clone(),
            devicetree: devicetree.clone(),
            data_mib: *data_mib,
            data: data.clone(),
        };
        let (disk, flash) = (disk_path(directory), flash_path(directory));
        disk::make(&disk, &content, &scratch).map_err(BoardError::Disk)?;
        match firmware {
            Firmware::UBoot => disk::make_flash(&flash, &scratch).map_err(BoardError::Disk),
            Firmware::Edk2(_) => {
                let partitions =
                    ["boot-a", "boot-b"].map(|name| disk::number(name).expect("one of the disk's table"));
                let made = efi_flash::make(&flash, &disk, partitions, &content.state, kernel_arguments);
                made.map_err(|source| BoardError::Flash { path: flash, source })
            }
        }
    }

    /// Spoils the system in slot A of a board that is off.
    pub fn spoil_slot_a(prepared: &Prepared, options: &BoardOptions, how: Spoiling) -> Result<(), BoardError> {
        let slot = disk::extent("slot-a", options.data_mib).expect("the name is one of the disk's table");
        let disk = disk_path(&options.directory);
        how.apply(&disk, slot, &prepared.keys).map_err(|source| BoardError::Spoil { path: disk, source })
    }

    /// Starts the emulator with the disk that an earlier board left in the same directory. Its serial log is replaced.
    pub fn power_on_again(prepared: &Prepared, options: BoardOptions) -> Result<Board, BoardError> {
        let BoardOptions {
            memory_mib,
            processors,
            speed,
            firmware,
            write_cache,
            clock,
            has_watchdog,
            on_reset,
            directory,
            ..
        } = &options;
        let sockets = tempfile::Builder::new()
            .prefix("yado-board-")
            .tempdir()
            .map_err(|source| BoardError::Directory { path: std::env::temp_dir(), source })?;
        let path = disk_path(directory);
        let (disk, volatile) = match write_cache {
            WriteCache::Kept => (Disk::File(path), None),
            WriteCache::Volatile => {
                let socket = sockets.path().join("disk");
                let served = VolatileDisk::serve(&path, &socket);
                (Disk::Nbd(socket), Some(served.map_err(|source| BoardError::Serve { path, source })?))
            }
            WriteCache::Logged => {
                let log = write_log_path(directory);
                File::create(&log).map_err(|source| BoardError::Serve { path: log.clone(), source })?;
                (Disk::Logged { file: path, log }, None)
            }
        };
        let qemu_options = QemuOptions {
            arch: prepared.ingredients.arch,
            memory_mib: *memory_mib,
            processors: *processors,
            speed: *speed,
            firmware: match firmware {
                Firmware::UBoot => prepared.ingredients.uboot.clone(),
                Firmware::Edk2(program) => program.clone(),
            },
            flash: flash_path(directory),
            disk,
            clock: clock.clone(),
            has_watchdog: *has_watchdog,
            on_reset: *on_reset,
            sockets: sockets.path().to_owned(),
            serial_log: serial_log(directory),
        };
        let qemu = Qemu::start(&qemu_options).map_err(BoardError::Qemu)?;
        let agent = Agent::connect(&qemu::agent_socket(sockets.path())).map_err(BoardError::Agent)?;
        Ok(Board { qemu, agent, options, disk: volatile, sockets })
    }

    /// As [`Board::power_on`], and waits until the agent on it speaks.
    pub fn boot(prepared: &Prepared, options: BoardOptions, timeout: Duration) -> Result<(Board, Hello), BoardError> {
        let board = Board::power_on(prepared, options)?;
        let hello = board.agent.hello(timeout).map_err(BoardError::Agent)?;
        Ok((board, hello))
    }

    /// Which board its agent says that it is, and how long it took until the agent spoke: now.
    pub fn introduced(&self, hello: &Hello) -> String {
        let seconds = self.qemu.started().elapsed().as_secs_f64();
        format!("{} {}, {seconds:.1} s after power on", hello.machine, hello.kernel)
    }

    /// Takes the power away: nothing on the board gets to know. What became of what was not flushed.
    pub fn cut_power(mut self, timeout: Duration) -> Result<Loss, BoardError> {
        // First the disk: the emulator flushes when it ends.
        let cut = |disk: &VolatileDisk| disk.cut(fastrand::u64(..));
        let loss = self.disk.as_ref().map(cut).transpose();
        let loss = loss.map_err(|source| BoardError::Serve { path: disk_path(&self.options.directory), source })?;
        self.qemu.quit(timeout).map_err(BoardError::Qemu)?;
        Ok(loss.unwrap_or_default())
    }

    /// Runs `yado` on the board and expects success.
    pub fn yado(&self, words: &[&str]) -> Result<String, BoardError> {
        let argv = [&["/usr/bin/yado"], words].concat();
        self.agent.output(&argv, COMMAND_TIMEOUT).map_err(BoardError::Agent)
    }

    /// Runs a shell script on the board that must succeed; what it printed.
    pub fn shell(&self, script: &str, timeout: Duration) -> Result<String, BoardError> {
        let said = self.agent.output(&["/bin/sh", "-c", script], timeout).map_err(BoardError::Agent)?;
        Ok(said.trim().to_owned())
    }

    /// Runs a command in an instance to its end, whatever that is.
    pub fn exec(&self, instance: &str, command: &[&str], timeout: Duration) -> Result<Ran, BoardError> {
        self.agent.run(&exec_argv(instance, command), timeout).map_err(BoardError::Agent)
    }

    /// Runs a command in an instance, expects success, and gives back what it printed.
    pub fn exec_output(&self, instance: &str, command: &[&str], timeout: Duration) -> Result<String, BoardError> {
        self.agent.output(&exec_argv(instance, command), timeout).map_err(BoardError::Agent)
    }

    /// The status of everything, as `yado rescue status --format json` tells it.
    pub fn status(&self) -> Result<Value, BoardError> {
        let said = self.yado(&["rescue", "status", "--format", "json"])?;
        serde_json::from_str(&said).map_err(|_| BoardError::NotJson { what: "yado rescue status".to_owned(), said })
    }

    /// All events that init still remembers, oldest first.
    pub fn events(&self) -> Result<Vec<Value>, BoardError> {
        let said = self.yado(&["rescue", "events", "--no-follow", "--format", "json"])?;
        let event = |line: &str| {
            serde_json::from_str(line)
                .map_err(|_| BoardError::NotJson { what: "yado rescue events".to_owned(), said: line.to_owned() })
        };
        said.lines().map(event).collect()
    }

    /// Asks for the status until `find` finds in it what is waited for.
    pub fn wait_status<T>(
        &self,
        waited_for: &str,
        timeout: Duration,
        find: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, BoardError> {
        self.wait_for(waited_for, timeout, || self.status(), find)
    }

    /// Asks for the events until `find` finds in them what is waited for.
    pub fn wait_event(
        &self,
        waited_for: &str,
        timeout: Duration,
        find: impl Fn(&Value) -> bool,
    ) -> Result<Value, BoardError> {
        let ask = || self.events().map(Value::Array);
        self.wait_for(waited_for, timeout, ask, |events| {
            events.as_array().into_iter().flatten().rfind(|event| find(event)).cloned()
        })
    }

    /// Asks until `find` finds what is waited for. A question that fails is asked again: init may not be there yet.
    pub fn wait_for<T>(
        &self,
        waited_for: &str,
        timeout: Duration,
        ask: impl Fn() -> Result<Value, BoardError>,
        find: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, BoardError> {
        let deadline = Instant::now() + timeout;
        loop {
            let last_seen = match ask() {
                Ok(value) => match find(&value) {
                    Some(found) => return Ok(found),
                    None => value.to_string(),
                },
                Err(error @ BoardError::Agent(AgentError::Closed { .. })) => return Err(error),
                Err(error) => error.to_string(),
            };
            if deadline <= Instant::now() {
                let last_seen = last_seen.chars().take(MAX_SHOWN).collect();
                return Err(BoardError::Deadline { waited_for: waited_for.to_owned(), last_seen });
            }
            std::thread::sleep(ASK_AGAIN);
        }
    }

    /// What the serial line said so far.
    pub fn serial(&self) -> String {
        let bytes = fs::read(self.serial_log()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where that is kept.
    pub fn serial_log(&self) -> PathBuf {
        serial_log(&self.options.directory)
    }

    /// The serial line, for somebody who wants to talk.
    pub fn serial_socket(&self) -> PathBuf {
        qemu::serial_socket(self.sockets.path())
    }

    /// What EDK II's flash says at this moment of what starts next.
    pub fn boot_variables(&self) -> Result<BootVariables, BoardError> {
        let path = flash_path(&self.options.directory);
        efi_flash::read(&path).map_err(|source| BoardError::Flash { path, source })
    }

    /// Its disk as the medium that it is, where that can lose something and be broken.
    pub fn medium(&self) -> Option<&VolatileDisk> {
        self.disk.as_ref()
    }

    /// Where a partition lies on its disk.
    pub fn extent(&self, partition: &str) -> Extent {
        disk::extent(partition, self.options.data_mib).expect("the name is one of the disk's table")
    }

    /// What stands at the beginning of a partition, by the file that is its disk: without what was not flushed yet.
    pub fn on_disk(&self, partition: &str, bytes: u64) -> Result<Vec<u8>, BoardError> {
        let path = disk_path(&self.options.directory);
        let mut read = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        let file = File::open(&path).and_then(|file| file.read_exact_at(&mut read, self.extent(partition).offset));
        file.map_err(|source| BoardError::Disk(DiskError::Io { path, source }))?;
        Ok(read)
    }

    /// Copies a partition of a board that is off into a file, and says where.
    pub fn partition(&self, name: &str) -> Result<PathBuf, BoardError> {
        let directory = &self.options.directory;
        let to = directory.join(format!("{name}.part"));
        disk::extract(&disk_path(directory), self.extent(name), &to).map_err(BoardError::Disk)?;
        Ok(to)
    }
}

/// Where the serial line of the board in this directory is kept.
pub fn serial_log(directory: &Path) -> PathBuf {
    directory.join("serial.log")
}

/// Where the writes of the board in this directory are noted, if they are.
pub fn write_log_path(directory: &Path) -> PathBuf {
    directory.join("writes.log")
}

/// The entry of one instance in a status.
pub fn instance<'v>(status: &'v Value, name: &str) -> Option<&'v Value> {
    status["instances"].as_array()?.iter().find(|instance| instance["name"] == name)
}

/// Removes the disk of a board that is off, what it was made of, and `more` files beside it; logs stay.
pub fn remove_disk(directory: &Path, more: &[&str]) {
    let disks = [disk_path(directory), flash_path(directory), write_log_path(directory), directory.join("data.part")];
    for path in disks.into_iter().chain(more.iter().map(|name| directory.join(name))) {
        // What cannot be removed is overwritten by the next run.
        let _ = fs::remove_file(path);
    }
    let _ = fs::remove_dir_all(directory.join("parts"));
}

/// Where the disk of the board in this directory is.
pub fn disk_path(directory: &Path) -> PathBuf {
    directory.join("disk.img")
}

/// Where the content of its second flash is.
pub fn flash_path(directory: &Path) -> PathBuf {
    directory.join("flash.img")
}

fn exec_argv<'a>(instance: &'a str, command: &[&'a str]) -> Vec<&'a str> {
    [&["/usr/bin/yado", "rescue", "exec", "--no-tty", instance, "--"], command].concat()
}
