//! Version 5 of `netd.state`. These types are used for the file only, so that messages and other types of netd can change while
//! the file stays readable. Names, addresses and times are stored as they are; the code that uses them says what they mean.

use super::{Attachment, Borrowed, Saved};
use crate::dhcp::lease::Lease as UplinkLease;
use crate::dhcp::server::{self, Leases};
use crate::link::route::Route;
use crate::nic::Connection;
use crate::run_numbers::{Run, RunNumbers};
use crate::subnets::Move;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use yado_spec::network::{IpPrefix, Ipv4Prefix};
use yado_wire::{AboutInstance, InstanceId, InstanceName, RunNumber, Text};

/// The body of the file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StateV5 {
    boot: Text<36>,
    attachments: Vec<AttachmentV5>,
    runs: Vec<RunV5>,
    leases: Vec<(Text<15>, Vec<LeaseV5>)>,
    uplinks: Vec<([u8; 6], UplinkLeaseV5)>,
    borrowed: Vec<BorrowedV5>,
    moves: Vec<MoveV5>,
}

#[derive(Debug, Serialize, Deserialize)]
struct AttachmentV5 {
    instance: (u32, InstanceName),
    nic: Text<15>,
    connection: ConnectionV5,
    hwaddr: [u8; 6],
    host_link: Option<String>,
    fixed_ipv4: Option<Ipv4Addr>,
}

#[derive(Debug, Serialize, Deserialize)]
enum ConnectionV5 {
    Network(Text<15>),
    Bridged(Text<15>),
    Macvlan(Text<15>),
    Physical(Text<15>),
}

