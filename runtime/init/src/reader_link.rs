//! init's side of the datagram reader: starts it, starts it again when it dies or hangs, and hands it every socket to which others
//! send.
//!
//! Nothing is closed here: see [`close_queue`](crate::close_queue).

use crate::boot_clock::Moment;
use crate::deferred_close::{CloseBy, DeferredClose, Discarded};
use crate::log::{Log, Priority};
use crate::paths::Paths;
use crate::process::{Output, Start, how_it_ended};
use crate::reader_socket::ReaderSocket;
use crate::service::{self, State, Wanted};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use yado_sys::children::{self, Child, Ended, SIGSYS, Session};
use yado_sys::packet;
use yado_sys::poll::Interest;
use yado_wire::MAX_FRAME_BYTES;
use yado_wire::datagrams::{DatagramSource, ReaderReport, ReaderRequest};

/// Its name in the log and on the command line.
pub(crate) const NAME: &str = "datagram-reader";

/// A reader that does not answer a request within this time hangs. Its own waits end after some hundredths of a second.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the reader is pinged, when something else wakes init.
const PING_PAUSE: Duration = Duration::from_secs(10);

/// A killed reader that does not end within this time hangs in the kernel, and another one is started. Nobody is heard meanwhile.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// The reader, as we see it.
#[derive(Debug)]
pub(crate) struct ReaderLink {
    state: State,
    process: Option<(i32, OwnedFd)>,
    output: Option<Output>,
    link: Option<DeferredClose>,
    /// The link is full.
    is_blocked: bool,
    /// Numbers the readers.
    generation: u32,
    /// Requests that it has not answered yet.
    unanswered: u32,
    /// When it counts as hanging, unless it answers before.
    answer_by: Option<Moment>,
    /// It was killed: when it counts as hanging in the kernel.
    gone_by: Option<Moment>,
    heard_at: Moment,
    next_run: u32,
    /// Sockets that are open for as long as we live.
    own: Vec<ReaderSocket>,
    /// It was killed because it did not answer.
    has_hung: bool,
}

/// What is needed to keep the reader running.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    wanted: Wanted,
    groups: &'a Path,
    discarded: &'a Discarded,
}

