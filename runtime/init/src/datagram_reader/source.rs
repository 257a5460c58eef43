//! One socket of the datagram reader: what may be sent on it, how often it is read, and what init is told of it.

use super::LinkLost;
use crate::boot_clock::{Moment, next_round, whole_ms};
use crate::instance::notify::{self, Ping, parse_notification};
use crate::log::journal_protocol::{self, Extent};
use crate::log::syslog_protocol::parse_syslog;
use std::os::fd::OwnedFd;
use std::time::Duration;
use yado_sys::datagram::{self, Datagram};
use yado_sys::memfd::{self, Beginning};
use yado_wire::Budget;
use yado_wire::datagrams::{DatagramSource, ReaderReport, WatchdogPing};
use yado_wire::names::clipped;
use yado_wire::rescue::LogRecord;

/// Datagrams that are taken from one socket before the others have their turn.
const MAX_AT_ONCE: usize = 32;

/// An instance says that it is ready, what it does while it starts, and that it is alive: at most twice a second.
const NOTIFICATIONS_PER_SECOND: u32 = 5;

/// systemd tells of each unit that it starts.
const NOTIFICATIONS_BURST: u32 = 100;

/// Instances that are over their budget are all looked at again at the same time, this often.
const ROUND: Duration = Duration::from_secs(1);

/// Who sends descriptors, which nobody asked for, is not looked at for so long.
const SILENCE: Duration = Duration::from_secs(10);

/// Our own programs log a line now and then; one that logs in a loop waits.
const RECORDS_PER_SECOND: u32 = 100;

/// See [`RECORDS_PER_SECOND`].
const RECORDS_BURST: u32 = 2000;

/// So much of a journal entry is looked at: more than a record of the log holds. Clients send more than their socket takes,
/// some 200 KiB, as a memfd.
const MAX_ENTRY_BYTES: usize = 64 * 1024;

/// syslog(3) of musl cuts at 1 KiB; others do not, but a line is a line.
const MAX_SYSLOG_BYTES: usize = 2048;

/// One socket.
pub(super) struct Watched {
    pub(super) source: DatagramSource,
    pub(super) socket: OwnedFd,
    budget: Budget,
    /// Descriptors are in its queue, so whoever receives from it, or closes it last, may have to wait.
    is_refused: bool,
}

impl Watched {
    pub(super) fn new(source: DatagramSource, socket: OwnedFd) -> Watched {
        let budget = match source {
            DatagramSource::Instance { .. } | DatagramSource::Services => {
                Budget::per_second(NOTIFICATIONS_PER_SECOND, NOTIFICATIONS_BURST)
            }
            DatagramSource::Journal | DatagramSource::Syslog => Budget::per_second(RECORDS_PER_SECOND, RECORDS_BURST),
        };
        Watched { source, socket, budget, is_refused: false }
    }

    /// Whether it is looked at now.
    pub(super) fn is_polled(&self, now: Moment) -> bool {
        !self.is_refused && self.budget.paused(now).is_none()
    }

    pub(super) fn paused(&self, now: Moment) -> Option<Moment> {
        self.budget.paused(now)
    }

    /// Reads what is there, as far as the budget goes.
    pub(super) fn read(
        &mut self,
        now: Moment,
        tell: impl FnMut(&ReaderReport) -> Result<(), LinkLost>,
    ) -> Result<(), LinkLost> {
        // On the stack, whose unused part is given back at rest: the heap keeps what it once had.
        match self.source {
            DatagramSource::Journal => self.read_into(&mut [0; MAX_ENTRY_BYTES], now, tell),
            DatagramSource::Syslog => self.read_into(&mut [0; MAX_SYSLOG_BYTES], now, tell),
            DatagramSource::Instance { .. } | DatagramSource::Services => {
                self.read_into(&mut [0; notify::MAX_DATAGRAM_BYTES], now, tell)
            }
        }
    }

