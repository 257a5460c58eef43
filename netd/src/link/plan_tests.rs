//! Plans as tables: what is wished, what is there, what has to be done.

#![allow(clippy::unwrap_used)]

use super::*;

/// The steps alone.
fn steps(wish: &Wish, there: &Observed) -> Vec<Step> {
    plan(wish, there).into_iter().map(|todo| todo.step).collect()
}

const HWADDR: [u8; 6] = [0, 0x16, 0x3e, 1, 2, 3];

fn link(index: u32, name: &str, kind: LinkKind) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind,
        hwaddr: Some(HWADDR),
        permanent_hwaddr: None,
        mtu: 1500,
        is_up: true,
        has_carrier: true,
        carrier_changes: 2,
        master: None,
        is_ours: kind == LinkKind::Bridge,
        has_ipv6: false,
        is_learning: false,
        checks_sources: kind == LinkKind::Bridge,
    }
}

fn address(link: u32, last: u8) -> Address {
    Address { link, address: Ipv4Addr::new(10, 158, 0, last), prefix_len: 24, is_ours: true }
}

fn bridge_wish() -> Wish {
    Wish {
        bridges: vec![WishedBridge {
            name: "yado0".to_owned(),
            hwaddr: HWADDR,
            mtu: 1500,
            address: Some(Ipv4Prefix::parse("10.158.0.1/24").unwrap()),
        }],
        ..Wish::default()
    }
}

fn port_wish(name: &str, hwaddr: Option<[u8; 6]>) -> WishedPort {
    WishedPort { name: name.to_owned(), bridge: "yado0".to_owned(), hwaddr, is_held: false }
}

fn bridge_there() -> Observed {
    Observed {
        links: vec![link(5, "yado0", LinkKind::Bridge)],
        addresses: vec![address(5, 1)],
        ..Observed::default()
    }
}

#[test]
fn a_bridge_is_made_repaired_and_left_alone_when_it_is_right() {
    let create = Step::CreateBridge { name: "yado0".to_owned(), hwaddr: HWADDR, mtu: 1500 };
    assert_eq!(steps(&bridge_wish(), &Observed::default()), [create]);
    assert_eq!(steps(&bridge_wish(), &bridge_there()), []);
    type Damage = fn(&mut Observed);
    let cases: &[(Damage, Step)] = &[
        (|there| there.links[0].is_up = false, Step::SetUp { link: 5 }),
        (|there| there.links[0].mtu = 1400, Step::SetMtu { link: 5, mtu: 1500 }),
        (|there| there.links[0].hwaddr = Some([2; 6]), Step::SetHwaddr { link: 5, hwaddr: HWADDR }),
        (|there| there.links[0].checks_sources = false, Step::CheckSources { link: 5 }),
        (|there| there.addresses.clear(), Step::AddAddress(address(5, 1))),
        (|there| there.addresses.push(address(5, 9)), Step::RemoveAddress(address(5, 9))),
    ];
    for (damage, repair) in cases {
        let mut there = bridge_there();
        damage(&mut there);
        assert_eq!(steps(&bridge_wish(), &there), std::slice::from_ref(repair));
    }
}

#[test]
fn what_has_ipv6_loses_it_and_a_bridge_is_down_until_then() {
    let mut wish = bridge_wish();
    wish.ports = vec![port_wish("veth1", Some([2; 6])), port_wish("eth1", None)];
    let with = |index, name, kind, master| Link { has_ipv6: true, master, ..link(index, name, kind) };
    let mut there = bridge_there();
    there.links = vec![
        Link { is_up: false, ..with(5, "yado0", LinkKind::Bridge, None) },
        with(6, "veth1", LinkKind::Veth, Some(5)),
        // A port that leads outside belongs to the host.
        with(7, "eth1", LinkKind::Hardware, Some(5)),
    ];
    let disable = |name: &str| Step::DisableIpv6 { name: name.to_owned() };
    assert_eq!(steps(&wish, &there), [disable("yado0"), disable("veth1")]);
    there.links[0].has_ipv6 = false;
    there.links[1].has_ipv6 = false;
    assert_eq!(steps(&wish, &there), [Step::SetUp { link: 5 }]);
}

