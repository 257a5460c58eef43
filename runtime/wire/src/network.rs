//! What is asked of netd, over its socket `netd.sock`: one request packet, one or more reply packets.

use crate::failure::Failure;
use crate::names::{AboutInstance, InstanceId, RunNumber, Text};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// How many interfaces an instance can have; all of them fit into one packet.
pub const MAX_NICS: usize = 8;

/// How many addresses of a link are told. Some have more; the first are enough to find it.
pub const MAX_ADDRESSES: usize = 8;

/// How many default routers of a link are told: one of each family.
pub const MAX_GATEWAYS: usize = 2;

/// How many name servers are told; resolv.conf(5): more are not looked at.
pub const MAX_NAMESERVERS: usize = 3;

/// A request to netd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetRequest {
    /// Give the network namespace (its descriptor travels along) the instance's interfaces. Answered by
    /// [`NetReply::Attached`] or [`NetReply::Failed`]. Asking again for the same instance replaces what was there. Refused
    /// if that run was detached already, or if netd knows a later one.
    Attach {
        /// Whose namespace it is; its name is also its DNS name.
        instance: AboutInstance,
        /// The run that the namespace belongs to: a later one replaces an earlier one, never the other way.
        run: RunNumber,
        /// Its interfaces.
        nics: heapless::Vec<NicRequest, MAX_NICS>,
    },
    /// This run of the instance is over: drop its interfaces, leases and names. Does nothing if netd knows a later run.
    /// Answered by [`NetReply::Done`].
    Detach {
        /// Which instance.
        instance: InstanceId,
        /// The run that is over.
        run: RunNumber,
    },
    /// Answered by one [`NetReply::Link`] per network, uplink and attached interface, then [`NetReply::Done`].
    Status,
    /// Read the networks' file anew, and make what runs as it says. Answered by one [`NetReply::NetworkFailed`] for each thing
    /// that is not so now, then [`NetReply::Done`]; or by [`NetReply::Failed`] if the file cannot be read, and then the networks
    /// stay as they are. Since version 1.
    Reload,
}

/// One interface of an instance, as LXD's `nic` device says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicRequest {
    /// Name inside the instance (`eth0`).
    pub name: Text<15>,
    /// What it is connected to.
    pub kind: NicKind,
    /// MAC address; `None`: derived from instance and interface name, so it is the same at every start.
    pub hwaddr: Option<[u8; 6]>,
    /// MTU in bytes; `None`: that of the bridge or parent.
    pub mtu: Option<u16>,
    /// Name of the host's end of the pair; `None`: made of the names of instance and interface, in LXD's form.
    pub host_name: Option<Text<15>>,
    /// A fixed IPv4 address that the network's DHCP server hands to it.
    pub ipv4_address: Option<[u8; 4]>,
}

/// What an interface of an instance is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NicKind {
    /// A port of a bridge that netd keeps (LXD's `network=NAME`).
    Network {
        /// The network's name, which is the bridge's name.
        network: Text<15>,
    },
    /// A port of a bridge that somebody else keeps (`nictype=bridged parent=NAME`).
    Bridged {
        /// The bridge.
        parent: Text<15>,
    },
    /// A macvlan on a host interface.
    Macvlan {
        /// The host interface.
        parent: Text<15>,
    },
    /// The host interface itself moves into the instance, and comes back when it stops.
    Physical {
        /// The host interface.
        parent: Text<15>,
    },
}

/// A reply of netd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetReply {
    /// The interfaces are in the namespace under their names, and down there: who asked brings them up. The host's side is up,
    /// with what keeps them apart in force.
    Attached,
    /// Refused, or failed and taken back: nothing was changed.
    Failed(Failure),
    /// One line of the status.
    Link(LinkStatus),
    /// The end of a status, or a request without an answer of its own is done.
    Done,
    /// A network is not as its file says: it is still used, or the kernel refused something, which is tried again. Since
    /// version 1.
    NetworkFailed {
        /// Which; `None`: all of them.
        network: Option<Text<15>>,
        /// What, and why.
        failure: Failure,
    },
}

/// The kinds of [`NetReply`] that answer [`NetRequest::Attach`] and [`NetRequest::Detach`]. PID 1 reads only these: with the whole
/// type it would link the reader of a status that it never asks for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub enum AttachReply {
    /// As [`NetReply::Attached`].
    Attached,
    /// As [`NetReply::Failed`].
    Failed(Failure),
    /// [`NetReply::Link`] is no answer: what it holds is left over, which is an error.
    Link,
    /// As [`NetReply::Done`].
    Done,
}

/// One network, uplink or interface, as netd observes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The link's name on the host.
    pub name: Text<15>,
    /// What it is for.
    pub role: LinkRole,
    /// Whether it is up with a carrier; of a network, which serves without one, whether it is up.
    pub is_up: bool,
    /// Its addresses and their networks' prefix lengths. For an instance: the address leased to it.
    pub addresses: heapless::Vec<(IpAddr, u8), MAX_ADDRESSES>,
    /// The default routers it goes through, the preferred first (uplink only).
    pub gateways: heapless::Vec<IpAddr, MAX_GATEWAYS>,
    /// Name servers that DHCP or the network's file told (uplink only).
    pub nameservers: heapless::Vec<IpAddr, MAX_NAMESERVERS>,
    /// Seconds until the DHCP lease ends; `None`: there is none, or it never ends.
    pub lease_left_s: Option<u32>,
    /// What somebody should know about it; `None`: it is as configured.
    pub note: Option<LinkNote>,
}

/// Why a link is not as it was configured, or not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkNote {
    /// The network's automatic address lies in a network that the machine is connected to, so it has another one.
    Moved {
        /// The configured address and prefix length.
        from: (IpAddr, u8),
    },
    /// The network's address lies in a network that the machine is connected to.
    Collides {
        /// That network.
        with: (IpAddr, u8),
    },
    /// The interface is left down by netd for a while.
    HeldDown {
        /// For so many seconds still.
        left_s: u32,
    },
    /// Nobody new on the network gets an address.
    NoAddressLeft {
        /// How many addresses its pool has.
        of: u32,
    },
}

/// What a link is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkRole {
    /// It leads outside.
    Uplink,
    /// A bridge netd keeps.
    Network,
    /// An interface of an instance.
    Nic {
        /// Whose.
        instance: AboutInstance,
        /// Its name inside.
        name: Text<15>,
    },
}
