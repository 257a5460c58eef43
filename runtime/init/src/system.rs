//! PID 1 of the running system: sets up what everything else needs. Each piece is independent, and none is fatal.

use crate::apparmor_profiles;
use crate::boot::parts::Part;
use crate::booted_slot;
use crate::hardware_watchdog::HardwareWatchdog;
use crate::instance::cgroup;
use crate::kernel_mounts;
use crate::kernel_settings;
use crate::log::{JOURNAL_SOCKET, Log, Priority};
use crate::memory_guard::guard::MemoryGuard;
use crate::open_file_limit;
use crate::paths::Paths;
use crate::supervisor::Supervisor;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use yado_sys::children::Session;
use yado_sys::{clock, code_pages, datagram, machine, reboot, scheduling};
use yado_wire::datagrams::DatagramSource;

/// When the processor is short, we, our services and whoever talks to us go before all instances together: the kernel's default
/// weight is 100 (cgroup-v2.rst, "cpu.weight"). Among instances it changes nothing.
const WEIGHT_OF_INSTANCES: &str = "25";

/// What starts on the console when the kernel's command line has `yado.rescue=1`.
const RESCUE_SHELL: &str = "/usr/lib/yado/rescue-shell";

/// Runs for ever. Not inlined: below the frame of all roles together its stack would begin that much deeper.
#[inline(never)]
pub(crate) fn run() -> ExitCode {
    let began = clock::since_boot();
    let mut problems = Vec::new();
    for mount in kernel_mounts::EARLY.iter().chain(&kernel_mounts::LATER) {
        if let Err(error) = mount.mount() {
            problems.push(error);
        }
    }
    // Only now is there a /dev/kmsg to tell it to.
    let mut log = Log::of_system();
    for problem in &problems {
        log.say(Priority::Error, format_args!("{problem}"));
    }
    open_file_limit::raise_limit(&mut log);
    if let Err(error) = scheduling::run_before_others() {
        log.say(Priority::Warning, format_args!("be scheduled before all others: {error}"));
    }
    if let Err(error) = code_pages::keep_touched() {
        log.say(Priority::Info, format_args!("keep our code in memory: {error}"));
    }
    prepare(&mut log);
    let paths = Paths::of_system();
    if let Some(parent) = paths.groups.parent() {
        cgroup::enable_controllers(parent);
        if let Err(error) = fs::create_dir_all(&paths.groups) {
            log.say(Priority::Error, format_args!("create {}: {error}", paths.groups.display()));
        }
        cgroup::enable_controllers(&paths.groups);
        cgroup::bound_all(&paths.groups);
        if let Err(error) = fs::write(paths.groups.join("cpu.weight"), WEIGHT_OF_INSTANCES) {
            log.say(Priority::Info, format_args!("cpu.weight of all instances: {error}"));
        }
    }
    match Supervisor::new(paths, log) {
        Ok(mut supervisor) => {
            supervisor.boot.begin_system(began);
            supervisor.reach(Part::System);
            supervisor.open_system_sockets();
            supervisor.memory_guard = MemoryGuard::open(&supervisor.paths.groups, &mut supervisor.log);
            supervisor.slot = booted_slot::read();
            supervisor.watchdog = HardwareWatchdog::arm(&mut supervisor.log);
            apparmor_profiles::load(&mut supervisor.log);
            start_rescue_shell(&mut supervisor.log);
            loop {
                let crate::supervisor::Finished = supervisor.run();
            }
        }
        // Without a signal descriptor nothing can be supervised: the next boot, or the other slot, may do better.
        Err(()) => {
            std::thread::sleep(Duration::from_secs(5));
            let _ = reboot::restart();
            ExitCode::FAILURE
        }
    }
}

fn prepare(log: &mut Log) {
    let _ = reboot::catch_ctrl_alt_del();
    kernel_settings::apply(machine::memory_bytes(), log);
    let name = fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name = if name.trim().is_empty() { "yadokari" } else { name.trim() };
    if let Err(error) = machine::set_host_name(name) {
        log.say(Priority::Warning, format_args!("set the host name {name}: {error}"));
    }
}

impl Supervisor {
    /// The sockets that only PID 1 listens on.
    fn open_system_sockets(&mut self) {
        for directory in ["/run/systemd/journal", "/run/yado"] {
            let _ = fs::create_dir_all(directory);
        }
        let log = &mut self.log;
        let mut bind = |path: &str| {
            datagram::bind(Path::new(path), 0o666)
                .map_err(|error| log.say(Priority::Error, format_args!("listen on {path}: {error}")))
                .ok()
        };
        for (source, socket) in
            [(DatagramSource::Journal, bind(JOURNAL_SOCKET)), (DatagramSource::Syslog, bind("/dev/log"))]
        {
            if let Some(socket) = socket {
                self.reader.watch(source, socket, self.close_queue.discarded());
            }
        }
    }
}

/// A shell for whoever sits at the console, if the image has one and the kernel's command line asks for it. It is not
/// started again.
fn start_rescue_shell(log: &mut Log) {
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let path = Path::new(RESCUE_SHELL);
    if !command_line.split_whitespace().any(|word| word == "yado.rescue=1") || !path.exists() {
        return;
    }
    let started = File::options().read(true).write(true).open("/dev/console").and_then(|console| {
        crate::process::Start {
            path,
            arguments: &[OsStr::new(RESCUE_SHELL)],
            environment: &["TERM=vt100".to_owned(), "HOME=/run".to_owned()],
            descriptors: &[(console.as_fd(), 0), (console.as_fd(), 1), (console.as_fd(), 2)],
            group: None,
            session: Session::OwnWithTerminal,
        }
        .start()
    });
    if let Err(error) = started {
        log.say(Priority::Error, format_args!("start {RESCUE_SHELL}: {error}"));
    }
}