impl<'a> Surroundings<'a> {
    /// `wanted`: whether the reader is to run.
    pub(crate) fn new(wanted: Wanted, paths: &'a Paths, discarded: &'a Discarded) -> Surroundings<'a> {
        Surroundings { wanted, groups: &paths.service_groups, discarded }
    }
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
    /// Has the reader receive from a socket of the system from now on.
    pub(crate) fn watch(&mut self, source: DatagramSource, socket: OwnedFd, discarded: &Discarded) {
        self.own.push(ReaderSocket::new(source, socket, discarded));
    }

    /// Has the reader receive from the socket of an instance's new run, for as long as the result is kept.
    pub(crate) fn watch_run(&mut self, socket: OwnedFd, discarded: &Discarded) -> ReaderSocket {
        self.next_run = self.next_run.wrapping_add(1);
        ReaderSocket::new(DatagramSource::Instance { run: self.next_run }, socket, discarded)
    }

    /// The link, and what it is polled for.
    pub(crate) fn link(&self) -> Option<(&DeferredClose, Interest)> {
        let link = self.link.as_ref()?;
        Some((link, if self.is_blocked { Interest::ReadWrite } else { Interest::Read }))
    }

    /// Its output, while it runs.
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

    /// Sends a request. `false`: the link is full or lost. Only sending sockets could block in the kernel: see the end of
    /// [`close_queue`](crate::close_queue)'s opening comment.
    pub(crate) fn ask(&mut self, request: &ReaderRequest, descriptor: Option<BorrowedFd<'_>>, now: Moment) -> bool {
        let (Some(link), Some(packet)) = (&self.link, yado_wire::encode(request)) else { return false };
        if self.is_blocked {
            return false;
        }
        match packet::send(link, &packet, descriptor.as_slice()) {
            Ok(Some(())) => {
                self.unanswered = self.unanswered.saturating_add(1);
                self.answer_by.get_or_insert(now.saturating_add(ANSWER_TIMEOUT));
                true
            }
            Ok(None) => {
                self.is_blocked = true;
                self.answer_by.get_or_insert(now.saturating_add(ANSWER_TIMEOUT));
                false
            }
            Err(_) => {
                self.kill(now);
                false
            }
        }
    }

    fn tell(&mut self, socket: &mut ReaderSocket, now: Moment) {
        let generation = self.generation;
        if socket.told != generation
            && self.ask(&ReaderRequest::Watch(socket.source), Some(socket.socket.as_fd()), now)
        {
            socket.told = generation;
        }
    }

    /// Whether the reader has answered all requests, or has ended.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.process.is_none() || self.unanswered == 0
    }

    /// Ends a reader that is lost or hangs.
    fn kill(&mut self, now: Moment) {
        self.link = None;
        self.answer_by = None;
        if let Some((_, pidfd)) = &self.process {
            children::kill(pidfd.as_fd());
            self.gone_by.get_or_insert(now.saturating_add(END_TIMEOUT));
        }
    }

    fn start(&mut self, groups: &Path, discarded: &Discarded) -> io::Result<()> {
        let group = service::group::make(groups, NAME).ok();
        let (ours, theirs) = packet::socketpair()?;
        let ours = discarded.hold(ours, CloseBy::Closer);
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

    /// Keeps the reader running, and tells it what it does not know yet. `runs`: the sockets of instances that run.
    pub(crate) fn advance<'a>(
        &mut self,
        runs: impl Iterator<Item = &'a mut ReaderSocket>,
        around: &Surroundings<'_>,
        log: &mut Log,
        now: Moment,
    ) {
        if self.answer_by.is_some_and(|at| at <= now) {
            log.say(Priority::Error, format_args!("{NAME}: does not answer; it is killed"));
            self.has_hung = true;
            self.kill(now);
        }
        if self.gone_by.is_some_and(|at| at <= now) {
            log.say(Priority::Error, format_args!("{NAME}: does not end; another one is started"));
            self.forget(around, log, now);
        }
        self.step(service::Event::Wake, around, log, now);
        if self.link.is_none() {
            return;
        }
        let mut own = std::mem::take(&mut self.own);
        for socket in &mut own {
            self.tell(socket, now);
        }
        self.own = own;
        for socket in runs {
            self.tell(socket, now);
        }
        if self.unanswered == 0 && self.heard_at.saturating_add(PING_PAUSE) <= now {
            self.ask(&ReaderRequest::Ping, None, now);
        }
    }

    fn step(&mut self, event: service::Event, around: &Surroundings<'_>, log: &mut Log, now: Moment) {
        let (state, action) = service::step(self.state, around.wanted, event, now);
        self.state = state;
        match action {
            service::Action::Spawn => {
                self.heard_at = now;
                if let Err(error) = self.start(around.groups, around.discarded) {
                    log.say(Priority::Error, format_args!("start {NAME}: {error}"));
                    self.state = service::step(state, around.wanted, service::Event::Exited, now).0;
                }
            }
            service::Action::Terminate | service::Action::Kill => self.kill(now),
            service::Action::None => {}
        }
    }

    /// The reader has ended.
    pub(crate) fn note_end(&mut self, ended: Ended, around: &Surroundings<'_>, log: &mut Log, now: Moment) {
        if ended == Ended::Signal(SIGSYS) {
            let what = "made a system call that it has no use for, and was killed for it";
            log.say(Priority::Error, format_args!("{NAME}: {what}"));
        } else if around.wanted == Wanted::Up {
            log.say(Priority::Warning, format_args!("{NAME}: {}; it is started again", how_it_ended(ended)));
        }
        self.forget(around, log, now);
    }

    fn forget(&mut self, around: &Surroundings<'_>, log: &mut Log, now: Moment) {
        self.process = None;
        self.link = None;
        self.answer_by = None;
        self.gone_by = None;
        self.unanswered = 0;
        if let Some(mut output) = self.output.take() {
            output.drain(now, &mut |line| log.record(Priority::Warning as u8, NAME, 0, line));
        }
        service::group::remove(around.groups, NAME);
        let event = if std::mem::take(&mut self.has_hung) {
            // Instances that must be heard do not wait for a back-off: that it hangs shows no sooner than after
            // `ANSWER_TIMEOUT`, so this is rare enough.
            self.state = State::Stopped;
            service::Event::Wake
        } else {
            service::Event::Exited
        };
        self.step(event, around, log, now);
    }

    /// Reads what the reader prints: why it could not begin.
    pub(crate) fn read_output(&mut self, log: &mut Log, now: Moment) {
        if let Some(output) = &mut self.output {
            output.read(now, &mut |line| log.record(Priority::Warning as u8, NAME, 0, line));
        }
    }

    /// Its link takes more.
    pub(crate) fn note_writable(&mut self) {
        self.is_blocked = false;
    }

    /// The reader's next report; `None`: there is none. It carries no descriptors: the reader's system call filter forbids that.
    pub(crate) fn read_report(&mut self, now: Moment) -> Option<ReaderReport> {
        let mut buffer = [0; MAX_FRAME_BYTES];
        let received = match packet::recv(self.link.as_ref()?, &mut buffer) {
            Ok(Some(received)) if !received.is_end() => received,
            Ok(None) => return None,
            Ok(Some(_)) | Err(_) => {
                self.kill(now);
                return None;
            }
        };
        self.heard_at = now;
        let report = yado_wire::decode(buffer.get(..received.len).unwrap_or(&[]));
        match report {
            Ok(ReaderReport::Done) => {
                self.unanswered = self.unanswered.saturating_sub(1);
                self.answer_by = (0 < self.unanswered).then(|| now.saturating_add(ANSWER_TIMEOUT));
            }
            Ok(_) => {}
            Err(_) => self.kill(now),
        }
        report.ok()
    }
}
