//! Moves bytes between descriptors while it watches for other things: what `exec` and `console` do all day. One `poll`, no
//! threads; each direction holds at most one buffer, so a slow reader slows its writer and nobody else.

use super::detach_key::DetachKey;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::{Errno, retry_on_intr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// One read: a pipe's usual capacity is four of these.
const READ_BYTES: usize = 16 * 1024;

/// What a pipe or terminal that is ready for writing takes without blocking (PIPE_BUF); it is not ours alone, so it cannot
/// be made non-blocking.
const WRITE_BYTES: usize = 4096;

/// Both directions and the signals, watched together.
pub(super) struct Relay {
    flows: Vec<Flow>,
    signals: Option<SignalFd>,
}

/// One direction.
pub(super) enum Flow {
    /// Bytes may still come.
    Open {
        /// Read here, …
        from: OwnedFd,
        /// … written there.
        to: OwnedFd,
        /// Read and not yet written.
        pending: Vec<u8>,
        /// Watches what is typed, if somebody types.
        keys: Option<DetachKey>,
    },
    /// The reader's end came or the writer's other side has gone. Both descriptors are closed.
    Over,
}

/// What ended one [`Relay::wait`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// Bytes moved, or a direction ended.
    Moved,
    /// The control descriptor has something to read.
    Control,
    /// One of the signals came.
    Signal(Signal),
    /// The time is over.
    Quiet,
}

impl Flow {
    pub(super) fn new(from: OwnedFd, to: OwnedFd) -> Flow {
        Flow::Open { from, to, pending: Vec::new(), keys: None }
    }

