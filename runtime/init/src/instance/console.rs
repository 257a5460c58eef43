//! The console of one instance: the master side of the pty, a ring of its output, and the one viewer that may read and type.
//!
//! The ring is a file on tmpfs: it uses the kernel's memory, and is freed with the instance's directory. A viewer is a position in
//! the ring, so nothing is queued for it: a slow viewer misses text, and holds nobody up.
//!
//! Output has a budget: what exceeds it stays in the pty, and its writers wait. Closing the master waits in the kernel for writers
//! inside a write to the slave (`tty_ldisc_hangup`). So it is closed only when all processes of the instance have ended, and by a
//! closer.

use crate::boot_clock::{Moment, next_round};
use crate::deferred_close::{CloseBy, DeferredClose};
use crate::log::line_splitter::LineSplitter;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;
use yado_sys::poll::{Interest, Readiness};
use yado_sys::{packet, pty, stream};
use yado_wire::Budget;

/// Some three hundred lines: enough to see how a boot ended.
const RING_BYTES: u64 = 16 * 1024;

/// How much is read or written at once, so that a console that never stops printing takes turns with all others.
const CHUNK_BYTES: usize = 4096;

/// A pty holds two to three chunks; with the pause after it, one look takes them all.
const MAX_CHUNKS: usize = 3;

/// How many bytes a second a console may print. Reading costs PID 1 of a slow board about a microsecond a byte, so ten consoles
/// that never stop cost a fiftieth of its time.
const BYTES_PER_SECOND: u32 = 2048;

/// How much it may print at once: a boot that tells of every unit prints some 40 KiB, in lines of 60 bytes.
const BURST_BYTES: u32 = 96 * 1024;

/// What a line costs besides its bytes: it is a record of the log.
const LINE_BYTES: u32 = 64;

/// What one read costs besides its bytes, so that printing single bytes costs more.
const LOOK_BYTES: u32 = 512;

/// A console is read at most once in this time: then more is read at once, which is cheaper, and all consoles are read together.
const ROUND: Duration = Duration::from_millis(200);

/// The larger budget while it has a viewer: 32 KiB a second, more than anybody reads.
const VIEWER_FACTOR: u32 = 16;

/// An instance's console while it runs.
#[derive(Debug)]
pub(crate) struct Console {
    master: DeferredClose,
    /// The slave side, held open so that the master does not report a hang-up while nobody inside has it open; `None` if that did
    /// not help.
    slave: Option<DeferredClose>,
    ring: Option<File>,
    /// Bytes printed so far.
    printed: u64,
    lines: LineSplitter,
    budget: Budget,
    viewer: Option<Viewer>,
}

#[derive(Debug)]
struct Viewer {
    stream: DeferredClose,
    /// Its position in the printed bytes.
    seen: u64,
    /// Typed bytes that the pty has not taken yet.
    typed: Vec<u8>,
}

impl Console {
    /// Takes over the master side; the ring is made at `ring`.
    pub(crate) fn new(master: DeferredClose, ring: &Path) -> io::Result<Console> {
        packet::set_nonblocking(&master)?;
        let slave = Some(master.beside(pty::open_slave(&master)?, CloseBy::Closer));
        let ring = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(ring).ok();
        Ok(Console {
            master,
            slave,
            ring,
            printed: 0,
            lines: LineSplitter::default(),
            budget: Budget::per_second(BYTES_PER_SECOND, BURST_BYTES),
            viewer: None,
        })
    }

    /// The master side, and what it is to be polled for now.
    pub(crate) fn master(&self, now: Moment) -> Option<(&DeferredClose, Interest)> {
        self.slave.as_ref()?;
        let has_input = self.viewer.as_ref().is_some_and(|viewer| !viewer.typed.is_empty());
        let interest = match (self.budget.paused(now), has_input) {
            (None, false) => Interest::Read,
            (None, true) => Interest::ReadWrite,
            (Some(_), true) => Interest::Write,
            (Some(_), false) => return None,
        };
        Some((&self.master, interest))
    }

