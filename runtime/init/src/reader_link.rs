//! init's side of the datagram reader: it is started and, when it dies or hangs, started again; every socket that somebody
//! else sends on is handed to it, again to each new one; and what it tells is checked and done.
//!
//! Nothing is closed here: see [`closing`](crate::closing).

use crate::heard_socket::HeardSocket;
use crate::instance::notify::{Notification, Ping};
use crate::log::{INSTANCE_PREFIX, OWN_IDENTIFIER, Priority};
use crate::moment::Moment;
use crate::process::{Output, Start, how_it_ended};
use crate::service::{self, State, Wanted};
use crate::supervisor::Supervisor;
use crate::untrusted::{Discarded, Untrusted, Way};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use yado_sys::children::{self, Child, Ended, Session};
use yado_sys::packet;
use yado_sys::poll::Interest;
use yado_wire::MAX_FRAME_BYTES;
use yado_wire::datagrams::{DatagramSource, ReaderReport, ReaderRequest, WatchdogPing};

/// Its name in the log and on the command line.
pub(crate) const NAME: &str = "datagram-reader";

/// Packets that are taken before the others have their turn.
const MOST_AT_ONCE: usize = 32;

/// It answers each request within this, or it hangs. Its own waits end after some hundredths of a second.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);

/// Where something wakes us anyway, it is asked so often whether it is well.
const PING_PAUSE: Duration = Duration::from_secs(10);

/// Killed, it ends within this, or it hangs in the kernel; then another one takes its place. Nobody is heard meanwhile.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// The reader, as we see it.
#[derive(Debug)]
pub(crate) struct ReaderLink {
    state: State,
    process: Option<(i32, OwnedFd)>,
    output: Option<Output>,
    link: Option<Untrusted>,
    /// The link takes no more now.
    is_blocked: bool,
    /// Numbers the readers.
    generation: u32,
    /// Requests that it has not answered yet.
    unanswered: u32,
    /// When it hangs if nothing is heard of it before.
    answer_by: Option<Moment>,
    /// It was killed: when it hangs in the kernel.
    gone_by: Option<Moment>,
    heard_at: Moment,
    next_run: u32,
    /// Sockets that are open for as long as we live.
    own: Vec<HeardSocket>,
    /// It was killed because it did not answer.
    has_hung: bool,
}

impl Default for ReaderLink {
    fn default() -> ReaderLink {
        ReaderLink {
            state: State::Stopped,
            process: None,
            output: None,
            link: None,
            is_blocked: false,
            generation: 0,
            unanswered: 0,
            answer_by: None,
            gone_by: None,
            heard_at: Moment::ZERO,
            next_run: 0,
            own: Vec::new(),
            has_hung: false,
        }
    }
}

impl ReaderLink {
    /// Receives from a socket of the system's, from now on.
    pub(crate) fn watch(&mut self, source: DatagramSource, socket: OwnedFd, discarded: &Discarded) {
        self.own.push(HeardSocket::new(source, socket, discarded));
    }

    /// Receives from the socket of an instance's new run, for as long as the result is kept.
    pub(crate) fn watch_run(&mut self, socket: OwnedFd, discarded: &Discarded) -> HeardSocket {
        self.next_run = self.next_run.wrapping_add(1);
        HeardSocket::new(DatagramSource::Instance { run: self.next_run }, socket, discarded)
    }

    /// The link, and what it is polled for.
    pub(crate) fn link(&self) -> Option<(&Untrusted, Interest)> {
        let link = self.link.as_ref()?;
        Some((link, if self.is_blocked { Interest::ReadWrite } else { Interest::Read }))
    }

    /// What it prints.
    pub(crate) fn output(&self) -> Option<&File> {
        self.output.as_ref().and_then(Output::reader)
    }

    /// Whether this process is the reader.
    pub(crate) fn is(&self, pid: i32) -> bool {
        self.process.as_ref().is_some_and(|(own, _)| *own == pid)
    }

