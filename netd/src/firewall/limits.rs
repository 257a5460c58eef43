//! How much of the machine's shared tables and of netd a container may use: rules that drop what is too much. Pure.
//!
//! The kernel's table of connections is one for all. Connections that were closed stay in it for some seconds and are not
//! counted as open by the kernel, so that both are limited: how many are open, and how many are begun. What does not need the
//! table (this machine's own pings, DHCP and DNS on the networks) is kept out of it, and works when it is full.

use super::rules::{
    Chain, DHCP, DNS, Entry, Family, Hook, Key, Limit, Match, Others, Policy, Rule, Ruleset, Set, Verdict,
};
use yado_spec::network::BridgeSpec;

/// What a container is given of netd: DHCP clients ask a few times a minute, and a busy program for some dozen names a second.
const DHCP_LIMIT: Limit = Limit::Rate { per_second: 5, burst: 20 };
const DNS_LIMIT: Limit = Limit::Rate { per_second: 50, burst: 200 };
/// Segments, of which a question takes five or so.
const DNS_TCP_LIMIT: Limit = Limit::Rate { per_second: 200, burst: 500 };
/// A port that is silent for so long has its whole budget again.
const FORGET_S: u32 = 60;

/// The kernel looks through a network's connections when a new one is begun, so that more would take processor time.
const MAX_CONNECTIONS: u32 = 4096;
/// Seconds that a closed connection stays in the table: the close time-outs in `conntrack.rs`.
const CLOSED_S: u32 = 10;

const CONNECTIONS: Set = Set { name: "source-connections", key: Key::Source, timeout_s: None };
const NEW: Set = Set { name: "source-new", key: Key::Source, timeout_s: Some(FORGET_S) };
const DHCP_PORTS: Set = Set { name: "dhcp", key: Key::Port, timeout_s: Some(FORGET_S) };
const DNS_PORTS: Set = Set { name: "dns", key: Key::Port, timeout_s: Some(FORGET_S) };
const DNS_TCP_PORTS: Set = Set { name: "dns-tcp", key: Key::Port, timeout_s: Some(FORGET_S) };

/// Adds to the table of rules that a network, and a source in it, has its share of `table_size` connections.
pub fn limit_connections<'a>(
    rules: &mut Ruleset,
    bridges: impl Iterator<Item = &'a BridgeSpec>,
    others: Others,
    table_size: u32,
) {
    let limited: Vec<&BridgeSpec> = bridges.filter(|bridge| is_limited(bridge)).collect();
    let mut tracked = Vec::new();
    let mut before = Vec::new();
    let mut output = Vec::new();
    let drop = |matches| Rule { matches, verdict: Verdict::Drop };
    let untracked = |matches| Rule { matches, verdict: Verdict::Untracked };
    // A quarter of the table stays for this machine itself. Half of a network's share may be open, half closed.
    let share =
        (table_size / 4 * 3 / u32::try_from(limited.len().max(1)).unwrap_or(1) / 2).clamp(16, MAX_CONNECTIONS);
    let rate =
        |share: u32| Limit::Rate { per_second: (share / CLOSED_S).max(1), burst: (share / CLOSED_S * 2).max(8) };
    for bridge in &limited {
        let from = || vec![Match::From(bridge.name.to_string())];
        let to = || Match::To(bridge.name.to_string());
        before.push(untracked([from(), vec![Match::Udp(DHCP)]].concat()));
        output.push(untracked(vec![to(), Match::UdpFrom(DHCP)]));
        let new = || [from(), vec![Match::NewConnection]].concat();
        for limit in [
            // One that makes up sources has the network's share, and not more.
            Match::OverEach(NEW, rate(share / 2)),
            Match::Over(rate(share)),
            Match::OverEach(CONNECTIONS, Limit::Connections(share / 2)),
            Match::Over(Limit::Connections(share)),
        ] {
            tracked.push(drop([new(), vec![limit]].concat()));
        }
    }
    output.push(untracked(vec![Match::EchoRequest]));
    if others == Others::Denied {
        before.push(untracked(vec![Match::From("lo".to_owned())]));
        output.push(untracked(vec![Match::To("lo".to_owned())]));
    }
    let at = |hook, rules| Chain { entry: Entry::Hook { hook, policy: Policy::Accept }, rules };
    rules.sets.extend([NEW, CONNECTIONS]);
    rules.chains.extend([
        at(Hook::BeforeTracking, before),
        at(Hook::Tracked, tracked),
        at(Hook::BeforeTrackingOutput, output),
    ]);
}

/// The table of bridges: each port has its budget of what netd answers.
pub fn port_budgets<'a>(bridges: impl Iterator<Item = &'a BridgeSpec>) -> Ruleset {
    let drop = |matches| Rule { matches, verdict: Verdict::Drop };
    let mut rules = Vec::new();
    for address in bridges.filter(|bridge| is_limited(bridge)).filter_map(|bridge| bridge.ipv4.as_ref()) {
        if rules.is_empty() {
            rules.push(drop(vec![Match::Udp(DHCP), Match::OverEach(DHCP_PORTS, DHCP_LIMIT)]));
        }
        let to = || Match::BridgedTo(address.address.address());
        rules.push(drop(vec![to(), Match::Udp(DNS), Match::OverEach(DNS_PORTS, DNS_LIMIT)]));
        rules.push(drop(vec![to(), Match::Tcp(DNS), Match::OverEach(DNS_TCP_PORTS, DNS_TCP_LIMIT)]));
    }
    let chain = Chain { entry: Entry::Hook { hook: Hook::Input, policy: Policy::Accept }, rules };
    Ruleset { family: Family::Bridge, sets: vec![DHCP_PORTS, DNS_PORTS, DNS_TCP_PORTS], chains: vec![chain] }
}

fn is_limited(bridge: &BridgeSpec) -> bool {
    bridge.ipv4.as_ref().is_some_and(|ipv4| ipv4.firewall)
}
