//! One QEMU process: its command line, its sockets, its end. It never outlives the value that stands for it.
//!
//! The serial line is a socket with a log file beside it, so every byte is kept whether or not anybody looks; QMP and the
//! agent have a socket each. What the board boots is on its disk: the boot loader comes from the board's flash, as on a real one.

use crate::arch::Arch;
use crate::board::qmp::{Qmp, QmpError};
use crate::board::write_log::SECTOR_BYTES;
use qemu_guest::PORT_NAME;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// QEMU makes its sockets in milliseconds; a loaded machine gets a hundred times that.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a socket or the process is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What a board is made of.
#[derive(Debug, Clone)]
pub struct QemuOptions {
    /// Its processor.
    pub arch: Arch,
    /// Its memory.
    pub memory_mib: u32,
    /// Its processors.
    pub processors: u32,
    /// How fast they are.
    pub speed: Speed,
    /// U-Boot or EDK II, in the first flash.
    pub firmware: PathBuf,
    /// What it keeps, in the second flash: an image of exactly [`FLASH_BYTES`].
    pub flash: PathBuf,
    /// Its one disk.
    pub disk: Disk,
    /// The time that its clock chip begins with, as `2040-01-01T00:00:00`; `None`: today's.
    pub clock: Option<String>,
    /// Whether it has a watchdog, which resets it.
    pub has_watchdog: bool,
    /// What happens when the board resets.
    pub on_reset: OnReset,
    /// Where sockets and logs go: an existing directory with a short path (a socket's may have 107 bytes).
    pub sockets: PathBuf,
    /// The log of the serial line.
    pub serial_log: PathBuf,
}

/// Where the content of the board's disk is.
#[derive(Debug, Clone)]
pub enum Disk {
    /// In this file, raw. The machine below writes it when it likes: whatever the board has written stays, flushed or not.
    File(PathBuf),
    /// At a server of NBD's on this socket.
    Nbd(PathBuf),
    /// In this file, raw, and each write and flush of the board noted in another one.
    Logged {
        /// The content.
        file: PathBuf,
        /// The [`crate::board::write_log`]; it is there, and empty.
        log: PathBuf,
    },
}

/// How fast the board's processors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// As fast as this machine emulates them at the moment.
    OfThisMachine,
    /// 500 million instructions per second of the board's own clock, whatever this machine is doing: slower than a Cortex-A7 with
    /// 900 MHz. Times on the board can then be judged. For one processor only.
    Defined,
}

/// What happens when the board resets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReset {
    /// QEMU ends: a panic is seen at once.
    End,
    /// The board boots again, as a real one does.
    BootAgain,
}

/// The size of each flash of `-M virt`.
pub const FLASH_BYTES: u64 = 64 * 1024 * 1024;

/// A running QEMU.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    /// Its machine protocol.
    pub qmp: Qmp,
    started: Instant,
    stderr_log: PathBuf,
}

