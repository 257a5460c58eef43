//! One uplink: which link it is, and its DHCP client with the socket that the client's state needs.

use crate::daemon::Event;
use crate::dhcp::client::{self, Destination, Hearing, Send, State};
use crate::dhcp::datagram::{encode_datagram, parse_datagram};
use crate::dhcp::lease::Lease;
use crate::dhcp::message::{MAX_BYTES, parse_message};
use crate::link::observed::{Link, LinkKind, Observed};
use crate::link::plan::WishedUplink;
use crate::readiness::{read_from, take_one, watch};
use crate::task::Task;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use yado_spec::network::{LinkSelector, UplinkIpv4, UplinkSpec};
use yado_sys::{random, raw_socket};
use yado_wire::Budget;

/// One uplink.
#[derive(Debug)]
pub struct Uplink {
    /// What was said of it.
    pub spec: UplinkSpec,
    /// Its place among the uplinks: the first is preferred.
    pub place: usize,
    /// The link it is now.
    pub link: Option<Selected>,
    /// Somebody else configured the link before us: it is only looked at.
    pub is_left_alone: bool,
    /// The life of its DHCP client.
    pub client: State,
    /// Nobody knows what a predecessor leased: the address that is there stays until there is a lease.
    keeps_address: bool,
    carrier_changes: u32,
    socket: Option<Socket>,
}

/// The link that an uplink is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub hwaddr: [u8; 6],
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
/// The first uplink's routes have this metric, each later one's a hundred more: the first that is up is used.
const FIRST_METRIC: u32 = 100;

impl Uplink {
    /// An uplink whose link has not been looked for yet.
    pub fn new(spec: UplinkSpec, place: usize) -> Uplink {
        Uplink {
            spec,
            place,
            link: None,
            is_left_alone: false,
            client: State::new(None),
            keeps_address: false,
            carrier_changes: 0,
            socket: None,
        }
    }

    /// The same link, and what is said of it now.
    #[must_use]
    pub fn reconfigured(self, spec: UplinkSpec) -> Uplink {
        if self.spec.ipv4 == spec.ipv4 {
            return Uplink { spec, ..self };
        }
        Uplink { spec, client: State::new(None), socket: None, keeps_address: false, ..self }
    }

    /// Whether it is the link with this index.
    pub fn is_link(&self, index: u32) -> bool {
        self.link.as_ref().is_some_and(|link| link.index == index)
    }

    /// What a predecessor gave the link stays until there is a lease: until when it was leased, nobody knows.
    pub fn keep_unknown_address(&mut self) {
        self.keeps_address = true;
    }

