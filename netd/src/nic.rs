//! An interface that an instance is to have, as a type of netd's own. Requests of launchers are converted to it here; the rest of
//! netd does not know the message.

use std::net::Ipv4Addr;
use yado_wire::Text;
use yado_wire::network::{NicKind, NicRequest};

/// One interface, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Its name inside.
    pub name: Text<15>,
    /// What it is connected to.
    pub connection: Connection,
    /// `None`: derived from instance and name.
    pub hwaddr: Option<[u8; 6]>,
    /// `None`: the parent's.
    pub mtu: Option<u16>,
    /// The host end's name; `None`: made up.
    pub host_name: Option<Text<15>>,
    /// The address that the network's DHCP server always gives it.
    pub fixed_ipv4: Option<Ipv4Addr>,
}

/// What an interface is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// A port of a bridge that netd keeps.
    Network {
        /// The network's name, which is the bridge's name.
        network: Text<15>,
    },
    /// A port of a bridge that somebody else keeps.
    Bridged {
        /// The bridge.
        parent: Text<15>,
    },
    /// A macvlan on a host link.
    Macvlan {
        /// The host link.
        parent: Text<15>,
    },
    /// The host link itself.
    Physical {
        /// The host link.
        parent: Text<15>,
    },
}

impl From<&NicRequest> for Nic {
    fn from(request: &NicRequest) -> Nic {
        let NicRequest { name, kind, hwaddr, mtu, host_name, ipv4_address } = request;
        let connection = match kind.clone() {
            NicKind::Network { network } => Connection::Network { network },
            NicKind::Bridged { parent } => Connection::Bridged { parent },
            NicKind::Macvlan { parent } => Connection::Macvlan { parent },
            NicKind::Physical { parent } => Connection::Physical { parent },
        };
        Nic {
            name: name.clone(),
            connection,
            hwaddr: *hwaddr,
            mtu: *mtu,
            host_name: host_name.clone(),
            fixed_ipv4: ipv4_address.map(Ipv4Addr::from),
        }
    }
}
