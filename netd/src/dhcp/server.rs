//! The DHCP server of one bridge (RFC 2131): which interface gets which address, and the replies. Pure: messages and time in,
//! replies out. The table of leases is a value that is saved for a restarted netd.
//!
//! An interface keeps its address: the search for one starts at a hash of the hardware address, and ended leases are remembered.
//! The server does not probe an address before it offers it: every port of the bridge is ours, and a client that finds the
//! address in use declines it.

mod address_pool;

use super::message::{Message, MessageType, Op};
pub use address_pool::AddressPool;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use yado_wire::MAX_INSTANCES;

/// An interface that netd attached itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation<'a> {
    /// Its hardware address.
    pub hwaddr: [u8; 6],
    /// The instance's name, handed out as host name.
    pub host_name: &'a str,
    /// `ipv4.address` of the nic: this and no other.
    pub fixed: Option<Ipv4Addr>,
}

/// The leases of one bridge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leases {
    entries: Vec<Lease>,
}

/// One address and who has, had or refused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The client's hardware address.
    pub hwaddr: [u8; 6],
    /// The address.
    pub address: Ipv4Addr,
    /// How far it has come.
    pub state: LeaseState,
    /// Until when it is, seconds on the boot clock.
    pub until_s: u64,
}

/// How far a lease has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// Offered, kept for the client until it decides.
    Offered,
    /// Granted.
    Bound,
    /// The client found somebody else there: not given to anybody for a while.
    Declined,
}

/// What to do about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The reply and where it goes.
    pub reply: Option<(Message, SocketAddrV4)>,
    /// What has become of the table.
    pub change: Change,
    /// Why the client gets no address, if it asked for one and gets none.
    pub no_address: Option<NoAddress>,
}

/// Why a client gets no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoAddress {
    /// No address of the pool is free.
    UsedUp,
    /// Interfaces that netd did not attach have as many as they may have together; what is left is for those that it did.
    StrangersShare,
    /// As many leases run as one network can have, however large it is.
    TableFull,
}

/// What has become of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing that names or a successor depend on. An offer is among it: one that is forgotten is made again, and a client
    /// that comes with its request gets what it was offered if nobody else has it.
    Unsaved,
    /// A lease was granted, or goes on.
    Granted(Lease),
    /// One has ended, or its address is avoided.
    Ended,
}

/// Entries of one bridge, ended ones included. A /24 fits; a larger network is not filled beyond it.
const MAX_ENTRIES: usize = 2 * MAX_INSTANCES;
/// Addresses that are looked at for a free one. Entries are bounded, so it is among them or nowhere.
const MAX_LOOKED_AT: u32 = 2 * MAX_ENTRIES as u32;
/// Addresses that interfaces we did not attach may hold at a time (nested containers, external ports): so that one of them
/// that makes up hardware addresses cannot use the network up. Of a small pool they have a quarter.
const MAX_STRANGERS: usize = 64;
/// How long an offer waits for its request. Clients answer in milliseconds; they retry after some seconds.
const OFFER: Duration = Duration::from_secs(60);
/// How long a declined address is avoided.
const DECLINED: Duration = Duration::from_secs(600);
/// Addresses that one client may have declined at a time: a second intruder is rare, and whoever declines all it is offered
/// would use the network up.
const MAX_DECLINED: usize = 2;

impl Leases {
    /// Those that a predecessor wrote down.
    pub(crate) fn of(entries: Vec<Lease>) -> Leases {
        Leases { entries }
    }

    /// All of them, to be written down.
    pub(crate) fn entries(&self) -> &[Lease] {
        &self.entries
    }

