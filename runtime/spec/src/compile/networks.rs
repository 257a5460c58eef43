//! `networks/*.toml` to what netd keeps.

use crate::document::{MAX_PROBLEMS, TomlValue, parse_document};
use crate::draft::{Ipv4Choice, NetworkDraft};
use crate::layer::Located;
use crate::nearest::nearest;
use crate::network::{
    AddressSource, BridgeDns, BridgeIpv4, BridgeSpec, DhcpSpec, Ipv4Prefix, NetworksSpec, StaticAddresses, UplinkSpec,
};
use crate::network_keys::{BRIDGE, PHYSICAL};
use crate::parsed_file::file_problem;
use crate::problem::{Fault, Location, Problem};
use crate::setting::{Effect, Setting, find, nearest_setting, set_defaults};
use crate::sources::Source;
use crate::values::parse_interface;
use std::collections::BTreeMap;
use std::net::IpAddr;
use yado_wire::Text;

/// The networks that are right, and what is wrong with the others. Without a file of a bridge there is `yado0`, and
/// without a right file of a physical network the first Ethernet link: a slip in a file must not cut the device off.
pub(super) fn compile(sources: &BTreeMap<String, Source>) -> (NetworksSpec, Vec<Problem>) {
    let mut spec = NetworksSpec { uplinks: Vec::new(), bridges: Vec::new() };
    let mut problems = Vec::new();
    let mut has_bridge = false;
    for (name, source) in sources {
        let file = source.path.display().to_string();
        let bytes = match &source.content {
            Ok(bytes) => bytes,
            Err(error) => {
                problems.push(file_problem(&file, "", Fault::Unreadable { message: error.to_string() }));
                continue;
            }
        };
        let parsed = parse_network(&file, bytes);
        has_bridge |= parsed.kind == NetworkKind::Bridge;
        match build(name, &file, &parsed) {
            Ok(Built::Bridge(bridge)) => match spec.bridges.iter().find_map(|other| bridge.clash(other)) {
                Some(reason) => problems.push(file_problem(&file, "", Fault::Conflict { reason })),
                None => spec.bridges.push(bridge),
            },
            Ok(Built::Uplink(uplink)) => spec.uplinks.push(uplink),
            Err(more) => problems.extend(more),
        }
    }
    for (count, max, what) in [
        (spec.uplinks.len(), NetworksSpec::MAX_UPLINKS, "physical networks"),
        (spec.bridges.len(), NetworksSpec::MAX_BRIDGES, "bridges"),
    ] {
        if max < count {
            let reason = format!("{count} {what}, at most {max} are possible; the last ones are left out");
            problems.push(file_problem("networks", "", Fault::Conflict { reason }));
        }
    }
    spec.uplinks.truncate(NetworksSpec::MAX_UPLINKS);
    spec.bridges.truncate(NetworksSpec::MAX_BRIDGES);
    let default = NetworksSpec::default_networks();
    if spec.uplinks.is_empty() {
        spec.uplinks = default.uplinks;
    }
    if !has_bridge {
        spec.bridges = default.bridges;
    }
    (spec, problems)
}

/// What is wrong with one file.
pub(super) fn check(name: &str, file: &str, bytes: &[u8]) -> Vec<Problem> {
    build(name, file, &parse_network(file, bytes)).err().unwrap_or_default()
}

