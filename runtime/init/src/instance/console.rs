//! One instance's console: the pty's master side, a ring of what was printed, and the one person who may look and type.
//!
//! The ring is a file on tmpfs: the kernel's memory, freed with the instance's directory. A viewer is a position in the
//! ring, so nothing is queued for it, and a slow one misses text and holds nobody up.

use crate::log::line_splitter::LineSplitter;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use yado_sys::poll::Interest;
use yado_sys::{packet, pty};

/// Some three hundred lines: enough to see how a boot ended.
const RING_BYTES: u64 = 16 * 1024;

/// What is read or written at once. A console that never stops printing takes turns with everybody else.
const CHUNK_BYTES: usize = 4096;

/// An instance's console while it runs.
#[derive(Debug)]
pub(crate) struct Console {
    master: File,
    /// Held open so that a console that nobody inside has open is quiet; `None` once that did not help.
    slave: Option<OwnedFd>,
    ring: Option<File>,
    /// Bytes printed so far.
    printed: u64,
    lines: LineSplitter,
    viewer: Option<Viewer>,
}

#[derive(Debug)]
struct Viewer {
    stream: UnixStream,
    /// How much of the printed bytes it has got.
    seen: u64,
    /// Typed, and not yet taken by the pty.
    typed: Vec<u8>,
}

impl Console {
    /// Takes over the master side; the ring is made at `ring`.
    pub(crate) fn new(master: OwnedFd, ring: &Path) -> io::Result<Console> {
        packet::set_nonblocking(&master)?;
        let slave = Some(pty::open_slave(&master)?);
        let ring = File::options().read(true).write(true).create(true).truncate(true).open(ring).ok();
        Ok(Console {
            master: File::from(master),
            slave,
            ring,
            printed: 0,
            lines: LineSplitter::default(),
            viewer: None,
        })
    }

    /// The master side, and what it is to be polled for.
    pub(crate) fn master(&self) -> Option<(&File, Interest)> {
        self.slave.as_ref()?;
        let has_input = self.viewer.as_ref().is_some_and(|viewer| !viewer.typed.is_empty());
        Some((&self.master, if has_input { Interest::ReadWrite } else { Interest::Read }))
    }

    /// The viewer's stream, and what it is to be polled for.
    pub(crate) fn viewer(&self) -> Option<(&UnixStream, Interest)> {
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
    pub(crate) fn attach(&mut self) -> io::Result<OwnedFd> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        self.viewer = Some(Viewer { stream: ours, seen: self.printed.saturating_sub(RING_BYTES), typed: Vec::new() });
        Ok(theirs.into())
    }

    /// Reads what was printed; each line of it goes to `log`. `false`: there was nothing.
    pub(crate) fn read_output(&mut self, now: Duration, log: impl FnMut(&str)) -> bool {
        let mut buffer = [0; CHUNK_BYTES];
        match (&self.master).read(&mut buffer) {
            Ok(len) if 0 < len => {
                let printed = buffer.get(..len).unwrap_or(&[]);
                self.keep(printed);
                self.lines.feed(printed, now, log);
                true
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => false,
            // It cannot be: we hold the slave. Whatever it is, it is not polled again.
            Ok(_) | Err(_) => {
                self.slave = None;
                false
            }
        }
    }

    /// The instance has ended: what it printed last goes to `log`, a line without its end too.
    pub(crate) fn drain(&mut self, now: Duration, mut log: impl FnMut(&str)) {
        // A pty holds some 64 KiB at most; somebody else who still prints does not keep us here.
        const MOST_READS: usize = 32;
        for _ in 0..MOST_READS {
            if !self.read_output(now, &mut log) {
                break;
            }
        }
        self.lines.finish(now, &mut log);
    }

    /// Moves bytes from and to the viewer, as far as both sides take them now.
    pub(crate) fn serve_viewer(&mut self) {
        if self.serve().is_none() {
            self.viewer = None;
        }
    }

    /// Types what is waiting.
    pub(crate) fn write_input(&mut self) {
        let Some(viewer) = &mut self.viewer else { return };
        if let Ok(len) = (&self.master).write(&viewer.typed) {
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
            match viewer.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(len) => viewer.typed.extend_from_slice(buffer.get(..len)?),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
        let oldest = self.printed.saturating_sub(RING_BYTES);
        viewer.seen = viewer.seen.max(oldest);
        if viewer.seen < self.printed {
            let offset = viewer.seen % RING_BYTES;
            let len = (self.printed - viewer.seen).min(RING_BYTES - offset).min(CHUNK_BYTES as u64) as usize;
            let chunk = buffer.get_mut(..len)?;
            self.ring.as_ref()?.read_exact_at(chunk, offset).ok()?;
            match viewer.stream.write(chunk) {
                Ok(len) => viewer.seen += len as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
        self.write_input();
        Some(())
    }

    fn keep(&mut self, printed: &[u8]) {
        let Some(ring) = &self.ring else { return };
        let offset = self.printed % RING_BYTES;
        let (first, rest) = printed.split_at(printed.len().min((RING_BYTES - offset) as usize));
        // On a full tmpfs old text stays where new text should be; there is nothing better to do.
        let _ = ring.write_all_at(first, offset).and_then(|()| ring.write_all_at(rest, 0));
        self.printed += printed.len() as u64;
    }
}
