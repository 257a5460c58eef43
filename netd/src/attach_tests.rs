//! Decisions about an instance's interfaces, and refusals.

#![allow(clippy::unwrap_used)]

use super::*;
use std::net::Ipv4Addr;
use yado_spec::NetworksSpec;
use yado_wire::hash::fnv32;
use yado_wire::names::clipped;
use yado_wire::{InstanceId, InstanceName};

fn link(index: u32, name: &str, kind: LinkKind) -> Link {
    Link { mtu: 1400, ..Link::example(index, name, kind) }
}

fn observed() -> Observed {
    let links = vec![
        link(2, "eth0", LinkKind::Hardware { permanent_hwaddr: None }),
        link(3, "yado0", LinkKind::Bridge { is_ours: true }),
        link(4, "br9", LinkKind::Bridge { is_ours: false }),
    ];
    Observed { links, ..Observed::default() }
}

fn nic(name: &str, connection: Connection) -> Nic {
    Nic { name: clipped(name), connection, hwaddr: None, mtu: None, host_name: None, fixed_ipv4: None }
}

fn network(name: &str) -> Connection {
    Connection::Network { network: clipped(name) }
}

fn plan(instance: &str, nics: &[Nic], others: &[Attachment]) -> Result<Vec<Planned>, String> {
    let instance =
        AboutInstance { id: InstanceId(fnv32(instance.bytes())), name: InstanceName::parse(instance).unwrap() };
    let bridges = NetworksSpec::default_networks().bridges;
    plan_attach(&instance, nics, &bridges, others, &observed()).map_err(|error| error.to_string())
}

#[test]
fn names_addresses_and_mtu_are_decided_and_what_cannot_be_undone_comes_last() {
    let nics = [
        nic("phys", Connection::Physical { parent: clipped("eth0") }),
        nic("mac", Connection::Macvlan { parent: clipped("eth0") }),
        nic("eth0", network("yado0")),
    ];
    let planned = plan("one", &nics, &[]).unwrap();
    let names: Vec<&str> = planned.iter().map(|one| one.attachment.nic.as_str()).collect();
    assert_eq!(names, ["eth0", "mac", "phys"]);
    assert_eq!((planned[0].parent, planned[0].mtu), (3, Some(1400)));
    assert_eq!(planned[0].attachment.hwaddr[..3], [0x00, 0x16, 0x3e]);
    assert!(planned[0].attachment.host_link.as_ref().unwrap().starts_with("veth"));
    assert_eq!((planned[2].parent, planned[2].mtu, planned[2].attachment.hwaddr[5]), (2, None, 2));
    assert_eq!(planned, plan("one", &nics, &[]).unwrap(), "the same at every start");
    let given = Nic {
        hwaddr: Some([2, 9, 9, 9, 9, 9]),
        mtu: Some(1300),
        host_name: Some(clipped("outer")),
        fixed_ipv4: Some(Ipv4Addr::new(10, 158, 0, 9)),
        ..nic("eth0", network("yado0"))
    };
    let planned = plan("one", &[given], &[]).unwrap().remove(0);
    assert_eq!(planned.mtu, Some(1300));
    let Attachment { hwaddr, host_link, fixed_ipv4, .. } = planned.attachment;
    assert_eq!((hwaddr, host_link.as_deref()), ([2, 9, 9, 9, 9, 9], Some("outer")));
    assert_eq!(fixed_ipv4, Some(Ipv4Addr::new(10, 158, 0, 9)));
}

#[test]
fn an_order_that_cannot_be_is_refused_before_anything_is_touched() {
    let plain = || nic("eth0", network("yado0"));
    let with = |change: fn(&mut Nic)| {
        let mut nic = plain();
        change(&mut nic);
        nic
    };
    let cases: &[(Nic, &str)] = &[
        (nic("eth0", network("nope")), "nope: no such link"),
        (nic("eth0", network("br9")), "br9: no such network"),
        (nic("eth0", Connection::Bridged { parent: clipped("eth0") }), "eth0: not a bridge"),
        (nic("eth0", Connection::Physical { parent: clipped("yado0") }), "cannot move into an instance"),
        (nic("a/b", network("yado0")), "not a name that a link can have"),
        (nic("", network("yado0")), "not a name that a link can have"),
        (nic("eth%d", network("yado0")), "not a name that a link can have"),
        (with(|nic| nic.host_name = Some(clipped("eth0"))), "taken by another link"),
        (with(|nic| nic.hwaddr = Some([1, 0, 0, 0, 0, 0])), "not an address of a single interface"),
        (with(|nic| nic.fixed_ipv4 = Some(Ipv4Addr::new(10, 158, 1, 9))), "is not free in 10.158.0.1/24"),
        (with(|nic| nic.fixed_ipv4 = Some(Ipv4Addr::new(10, 158, 0, 1))), "is not free in 10.158.0.1/24"),
    ];
    for (nic, expected) in cases {
        let error = plan("one", std::slice::from_ref(nic), &[]).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let fixed = Nic {
        fixed_ipv4: Some(Ipv4Addr::new(10, 0, 0, 9)),
        ..nic("eth0", Connection::Bridged { parent: clipped("br9") })
    };
    assert!(plan("one", &[fixed], &[]).unwrap_err().contains("only on a network with addresses"));
    assert!(plan("one", &[plain(), plain()], &[]).unwrap_err().contains("is that of eth0 of one"));
}

#[test]
fn two_instances_do_not_share_an_address() {
    let mut first = nic("eth0", network("yado0"));
    first.fixed_ipv4 = Some(Ipv4Addr::new(10, 158, 0, 9));
    let other = plan("one", &[first.clone()], &[]).unwrap().remove(0).attachment;
    assert!(plan("two", &[first], std::slice::from_ref(&other)).unwrap_err().contains("is that of eth0 of one"));
    let second = Nic { hwaddr: Some(other.hwaddr), ..nic("eth0", network("yado0")) };
    assert!(plan("two", &[second], std::slice::from_ref(&other)).unwrap_err().contains("is that of eth0 of one"));
    let elsewhere = Nic { hwaddr: Some(other.hwaddr), ..nic("eth0", Connection::Bridged { parent: clipped("br9") }) };
    assert!(plan("two", &[elsewhere], &[other]).is_ok(), "on another bridge it disturbs nobody");
}

#[test]
fn a_kind_of_link_that_the_kernel_does_not_know_is_told_by_its_module() {
    let told = |kind: Connection, errno: i32| {
        let planned = plan("one", &[nic("eth0", kind)], &[]).unwrap();
        let failure = kernel_refused(&planned[0].attachment, io::Error::from_raw_os_error(errno)).failure();
        (failure.step, failure.object.to_string(), failure.errno)
    };
    assert_eq!(told(network("yado0"), EOPNOTSUPP), (Step::Module, "veth".to_owned(), EOPNOTSUPP));
    let macvlan = Connection::Macvlan { parent: clipped("eth0") };
    assert_eq!(told(macvlan, EOPNOTSUPP), (Step::Module, "macvlan".to_owned(), EOPNOTSUPP));
    // EBUSY, and a link that nothing was to be made for.
    assert_eq!(told(network("yado0"), 16), (Step::Network, "eth0 of one".to_owned(), 16));
    let physical = Connection::Physical { parent: clipped("eth0") };
    assert_eq!(told(physical, EOPNOTSUPP), (Step::Network, "eth0 of one".to_owned(), EOPNOTSUPP));
}
