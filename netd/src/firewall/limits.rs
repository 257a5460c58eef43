//! Rules that limit how much one container may use of the machine's shared tables and of netd. Pure.
//!
//! All containers share the kernel's connection table. Closed connections stay in it for some seconds, and the kernel does not
//! count them as open. So both are limited: the number of open connections, and the rate of new ones. Traffic that does not need
//! the table (this machine's own pings, DHCP and DNS on the networks) is not tracked, and works when the table is full.

use super::rules::{
    Chain, DHCP, DNS, Entry, Family, Hook, Key, Limit, Match, Others, Policy, Rule, Ruleset, Set, Verdict,
};
use yado_spec::network::{BridgeIpv4, BridgeSpec};

/// What a container is given of netd: at once what one that starts needs, and then what a busy one does. A flood of it may
/// take 5 % of an emulated processor, and has four seconds there: 200 ms. An unknown client costs netd four system calls and
/// no file, a name that is passed on eight calls; the tests hold netd to that (`costs.rs`).
///
/// A client needs two messages for a lease and repeats one that was lost after seconds: four leases at once, or 12 messages in
/// those four seconds.
const DHCP_LIMIT: Limit = Limit::Rate { per_second: 1, burst: 8 };
/// An apt that begins asks for a dozen names, three questions each; 28,800 an hour are left to who asks all the time. In four
/// seconds they are 80, for which an emulated processor has about 2 ms each.
const DNS_LIMIT: Limit = Limit::Rate { per_second: 8, burst: 48 };
/// Segments, of which a question takes five or so.
const DNS_TCP_LIMIT: Limit = Limit::Rate { per_second: 40, burst: 240 };
/// A port that is silent for so long has its whole budget again.
const FORGET_S: u32 = 60;

/// The kernel looks through a network's connections when a new one is begun, so that more would take processor time.
const MAX_CONNECTIONS: u32 = 4096;
/// Seconds that a closed connection stays in the table: the close time-outs in `conntrack.rs`.
const CLOSED_S: u32 = 10;

/// Adds to the table of rules that a network, and a source in it, has its share of `table_size` connections.
pub fn limit_connections<'a>(
    rules: &mut Ruleset,
    bridges: impl Iterator<Item = &'a BridgeSpec>,
    others: Others,
    table_size: u32,
) {
    // Also those whose packets LXD's rules leave alone (`ipv4.firewall`): they take the same room in the table. What is not
    // too much is left to whatever rules there are.
    let limited: Vec<(&BridgeSpec, &BridgeIpv4)> =
        bridges.filter_map(|bridge| Some((bridge, bridge.ipv4.as_ref()?))).collect();
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
    for (bridge, ipv4) in &limited {
        let from = || vec![Match::From(bridge.name.to_string())];
        let to = || Match::To(bridge.name.to_string());
        // Without ours, somebody's rules may want to know of its connection.
        if ipv4.firewall {
            before.push(untracked([from(), vec![Match::Udp(DHCP)]].concat()));
            output.push(untracked(vec![to(), Match::UdpFrom(DHCP)]));
        }
        // Sets of its own: sources that are made up in another network take no room in them.
        let new_of = set_of("source-new", bridge, Some(FORGET_S));
        let connections_of = set_of("source-connections", bridge, None);
        let new = || [from(), vec![Match::NewConnection]].concat();
        for limit in [
            // One that makes up sources has the network's share, and not more.
            Match::OverEach(new_of.clone(), rate(share / 2)),
            Match::Over(rate(share)),
            Match::OverEach(connections_of.clone(), Limit::Connections(share / 2)),
            Match::Over(Limit::Connections(share)),
        ] {
            tracked.push(drop([new(), vec![limit]].concat()));
        }
        rules.sets.extend([new_of, connections_of]);
    }
    output.push(untracked(vec![Match::EchoRequest]));
    if others == Others::Denied {
        before.push(untracked(vec![Match::From("lo".to_owned())]));
        output.push(untracked(vec![Match::To("lo".to_owned())]));
    }
    let at = |hook, rules| Chain { entry: Entry::Hook { hook, policy: Policy::Accept }, rules };
    rules.chains.extend([
        at(Hook::BeforeTracking, before),
        at(Hook::Tracked, tracked),
        at(Hook::BeforeTrackingOutput, output),
    ]);
}

/// Which ports have a budget for DHCP, whose packets go to everybody and so do not say for whom they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DhcpPorts {
    /// Those of all bridges: the machine is ours.
    All,
    /// These: the machine's other bridges have DHCP servers of their own, and not every kernel knows a bridge by its port
    /// (NFT_BRIDGE_META).
    Named(Vec<String>),
}

