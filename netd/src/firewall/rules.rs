//! Which rules the bridges need: LXD's, in one chain per hook. Pure.

use std::net::Ipv4Addr;
use yado_spec::network::{BridgeIpv4, BridgeSpec};

/// The whole table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// Its chains.
    pub chains: Vec<Chain>,
}

/// A chain at a hook, with policy accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Where it hooks in.
    pub hook: Hook,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// Where packets are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Those for this machine.
    Input,
    /// Those that pass through.
    Forward,
    /// Those that leave; the first of each connection decides its source address.
    Postrouting,
}

/// If all of `matches` hold, then `verdict`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The conditions.
    pub matches: Vec<Match>,
    /// What happens.
    pub verdict: Verdict,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// It came in by this link.
    From(String),
    /// It goes out by this link.
    To(String),
    /// IPv4, from this network.
    Source(Ipv4Addr, u8),
    /// IPv4, not to this network.
    NotDestination(Ipv4Addr, u8),
    /// UDP to this port.
    Udp(u16),
    /// TCP to this port.
    Tcp(u16),
    /// It belongs to a connection that was accepted, or to one that such a connection announced.
    Established,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It passes this chain.
    Accept,
    /// It is gone.
    Drop,
    /// It gets the address of the link it leaves by.
    Masquerade,
}

const DHCP: u16 = 67;
const DNS: u16 = 53;

/// The rules that `bridges` need.
pub fn ruleset(bridges: &[BridgeSpec]) -> Ruleset {
    let mut input = Vec::new();
    let mut forward = Vec::new();
    let mut postrouting = Vec::new();
    for bridge in bridges {
        let Some(BridgeIpv4 { address, nat, routing, firewall, dhcp: _ }) = &bridge.ipv4 else { continue };
        let from = || Match::From(bridge.name.to_string());
        let to = || Match::To(bridge.name.to_string());
        if *firewall {
            for service in [Match::Udp(DHCP), Match::Udp(DNS), Match::Tcp(DNS)] {
                input.push(Rule { matches: vec![from(), service], verdict: Verdict::Accept });
            }
            // Like LXD, what is new may come in too: an address behind NAT is only reached by who sets a route to it.
            let verdict = if *routing { Verdict::Accept } else { Verdict::Drop };
            forward.push(Rule { matches: vec![from()], verdict });
            forward.push(Rule { matches: vec![to()], verdict });
        }
        if *nat {
            let (network, prefix_len) = (address.network(), address.prefix_len());
            let matches = vec![Match::Source(network, prefix_len), Match::NotDestination(network, prefix_len)];
            postrouting.push(Rule { matches, verdict: Verdict::Masquerade });
        }
    }
    if !forward.is_empty() {
        // Answers pass whatever a later bridge says about its own side.
        forward.insert(0, Rule { matches: vec![Match::Established], verdict: Verdict::Accept });
    }
    Ruleset {
        chains: vec![
            Chain { hook: Hook::Input, rules: input },
            Chain { hook: Hook::Forward, rules: forward },
            Chain { hook: Hook::Postrouting, rules: postrouting },
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yado_spec::NetworksSpec;

    #[test]
    fn a_bridge_gets_what_it_is_configured_for_and_no_more() {
        let mut bridges = NetworksSpec::default_networks().bridges;
        let count =
            |bridges: &[BridgeSpec]| ruleset(bridges).chains.iter().map(|c| c.rules.len()).collect::<Vec<_>>();
        assert_eq!(count(&bridges), [3, 3, 1]);
        assert_eq!(count(&[]), [0, 0, 0]);
        if let Some(ipv4) = &mut bridges[0].ipv4 {
            ipv4.nat = false;
        }
        assert_eq!(count(&bridges), [3, 3, 0]);
        if let Some(ipv4) = &mut bridges[0].ipv4 {
            ipv4.routing = false;
        }
        assert!(ruleset(&bridges).chains[1].rules[1..].iter().all(|rule| rule.verdict == Verdict::Drop));
        if let Some(ipv4) = &mut bridges[0].ipv4 {
            ipv4.firewall = false;
        }
        assert_eq!(count(&bridges), [0, 0, 0]);
        bridges[0].ipv4 = None;
        assert_eq!(count(&bridges), [0, 0, 0]);
    }
}