    /// Takes the link that is there now, and tells the client about its carrier. `saved` finds the lease of a predecessor.
    pub fn look(
        &mut self,
        observed: &Observed,
        taken: &[String],
        saved: &[([u8; 6], Lease)],
        events: &mpsc::Sender<Event>,
        now: Duration,
    ) {
        let found = select(&self.spec.link, self.link.as_ref().map(|link| link.index), observed, taken);
        let selected = found
            .and_then(|link| Some(Selected { index: link.index, name: link.name.clone(), hwaddr: link.hwaddr? }));
        let is_same = match (&self.link, &selected) {
            (Some(old), Some(new)) => old.index == new.index && old.hwaddr == new.hwaddr,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_same {
            self.socket = None;
            self.keeps_address &= self.link.is_none();
            let lease = saved.iter().find(|(hwaddr, _)| selected.as_ref().is_some_and(|s| s.hwaddr == *hwaddr));
            let lease = lease.map(|(_, lease)| lease.clone()).filter(|lease| now < lease.end_at);
            self.is_left_alone = self.spec.link == LinkSelector::FirstEthernet
                && selected.as_ref().is_some_and(|link| {
                    let own = match &self.spec.ipv4 {
                        UplinkIpv4::Dhcp => lease.as_ref().map(|lease| lease.address),
                        UplinkIpv4::Static { address, .. } => Some(address.address()),
                        UplinkIpv4::None => None,
                    };
                    is_configured_by_others(link.index, own, observed)
                });
            self.client = State::new(lease);
            match &selected {
                Some(link) if self.is_left_alone => {
                    tracing::info!(
                        "uplink {}: {} was configured by somebody else and is left alone",
                        self.spec.name,
                        link.name
                    );
                }
                Some(link) => tracing::info!("uplink {}: {}", self.spec.name, link.name),
                None => tracing::warn!("uplink {}: its link is gone", self.spec.name),
            }
        }
        self.link = selected;
        let Some(link) = found.filter(|_| self.has_client()) else { return };
        // A flap between two looks may have led to another network as well as a long one.
        if link.carrier_changes != std::mem::replace(&mut self.carrier_changes, link.carrier_changes) {
            self.advance(client::Event::CarrierDown, events, now);
        }
        let has_carrier = link.is_up && link.has_carrier;
        self.advance(if has_carrier { client::Event::CarrierUp } else { client::Event::CarrierDown }, events, now);
    }

    /// A datagram came in.
    pub fn hear(&mut self, bytes: &[u8], events: &mpsc::Sender<Event>, now: Duration) {
        // Anybody on the cable can send anything: what is no DHCP message is not even worth a line.
        if let Ok(message) = parse_message(bytes) {
            self.advance(client::Event::Received(&message), events, now);
        }
    }

    /// Tells the client that time has passed.
    pub fn wake(&mut self, events: &mpsc::Sender<Event>, now: Duration) {
        if self.has_client() {
            self.advance(client::Event::Wake, events, now);
        }
    }

    /// When the client wants to be woken.
    pub fn deadline(&self) -> Option<Duration> {
        self.has_client().then(|| self.client.deadline()).flatten()
    }

    /// What the link should look like.
    pub fn wish(&self) -> Option<WishedUplink> {
        let link = self.link.as_ref().filter(|_| !self.is_left_alone)?;
        let metric = FIRST_METRIC + 100 * self.place as u32;
        let mut wish = WishedUplink {
            network: self.spec.name.clone(),
            link: link.index,
            mtu: self.spec.mtu.map(u32::from),
            address: None,
            routes: Vec::new(),
            metric,
            keeps_others: false,
        };
        match &self.spec.ipv4 {
            UplinkIpv4::Dhcp => {
                if let Some(lease) = self.client.lease() {
                    wish.address = Some((lease.address, lease.prefix_len));
                    wish.routes.clone_from(&lease.routes);
                    wish.mtu = wish.mtu.or(lease.mtu.map(u32::from));
                } else {
                    wish.keeps_others = self.keeps_address;
                }
            }
            UplinkIpv4::Static { address, gateway, nameservers: _ } => {
                wish.address = Some((address.address(), address.prefix_len()));
                wish.routes.extend(gateway.map(|gateway| (Ipv4Addr::UNSPECIFIED, 0, gateway)));
            }
            UplinkIpv4::None => {}
        }
        Some(wish)
    }

    /// The name servers it knows.
    pub fn name_servers(&self) -> &[Ipv4Addr] {
        match &self.spec.ipv4 {
            UplinkIpv4::Dhcp => self.client.lease().map_or(&[], |lease| &lease.name_servers),
            UplinkIpv4::Static { nameservers, .. } => nameservers,
            UplinkIpv4::None => &[],
        }
    }

    fn has_client(&self) -> bool {
        self.spec.ipv4 == UplinkIpv4::Dhcp && !self.is_left_alone
    }

    fn advance(&mut self, event: client::Event<'_>, events: &mpsc::Sender<Event>, now: Duration) {
        let Some(link) = self.link.clone() else {
            self.socket = None;
            return;
        };
        let random = match random::random_bytes() {
            Ok(random) => u32::from_ne_bytes(random),
            Err(error) => {
                tracing::error!("uplink {}: DHCP on {}: random bytes: {error}", self.spec.name, link.name);
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
            Some(address) if before != after => tracing::info!("uplink {}: leased {address}", self.spec.name),
            None if before.is_some() => tracing::warn!("uplink {}: the lease has ended", self.spec.name),
            Some(_) | None => {}
        }
        let kind = match self.client.hearing() {
            Hearing::Nothing => None,
            Hearing::WithoutAddress => Some(SocketKind::Packet),
            Hearing::ByAddress => Some(SocketKind::Udp),
        };
        if self.socket.as_ref().map(|socket| socket.kind) != kind {
            self.socket = None;
            self.socket = match kind.map(|kind| open(kind, &link, self.place, events)).transpose() {
                Ok(socket) => socket,
                Err(error) => {
                    tracing::error!("uplink {}: DHCP socket on {}: {error}", self.spec.name, link.name);
                    None
                }
            };
        }
        if let Some(send) = send {
            if let Err(error) = self.send(&link, &send) {
                tracing::warn!("uplink {}: DHCP on {}: {error}", self.spec.name, link.name);
            }
        }
    }

    /// A message that finds no room is sent again at the next retry.
    fn send(&self, link: &Selected, send: &Send) -> io::Result<()> {
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

/// The link that `selector` means now. A link that was chosen stays chosen as long as it is there.
fn select<'a>(
    selector: &LinkSelector,
    current: Option<u32>,
    observed: &'a Observed,
    taken: &[String],
) -> Option<&'a Link> {
    match selector {
        LinkSelector::Name(name) => observed.link(name),
        LinkSelector::Address(hwaddr) => observed
            .links
            .iter()
            .find(|link| link.kind == LinkKind::Hardware && link.permanent_hwaddr.or(link.hwaddr) == Some(*hwaddr)),
        LinkSelector::FirstEthernet => {
            let is_candidate = |link: &&Link| {
                link.kind == LinkKind::Hardware && link.master.is_none() && !taken.contains(&link.name)
            };
            let candidates = || observed.links.iter().filter(is_candidate);
            let current = candidates().find(|link| Some(link.index) == current);
            current.or_else(|| candidates().min_by_key(|link| link.index))
        }
    }
}

/// It has an address that we did not give it: a network daemon of the host did, or the kernel's `ip=`. `own` is what our
/// predecessor gave it, should the kernel not say so.
fn is_configured_by_others(link: u32, own: Option<Ipv4Addr>, observed: &Observed) -> bool {
    observed.addresses_of(link).any(|address| !address.is_ours && Some(address.address) != own)
}

fn open(kind: SocketKind, link: &Selected, uplink: usize, events: &mpsc::Sender<Event>) -> io::Result<Socket> {
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

#[cfg(test)]
#[path = "uplink_tests.rs"]
mod tests;
