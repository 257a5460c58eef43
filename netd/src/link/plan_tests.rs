//! Plans as tables: what is wanted, what the kernel has, and the steps.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::link::observed::Port;
use std::net::Ipv4Addr;

/// The steps alone.
fn steps(wanted: &WantedLinks, there: &Observed) -> Vec<PlanStep> {
    plan(wanted, there).into_iter().flat_map(|todo| todo.steps).collect()
}

const HWADDR: [u8; 6] = [0, 0x16, 0x3e, 1, 2, 3];

const OURS: LinkKind = LinkKind::Bridge { is_ours: true };
const HARDWARE: LinkKind = LinkKind::Hardware { permanent_hwaddr: None };

fn link(index: u32, name: &str, kind: LinkKind) -> Link {
    Link { hwaddr: Some(HWADDR), ..Link::example(index, name, kind) }
}

fn port_of(of: u32) -> Option<Port> {
    Some(Port { of, is_learning: false })
}

fn prefix(last: u8) -> IpPrefix {
    IpPrefix::new([10, 158, 0, last].into(), 24).unwrap()
}

fn address(link: u32, last: u8) -> Address {
    Address { link, prefix: prefix(last), is_ours: true }
}

fn wanted_bridge() -> WantedLinks {
    WantedLinks {
        bridges: vec![WantedBridge {
            name: "yado0".to_owned(),
            hwaddr: HWADDR,
            mtu: 1500,
            addresses: vec![prefix(1)],
        }],
        ..WantedLinks::default()
    }
}

fn wanted_port(name: &str, hwaddr: Option<[u8; 6]>) -> WantedPort {
    WantedPort { name: name.to_owned(), bridge: "yado0".to_owned(), hwaddr, is_held: false }
}

fn bridge_there() -> Observed {
    Observed { links: vec![link(5, "yado0", OURS)], addresses: vec![address(5, 1)], ..Observed::default() }
}

#[test]
fn a_bridge_is_made_repaired_and_left_alone_when_it_is_right() {
    let link = || LinkId::Name("yado0".to_owned());
    let create = [
        PlanStep::CreateBridge { name: "yado0".to_owned(), hwaddr: HWADDR, mtu: 1500 },
        PlanStep::MarkBridge { link: link() },
        PlanStep::CheckSources { link: link() },
        PlanStep::DisableIpv6 { name: "yado0".to_owned() },
    ];
    assert!(matches!(&plan(&wanted_bridge(), &Observed::default())[..], [Todo { steps, .. }] if *steps == create));
    assert_eq!(steps(&wanted_bridge(), &bridge_there()), []);
    type Damage = fn(&mut Observed);
    let cases: &[(Damage, PlanStep)] = &[
        (|there| there.links[0].is_up = false, PlanStep::SetUp { link: 5 }),
        (|there| there.links[0].mtu = 1400, PlanStep::SetMtu { link: 5, mtu: 1500 }),
        (|there| there.links[0].hwaddr = Some([2; 6]), PlanStep::SetHwaddr { link: 5, hwaddr: HWADDR }),
        (|there| there.links[0].checks_sources = false, PlanStep::CheckSources { link: LinkId::Index(5) }),
        (|there| there.addresses.clear(), PlanStep::AddAddress(address(5, 1))),
        (|there| there.addresses.push(address(5, 9)), PlanStep::RemoveAddress(address(5, 9))),
    ];
    for (damage, repair) in cases {
        let mut there = bridge_there();
        damage(&mut there);
        assert_eq!(steps(&wanted_bridge(), &there), std::slice::from_ref(repair));
    }
}

#[test]
fn what_has_ipv6_loses_it_and_a_bridge_is_down_until_then() {
    let mut wanted = wanted_bridge();
    wanted.ports = vec![wanted_port("veth1", Some([2; 6])), wanted_port("eth1", None)];
    let with = |index, name, kind, port| Link { has_ipv6: true, port, ..link(index, name, kind) };
    let mut there = bridge_there();
    there.links = vec![
        Link { is_up: false, ..with(5, "yado0", OURS, None) },
        with(6, "veth1", LinkKind::Veth, port_of(5)),
        // A port that leads outside belongs to the host.
        with(7, "eth1", HARDWARE, port_of(5)),
    ];
    let disable = |name: &str| PlanStep::DisableIpv6 { name: name.to_owned() };
    assert_eq!(steps(&wanted, &there), [disable("yado0"), disable("veth1")]);
    there.links[0].has_ipv6 = false;
    there.links[1].has_ipv6 = false;
    assert_eq!(steps(&wanted, &there), [PlanStep::SetUp { link: 5 }]);
}

