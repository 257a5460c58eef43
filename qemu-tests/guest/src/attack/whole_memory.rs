//! All of the machine's memory, by what no control group is charged with: as many queues as there can be sockets, of as many
//! processes as there can be. Who is not ended meanwhile keeps what it took for some seconds.

use super::counted_tables::{raise_own_descriptors, wait_for_the_end_of};
use super::{Attempt, Expected, Outcome, Watched};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use yado_sys::clone::{self, Forked, Namespaces, Parent};
use yado_sys::hostile;

pub(super) const ATTEMPTS: &[Attempt] = &[
    whole("netlink-all", "queues of all kinds of netlink sockets are filled, by many processes", all_queues),
    whole("netlink-answers", "what the kernel answers is not read, by many processes", unread_answers),
    whole("netlink-hidden", "queues are filled where no process is, by sockets on their way", hidden_queues),
];

/// So many sockets in each process.
const IN_EACH: usize = 1000;
/// A message takes so many descriptors, and some more: `SCM_MAX_FD` is 253.
const IN_A_MESSAGE: usize = 250;
/// Whoever needs longer has been slowed enough.
const LONGEST: Duration = Duration::from_secs(30);
/// What was taken is kept for so long.
const KEPT: Duration = Duration::from_secs(5);
/// Of one message: a socket's own queue for what it sends takes no longer one.
const MESSAGE_BYTES: usize = 32 * 1024;

const fn whole(name: &'static str, what: &'static str, run: fn() -> Outcome) -> Attempt {
    Attempt { name, what, run, watched: Watched::InWholeMemory, expected: Expected::Held }
}

fn all_queues() -> Outcome {
    /// USERSOCK first, which is what two programs use that talk by netlink; then what the filter has to let through: ROUTE,
    /// SOCK_DIAG, XFRM, SELINUX, AUDIT, NETFILTER, KOBJECT_UEVENT, GENERIC. Those that are not here are passed over.
    const PROTOCOLS: [u32; 9] = [2, 0, 4, 6, 7, 9, 12, 15, 16];
    let usable: Vec<u32> = PROTOCOLS.into_iter().filter(|protocol| filled_queue(*protocol).is_ok()).collect();
    if usable.is_empty() {
        return filled_queue(0).map_or_else(|error| Outcome::refused(&error), |_| Outcome::bounded("none at once"));
    }
    let outcome = by_many_processes(|number| filled_queue(usable[number % usable.len()]));
    Outcome { figure: format!("protocols {usable:?}: {}", outcome.figure), ..outcome }
}

fn unread_answers() -> Outcome {
    by_many_processes(|_| unread_answer())
}

