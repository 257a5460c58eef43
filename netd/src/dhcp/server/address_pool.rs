//! The address pool of one bridge, and the replies that are made from it. Pure.

use super::{MAX_LOOKED_AT, Reservation};
use crate::dhcp::message::{Message, MessageType, Op, Options};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use yado_spec::network::Ipv4Prefix;
use yado_wire::Text;

/// What the server of one bridge hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPool {
    /// The bridge's own address: router, name server, server identifier.
    pub bridge: Ipv4Prefix,
    /// `ipv4.dhcp.ranges`; empty: the whole network.
    pub ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// `ipv4.dhcp.expiry`.
    pub expiry: Duration,
    /// `dns.domain`.
    pub domain: Text<63>,
    /// What the bridge carries.
    pub mtu: u16,
}

const CLIENT_PORT: u16 = 68;

impl AddressPool {
    /// Whether `address` may be a client's at all, from the pool or fixed.
    pub(super) fn is_host(&self, address: Ipv4Addr) -> bool {
        let taken = [self.bridge.network(), self.bridge.broadcast(), self.bridge.address()];
        self.bridge.contains(address) && !taken.contains(&address)
    }

    pub(super) fn is_in_pool(&self, address: Ipv4Addr) -> bool {
        self.is_host(address)
            && (self.ranges.is_empty()
                || self.ranges.iter().any(|&(first, last)| first <= address && address <= last))
    }

    /// How many addresses the pool's ranges hold, those that may not be given among them.
    pub(super) fn size(&self) -> u32 {
        let sizes = self.spans().map(|(first, last)| last.saturating_sub(first).saturating_add(1));
        sizes.fold(0, u32::saturating_add)
    }

    /// How many addresses may be given, as far as we look for them.
    pub fn usable(&self) -> usize {
        let (first_host, last_host) = (self.bridge.network().to_bits() + 1, self.bridge.broadcast().to_bits() - 1);
        let own = self.bridge.address().to_bits();
        let usable = self.spans().map(|(first, last)| {
            let (first, last) = (first.max(first_host), last.min(last_host));
            let addresses = (last + 1).saturating_sub(first);
            addresses.saturating_sub(u32::from((first..=last).contains(&own)))
        });
        usable.fold(0, u32::saturating_add).min(MAX_LOOKED_AT) as usize
    }

    pub(super) fn nth(&self, mut index: u32) -> Ipv4Addr {
        for (first, last) in self.spans() {
            let size = last.saturating_sub(first).saturating_add(1);
            if index < size {
                return Ipv4Addr::from_bits(first + index);
            }
            index -= size;
        }
        Ipv4Addr::UNSPECIFIED
    }

    fn spans(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let whole = (self.bridge.network().to_bits() + 1, self.bridge.broadcast().to_bits() - 1);
        let ranges = self.ranges.iter().map(|(first, last)| (first.to_bits(), last.to_bits()));
        ranges.filter(|(first, last)| first <= last).chain(self.ranges.is_empty().then_some(whole))
    }

    pub(super) fn grant(
        &self,
        kind: MessageType,
        request: &Message,
        address: Ipv4Addr,
        reservations: &[Reservation<'_>],
    ) -> (Message, SocketAddrV4) {
        let expiry = u32::try_from(self.expiry.as_secs()).unwrap_or(u32::MAX);
        let options = Options {
            lease_time: Some(expiry),
            // RFC 2131, 4.4.5: a half and seven eighths.
            renewal_time: Some(expiry / 2),
            rebinding_time: Some(expiry / 8 * 7),
            ..self.options(request, reservations)
        };
        let to = if request.ciaddr.is_unspecified() { Ipv4Addr::BROADCAST } else { request.ciaddr };
        let reply = Message { yiaddr: address, ciaddr: request.ciaddr, ..reply_to(request, kind, options) };
        (reply, SocketAddrV4::new(to, CLIENT_PORT))
    }

    pub(super) fn inform(&self, request: &Message, reservations: &[Reservation]) -> (Message, SocketAddrV4) {
        let reply = reply_to(request, MessageType::Ack, self.options(request, reservations));
        (Message { ciaddr: request.ciaddr, ..reply }, SocketAddrV4::new(request.ciaddr, CLIENT_PORT))
    }

    /// RFC 2131, 4.3.2: a refusal is always broadcast, as the client has no right to its address.
    pub(super) fn refuse(&self, request: &Message) -> (Message, SocketAddrV4) {
        let options = Options { server_id: Some(self.bridge.address()), ..Options::default() };
        (reply_to(request, MessageType::Nak, options), SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT))
    }

    fn options(&self, request: &Message, reservations: &[Reservation]) -> Options {
        let own = self.bridge.address();
        let known = reservations.iter().find(|reservation| reservation.hwaddr == request.chaddr);
        Options {
            server_id: Some(own),
            subnet_mask: Some(self.bridge.mask()),
            broadcast_address: Some(self.bridge.broadcast()),
            routers: vec![own],
            name_servers: vec![own],
            domain_name: Some(self.domain.to_string()),
            host_name: known.map(|reservation| reservation.host_name.to_string()),
            mtu: (self.mtu != 1500).then_some(self.mtu),
            ..Options::default()
        }
    }
}

fn reply_to(request: &Message, kind: MessageType, options: Options) -> Message {
    Message {
        op: Op::Reply,
        xid: request.xid,
        secs: 0,
        broadcast: request.broadcast,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: Ipv4Addr::UNSPECIFIED,
        chaddr: request.chaddr,
        kind,
        options,
    }
}