    /// When it is read again, if it is not polled for output now.
    pub(crate) fn deadline(&self, now: Moment) -> Option<Moment> {
        self.slave.as_ref()?;
        self.budget.paused(now)
    }

    /// The viewer's stream, and what it is to be polled for.
    pub(crate) fn viewer(&self) -> Option<(&DeferredClose, Interest)> {
        let viewer = self.viewer.as_ref()?;
        let interest = match (viewer.seen < self.printed, viewer.typed.is_empty()) {
            (true, true) => Interest::ReadWrite,
            (true, false) => Interest::Write,
            (false, true) => Interest::Read,
            (false, false) => Interest::HangUp,
        };
        Some((&viewer.stream, interest))
    }

    /// Whether somebody looks.
    pub(crate) fn has_viewer(&self) -> bool {
        self.viewer.is_some()
    }

    /// Gives the console to a new viewer, who first gets what the ring holds. Returns the other end of its stream.
    pub(crate) fn attach(&mut self) -> io::Result<DeferredClose> {
        let (ours, theirs) = stream::pair()?;
        let (ours, theirs) = (self.master.beside(ours, CloseBy::HangUp), self.master.beside(theirs, CloseBy::Reader));
        packet::set_nonblocking(&ours)?;
        self.viewer = Some(Viewer { stream: ours, seen: self.printed.saturating_sub(RING_BYTES), typed: Vec::new() });
        Ok(theirs)
    }

    /// Reads what was printed, as far as the budget goes; each line of it goes to `log`.
    pub(crate) fn look(&mut self, now: Moment, log: &mut dyn FnMut(&str)) {
        if self.budget.paused(now).is_some() {
            return;
        }
        let before = self.printed;
        let mut lines: u32 = 0;
        let mut counted = |line: &str| {
            lines = lines.saturating_add(1);
            log(line);
        };
        for _ in 0..MAX_CHUNKS {
            if !self.read_output(now, &mut counted) {
                break;
            }
        }
        let bytes = u32::try_from(self.printed.saturating_sub(before)).unwrap_or(u32::MAX);
        let bytes = bytes.saturating_add(LOOK_BYTES).saturating_add(lines.saturating_mul(LINE_BYTES));
        match self.viewer {
            Some(_) => {
                self.budget.spend(bytes / VIEWER_FACTOR, now);
            }
            None => {
                self.budget.spend(bytes, now);
                self.budget.pause_until(next_round(now, ROUND));
            }
        }
    }

    /// Reads a chunk of what was printed. `false`: there was nothing.
    fn read_output(&mut self, now: Moment, log: &mut dyn FnMut(&str)) -> bool {
        let mut buffer = [0; CHUNK_BYTES];
        match stream::read(&self.master, &mut buffer) {
            Ok(Some(len)) if 0 < len => {
                let printed = buffer.get(..len).unwrap_or(&[]);
                self.keep(printed);
                self.lines.feed(printed, now, log);
                true
            }
            Ok(None) => false,
            // Cannot happen, since we hold the slave. If it does, the console is not polled again.
            Ok(Some(_)) | Err(_) => {
                self.slave = None;
                false
            }
        }
    }

    /// The instance has ended: its last output goes to `log`, also a line without its end.
    pub(crate) fn drain(&mut self, now: Moment, log: &mut dyn FnMut(&str)) {
        // A pty holds some 64 KiB at most; somebody else who still prints does not keep us here.
        const MAX_READS: usize = 32;
        for _ in 0..MAX_READS {
            if !self.read_output(now, log) {
                break;
            }
        }
        self.lines.finish(now, log);
    }

