//! Computes the steps from what the kernel has to what is wanted. Pure. One plan need not be enough: a bridge that is made now has
//! an index only when it is read again. So planning and applying are repeated until a plan is empty.

use super::observed::{Address, Link, LinkKind, LinkRoute, Observed};
use super::route::Route;
use yado_spec::network::IpPrefix;
use yado_wire::Text;
use yado_wire::names::clipped;

/// What is wanted of the links.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WantedLinks {
    /// Bridges that are to be.
    pub bridges: Vec<WantedBridge>,
    /// Links that are to be ports.
    pub ports: Vec<WantedPort>,
    /// Uplinks whose link is there.
    pub uplinks: Vec<WantedUplink>,
    /// Hardware links that instances had and that came back, with the names they had before.
    pub names: Vec<(u32, String)>,
    /// Links that were ports of a network: its name, and the port's.
    pub released: Vec<(Text<15>, Text<15>)>,
    /// Links that were uplinks: the network's name, and the link's index.
    pub given_up: Vec<(Text<15>, u32)>,
    /// Bridges of ours that are missing in `bridges` stay: whether they are wanted is not known.
    pub keeps_bridges: bool,
}

/// A bridge that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedBridge {
    /// The network's name, which the link bears too.
    pub name: String,
    /// The same at every boot: made of its name and the machine (`bridge_hwaddr`).
    pub hwaddr: [u8; 6],
    /// In bytes: `bridge.mtu`, else 1500.
    pub mtu: u32,
    /// Its addresses, and no others.
    pub addresses: Vec<IpPrefix>,
}

/// A link that is to be a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedPort {
    /// Its name.
    pub name: String,
    /// The bridge's name.
    pub bridge: String,
    /// The hardware address of the instance behind it; `None`: it leads outside.
    pub hwaddr: Option<[u8; 6]>,
    /// It is to be down for now: its carrier came and went too often (`flap_damping.rs`).
    pub is_held: bool,
}

/// What an uplink is to look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedUplink {
    /// The network's name.
    pub network: Text<15>,
    /// The link's index.
    pub link: u32,
    /// In bytes: what the network's file says, else the DHCP server; `None`: as it is.
    pub mtu: Option<u32>,
    /// Its addresses, and no others of ours.
    pub addresses: Vec<IpPrefix>,
    /// Its routes.
    pub routes: Vec<Route>,
    /// The metric of its routes: of several uplinks the one with the lowest is used.
    pub metric: u32,
    /// Other addresses and routes of ours stay: it is not known that they are over.
    pub keeps_others: bool,
}

/// One thing to do, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Todo {
    /// The network that it is done for.
    pub network: Text<15>,
    /// What, in this order; after one that fails the rest has no sense.
    pub steps: Vec<PlanStep>,
}

/// A link, by what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkId {
    /// It was seen.
    Index(u32),
    /// It is made by a step before.
    Name(String),
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanStep {
    /// Make a bridge, still down.
    CreateBridge {
        /// Its name.
        name: String,
        /// Its hardware address.
        hwaddr: [u8; 6],
        /// Its MTU.
        mtu: u32,
    },
    /// Say that it is ours. The kernel does not take this at the creation.
    MarkBridge {
        /// Which.
        link: LinkId,
    },
    /// Take a link away.
    DeleteLink {
        /// Its index.
        link: u32,
        /// Its name, for the log.
        name: String,
    },
    /// Take IPv6 away from a link. Networks have none; with it the host would believe whatever a container says by router
    /// advertisements, and send what is meant for the world to the container.
    DisableIpv6 {
        /// Its name.
        name: String,
    },
    /// Take IPv4 packets from a link only if their source is reached by it. Without, a container speaks to the host as anyone
    /// it likes, as the name server outside for instance, and to the world from addresses that are nobody's here.
    CheckSources {
        /// Which.
        link: LinkId,
    },
    /// Bring a link up.
    SetUp {
        /// Its index.
        link: u32,
    },
    /// Take a link down.
    SetDown {
        /// Its index.
        link: u32,
    },
    /// Give it a hardware address.
    SetHwaddr {
        /// Its index.
        link: u32,
        /// The address.
        hwaddr: [u8; 6],
    },
    /// Give it an MTU.
    SetMtu {
        /// Its index.
        link: u32,
        /// The MTU.
        mtu: u32,
    },
    /// Make it a port.
    SetMaster {
        /// Its index.
        link: u32,
        /// The bridge's index; `None`: of none.
        master: Option<u32>,
    },
    /// Let the bridge know one address behind a port, and learn no other by it. Each that it learns takes memory of the
    /// kernel that is nobody's, and a container can make up as many as it likes, or take its neighbour's. What is for an
    /// address that the bridge does not know goes to all ports, so interfaces behind the instance's own are reached still.
    StopLearning {
        /// The port.
        link: LinkId,
        /// The address behind it.
        hwaddr: [u8; 6],
    },
    /// Give it its name back; it must be down for that.
    Rename {
        /// Its index.
        link: u32,
        /// The name.
        name: String,
    },
    /// Add an address.
    AddAddress(Address),
    /// Remove one.
    RemoveAddress(Address),
    /// Add a route.
    AddRoute(LinkRoute),
    /// Remove one.
    RemoveRoute(LinkRoute),
}

