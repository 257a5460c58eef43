//! The kernel's own doors: code into it, its memory, its settings, its clock, other processes, and what it shares out by
//! number.

use super::{Attempt, Expected, Outcome, Watched};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags};
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use yado_sys::hostile;

pub(super) const ATTEMPTS: &[Attempt] = &[
    door("kexec", "another kernel is loaded", kexec),
    door("kexec-file", "another kernel is loaded from a file", kexec_file),
    door("module-init", "a module is loaded", init_module),
    door("module-file", "a module is loaded from a file", finit_module),
    door("module-delete", "a module is unloaded", delete_module),
    door("bpf", "an eBPF map is made", bpf),
    door("perf", "a whole processor is observed", perf),
    door("open-by-handle", "a file is opened by its number", by_handle),
    door("swapon", "a file becomes swap space", swap),
    door("acct", "every process's end is written down", accounting),
    door("set-clock", "the machine's clock is set", clock),
    door("syslog", "the kernel's log is read", kernel_log),
    door("fanotify", "everybody's opening of files is held up", fanotify),
    door("sysctls", "settings of the whole machine are written", settings),
    door("kcore", "the kernel's memory is read", kernel_memory),
    door("sysrq", "/proc/sysrq-trigger is written", sysrq),
    door("power", "/sys/power and what else changes the machine is written", power),
    door("pidfd-outside", "a process outside is addressed", pidfds),
    door("socket-outside", "our control sockets are connected to", sockets),
    door("root-outside", "the roots of other processes are looked into", roots),
];

const fn door(name: &'static str, what: &'static str, run: fn() -> Outcome) -> Attempt {
    Attempt { name, what, run, watched: Watched::Inside, expected: Expected::Held }
}

fn kexec() -> Outcome {
    Outcome::of(hostile::kexec_load(), "granted")
}

fn kexec_file() -> Outcome {
    Outcome::of(hostile::kexec_file_load(), "granted")
}

fn init_module() -> Outcome {
    // ENOEXEC would say that the image was looked at.
    Outcome::of(hostile::init_module(), "granted")
}

fn finit_module() -> Outcome {
    Outcome::of(File::open("/proc/self/exe").and_then(|file| hostile::finit_module(&file)), "granted")
}

fn delete_module() -> Outcome {
    Outcome::of(hostile::delete_module(c"nls_utf8"), "granted")
}

fn bpf() -> Outcome {
    Outcome::of(hostile::bpf_map(), "a map was made")
}

fn perf() -> Outcome {
    Outcome::of(hostile::perf_whole_processor(), "observed")
}

fn by_handle() -> Outcome {
    Outcome::of(File::open("/").and_then(|root| hostile::open_by_handle(&root)), "opened")
}

fn swap() -> Outcome {
    const FILE: &CStr = c"/tmp/attack-swap";
    Outcome::of(fs::write("/tmp/attack-swap", [0; 4096]).and_then(|()| hostile::swapon(FILE)), "used")
}

fn accounting() -> Outcome {
    Outcome::of(fs::write("/tmp/attack-acct", "").and_then(|()| hostile::acct(c"/tmp/attack-acct")), "written")
}

fn clock() -> Outcome {
    Outcome::of(hostile::set_clock(), "set to what it was")
}

fn kernel_log() -> Outcome {
    match hostile::read_kernel_log(&mut [0; 4096]) {
        Ok(count) => Outcome::succeeded(format!("{count} bytes")),
        Err(error) => Outcome::refused(&error),
    }
}

fn fanotify() -> Outcome {
    Outcome::of(hostile::fanotify_with_permissions(), "granted")
}

/// What they hold is written to them again: granted or not, nothing changes.
fn settings() -> Outcome {
    const MACHINES_OWN: &[&str] = &[
        "/proc/sys/kernel/panic",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hotplug",
        "/proc/sys/kernel/sysrq",
        "/proc/sys/kernel/printk",
        "/proc/sys/kernel/randomize_va_space",
        "/proc/sys/kernel/pty/max",
        "/proc/sys/fs/file-max",
        "/proc/sys/fs/suid_dumpable",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/vm/panic_on_oom",
        "/proc/sys/vm/min_free_kbytes",
        "/proc/sys/net/core/rmem_max",
        "/proc/sys/net/core/netdev_max_backlog",
    ];
    rewrite_all(MACHINES_OWN.iter().map(Path::new))
}