    /// A direction in which a person types.
    pub(super) fn typed(from: OwnedFd, to: OwnedFd) -> Flow {
        Flow::Open { from, to, pending: Vec::new(), keys: Some(DetachKey::default()) }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Flow::Over)
    }

    pub(super) fn is_detached(&self) -> bool {
        matches!(self, Flow::Open { keys: Some(DetachKey::Detached), .. })
    }

    /// What to wait for: something to read, or, with bytes in hand, room to write them.
    fn interest(&self) -> Option<PollFd<'_>> {
        match self {
            Flow::Open { from, pending, .. } if pending.is_empty() => Some(PollFd::new(from, PollFlags::IN)),
            Flow::Open { to, .. } => Some(PollFd::new(to, PollFlags::OUT)),
            Flow::Over => None,
        }
    }

    /// Does what [`Flow::interest`] waited for.
    fn step(&mut self) -> io::Result<()> {
        let Flow::Open { from, to, pending, keys } = self else {
            return Ok(());
        };
        if !pending.is_empty() {
            let part = &pending[..pending.len().min(WRITE_BYTES)];
            match retry_on_intr(|| rustix::io::write(&*to, part)) {
                Ok(count) => drop(pending.drain(..count)),
                Err(Errno::AGAIN) => {}
                // The other side has gone: for a direction that is an end and not an error.
                Err(Errno::PIPE | Errno::CONNRESET | Errno::IO) => *self = Flow::Over,
                Err(errno) => return Err(errno.into()),
            }
            return Ok(());
        }
        let mut buffer = [0; READ_BYTES];
        match retry_on_intr(|| rustix::io::read(&*from, &mut buffer)) {
            // EIO is how a pty's master says that nobody has the other side open any more.
            Ok(0) | Err(Errno::IO | Errno::CONNRESET) => *self = Flow::Over,
            Ok(count) => match keys {
                Some(keys) => *pending = keys.filter(&buffer[..count]),
                None => pending.extend_from_slice(&buffer[..count]),
            },
            Err(Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }
}

impl Relay {
    pub(super) fn new(flows: Vec<Flow>) -> Relay {
        Relay { flows, signals: None }
    }

    /// From now on these signals are reported by [`Relay::wait`] and have no other effect on this thread.
    pub(super) fn watch(&mut self, signals: &[Signal]) -> io::Result<()> {
        let set = SigSet::from_iter(signals.iter().copied());
        set.thread_block()?;
        self.signals = Some(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?);
        Ok(())
    }

    pub(super) fn flow(&self, index: usize) -> &Flow {
        &self.flows[index]
    }

    /// Waits for the first thing to happen and does what is ready.
    pub(super) fn wait(&mut self, control: Option<BorrowedFd<'_>>, timeout: Option<Duration>) -> io::Result<Wake> {
        let timeout: Option<Timespec> = timeout.and_then(|timeout| timeout.try_into().ok());
        let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(self.flows.len() + 2);
        let mut who: Vec<Watched> = Vec::with_capacity(polled.capacity());
        if let Some(signals) = &self.signals {
            polled.push(PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN));
            who.push(Watched::Signals);
        }
        for (index, flow) in self.flows.iter().enumerate() {
            if let Some(interest) = flow.interest() {
                polled.push(interest);
                who.push(Watched::Flow(index));
            }
        }
        if let Some(control) = control {
            polled.push(PollFd::from_borrowed_fd(control, PollFlags::IN));
            who.push(Watched::Control);
        }
        if retry_on_intr(|| rustix::event::poll(&mut polled, timeout.as_ref()))? == 0 {
            return Ok(Wake::Quiet);
        }
        let ready: Vec<Watched> = polled
            .iter()
            .zip(who)
            .filter(|(polled, _)| !polled.revents().is_empty())
            .map(|(_, watched)| watched)
            .collect();
        self.serve(&ready)
    }

    /// Moves what still comes, after the other side has ended, until it is quiet for `pause`.
    pub(super) fn drain(&mut self, pause: Duration) -> io::Result<()> {
        while self.flows.iter().any(|flow| !flow.is_over()) && self.wait(None, Some(pause))? != Wake::Quiet {}
        Ok(())
    }

    /// Ends a direction and closes its descriptors.
    pub(super) fn close(&mut self, index: usize) {
        self.flows[index] = Flow::Over;
    }

    /// Bytes move first, so that what the other side wrote before its last word is shown before it.
    fn serve(&mut self, ready: &[Watched]) -> io::Result<Wake> {
        let mut moved = false;
        for watched in ready {
            if let Watched::Flow(index) = watched {
                self.flows[*index].step()?;
                moved = true;
            }
        }
        if ready.contains(&Watched::Signals) {
            if let Some(signal) = self.read_signal()? {
                return Ok(Wake::Signal(signal));
            }
        }
        Ok(if ready.contains(&Watched::Control) && !moved { Wake::Control } else { Wake::Moved })
    }

    fn read_signal(&self) -> io::Result<Option<Signal>> {
        let Some(info) = self.signals.as_ref().map(SignalFd::read_signal).transpose()?.flatten() else {
            return Ok(None);
        };
        Ok(i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    Signals,
    Flow(usize),
    Control,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    fn pipe() -> (File, File) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        (reader.into(), writer.into())
    }

    const PAUSE: Duration = Duration::from_millis(20);

    #[test]
    fn everything_arrives_and_the_end_is_passed_on() {
        let (from, mut writer) = pipe();
        let (mut reader, to) = pipe();
        let text: Vec<u8> = (0..100_000u32).map(|number| number as u8).collect();
        let feeder = {
            let text = text.clone();
            std::thread::spawn(move || writer.write_all(&text).unwrap())
        };
        let taker = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        let mut relay = Relay::new(vec![Flow::new(from.into(), to.into())]);
        while !relay.flow(0).is_over() {
            relay.wait(None, None).unwrap();
        }
        feeder.join().unwrap();
        assert_eq!(taker.join().unwrap(), text);
    }

    #[test]
    fn a_reader_that_has_gone_ends_the_direction_without_an_error() {
        let (from, mut writer) = pipe();
        let (reader, to) = pipe();
        drop(reader);
        writer.write_all(b"x").unwrap();
        let mut relay = Relay::new(vec![Flow::new(from.into(), to.into())]);
        relay.drain(PAUSE).unwrap();
        assert!(relay.flow(0).is_over());
    }

    #[test]
    fn control_is_reported_after_the_bytes_that_came_before_it() {
        let (from, mut writer) = pipe();
        let (mut reader, to) = pipe();
        let (control, mut teller) = pipe();
        writer.write_all(b"last words").unwrap();
        teller.write_all(b"!").unwrap();
        let mut relay = Relay::new(vec![Flow::new(from.into(), to.into())]);
        while relay.wait(Some(control.as_fd()), None).unwrap() != Wake::Control {}
        let mut buffer = [0; 32];
        let count = reader.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"last words");
        assert_eq!(relay.wait(None, Some(PAUSE)).unwrap(), Wake::Quiet);
    }

    #[test]
    fn the_detach_key_is_seen_and_not_passed_on() {
        let (from, mut writer) = pipe();
        let (_reader, to) = pipe();
        writer.write_all(b"\x01q").unwrap();
        let mut relay = Relay::new(vec![Flow::typed(from.into(), to.into())]);
        relay.wait(None, None).unwrap();
        assert!(relay.flow(0).is_detached());
    }
}