    fn read_into(
        &mut self,
        buffer: &mut [u8],
        now: Moment,
        mut tell: impl FnMut(&ReaderReport) -> Result<(), LinkLost>,
    ) -> Result<(), LinkLost> {
        // Told with the next one, if that says something of the same instance: each telling wakes init.
        let mut untold = None;
        for _ in 0..MAX_AT_ONCE {
            if self.budget.paused(now).is_some() {
                break;
            }
            if let DatagramSource::Instance { run } = self.source {
                if matches!(datagram::next_carries_descriptors(&self.socket), Ok(Some(true))) {
                    self.is_refused = true;
                    untold.iter().try_for_each(&mut tell)?;
                    return tell(&ReaderReport::SentDescriptors { run });
                }
            }
            let received = match self.source {
                // A long entry comes as a descriptor.
                DatagramSource::Journal => datagram::recv(&self.socket, buffer),
                DatagramSource::Instance { .. } | DatagramSource::Services | DatagramSource::Syslog => {
                    datagram::recv_without_descriptors(&self.socket, buffer)
                }
            };
            let received = match received {
                Ok(Some(received)) => received,
                Ok(None) => break,
                // Nothing that comes again at once: a datagram was taken.
                Err(_) => {
                    self.budget.spend(1, now);
                    continue;
                }
            };
            self.budget.spend(1, now);
            if received.had_more_descriptors {
                self.budget.pause_until(now.saturating_add(SILENCE));
            }
            if let Some(report) = self.report(buffer, received, now) {
                match untold.take() {
                    None => untold = Some(report),
                    Some(earlier) => {
                        let (told, last) = join(earlier, report);
                        told.iter().try_for_each(&mut tell)?;
                        untold = Some(last);
                    }
                }
            }
        }
        if matches!(self.source, DatagramSource::Instance { .. }) && self.budget.paused(now).is_some() {
            self.budget.pause_until(next_round(now, ROUND));
        }
        untold.iter().try_for_each(tell)
    }

    /// What init is told of a datagram; `None`: nothing that it acts on.
    fn report(&self, buffer: &[u8], received: Datagram, now: Moment) -> Option<ReaderReport> {
        let bytes = buffer.get(..received.len)?;
        let sender = received.sender;
        let pid = sender.map_or(0, |sender| sender.pid);
        match self.source {
            DatagramSource::Instance { run } => notification_report(run, sender?.uid, bytes),
            DatagramSource::Services => {
                parse_notification(bytes).ready.then_some(ReaderReport::ServiceReady { pid: sender?.pid })
            }
            DatagramSource::Journal => match received.descriptors.into_iter().next() {
                // An entry too long for a datagram comes as a sealed memfd with an empty one.
                Some(descriptor) if bytes.is_empty() => {
                    let Beginning { bytes, is_all } =
                        memfd::read_sealed_beginning(&descriptor, MAX_ENTRY_BYTES as u64).ok()?;
                    entry_report(&bytes, if is_all { Extent::Whole } else { Extent::Beginning }, pid, now)
                }
                Some(_) | None => {
                    entry_report(bytes, if received.is_cut { Extent::Beginning } else { Extent::Whole }, pid, now)
                }
            },
            DatagramSource::Syslog => {
                let message = parse_syslog(bytes);
                let identifier = message.identifier.unwrap_or("syslog");
                Some(record_report(message.priority, identifier, pid, &message.message, now))
            }
        }
    }
}

fn notification_report(run: u32, uid: u32, bytes: &[u8]) -> Option<ReaderReport> {
    let said = parse_notification(bytes);
    let ping = said.ping.map(|ping| match ping {
        Ping::Alive => WatchdogPing::Alive,
        Ping::Trigger => WatchdogPing::Trigger,
    });
    let is_something = said.ready || said.status.is_some() || ping.is_some();
    is_something.then(|| ReaderReport::Notification {
        run,
        uid,
        is_ready: said.ready,
        status: said.status.map(clipped),
        ping,
    })
}