fn power() -> Outcome {
    const FILES: &[&str] = &[
        "/sys/power/state",
        "/sys/power/pm_async",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/profiling",
        "/sys/module/printk/parameters/time",
        "/sys/bus/pci/rescan",
        "/sys/class/tty/ttyAMA0/uevent",
        "/sys/devices/system/cpu/cpu0/online",
    ];
    rewrite_all(FILES.iter().map(Path::new))
}

pub(super) fn rewrite_all<'a>(files: impl Iterator<Item = &'a Path>) -> Outcome {
    let mut refused = None;
    let mut written = Vec::new();
    for path in files {
        match rewrite(path) {
            Ok(()) => written.push(path.display().to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => refused = Some(error),
        }
    }
    match (written.as_slice(), refused) {
        ([], Some(error)) => Outcome::refused(&error),
        ([], None) => Outcome::not_here("none of the files"),
        (_, _) => Outcome::succeeded(written.join(" ")),
    }
}

fn rewrite(path: &Path) -> io::Result<()> {
    use std::io::Write;
    let text = fs::read(path).unwrap_or_default();
    let mut file = File::options().write(true).open(path)?;
    // A file that shows a choice in brackets would not take its own text; that it could be opened is enough.
    if text.is_empty() || text.contains(&b'[') { Ok(()) } else { file.write_all(&text) }
}

fn kernel_memory() -> Outcome {
    use std::io::Read;
    let read = |path: &str| File::open(path).and_then(|mut file| file.read(&mut [0; 16]));
    match read("/proc/kcore") {
        Ok(0) => Outcome::not_here("/proc/kcore is empty"),
        Ok(count) => Outcome::succeeded(format!("{count} bytes of /proc/kcore")),
        Err(error) => Outcome::refused(&error),
    }
}

fn sysrq() -> Outcome {
    // `h` is help: it only prints.
    let written = File::options().write(true).open("/proc/sysrq-trigger").and_then(|mut file| {
        use std::io::Write;
        file.write_all(b"h")
    });
    Outcome::of(written, "written")
}

/// Our own init is 1; whoever else can be addressed, and is not in `/proc`, is outside.
fn pidfds() -> Outcome {
    let mut addressed = 0;
    for number in 2..4096 {
        let Some(pid) = Pid::from_raw(number) else { continue };
        if !Path::new(&format!("/proc/{number}")).exists()
            && rustix::process::pidfd_open(pid, PidfdFlags::empty()).is_ok()
        {
            addressed += 1;
        }
    }
    match addressed {
        0 => Outcome::refused(&rustix::io::Errno::SRCH.into()),
        count => Outcome::succeeded(format!("{count} processes")),
    }
}

fn sockets() -> Outcome {
    const OURS: [(&str, SocketType); 3] = [
        ("/run/yado/init.sock", SocketType::SEQPACKET),
        ("/run/yado/netd.sock", SocketType::SEQPACKET),
        ("/run/yado/notify", SocketType::DGRAM),
    ];
    let connect = |(path, kind): (&str, SocketType)| -> io::Result<()> {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        Ok(rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?)
    };
    let mut refused = None;
    for socket in OURS {
        match connect(socket) {
            Ok(()) => return Outcome::succeeded(socket.0),
            Err(error) => refused = Some(error),
        }
    }
    refused.map_or_else(|| Outcome::not_here("no socket was tried"), |error| Outcome::refused(&error))
}

/// A process whose root is the system's.
fn roots() -> Outcome {
    let mut refused = None;
    for number in 1..64 {
        let path = format!("/proc/{number}/root/usr/lib/yado");
        match fs::read_dir(&path) {
            Ok(_) => return Outcome::succeeded(path),
            Err(error) => refused = Some(error),
        }
    }
    refused.map_or_else(|| Outcome::not_here("/proc"), |error| Outcome::refused(&error))
}