#[test]
fn a_bridge_of_ours_that_nobody_wants_goes_and_one_of_others_stays() {
    let mut there = bridge_there();
    assert_eq!(steps(&WantedLinks::default(), &there), [PlanStep::DeleteLink { link: 5, name: "yado0".to_owned() }]);
    let unknown = WantedLinks { keeps_bridges: true, ..WantedLinks::default() };
    assert_eq!(steps(&unknown, &there), [], "nobody knows what is wanted");
    there.links.push(Link { port: port_of(5), ..link(6, "veth1", LinkKind::Veth) });
    assert_eq!(steps(&WantedLinks::default(), &there), [], "somebody is behind it");
    there.links.pop();
    there.links[0].kind = LinkKind::Bridge { is_ours: false };
    assert_eq!(steps(&WantedLinks::default(), &there), []);
}

#[test]
fn what_a_network_gives_up_it_gives_back_as_it_was() {
    let mut there = bridge_there();
    there.keeps_address_protocols = true;
    there.links.push(Link { port: port_of(5), ..link(7, "eth1", HARDWARE) });
    let released = WantedLinks { released: vec![(clipped("yado0"), clipped("eth1"))], ..wanted_bridge() };
    let release = PlanStep::SetMaster { link: 7, master: None };
    assert_eq!(plan(&released, &there), [Todo { network: clipped("yado0"), steps: vec![release] }]);
    let mut elsewhere = released.clone();
    elsewhere.ports.push(WantedPort { bridge: "lan0".to_owned(), ..wanted_port("eth1", None) });
    assert_eq!(steps(&elsewhere, &there), [], "it goes to another network by itself");
    there.links[1].port = None;
    assert_eq!(steps(&released, &there), []);

    let foreign = Address { is_ours: false, ..address(7, 77) };
    there.addresses.extend([address(7, 15), foreign]);
    let route =
        LinkRoute { link: 7, route: Route::default_ipv4(Ipv4Addr::new(10, 158, 0, 2)), metric: 100, is_ours: true };
    there.routes = vec![route, LinkRoute { is_ours: false, metric: 7, ..route }];
    let given_up = WantedLinks { given_up: vec![(clipped("uplink"), 7)], ..wanted_bridge() };
    assert_eq!(steps(&given_up, &there), [PlanStep::RemoveRoute(route), PlanStep::RemoveAddress(address(7, 15))]);
}

#[test]
fn a_link_of_another_kind_with_the_bridges_name_is_not_touched() {
    let there = Observed { links: vec![link(5, "yado0", HARDWARE)], ..Observed::default() };
    assert_eq!(steps(&wanted_bridge(), &there), []);
}

#[test]
fn a_port_is_put_back_on_its_bridge() {
    let mut wanted = wanted_bridge();
    wanted.ports = vec![wanted_port("veth1", Some([2; 6])), wanted_port("gone", Some([4; 6]))];
    let mut there = bridge_there();
    there.links.push(Link { is_up: false, ..link(6, "veth1", LinkKind::Veth) });
    assert_eq!(
        steps(&wanted, &there),
        [PlanStep::SetMaster { link: 6, master: Some(5) }, PlanStep::SetUp { link: 6 }]
    );
    there.links[1] = Link { port: port_of(5), ..link(6, "veth1", LinkKind::Veth) };
    assert_eq!(steps(&wanted, &there), []);
}

