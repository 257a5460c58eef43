//! Version 4 of `netd.state`: the types of the file and of nothing else, so that a message or a value of netd's may change and
//! the file stays readable. Names, addresses and times are written as they are; what they mean is said where they are used.

use super::{Attachment, Borrowed, Saved};
use crate::dhcp::lease::Lease as UplinkLease;
use crate::dhcp::server::{self, Leases};
use crate::link::route::Route;
use crate::nic::Connection;
use crate::runs::{Run, Runs};
use crate::subnets::Move;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use yado_spec::network::{IpPrefix, Ipv4Prefix};
use yado_wire::network::RunNumber;
use yado_wire::{InstanceName, Text};

/// The body of the file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StateV4 {
    boot: Text<36>,
    attachments: Vec<AttachmentV4>,
    runs: Vec<RunV4>,
    leases: Vec<(Text<15>, Vec<LeaseV4>)>,
    uplinks: Vec<([u8; 6], UplinkLeaseV4)>,
    borrowed: Vec<BorrowedV4>,
    moves: Vec<MoveV4>,
}

#[derive(Debug, Serialize, Deserialize)]
struct AttachmentV4 {
    instance: InstanceName,
    nic: Text<15>,
    connection: ConnectionV4,
    hwaddr: [u8; 6],
    host_link: Option<String>,
    fixed_ipv4: Option<Ipv4Addr>,
}

#[derive(Debug, Serialize, Deserialize)]
enum ConnectionV4 {
    Network(Text<15>),
    Bridged(Text<15>),
    Macvlan(Text<15>),
    Physical(Text<15>),
}

