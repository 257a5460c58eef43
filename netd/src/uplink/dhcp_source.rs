//! The DHCP client of an uplink, with the socket that the state of the client needs.

use super::link_choice::ChosenLink;
use crate::daemon::Event;
use crate::dhcp::client::{self, Destination, Hearing, Send, State};
use crate::dhcp::datagram::{encode_datagram, parse_datagram};
use crate::dhcp::lease::Lease;
use crate::dhcp::message::{MAX_BYTES, parse_message};
use crate::link::observed::Link;
use crate::owned_task::Task;
use crate::readiness::{read_from, take_one, watch};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use yado_sys::{random, raw_socket};
use yado_wire::Budget;

/// The client, and what it hears by.
#[derive(Debug)]
pub(super) struct DhcpSource {
    client: State,
    /// Nobody knows what a predecessor leased: the address that is there stays until there is a lease.
    keeps_address: bool,
    carrier_changes: u32,
    socket: Option<Socket>,
}

/// What a step of the client needs to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientContext<'a> {
    /// The network's name, for the log.
    pub(super) network: &'a str,
    /// The uplink's place, which its datagrams come back with.
    pub(super) place: usize,
    /// Its link.
    pub(super) link: &'a ChosenLink,
    /// Where datagrams go.
    pub(super) events: &'a mpsc::Sender<Event>,
    /// On the boot clock.
    pub(super) now: Duration,
}

#[derive(Debug)]
struct Socket {
    kind: SocketKind,
    descriptor: Arc<AsyncFd<OwnedFd>>,
    _reader: Task,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SocketKind {
    /// Hears datagrams for an address that the link does not have yet.
    Packet,
    /// An ordinary socket: costs nothing for other traffic.
    Udp,
}

/// Datagrams to the client's port that are looked at: a network with some servers, and whoever floods it.
const BURST: u32 = 50;
const PAUSE: Duration = Duration::from_millis(50);
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// IP and UDP headers before the message.
const MAX_PACKET_BYTES: usize = MAX_BYTES + 60 + 8;
const BROADCAST_HWADDR: [u8; 6] = [0xff; 6];

impl DhcpSource {
    /// A client before its link was looked at, with the lease that a predecessor wrote down.
    pub(super) fn new(lease: Option<Lease>) -> DhcpSource {
        DhcpSource { client: State::new(lease), keeps_address: false, carrier_changes: 0, socket: None }
    }

    /// What a predecessor gave the link stays until there is a lease: until when it was leased, nobody knows.
    pub(super) fn keep_unknown_address(&mut self) {
        self.keeps_address = true;
    }

    /// Whether there may be an address of ours that is not the lease's.
    pub(super) fn keeps_address(&self) -> bool {
        self.keeps_address
    }

    /// What is leased.
    pub(super) fn lease(&self) -> Option<&Lease> {
        self.client.lease()
    }

    /// When the client wants to be woken.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.client.deadline()
    }

    /// Tells the client about the link's carrier.
    pub(super) fn look(&mut self, link: &Link, context: ClientContext<'_>) {
        // A flap between two looks may have led to another network as well as a long one.
        if link.carrier_changes != std::mem::replace(&mut self.carrier_changes, link.carrier_changes) {
            self.advance(client::Event::CarrierDown, context);
        }
        let has_carrier = link.is_up && link.has_carrier;
        self.advance(if has_carrier { client::Event::CarrierUp } else { client::Event::CarrierDown }, context);
    }

    /// A datagram came in.
    pub(super) fn hear(&mut self, bytes: &[u8], context: ClientContext<'_>) {
        // Anybody on the cable can send anything: what is no DHCP message is not even worth a line.
        if let Ok(message) = parse_message(bytes) {
            self.advance(client::Event::Received(&message), context);
        }
    }

    /// Tells the client that time has passed.
    pub(super) fn wake(&mut self, context: ClientContext<'_>) {
        self.advance(client::Event::Wake, context);
    }

