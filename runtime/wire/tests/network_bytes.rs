//! The bytes of what is asked of netd and what it answers are frozen: a launcher, a command or an init of another release may
//! be at the other end.

#![allow(clippy::unwrap_used)]

mod frozen;

use frozen::is_frozen;
use std::net::{IpAddr, Ipv6Addr};
use yado_wire::names::clipped;
use yado_wire::network::{AttachReply, LinkNote, LinkRole, LinkStatus, NetReply, NetRequest, NicKind, NicRequest};
use yado_wire::{AboutInstance, Failure, InstanceId, InstanceName, RunNumber, Step, decode, encode};

fn web() -> AboutInstance {
    AboutInstance { id: InstanceId(300), name: InstanceName::parse("web-1").unwrap() }
}

fn nic(kind: NicKind) -> NicRequest {
    NicRequest { name: clipped("eth0"), kind, hwaddr: None, mtu: None, host_name: None, ipv4_address: None }
}

#[test]
fn version_1_requests_are_frozen() {
    let full = NicRequest {
        hwaddr: Some([0, 0x16, 0x3e, 1, 2, 3]),
        mtu: Some(1400),
        host_name: Some(clipped("out0")),
        ipv4_address: Some([10, 158, 0, 9]),
        ..nic(NicKind::Network { network: clipped("yado0") })
    };
    let nics = [
        full,
        nic(NicKind::Bridged { parent: clipped("br0") }),
        nic(NicKind::Macvlan { parent: clipped("end0") }),
        nic(NicKind::Physical { parent: clipped("end1") }),
    ];
    let attach = NetRequest::Attach { instance: web(), run: RunNumber(7_000_000), nics: nics.into_iter().collect() };
    is_frozen(
        &attach,
        &[
            b"\x00\xac\x02\x05web-1\xc0\x9f\xab\x03\x04",
            b"\x04eth0\x00\x05yado0\x01\x00\x16\x3e\x01\x02\x03\x01\xf8\x0a\x01\x04out0\x01\x0a\x9e\x00\x09",
            b"\x04eth0\x01\x03br0\x00\x00\x00\x00",
            b"\x04eth0\x02\x04end0\x00\x00\x00\x00",
            b"\x04eth0\x03\x04end1\x00\x00\x00\x00",
        ],
    );
    is_frozen(&NetRequest::Detach { instance: InstanceId(300), run: RunNumber(5) }, &[b"\x01\xac\x02\x05"]);
    is_frozen(&NetRequest::Status, &[b"\x02"]);
    is_frozen(&NetRequest::Reload, &[b"\x03"]);
}

#[test]
fn version_1_replies_are_frozen() {
    let failure = Failure { errno: 22, ..Failure::refused(Step::Network, "eth0", "no").in_vain() };
    let failure_bytes = b"\x15\x04eth0\x2c\x02no\x01";
    let link = |role, note| LinkStatus {
        name: clipped("up0"),
        role,
        is_up: true,
        addresses: heapless::Vec::from_iter([(IpAddr::from([10, 0, 2, 15]), 24)]),
        gateways: heapless::Vec::from_iter([IpAddr::from([10, 0, 2, 2])]),
        nameservers: heapless::Vec::from_iter([IpAddr::V6(Ipv6Addr::LOCALHOST)]),
        lease_left_s: Some(3600),
        note,
    };
    let addresses = [
        &b"\x01\x01\x00\x0a\x00\x02\x0f\x18\x01\x00\x0a\x00\x02\x02"[..],
        b"\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
        b"\x01\x90\x1c",
    ]
    .concat();
    is_frozen(&NetReply::Attached, &[b"\x00"]);
    is_frozen(&NetReply::Failed(failure.clone()), &[b"\x01", failure_bytes]);
    let network = || (IpAddr::from([10, 158, 0, 1]), 24);
    for (role, role_bytes, note, note_bytes) in [
        (LinkRole::Uplink, &b"\x00"[..], None, &b"\x00"[..]),
        (LinkRole::Network, b"\x01", Some(LinkNote::Moved { from: network() }), b"\x01\x00\x00\x0a\x9e\x00\x01\x18"),
        (
            LinkRole::Network,
            b"\x01",
            Some(LinkNote::Collides { with: network() }),
            b"\x01\x01\x00\x0a\x9e\x00\x01\x18",
        ),
        (LinkRole::Network, b"\x01", Some(LinkNote::NoAddressLeft { of: 253 }), b"\x01\x03\xfd\x01"),
        (
            LinkRole::Nic { instance: web(), name: clipped("eth0") },
            b"\x02\xac\x02\x05web-1\x04eth0",
            Some(LinkNote::HeldDown { left_s: 30 }),
            b"\x01\x02\x1e",
        ),
    ] {
        is_frozen(&NetReply::Link(link(role, note)), &[b"\x02\x03up0", role_bytes, &addresses, note_bytes]);
    }
    is_frozen(&NetReply::Done, &[b"\x03"]);
    let failed =
        |network: Option<&str>| NetReply::NetworkFailed { network: network.map(clipped), failure: failure.clone() };
    is_frozen(&failed(Some("yado0")), &[b"\x04\x01\x05yado0", failure_bytes]);
    is_frozen(&failed(None), &[b"\x04\x00", failure_bytes]);
}

#[test]
fn what_answers_an_attach_or_a_detach_is_read_as_it_was_written_and_nothing_else_is() {
    let failure = || Failure::refused(Step::Network, "eth0", "no");
    let link = LinkStatus {
        name: clipped("up0"),
        role: LinkRole::Uplink,
        is_up: true,
        addresses: heapless::Vec::new(),
        gateways: heapless::Vec::new(),
        nameservers: heapless::Vec::new(),
        lease_left_s: None,
        note: None,
    };
    for (reply, read) in [
        (NetReply::Attached, Some(AttachReply::Attached)),
        (NetReply::Failed(failure()), Some(AttachReply::Failed(failure()))),
        (NetReply::Done, Some(AttachReply::Done)),
        (NetReply::Link(link), None),
        (NetReply::NetworkFailed { network: None, failure: failure() }, None),
    ] {
        assert_eq!(decode(&encode(&reply).unwrap()).ok(), read, "{reply:?}");
    }
}
