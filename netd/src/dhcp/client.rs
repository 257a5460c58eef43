//! The DHCP client of one uplink (RFC 2131, 4.4) as a state machine: time and messages in, the next state and at most one message
//! out. The wanted configuration of the link follows from the state ([`State::lease`]), so no change of it can get lost. The
//! client does not probe its address by ARP: on an appliance's port a second guess would be no better.

mod exchange;

use super::lease::{Lease, parse_lease};
use super::message::{Message, MessageType, Op};
use exchange::Start;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Where in its life the client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The link has no carrier. A lease it had stays in use until it ends: links flap.
    Off {
        /// What it had.
        lease: Option<Lease>,
    },
    /// Asking who is there.
    Selecting {
        /// This attempt.
        exchange: Exchange,
    },
    /// It was refused what had been offered, and pauses before it asks anybody again.
    BackingOff {
        /// How often in a row.
        refusals: u32,
        /// Until when, on the boot clock.
        until: Duration,
    },
    /// Asking for an offered address.
    Requesting {
        /// This attempt.
        exchange: Exchange,
        /// The address offered.
        address: Ipv4Addr,
        /// The server that offered it.
        server: Ipv4Addr,
    },
    /// Asking whether the lease from before still holds, and using it meanwhile.
    Rebooting {
        /// This attempt.
        exchange: Exchange,
        /// The lease.
        lease: Lease,
    },
    /// The lease holds.
    Bound {
        /// The lease.
        lease: Lease,
    },
    /// Asking its server for more time.
    Renewing {
        /// This attempt.
        exchange: Exchange,
        /// The lease.
        lease: Lease,
    },
    /// Asking any server for more time.
    Rebinding {
        /// This attempt.
        exchange: Exchange,
        /// The lease.
        lease: Lease,
    },
}

/// One question, asked until it is answered. Times are on the boot clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// What the answer must repeat: chosen at random, so that who does not hear the question cannot answer it.
    pub xid: u32,
    /// When the first question was sent.
    pub since: Duration,
    /// How often it was sent.
    pub sent: u32,
    /// When it is sent again.
    pub retry_at: Duration,
    /// How often in a row what had been offered was refused.
    pub refusals: u32,
}

/// What happens to a client.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The link has a carrier.
    CarrierUp,
    /// It has none.
    CarrierDown,
    /// A message came in.
    Received(&'a Message),
    /// [`State::deadline`] is over.
    Wake,
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// The message.
    pub message: Message,
    /// To whom.
    pub to: Destination,
}

/// To whom a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Everybody, from no address: the client has none.
    BroadcastWithoutAddress,
    /// Everybody, from the lease's address.
    Broadcast,
    /// This server, from the lease's address.
    Server(Ipv4Addr),
}

/// How answers come to a client's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// It waits for none.
    Nothing,
    /// The link does not have the address yet: only a packet socket hears them.
    WithoutAddress,
    /// To the lease's address.
    ByAddress,
}