/// What has to be done, in this order.
pub fn plan(wanted: &WantedLinks, observed: &Observed) -> Vec<Todo> {
    let mut todo = Vec::new();
    let mut add = |network: &str, steps: Vec<PlanStep>| {
        todo.extend(steps.into_iter().map(|step| Todo { network: clipped(network), steps: vec![step] }));
    };
    for (network, port) in &wanted.released {
        add(network, plan_release(network, port, wanted, observed));
    }
    for link in &observed.links {
        let is_wanted = wanted.bridges.iter().any(|bridge| bridge.name == link.name);
        // Whoever is behind such a port may be an instance that nobody told us of.
        let is_used = observed.links.iter().any(|port| port.kind == LinkKind::Veth && port.is_port_of(link.index));
        if link.is_our_bridge() && !is_wanted && !is_used && !wanted.keeps_bridges {
            add(&link.name, vec![PlanStep::DeleteLink { link: link.index, name: link.name.clone() }]);
        }
    }
    for bridge in &wanted.bridges {
        if let Some(link) = observed.link(&bridge.name) {
            add(&bridge.name, plan_bridge(bridge, link, observed));
        }
    }
    for port in &wanted.ports {
        add(&port.bridge, plan_port(port, observed));
    }
    for (index, name) in &wanted.names {
        let Some(link) = observed.link_at(*index) else { continue };
        if link.name != *name && observed.link(name).is_none() {
            add(name, vec![PlanStep::Rename { link: *index, name: name.clone() }]);
        }
    }
    for (network, index) in &wanted.given_up {
        if let Some(link) = observed.link_at(*index) {
            add(network, plan_given_up(link, observed));
        }
    }
    for uplink in &wanted.uplinks {
        if let Some(link) = observed.link_at(uplink.link) {
            add(&uplink.network, plan_uplink(uplink, link, observed));
        }
    }
    let absent = wanted.bridges.iter().filter(|bridge| observed.link(&bridge.name).is_none());
    todo.extend(absent.map(|bridge| Todo { network: clipped(&bridge.name), steps: plan_new_bridge(bridge) }));
    todo
}

/// What a port to an instance is, besides up and on its bridge, from the moment that it is made.
pub fn plan_closed_port(name: &str, hwaddr: [u8; 6]) -> Vec<PlanStep> {
    vec![
        PlanStep::DisableIpv6 { name: name.to_owned() },
        PlanStep::StopLearning { link: LinkId::Name(name.to_owned()), hwaddr },
    ]
}

fn plan_new_bridge(WantedBridge { name, hwaddr, mtu, addresses: _ }: &WantedBridge) -> Vec<PlanStep> {
    let link = || LinkId::Name(name.clone());
    vec![
        PlanStep::CreateBridge { name: name.clone(), hwaddr: *hwaddr, mtu: *mtu },
        PlanStep::MarkBridge { link: link() },
        PlanStep::CheckSources { link: link() },
        PlanStep::DisableIpv6 { name: name.clone() },
    ]
}

/// A link that is the port of another network by now goes there by itself.
fn plan_release(network: &str, port: &str, wanted: &WantedLinks, observed: &Observed) -> Vec<PlanStep> {
    let (Some(link), Some(bridge)) = (observed.link(port), observed.link(network)) else { return Vec::new() };
    let is_port = bridge.is_bridge() && link.is_port_of(bridge.index);
    let is_wanted = wanted.ports.iter().any(|wanted| wanted.name == port);
    if is_port && !is_wanted { vec![PlanStep::SetMaster { link: link.index, master: None }] } else { Vec::new() }
}