    /// When something is to be done though nothing happens.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let start = match self.state {
            State::BackingOff { until, .. } => Some(until),
            State::Stopping { kill_at } => Some(kill_at),
            State::Stopped | State::Running { .. } => None,
        };
        [start, self.answer_by, self.gone_by].into_iter().flatten().min()
    }

    /// Sends a request. `false`: the link takes no more now, or is lost.
    pub(crate) fn ask(&mut self, request: &ReaderRequest, descriptor: Option<BorrowedFd<'_>>, now: Moment) -> bool {
        let (Some(link), Some(packet)) = (&self.link, yado_wire::encode(request)) else { return false };
        if self.is_blocked {
            return false;
        }
        match packet::send(link, &packet, descriptor.as_slice()) {
            Ok(Some(())) => {
                self.unanswered = self.unanswered.saturating_add(1);
                self.answer_by.get_or_insert(now.saturating_add(ANSWER_PATIENCE));
                true
            }
            Ok(None) => {
                self.is_blocked = true;
                self.answer_by.get_or_insert(now.saturating_add(ANSWER_PATIENCE));
                false
            }
            Err(_) => {
                self.kill(now);
                false
            }
        }
    }

    fn tell(&mut self, socket: &mut HeardSocket, now: Moment) {
        let generation = self.generation;
        if socket.told != generation
            && !socket.is_refused
            && self.ask(&ReaderRequest::Watch(socket.source), Some(socket.socket.as_fd()), now)
        {
            socket.told = generation;
        }
    }

    /// It has done all that it was asked to, or is no more.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.process.is_none() || self.unanswered == 0
    }

    /// Ends a reader that is lost or hangs.
    fn kill(&mut self, now: Moment) {
        self.link = None;
        self.answer_by = None;
        if let Some((_, pidfd)) = &self.process {
            children::kill(pidfd.as_fd());
            self.gone_by.get_or_insert(now.saturating_add(END_PATIENCE));
        }
    }

    fn start(&mut self, groups: &Path, discarded: &Discarded) -> io::Result<()> {
        let group = service::group::make(groups, NAME).ok();
        let (ours, theirs) = packet::socketpair()?;
        let ours = discarded.hold(ours, Way::Closer);
        packet::set_nonblocking(&ours)?;
        let (output, writer) = Output::pipe()?;
        let Child { pid, pidfd } = Start {
            // By the link, not by its target: after an update the running file may be another than the one by this name.
            path: Path::new("/proc/self/exe"),
            arguments: &[OsStr::new("yado-init"), OsStr::new("--datagram-reader")],
            environment: &[],
            descriptors: &[
                (writer.as_fd(), 1),
                (writer.as_fd(), 2),
                (theirs.as_fd(), crate::datagram_reader::LINK_FD),
            ],
            group: group.as_ref().map(AsFd::as_fd),
            session: Session::Own,
        }
        .start()?;
        service::group::spare(pid);
        self.generation = self.generation.wrapping_add(1).max(1);
        self.process = Some((pid, pidfd));
        self.output = Some(output);
        self.link = Some(ours);
        self.is_blocked = false;
        self.unanswered = 0;
        self.answer_by = None;
        self.gone_by = None;
        Ok(())
    }
}

impl Supervisor {
    /// Keeps the reader running, and tells it what it does not know yet.
    pub(crate) fn advance_reader(&mut self, now: Moment) {
        let reader = &mut self.reader;
        if reader.answer_by.is_some_and(|at| at <= now) {
            self.log.say(Priority::Error, format_args!("{NAME}: does not answer; it is killed"));
            reader.has_hung = true;
            reader.kill(now);
        }
        if reader.gone_by.is_some_and(|at| at <= now) {
            self.log.say(Priority::Error, format_args!("{NAME}: does not end; another one takes its place"));
            self.forget_reader(now);
        }
        self.step_reader(service::Event::Wake, now);
        let reader = &mut self.reader;
        if reader.link.is_none() {
            return;
        }
        let mut own = std::mem::take(&mut reader.own);
        let runs = self.instances.iter_mut().filter_map(|instance| instance.run.notify.as_mut());
        for socket in own.iter_mut().chain(runs) {
            reader.tell(socket, now);
        }
        reader.own = own;
        if reader.unanswered == 0 && reader.heard_at.saturating_add(PING_PAUSE) <= now {
            reader.ask(&ReaderRequest::Ping, None, now);
        }
    }

    /// What we want of the reader: it outlives the services, whose last words it hears.
    fn wanted_reader(&self) -> Wanted {
        let is_alone = self.services.iter().all(|service| service.state == State::Stopped);
        match self.wanted_services() {
            Wanted::Down if is_alone => Wanted::Down,
            Wanted::Down | Wanted::Up => Wanted::Up,
        }
    }

    fn step_reader(&mut self, event: service::Event, now: Moment) {
        let wanted = self.wanted_reader();
        let (state, action) = service::step(self.reader.state, wanted, event, now);
        self.reader.state = state;
        match action {
            service::Action::Spawn => {
                self.reader.heard_at = now;
                if let Err(error) = self.reader.start(&self.places.service_groups, self.closing.discarded()) {
                    self.log.say(Priority::Error, format_args!("start {NAME}: {error}"));
                    self.reader.state = service::step(state, wanted, service::Event::Exited, now).0;
                }
            }
            service::Action::Terminate | service::Action::Kill => self.reader.kill(now),
            service::Action::None => {}
        }
    }

