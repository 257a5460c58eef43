//! The choice of an uplink's link.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::link::observed::{Address, LinkKind, Port};
use yado_spec::network::IpPrefix;
use yado_wire::names::clipped;

const OTHER: LinkKind = LinkKind::Other;
const VETH: LinkKind = LinkKind::Veth;

fn hardware(index: u8) -> LinkKind {
    LinkKind::Hardware { permanent_hwaddr: Some([2, 0, 0, 0, 1, index]) }
}

fn observed() -> Observed {
    let links = vec![
        Link::example(1, "lo", OTHER),
        Link::example(4, "eth1", hardware(4)),
        Link::example(3, "eth0", hardware(3)),
        Link::example(5, "veth0", VETH),
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
    there.links[2].port = Some(Port { of: 9, is_learning: false });
    assert_eq!(chosen(None, &there, &[]).as_deref(), Some("eth1"), "a port of a bridge");
    there.links.retain(|link| !link.is_hardware());
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
    let own = IpAddr::from([192, 168, 1, 7]);
    assert!(!is_configured_by_others(3, &[], &there));
    there.addresses.push(Address { link: 3, prefix: IpPrefix::new(own, 24).unwrap(), is_ours: false });
    assert!(is_configured_by_others(3, &[], &there));
    assert!(!is_configured_by_others(3, &[own], &there));
    assert!(!is_configured_by_others(4, &[], &there));
    // A predecessor that was killed before it wrote down why.
    there.addresses[0].is_ours = true;
    assert!(!is_configured_by_others(3, &[], &there));
}
