//! What differs between the networks as they were and as they are to be, key by key, in the words of the configuration, as
//! [`crate::changes`] tells it of instances. netd changes all of it at once.

use crate::changes::{Change, differences};
use crate::draft::{Ipv4Choice, NetworkDraft};
use crate::network::{
    AddressSource, BridgeDns, BridgeIpv4, BridgeSpec, DhcpSpec, Ipv4Prefix, NetworksSpec, StaticAddresses, UplinkSpec,
};
use crate::network_keys::{BRIDGE, PHYSICAL};
use crate::setting::{Applies, Setting, find, set_defaults};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// One key of one network that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkChange {
    /// The network's name.
    pub network: String,
    /// The key: `ipv4.dhcp`, and `type` of a network that comes or goes.
    pub change: Change,
}

/// Every key that differs: first those of bridges, then those of physical networks, by name. A network
/// that comes or goes is told by its `type` and by what is not at its default. That uplinks are preferred in another order is
/// told by nothing: it follows from their names.
pub fn network_changes(old: &NetworksSpec, new: &NetworksSpec) -> Vec<NetworkChange> {
    let bridges = |spec: &NetworksSpec| -> BTreeMap<String, NetworkDraft> {
        spec.bridges.iter().map(|bridge| (bridge.name.to_string(), of_bridge(bridge))).collect()
    };
    let uplinks = |spec: &NetworksSpec| -> BTreeMap<String, NetworkDraft> {
        spec.uplinks.iter().map(|uplink| (uplink.name.to_string(), of_uplink(uplink))).collect()
    };
    let mut changes = changes_of("bridge", BRIDGE, &bridges(old), &bridges(new));
    changes.extend(changes_of("physical", PHYSICAL, &uplinks(old), &uplinks(new)));
    changes
}

/// Networks of one type.
fn changes_of(
    kind: &str,
    table: &'static [Setting<NetworkDraft>],
    old: &BTreeMap<String, NetworkDraft>,
    new: &BTreeMap<String, NetworkDraft>,
) -> Vec<NetworkChange> {
    let mut changes = Vec::new();
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let (old, new) = (old.get(name), new.get(name));
        let shown = |draft: Option<&NetworkDraft>| {
            let Some(draft) = draft else { return BTreeMap::new() };
            let mut texts = texts(table, draft);
            if old.is_none() || new.is_none() {
                leave_out_defaults(table, &mut texts);
            }
            texts.insert("type".to_owned(), kind.to_owned());
            texts
        };
        let applies = |key: &str| find(table, key).map_or(Applies::AtOnce, |setting| setting.applies);
        let found = differences(&shown(old), &shown(new), applies);
        changes.extend(found.into_iter().map(|change| NetworkChange { network: name.clone(), change }));
    }
    changes
}

fn texts(table: &'static [Setting<NetworkDraft>], draft: &NetworkDraft) -> BTreeMap<String, String> {
    table.iter().flat_map(|setting| setting.show(draft)).collect()
}

fn leave_out_defaults(table: &'static [Setting<NetworkDraft>], all: &mut BTreeMap<String, String>) {
    let mut default = NetworkDraft::blank();
    set_defaults(table, &mut default);
    let defaults = texts(table, &default);
    all.retain(|key, text| defaults.get(key) != Some(text));
}

fn of_bridge(bridge: &BridgeSpec) -> NetworkDraft {
    let BridgeSpec { name, ipv4, dns, mtu, hwaddr, external_interfaces } = bridge.clone();
    let BridgeDns { mode: dns_mode, domain: dns_domain } = dns;
    let blank = NetworkDraft::blank();
    let draft = NetworkDraft { dns_mode, dns_domain, mtu, hwaddr, external_interfaces, ..blank };
    let Some(BridgeIpv4 { address, nat, routing, firewall, dhcp }) = ipv4 else {
        return NetworkDraft { ipv4_address: Ipv4Choice::None, ..draft };
    };
    let is_auto = address == Ipv4Prefix::auto(&name);
    let ipv4_dhcp = dhcp.is_some();
    let DhcpSpec { ranges, expiry } = dhcp.unwrap_or(DhcpSpec { ranges: Vec::new(), expiry: draft.ipv4_dhcp_expiry });
    NetworkDraft {
        ipv4_address: if is_auto { Ipv4Choice::Auto } else { Ipv4Choice::Given(address) },
        // What holds without the key depends on the address; who reads a table of changes does not want to know.
        ipv4_nat: Some(nat),
        ipv4_routing: routing,
        ipv4_firewall: firewall,
        ipv4_dhcp,
        ipv4_dhcp_ranges: ranges,
        ipv4_dhcp_expiry: expiry,
        ..draft
    }
}

fn of_uplink(uplink: &UplinkSpec) -> NetworkDraft {
    let UplinkSpec { name: _, link: parent, sources, mtu } = uplink.clone();
    let ipv4_dhcp = sources.contains(&AddressSource::Dhcp);
    let mut draft = NetworkDraft { parent, mtu, ipv4_dhcp, ..NetworkDraft::blank() };
    for source in sources {
        match source {
            AddressSource::Dhcp => {}
            // Of IPv6 there are no keys.
            AddressSource::Static(StaticAddresses { addresses, gateways, nameservers }) => {
                let address = addresses.iter().find_map(|prefix| Ipv4Prefix::try_from(*prefix).ok());
                draft.ipv4_address = address.map_or(draft.ipv4_address, Ipv4Choice::Given);
                draft.ipv4_gateway = gateways.iter().find_map(ipv4);
                draft.dns_nameservers = nameservers.iter().filter_map(ipv4).collect();
            }
        }
    }
    draft
}

fn ipv4(address: &IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    }
}