enum Built {
    Bridge(BridgeSpec),
    Uplink(UplinkSpec),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NetworkKind {
    Bridge,
    Physical,
}

struct ParsedNetwork {
    kind: NetworkKind,
    /// By key: as it was said, and what it does.
    config: BTreeMap<String, (Located, Effect<NetworkDraft>)>,
    problems: Vec<Problem>,
}

const TOP_KEYS: &[&str] = &["type", "description", "config"];

fn parse_network(file: &str, bytes: &[u8]) -> ParsedNetwork {
    let (entries, syntax) = parse_document(file, bytes);
    let mut parsed = ParsedNetwork { kind: NetworkKind::Bridge, config: BTreeMap::new(), problems: Vec::new() };
    let mut config = Vec::new();
    for entry in entries {
        if MAX_PROBLEMS <= parsed.problems.len() {
            break;
        }
        let path: Vec<&str> = entry.path.iter().map(String::as_str).collect();
        let problem = |key: &str, fault| entry.problem(file, key, fault);
        match (path.as_slice(), &entry.value) {
            (["config", ..], TomlValue::Table) => {}
            (["config", rest @ ..], TomlValue::Text(text)) if !rest.is_empty() => {
                let location = Location::File { file: file.to_owned(), line: entry.line };
                let located = Located { location, text: text.clone() };
                config.push((rest.join("."), located));
            }
            (["type"], TomlValue::Text(text)) if text == "bridge" => parsed.kind = NetworkKind::Bridge,
            (["type"], TomlValue::Text(text)) if text == "physical" => parsed.kind = NetworkKind::Physical,
            (["type"], TomlValue::Text(text)) if ["macvlan", "sriov", "ovn"].contains(&text.as_str()) => {
                let reason = "networks are bridges or physical".to_owned();
                parsed.problems.push(problem("type", Fault::Refused { reason }));
            }
            (["type"], _) => {
                let expected = "bridge or physical".to_owned();
                parsed.problems.push(problem("type", Fault::Value { expected }));
            }
            (["description"], TomlValue::Text(_)) => {}
            ([name @ ("config" | "description"), rest @ ..], _) => {
                let key = if rest.is_empty() { (*name).to_owned() } else { rest.join(".") };
                let expected = "a single value".to_owned();
                parsed.problems.push(problem(&key, Fault::Value { expected }));
            }
            ([name], _) => {
                let nearest = nearest(name, TOP_KEYS.iter().copied()).map(str::to_owned);
                let is_key =
                    find(BRIDGE, name).is_some() || ["ipv4", "dns", "parent", "mtu", "bridge"].contains(name);
                let fault = match is_key {
                    true => Fault::Refused { reason: "it belongs below [config]".to_owned() },
                    false => Fault::Unknown { what: "key", nearest },
                };
                parsed.problems.push(problem(name, fault));
            }
            // Below a table that was reported already.
            _ => {}
        }
    }
    for (name, located) in config {
        if MAX_PROBLEMS <= parsed.problems.len() {
            break;
        }
        let table = table_of(parsed.kind);
        let outcome = match find(table, &name) {
            Some(setting) => setting.parse(&name, &located.text),
            None => Err(unknown(parsed.kind, &name)),
        };
        match outcome {
            Err(fault) => parsed.problems.push(located.problem(name, fault)),
            Ok(_) if parsed.config.contains_key(&name) => {
                let reason = "given twice, in quotes and dotted".to_owned();
                parsed.problems.push(located.problem(name, Fault::Conflict { reason }));
            }
            Ok(effect) => {
                parsed.config.insert(name, (located, effect));
            }
        }
    }
    let broken: Vec<usize> = syntax.iter().map(|problem| problem.location.line()).collect();
    parsed.problems.retain(|problem| !broken.contains(&problem.location.line()));
    parsed.problems.extend(syntax);
    parsed.problems.sort_by_key(|problem| problem.location.line());
    parsed
}

fn table_of(kind: NetworkKind) -> &'static [Setting<NetworkDraft>] {
    match kind {
        NetworkKind::Bridge => BRIDGE,
        NetworkKind::Physical => PHYSICAL,
    }
}

fn unknown(kind: NetworkKind, name: &str) -> Fault {
    let (other, other_name) = match kind {
        NetworkKind::Bridge => (PHYSICAL, "physical"),
        NetworkKind::Physical => (BRIDGE, "bridge"),
    };
    if find(other, name).is_some() {
        return Fault::Refused { reason: format!("only with type = \"{other_name}\"") };
    }
    Fault::Unknown { what: "key", nearest: nearest_setting(table_of(kind), name) }
}

