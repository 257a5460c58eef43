//! A process that receives for init from every socket to which others send: `$NOTIFY_SOCKET` of instances and services, the
//! journal's socket, `/dev/log`.
//!
//! With a datagram come the descriptors that were sent with it, and dropping the last reference to one can block: closing a
//! socket with `SO_LINGER` takes as long as its sender chose. Refusing them does not help: if there is no room for them, the
//! kernel drops them inside recvmsg(2). PID 1 must not block, so it never receives from these sockets. This process may block: a
//! signal ends each wait after a moment, and if it hangs all the same it is killed and replaced.
//!
//! Some waits are not ended by a signal: the last close of a packet socket waits for all processors in turn
//! (`synchronize_net()`), and a datagram can carry 253 of them. So this process looks at an instance's datagram before it
//! receives it. If it carries descriptors, which sd_notify(3) has no use for here, the instance is not heard again in that run.
//!
//! The process has no privileges. It tells init only what it has parsed, in messages of bounded size and number.

mod restriction;
mod source;

use crate::boot_clock::Moment;
use restriction::restrict;
use source::Watched;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;
use yado_sys::poll::{Interest, PollSet};
use yado_sys::{clock, inherited, interruption, packet, stack};
use yado_wire::datagrams::{DatagramSource, ReaderReport, ReaderRequest};
use yado_wire::{MAX_FRAME_BYTES, MAX_INSTANCES};

/// Where init has put its end of our socket.
pub(crate) const LINK_FD: i32 = 3;

/// One socket for each instance, and those of our own, which are fewer than eight.
const MAX_SOURCES: usize = MAX_INSTANCES + 8;

/// A close that blocks is interrupted by a signal this often. All descriptors of one datagram are closed in one call, and one
/// signal ends all their waits.
const INTERRUPT_PERIOD: Duration = Duration::from_millis(20);

/// init has gone, or speaks another language.
struct LinkLost;

/// Runs until init hangs up. Not inlined: below the frame of all roles together its stack would begin that much deeper.
#[inline(never)]
pub(crate) fn run() -> ExitCode {
    let Ok(link) = inherited::take(LINK_FD) else {
        eprintln!("yado-init: only init starts this");
        return ExitCode::from(2);
    };
    if let Err(error) = interruption::prepare().and_then(|()| restrict()) {
        eprintln!("give up privileges: {error}");
        return ExitCode::FAILURE;
    }
    let mut reader = Reader { link, sources: Vec::new(), held: Vec::new() };
    let mut set = PollSet::default();
    while let Ok(()) = reader.turn(&mut set) {}
    ExitCode::SUCCESS
}

struct Reader {
    link: OwnedFd,
    sources: Vec<Watched>,
    /// What is closed here as soon as init has closed its own copies: the last one to close is the one who waits.
    held: Vec<OwnedFd>,
}

impl Reader {
    /// Waits for something, and reads what is there.
    fn turn(&mut self, set: &mut PollSet) -> Result<(), LinkLost> {
        let now = clock::since_boot();
        set.clear();
        set.add(&self.link, Interest::Read);
        let mut polled = Vec::new();
        for watched in self.sources.iter().filter(|watched| watched.is_polled(now)) {
            set.add(&watched.socket, Interest::Read);
            polled.push(watched.source);
        }
        let paused = self.sources.iter().filter_map(|watched| watched.paused(now)).min();
        stack::give_back_unused();
        // Out of memory in the kernel, at worst: the next turn may do better.
        let _ = set.wait(paused.map(|at| at.saturating_sub(now)));
        let now = clock::since_boot();
        let _ = interruption::start(INTERRUPT_PERIOD);
        let done = self.read_ready(set, &polled, now);
        let _ = interruption::stop();
        done
    }

    /// Not inlined: its stack frame holds the longest packet, and would become that of the loop, which is never given back.
    #[inline(never)]
    fn read_ready(&mut self, set: &PollSet, polled: &[DatagramSource], now: Moment) -> Result<(), LinkLost> {
        for (source, number) in polled.iter().zip(1..) {
            if !set.readiness(number).is_none() {
                self.read_source(*source, now)?;
            }
        }
        if !set.readiness(0).is_none() {
            self.read_request()?;
        }
        Ok(())
    }

    fn read_source(&mut self, source: DatagramSource, now: Moment) -> Result<(), LinkLost> {
        let Some(watched) = self.sources.iter_mut().find(|watched| watched.source == source) else { return Ok(()) };
        let link = &self.link;
        watched.read(now, |report| send(link, report))
    }

    fn read_request(&mut self) -> Result<(), LinkLost> {
        let mut buffer = [0; MAX_FRAME_BYTES];
        let received = match packet::recv(&self.link, &mut buffer) {
            Ok(Some(received)) if !received.is_end() => received,
            Ok(None) => return Ok(()),
            Ok(Some(_)) | Err(_) => return Err(LinkLost),
        };
        let request = yado_wire::decode(buffer.get(..received.len).unwrap_or(&[])).map_err(|_| LinkLost)?;
        let socket = received.descriptors.into_iter().next();
        match (request, socket) {
            (ReaderRequest::Watch(source), Some(socket)) => {
                self.forget(source);
                if self.sources.len() < MAX_SOURCES {
                    self.sources.push(Watched::new(source, socket));
                }
            }
            (ReaderRequest::Discard(source), _) => self.forget(source),
            (ReaderRequest::Hold, descriptor) => self.held.extend(descriptor),
            (ReaderRequest::Release, _) => self.held.clear(),
            (ReaderRequest::Watch(_) | ReaderRequest::Ping, _) => {}
        }
        send(&self.link, &ReaderReport::Done)
    }

    fn forget(&mut self, source: DatagramSource) {
        self.sources.retain(|watched| watched.source != source);
    }
}

/// Tells init. While it is busy with others we wait, and so do those who send to us.
fn send(link: &OwnedFd, report: &ReaderReport) -> Result<(), LinkLost> {
    let Some(packet) = yado_wire::encode(report) else { return Ok(()) };
    match packet::send_bytes(link, &packet) {
        Ok(_) => Ok(()),
        Err(_) => Err(LinkLost),
    }
}