fn plan_port(port: &WantedPort, observed: &Observed) -> Vec<PlanStep> {
    let WantedPort { name, bridge, hwaddr, is_held } = port;
    let mut steps = Vec::new();
    let (Some(port), Some(bridge)) = (observed.link(name), observed.link(bridge)) else { return steps };
    let hwaddr = hwaddr.filter(|_| port.port.is_some_and(|port| port.is_learning));
    if bridge.is_bridge() && !port.is_port_of(bridge.index) {
        // A new port learns, which is seen at the next look.
        steps.push(PlanStep::SetMaster { link: port.index, master: Some(bridge.index) });
    } else if let Some(hwaddr) = hwaddr {
        steps.push(PlanStep::StopLearning { link: LinkId::Index(port.index), hwaddr });
    }
    // Should it ever be without its bridge, what the container sends comes to the host itself.
    if port.kind == LinkKind::Veth && port.has_ipv6 {
        steps.push(PlanStep::DisableIpv6 { name: port.name.clone() });
    }
    match (port.is_up, is_held) {
        (false, false) => steps.push(PlanStep::SetUp { link: port.index }),
        (true, true) => steps.push(PlanStep::SetDown { link: port.index }),
        (true, false) | (false, true) => {}
    }
    steps
}

fn plan_bridge(bridge: &WantedBridge, link: &Link, observed: &Observed) -> Vec<PlanStep> {
    let mut steps = Vec::new();
    // A link of another kind has our bridge's name: it is not ours to touch. The network is reported as not up.
    if !link.is_bridge() {
        return steps;
    }
    if link.hwaddr != Some(bridge.hwaddr) {
        steps.push(PlanStep::SetHwaddr { link: link.index, hwaddr: bridge.hwaddr });
    }
    if link.mtu != bridge.mtu {
        steps.push(PlanStep::SetMtu { link: link.index, mtu: bridge.mtu });
    }
    if !link.checks_sources {
        steps.push(PlanStep::CheckSources { link: LinkId::Index(link.index) });
    }
    if link.has_ipv6 {
        steps.push(PlanStep::DisableIpv6 { name: link.name.clone() });
    } else if !link.is_up {
        steps.push(PlanStep::SetUp { link: link.index });
    }
    // We made the bridge: no other address has anything to do there.
    let others = observed.addresses_of(link.index);
    plan_addresses(link.index, &bridge.addresses, others, observed, &mut steps);
    steps
}

fn plan_uplink(uplink: &WantedUplink, link: &Link, observed: &Observed) -> Vec<PlanStep> {
    let mut steps = Vec::new();
    if let Some(mtu) = uplink.mtu.filter(|&mtu| mtu != link.mtu) {
        steps.push(PlanStep::SetMtu { link: link.index, mtu });
    }
    if !link.is_up {
        steps.push(PlanStep::SetUp { link: link.index });
    }
    if uplink.keeps_others {
        return steps;
    }
    plan_addresses(link.index, &uplink.addresses, our_addresses(link, observed), observed, &mut steps);
    let wanted: Vec<LinkRoute> = uplink
        .routes
        .iter()
        .map(|&route| LinkRoute { link: link.index, route, metric: uplink.metric, is_ours: true })
        .collect();
    let ours = observed.routes.iter().filter(|route| route.link == link.index && route.is_ours);
    steps.extend(ours.filter(|route| !wanted.contains(route)).copied().map(PlanStep::RemoveRoute));
    // The kernel takes no route over a link that is down or whose router it cannot reach; wait for both.
    let has = |prefix: &IpPrefix| observed.addresses_of(link.index).any(|address| address.prefix == *prefix);
    if link.is_up && !uplink.addresses.is_empty() && uplink.addresses.iter().all(has) {
        steps.extend(wanted.into_iter().filter(|route| !observed.leads(route)).map(PlanStep::AddRoute));
    }
    steps
}

/// What we gave it is taken back; up or down, it stays as it is.
fn plan_given_up(link: &Link, observed: &Observed) -> Vec<PlanStep> {
    let routes = observed.routes.iter().filter(|route| route.link == link.index && route.is_ours);
    let routes = routes.copied().map(PlanStep::RemoveRoute);
    routes.chain(our_addresses(link, observed).copied().map(PlanStep::RemoveAddress)).collect()
}

/// Where the kernel does not say which are ours, all of them are: on such a link we were alone when we took it.
fn our_addresses<'a>(link: &Link, observed: &'a Observed) -> impl Iterator<Item = &'a Address> {
    let is_known = observed.keeps_address_protocols;
    observed.addresses_of(link.index).filter(move |address| address.is_ours || !is_known)
}

/// Of the addresses `ours`, only `wanted` are kept.
fn plan_addresses<'a>(
    link: u32,
    wanted: &[IpPrefix],
    ours: impl Iterator<Item = &'a Address>,
    observed: &Observed,
    steps: &mut Vec<PlanStep>,
) {
    steps.extend(ours.filter(|address| !wanted.contains(&address.prefix)).copied().map(PlanStep::RemoveAddress));
    let has = |prefix: IpPrefix| observed.addresses_of(link).any(|address| address.prefix == prefix);
    let missing = wanted.iter().copied().filter(|prefix| !has(*prefix));
    steps.extend(missing.map(|prefix| PlanStep::AddAddress(Address { link, prefix, is_ours: true })));
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