    /// Moves bytes from and to the viewer, as far as both sides take them now. A viewer that has hung up is gone as soon as the
    /// pty does not take at once what was typed: nobody would be told when it does.
    pub(crate) fn serve_viewer(&mut self, readiness: Readiness) {
        let is_served = self.serve().is_some();
        let is_stuck = self.viewer.as_ref().is_some_and(|viewer| !viewer.typed.is_empty());
        if !is_served || (readiness.hung_up && is_stuck) {
            self.viewer = None;
        }
    }

    /// Types what is waiting.
    pub(crate) fn write_input(&mut self) {
        let Some(viewer) = &mut self.viewer else { return };
        if let Ok(Some(len)) = stream::write(&self.master, &viewer.typed) {
            viewer.typed.drain(..len.min(viewer.typed.len()));
        }
        if viewer.typed.is_empty() {
            viewer.typed = Vec::new();
        }
    }

    /// `None`: the viewer is gone.
    fn serve(&mut self) -> Option<()> {
        let viewer = self.viewer.as_mut()?;
        let mut buffer = [0; CHUNK_BYTES];
        if viewer.typed.is_empty() {
            match stream::recv_without_descriptors(&viewer.stream, &mut buffer) {
                Ok(Some(0)) | Err(_) => return None,
                Ok(Some(len)) => viewer.typed.extend_from_slice(buffer.get(..len)?),
                Ok(None) => {}
            }
        }
        let oldest = self.printed.saturating_sub(RING_BYTES);
        viewer.seen = viewer.seen.max(oldest);
        if viewer.seen < self.printed {
            let offset = viewer.seen % RING_BYTES;
            let left = self.printed.saturating_sub(viewer.seen).min(RING_BYTES.saturating_sub(offset));
            let len = left.min(CHUNK_BYTES as u64) as usize;
            let chunk = buffer.get_mut(..len)?;
            self.ring.as_ref()?.read_exact_at(chunk, offset).ok()?;
            match stream::write(&viewer.stream, chunk) {
                Ok(Some(len)) => viewer.seen = viewer.seen.saturating_add(len as u64),
                Ok(None) => {}
                Err(_) => return None,
            }
        }
        self.write_input();
        Some(())
    }

    fn keep(&mut self, printed: &[u8]) {
        if let Some(ring) = &self.ring {
            let offset = self.printed % RING_BYTES;
            let (first, rest) = printed.split_at(printed.len().min(RING_BYTES.saturating_sub(offset) as usize));
            // On a full tmpfs old text stays where new text should be; there is nothing better to do.
            let _ = ring.write_all_at(first, offset).and_then(|()| ring.write_all_at(rest, 0));
        }
        self.printed = self.printed.saturating_add(printed.len() as u64);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::deferred_close::Discarded;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    use rustix::pty::OpenptFlags;
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;

    #[test]
    fn a_console_that_cannot_be_had_is_closed_by_others() {
        let discarded = Discarded::default();
        let no_pty = discarded.hold(File::open("/dev/null").unwrap().into(), CloseBy::Closer);
        assert!(Console::new(no_pty, Path::new("/dev/null/none")).is_err());
        assert_eq!(discarded.take_first().map(|(way, _)| way), Some(CloseBy::Closer));
    }

    #[test]
    fn a_viewer_that_sends_descriptors_is_gone_and_they_are_closed_by_others() {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let Ok(master) = rustix::pty::openpt(flags) else { return println!("SKIPPED: no terminals here") };
        rustix::pty::unlockpt(&master).unwrap();
        let discarded = Discarded::default();
        let mut console = Console::new(discarded.hold(master, CloseBy::Closer), Path::new("/dev/null/none")).unwrap();
        let theirs = console.attach().unwrap();
        stream::write(&theirs, b"typed").unwrap().unwrap();
        console.serve_viewer(Readiness::default());
        assert!(console.has_viewer());
        let rights = [theirs.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
        rustix::net::sendmsg(&theirs, &[io::IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
        console.serve_viewer(Readiness::default());
        assert!(!console.has_viewer());
        assert_eq!(discarded.take_first().map(|(way, _)| way), Some(CloseBy::HangUp));
    }
}
