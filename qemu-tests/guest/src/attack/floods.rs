//! Work for others: what PID 1, netd and the kernel's helpers must look at, as fast as it can be made, for some seconds.

use super::counted_tables::gateway;
use super::{Attempt, Expected, Outcome, Watched};
use rustix::fs::{Mode, OFlags};
use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use yado_sys::{datagram, netlink};

pub(super) const ATTEMPTS: &[Attempt] = &[
    flood("notify-flood", "datagrams to $NOTIFY_SOCKET", notifications),
    flood("notify-descriptors", "descriptors to $NOTIFY_SOCKET", descriptors),
    flood("console-flood", "lines to the instance's console", console),
    flood("console-paced", "single bytes to the instance's console, at a pace", paced_console),
    flood("memory-events", "processes that are killed for lack of memory", memory_events),
    flood("fork-storm", "forks that are refused", refused_forks),
    flood("modprobe-storm", "requests for kernel modules, by unknown file systems", modules),
    flood("dhcp-flood", "requests for leases, each from another address", dhcp),
    flood("dns-flood", "questions for names, each for another one", dns),
    // Last: netd keeps a port that flaps down for a while.
    flood("link-flaps", "the instance's link goes up and down", link_flaps),
];

/// Where systemd's "Container Interface" has the socket.
pub(super) const NOTIFY: &str = "/run/host/notify";
/// Says how long a flood lasts, in seconds.
pub const SECONDS: &str = "ATTACK_SECONDS";

const fn flood(name: &'static str, what: &'static str, run: fn() -> Outcome) -> Attempt {
    Attempt { name, what, run, watched: Watched::ByService, expected: Expected::Held }
}

/// Does it again and again until the time is over. What has no room now, or is refused now, is tried again.
fn flood_with(what: &str, mut one: impl FnMut(u64) -> io::Result<()>) -> Outcome {
    let seconds = std::env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(4);
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut done, mut refused) = (0u64, 0u64);
    while Instant::now() < until {
        match one(done + refused) {
            Ok(()) => done += 1,
            Err(_) => {
                refused += 1;
                // Let whoever empties the queue have its turn.
                std::thread::yield_now();
            }
        }
    }
    Outcome::bounded(format!("{done} {what}, {refused} refused"))
}

/// What a container that is well says of itself.
pub fn say_ready() -> io::Result<()> {
    datagram::send(&datagram::unbound()?, Path::new(NOTIFY), b"READY=1", None).map(drop)
}

fn notifications() -> Outcome {
    let Ok(socket) = datagram::unbound() else { return Outcome::not_here("a socket") };
    if !Path::new(NOTIFY).exists() {
        return Outcome::not_here(NOTIFY);
    }
    flood_with("datagrams", |number| {
        let text = format!("STATUS=flood {number}");
        datagram::send(&socket, Path::new(NOTIFY), text.as_bytes(), None)?.ok_or(rustix::io::Errno::AGAIN.into())
    })
}

fn descriptors() -> Outcome {
    let (Ok(socket), Ok(file)) = (datagram::unbound(), File::open("/dev/null")) else {
        return Outcome::not_here("a socket");
    };
    let send = || datagram::send(&socket, Path::new(NOTIFY), b"FDSTORE=1", Some(file.as_fd()));
    match send() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Outcome::not_here(NOTIFY),
        Err(error) => Outcome::refused(&error),
        Ok(_) => flood_with("descriptors", |_| send()?.ok_or(rustix::io::Errno::AGAIN.into())),
    }
}

fn open_console() -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/console", flags, Mode::empty())?.into())
}

fn console() -> Outcome {
    let Ok(console) = open_console() else { return Outcome::not_here("/dev/console") };
    let line = [b"0123456789abcdef".repeat(6), b"\n".to_vec()].concat().repeat(20);
    flood_with("times 2 KiB", |_| Ok(rustix::io::write(&console, &line).map(drop)?))
}

fn paced_console() -> Outcome {
    let Ok(console) = open_console() else { return Outcome::not_here("/dev/console") };
    flood_with("bytes", |number| {
        std::thread::sleep(Duration::from_micros(500));
        let byte = if number % 8 == 7 { b"\n" } else { b"." };
        Ok(rustix::io::write(&console, byte).map(drop)?)
    })
}

