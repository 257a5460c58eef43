//! The sockets of the name server on one bridge, UDP and TCP. They are bound to the bridge and to its address, and questions from
//! addresses outside its network are not answered.

use super::answer::{Answer, answer, refusal};
use super::forward::{MAX_UDP_BYTES, forward_tcp, host_servers, write_framed};
use super::forwarded_queries::{ForwardedQueries, Heard};
use super::query_limit::QueryLimit;
use super::zone::Zones;
use crate::owned_task::Task;
use crate::readiness::{Watched, poll_read_from, take_one, watch};
use crate::wakeup_timer::WakeupTimer;
use simple_dns::RCODE;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch as latest};
use tokio::time::timeout;
use yado_sys::clock::since_boot;
use yado_sys::raw_socket;
use yado_wire::Budget;
use yado_wire::Text;

/// Questions that wait for the uplink's servers at a time: those of one address, and those of one bridge; more are dropped, and
/// asked again by whoever cares. An apt that begins asks for a dozen names at once, three questions each. An address is what
/// its sender says, and it may be a neighbour's; but by one port come 48 at once and 8 in a second (`limits.rs`), and each waits
/// for three servers at most, two seconds each: 48 + 8 * 6 = 96. So whoever asks in a neighbour's name leaves it 48.
const MAX_FORWARDED_EACH: usize = 96 + 48;
const MAX_FORWARDED: usize = 4 * MAX_FORWARDED_EACH;
/// Questions of all instances of one bridge together that are looked at as they come. More are looked at now and then, so that
/// what waits is done at one go: to be woken for each costs as much as to answer it. Sixteen come back in 32 ms.
const BURST: u32 = 16;
const PAUSE: Duration = Duration::from_millis(2);
/// Then so many at a time.
const MAX_IN_A_ROW: u32 = 32;
/// Questions of one TCP connection.
const CONNECTION_BURST: u32 = 50;
const CONNECTION_PAUSE: Duration = Duration::from_millis(50);
/// TCP connections of one bridge at a time; more wait to be accepted. What one address has beyond its part is closed.
const MAX_CONNECTIONS: usize = 8;
const MAX_CONNECTIONS_EACH: usize = 2;
/// How long a TCP connection may be silent.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A question is a name of at most 255 bytes and little else.
const MAX_QUERY_BYTES: usize = 1232;
/// How long a socket that failed is left alone.
const FAILED_PAUSE: Duration = Duration::from_millis(100);
const PORT: u16 = 53;

/// Opens the sockets and serves as long as the tasks live.
pub(crate) fn start(
    bridge: &Text<15>,
    address: Ipv4Addr,
    zones: &latest::Receiver<Arc<Zones>>,
) -> io::Result<Vec<Task>> {
    let here = SocketAddrV4::new(address, PORT);
    let udp = watch(raw_socket::udp_socket_on(bridge, here)?.into())?;
    let tcp = TcpListener::from_std(raw_socket::tcp_listener_on(bridge, here)?)?;
    let server = Arc::new(Server {
        bridge: bridge.clone(),
        zones: zones.clone(),
        forwarded: QueryLimit::new(MAX_FORWARDED, MAX_FORWARDED_EACH),
    });
    Ok(vec![Task::spawn(serve_udp(server.clone(), udp)), Task::spawn(serve_tcp(server, tcp))])
}

struct Server {
    bridge: Text<15>,
    zones: latest::Receiver<Arc<Zones>>,
    forwarded: Arc<QueryLimit>,
}

/// What can wake the UDP server.
enum Event {
    /// So many bytes of the buffer are a question.
    Asked { len: usize, from: SocketAddrV4 },
    /// The server's own socket failed.
    Failed,
    /// The uplink's servers.
    Heard(Heard),
    /// There is nothing to read any more, and the budget is overdrawn.
    Overdrawn,
    /// The time.
    Due,
}

