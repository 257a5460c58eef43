//! The name server's sockets on one bridge, UDP and TCP. They are bound to the bridge and to its address, and a question
//! from an address outside its network is not answered.

use super::answer::{Answer, answer, refusal};
use super::forward::{Transport, forward, write_framed};
use super::slots::Slots;
use super::zone::Zones;
use crate::readiness::take_one;
use crate::task::Task;
use simple_dns::RCODE;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch as latest};
use tokio::time::timeout;
use yado_sys::raw_socket;
use yado_wire::Budget;
use yado_wire::Text;

/// Questions of one bridge that wait for the uplink's servers at a time, and those of one address among them; more are
/// dropped, and asked again by whoever cares.
const MAX_FORWARDED: usize = 32;
const MAX_FORWARDED_EACH: usize = MAX_FORWARDED / 4;
/// Questions of all instances of one bridge together, should the kernel not limit each of them.
const BURST: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(2);
/// Questions of one TCP connection.
const CONNECTION_BURST: u32 = 50;
const CONNECTION_PAUSE: Duration = Duration::from_millis(50);
/// TCP connections of one bridge at a time; more wait to be accepted. What one address has beyond its part is closed.
const MAX_CONNECTIONS: usize = 8;
const MAX_CONNECTIONS_EACH: usize = 2;
/// How long a TCP connection may be silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// A question is a name of at most 255 bytes and little else.
const MAX_QUERY_BYTES: usize = 1232;
const PORT: u16 = 53;

/// Opens the sockets and serves as long as the tasks live.
pub(crate) fn start(
    bridge: &Text<15>,
    address: Ipv4Addr,
    zones: &latest::Receiver<Arc<Zones>>,
) -> io::Result<Vec<Task>> {
    let here = SocketAddrV4::new(address, PORT);
    let udp = UdpSocket::from_std(raw_socket::udp_socket_on(bridge, here)?)?;
    let tcp = TcpListener::from_std(raw_socket::tcp_listener_on(bridge, here)?)?;
    let server = Arc::new(Server {
        bridge: bridge.clone(),
        zones: zones.clone(),
        forwarded: Slots::new(MAX_FORWARDED, MAX_FORWARDED_EACH),
    });
    Ok(vec![Task::spawn(serve_udp(server.clone(), Arc::new(udp))), Task::spawn(serve_tcp(server, tcp))])
}

struct Server {
    bridge: Text<15>,
    zones: latest::Receiver<Arc<Zones>>,
    forwarded: Arc<Slots>,
}

async fn serve_udp(server: Arc<Server>, socket: Arc<UdpSocket>) {
    let mut buffer = [0; MAX_QUERY_BYTES];
    let mut budget = Budget::each(BURST, PAUSE);
    loop {
        take_one(&mut budget).await;
        let (len, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // A reply that could not be delivered, or the bridge going away, which the monitor reports.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let query = &buffer[..len];
        match server.decide(query, from) {
            Answer::Ignore => {}
            Answer::Reply(reply) => {
                // No room: the question is asked again.
                let _ = socket.try_send_to(&reply, from);
            }
            Answer::Forward => {
                let Some(slot) = server.forwarded.take(from.ip()) else { continue };
                let (server, socket, query) = (server.clone(), socket.clone(), query.to_vec());
                tokio::spawn(async move {
                    let reply = server.forward(&query, Transport::Udp).await;
                    let _ = socket.try_send_to(&reply, from);
                    drop(slot);
                });
            }
        }
    }
}

async fn serve_tcp(server: Arc<Server>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let slots = Slots::new(MAX_CONNECTIONS, MAX_CONNECTIONS_EACH);
    let mut budget = Budget::each(BURST, PAUSE);
    loop {
        take_one(&mut budget).await;
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let Some(slot) = slots.take(from.ip()) else { continue };
                let server = server.clone();
                tokio::spawn(async move {
                    // Whatever ends the connection, only its peer is concerned.
                    let _ = serve_connection(&server, stream, from).await;
                    drop((slot, place));
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
        let len = usize::from(timeout(PATIENCE, stream.read_u16()).await??);
        if MAX_QUERY_BYTES < len {
            return Ok(());
        }
        let mut query = vec![0; len];
        timeout(PATIENCE, stream.read_exact(&mut query)).await??;
        let reply = match server.decide(&query, from) {
            Answer::Ignore => return Ok(()),
            Answer::Reply(reply) => reply,
            Answer::Forward => match server.forwarded.take(from.ip()) {
                Some(_slot) => server.forward(&query, Transport::Tcp).await,
                None => refusal(&query, RCODE::ServerFailure),
            },
        };
        timeout(PATIENCE, write_framed(&mut stream, &reply)).await??;
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

    async fn forward(&self, query: &[u8], transport: Transport) -> Vec<u8> {
        let servers = self.zones.borrow().servers.clone();
        match forward(query, &servers, transport).await {
            Some(reply) => reply,
            None => refusal(query, RCODE::ServerFailure),
        }
    }
}