#[test]
fn a_port_to_an_instance_learns_nothing_and_one_that_leads_outside_does() {
    let mut wanted = wanted_bridge();
    wanted.ports = vec![wanted_port("veth1", Some([2; 6])), wanted_port("eth1", None)];
    let learning =
        |index, name, kind| Link { port: Some(Port { of: 5, is_learning: true }), ..link(index, name, kind) };
    let mut there = bridge_there();
    there.links.push(learning(6, "veth1", LinkKind::Veth));
    there.links.push(learning(7, "eth1", HARDWARE));
    assert_eq!(steps(&wanted, &there), [PlanStep::StopLearning { link: LinkId::Index(6), hwaddr: [2; 6] }]);
    // The port of another bridge: what is told to that one is lost with it.
    there.links[1].port = Some(Port { of: 9, is_learning: true });
    assert_eq!(steps(&wanted, &there), [PlanStep::SetMaster { link: 6, master: Some(5) }]);
}

#[test]
fn an_uplink_gets_up_then_its_address_then_its_routes() {
    let gateway = Ipv4Addr::new(10, 158, 0, 2);
    let wanted = WantedLinks {
        uplinks: vec![WantedUplink {
            network: clipped("uplink"),
            link: 2,
            mtu: Some(1400),
            addresses: vec![prefix(15)],
            routes: vec![Route::default_ipv4(gateway)],
            metric: 100,
            keeps_others: false,
        }],
        ..WantedLinks::default()
    };
    let route = LinkRoute { link: 2, route: Route::default_ipv4(gateway), metric: 100, is_ours: true };
    let mut there =
        Observed { links: vec![Link { is_up: false, ..link(2, "eth0", HARDWARE) }], ..Observed::default() };
    let first =
        [PlanStep::SetMtu { link: 2, mtu: 1400 }, PlanStep::SetUp { link: 2 }, PlanStep::AddAddress(address(2, 15))];
    assert_eq!(steps(&wanted, &there), first);
    there.links[0] = Link { mtu: 1400, ..link(2, "eth0", HARDWARE) };
    there.addresses.push(address(2, 15));
    assert_eq!(steps(&wanted, &there), [PlanStep::AddRoute(route)]);
    there.routes.push(route);
    assert_eq!(steps(&wanted, &there), []);
    // The lease is over: address and routes go, a route of somebody else stays.
    let foreign = LinkRoute {
        is_ours: false,
        route: Route { to: IpPrefix::new([10, 9, 0, 0].into(), 16).unwrap(), ..route.route },
        ..route
    };
    there.routes.push(foreign);
    let ended = WantedLinks {
        uplinks: vec![WantedUplink { addresses: Vec::new(), routes: Vec::new(), ..wanted.uplinks[0].clone() }],
        ..WantedLinks::default()
    };
    assert_eq!(steps(&ended, &there), [PlanStep::RemoveAddress(address(2, 15)), PlanStep::RemoveRoute(route)]);
    let unknown = WantedLinks {
        uplinks: vec![WantedUplink { keeps_others: true, ..ended.uplinks[0].clone() }],
        ..WantedLinks::default()
    };
    assert_eq!(steps(&unknown, &there), [], "a predecessor's lease that nobody knows");
    // An address of somebody else stays too, where the kernel tells them apart.
    there.addresses.push(Address { is_ours: false, ..address(2, 77) });
    let remove = |last: u8, is_ours| PlanStep::RemoveAddress(Address { is_ours, ..address(2, last) });
    assert_eq!(steps(&ended, &there), [remove(15, true), remove(77, false), PlanStep::RemoveRoute(route)]);
    there.keeps_address_protocols = true;
    assert_eq!(steps(&ended, &there), [remove(15, true), PlanStep::RemoveRoute(route)]);
    // What is wanted and was made by somebody else is as good.
    there.routes = vec![LinkRoute { is_ours: false, ..route }];
    there.addresses = vec![Address { is_ours: false, ..address(2, 15) }];
    assert_eq!(steps(&wanted, &there), []);
}

#[test]
fn a_link_that_came_back_gets_its_name_unless_it_is_taken() {
    let wanted = WantedLinks { names: vec![(7, "eth1".to_owned())], ..WantedLinks::default() };
    let mut there = Observed { links: vec![link(7, "dev0", HARDWARE)], ..Observed::default() };
    assert_eq!(steps(&wanted, &there), [PlanStep::Rename { link: 7, name: "eth1".to_owned() }]);
    there.links.push(link(8, "eth1", HARDWARE));
    assert_eq!(steps(&wanted, &there), []);
}