#[derive(Debug, Serialize, Deserialize)]
struct RunV5 {
    instance: u32,
    number: u64,
    is_over: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct LeaseV5 {
    hwaddr: [u8; 6],
    address: Ipv4Addr,
    state: LeaseStateV5,
    until_s: u64,
}

#[derive(Debug, Serialize, Deserialize)]
enum LeaseStateV5 {
    Offered,
    Bound,
    Declined,
}

#[derive(Debug, Serialize, Deserialize)]
struct UplinkLeaseV5 {
    address: Ipv4Addr,
    prefix_len: u8,
    server: Ipv4Addr,
    routes: Vec<RouteV5>,
    name_servers: Vec<Ipv4Addr>,
    domain: Option<String>,
    mtu: Option<u16>,
    renew_at: Duration,
    rebind_at: Duration,
    end_at: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
struct RouteV5 {
    destination: IpAddr,
    prefix_len: u8,
    gateway: Option<IpAddr>,
}

#[derive(Debug, Serialize, Deserialize)]
struct BorrowedV5 {
    name: Text<15>,
    permanent_hwaddr: [u8; 6],
}

#[derive(Debug, Serialize, Deserialize)]
struct MoveV5 {
    network: Text<15>,
    from: (Ipv4Addr, u8),
    to: (Ipv4Addr, u8),
}

impl From<&Saved> for StateV5 {
    fn from(saved: &Saved) -> StateV5 {
        let Saved { boot, attachments, runs, leases, uplinks, borrowed, moves } = saved;
        StateV5 {
            boot: boot.clone(),
            attachments: attachments.iter().map(AttachmentV5::from).collect(),
            runs: runs.known().iter().map(RunV5::from).collect(),
            leases: leases
                .iter()
                .map(|(network, leases)| (network.clone(), leases.entries().iter().map(LeaseV5::from).collect()))
                .collect(),
            uplinks: uplinks.iter().map(|(hwaddr, lease)| (*hwaddr, UplinkLeaseV5::from(lease))).collect(),
            borrowed: borrowed.iter().map(BorrowedV5::from).collect(),
            moves: moves.iter().map(MoveV5::from).collect(),
        }
    }
}

impl StateV5 {
    /// `None`: it says what cannot be.
    pub(super) fn into_saved(self) -> Option<Saved> {
        let StateV5 { boot, attachments, runs, leases, uplinks, borrowed, moves } = self;
        Some(Saved {
            boot,
            attachments: attachments.into_iter().map(Attachment::from).collect(),
            runs: RunNumbers::of(runs.into_iter().map(Run::from).collect()),
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
            moves: moves.into_iter().map(MoveV5::into_move).collect::<Option<_>>()?,
        })
    }
}

impl From<&Attachment> for AttachmentV5 {
    fn from(attachment: &Attachment) -> AttachmentV5 {
        let Attachment { instance, nic, connection, hwaddr, host_link, fixed_ipv4 } = attachment;
        let connection = match connection.clone() {
            Connection::Network { network } => ConnectionV5::Network(network),
            Connection::Bridged { parent } => ConnectionV5::Bridged(parent),
            Connection::Macvlan { parent } => ConnectionV5::Macvlan(parent),
            Connection::Physical { parent } => ConnectionV5::Physical(parent),
        };
        AttachmentV5 {
            instance: (instance.id.0, instance.name.clone()),
            nic: nic.clone(),
            connection,
            hwaddr: *hwaddr,
            host_link: host_link.clone(),
            fixed_ipv4: *fixed_ipv4,
        }
    }
}

impl From<AttachmentV5> for Attachment {
    fn from(attachment: AttachmentV5) -> Attachment {
        let AttachmentV5 { instance, nic, connection, hwaddr, host_link, fixed_ipv4 } = attachment;
        let connection = match connection {
            ConnectionV5::Network(network) => Connection::Network { network },
            ConnectionV5::Bridged(parent) => Connection::Bridged { parent },
            ConnectionV5::Macvlan(parent) => Connection::Macvlan { parent },
            ConnectionV5::Physical(parent) => Connection::Physical { parent },
        };
        let (id, name) = instance;
        let instance = AboutInstance { id: InstanceId(id), name };
        Attachment { instance, nic, connection, hwaddr, host_link, fixed_ipv4 }
    }
}

impl From<&Run> for RunV5 {
    fn from(run: &Run) -> RunV5 {
        let Run { instance, number: RunNumber(number), is_over } = run;
        RunV5 { instance: instance.0, number: *number, is_over: *is_over }
    }
}

impl From<RunV5> for Run {
    fn from(run: RunV5) -> Run {
        let RunV5 { instance, number, is_over } = run;
        Run { instance: InstanceId(instance), number: RunNumber(number), is_over }
    }
}

impl From<&server::Lease> for LeaseV5 {
    fn from(lease: &server::Lease) -> LeaseV5 {
        let server::Lease { hwaddr, address, state, until_s } = lease;
        let state = match state {
            server::LeaseState::Offered => LeaseStateV5::Offered,
            server::LeaseState::Bound => LeaseStateV5::Bound,
            server::LeaseState::Declined => LeaseStateV5::Declined,
        };
        LeaseV5 { hwaddr: *hwaddr, address: *address, state, until_s: *until_s }
    }
}

impl From<LeaseV5> for server::Lease {
    fn from(lease: LeaseV5) -> server::Lease {
        let LeaseV5 { hwaddr, address, state, until_s } = lease;
        let state = match state {
            LeaseStateV5::Offered => server::LeaseState::Offered,
            LeaseStateV5::Bound => server::LeaseState::Bound,
            LeaseStateV5::Declined => server::LeaseState::Declined,
        };
        server::Lease { hwaddr, address, state, until_s }
    }
}

impl From<&UplinkLease> for UplinkLeaseV5 {
    fn from(lease: &UplinkLease) -> UplinkLeaseV5 {
        let lease = lease.clone();
        let routes = lease.routes.into_iter().map(|Route { to, gateway }| RouteV5 {
            destination: to.address(),
            prefix_len: to.prefix_len(),
            gateway,
        });
        UplinkLeaseV5 {
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

impl UplinkLeaseV5 {
    fn into_lease(self) -> Option<UplinkLease> {
        let routes = self.routes.into_iter().map(|RouteV5 { destination, prefix_len, gateway }| {
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

impl From<&Borrowed> for BorrowedV5 {
    fn from(borrowed: &Borrowed) -> BorrowedV5 {
        let Borrowed { name, permanent_hwaddr } = borrowed;
        BorrowedV5 { name: name.clone(), permanent_hwaddr: *permanent_hwaddr }
    }
}

impl From<BorrowedV5> for Borrowed {
    fn from(borrowed: BorrowedV5) -> Borrowed {
        let BorrowedV5 { name, permanent_hwaddr } = borrowed;
        Borrowed { name, permanent_hwaddr }
    }
}

impl From<&Move> for MoveV5 {
    fn from(moved: &Move) -> MoveV5 {
        let Move { network, from, to } = moved;
        MoveV5 { network: network.clone(), from: (*from).into(), to: (*to).into() }
    }
}

impl MoveV5 {
    fn into_move(self) -> Option<Move> {
        let MoveV5 { network, from, to } = self;
        Some(Move { network, from: Ipv4Prefix::try_from(from).ok()?, to: Ipv4Prefix::try_from(to).ok()? })
    }
}

#[cfg(test)]
#[path = "v5_tests.rs"]
mod tests;