fn build(name: &str, file: &str, parsed: &ParsedNetwork) -> Result<Built, Vec<Problem>> {
    let mut problems = parsed.problems.clone();
    let link = parse_interface(name).map_err(|expected| {
        problems.push(file_problem(file, "", Fault::Value { expected: format!("named by {}", expected.0) }));
    });
    let mut draft = NetworkDraft::blank();
    set_defaults(table_of(parsed.kind), &mut draft);
    parsed.config.values().for_each(|(_, effect)| effect.apply(&mut draft));
    let mut conflict = |key: &str, is_wrong: bool, reason: &str| {
        if let (true, Some((located, _))) = (is_wrong, parsed.config.get(key)) {
            problems.push(located.problem(key, Fault::Conflict { reason: reason.to_owned() }));
        }
    };
    match parsed.kind {
        NetworkKind::Bridge => {
            let is_bare = draft.ipv4_address == Ipv4Choice::None;
            for key in ["ipv4.nat", "ipv4.routing", "ipv4.dhcp", "ipv4.dhcp.ranges", "ipv4.dhcp.expiry"] {
                conflict(key, is_bare, "not with ipv4.address = \"none\"");
            }
            for key in ["ipv4.dhcp.ranges", "ipv4.dhcp.expiry"] {
                conflict(key, !draft.ipv4_dhcp, "not with ipv4.dhcp = false");
            }
            let address = link.as_ref().ok().and_then(|link| bridge_address(&draft, link));
            let is_outside = |prefix: Ipv4Prefix| {
                draft.ipv4_dhcp_ranges.iter().any(|(first, last)| !prefix.contains(*first) || !prefix.contains(*last))
            };
            conflict("ipv4.dhcp.ranges", address.is_some_and(is_outside), "not within the network of ipv4.address");
        }
        NetworkKind::Physical => {
            let is_static = draft.ipv4_address != Ipv4Choice::Auto;
            for key in ["ipv4.gateway", "dns.nameservers"] {
                conflict(key, !is_static, "only with ipv4.address; else DHCP gives it");
            }
            conflict("ipv4.dhcp", is_static && draft.ipv4_dhcp, "not with ipv4.address");
        }
    }
    match (parsed.kind, link) {
        (NetworkKind::Bridge, Ok(name)) if problems.is_empty() => Ok(Built::Bridge(bridge(name, draft))),
        (NetworkKind::Physical, Ok(name)) if problems.is_empty() => Ok(Built::Uplink(uplink(name, draft))),
        (NetworkKind::Bridge | NetworkKind::Physical, Ok(_) | Err(())) => Err(problems),
    }
}

fn bridge_address(draft: &NetworkDraft, name: &str) -> Option<Ipv4Prefix> {
    match draft.ipv4_address {
        Ipv4Choice::Auto => Some(Ipv4Prefix::auto(name)),
        Ipv4Choice::Given(prefix) => Some(prefix),
        Ipv4Choice::None => None,
    }
}

fn bridge(name: Text<15>, draft: NetworkDraft) -> BridgeSpec {
    let dhcp = DhcpSpec { ranges: draft.ipv4_dhcp_ranges.clone(), expiry: draft.ipv4_dhcp_expiry };
    BridgeSpec {
        ipv4: bridge_address(&draft, &name).map(|address| BridgeIpv4 {
            address,
            nat: draft.ipv4_nat.unwrap_or(draft.ipv4_address == Ipv4Choice::Auto),
            routing: draft.ipv4_routing,
            firewall: draft.ipv4_firewall,
            dhcp: draft.ipv4_dhcp.then_some(dhcp),
        }),
        name,
        dns: BridgeDns { mode: draft.dns_mode, domain: draft.dns_domain },
        mtu: draft.mtu,
        hwaddr: draft.hwaddr,
        external_interfaces: draft.external_interfaces,
    }
}

fn uplink(name: Text<15>, draft: NetworkDraft) -> UplinkSpec {
    let sources = match (draft.ipv4_address, draft.ipv4_dhcp) {
        (Ipv4Choice::Given(address), _) => vec![AddressSource::Static(StaticAddresses {
            addresses: vec![address.into()],
            gateways: draft.ipv4_gateway.into_iter().map(IpAddr::V4).collect(),
            nameservers: draft.dns_nameservers.into_iter().map(IpAddr::V4).collect(),
        })],
        (Ipv4Choice::Auto | Ipv4Choice::None, true) => vec![AddressSource::Dhcp],
        (Ipv4Choice::Auto | Ipv4Choice::None, false) => Vec::new(),
    };
    UplinkSpec { name, link: draft.parent, sources, mtu: draft.mtu }
}
