//! The rules for the networks: LXD's, with one chain for each network. Pure.
//!
//! A forwarded packet passes the chains of the network that it comes from and of the one that it goes to. A network's chain drops
//! or returns, and never accepts: so no network lets pass what another one refuses, whatever the order of the chains. A packet of
//! some network that no chain dropped is accepted at the end.

use std::net::Ipv4Addr;
use yado_spec::network::{BridgeIpv4, BridgeSpec};

/// The whole table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// What packets it sees.
    pub family: Family,
    /// What its rules count for each source or port.
    pub sets: Vec<Set>,
    /// Its chains. A chain that others jump to comes with the rest; the order does not matter.
    pub chains: Vec<Chain>,
}

/// A list of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// When packets come to it.
    pub entry: Entry,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// What packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IP packets.
    Inet,
    /// Frames on bridges.
    Bridge,
}

/// A set that rules fill, one entry for each source or port that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// What is told apart.
    pub key: Key,
    /// When an entry that is not used is forgotten; `None`: when it counts nothing any more.
    pub timeout_s: Option<u32>,
}

/// What a set tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// IPv4 source addresses.
    Source,
    /// The ports of a bridge that frames come in by.
    Port,
}

/// What is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// More packets than this, on average and at once.
    Rate {
        /// On average.
        per_second: u32,
        /// At once.
        burst: u32,
    },
    /// More connections than this at a time.
    Connections(u32),
}

/// When packets come to a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// At a hook of the kernel.
    Hook {
        /// Which.
        hook: Hook,
        /// What happens to a packet that no rule decides about.
        policy: Policy,
    },
    /// When a rule of another chain jumps to it by this name.
    Jump(String),
}

/// Where packets are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// All that come in, before they are tracked.
    BeforeTracking,
    /// All that come in, once it is known to which connection they belong.
    Tracked,
    /// What this machine sends, before it is tracked.
    BeforeTrackingOutput,
    /// Those for this machine.
    Input,
    /// Those that pass through.
    Forward,
    /// Those that leave; the first of each connection decides its source address.
    Postrouting,
}

/// What happens to a packet that no rule decides about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It passes.
    Accept,
    /// It is gone.
    Drop,
}

/// Whose packets may pass through this machine besides those of the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// Nobody's: the machine is ours, and two uplinks are not to be routed to each other.
    Denied,
    /// Everybody's: the machine belongs to somebody else, who decides.
    Undecided,
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
    /// IPv4, to this address; in a table of bridges.
    BridgedTo(Ipv4Addr),
    /// The first packet of a connection.
    NewConnection,
    /// An ICMP echo request.
    EchoRequest,
    /// An ICMP error of this type about a packet that did not go to this IPv4 network.
    ErrorBeyond(u8, Ipv4Addr, u8),
    /// All that matched so far together are more than this.
    Over(Limit),
    /// Those that matched so far and have the same key are more than this.
    OverEach(Set, Limit),
    /// UDP from this port.
    UdpFrom(u16),
    /// UDP to this port.
    Udp(u16),
    /// TCP to this port.
    Tcp(u16),
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It passes this hook.
    Accept,
    /// It is gone.
    Drop,
    /// It gets the address of the link it leaves by.
    Masquerade,
    /// It belongs to no connection, and takes no room in the table of connections.
    Untracked,
    /// The chain of this name decides; if it does not, the next rule.
    Jump(String),
}

pub(super) const DHCP: u16 = 67;
pub(super) const DNS: u16 = 53;
/// The ICMP errors that a UDP socket is told of: destination unreachable, parameter problem.
const HARD_ERRORS: [u8; 2] = [3, 12];

/// The rules that `bridges` need.
pub fn ruleset<'a>(bridges: impl Iterator<Item = &'a BridgeSpec>, others: Others) -> Ruleset {
    let mut input = Vec::new();
    let mut forward = Vec::new();
    let mut accepted = Vec::new();
    let mut postrouting = Vec::new();
    let mut networks = Vec::new();
    for bridge in bridges {
        let Some(BridgeIpv4 { address, nat, routing, firewall, dhcp: _ }) = &bridge.ipv4 else { continue };
        let from = || Match::From(bridge.name.to_string());
        let to = || Match::To(bridge.name.to_string());
        let (network, prefix_len) = (address.network(), address.prefix_len());
        if *firewall {
            // A container that says that the uplink's name server is not there would end others' questions.
            for error in HARD_ERRORS {
                let about = Match::ErrorBeyond(error, network, prefix_len);
                input.push(Rule { matches: vec![from(), about], verdict: Verdict::Drop });
            }
            for service in [Match::Udp(DHCP), Match::Udp(DNS), Match::Tcp(DNS)] {
                input.push(Rule { matches: vec![from(), service], verdict: Verdict::Accept });
            }
            let name = format!("network-{}", bridge.name);
            for side in [from(), to()] {
                forward.push(Rule { matches: vec![side], verdict: Verdict::Jump(name.clone()) });
            }
            let mut rules = Vec::new();
            if !*routing {
                // Where the kernel shows bridged packets to this hook, they do not leave the network.
                rules.push(Rule { matches: vec![from(), to()], verdict: Verdict::Accept });
                rules.push(Rule { matches: Vec::new(), verdict: Verdict::Drop });
            }
            networks.push(Chain { entry: Entry::Jump(name), rules });
        }
        // Like LXD, what is new may come in too: an address behind NAT is only reached by who sets a route to it.
        for side in [from(), to()] {
            accepted.push(Rule { matches: vec![side], verdict: Verdict::Accept });
        }
        if *nat {
            let matches = vec![Match::Source(network, prefix_len), Match::NotDestination(network, prefix_len)];
            postrouting.push(Rule { matches, verdict: Verdict::Masquerade });
        }
    }
    forward.append(&mut accepted);
    let policy = match others {
        Others::Denied => Policy::Drop,
        Others::Undecided => Policy::Accept,
    };
    let at = |hook, policy, rules| Chain { entry: Entry::Hook { hook, policy }, rules };
    networks.extend([
        at(Hook::Input, Policy::Accept, input),
        at(Hook::Forward, policy, forward),
        at(Hook::Postrouting, Policy::Accept, postrouting),
    ]);
    Ruleset { family: Family::Inet, sets: Vec::new(), chains: networks }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
