//! What is told of networks that change: every key of the tables, in the words in which it would be written.

#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeMap;
use world::compile_all;
use yado_spec::NetworksSpec;
use yado_spec::changes::Change;
use yado_spec::network_changes::{NetworkChange, network_changes};
use yado_spec::network_keys::{BRIDGE, PHYSICAL};
use yado_spec::setting::{Applies, Setting, Value};

/// Two values of each key, and what else has to be said so that the key counts.
const OF_BRIDGE: &[(&str, &str, &str, &str)] = &[
    ("ipv4.address", "auto", "10.20.0.1/24", ""),
    ("ipv4.nat", "true", "false", "\"ipv4.address\" = '10.20.0.1/24'"),
    ("ipv4.routing", "true", "false", ""),
    ("ipv4.firewall", "true", "false", ""),
    ("ipv4.dhcp", "true", "false", ""),
    (
        "ipv4.dhcp.ranges",
        "10.20.0.2-10.20.0.9",
        "10.20.0.2-10.20.0.9, 10.20.0.12-10.20.0.19",
        "\"ipv4.address\" = '10.20.0.1/24'",
    ),
    ("ipv4.dhcp.expiry", "1h", "2h", ""),
    ("dns.mode", "managed", "none", ""),
    ("dns.domain", "lxd", "box", ""),
    ("bridge.mtu", "1400", "1280", ""),
    ("bridge.hwaddr", "02:00:5e:10:00:01", "02:00:5e:10:00:02", ""),
    ("bridge.external_interfaces", "eth1", "eth1, eth2", ""),
];

const OF_PHYSICAL: &[(&str, &str, &str, &str)] = &[
    ("parent", "eth0", "52:54:00:12:34:56", ""),
    ("mtu", "1400", "1280", ""),
    ("ipv4.dhcp", "true", "false", ""),
    ("ipv4.address", "192.168.7.2/24", "192.168.7.3/24", ""),
    ("ipv4.gateway", "192.168.7.1", "192.168.7.9", "\"ipv4.address\" = '192.168.7.2/24'"),
    ("dns.nameservers", "9.9.9.9", "9.9.9.9, 1.1.1.1", "\"ipv4.address\" = '192.168.7.2/24'"),
];

fn compile(texts: &[(&str, &str)]) -> NetworksSpec {
    let compiled = compile_all(&[], &[], texts);
    assert_eq!(compiled.network_problems, [], "{texts:?}");
    compiled.networks
}

fn one(kind: &str, lines: &str) -> NetworksSpec {
    compile(&[("net0", &format!("type = '{kind}'\n[config]\n{lines}\n"))])
}

fn lines(changes: Vec<NetworkChange>) -> Vec<String> {
    let none = "-".to_owned();
    let line = |NetworkChange { network, change: Change { key, old, new, applies } }| {
        format!("{network} {key}: {} → {}, {applies}", old.as_ref().unwrap_or(&none), new.as_ref().unwrap_or(&none))
    };
    changes.into_iter().map(line).collect()
}

fn check<T>(kind: &str, table: &'static [Setting<T>], examples: &[(&str, &str, &str, &str)]) {
    let is_kept = |setting: &&Setting<T>| {
        !matches!(setting.value, Value::Kept { .. } | Value::Always { .. } | Value::Refused { .. })
    };
    for setting in table.iter().filter(is_kept) {
        let example = examples.iter().find(|(name, ..)| *name == setting.name);
        let Some((key, old, new, besides)) = example else { panic!("{} of {kind} has no example", setting.name) };
        let with = |value: &str| one(kind, &format!("{besides}\n\"{key}\" = '{value}'"));
        let told = lines(network_changes(&with(old), &with(new)));
        let expected = format!("net0 {key}: {old} → {new}, {}", setting.applies);
        assert!(told.contains(&expected), "{expected}\n{told:#?}");
        assert_eq!(network_changes(&with(old), &with(old)), []);
    }
}

#[test]
fn every_key_of_a_network_is_told_as_it_would_be_written() {
    check("bridge", BRIDGE, OF_BRIDGE);
    check("physical", PHYSICAL, OF_PHYSICAL);
}

#[test]
fn a_network_that_comes_or_goes_is_told_by_what_was_said_of_it() {
    let none = compile(&[]);
    let some = compile(&[
        ("lan0", "[config]\nipv4.address = '10.20.0.1/24'\n"),
        ("wan", "type = 'physical'\n[config]\nparent = 'eth7'\n"),
        ("yado0", ""),
    ]);
    let expected = [
        "lan0 ipv4.address: - → 10.20.0.1/24, at once",
        "lan0 ipv4.nat: - → false, at once",
        "lan0 type: - → bridge, at once",
        // The first Ethernet link, which is there until a file says which link.
        "uplink type: physical → -, at once",
        "wan parent: - → eth7, at once",
        "wan type: - → physical, at once",
    ];
    assert_eq!(lines(network_changes(&none, &some)), expected);
    let back = lines(network_changes(&some, &none));
    assert_eq!(back.len(), expected.len());
    assert!(back.contains(&"lan0 ipv4.address: 10.20.0.1/24 → -, at once".to_owned()), "{back:#?}");
}

#[test]
fn what_is_shown_of_networks_is_what_would_be_written() {
    let full = compile(&[
        ("bare0", "[config]\nipv4.address = 'none'\ndns.mode = 'none'\nbridge.hwaddr = '02:00:5e:10:00:01'\n"),
        (
            "lan0",
            "[config]\n\"ipv4.address\" = '10.20.0.1/16'\n\"ipv4.dhcp.ranges\" = '10.20.0.10-10.20.0.20'\n\
             \"ipv4.dhcp.expiry\" = '90s'\nipv4.nat = true\nipv4.routing = false\nipv4.firewall = false\n\
             dns.domain = 'box'\nbridge.mtu = 1400\nbridge.external_interfaces = 'eth1, eth2'\n",
        ),
        ("quiet0", "[config]\nipv4.nat = false\nipv4.dhcp = false\n"),
        (
            "wan",
            "type = 'physical'\n[config]\nparent = '52:54:00:12:34:56'\nmtu = 1400\nipv4.address = '192.168.7.2/24'\n\
             ipv4.gateway = '192.168.7.1'\ndns.nameservers = '9.9.9.9, 1.1.1.1'\n",
        ),
        ("wire", "type = 'physical'\n[config]\nparent = 'eth7'\nipv4.dhcp = false\n"),
    ]);
    let nothing = NetworksSpec { uplinks: vec![], bridges: vec![] };
    let all = network_changes(&nothing, &full);
    let is_new = |change: &Change| change.applies == Applies::AtOnce && change.old.is_none();
    assert!(all.iter().all(|found| is_new(&found.change)), "{all:#?}");
    let mut files: BTreeMap<String, (String, String)> = BTreeMap::new();
    for NetworkChange { network, change } in all {
        let (kind, config) = files.entry(network).or_default();
        let into = if change.key == "type" { kind } else { config };
        *into += &format!("\"{}\" = '{}'\n", change.key, change.new.unwrap());
    }
    let texts: Vec<(String, String)> =
        files.into_iter().map(|(name, (kind, config))| (name, format!("{kind}[config]\n{config}"))).collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(compile(&texts), full);
}