    /// The reader has ended.
    pub(crate) fn note_reader_end(&mut self, ended: Ended, now: Moment) {
        if self.wanted_reader() == Wanted::Up {
            self.log.say(Priority::Warning, format_args!("{NAME}: {}; it is started again", how_it_ended(ended)));
        }
        self.forget_reader(now);
    }

    fn forget_reader(&mut self, now: Moment) {
        let log = &mut self.log;
        self.reader.process = None;
        self.reader.link = None;
        self.reader.answer_by = None;
        self.reader.gone_by = None;
        self.reader.unanswered = 0;
        if let Some(mut output) = self.reader.output.take() {
            output.drain(now, |line| log.record(Priority::Warning as u8, NAME, 0, line));
        }
        service::group::remove(&self.places.service_groups, NAME);
        let event = if std::mem::take(&mut self.reader.has_hung) {
            // Instances that must be heard do not wait for a back-off: that it hangs shows no sooner than after
            // `ANSWER_PATIENCE`, so this is rare enough.
            self.reader.state = State::Stopped;
            service::Event::Wake
        } else {
            service::Event::Exited
        };
        self.step_reader(event, now);
    }

    /// Reads what the reader prints: why it could not begin.
    pub(crate) fn read_reader_output(&mut self, now: Moment) {
        let log = &mut self.log;
        if let Some(output) = &mut self.reader.output {
            output.read(now, |line| log.record(Priority::Warning as u8, NAME, 0, line));
        }
    }

    /// Reads what the reader tells. Nothing comes with it: its system call filter keeps it from sending descriptors.
    pub(crate) fn read_reader(&mut self, is_writable: bool, now: Moment) {
        if is_writable {
            self.reader.is_blocked = false;
        }
        let mut buffer = [0; MAX_FRAME_BYTES];
        for _ in 0..MOST_AT_ONCE {
            let Some(link) = &self.reader.link else { return };
            let received = match packet::recv(link, &mut buffer) {
                Ok(Some(received)) if !received.is_end() => received,
                Ok(None) => return,
                Ok(Some(_)) | Err(_) => return self.reader.kill(now),
            };
            self.reader.heard_at = now;
            match yado_wire::decode(buffer.get(..received.len).unwrap_or(&[])) {
                Ok(report) => self.take_reader_report(report, now),
                Err(_) => return self.reader.kill(now),
            }
        }
    }

    fn take_reader_report(&mut self, report: ReaderReport, now: Moment) {
        match report {
            ReaderReport::Done => {
                let unanswered = self.reader.unanswered.saturating_sub(1);
                self.reader.unanswered = unanswered;
                self.reader.answer_by = (0 < unanswered).then(|| now.saturating_add(ANSWER_PATIENCE));
            }
            ReaderReport::Notification { run, uid, is_ready, status, ping } => {
                let is_of = |instance: &crate::instance::Instance| {
                    instance.run.notify.as_ref().is_some_and(|socket| socket.is_of(run))
                };
                let Some(number) = self.instances.iter().position(is_of) else { return };
                let ping = ping.map(|ping| match ping {
                    WatchdogPing::Alive => Ping::Alive,
                    WatchdogPing::Trigger => Ping::Trigger,
                });
                let notification = Notification { ready: is_ready, status: status.as_deref(), ping };
                self.take_notification(number, uid, &notification, now);
            }
            ReaderReport::SentDescriptors { run } => {
                for instance in &mut self.instances {
                    let Some(socket) = instance.run.notify.as_mut().filter(|socket| socket.is_of(run)) else {
                        continue;
                    };
                    socket.is_refused = true;
                    let name = &instance.name;
                    let what = "sent descriptors on its $NOTIFY_SOCKET: it is not heard any more in this run";
                    self.log.say(Priority::Error, format_args!("{name}: {what}"));
                }
            }
            ReaderReport::ServiceReady { pid } => self.note_service_ready(pid),
            ReaderReport::Record(record) => {
                let identifier = record.identifier.as_str();
                let is_ours = identifier == OWN_IDENTIFIER || identifier.starts_with(INSTANCE_PREFIX);
                let identifier = if is_ours { "journal" } else { identifier };
                self.log.record(record.priority, identifier, record.pid, &record.message);
            }
        }
    }
}
