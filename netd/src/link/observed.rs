//! What the kernel has now, as far as netd needs it: links, and the IPv4 addresses and routes of the main table. (Networks have no
//! keys for IPv6 yet.) `dump.rs` reads it; plans and status are made from these values.

use super::route::Route;
use yado_spec::network::IpPrefix;

/// What one dump of each table has told. Between two dumps the kernel may change: plans are made again from the next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Links, by index.
    pub links: Vec<Link>,
    /// IPv4 addresses of all links, ours and those of others.
    pub addresses: Vec<Address>,
    /// The kernel keeps the protocol numbers of addresses (Linux 5.18), so ours are known.
    pub keeps_address_protocols: bool,
    /// Routes of the main table that somebody added (not those the kernel derives from addresses).
    pub routes: Vec<LinkRoute>,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index: unlike the name, never given to another link as long as this one lives.
    pub index: u32,
    /// Its name (`IFLA_IFNAME`), at most 15 bytes. It can change while the link lives.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// What it sends from now (`IFLA_ADDRESS`); `None`: none, or not of six bytes.
    pub hwaddr: Option<[u8; 6]>,
    /// The longest IP packet in bytes (`IFLA_MTU`).
    pub mtu: u32,
    /// Somebody has set it up (`IFF_UP`); whether anything can be sent is told by the carrier.
    pub is_up: bool,
    /// There is a carrier, as the driver says; a link that is down has none.
    pub has_carrier: bool,
    /// How often it came and went: a flap between two looks is seen by it.
    pub carrier_changes: u32,
    /// What it is a port of; `None`: of nothing.
    pub port: Option<Port>,
    /// The kernel speaks IPv6 on it. Without: this kernel has none, the MTU is too small for it, or it is disabled here.
    pub has_ipv6: bool,
    /// IPv4 packets that come in by it are taken only from who is reached by it.
    pub checks_sources: bool,
}

/// What a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// Ethernet with a device behind it.
    Hardware {
        /// The address it was made with, where the driver says so.
        permanent_hwaddr: Option<[u8; 6]>,
    },
    /// A bridge.
    Bridge {
        /// It carries our mark ([`OUR_ALIAS`]): a predecessor of this process made it.
        is_ours: bool,
    },
    /// One end of a pair (veth(4)): the other may be in another namespace.
    Veth,
    /// Loopback, tunnels, anything virtual or not Ethernet.
    Other,
}

/// A link as a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The bridge or bond, by its index.
    pub of: u32,
    /// It is a bridge's, which writes down who is heard behind it.
    pub is_learning: bool,
}

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub link: u32,
    /// The address, and its network.
    pub prefix: IpPrefix,
    /// It bears our protocol number. Linux before 5.18 keeps none.
    pub is_ours: bool,
}

/// A route that the kernel has, or is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkRoute {
    /// Index of the link it leads out of.
    pub link: u32,
    /// Where to.
    pub route: Route,
    /// Of several routes to the same network the one with the lowest is used.
    pub metric: u32,
    /// It bears our protocol number (`rtm_protocol`), which a predecessor of this process gives too.
    pub is_ours: bool,
}

/// `IFLA_IFALIAS` of every bridge we make: how a restarted netd tells its own bridges from those of others.
pub const OUR_ALIAS: &str = "yadokari";

impl Observed {
    /// The link called `name`.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The link with this index.
    pub fn link_at(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The address of a bridge with our mark; `None`: there is none, or it has not exactly one.
    pub fn our_bridge_address(&self, name: &str) -> Option<IpPrefix> {
        let link = self.link(name).filter(|link| link.is_our_bridge())?;
        let mut addresses = self.addresses_of(link.index);
        let one = addresses.next()?;
        addresses.next().is_none().then_some(one.prefix)
    }

    /// Whether it has this route already, whoever made it.
    pub fn leads(&self, route: &LinkRoute) -> bool {
        self.routes.iter().any(|other| LinkRoute { is_ours: route.is_ours, ..*other } == *route)
    }

    /// The addresses of the link with this index.
    pub fn addresses_of(&self, index: u32) -> impl Iterator<Item = &Address> {
        self.addresses.iter().filter(move |address| address.link == index)
    }
}

impl Link {
    /// Whether it is a bridge, whoever made it.
    pub fn is_bridge(&self) -> bool {
        matches!(self.kind, LinkKind::Bridge { is_ours: _ })
    }

    /// Whether it is a bridge that a netd made.
    pub fn is_our_bridge(&self) -> bool {
        self.kind == LinkKind::Bridge { is_ours: true }
    }

    /// Whether it has a device behind it.
    pub fn is_hardware(&self) -> bool {
        matches!(self.kind, LinkKind::Hardware { permanent_hwaddr: _ })
    }

    /// The address that its device was made with, where the driver says so.
    pub fn permanent_hwaddr(&self) -> Option<[u8; 6]> {
        match self.kind {
            LinkKind::Hardware { permanent_hwaddr } => permanent_hwaddr,
            LinkKind::Bridge { is_ours: _ } | LinkKind::Veth | LinkKind::Other => None,
        }
    }

    /// Whether it is a port of this one.
    pub fn is_port_of(&self, index: u32) -> bool {
        self.port.is_some_and(|port| port.of == index)
    }
}

#[cfg(test)]
impl Link {
    /// A link that is up and nobody's port.
    pub(crate) fn example(index: u32, name: &str, kind: LinkKind) -> Link {
        Link {
            index,
            name: name.to_owned(),
            kind,
            hwaddr: Some([2, 0, 0, 0, 0, index as u8]),
            mtu: 1500,
            is_up: true,
            has_carrier: true,
            carrier_changes: 2,
            port: None,
            has_ipv6: false,
            checks_sources: matches!(kind, LinkKind::Bridge { is_ours: true }),
        }
    }
}