/// Why QEMU did not start or did not end.
#[derive(Debug)]
pub enum QemuError {
    /// The program could not be started, or waited for.
    Process {
        /// Which program.
        program: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// It ended by itself where it should have run.
    Ended {
        /// How.
        status: ExitStatus,
        /// What it said on its standard error.
        said: String,
    },
    /// It was still running at the deadline.
    StillRunning {
        /// How long we waited.
        waited: Duration,
    },
    /// Its machine protocol failed.
    Qmp(QmpError),
}

impl Qemu {
    /// Starts a board; returns when QMP answers.
    pub fn start(options: &QemuOptions) -> Result<Qemu, QemuError> {
        let program = options.arch.qemu_system();
        let said = |source| QemuError::Process { program, source };
        let stderr_log = options.sockets.join("qemu.stderr");
        let stderr = File::create(&stderr_log).map_err(said)?;
        // setpriv(1) has the kernel end QEMU when we are killed without a chance to do it ourselves.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", program])
            .args(arguments(options))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(said)?;
        let started = Instant::now();
        match connect(&mut child, &options.sockets.join("qmp"), &stderr_log) {
            Ok(qmp) => Ok(Qemu { child, qmp, started, stderr_log }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Whether it ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it at once: for the board the power goes away.
    pub fn quit(&mut self, timeout: Duration) -> Result<(), QemuError> {
        self.qmp.execute("quit", serde_json::json!({})).map_err(QemuError::Qmp)?;
        self.wait_end(timeout)
    }

    /// Waits until the board has powered itself off.
    pub fn wait_end(&mut self, timeout: Duration) -> Result<(), QemuError> {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            match self.ended() {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(QemuError::Ended { status, said: read_lossy(&self.stderr_log) }),
                None => std::thread::sleep(LOOK_AGAIN),
            }
        }
        Err(QemuError::StillRunning { waited: timeout })
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Already ended is fine; there is nobody to tell otherwise.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the agent's socket of a board is.
pub fn agent_socket(sockets: &Path) -> PathBuf {
    sockets.join("agent")
}

/// Where the serial line's socket of a board is.
pub fn serial_socket(sockets: &Path) -> PathBuf {
    sockets.join("serial")
}

fn connect(child: &mut Child, socket: &Path, stderr_log: &Path) -> Result<Qmp, QemuError> {
    let deadline = Instant::now() + SOCKET_TIMEOUT;
    loop {
        let refused = match Qmp::connect(socket) {
            Ok(qmp) => return Ok(qmp),
            Err(error) => error,
        };
        if let Ok(Some(status)) = child.try_wait() {
            return Err(QemuError::Ended { status, said: read_lossy(stderr_log) });
        }
        if deadline <= Instant::now() {
            return Err(QemuError::Qmp(refused));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn arguments(options: &QemuOptions) -> Vec<String> {
    let QemuOptions {
        arch,
        memory_mib,
        processors,
        speed,
        firmware,
        flash,
        disk,
        clock,
        has_watchdog,
        on_reset,
        sockets,
        serial_log,
    } = options;
    let socket = |name: &str| format!("socket,id={name},path={},server=on,wait=off", escaped(&sockets.join(name)));
    let mut words: Vec<String> = Vec::new();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    add("-machine", arch.qemu_machine().to_owned());
    add("-cpu", arch.qemu_cpu().to_owned());
    add("-smp", processors.to_string());
    if *speed == Speed::Defined {
        // Each instruction takes 2^1 ns. An idle processor waits in real time: what comes from outside is not late.
        add("-icount", "shift=1,sleep=on".to_owned());
    }
    add("-m", format!("{memory_mib}M"));
    add("-display", "none".to_owned());
    add("-bios", firmware.display().to_string());
    add("-drive", format!("if=pflash,unit=1,format=raw,file={}", escaped(flash)));
    match disk {
        Disk::File(file) => add("-drive", format!("if=none,id=disk,format=raw,cache=unsafe,file={}", escaped(file))),
        // With a write cache, that the board has to flush.
        Disk::Nbd(socket) => {
            add(
                "-drive",
                format!(
                    "if=none,id=disk,format=raw,cache=writeback,file.driver=nbd,file.server.type=unix,file.server.path={}",
                    escaped(socket)
                ),
            );
        }
        Disk::Logged { file, log } => {
            for (name, path) in [("content", file), ("log", log)] {
                add(
                    "-blockdev",
                    format!("driver=file,node-name={name},cache.no-flush=on,filename={}", escaped(path)),
                );
            }
            let noted = format!("log-sector-size={SECTOR_BYTES},log-super-update-interval=1");
            add("-blockdev", format!("driver=blklogwrites,node-name=disk,file=content,log=log,{noted}"));
        }
    }
    add("-device", "virtio-blk-pci,drive=disk".to_owned());
    // Without its ROM: Debian's QEMU does not bring ipxe, and no boot loader here wants it.
    add("-netdev", "user,id=uplink".to_owned());
    add("-device", "virtio-net-pci,netdev=uplink,romfile=".to_owned());
    add("-device", "qemu-xhci,id=xhci".to_owned());
    add("-device", "virtio-rng-pci".to_owned());
    if *has_watchdog {
        // On the PCI bus: the boards' own processors bring none. It goes on counting when this machine has no time for the board.
        add("-device", "i6300esb".to_owned());
        add("-action", "watchdog=reset".to_owned());
    }
    add("-chardev", format!("{},logfile={}", socket("serial"), escaped(serial_log)));
    add("-serial", "chardev:serial".to_owned());
    add("-chardev", socket("agent"));
    add("-device", "virtio-serial-pci".to_owned());
    add("-device", format!("virtserialport,chardev=agent,name={PORT_NAME}"));
    add("-chardev", socket("qmp"));
    add("-mon", "chardev=qmp,mode=control".to_owned());
    if let Some(clock) = clock {
        add("-rtc", format!("base={clock}"));
    }
    words.push("-nodefaults".to_owned());
    if *on_reset == OnReset::End {
        words.push("-no-reboot".to_owned());
    }
    words
}

/// A comma in an option's value is written twice.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

fn read_lossy(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()).unwrap_or_default()
}

impl fmt::Display for QemuError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QemuError::Process { program, source } => write!(out, "start {program}: {source}"),
            QemuError::Ended { status, said } => write!(out, "qemu ended by itself: {status}: {said}"),
            QemuError::StillRunning { waited } => {
                write!(out, "the board is still running after {} s", waited.as_secs())
            }
            QemuError::Qmp(error) => write!(out, "{error}"),
        }
    }
}

impl std::error::Error for QemuError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(on_reset: OnReset) -> QemuOptions {
        QemuOptions {
            arch: Arch::Armhf,
            memory_mib: 128,
            processors: 1,
            speed: Speed::OfThisMachine,
            firmware: "/u,boot.bin".into(),
            flash: "/env".into(),
            disk: Disk::File("/a,b".into()),
            clock: None,
            has_watchdog: false,
            on_reset,
            sockets: "/s".into(),
            serial_log: "/log".into(),
        }
    }

    #[test]
    fn a_board_that_must_not_come_back_is_started_so() {
        assert!(arguments(&options(OnReset::End)).contains(&"-no-reboot".to_owned()));
        assert!(!arguments(&options(OnReset::BootAgain)).contains(&"-no-reboot".to_owned()));
    }

    #[test]
    fn a_comma_in_a_path_does_not_start_another_option() {
        let words = arguments(&options(OnReset::End));
        assert!(words.iter().any(|word| word.ends_with("file=/a,,b")), "{words:?}");
    }
}