async fn serve_udp(server: Arc<Server>, socket: Watched) {
    let mut buffer = [0; MAX_UDP_BYTES];
    let mut budget = Budget::each(BURST, PAUSE);
    let (mut in_a_row, mut overdrawn_until, mut paused_until) = (0, None, None);
    let mut queries = ForwardedQueries::default();
    let mut timer = WakeupTimer::default();
    // One that finds no room is asked again.
    let reply = |bytes: &[u8], to| drop(raw_socket::send_datagram(socket.get_ref(), bytes, to));
    loop {
        let event = poll_fn(|cx| {
            if paused_until.is_some() {
                return timer.poll(cx).map(|()| Event::Due);
            }
            if let Poll::Ready(heard) = queries.poll_heard(cx, &mut buffer) {
                return Poll::Ready(Event::Heard(heard));
            }
            if in_a_row < MAX_IN_A_ROW {
                let question = &mut buffer[..MAX_QUERY_BYTES];
                let read = poll_read_from(&socket, cx, |socket| raw_socket::recv_datagram(socket, question));
                if let Poll::Ready(read) = read {
                    return Poll::Ready(read.map_or(Event::Failed, |(len, from)| Event::Asked { len, from }));
                }
            }
            match overdrawn_until {
                Some(_) => Poll::Ready(Event::Overdrawn),
                None => timer.poll(cx).map(|()| Event::Due),
            }
        });
        let event = event.await;
        let now = since_boot();
        match event {
            Event::Asked { len, from } => {
                let wait = budget.spend(1, now);
                if !wait.is_zero() {
                    (in_a_row, overdrawn_until) = (in_a_row + 1, Some(now + wait));
                }
                let query = &buffer[..len];
                match server.decide(query, from.into()) {
                    Answer::Ignore => {}
                    Answer::Reply(bytes) => reply(&bytes, from),
                    Answer::Forward => {
                        let permit = server.forwarded.take((*from.ip()).into());
                        let refused = permit.and_then(|permit| {
                            server.with_servers(|servers| queries.ask(query, from, permit, servers, now))
                        });
                        if refused.is_some() {
                            reply(&refusal(query, RCODE::ServerFailure), from);
                        }
                    }
                }
            }
            // A reply that could not be delivered, or the bridge going away, which the monitor reports.
            Event::Failed => paused_until = Some(now + FAILED_PAUSE),
            Event::Heard(Heard::Reply { len, asker }) => reply(&buffer[..len], asker),
            Event::Overdrawn => (in_a_row, paused_until) = (0, overdrawn_until.take()),
            Event::Heard(Heard::Unreachable) | Event::Due => {
                paused_until = paused_until.filter(|until| now < *until);
                // To know the servers may take reading a file of the host's.
                if queries.deadline().is_some_and(|due| due <= now) {
                    for question in server.with_servers(|servers| queries.go_on(servers, now)) {
                        reply(&refusal(&question.as_asked(), RCODE::ServerFailure), question.asker);
                    }
                }
            }
        }
        timer.set_earlier(queries.deadline().into_iter().chain(paused_until).min(), now);
    }
}

async fn serve_tcp(server: Arc<Server>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let limit = QueryLimit::new(MAX_CONNECTIONS, MAX_CONNECTIONS_EACH);
    let mut budget = Budget::each(BURST, PAUSE);
    loop {
        take_one(&mut budget).await;
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let Some(permit) = limit.take(from.ip()) else { continue };
                let server = server.clone();
                tokio::spawn(async move {
                    // Whatever ends the connection, only its peer is concerned.
                    let _ = serve_connection(&server, stream, from).await;
                    drop((permit, place));
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve_connection(server: &Server, mut stream: TcpStream, from: SocketAddr) -> io::Result<()> {
    let mut budget = Budget::each(CONNECTION_BURST, CONNECTION_PAUSE);
    loop {
        take_one(&mut budget).await;
        let len = usize::from(timeout(TIMEOUT, stream.read_u16()).await??);
        if MAX_QUERY_BYTES < len {
            return Ok(());
        }
        let mut query = vec![0; len];
        timeout(TIMEOUT, stream.read_exact(&mut query)).await??;
        let reply = match server.decide(&query, from) {
            Answer::Ignore => return Ok(()),
            Answer::Reply(reply) => reply,
            Answer::Forward => match server.forwarded.take(from.ip()) {
                Some(_slot) => server.forward_tcp(&query).await,
                None => refusal(&query, RCODE::ServerFailure),
            },
        };
        timeout(TIMEOUT, write_framed(&mut stream, &reply)).await??;
    }
}

impl Server {
    fn decide(&self, query: &[u8], from: SocketAddr) -> Answer {
        let zones = self.zones.borrow();
        match (zones.of(&self.bridge), from.ip()) {
            (Some(zone), IpAddr::V4(from)) if zone.network.contains(from) => answer(query, zone),
            _ => Answer::Ignore,
        }
    }

    /// With the name servers that are asked now: the uplinks', or else the host's.
    fn with_servers<T>(&self, use_them: impl FnOnce(&[Ipv4Addr]) -> T) -> T {
        let zones = self.zones.borrow().clone();
        match &zones.servers[..] {
            [] => use_them(&host_servers()),
            servers => use_them(servers),
        }
    }

    async fn forward_tcp(&self, query: &[u8]) -> Vec<u8> {
        let servers = self.with_servers(<[Ipv4Addr]>::to_vec);
        match forward_tcp(query, &servers).await {
            Some(reply) => reply,
            None => refusal(query, RCODE::ServerFailure),
        }
    }
}