    fn advance(&mut self, event: client::Event<'_>, context: ClientContext<'_>) {
        let ClientContext { network, place, link, events, now } = context;
        let random = match random::random_bytes() {
            Ok(random) => u32::from_ne_bytes(random),
            Err(error) => {
                tracing::error!("uplink {network}: DHCP on {}: random bytes: {error}", link.name);
                return;
            }
        };
        let before = self.client.lease().map(|lease| lease.address);
        let state = std::mem::replace(&mut self.client, State::new(None));
        let (state, send) = client::step(state, event, now, random, link.hwaddr);
        self.client = state;
        let after = self.client.lease().map(|lease| lease.address);
        self.keeps_address &= after.is_none();
        match after {
            Some(address) if before != after => tracing::info!("uplink {network}: leased {address}"),
            None if before.is_some() => tracing::warn!("uplink {network}: the lease has ended"),
            Some(_) | None => {}
        }
        let kind = match self.client.hearing() {
            Hearing::Nothing => None,
            Hearing::WithoutAddress => Some(SocketKind::Packet),
            Hearing::ByAddress => Some(SocketKind::Udp),
        };
        if self.socket.as_ref().map(|socket| socket.kind) != kind {
            self.socket = None;
            self.socket = match kind.map(|kind| open(kind, link, place, events)).transpose() {
                Ok(socket) => socket,
                Err(error) => {
                    tracing::error!("uplink {network}: DHCP socket on {}: {error}", link.name);
                    None
                }
            };
        }
        if let Some(send) = send {
            if let Err(error) = self.send(link, &send) {
                tracing::warn!("uplink {network}: DHCP on {}: {error}", link.name);
            }
        }
    }

    /// A message that finds no room is sent again at the next retry.
    fn send(&self, link: &ChosenLink, send: &Send) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let bytes = send.message.encode();
        let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
        let descriptor = socket.descriptor.get_ref();
        match (socket.kind, send.to) {
            (SocketKind::Packet, _) => {
                let from = SocketAddrV4::new(send.message.ciaddr, CLIENT_PORT);
                let packet = encode_datagram(from, everybody, &bytes);
                raw_socket::send_packet(descriptor, link.index, BROADCAST_HWADDR, &packet).map(drop)
            }
            (SocketKind::Udp, Destination::Server(server)) => {
                raw_socket::send_datagram(descriptor, &bytes, SocketAddrV4::new(server, SERVER_PORT)).map(drop)
            }
            (SocketKind::Udp, Destination::Broadcast | Destination::BroadcastWithoutAddress) => {
                raw_socket::send_datagram(descriptor, &bytes, everybody).map(drop)
            }
        }
    }
}

fn open(kind: SocketKind, link: &ChosenLink, uplink: usize, events: &mpsc::Sender<Event>) -> io::Result<Socket> {
    let descriptor: OwnedFd = match kind {
        SocketKind::Packet => raw_socket::packet_socket(link.index, CLIENT_PORT)?,
        SocketKind::Udp => {
            let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT);
            raw_socket::udp_socket_on(&link.name, any)?.into()
        }
    };
    let descriptor = Arc::new(watch(descriptor)?);
    let watched = descriptor.clone();
    let events = events.clone();
    let reader = Task::spawn(async move {
        let mut budget = Budget::each(BURST, PAUSE);
        loop {
            take_one(&mut budget).await;
            let read = read_from(&watched, |socket| {
                let mut buffer = [0; MAX_PACKET_BYTES];
                let Some(len) = raw_socket::recv_packet(socket, &mut buffer)? else { return Ok(None) };
                let payload = match kind {
                    SocketKind::Packet => parse_datagram(&buffer[..len], CLIENT_PORT).map(|(_, payload)| payload),
                    SocketKind::Udp => Some(&buffer[..len]),
                };
                Ok(Some(payload.unwrap_or_default().to_vec()))
            });
            match read.await {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => {
                    if events.send(Event::UplinkHeard { uplink, bytes }).await.is_err() {
                        return;
                    }
                }
                // ENETDOWN: the link went down or away, which the monitor reports.
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    });
    Ok(Socket { kind, descriptor, _reader: reader })
}