/// A child of ours in another role.
fn role(name: &str) -> Command {
    let mut command = super::command_line::again();
    command.args(["role", name]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A child that does nothing until it is killed.
pub(super) fn sleeper() -> Command {
    role("sleep")
}

/// A child that takes memory, 512 MiB at most.
pub(super) fn hog() -> Command {
    role("hog")
}

fn memory_events() -> Outcome {
    flood_with("processes killed", |_| match hog().status() {
        Ok(status) if status.success() => Err(rustix::io::Errno::NOMEM.into()),
        status => status.map(drop),
    })
}

fn refused_forks() -> Outcome {
    let mut children = Vec::new();
    let outcome = flood_with("children", |_| {
        children.push(sleeper().spawn()?);
        Ok(())
    });
    for mut child in children {
        let _ = child.kill();
        let _ = child.wait();
    }
    outcome
}

fn modules() -> Outcome {
    let place = "/tmp/attack-modules";
    if let Err(error) = fs::create_dir_all(place) {
        return Outcome::refused(&error);
    }
    flood_with("requests", |number| {
        // Each is refused in the end: that the kernel asked for a module first is the attempt.
        let _ = rustix::mount::mount("none", place, format!("r{number}"), rustix::mount::MountFlags::empty(), None);
        Ok(())
    })
}

fn link_flaps() -> Outcome {
    let Ok(index) = fs::read_to_string("/sys/class/net/eth0/ifindex") else { return Outcome::not_here("eth0") };
    let Ok(index) = index.trim().parse::<i32>() else { return Outcome::not_here("eth0") };
    let socket = match netlink::open(netlink::Protocol::Route, &[]) {
        Ok(socket) => socket,
        Err(error) => return Outcome::refused(&error),
    };
    let outcome = flood_with("changes", |number| netlink::send(&socket, &set_link(index, number % 2 == 1)));
    let _ = netlink::send(&socket, &set_link(index, true));
    // A link that was down has lost its routes: the client asks for its lease again.
    let _ = Command::new("killall").args(["-USR1", "udhcpc"]).status();
    let until = Instant::now() + Duration::from_secs(5);
    while gateway().is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    outcome
}

/// `RTM_NEWLINK` for an interface that is there: nlmsghdr, and ifinfomsg with the one flag `IFF_UP`.
fn set_link(index: i32, is_up: bool) -> Vec<u8> {
    const SET_LINK: u16 = 16;
    const REQUEST: u16 = 1;
    const UP: u32 = 1;
    let mut message = Vec::with_capacity(32);
    message.extend(32u32.to_ne_bytes());
    message.extend(SET_LINK.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]); // sequence, port
    message.extend([0; 4]); // family, type
    message.extend(index.to_ne_bytes());
    message.extend((if is_up { UP } else { 0 }).to_ne_bytes());
    message.extend(UP.to_ne_bytes()); // which flags are meant
    message
}

fn dhcp() -> Outcome {
    let Some(gateway) = gateway() else { return Outcome::not_here("a network") };
    let Ok(socket) = UdpSocket::bind("0.0.0.0:0") else { return Outcome::not_here("a socket") };
    let _ = socket.set_broadcast(true);
    let _ = socket.set_nonblocking(true);
    flood_with("requests", |number| {
        let request = discover(number);
        socket.send_to(&request, (gateway, 67))?;
        socket.send_to(&request, ("255.255.255.255", 67)).map(drop)
    })
}

/// A DHCPDISCOVER (RFC 2131) from a client that nobody has seen before.
fn discover(number: u64) -> Vec<u8> {
    let mut message = vec![0; 236];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[4..8].copy_from_slice(&(number as u32).to_be_bytes());
    message[10] = 0x80; // the answer may be broadcast
    message[28..34].copy_from_slice(&[2, 0, 0, (number >> 16) as u8, (number >> 8) as u8, number as u8]);
    message.extend([99, 130, 83, 99, 53, 1, 1, 255]);
    message
}

fn dns() -> Outcome {
    let Some(gateway) = gateway() else { return Outcome::not_here("a network") };
    let Ok(socket) = UdpSocket::bind("0.0.0.0:0") else { return Outcome::not_here("a socket") };
    let _ = socket.set_nonblocking(true);
    flood_with("questions", |number| {
        let mut question = vec![(number >> 8) as u8, number as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let name = format!("n{number:010}");
        question.push(name.len() as u8);
        question.extend(name.as_bytes());
        question.extend(b"\x07example\x00\x00\x01\x00\x01");
        socket.send_to(&question, (gateway, 53)).map(drop)
    })
}
