//! The rules of a configuration, and what they do to packets between two networks.

#![allow(clippy::unwrap_used)]

use super::*;
use yado_spec::NetworksSpec;
use yado_wire::names::clipped;

/// Rules at each hook.
fn count(bridges: &[BridgeSpec]) -> [usize; 3] {
    let rules = ruleset(bridges.iter(), Others::Denied);
    [Hook::Input, Hook::Forward, Hook::Postrouting].map(|hook| at(&rules, hook).1.len())
}

fn at(rules: &Ruleset, wanted: Hook) -> (Policy, &[Rule]) {
    let found = rules.chains.iter().find_map(|chain| match &chain.entry {
        Entry::Hook { hook, policy } if *hook == wanted => Some((*policy, &chain.rules[..])),
        Entry::Hook { .. } | Entry::Jump(_) => None,
    });
    found.unwrap()
}

#[test]
fn a_network_gets_what_it_is_configured_for_and_no_more() {
    let mut bridges = NetworksSpec::default_networks().bridges;
    assert_eq!(count(&bridges), [5, 4, 1]);
    assert_eq!(count(&[]), [0, 0, 0]);
    if let Some(ipv4) = &mut bridges[0].ipv4 {
        ipv4.nat = false;
    }
    assert_eq!(count(&bridges), [5, 4, 0]);
    if let Some(ipv4) = &mut bridges[0].ipv4 {
        ipv4.firewall = false;
    }
    assert_eq!(count(&bridges), [0, 2, 0], "it passes");
    bridges[0].ipv4 = None;
    assert_eq!(count(&bridges), [0, 0, 0]);
}

#[test]
fn only_on_a_machine_of_ours_what_is_of_no_network_is_dropped() {
    assert_eq!(at(&ruleset([].iter(), Others::Denied), Hook::Forward), (Policy::Drop, &[][..]));
    assert_eq!(at(&ruleset([].iter(), Others::Undecided), Hook::Forward), (Policy::Accept, &[][..]));
}

/// Whether the kernel would forward a packet; `None`: the chain does not decide.
fn passes(rules: &Ruleset, chain: &[Rule], from: &str, to: &str) -> Option<bool> {
    let holds = |condition: &Match| match condition {
        Match::From(link) => link == from,
        Match::To(link) => link == to,
        other => panic!("{other:?} decides about forwarding"),
    };
    chain.iter().filter(|rule| rule.matches.iter().all(holds)).find_map(|rule| match &rule.verdict {
        Verdict::Accept => Some(true),
        Verdict::Drop => Some(false),
        Verdict::Masquerade | Verdict::Untracked => panic!("{:?} when forwarding", rule.verdict),
        Verdict::Jump(name) => {
            let target = rules.chains.iter().find(|chain| chain.entry == Entry::Jump(name.clone())).unwrap();
            passes(rules, &target.rules, from, to)
        }
    })
}

#[test]
fn an_isolated_network_is_isolated_in_whatever_order_they_stand() {
    let orders: [&[&str]; 8] = [
        &["a", "x"],
        &["x", "a"],
        &["a", "b", "x"],
        &["a", "x", "b"],
        &["b", "a", "x"],
        &["b", "x", "a"],
        &["x", "a", "b"],
        &["x", "b", "a"],
    ];
    for order in orders {
        let bridges: Vec<BridgeSpec> = order
            .iter()
            .map(|name| {
                let mut bridge = BridgeSpec::named(clipped(name));
                bridge.ipv4.as_mut().unwrap().routing = *name != "x";
                bridge
            })
            .collect();
        let rules = ruleset(bridges.iter(), Others::Denied);
        let (policy, forward) = at(&rules, Hook::Forward);
        let links = || order.iter().copied().chain(["up0", "up1"]);
        for (from, to) in links().flat_map(|from| links().map(move |to| (from, to))) {
            let is_of_network = |link: &str| order.contains(&link);
            let expected = match (from, to) {
                ("x", "x") => true,
                ("x", _) | (_, "x") => false,
                (from, to) => is_of_network(from) || is_of_network(to),
            };
            let found = passes(&rules, forward, from, to).unwrap_or(policy == Policy::Accept);
            assert_eq!(found, expected, "{from} to {to} with {order:?}");
        }
    }
}