#[test]
fn a_bridge_of_ours_that_nobody_wants_goes_and_one_of_others_stays() {
    let mut there = bridge_there();
    assert_eq!(steps(&Wish::default(), &there), [Step::DeleteLink { link: 5, name: "yado0".to_owned() }]);
    let unknown = Wish { keeps_bridges: true, ..Wish::default() };
    assert_eq!(steps(&unknown, &there), [], "nobody knows what is wanted");
    there.links.push(Link { master: Some(5), ..link(6, "veth1", LinkKind::Veth) });
    assert_eq!(steps(&Wish::default(), &there), [], "somebody is behind it");
    there.links.pop();
    there.links[0].is_ours = false;
    assert_eq!(steps(&Wish::default(), &there), []);
}

#[test]
fn what_a_network_gives_up_it_gives_back_as_it_was() {
    let mut there = bridge_there();
    there.keeps_address_protocols = true;
    there.links.push(Link { master: Some(5), ..link(7, "eth1", LinkKind::Hardware) });
    let released = Wish { released: vec![(clipped("yado0"), clipped("eth1"))], ..bridge_wish() };
    let release = Step::SetMaster { link: 7, master: 0 };
    assert_eq!(plan(&released, &there), [Todo { network: clipped("yado0"), step: release }]);
    let mut elsewhere = released.clone();
    elsewhere.ports.push(WishedPort { bridge: "lan0".to_owned(), ..port_wish("eth1", None) });
    assert_eq!(steps(&elsewhere, &there), [], "it goes to another network by itself");
    there.links[1].master = None;
    assert_eq!(steps(&released, &there), []);

    let foreign = Address { is_ours: false, ..address(7, 77) };
    there.addresses.extend([address(7, 15), foreign]);
    let route = Route {
        link: 7,
        destination: Ipv4Addr::UNSPECIFIED,
        prefix_len: 0,
        gateway: Some(Ipv4Addr::new(10, 158, 0, 2)),
        metric: 100,
        is_ours: true,
    };
    there.routes = vec![route, Route { is_ours: false, metric: 7, ..route }];
    let given_up = Wish { given_up: vec![(clipped("uplink"), 7)], ..bridge_wish() };
    assert_eq!(steps(&given_up, &there), [Step::RemoveRoute(route), Step::RemoveAddress(address(7, 15))]);
}

#[test]
fn a_link_of_another_kind_with_the_bridges_name_is_not_touched() {
    let there = Observed { links: vec![link(5, "yado0", LinkKind::Hardware)], ..Observed::default() };
    assert_eq!(steps(&bridge_wish(), &there), []);
}

#[test]
fn a_port_is_put_back_on_its_bridge() {
    let mut wish = bridge_wish();
    wish.ports = vec![port_wish("veth1", Some([2; 6])), port_wish("gone", Some([4; 6]))];
    let mut there = bridge_there();
    there.links.push(Link { is_up: false, ..link(6, "veth1", LinkKind::Veth) });
    assert_eq!(steps(&wish, &there), [Step::SetMaster { link: 6, master: 5 }, Step::SetUp { link: 6 }]);
    there.links[1] = Link { master: Some(5), ..link(6, "veth1", LinkKind::Veth) };
    assert_eq!(steps(&wish, &there), []);
}

#[test]
fn a_port_to_an_instance_learns_nothing_and_one_that_leads_outside_does() {
    let mut wish = bridge_wish();
    wish.ports = vec![port_wish("veth1", Some([2; 6])), port_wish("eth1", None)];
    let learning = |index, name, kind, master| Link { is_learning: true, master, ..link(index, name, kind) };
    let mut there = bridge_there();
    there.links.push(learning(6, "veth1", LinkKind::Veth, Some(5)));
    there.links.push(learning(7, "eth1", LinkKind::Hardware, Some(5)));
    assert_eq!(steps(&wish, &there), [Step::StopLearning { link: 6, hwaddr: [2; 6] }]);
    // The port of another bridge: what is told to that one is lost with it.
    there.links[1].master = Some(9);
    assert_eq!(steps(&wish, &there), [Step::SetMaster { link: 6, master: 5 }]);
}

