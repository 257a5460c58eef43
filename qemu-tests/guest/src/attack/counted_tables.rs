//! What the kernel counts for the whole machine or for one owner: an instance takes all that it is given, and a neighbour
//! must still get one.

use super::verdict::errno_name;
use super::{Attempt, Expected, Outcome, Watched};
use rustix::fs::inotify;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::{Duration, Instant};
use yado_sys::clone::{self, Forked, Namespaces, Parent};
use yado_sys::hostile;

pub(super) const ATTEMPTS: &[Attempt] = &[
    table("inotify", "all inotify instances are taken", one_inotify, inotify_instances),
    table("sigpending", "all pending signals are taken", one_signal, pending_signals),
    table("user-namespaces", "all user namespaces are taken", one_user_namespace, user_namespaces),
    table("cgroup-namespaces", "all cgroup namespaces are taken", one_namespace, group_namespaces),
    table("ipc-namespaces", "all IPC namespaces are taken", one_namespace, other_namespaces),
    table("aio", "all contexts of asynchronous I/O are taken", one_context, asynchronous_io),
    table("ptys", "all pseudo-terminals are taken", one_terminal, terminals),
    table("keys", "all keys are taken", one_key, keys),
    table("shm", "all segments of shared memory are taken", one_segment, shared_memory),
    table("open-files", "all open files of the machine are taken", one_file, open_files),
    table("arp-table", "the table of neighbours is filled", one_connection, neighbours),
    table("conntrack", "the table of connections is filled", one_connection, connections),
];

/// So many of anything is as good as no end.
const MAX: usize = 100_000;
/// Whoever needs longer has been slowed enough.
const LONGEST: Duration = Duration::from_secs(6);

const fn table(name: &'static str, what: &'static str, one: fn() -> io::Result<()>, run: fn() -> Outcome) -> Attempt {
    Attempt { name, what, run, watched: Watched::ByNeighbour(one), expected: Expected::Held }
}

/// Takes until it is refused, and keeps what it took until this process ends.
pub(super) fn take<T>(what: &str, most: usize, mut one: impl FnMut(usize) -> io::Result<T>) -> Outcome {
    let began = Instant::now();
    let mut taken = Vec::new();
    let refused = loop {
        if most <= taken.len() || LONGEST < began.elapsed() {
            break None;
        }
        match one(taken.len()) {
            Ok(item) => taken.push(item),
            Err(error) => break Some(error),
        }
    };
    let count = taken.len();
    std::mem::forget(taken);
    match refused {
        Some(error) if count == 0 => Outcome::refused(&error),
        Some(error) => Outcome::bounded(format!("{count} {what}, then {}", errno_name(&error))),
        None => Outcome::bounded(format!("{count} {what}, and no refusal yet")),
    }
}

/// Gives this process as many descriptors as it may have.
pub(super) fn raise_own_descriptors() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum.or(Some(1 << 20)), maximum: limit.maximum };
    // What is refused leaves us with fewer.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
}

fn inotify_instances() -> Outcome {
    raise_own_descriptors();
    take("instances", MAX, |_| Ok(inotify::init(inotify::CreateFlags::empty())?))
}

fn one_inotify() -> io::Result<()> {
    Ok(inotify::init(inotify::CreateFlags::empty()).map(drop)?)
}

fn pending_signals() -> Outcome {
    if let Err(error) = hostile::block_queued_signal() {
        return Outcome::refused(&error);
    }
    take("signals", MAX, |_| hostile::queue_signal())
}

fn one_signal() -> io::Result<()> {
    hostile::block_queued_signal()?;
    hostile::queue_signal()
}

fn user_namespaces() -> Outcome {
    raise_own_descriptors();
    take("user namespaces", MAX, |_| user_namespace())
}

fn one_user_namespace() -> io::Result<()> {
    user_namespace().map(drop)
}

/// A child makes it, and a descriptor keeps it when the child is gone.
fn user_namespace() -> io::Result<File> {
    match clone::fork(Namespaces::NEWUSER, Parent::Caller, None)? {
        Forked::Child => loop {
            std::thread::park();
        },
        Forked::Caller { pid, pidfd } => {
            let kept = File::open(format!("/proc/{pid}/ns/user"));
            rustix::process::pidfd_send_signal(&pidfd, Signal::KILL)?;
            rustix::process::waitpid(Pid::from_raw(pid), rustix::process::WaitOptions::empty())?;
            kept
        }
    }
}

fn group_namespaces() -> Outcome {
    namespaces("cgroup namespaces", Namespaces::NEWCGROUP, "/proc/self/ns/cgroup")
}

fn other_namespaces() -> Outcome {
    namespaces("IPC namespaces", Namespaces::NEWIPC, "/proc/self/ns/ipc")
}

pub(super) fn namespaces(what: &str, kind: Namespaces, path: &str) -> Outcome {
    raise_own_descriptors();
    take(what, MAX, |_| {
        clone::unshare(kind)?;
        File::open(path)
    })
}

fn one_namespace() -> io::Result<()> {
    clone::unshare(Namespaces::NEWCGROUP | Namespaces::NEWIPC)
}

fn asynchronous_io() -> Outcome {
    take("contexts of 1000", MAX, |_| hostile::io_setup(1000))
}

