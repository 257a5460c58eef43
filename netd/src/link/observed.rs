//! What the kernel has now, as far as we care: links, IPv4 addresses, IPv4 routes of the main table. The dump lives in
//! `kernel.rs`; here are the values that plans and status are made from.

use std::net::Ipv4Addr;

/// One dump.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Links, by index.
    pub links: Vec<Link>,
    /// IPv4 addresses.
    pub addresses: Vec<Address>,
    /// The kernel keeps the protocol numbers of addresses (Linux 5.18), so ours are known.
    pub keeps_address_protocols: bool,
    /// IPv4 routes of the main table that somebody added (not those the kernel derives from addresses).
    pub routes: Vec<Route>,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index: unlike the name, never given to another link as long as this one lives.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Its hardware address.
    pub hwaddr: Option<[u8; 6]>,
    /// The address it was made with, where the driver says so.
    pub permanent_hwaddr: Option<[u8; 6]>,
    /// Its MTU.
    pub mtu: u32,
    /// It is meant to be up.
    pub is_up: bool,
    /// There is a carrier.
    pub has_carrier: bool,
    /// How often it came and went: a flap between two looks is seen by it.
    pub carrier_changes: u32,
    /// The bridge or bond it is a port of.
    pub master: Option<u32>,
    /// It carries our mark ([`OUR_ALIAS`]): a predecessor of this process made it.
    pub is_ours: bool,
    /// The kernel speaks IPv6 on it. Without: this kernel has none, the MTU is too small for it, or it is disabled here.
    pub has_ipv6: bool,
    /// It is the port of a bridge that writes down who is heard behind it.
    pub is_learning: bool,
    /// IPv4 packets that come in by it are taken only from who is reached by it.
    pub checks_sources: bool,
}

/// What a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// Ethernet with a device behind it.
    Hardware,
    /// A bridge.
    Bridge,
    /// One end of a pair.
    Veth,
    /// Loopback, tunnels, anything virtual or not Ethernet.
    Other,
}

/// An IPv4 address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub link: u32,
    /// The address.
    pub address: Ipv4Addr,
    /// Its network's prefix length.
    pub prefix_len: u8,
    /// It bears our protocol number. Linux before 5.18 keeps none.
    pub is_ours: bool,
}

/// An IPv4 route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The link it leads out of.
    pub link: u32,
    /// Destination network.
    pub destination: Ipv4Addr,
    /// Its prefix length; 0 is the default route.
    pub prefix_len: u8,
    /// The router; `None`: the destination is on the link.
    pub gateway: Option<Ipv4Addr>,
    /// The lowest wins.
    pub metric: u32,
    /// It bears our protocol number.
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
    pub fn our_bridge_address(&self, name: &str) -> Option<(Ipv4Addr, u8)> {
        let link = self.link(name).filter(|link| link.is_ours && link.kind == LinkKind::Bridge)?;
        let mut addresses = self.addresses_of(link.index);
        let one = addresses.next()?;
        addresses.next().is_none().then_some((one.address, one.prefix_len))
    }

    /// Whether it has this route already, whoever made it.
    pub fn leads(&self, route: &Route) -> bool {
        self.routes.iter().any(|other| Route { is_ours: route.is_ours, ..*other } == *route)
    }

    /// The addresses of the link with this index.
    pub fn addresses_of(&self, index: u32) -> impl Iterator<Item = &Address> {
        self.addresses.iter().filter(move |address| address.link == index)
    }
}