/// Takes sockets in one process after the other, until there is none to be had.
fn by_many_processes(one: impl Fn(usize) -> io::Result<OwnedFd>) -> Outcome {
    raise_own_descriptors();
    let parent = rustix::process::getpid();
    let began = Instant::now();
    let (mut sockets, mut processes) = (0, 0);
    let mut refused = None;
    while began.elapsed() < LONGEST {
        match one_process(parent, &one) {
            Ok(0) => break,
            Ok(count) => (sockets, processes) = (sockets + count, processes + 1),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    match refused {
        Some(error) if processes == 0 => return Outcome::refused(&error),
        _ => std::thread::sleep(KEPT),
    }
    Outcome::bounded(format!("{sockets} sockets of {processes} processes"))
}

fn one_process(parent: rustix::process::Pid, one: &impl Fn(usize) -> io::Result<OwnedFd>) -> io::Result<u32> {
    let (reader, writer) = rustix::pipe::pipe()?;
    match clone::fork(Namespaces::empty(), Parent::Caller, None)? {
        Forked::Child => {
            let mut count = 0u32;
            while let Ok(socket) = one(count as usize) {
                std::mem::forget(socket);
                count += 1;
                if IN_EACH <= count as usize {
                    break;
                }
            }
            let _ = rustix::io::write(&writer, &count.to_ne_bytes());
            wait_for_the_end_of(parent);
        }
        Forked::Caller { .. } => {
            drop(writer);
            let mut count = [0; 4];
            // Killed by its own limit, it says nothing.
            rustix::io::read(&reader, &mut count)?;
            Ok(u32::from_ne_bytes(count))
        }
    }
}

/// In each of as many network namespaces as there may be a process fills queues, sends the sockets off to nobody who would
/// receive them, and is gone.
fn hidden_queues() -> Outcome {
    raise_own_descriptors();
    let began = Instant::now();
    let mut kept = Vec::new();
    let mut sockets = 0;
    let mut refused = None;
    while began.elapsed() < LONGEST {
        match one_hidden() {
            Ok((_, 0)) => break,
            Ok((unread, count)) => {
                kept.push(unread);
                sockets += count;
            }
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    if sockets == 0 {
        return refused.map_or_else(|| Outcome::bounded("none"), |error| Outcome::refused(&error));
    }
    std::thread::sleep(KEPT);
    Outcome::bounded(format!("{sockets} sockets on their way, of {} namespaces", kept.len()))
}

/// The end of a pair that is never read, and how many sockets wait there.
fn one_hidden() -> io::Result<(OwnedFd, u32)> {
    let pair = || rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let ((unread, sending), (reader, writer)) = (pair()?, rustix::pipe::pipe()?);
    match clone::fork(Namespaces::NEWNET, Parent::Caller, None)? {
        Forked::Child => {
            // Few enough that most of what is taken is where nobody is any more.
            let batch: Vec<OwnedFd> = (0..IN_A_MESSAGE).map_while(|_| filled_queue(0).ok()).collect();
            let is_sent = !batch.is_empty() && send_descriptors(&sending, &batch).is_ok();
            let count = if is_sent { batch.len() as u32 } else { 0 };
            let _ = rustix::io::write(&writer, &count.to_ne_bytes());
            std::process::exit(0);
        }
        Forked::Caller { pid, .. } => {
            drop(writer);
            let mut count = [0; 4];
            rustix::io::read(&reader, &mut count)?;
            rustix::process::waitpid(rustix::process::Pid::from_raw(pid), rustix::process::WaitOptions::empty())?;
            Ok((unread, u32::from_ne_bytes(count)))
        }
    }
}

fn send_descriptors(to: &OwnedFd, descriptors: &[OwnedFd]) -> io::Result<()> {
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(IN_A_MESSAGE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    rustix::net::sendmsg(to, &[IoSlice::new(b"x")], &mut control, SendFlags::DONTWAIT)?;
    Ok(())
}

/// A socket whose queue is as long as the kernel allows.
fn long_queue(protocol: u32) -> io::Result<OwnedFd> {
    const LEVEL_SOCKET: i32 = 1;
    const RECEIVE_BUFFER: i32 = 8;
    const RECEIVE_BUFFER_FORCE: i32 = 33;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = std::num::NonZeroU32::new(protocol).map(Protocol::from_raw);
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    let wanted = (4 * 1024 * 1024i32).to_ne_bytes();
    hostile::set_socket_option(&socket, LEVEL_SOCKET, RECEIVE_BUFFER_FORCE, &wanted)
        .or_else(|_| hostile::set_socket_option(&socket, LEVEL_SOCKET, RECEIVE_BUFFER, &wanted))?;
    Ok(socket)
}

/// One that is full of what another one of ours sent to it.
pub(super) fn filled_queue(protocol: u32) -> io::Result<OwnedFd> {
    let (receiver, sender) = (long_queue(protocol)?, long_queue(protocol)?);
    let address = SocketAddrNetlink::new(yado_sys::netlink::port(&receiver)?, 0);
    // nlmsghdr: the length, type NLMSG_MIN_TYPE, and nothing that matters here.
    let mut message = vec![0u8; MESSAGE_BYTES];
    message[..4].copy_from_slice(&(MESSAGE_BYTES as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&16u16.to_ne_bytes());
    rustix::net::sendto(&sender, &message, SendFlags::DONTWAIT, &address)?;
    while rustix::net::sendto(&sender, &message, SendFlags::DONTWAIT, &address).is_ok() {}
    Ok(receiver)
}

/// One with answers of the kernel's, each with what it answers.
fn unread_answer() -> io::Result<OwnedFd> {
    /// More than fit.
    const REQUESTS: usize = 8;
    let socket = long_queue(0)?;
    // nlmsghdr: the length, a type that there is not, flags REQUEST and ACK.
    let mut message = vec![0u8; MESSAGE_BYTES];
    message[..4].copy_from_slice(&(MESSAGE_BYTES as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&0xfff0u16.to_ne_bytes());
    message[6..8].copy_from_slice(&5u16.to_ne_bytes());
    let kernel = SocketAddrNetlink::new(0, 0);
    for _ in 0..REQUESTS {
        rustix::net::sendto(&socket, &message, SendFlags::DONTWAIT, &kernel)?;
    }
    Ok(socket)
}
