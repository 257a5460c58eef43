//! The first message of an exchange of the DHCP client, and when it is sent again.

use super::{Destination, Exchange, Send, State};
use crate::dhcp::lease::Lease;
use crate::dhcp::message::{MAX_BYTES, Message, MessageType, Op, Options};
use std::net::Ipv4Addr;
use std::time::Duration;

/// RFC 2131, 4.1 says 4 s first; a board on its own cable need not be so polite.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// RFC 2131, 4.1.
const LAST_RETRY: Duration = Duration::from_secs(64);
/// RFC 2131, 4.4.5: renewals are not asked for more often.
const MIN_RENEW_RETRY: Duration = Duration::from_secs(60);
/// What is asked for: mask, routers, name servers, domain, MTU, broadcast, times, classless routes.
const PARAMETERS: [u8; 10] = [1, 121, 3, 6, 15, 26, 28, 51, 58, 59];

/// What every beginning of an exchange needs.
pub(super) struct Start {
    pub(super) now: Duration,
    pub(super) random: u32,
    pub(super) hwaddr: [u8; 6],
}

impl Start {
    fn exchange(&self, retry_at: Duration) -> Exchange {
        Exchange { xid: self.random, since: self.now, sent: 1, retry_at, refusals: 0 }
    }

    pub(super) fn select(&self, refusals: u32) -> (State, Option<Send>) {
        let exchange = Exchange { refusals, ..self.exchange(self.now + self.pause(1)) };
        (State::Selecting { exchange }, Some(self.discover(exchange)))
    }

    /// A server that refuses what it offers would otherwise keep us, and the cable, busy for ever.
    pub(super) fn back_off(&self, refusals: u32) -> (State, Option<Send>) {
        let refusals = refusals.saturating_add(1);
        (State::BackingOff { refusals, until: self.now + self.pause(refusals) }, None)
    }

    /// RFC 2131, 4.4.1: the request repeats the xid of the offer.
    pub(super) fn request(&self, exchange: Exchange, address: Ipv4Addr, server: Ipv4Addr) -> (State, Option<Send>) {
        let Exchange { xid, refusals, .. } = exchange;
        let exchange = Exchange { xid, refusals, ..self.exchange(self.now + self.pause(1)) };
        (State::Requesting { exchange, address, server }, Some(self.ask_for(exchange, address, server)))
    }

    pub(super) fn reboot(&self, lease: Lease) -> (State, Option<Send>) {
        let exchange = self.exchange(self.now + self.pause(1));
        let send = self.confirm(exchange, &lease);
        (State::Rebooting { exchange, lease }, Some(send))
    }

    pub(super) fn renew(&self, lease: Lease) -> (State, Option<Send>) {
        let exchange = self.exchange(self.half_way(lease.rebind_at));
        let send = self.extend(exchange, &lease, Destination::Server(lease.server));
        (State::Renewing { exchange, lease }, Some(send))
    }

    pub(super) fn rebind(&self, lease: Lease) -> (State, Option<Send>) {
        let exchange = self.exchange(self.half_way(lease.end_at));
        let send = self.extend(exchange, &lease, Destination::Broadcast);
        (State::Rebinding { exchange, lease }, Some(send))
    }

    pub(super) fn again(&self, exchange: Exchange) -> Exchange {
        let sent = exchange.sent.saturating_add(1);
        Exchange { sent, retry_at: self.now + self.pause(sent), ..exchange }
    }

    pub(super) fn later(&self, exchange: Exchange, end: Duration) -> Exchange {
        Exchange { sent: exchange.sent.saturating_add(1), retry_at: self.half_way(end), ..exchange }
    }

    /// Doubles from the first to the last, give or take a second so that a rack of boards does not speak at once.
    fn pause(&self, sent: u32) -> Duration {
        let base = FIRST_RETRY.saturating_mul(1 << sent.saturating_sub(1).min(5)).min(LAST_RETRY);
        (base + Duration::from_millis(u64::from(self.random % 2001))).saturating_sub(Duration::from_secs(1))
    }

    /// RFC 2131, 4.4.5: half of what is left, and not less than a minute.
    fn half_way(&self, end: Duration) -> Duration {
        let left = end.saturating_sub(self.now);
        self.now + (left / 2).max(MIN_RENEW_RETRY)
    }

    pub(super) fn discover(&self, exchange: Exchange) -> Send {
        let options = Options::default();
        Send {
            message: self.message(MessageType::Discover, exchange, Ipv4Addr::UNSPECIFIED, options),
            to: Destination::BroadcastWithoutAddress,
        }
    }

    pub(super) fn ask_for(&self, exchange: Exchange, address: Ipv4Addr, server: Ipv4Addr) -> Send {
        let options = Options { requested_address: Some(address), server_id: Some(server), ..Options::default() };
        Send {
            message: self.message(MessageType::Request, exchange, Ipv4Addr::UNSPECIFIED, options),
            to: Destination::BroadcastWithoutAddress,
        }
    }

    pub(super) fn confirm(&self, exchange: Exchange, lease: &Lease) -> Send {
        let options = Options { requested_address: Some(lease.address), ..Options::default() };
        Send {
            message: self.message(MessageType::Request, exchange, Ipv4Addr::UNSPECIFIED, options),
            to: Destination::BroadcastWithoutAddress,
        }
    }

    pub(super) fn extend(&self, exchange: Exchange, lease: &Lease, to: Destination) -> Send {
        Send { message: self.message(MessageType::Request, exchange, lease.address, Options::default()), to }
    }

    fn message(&self, kind: MessageType, exchange: Exchange, ciaddr: Ipv4Addr, options: Options) -> Message {
        let secs = self.now.saturating_sub(exchange.since).as_secs();
        Message {
            op: Op::Request,
            xid: exchange.xid,
            secs: u16::try_from(secs).unwrap_or(u16::MAX),
            broadcast: false,
            ciaddr,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: self.hwaddr,
            kind,
            options: Options {
                max_message_size: Some(MAX_BYTES as u16),
                parameters: PARAMETERS.to_vec(),
                // RFC 2132, 9.14: the hardware type, then the address.
                client_id: [&[1], &self.hwaddr[..]].concat(),
                ..options
            },
        }
    }
}