/// Both as one; or the earlier and the later, where one report cannot say what both say.
fn join(earlier: ReaderReport, later: ReaderReport) -> (Option<ReaderReport>, ReaderReport) {
    use ReaderReport::Notification;
    match (earlier, later) {
        (
            Notification { run, uid, is_ready, status, ping },
            Notification { run: run2, uid: uid2, is_ready: is_ready2, status: status2, ping: ping2 },
        ) if (run, uid) == (run2, uid2) => {
            // Whoever asks for its end is not saved by what it says next.
            let ping = if ping == Some(WatchdogPing::Trigger) { ping } else { ping2.or(ping) };
            let both = Notification { run, uid, is_ready: is_ready || is_ready2, status: status2.or(status), ping };
            (None, both)
        }
        (earlier, later) => (Some(earlier), later),
    }
}

fn entry_report(bytes: &[u8], extent: Extent, pid: i32, now: Moment) -> Option<ReaderReport> {
    let entry = journal_protocol::parse_journal_entry(bytes, extent)?;
    let identifier = entry.identifier.as_deref().filter(|name| !name.is_empty());
    Some(record_report(entry.priority, identifier.unwrap_or("journal"), pid, &entry.message, now))
}

fn record_report(priority: u8, identifier: &str, pid: i32, message: &str, now: Moment) -> ReaderReport {
    ReaderReport::Record(LogRecord {
        monotonic_ms: whole_ms(now),
        priority,
        identifier: clipped(identifier),
        pid,
        message: clipped(message),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::Path;

    const NOW: Moment = Moment::from_secs(100);

    /// An instance's socket, and what of these datagrams init is told by looks at these times.
    fn told(datagrams: &[&str], looks: &[Moment]) -> Vec<(bool, Option<String>, Option<WatchdogPing>)> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let mut watched = Watched::new(DatagramSource::Instance { run: 7 }, datagram::bind(&path, 0o600).unwrap());
        let sender = datagram::unbound().unwrap();
        let mut left = datagrams.iter();
        let mut told = Vec::new();
        for look in looks {
            // A queue holds a few only; who floods fills it again.
            while let Some(text) = left.as_slice().first() {
                if datagram::send(&sender, Path::new(&path), text.as_bytes(), None).unwrap().is_none() {
                    break;
                }
                left.next();
            }
            if !watched.is_polled(*look) {
                continue;
            }
            let tell = |report: &ReaderReport| {
                let ReaderReport::Notification { run: 7, is_ready, status, ping, .. } = report else {
                    panic!("{report:?}")
                };
                told.push((*is_ready, status.as_ref().map(|status| status.to_string()), *ping));
                Ok(())
            };
            assert!(watched.read(*look, tell).is_ok());
        }
        told
    }

    #[test]
    fn what_is_said_in_one_look_is_told_once_and_nothing_of_it_is_lost() {
        let said = ["STATUS=one", "READY=1", "WATCHDOG=trigger", "STATUS=two\nWATCHDOG=1", "nothing that counts"];
        let wanted = (true, Some("two".to_owned()), Some(WatchdogPing::Trigger));
        assert_eq!(told(&said, &[NOW]), [wanted]);
        assert_eq!(told(&["WATCHDOG=1"], &[NOW]), [(false, None, Some(WatchdogPing::Alive))]);
        assert_eq!(told(&[], &[NOW]), []);
    }

    #[test]
    fn who_says_too_much_is_heard_once_a_second() {
        let said = vec!["STATUS=again"; 4000];
        // A minute of looks, far more often than its budget allows.
        let looks: Vec<Moment> = (0..6000).map(|number| NOW + Duration::from_millis(10 * number)).collect();
        let count = told(&said, &looks).len();
        // The burst comes as fast as it is sent.
        assert!((55..=75).contains(&count), "{count}");
    }
}