#[test]
fn an_uplink_gets_up_then_its_address_then_its_routes() {
    let gateway = Ipv4Addr::new(10, 158, 0, 2);
    let wish = Wish {
        uplinks: vec![WishedUplink {
            network: clipped("uplink"),
            link: 2,
            mtu: Some(1400),
            address: Some((Ipv4Addr::new(10, 158, 0, 15), 24)),
            routes: vec![(Ipv4Addr::UNSPECIFIED, 0, gateway)],
            metric: 100,
            keeps_others: false,
        }],
        ..Wish::default()
    };
    let route = Route {
        link: 2,
        destination: Ipv4Addr::UNSPECIFIED,
        prefix_len: 0,
        gateway: Some(gateway),
        metric: 100,
        is_ours: true,
    };
    let mut there =
        Observed { links: vec![Link { is_up: false, ..link(2, "eth0", LinkKind::Hardware) }], ..Observed::default() };
    let first = [Step::SetMtu { link: 2, mtu: 1400 }, Step::SetUp { link: 2 }, Step::AddAddress(address(2, 15))];
    assert_eq!(steps(&wish, &there), first);
    there.links[0] = Link { mtu: 1400, ..link(2, "eth0", LinkKind::Hardware) };
    there.addresses.push(address(2, 15));
    assert_eq!(steps(&wish, &there), [Step::AddRoute(route)]);
    there.routes.push(route);
    assert_eq!(steps(&wish, &there), []);
    // The lease is over: address and routes go, a route of somebody else stays.
    let foreign = Route { is_ours: false, destination: Ipv4Addr::new(10, 9, 0, 0), prefix_len: 16, ..route };
    there.routes.push(foreign);
    let ended = Wish {
        uplinks: vec![WishedUplink { address: None, routes: Vec::new(), ..wish.uplinks[0].clone() }],
        ..Wish::default()
    };
    assert_eq!(steps(&ended, &there), [Step::RemoveAddress(address(2, 15)), Step::RemoveRoute(route)]);
    let unknown =
        Wish { uplinks: vec![WishedUplink { keeps_others: true, ..ended.uplinks[0].clone() }], ..Wish::default() };
    assert_eq!(steps(&unknown, &there), [], "a predecessor's lease that nobody knows");
    // An address of somebody else stays too, where the kernel tells them apart.
    there.addresses.push(Address { is_ours: false, ..address(2, 77) });
    let remove = |last: u8, is_ours| Step::RemoveAddress(Address { is_ours, ..address(2, last) });
    assert_eq!(steps(&ended, &there), [remove(15, true), remove(77, false), Step::RemoveRoute(route)]);
    there.keeps_address_protocols = true;
    assert_eq!(steps(&ended, &there), [remove(15, true), Step::RemoveRoute(route)]);
    // What is wanted and was made by somebody else is as good.
    there.routes = vec![Route { is_ours: false, ..route }];
    there.addresses = vec![Address { is_ours: false, ..address(2, 15) }];
    assert_eq!(steps(&wish, &there), []);
}

#[test]
fn a_link_that_came_back_gets_its_name_unless_it_is_taken() {
    let wish = Wish { names: vec![(7, "eth1".to_owned())], ..Wish::default() };
    let mut there = Observed { links: vec![link(7, "dev0", LinkKind::Hardware)], ..Observed::default() };
    assert_eq!(steps(&wish, &there), [Step::Rename { link: 7, name: "eth1".to_owned() }]);
    there.links.push(link(8, "eth1", LinkKind::Hardware));
    assert_eq!(steps(&wish, &there), []);
}
