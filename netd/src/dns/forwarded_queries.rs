//! Questions over UDP that were forwarded to the uplink's name servers, to one server after the other. A reply counts only if it
//! comes from the server that was asked, to the port that it was asked from, with the same random id and the same question.
//!
//! The socket is most of the cost of a question, so questions that come together share one. To forge a reply one must still guess
//! port and id, as if each question had its own socket. A shared port is open for a little longer, which helps only somebody who
//! searches for it by trying all ports.

use super::forward::{MAX_SERVERS, MAX_UDP_BYTES, PORT, TIMEOUT, is_reply_to};
use super::query_limit::QueryPermit;
use crate::readiness::{Watched, poll_read_from, watch};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::task::{Context, Poll};
use std::time::Duration;
use yado_sys::{random, raw_socket};

/// All questions of one bridge that wait.
#[derive(Debug, Default)]
pub(crate) struct ForwardedQueries {
    questions: Vec<Question>,
    ports: Vec<Port>,
    opened: u32,
    random: Vec<[u8; 2]>,
}

/// One question.
#[derive(Debug)]
pub(crate) struct Question {
    /// Who asks.
    pub(crate) asker: SocketAddrV4,
    /// The message, with the id that the server was told.
    query: Vec<u8>,
    askers_id: [u8; 2],
    /// The place of the server that is asked.
    server: usize,
    /// The [`Port::id`] of the socket that it is asked from.
    port_id: u32,
    until: Duration,
    _slot: QueryPermit,
}

/// A socket that some of the questions are asked from.
#[derive(Debug)]
struct Port {
    /// Counted up; not the UDP port.
    id: u32,
    socket: Watched,
    server: Ipv4Addr,
    asked: u32,
    fresh_until: Duration,
}

/// What was heard of the servers.
#[derive(Debug)]
pub(crate) enum Heard {
    /// So many bytes of the buffer are the reply to whom.
    Reply {
        /// How many.
        len: usize,
        /// To whom.
        asker: SocketAddrV4,
    },
    /// A server cannot be reached: [`ForwardedQueries::go_on`] has something to do.
    Unreachable,
}

/// Questions that are asked from one port, and how long new ones are: half as long as one question may wait, which is how long
/// a port is open in any case.
const MAX_ASKED: u32 = 16;
const FRESH: Duration = Duration::from_secs(1);
/// What is taken from the kernel at a time: two bytes for each id.
const RANDOM_BYTES: usize = 64;

impl ForwardedQueries {
    /// Asks the first of `servers` that can be asked. Returns the question if there is none.
    pub(crate) fn ask(
        &mut self,
        query: &[u8],
        asker: SocketAddrV4,
        permit: QueryPermit,
        servers: &[Ipv4Addr],
        now: Duration,
    ) -> Option<Question> {
        let askers_id = [query[0], query[1]];
        let query = query.to_vec();
        let question = Question { asker, query, askers_id, server: 0, port_id: 0, until: now, _slot: permit };
        self.ask_on(question, servers, now)
    }

    /// Asks the next server for those whose server was silent for too long, or is not there. Returns those that nobody
    /// answers.
    pub(crate) fn go_on(&mut self, servers: &[Ipv4Addr], now: Duration) -> Vec<Question> {
        let mut unanswered = Vec::new();
        while let Some(at) = self.questions.iter().position(|question| question.until <= now) {
            let mut question = self.questions.swap_remove(at);
            question.server += 1;
            unanswered.extend(self.ask_on(question, servers, now));
        }
        self.close_unused(now);
        unanswered
    }