/// The table of bridges: each port has its budget of what netd answers.
pub fn port_budgets<'a>(bridges: impl Iterator<Item = &'a BridgeSpec>, dhcp_ports: &DhcpPorts) -> Ruleset {
    let drop = |matches| Rule { matches, verdict: Verdict::Drop };
    let set = |name: &str| Set { name: name.to_owned(), key: Key::Port, timeout_s: Some(FORGET_S) };
    let (dhcp, dns, dns_tcp) = (set("dhcp"), set("dns"), set("dns-tcp"));
    let over_dhcp = || vec![Match::Udp(DHCP), Match::OverEach(dhcp.clone(), DHCP_LIMIT)];
    let mut rules = match dhcp_ports {
        DhcpPorts::All => vec![drop(over_dhcp())],
        DhcpPorts::Named(ports) => {
            ports.iter().map(|port| drop([vec![Match::From(port.clone())], over_dhcp()].concat())).collect()
        }
    };
    for ipv4 in bridges.filter_map(|bridge| bridge.ipv4.as_ref()) {
        let to = || Match::BridgedTo(ipv4.address.address());
        rules.push(drop(vec![to(), Match::Udp(DNS), Match::OverEach(dns.clone(), DNS_LIMIT)]));
        rules.push(drop(vec![to(), Match::Tcp(DNS), Match::OverEach(dns_tcp.clone(), DNS_TCP_LIMIT)]));
    }
    let chain = Chain { entry: Entry::Hook { hook: Hook::Input, policy: Policy::Accept }, rules };
    Ruleset { family: Family::Bridge, sets: vec![dhcp, dns, dns_tcp], chains: vec![chain] }
}

fn set_of(what: &str, bridge: &BridgeSpec, timeout_s: Option<u32>) -> Set {
    Set { name: format!("{what}-{}", bridge.name), key: Key::Source, timeout_s }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::rules::ruleset;
    use super::*;
    use yado_wire::names::clipped;

    fn two_networks() -> [BridgeSpec; 2] {
        let mut bridges = ["one", "two"].map(|name| BridgeSpec::named(clipped(name)));
        bridges[1].ipv4.as_mut().unwrap().firewall = false;
        bridges
    }

    #[test]
    fn each_network_has_its_share_and_its_sets_whatever_filters_it() {
        let bridges = two_networks();
        let mut rules = ruleset(bridges.iter(), Others::Denied);
        limit_connections(&mut rules, bridges.iter(), Others::Denied, 2048);
        let at = |wanted: Hook| {
            let is_wanted = |chain: &&Chain| matches!(&chain.entry, Entry::Hook { hook, .. } if *hook == wanted);
            &rules.chains.iter().find(is_wanted).unwrap().rules
        };
        let tracked = at(Hook::Tracked);
        for name in ["one", "two"] {
            let from = Match::From(name.to_owned());
            let own: Vec<&Rule> = tracked.iter().filter(|rule| rule.matches[0] == from).collect();
            assert_eq!(own.len(), 4, "{name}");
            assert!(own.iter().all(|rule| rule.verdict == Verdict::Drop));
            let sets: Vec<&str> = own.iter().flat_map(|rule| &rule.matches).filter_map(set_name).collect();
            assert_eq!(sets, [format!("source-new-{name}"), format!("source-connections-{name}")]);
            // 2048 / 4 * 3 / 2 networks / 2
            assert!(own.iter().any(|rule| rule.matches.contains(&Match::Over(Limit::Connections(384)))));
        }
        assert_eq!(rules.sets.len(), 4);
        // Nothing else is done to the packets of the one that is left alone.
        let is_of_two = |rule: &&Rule| rule.matches.contains(&Match::From("two".to_owned()));
        for hook in [Hook::BeforeTracking, Hook::Input] {
            assert_eq!(at(hook).iter().filter(is_of_two).count(), 0, "{hook:?}");
        }
    }

    fn set_name(condition: &Match) -> Option<&str> {
        if let Match::OverEach(set, _) = condition { Some(&set.name) } else { None }
    }

    #[test]
    fn on_somebody_elses_machine_only_our_ports_have_budgets() {
        let bridges = two_networks();
        let ports = DhcpPorts::Named(vec!["veth1".to_owned(), "veth2".to_owned()]);
        for (ports, dhcp_rules) in [(DhcpPorts::All, 1), (ports, 2)] {
            let budgets = port_budgets(bridges.iter(), &ports);
            let rules = &budgets.chains[0].rules;
            let of_dhcp = rules.iter().filter(|rule| rule.matches.contains(&Match::Udp(DHCP)));
            assert_eq!(of_dhcp.count(), dhcp_rules);
            let is_bound = |rule: &Rule| matches!(rule.matches[0], Match::From(_) | Match::BridgedTo(_));
            assert_eq!(rules.iter().all(is_bound), ports != DhcpPorts::All);
        }
    }
}
