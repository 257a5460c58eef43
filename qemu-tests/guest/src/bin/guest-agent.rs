//! The agent inside the board: reads calls from its virtio-serial port, does them, answers. It is started by init as a
//! service of the test system image, and exists in no product image.
//!
//! It decides nothing: what a step means, and whether it passed, is the host's business.

use qemu_guest::{Answer, Call, Ended, PORT_NAME, Presence, Ran, Reply, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often a path is looked at while waiting for it, and how often a port without a host is tried again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A program that ended may have left a child with its output open: this long we wait for the rest of it.
const OUTPUT_GRACE: Duration = Duration::from_millis(300);
/// More output than this is dropped, so that a runaway program does not take the board's memory.
const MAX_OUTPUT_BYTES: usize = 4 * 1024 * 1024;

fn main() -> ExitCode {
    let port = match open_port() {
        Ok(port) => Arc::new(port),
        Err(reason) => {
            eprintln!("guest-agent: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let write_lock = Arc::new(Mutex::new(()));
    let mut lines = BufReader::new(&*port);
    let mut line = String::new();
    loop {
        line.clear();
        match lines.read_line(&mut line) {
            // The port reads as ended while no host is connected to it.
            Ok(0) => thread::sleep(LOOK_AGAIN),
            Ok(_) => serve(&line, &port, &write_lock),
            Err(error) => {
                eprintln!("guest-agent: read {PORT_NAME}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
}

/// Opens the port whose name in sysfs is ours. The driver makes the name and the node a moment after the bus is up, so
/// this waits; init starts us again if it never comes.
fn open_port() -> Result<File, String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(node) = find_port() {
            return File::options()
                .read(true)
                .write(true)
                .open(&node)
                .map_err(|error| format!("open {}: {error}", node.display()));
        }
        if deadline <= Instant::now() {
            return Err(format!("no virtio-serial port named {PORT_NAME}"));
        }
        thread::sleep(LOOK_AGAIN);
    }
}

fn find_port() -> Option<PathBuf> {
    std::fs::read_dir("/sys/class/virtio-ports").ok()?.flatten().find_map(|entry| {
        let name = std::fs::read_to_string(entry.path().join("name")).ok()?;
        let node = Path::new("/dev").join(entry.file_name());
        (name.trim() == PORT_NAME && node.exists()).then_some(node)
    })
}

/// Starts work on one line; the answer follows when it is done, and later calls do not wait for it.
fn serve(line: &str, port: &Arc<File>, write_lock: &Arc<Mutex<()>>) {
    let Ok(call) = serde_json::from_str::<Call>(line) else {
        eprintln!("guest-agent: not a call: {line:?}");
        return;
    };
    let (port, write_lock) = (Arc::clone(port), Arc::clone(write_lock));
    thread::spawn(move || {
        let answer = Answer { id: call.id, reply: answer_to(call.request) };
        let Ok(mut bytes) = serde_json::to_vec(&answer) else { return };
        bytes.push(b'\n');
        let _one_at_a_time = locked(&write_lock);
        if let Err(error) = (&*port).write_all(&bytes) {
            eprintln!("guest-agent: write {PORT_NAME}: {error}");
        }
    });
}

fn answer_to(request: Request) -> Reply {
    match request {
        Request::Hello => hello(),
        Request::Run { argv, stdin, timeout_ms } => {
            run(&argv, stdin, Duration::from_millis(timeout_ms)).map_or_else(failed, Reply::Ran)
        }
        Request::ReadFile { path } => std::fs::read(&path)
            .map(|bytes| Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
            .unwrap_or_else(|error| failed(format!("read {path}: {error}"))),
        Request::WriteFile { path, text } => write_file(Path::new(&path), &text)
            .map(|()| Reply::Written)
            .unwrap_or_else(|error| failed(format!("write {path}: {error}"))),
        Request::WaitPath { path, wanted, timeout_ms } => {
            Reply::Seen(wait_path(Path::new(&path), wanted, Duration::from_millis(timeout_ms)))
        }
    }
}

fn failed(reason: String) -> Reply {
    Reply::Failed { reason }
}

fn hello() -> Reply {
    let names = rustix::system::uname();
    let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Reply::Hello {
        kernel: names.release().to_string_lossy().into_owned(),
        machine: names.machine().to_string_lossy().into_owned(),
        uptime_ms: u64::try_from(uptime.tv_sec).unwrap_or(0) * 1000
            + u64::try_from(uptime.tv_nsec).unwrap_or(0) / 1_000_000,
    }
}

fn write_file(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // One write, no truncation first: files of sysfs and configfs take their value in one call.
    std::fs::write(path, text)
}

fn wait_path(path: &Path, wanted: Presence, timeout: Duration) -> Presence {
    let deadline = Instant::now() + timeout;
    loop {
        let seen = if path.symlink_metadata().is_ok() { Presence::Present } else { Presence::Absent };
        if seen == wanted || deadline <= Instant::now() {
            return seen;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

fn run(argv: &[String], stdin: String, timeout: Duration) -> Result<Ran, String> {
    let (program, arguments) = argv.split_first().ok_or("run: empty argv")?;
    let began = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("run {program}: {error}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that does not read its input is no error.
        thread::spawn(move || pipe.write_all(stdin.as_bytes()));
    }
    let stdout = Gathered::from(child.stdout.take());
    let stderr = Gathered::from(child.stderr.take());
    let timed_out = wait_or_kill(&child, timeout).map_err(|error| format!("wait for {program}: {error}"))?;
    let status = child.wait().map_err(|error| format!("wait for {program}: {error}"))?;
    let ended = match (timed_out, status.code(), status.signal()) {
        (true, _, _) => Ended::TimedOut,
        (false, Some(code), _) => Ended::Code(code),
        (false, None, signal) => Ended::Signal(signal.unwrap_or(0)),
    };
    let wall_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Ran { ended, stdout: stdout.text(), stderr: stderr.text(), wall_ms })
}

/// Whether the child had to be killed.
fn wait_or_kill(child: &Child, timeout: Duration) -> rustix::io::Result<bool> {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return Err(rustix::io::Errno::INVAL);
    };
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Ok(0) => {
                pidfd_send_signal(&pidfd, Signal::KILL)?;
                return Ok(true);
            }
            Ok(_) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The output of a program, read as it comes so that it never waits for us.
struct Gathered {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Gathered {
    fn from<R: Read + Send + 'static>(pipe: Option<R>) -> Gathered {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let reader = pipe.map(|mut pipe| {
            thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                    let mut bytes = locked(&into);
                    let room = MAX_OUTPUT_BYTES.saturating_sub(bytes.len());
                    bytes.extend_from_slice(&chunk[..count.min(room)]);
                }
            })
        });
        Gathered { bytes, reader }
    }

    fn text(self) -> String {
        let deadline = Instant::now() + OUTPUT_GRACE;
        while self.reader.as_ref().is_some_and(|reader| !reader.is_finished()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        String::from_utf8_lossy(&locked(&self.bytes)).into_owned()
    }
}

/// A thread that panicked left nothing half done here that a reader could trip over.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