    /// When [`ForwardedQueries::go_on`] has something to do. Ports that no question waits on are closed then, too.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let questions = self.questions.iter().map(|question| question.until).min();
        questions.or_else(|| self.ports.iter().map(|port| port.fresh_until).max())
    }

    /// Waits for a reply; it is then in `buffer`, with the asker's id.
    pub(crate) fn poll_heard(&mut self, cx: &mut Context<'_>, buffer: &mut [u8; MAX_UDP_BYTES]) -> Poll<Heard> {
        let ForwardedQueries { questions, ports, .. } = self;
        for at in 0..ports.len() {
            let Port { id, socket, .. } = &ports[at];
            while questions.iter().any(|question| question.port_id == *id) {
                match poll_read_from(socket, cx, |socket| raw_socket::recv_packet(socket, &mut buffer[..])) {
                    Poll::Ready(Ok(len)) => {
                        let is_answered = |question: &Question| {
                            question.port_id == *id && is_reply_to(&buffer[..len], &question.query)
                        };
                        let Some(at) = questions.iter().position(is_answered) else { continue };
                        let question = questions.swap_remove(at);
                        buffer[..2].copy_from_slice(&question.askers_id);
                        return Poll::Ready(Heard::Reply { len, asker: question.asker });
                    }
                    // An ICMP error.
                    Poll::Ready(Err(_)) => {
                        let on_it = questions.iter_mut().filter(|question| question.port_id == *id);
                        on_it.for_each(|question| question.until = Duration::ZERO);
                        ports.swap_remove(at);
                        return Poll::Ready(Heard::Unreachable);
                    }
                    Poll::Pending => break,
                }
            }
        }
        Poll::Pending
    }

    fn ask_on(&mut self, mut question: Question, servers: &[Ipv4Addr], now: Duration) -> Option<Question> {
        while let Some(server) = servers.iter().take(MAX_SERVERS).nth(question.server) {
            if self.send(&mut question, *server, now).is_ok() {
                question.until = now + TIMEOUT;
                self.questions.push(question);
                return None;
            }
            question.server += 1;
        }
        Some(question)
    }

    /// One that finds no room waits all the same: it may be asked of the next server.
    fn send(&mut self, question: &mut Question, server: Ipv4Addr, now: Duration) -> io::Result<()> {
        let at = self.port_to(server, now)?;
        question.port_id = self.ports[at].id;
        loop {
            question.query[..2].copy_from_slice(&self.random_id()?);
            let is_taken =
                |other: &Question| other.port_id == question.port_id && other.query[..2] == question.query[..2];
            if !self.questions.iter().any(is_taken) {
                break;
            }
        }
        let port = &mut self.ports[at];
        port.asked += 1;
        raw_socket::send_to_peer(port.socket.get_ref(), &question.query).map(drop)
    }

    fn port_to(&mut self, server: Ipv4Addr, now: Duration) -> io::Result<usize> {
        self.close_unused(now);
        if let Some(at) = self.ports.iter().position(|port| port.server == server && port.is_fresh(now)) {
            return Ok(at);
        }
        let socket = watch(raw_socket::udp_socket_to(SocketAddrV4::new(server, PORT))?)?;
        self.opened = self.opened.wrapping_add(1);
        self.ports.push(Port { id: self.opened, socket, server, asked: 0, fresh_until: now + FRESH });
        Ok(self.ports.len() - 1)
    }

    fn close_unused(&mut self, now: Duration) {
        let ForwardedQueries { questions, ports, .. } = self;
        ports.retain(|port| port.is_fresh(now) || questions.iter().any(|question| question.port_id == port.id));
    }

    fn random_id(&mut self) -> io::Result<[u8; 2]> {
        if self.random.is_empty() {
            let bytes = random::random_bytes::<RANDOM_BYTES>()?;
            self.random.extend(bytes.chunks_exact(2).map(|id| [id[0], id[1]]));
        }
        self.random.pop().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Question {
    /// The message as the asker sent it.
    pub(crate) fn as_asked(&self) -> Vec<u8> {
        [&self.askers_id[..], &self.query[2..]].concat()
    }
}

impl Port {
    fn is_fresh(&self, now: Duration) -> bool {
        self.asked < MAX_ASKED && now < self.fresh_until
    }
}
