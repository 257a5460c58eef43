//! Which link an uplink is.

#![allow(clippy::unwrap_used)]

use super::*;
use yado_wire::names::clipped;

fn link(index: u32, name: &str, kind: LinkKind) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind,
        hwaddr: Some([2, 0, 0, 0, 0, index as u8]),
        permanent_hwaddr: Some([2, 0, 0, 0, 1, index as u8]),
        mtu: 1500,
        is_up: true,
        has_carrier: true,
        carrier_changes: 2,
        master: None,
        is_ours: false,
        has_ipv6: false,
        is_learning: false,
        checks_sources: false,
    }
}

fn observed() -> Observed {
    let links = vec![
        link(1, "lo", LinkKind::Other),
        link(4, "eth1", LinkKind::Hardware),
        link(3, "eth0", LinkKind::Hardware),
        link(5, "veth0", LinkKind::Veth),
    ];
    Observed { links, ..Observed::default() }
}

#[test]
fn the_first_ethernet_link_with_hardware_is_chosen_and_stays_chosen() {
    let first = LinkSelector::FirstEthernet;
    let chosen = |current, observed: &Observed, taken: &[String]| {
        select(&first, current, observed, taken).map(|link| link.name.clone())
    };
    let mut there = observed();
    assert_eq!(chosen(None, &there, &[]).as_deref(), Some("eth0"));
    assert_eq!(chosen(Some(4), &there, &[]).as_deref(), Some("eth1"), "it was there first");
    assert_eq!(chosen(None, &there, &["eth0".to_owned()]).as_deref(), Some("eth1"), "taken");
    there.links[2].master = Some(9);
    assert_eq!(chosen(None, &there, &[]).as_deref(), Some("eth1"), "a port of a bridge");
    there.links.retain(|link| link.kind != LinkKind::Hardware);
    assert_eq!(chosen(Some(4), &there, &[]), None);
}

#[test]
fn a_link_is_found_by_name_or_by_the_address_it_was_made_with() {
    let there = observed();
    let chosen = |selector: LinkSelector| select(&selector, None, &there, &[]).map(|link| link.name.clone());
    assert_eq!(chosen(LinkSelector::Name(clipped("veth0"))).as_deref(), Some("veth0"));
    assert_eq!(chosen(LinkSelector::Name(clipped("eth9"))), None);
    assert_eq!(chosen(LinkSelector::Address([2, 0, 0, 0, 1, 4])).as_deref(), Some("eth1"));
    assert_eq!(chosen(LinkSelector::Address([2, 0, 0, 0, 0, 4])), None);
}

#[test]
fn an_address_that_is_not_our_lease_is_somebody_elses() {
    let mut there = observed();
    let own = Ipv4Addr::new(192, 168, 1, 7);
    assert!(!is_configured_by_others(3, None, &there));
    let address = crate::link::observed::Address { link: 3, address: own, prefix_len: 24, is_ours: false };
    there.addresses.push(address);
    assert!(is_configured_by_others(3, None, &there));
    assert!(!is_configured_by_others(3, Some(own), &there));
    assert!(!is_configured_by_others(4, None, &there));
    // A predecessor that was killed before it wrote down why.
    there.addresses[0].is_ours = true;
    assert!(!is_configured_by_others(3, None, &there));
}