/// Requests without an answer before it looks for servers anew (RFC 2131, 3.1.5).
const MAX_REQUESTS: u32 = 4;
/// Requests without an answer before it goes on with the lease from before (RFC 2131, 3.7).
const MAX_REBOOT_REQUESTS: u32 = 3;
/// The next state after `event`, and what to send. `random` is fresh at each call; `hwaddr` is the link's address.
pub fn step(state: State, event: Event<'_>, now: Duration, random: u32, hwaddr: [u8; 6]) -> (State, Option<Send>) {
    use Event::*;
    use State::*;
    let start = Start { now, random, hwaddr };
    let state = match event {
        Received(message) if message.op != Op::Reply || message.chaddr != hwaddr => return (state, None),
        Received(_) | CarrierUp | CarrierDown | Wake => state,
    };
    match (state, event) {
        (Off { lease }, CarrierUp) => match lease.filter(|lease| now < lease.end_at) {
            Some(lease) => start.reboot(lease),
            None => start.select(0),
        },
        (Off { lease }, Wake) => (Off { lease: lease.filter(|lease| now < lease.end_at) }, None),
        (Off { lease }, CarrierDown | Received(_)) => (Off { lease }, None),

        (state, CarrierDown) => (Off { lease: state.lease().cloned() }, None),
        (state, CarrierUp) => (state, None),

        (Selecting { exchange }, Received(message)) => match (message.kind, message.options.server_id) {
            (MessageType::Offer, Some(server)) if message.xid == exchange.xid && is_host(message.yiaddr) => {
                start.request(exchange, message.yiaddr, server)
            }
            _ => (Selecting { exchange }, None),
        },
        (Selecting { exchange }, Wake) if exchange.retry_at <= now => {
            let exchange = start.again(exchange);
            (Selecting { exchange }, Some(start.discover(exchange)))
        }

        (Requesting { exchange, address, server }, Received(message)) if message.xid == exchange.xid => {
            match (message.kind, granted(message, exchange, now)) {
                (MessageType::Ack, Some(lease)) if lease.server == server => (Bound { lease }, None),
                (MessageType::Nak, _) if message.options.server_id == Some(server) => {
                    start.back_off(exchange.refusals)
                }
                _ => (Requesting { exchange, address, server }, None),
            }
        }
        (Requesting { exchange, .. }, Wake) if exchange.retry_at <= now && MAX_REQUESTS <= exchange.sent => {
            start.select(exchange.refusals)
        }
        (Requesting { exchange, address, server }, Wake) if exchange.retry_at <= now => {
            let exchange = start.again(exchange);
            (Requesting { exchange, address, server }, Some(start.ask_for(exchange, address, server)))
        }

        (Rebooting { exchange, lease }, Received(message)) if message.xid == exchange.xid => {
            match (message.kind, granted(message, exchange, now)) {
                (MessageType::Ack, Some(lease)) => (Bound { lease }, None),
                (MessageType::Nak, _) => start.back_off(exchange.refusals),
                _ => (Rebooting { exchange, lease }, None),
            }
        }
        (Rebooting { lease, .. }, Wake) if lease.end_at <= now => start.select(0),
        (Rebooting { exchange, lease }, Wake) if exchange.retry_at <= now && MAX_REBOOT_REQUESTS <= exchange.sent => {
            (Bound { lease }, None)
        }
        (Rebooting { exchange, lease }, Wake) if exchange.retry_at <= now => {
            let exchange = start.again(exchange);
            let send = start.confirm(exchange, &lease);
            (Rebooting { exchange, lease }, Some(send))
        }

        (Bound { lease }, Wake) if lease.end_at <= now => start.select(0),
        (Bound { lease }, Wake) if lease.rebind_at <= now => start.rebind(lease),
        (Bound { lease }, Wake) if lease.renew_at <= now => start.renew(lease),
        (Bound { lease }, Wake | Received(_)) => (Bound { lease }, None),

        (Renewing { exchange, .. } | Rebinding { exchange, .. }, Received(message))
            if message.xid == exchange.xid && message.kind == MessageType::Nak =>
        {
            start.back_off(exchange.refusals)
        }
        (Renewing { exchange, lease }, Received(message)) => match granted(message, exchange, now) {
            Some(lease) => (Bound { lease }, None),
            None => (Renewing { exchange, lease }, None),
        },
        (Renewing { lease, .. }, Wake) if lease.rebind_at <= now => start.rebind(lease),
        (Renewing { exchange, lease }, Wake) if exchange.retry_at <= now => {
            let exchange = start.later(exchange, lease.rebind_at);
            let send = start.extend(exchange, &lease, Destination::Server(lease.server));
            (Renewing { exchange, lease }, Some(send))
        }

        (Rebinding { exchange, lease }, Received(message)) => match granted(message, exchange, now) {
            Some(lease) => (Bound { lease }, None),
            None => (Rebinding { exchange, lease }, None),
        },
        (Rebinding { lease, .. }, Wake) if lease.end_at <= now => start.select(0),
        (Rebinding { exchange, lease }, Wake) if exchange.retry_at <= now => {
            let exchange = start.later(exchange, lease.end_at);
            let send = start.extend(exchange, &lease, Destination::Broadcast);
            (Rebinding { exchange, lease }, Some(send))
        }

        (BackingOff { refusals, until }, Wake) if until <= now => start.select(refusals),

        // Woken early, or an answer to a question of before.
        (
            state @ (Selecting { .. } | BackingOff { .. } | Requesting { .. } | Rebooting { .. }),
            Wake | Received(_),
        ) => (state, None),
        (state @ (Renewing { .. } | Rebinding { .. }), Wake) => (state, None),
    }
}

impl State {
    /// A client before its link was looked at, with the lease that a predecessor wrote down.
    pub fn new(lease: Option<Lease>) -> State {
        State::Off { lease }
    }

    /// The lease in use: the link carries its address as long as the state has it.
    pub fn lease(&self) -> Option<&Lease> {
        match self {
            State::Off { lease } => lease.as_ref(),
            State::Selecting { .. } | State::BackingOff { .. } | State::Requesting { .. } => None,
            State::Rebooting { lease, .. }
            | State::Bound { lease }
            | State::Renewing { lease, .. }
            | State::Rebinding { lease, .. } => Some(lease),
        }
    }

    /// When it wants to be woken.
    pub fn deadline(&self) -> Option<Duration> {
        let end = |lease: &Lease| (lease.end_at != Duration::MAX).then_some(lease.end_at);
        match self {
            State::Off { lease } => lease.as_ref().and_then(end),
            State::Selecting { exchange } | State::Requesting { exchange, .. } => Some(exchange.retry_at),
            State::BackingOff { until, .. } => Some(*until),
            State::Rebooting { exchange, lease } => Some(exchange.retry_at.min(lease.end_at)),
            State::Bound { lease } => end(lease).map(|end_at| lease.renew_at.min(lease.rebind_at).min(end_at)),
            State::Renewing { exchange, lease } => Some(exchange.retry_at.min(lease.rebind_at)),
            State::Rebinding { exchange, lease } => Some(exchange.retry_at.min(lease.end_at)),
        }
    }

    /// How answers come to the link.
    pub fn hearing(&self) -> Hearing {
        match self {
            State::Off { .. } | State::BackingOff { .. } => Hearing::Nothing,
            State::Selecting { .. } | State::Requesting { .. } | State::Rebooting { .. } => Hearing::WithoutAddress,
            State::Bound { .. } | State::Renewing { .. } | State::Rebinding { .. } => Hearing::ByAddress,
        }
    }
}

/// The lease that an answer to this question grants. Its time runs from the first question (RFC 2131, 4.4.1), so what comes late may be
/// over already.
fn granted(message: &Message, exchange: Exchange, now: Duration) -> Option<Lease> {
    let lease = (message.xid == exchange.xid).then(|| parse_lease(message, exchange.since))?;
    lease.filter(|lease| now < lease.end_at)
}

pub(super) fn is_host(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast() && !address.is_loopback()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