#[derive(Debug, Serialize, Deserialize)]
struct RunV4 {
    instance: InstanceName,
    number: u64,
    is_over: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct LeaseV4 {
    hwaddr: [u8; 6],
    address: Ipv4Addr,
    state: LeaseStateV4,
    until_s: u64,
}

#[derive(Debug, Serialize, Deserialize)]
enum LeaseStateV4 {
    Offered,
    Bound,
    Declined,
}

#[derive(Debug, Serialize, Deserialize)]
struct UplinkLeaseV4 {
    address: Ipv4Addr,
    prefix_len: u8,
    server: Ipv4Addr,
    routes: Vec<RouteV4>,
    name_servers: Vec<Ipv4Addr>,
    domain: Option<String>,
    mtu: Option<u16>,
    renew_at: Duration,
    rebind_at: Duration,
    end_at: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
struct RouteV4 {
    destination: IpAddr,
    prefix_len: u8,
    gateway: Option<IpAddr>,
}

#[derive(Debug, Serialize, Deserialize)]
struct BorrowedV4 {
    name: Text<15>,
    permanent_hwaddr: [u8; 6],
}

#[derive(Debug, Serialize, Deserialize)]
struct MoveV4 {
    network: Text<15>,
    from: (Ipv4Addr, u8),
    to: (Ipv4Addr, u8),
}

impl From<&Saved> for StateV4 {
    fn from(saved: &Saved) -> StateV4 {
        let Saved { boot, attachments, runs, leases, uplinks, borrowed, moves } = saved;
        StateV4 {
            boot: boot.clone(),
            attachments: attachments.iter().map(AttachmentV4::from).collect(),
            runs: runs.known().iter().map(RunV4::from).collect(),
            leases: leases
                .iter()
                .map(|(network, leases)| (network.clone(), leases.entries().iter().map(LeaseV4::from).collect()))
                .collect(),
            uplinks: uplinks.iter().map(|(hwaddr, lease)| (*hwaddr, UplinkLeaseV4::from(lease))).collect(),
            borrowed: borrowed.iter().map(BorrowedV4::from).collect(),
            moves: moves.iter().map(MoveV4::from).collect(),
        }
    }
}

impl StateV4 {
    /// `None`: it says what cannot be.
    pub(super) fn into_saved(self) -> Option<Saved> {
        let StateV4 { boot, attachments, runs, leases, uplinks, borrowed, moves } = self;
        Some(Saved {
            boot,
            attachments: attachments.into_iter().map(Attachment::from).collect(),
            runs: Runs::of(runs.into_iter().map(Run::from).collect()),
            leases: leases
                .into_iter()
                .map(|(network, entries)| {
                    (network, Leases::of(entries.into_iter().map(server::Lease::from).collect()))
                })
                .collect(),
            uplinks: uplinks
                .into_iter()
                .map(|(hwaddr, lease)| Some((hwaddr, lease.into_lease()?)))
                .collect::<Option<_>>()?,
            borrowed: borrowed.into_iter().map(Borrowed::from).collect(),
            moves: moves.into_iter().map(MoveV4::into_move).collect::<Option<_>>()?,
        })
    }
}

impl From<&Attachment> for AttachmentV4 {
    fn from(attachment: &Attachment) -> AttachmentV4 {
        let Attachment { instance, nic, connection, hwaddr, host_link, fixed_ipv4 } = attachment;
        let connection = match connection.clone() {
            Connection::Network { network } => ConnectionV4::Network(network),
            Connection::Bridged { parent } => ConnectionV4::Bridged(parent),
            Connection::Macvlan { parent } => ConnectionV4::Macvlan(parent),
            Connection::Physical { parent } => ConnectionV4::Physical(parent),
        };
        AttachmentV4 {
            instance: instance.clone(),
            nic: nic.clone(),
            connection,
            hwaddr: *hwaddr,
            host_link: host_link.clone(),
            fixed_ipv4: *fixed_ipv4,
        }
    }
}

impl From<AttachmentV4> for Attachment {
    fn from(attachment: AttachmentV4) -> Attachment {
        let AttachmentV4 { instance, nic, connection, hwaddr, host_link, fixed_ipv4 } = attachment;
        let connection = match connection {
            ConnectionV4::Network(network) => Connection::Network { network },
            ConnectionV4::Bridged(parent) => Connection::Bridged { parent },
            ConnectionV4::Macvlan(parent) => Connection::Macvlan { parent },
            ConnectionV4::Physical(parent) => Connection::Physical { parent },
        };
        Attachment { instance, nic, connection, hwaddr, host_link, fixed_ipv4 }
    }
}

impl From<&Run> for RunV4 {
    fn from(run: &Run) -> RunV4 {
        let Run { instance, number: RunNumber(number), is_over } = run;
        RunV4 { instance: instance.clone(), number: *number, is_over: *is_over }
    }
}

impl From<RunV4> for Run {
    fn from(run: RunV4) -> Run {
        let RunV4 { instance, number, is_over } = run;
        Run { instance, number: RunNumber(number), is_over }
    }
}

impl From<&server::Lease> for LeaseV4 {
    fn from(lease: &server::Lease) -> LeaseV4 {
        let server::Lease { hwaddr, address, state, until_s } = lease;
        let state = match state {
            server::LeaseState::Offered => LeaseStateV4::Offered,
            server::LeaseState::Bound => LeaseStateV4::Bound,
            server::LeaseState::Declined => LeaseStateV4::Declined,
        };
        LeaseV4 { hwaddr: *hwaddr, address: *address, state, until_s: *until_s }
    }
}

impl From<LeaseV4> for server::Lease {
    fn from(lease: LeaseV4) -> server::Lease {
        let LeaseV4 { hwaddr, address, state, until_s } = lease;
        let state = match state {
            LeaseStateV4::Offered => server::LeaseState::Offered,
            LeaseStateV4::Bound => server::LeaseState::Bound,
            LeaseStateV4::Declined => server::LeaseState::Declined,
        };
        server::Lease { hwaddr, address, state, until_s }
    }
}

impl From<&UplinkLease> for UplinkLeaseV4 {
    fn from(lease: &UplinkLease) -> UplinkLeaseV4 {
        let lease = lease.clone();
        let routes = lease.routes.into_iter().map(|Route { to, gateway }| RouteV4 {
            destination: to.address(),
            prefix_len: to.prefix_len(),
            gateway,
        });
        UplinkLeaseV4 {
            address: lease.address,
            prefix_len: lease.prefix_len,
            server: lease.server,
            routes: routes.collect(),
            name_servers: lease.name_servers,
            domain: lease.domain,
            mtu: lease.mtu,
            renew_at: lease.renew_at,
            rebind_at: lease.rebind_at,
            end_at: lease.end_at,
        }
    }
}

impl UplinkLeaseV4 {
    fn into_lease(self) -> Option<UplinkLease> {
        let routes = self.routes.into_iter().map(|RouteV4 { destination, prefix_len, gateway }| {
            let to = IpPrefix::new(destination, prefix_len).ok()?;
            Some(Route { to, gateway })
        });
        Some(UplinkLease {
            address: self.address,
            prefix_len: self.prefix_len,
            server: self.server,
            routes: routes.collect::<Option<_>>()?,
            name_servers: self.name_servers,
            domain: self.domain,
            mtu: self.mtu,
            renew_at: self.renew_at,
            rebind_at: self.rebind_at,
            end_at: self.end_at,
        })
    }
}

impl From<&Borrowed> for BorrowedV4 {
    fn from(borrowed: &Borrowed) -> BorrowedV4 {
        let Borrowed { name, permanent_hwaddr } = borrowed;
        BorrowedV4 { name: name.clone(), permanent_hwaddr: *permanent_hwaddr }
    }
}

impl From<BorrowedV4> for Borrowed {
    fn from(borrowed: BorrowedV4) -> Borrowed {
        let BorrowedV4 { name, permanent_hwaddr } = borrowed;
        Borrowed { name, permanent_hwaddr }
    }
}

impl From<&Move> for MoveV4 {
    fn from(moved: &Move) -> MoveV4 {
        let Move { network, from, to } = moved;
        MoveV4 { network: network.clone(), from: (*from).into(), to: (*to).into() }
    }
}

impl MoveV4 {
    fn into_move(self) -> Option<Move> {
        let MoveV4 { network, from, to } = self;
        Some(Move { network, from: Ipv4Prefix::try_from(from).ok()?, to: Ipv4Prefix::try_from(to).ok()? })
    }
}

#[cfg(test)]
#[path = "v4_tests.rs"]
mod tests;