    /// The answer to `message`. `reservations` are those of this bridge, and `now` is on the boot clock.
    pub fn answer(
        &mut self,
        message: &Message,
        pool: &AddressPool,
        reservations: &[Reservation<'_>],
        now: Duration,
    ) -> Answer {
        let mut answer = Answer { reply: None, change: Change::Unsaved, no_address: None };
        answer.reply = self.reply(message, pool, reservations, now.as_secs(), &mut answer);
        answer
    }

    /// Whether nobody new gets an address now, whoever it is.
    pub fn is_used_up(&self, pool: &AddressPool, reservations: &[Reservation<'_>], now: Duration) -> bool {
        let now = now.as_secs();
        pool.usable() <= self.taken(pool, reservations, now) || MAX_ENTRIES <= self.running(now).count()
    }

    /// The address that is granted to `hwaddr` now.
    pub fn bound(&self, hwaddr: [u8; 6], now: Duration) -> Option<&Lease> {
        self.entries
            .iter()
            .find(|entry| entry.hwaddr == hwaddr && entry.state == LeaseState::Bound && now.as_secs() < entry.until_s)
    }

    /// Forgets what lies outside `pool`'s network, as after a change of the bridge's address.
    pub fn retain_within(&mut self, pool: &AddressPool) {
        self.entries.retain(|entry| pool.is_host(entry.address));
        self.entries.truncate(MAX_ENTRIES);
    }

    /// The instance is gone: its lease ends, and the address is remembered for its return.
    pub fn end(&mut self, hwaddr: [u8; 6], now: Duration) {
        for entry in self.entries.iter_mut().filter(|entry| entry.hwaddr == hwaddr) {
            entry.until_s = entry.until_s.min(now.as_secs());
        }
    }

    fn reply(
        &mut self,
        message: &Message,
        pool: &AddressPool,
        reservations: &[Reservation<'_>],
        now: u64,
        answer: &mut Answer,
    ) -> Option<(Message, SocketAddrV4)> {
        let own = pool.bridge.address();
        // No relay is between us and our own bridge, and nobody but a client speaks to a server.
        if message.op != Op::Request || !message.giaddr.is_unspecified() {
            return None;
        }
        let is_for_us = message.options.server_id.is_none_or(|server| server == own);
        match message.kind {
            MessageType::Discover => {
                let chosen = self.choose(message, pool, reservations, now);
                answer.no_address = chosen.err();
                let address = chosen.ok()?;
                self.offer(message.chaddr, address, now);
                Some(pool.grant(MessageType::Offer, message, address, reservations))
            }
            MessageType::Request if !is_for_us => {
                // It took another server's offer.
                self.entries.retain(|entry| entry.hwaddr != message.chaddr || entry.state != LeaseState::Offered);
                None
            }
            MessageType::Request => {
                let wanted = match message.options.requested_address {
                    Some(address) if message.ciaddr.is_unspecified() => address,
                    Some(_) | None => message.ciaddr,
                };
                let chosen = self.choose(message, pool, reservations, now);
                answer.no_address = chosen.err();
                match chosen {
                    Ok(address) if address == wanted => {
                        let until_s = now.saturating_add(pool.expiry.as_secs());
                        let lease = Lease { hwaddr: message.chaddr, address, state: LeaseState::Bound, until_s };
                        self.put(lease.clone(), now);
                        answer.change = Change::Granted(lease);
                        Some(pool.grant(MessageType::Ack, message, address, reservations))
                    }
                    Ok(_) | Err(_) => Some(pool.refuse(message)),
                }
            }
            MessageType::Decline => {
                if self.decline(message.chaddr, message.options.requested_address?, now) {
                    answer.change = Change::Ended;
                }
                None
            }
            MessageType::Release => {
                let entry =
                    self.entries.iter_mut().find(|e| e.hwaddr == message.chaddr && e.address == message.ciaddr)?;
                if entry.state == LeaseState::Bound && now < entry.until_s {
                    entry.until_s = now;
                    answer.change = Change::Ended;
                }
                None
            }
            MessageType::Inform => pool.is_host(message.ciaddr).then(|| pool.inform(message, reservations)),
            MessageType::Offer | MessageType::Ack | MessageType::Nak => None,
        }
    }

    /// The address this client gets: its fixed one, the one it has or had, the one it asks for, or the first free one from
    /// its hash on.
    fn choose(
        &self,
        message: &Message,
        pool: &AddressPool,
        reservations: &[Reservation<'_>],
        now: u64,
    ) -> Result<Ipv4Addr, NoAddress> {
        let hwaddr = message.chaddr;
        let own = reservations.iter().find(|reservation| reservation.hwaddr == hwaddr);
        // An address that could not be written down would be given to the next one as well.
        let has_entry = |entry: &Lease| entry.hwaddr == hwaddr && entry.state != LeaseState::Declined;
        if MAX_ENTRIES <= self.running(now).count() && !self.entries.iter().any(has_entry) {
            return Err(NoAddress::TableFull);
        }
        if let Some(fixed) = own.and_then(|reservation| reservation.fixed) {
            return Ok(fixed);
        }
        let mine = self.entries.iter().find(|e| e.hwaddr == hwaddr && e.state != LeaseState::Declined);
        // One whose lease has ended is as new as any other.
        let has_lease = mine.is_some_and(|entry| now < entry.until_s);
        if own.is_none() && !has_lease {
            self.check_room_for_stranger(pool, reservations, now)?;
        }
        let is_free = |address: Ipv4Addr| {
            pool.is_in_pool(address)
                && reservations.iter().all(|r| r.hwaddr == hwaddr || r.fixed != Some(address))
                && self.entries.iter().all(|entry| {
                    let is_own = entry.hwaddr == hwaddr && entry.state != LeaseState::Declined;
                    entry.address != address || is_own || entry.until_s <= now
                })
        };
        let remembered = mine.map(|entry| entry.address).filter(|&address| is_free(address));
        let asked = message.options.requested_address.or(Some(message.ciaddr)).filter(|&address| is_free(address));
        let first_free = || {
            let size = pool.size();
            let start = hash(hwaddr) % size.max(1);
            let mut looked_at = (0..size.min(MAX_LOOKED_AT)).map(|step| pool.nth((start + step) % size));
            looked_at.find(|&address| is_free(address))
        };
        remembered.or(asked).or_else(first_free).ok_or(NoAddress::UsedUp)
    }

    /// Whether one more that netd did not attach may have an address: there are not too many of them, and one is left for
    /// each interface that netd attached and that has none yet.
    fn check_room_for_stranger(
        &self,
        pool: &AddressPool,
        reservations: &[Reservation<'_>],
        now: u64,
    ) -> Result<(), NoAddress> {
        let is_known = |entry: &&Lease| reservations.iter().any(|reservation| reservation.hwaddr == entry.hwaddr);
        let usable = pool.usable();
        let strangers = self.running(now).filter(|entry| !is_known(entry)).count();
        let has_address = |hwaddr: [u8; 6]| {
            self.running(now).any(|entry| entry.hwaddr == hwaddr && entry.state != LeaseState::Declined)
        };
        let waiting = reservations.iter().filter(|one| one.fixed.is_none() && !has_address(one.hwaddr)).count();
        let taken = self.taken(pool, reservations, now);
        if usable <= taken {
            return Err(NoAddress::UsedUp);
        }
        let is_room = strangers < MAX_STRANGERS.min((usable / 4).max(1)) && taken + waiting < usable;
        if is_room { Ok(()) } else { Err(NoAddress::StrangersShare) }
    }

    /// Leases and barred addresses that have not ended.
    fn running(&self, now: u64) -> impl Iterator<Item = &Lease> {
        self.entries.iter().filter(move |entry| now < entry.until_s)
    }

    /// How many addresses of the pool are not free: those that are lent, barred, or fixed for an interface.
    fn taken(&self, pool: &AddressPool, reservations: &[Reservation<'_>], now: u64) -> usize {
        let is_running = |address: Ipv4Addr| self.running(now).any(|entry| entry.address == address);
        let fixed = reservations.iter().filter_map(|reservation| reservation.fixed);
        let fixed = fixed.filter(|address| pool.is_in_pool(*address) && !is_running(*address)).count();
        fixed + self.running(now).filter(|entry| pool.is_in_pool(entry.address)).count()
    }

    fn offer(&mut self, hwaddr: [u8; 6], address: Ipv4Addr, now: u64) {
        let until_s = now.saturating_add(OFFER.as_secs());
        let is_bound = |e: &Lease| e.hwaddr == hwaddr && e.address == address && e.state == LeaseState::Bound;
        // A client that asks anew while its lease runs keeps the lease.
        if self.entries.iter().any(|entry| is_bound(entry) && until_s <= entry.until_s) {
            return;
        }
        self.put(Lease { hwaddr, address, state: LeaseState::Offered, until_s }, now);
    }

    /// Bars the client's address; the one that it declined longest ago may be given again when there are too many. `false`: it
    /// has no such address.
    fn decline(&mut self, hwaddr: [u8; 6], address: Ipv4Addr, now: u64) -> bool {
        let mut of_client = self.entries.iter_mut().filter(|entry| entry.hwaddr == hwaddr);
        let Some(entry) = of_client.find(|entry| entry.address == address) else { return false };
        (entry.state, entry.until_s) = (LeaseState::Declined, now.saturating_add(DECLINED.as_secs()));
        let is_declined = |entry: &Lease| entry.hwaddr == hwaddr && entry.state == LeaseState::Declined;
        let declined = || self.entries.iter().enumerate().filter(|(_, entry)| is_declined(entry));
        if MAX_DECLINED < declined().count() {
            // Of several of one second, the first in the table is the oldest.
            if let Some((oldest, _)) = declined().min_by_key(|(_, entry)| entry.until_s) {
                self.entries.remove(oldest);
            }
        }
        true
    }

    /// One entry per client and one per address; the oldest ended one makes room.
    fn put(&mut self, lease: Lease, now: u64) {
        self.entries.retain(|entry| {
            let is_own = entry.hwaddr == lease.hwaddr && entry.state != LeaseState::Declined;
            !is_own && entry.address != lease.address
        });
        if MAX_ENTRIES <= self.entries.len() {
            let oldest = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.until_s);
            match oldest.map(|(at, entry)| (at, entry.until_s)) {
                Some((at, until_s)) if until_s <= now => self.entries.remove(at),
                Some(_) | None => return,
            };
        }
        self.entries.push(lease);
    }
}

/// Spreads hardware addresses that differ in their last bytes over the pool, and never changes.
fn hash(hwaddr: [u8; 6]) -> u32 {
    yado_wire::hash::fnv32(hwaddr)
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