fn one_context() -> io::Result<()> {
    hostile::io_setup(1)
}

fn terminals() -> Outcome {
    raise_own_descriptors();
    take("terminals", MAX, |_| terminal())
}

fn terminal() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/ptmx")
}

fn one_terminal() -> io::Result<()> {
    terminal().map(drop)
}

fn keys() -> Outcome {
    take("keys", 20_000, |number| key(&format!("attack-{number}")))
}

fn key(description: &str) -> io::Result<()> {
    hostile::add_key(&CString::new(description)?, &[7; 64])
}

fn one_key() -> io::Result<()> {
    key("spare")
}

fn shared_memory() -> Outcome {
    take("segments", MAX, |_| hostile::shared_memory(4096))
}

fn one_segment() -> io::Result<()> {
    hostile::shared_memory(4096)
}

/// Children share the work: each has descriptors of its own.
fn open_files() -> Outcome {
    const SHORT_OF: u8 = 255;
    raise_own_descriptors();
    let parent = rustix::process::getpid();
    let mut total = 0;
    let outcome = take("processes full of files", 512, |_| {
        let (reader, writer) = rustix::pipe::pipe()?;
        match clone::fork(Namespaces::empty(), Parent::Caller, None)? {
            Forked::Child => {
                let last = loop {
                    match File::open("/dev/null") {
                        Ok(file) => std::mem::forget(file),
                        Err(error) => break error,
                    }
                };
                let is_machines_end = last.raw_os_error() == Some(rustix::io::Errno::NFILE.raw_os_error());
                let _ = rustix::io::write(&writer, &[if is_machines_end { SHORT_OF } else { 0 }]);
                wait_for_the_end_of(parent);
            }
            Forked::Caller { .. } => {
                drop(writer);
                let mut answer = [0];
                rustix::io::read(&reader, &mut answer)?;
                total += 1;
                if answer[0] == SHORT_OF { Err(rustix::io::Errno::NFILE.into()) } else { Ok(()) }
            }
        }
    });
    let each = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(0);
    Outcome { figure: format!("{}; {total} of at most {each} files", outcome.figure), ..outcome }
}

/// Ends this process when its parent has ended.
pub(super) fn wait_for_the_end_of(parent: Pid) -> ! {
    while rustix::process::getppid() == Some(parent) {
        std::thread::sleep(Duration::from_millis(50));
    }
    std::process::exit(0)
}

fn one_file() -> io::Result<()> {
    File::open("/dev/null").map(drop)
}

/// The address of the router: the first of `/proc/net/route` that leads everywhere.
pub(super) fn gateway() -> Option<Ipv4Addr> {
    let routes = std::fs::read_to_string("/proc/net/route").ok()?;
    routes.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (to, by) = (words.next()?, words.next()?);
        let address = u32::from_str_radix(by, 16).ok()?;
        (to == "00000000").then(|| Ipv4Addr::from(address.to_le_bytes()))
    })
}

/// A large network of our own, in which nobody answers.
fn neighbours() -> Outcome {
    if gateway().is_none() {
        return Outcome::not_here("a network");
    }
    let added = std::process::Command::new("ip").args(["addr", "add", "10.99.0.1/16", "dev", "eth0"]).status();
    if !added.is_ok_and(|status| status.success()) {
        return Outcome::not_here("an address of our own");
    }
    let outcome = match UdpSocket::bind("10.99.0.1:0") {
        Err(error) => Outcome::refused(&error),
        Ok(socket) => take("neighbours asked for", 8192, |number| {
            let [high, low] = (number as u16 + 2).to_be_bytes();
            socket.send_to(b"x", (Ipv4Addr::new(10, 99, high, low), 9)).map(drop)
        }),
    };
    let _ = std::process::Command::new("ip").args(["addr", "del", "10.99.0.1/16", "dev", "eth0"]).status();
    outcome
}

/// Datagrams to one who is not there, and connections that are refused: each is an entry for the one who tracks them.
fn connections() -> Outcome {
    const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 77);
    const CLOSED: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
    if gateway().is_none() {
        return Outcome::not_here("a network");
    }
    let socket = match UdpSocket::bind("0.0.0.0:0") {
        Ok(socket) => socket,
        Err(error) => return Outcome::refused(&error),
    };
    take("connections", 8192, |number| {
        let port = 1024 + number as u16;
        // EPERM is what the sender of a dropped packet hears: the next one is tried all the same.
        let _ = socket.send_to(b"x", (NOBODY, port));
        if number < 4096 { connect_without_waiting(SocketAddrV4::new(CLOSED, port)) } else { Ok(()) }
    })
}

fn connect_without_waiting(to: SocketAddrV4) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    // It goes on, or it was dropped.
    let _ = rustix::net::connect(&socket, &to);
    Ok(())
}

/// The router answers, be it with a refusal.
fn one_connection() -> io::Result<()> {
    let Some(gateway) = gateway() else { return Err(rustix::io::Errno::NETUNREACH.into()) };
    match TcpStream::connect_timeout(&SocketAddr::from((gateway, 53)), Duration::from_secs(3)) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        connected => connected.map(drop),
    }
}
