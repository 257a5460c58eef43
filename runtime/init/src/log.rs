//! The log: each record goes into a ring, and important ones also to a log that outlives this process.
//!
//! As PID 1 that is the kernel's log: our own lines, and warnings of all others. Hosted it is standard error, and the journal
//! where the host has one.

pub mod journal_protocol;
pub mod syslog_protocol;

pub(crate) mod kmsg;
pub(crate) mod line_splitter;
pub(crate) mod ring;
pub(crate) mod rings;

use crate::boot_clock::whole_ms;
use rings::LogRings;
use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use yado_sys::poll::{Interest, PollSet};
use yado_sys::{clock, datagram};
use yado_wire::names::clipped;
use yado_wire::printable::printable;
use yado_wire::rescue::{LogRecord, Reply};

/// syslog(3)'s priorities, as far as we use them ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// Something does not work.
    Error = 3,
    /// Something may not work.
    Warning = 4,
    /// Normal, and worth a line.
    Notice = 5,
    /// What somebody looking for a fault wants to see.
    Info = 6,
}

/// Our own name in the log.
pub(crate) const OWN_IDENTIFIER: &str = "yado-init";

/// What comes from inside an instance is logged as `instance/NAME`; nobody else may have a name that begins so.
pub(crate) const INSTANCE_PREFIX: &str = "instance/";

/// The log's name for an instance's console.
pub(crate) fn console_identifier(name: &str) -> String {
    format!("{INSTANCE_PREFIX}{name}")
}

/// The journal of a systemd host; as PID 1 the same path is ours to listen on.
pub(crate) const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// Where records go besides the ring.
#[derive(Debug)]
enum Mirror {
    Kernel(File),
    Host { journal: Option<OwnedFd> },
    Nowhere,
}

/// Where records go: rings, and the kernel's log or standard error.
#[derive(Debug)]
pub(crate) struct Log {
    rings: Option<LogRings>,
    mirror: Mirror,
}

impl Log {
    /// The log of PID 1: the kernel's, until there is a ring.
    pub(crate) fn of_system() -> Log {
        Log { rings: None, mirror: kmsg::open().map_or(Mirror::Nowhere, Mirror::Kernel) }
    }

    /// The log of a hosted init.
    pub(crate) fn of_host() -> Log {
        let has_journal = Path::new(JOURNAL_SOCKET).exists();
        let journal = if has_journal { datagram::unbound().ok() } else { None };
        Log { rings: None, mirror: Mirror::Host { journal } }
    }

    /// From now on records are kept in rings in `directory`, too.
    pub(crate) fn open_rings(&mut self, directory: &Path) {
        match LogRings::create(directory) {
            Ok(rings) => self.rings = Some(rings),
            Err(error) => self.say(Priority::Warning, format_args!("create {}: {error}", directory.display())),
        }
    }

    /// The rings, for readers.
    pub(crate) fn rings(&self) -> Option<&LogRings> {
        self.rings.as_ref()
    }

    /// There is no such instance any more: another may have its ring.
    pub(crate) fn release_ring(&mut self, instance: &str) {
        if let Some(rings) = &mut self.rings {
            rings.release(instance);
        }
    }

    /// A line of our own.
    pub(crate) fn say(&mut self, priority: Priority, message: fmt::Arguments<'_>) {
        self.record(priority as u8, OWN_IDENTIFIER, 0, &message.to_string());
    }

    /// A line of anybody. `pid` 0: not known.
    pub(crate) fn record(&mut self, priority: u8, identifier: &str, pid: i32, message: &str) {
        let now = clock::since_boot();
        let instance = identifier.strip_prefix(INSTANCE_PREFIX);
        if let Some(rings) = &mut self.rings {
            let record = Reply::Log(LogRecord {
                monotonic_ms: whole_ms(now),
                priority: priority.min(7),
                identifier: clipped(identifier),
                pid,
                message: clipped(message),
            });
            if let Some(frame) = yado_wire::encode(&record) {
                // A full tmpfs costs the record; the mirror below still has it.
                let _ = rings.append(instance, &frame);
            }
        }
        let is_ours = identifier == OWN_IDENTIFIER;
        match &mut self.mirror {
            Mirror::Kernel(kmsg) => {
                // What an instance prints is not written where a serial line may hold us up.
                if is_ours || (instance.is_none() && priority <= Priority::Warning as u8) {
                    kmsg::write(kmsg, priority, &printable(identifier), pid, &printable(message));
                }
            }
            Mirror::Host { journal } => {
                if instance.is_none() {
                    write_stderr(now, &printable(identifier), &printable(message));
                }
                if let Some(socket) = journal {
                    let entry = journal_protocol::write_journal_entry(priority, identifier, message);
                    let _ = datagram::send(socket, Path::new(JOURNAL_SOCKET), &entry, None);
                }
            }
            Mirror::Nowhere => {}
        }
    }
}

/// A reader that stalls loses lines; it does not stall us.
fn write_stderr(now: Duration, identifier: &str, message: &str) {
    let stderr = std::io::stderr();
    let mut set = PollSet::default();
    set.add(&stderr, Interest::Write);
    if set.wait(Some(Duration::ZERO)).is_ok() && set.readiness(0).writable {
        let line = format!("[{:>5}.{:03}] {identifier}: {message}\n", now.as_secs(), now.subsec_millis());
        let _ = stderr.lock().write_all(line.as_bytes());
    }
}
