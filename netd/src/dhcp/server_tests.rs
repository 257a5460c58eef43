//! The server against simulated clients: correct ones, forgetful ones, hostile ones.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::dhcp::message::Options;
use yado_spec::network::Ipv4Prefix;

const OWN: Ipv4Addr = Ipv4Addr::new(10, 158, 0, 1);
const NOW: Duration = Duration::from_secs(1000);

fn pool() -> AddressPool {
    AddressPool {
        bridge: Ipv4Prefix::new(OWN, 24).unwrap(),
        ranges: Vec::new(),
        expiry: Duration::from_secs(3600),
        domain: yado_wire::names::clipped("lxd"),
        mtu: 1500,
    }
}

fn hwaddr(last: u8) -> [u8; 6] {
    [0, 0x16, 0x3e, 0, 0, last]
}

fn reservation(last: u8, fixed: Option<Ipv4Addr>) -> Reservation<'static> {
    Reservation { hwaddr: hwaddr(last), host_name: "box", fixed }
}

fn message(kind: MessageType, last: u8, options: Options) -> Message {
    Message {
        op: Op::Request,
        xid: 7,
        secs: 0,
        broadcast: false,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: Ipv4Addr::UNSPECIFIED,
        chaddr: hwaddr(last),
        kind,
        options,
    }
}

fn select(last: u8, address: Ipv4Addr) -> Message {
    let options = Options { requested_address: Some(address), server_id: Some(OWN), ..Options::default() };
    message(MessageType::Request, last, options)
}

/// Discover and request; the address that was granted.
fn lease(
    leases: &mut Leases,
    pool: &AddressPool,
    reservations: &[Reservation<'_>],
    last: u8,
    now: Duration,
) -> Option<Ipv4Addr> {
    let discover = message(MessageType::Discover, last, Options::default());
    let (offer, _) = leases.answer(&discover, pool, reservations, now).reply?;
    assert_eq!(offer.kind, MessageType::Offer);
    let (ack, to) = leases.answer(&select(last, offer.yiaddr), pool, reservations, now).reply?;
    assert_eq!((ack.kind, ack.yiaddr, ack.xid), (MessageType::Ack, offer.yiaddr, 7));
    assert_eq!(to, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
    Some(ack.yiaddr)
}

#[test]
fn a_client_gets_an_address_with_everything_it_needs_and_keeps_it() {
    let (mut leases, pool) = (Leases::default(), pool());
    let known = [reservation(1, None)];
    let address = lease(&mut leases, &pool, &known, 1, NOW).unwrap();
    assert!(pool.bridge.contains(address) && address != OWN);
    assert_eq!(leases.bound(hwaddr(1), NOW).unwrap().until_s, 4600);
    assert_eq!(leases.bound(hwaddr(1), NOW + pool.expiry), None, "it ends");
    let (offer, _) =
        leases.answer(&message(MessageType::Discover, 1, Options::default()), &pool, &known, NOW).reply.unwrap();
    let options = offer.options;
    assert_eq!(options.subnet_mask, Some(Ipv4Addr::new(255, 255, 255, 0)));
    assert_eq!((options.routers, options.name_servers), (vec![OWN], vec![OWN]));
    assert_eq!((options.host_name.as_deref(), options.domain_name.as_deref()), (Some("box"), Some("lxd")));
    assert_eq!(
        (options.lease_time, options.renewal_time, options.rebinding_time),
        (Some(3600), Some(1800), Some(3150))
    );
    assert!(leases.bound(hwaddr(1), NOW).is_some(), "asking anew does not cost the lease");
    // Long after its end, and in a new table, it is the same address.
    assert_eq!(lease(&mut leases, &pool, &known, 1, NOW * 100), Some(address));
    assert_eq!(lease(&mut Leases::default(), &pool, &known, 1, NOW), Some(address));
}

#[test]
fn two_clients_never_have_one_address() {
    let (mut leases, mut pool) = (Leases::default(), pool());
    pool.ranges = vec![(Ipv4Addr::new(10, 158, 0, 10), Ipv4Addr::new(10, 158, 0, 13))];
    let known: Vec<Reservation<'_>> = (0..6).map(|last| reservation(last, None)).collect();
    let mut given: Vec<Ipv4Addr> = (0..4).filter_map(|last| lease(&mut leases, &pool, &known, last, NOW)).collect();
    given.sort();
    given.dedup();
    assert_eq!(given.len(), 4);
    assert!(given.iter().all(|address| (10..=13).contains(&address.octets()[3])));
    assert_eq!(lease(&mut leases, &pool, &known, 4, NOW), None, "the range is used up");
    let later = NOW + Duration::from_secs(3601);
    assert!(lease(&mut leases, &pool, &known, 4, later).is_some(), "until leases end");
}

#[test]
fn a_fixed_address_is_given_to_its_interface_alone() {
    let (mut leases, pool) = (Leases::default(), pool());
    let fixed = Ipv4Addr::new(10, 158, 0, 50);
    let known = [reservation(1, Some(fixed)), reservation(2, None)];
    let wants = Options { requested_address: Some(fixed), ..Options::default() };
    let (offer, _) = leases.answer(&message(MessageType::Discover, 2, wants), &pool, &known, NOW).reply.unwrap();
    assert_ne!(offer.yiaddr, fixed);
    assert_eq!(lease(&mut leases, &pool, &known, 1, NOW), Some(fixed));
}

#[test]
fn requests_are_granted_refused_or_left_to_the_other_server() {
    let (mut leases, pool) = (Leases::default(), pool());
    let known = [reservation(1, None), reservation(2, None)];
    let address = lease(&mut leases, &pool, &known, 1, NOW).unwrap();
    let renew = |address: Ipv4Addr, last: u8| Message {
        ciaddr: address,
        ..message(MessageType::Request, last, Options::default())
    };
    let (ack, to) = leases.answer(&renew(address, 1), &pool, &known, NOW).reply.unwrap();
    assert_eq!((ack.kind, *to.ip()), (MessageType::Ack, address), "a renewal is answered directly");
    let (nak, to) = leases.answer(&renew(address, 2), &pool, &known, NOW).reply.unwrap();
    assert_eq!((nak.kind, *to.ip()), (MessageType::Nak, Ipv4Addr::BROADCAST), "somebody else's address");
    let (nak, _) = leases.answer(&renew(Ipv4Addr::new(192, 168, 1, 2), 2), &pool, &known, NOW).reply.unwrap();
    assert_eq!(nak.kind, MessageType::Nak, "another network's address");
    let reboot = Options { requested_address: Some(address), ..Options::default() };
    let (ack, _) =
        leases.answer(&message(MessageType::Request, 1, reboot.clone()), &pool, &known, NOW).reply.unwrap();
    assert_eq!(ack.kind, MessageType::Ack, "a client that remembers");
    let (ack, _) =
        Leases::default().answer(&message(MessageType::Request, 1, reboot), &pool, &known, NOW).reply.unwrap();
    assert_eq!(ack.kind, MessageType::Ack, "a client that remembers what we forgot");
    let other = Options { server_id: Some(Ipv4Addr::new(10, 158, 0, 2)), ..Options::default() };
    assert_eq!(leases.answer(&message(MessageType::Request, 1, other), &pool, &known, NOW).reply, None);
}

#[test]
fn release_ends_and_decline_bars_an_address() {
    let (mut leases, pool) = (Leases::default(), pool());
    let known = [reservation(1, None)];
    let address = lease(&mut leases, &pool, &known, 1, NOW).unwrap();
    let release = Message { ciaddr: address, ..message(MessageType::Release, 1, Options::default()) };
    assert_eq!(leases.answer(&release, &pool, &known, NOW).change, Change::Ended);
    assert_eq!(leases.answer(&release, &pool, &known, NOW).change, Change::Unsaved, "again");
    assert_eq!(leases.bound(hwaddr(1), NOW), None);
    assert_eq!(lease(&mut leases, &pool, &known, 1, NOW), Some(address));
    let decline = Options { requested_address: Some(address), server_id: Some(OWN), ..Options::default() };
    let answer = leases.answer(&message(MessageType::Decline, 1, decline), &pool, &known, NOW);
    assert_eq!(answer, Answer { reply: None, change: Change::Ended, no_address: None });
    let other = lease(&mut leases, &pool, &known, 1, NOW).unwrap();
    assert_ne!(other, address);
}

#[test]
fn inform_gets_everything_but_a_lease() {
    let (mut leases, pool) = (Leases::default(), pool());
    let own = Ipv4Addr::new(10, 158, 0, 77);
    let inform = Message { ciaddr: own, ..message(MessageType::Inform, 1, Options::default()) };
    let (ack, to) = leases.answer(&inform, &pool, &[], NOW).reply.unwrap();
    assert_eq!((ack.kind, ack.yiaddr, *to.ip()), (MessageType::Ack, Ipv4Addr::UNSPECIFIED, own));
    assert_eq!((ack.options.lease_time, ack.options.routers), (None, vec![OWN]));
    let foreign = Message { ciaddr: Ipv4Addr::new(192, 168, 0, 1), ..inform };
    assert_eq!(leases.answer(&foreign, &pool, &[], NOW).reply, None);
}

#[test]
fn strangers_cannot_use_the_network_up() {
    let (mut leases, pool) = (Leases::default(), pool());
    let known = [reservation(1, None)];
    let mut given = 0;
    for number in 0..1000u32 {
        let [_, _, a, b] = number.to_be_bytes();
        let chaddr = [2, 0, 0, 9, a, b];
        let discover = Message { chaddr, ..message(MessageType::Discover, 0, Options::default()) };
        given += usize::from(leases.answer(&discover, &pool, &known, NOW).reply.is_some());
    }
    assert_eq!(given, 254 / 4);
    assert!(lease(&mut leases, &pool, &known, 1, NOW).is_some(), "ours gets one");
    assert!(leases.entries.len() <= MAX_ENTRIES);
}

/// How many of `count` made-up clients are offered an address.
fn offered(leases: &mut Leases, pool: &AddressPool, known: &[Reservation<'_>], count: u8, now: Duration) -> usize {
    let mut offered = 0;
    for last in 0..count {
        let discover =
            Message { chaddr: [2, 0, 0, 9, 0, last], ..message(MessageType::Discover, 0, Options::default()) };
        offered += usize::from(leases.answer(&discover, pool, known, now).reply.is_some());
    }
    offered
}

#[test]
fn strangers_cannot_use_a_small_pool_up() {
    let known: Vec<Reservation<'_>> = (1..=5).map(|last| reservation(last, None)).collect();
    let pool = |last| AddressPool {
        ranges: vec![(Ipv4Addr::new(10, 158, 0, 10), Ipv4Addr::new(10, 158, 0, last))],
        ..pool()
    };
    let (mut leases, wide) = (Leases::default(), pool(29));
    assert_eq!(offered(&mut leases, &wide, &known, 200, NOW), 5, "a quarter of twenty");
    // Nor one after the other: who was there before is as new as any other.
    for round in 1..20 {
        let later = NOW + OFFER * round;
        assert!(offered(&mut leases, &wide, &known, 200, later) <= 5);
    }
    // One of six is left by ours, whether they have asked or not.
    let (mut leases, narrow) = (Leases::default(), pool(15));
    assert_eq!(offered(&mut leases, &narrow, &known, 200, NOW), 1);
    let given = (1..=5).filter_map(|last| lease(&mut leases, &narrow, &known, last, NOW)).count();
    assert_eq!(given, 5, "ours get theirs");
    let (mut leases, none) = (Leases::default(), pool(14));
    assert_eq!(offered(&mut leases, &none, &known, 200, NOW), 0);
    // A fixed one needs none of the rest.
    let known = [&known[..4], &[reservation(5, Some(Ipv4Addr::new(10, 158, 0, 99)))]].concat();
    assert_eq!(offered(&mut leases, &none, &known, 200, NOW), 1);
}

#[test]
fn a_client_that_declines_whatever_it_is_offered_cannot_use_the_network_up() {
    let (mut leases, pool) = (Leases::default(), pool());
    let known = [reservation(1, None), reservation(2, None)];
    let mut declined = Vec::new();
    for _ in 0..1000 {
        let discover = message(MessageType::Discover, 1, Options::default());
        let Some((offer, _)) = leases.answer(&discover, &pool, &known, NOW).reply else { break };
        let decline = Options { requested_address: Some(offer.yiaddr), server_id: Some(OWN), ..Options::default() };
        leases.answer(&message(MessageType::Decline, 1, decline), &pool, &known, NOW);
        declined.push(offer.yiaddr);
    }
    let given = lease(&mut leases, &pool, &known, 2, NOW).expect("another client gets one");
    let stranger = lease(&mut leases, &pool, &known, 3, NOW).expect("so does a stranger");
    assert_eq!(declined.len(), 1000, "it was answered each time");
    let barred = &declined[1000 - MAX_DECLINED..];
    assert!(!barred.contains(&given) && !barred.contains(&stranger), "the last are barred to all: {barred:?}");
    let next = lease(&mut leases, &pool, &known, 1, NOW).unwrap();
    assert!(!barred.contains(&next), "and to itself: {barred:?}");
    assert_eq!(leases.entries.len(), MAX_DECLINED + 3);
}

#[test]
fn replies_relays_and_other_servers_are_not_answered() {
    let (mut leases, pool) = (Leases::default(), pool());
    let relayed =
        Message { giaddr: Ipv4Addr::new(10, 9, 9, 9), ..message(MessageType::Discover, 1, Options::default()) };
    let reply = Message { op: Op::Reply, ..message(MessageType::Offer, 1, Options::default()) };
    for message in [relayed, reply, message(MessageType::Ack, 1, Options::default())] {
        let nothing = Answer { reply: None, change: Change::Unsaved, no_address: None };
        assert_eq!(leases.answer(&message, &pool, &[], NOW), nothing);
    }
}

#[test]
fn a_changed_network_forgets_what_is_outside_of_it() {
    let (mut leases, pool) = (Leases::default(), pool());
    lease(&mut leases, &pool, &[reservation(1, None)], 1, NOW).unwrap();
    let elsewhere = AddressPool { bridge: Ipv4Prefix::parse("10.9.0.1/24").unwrap(), ..pool };
    leases.retain_within(&elsewhere);
    assert!(leases.entries.is_empty());
}

#[test]
fn a_pool_is_as_large_as_the_addresses_in_it() {
    let address = |last| Ipv4Addr::new(10, 158, 0, last);
    let outside = (Ipv4Addr::new(10, 157, 255, 250), Ipv4Addr::new(10, 158, 1, 9));
    for (prefix_len, ranges) in [
        (24, vec![]),
        (30, vec![]),
        (16, vec![]),
        (24, vec![(address(1), address(1))]),
        (24, vec![(address(0), address(3)), (address(250), address(255))]),
        (24, vec![(address(9), address(3)), (address(20), address(29))]),
        (24, vec![outside]),
        (24, vec![(Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 1, 0, 9))]),
    ] {
        let pool = AddressPool { bridge: Ipv4Prefix::new(OWN, prefix_len).unwrap(), ranges, ..pool() };
        let counted = (0..pool.size()).filter(|&index| pool.is_in_pool(pool.nth(index))).count();
        assert_eq!(pool.usable(), counted.min(MAX_LOOKED_AT as usize), "{:?}/{prefix_len}", pool.ranges);
    }
}

#[test]
fn only_what_a_successor_must_know_is_a_change() {
    let (mut leases, pool) = (Leases::default(), pool());
    let known = [reservation(1, None)];
    let discover = message(MessageType::Discover, 1, Options::default());
    let offered = leases.answer(&discover, &pool, &known, NOW);
    assert_eq!(offered.change, Change::Unsaved);
    let address = offered.reply.unwrap().0.yiaddr;
    // A successor that never heard of the offer grants it all the same.
    for leases in [&mut leases, &mut Leases::default()] {
        let Change::Granted(lease) = leases.answer(&select(1, address), &pool, &known, NOW).change else {
            panic!("not granted")
        };
        assert_eq!((lease.address, lease.until_s), (address, 4600));
    }
    let elsewhere = message(MessageType::Request, 1, Options { server_id: Some(address), ..Options::default() });
    assert_eq!(leases.answer(&elsewhere, &pool, &known, NOW).change, Change::Unsaved);
}

/// A client of its own for each number, netd's own if it stands in `known`.
fn numbered(kind: MessageType, number: u16, options: Options) -> Message {
    let [high, low] = number.to_be_bytes();
    Message { chaddr: [0, 0x16, 0x3e, 1, high, low], ..message(kind, 0, options) }
}

fn numbered_known(count: u16) -> Vec<Reservation<'static>> {
    let chaddr = |number| numbered(MessageType::Discover, number, Options::default()).chaddr;
    (0..count).map(|number| Reservation { hwaddr: chaddr(number), host_name: "box", fixed: None }).collect()
}

/// What the client is granted, or why it is not.
fn granted(
    leases: &mut Leases,
    pool: &AddressPool,
    known: &[Reservation<'_>],
    number: u16,
) -> Result<Ipv4Addr, NoAddress> {
    let offered = leases.answer(&numbered(MessageType::Discover, number, Options::default()), pool, known, NOW);
    if let Some(why) = offered.no_address {
        assert_eq!(offered.reply, None);
        return Err(why);
    }
    let address = offered.reply.unwrap().0.yiaddr;
    let wants = Options { requested_address: Some(address), server_id: Some(OWN), ..Options::default() };
    let answer = leases.answer(&numbered(MessageType::Request, number, wants), pool, known, NOW);
    assert_eq!((answer.no_address, answer.reply.unwrap().0.kind), (None, MessageType::Ack));
    Ok(address)
}

#[test]
fn who_gets_no_address_is_told_why() {
    let (mut leases, pool, known) = (Leases::default(), pool(), numbered_known(254));
    for number in 0..253 {
        assert!(!leases.is_used_up(&pool, &known, NOW));
        granted(&mut leases, &pool, &known, number).unwrap();
        if number == 251 {
            // The last one but for those that are attached.
            assert_eq!(granted(&mut leases, &pool, &known, 999), Err(NoAddress::StrangersShare));
        }
    }
    assert!(leases.is_used_up(&pool, &known, NOW));
    for number in [253, 999] {
        assert_eq!(granted(&mut leases, &pool, &known, number), Err(NoAddress::UsedUp), "{number}");
    }
    // Nor does one that remembers an address of before; it is told so.
    let remembers = Options { requested_address: Some(Ipv4Addr::new(10, 158, 0, 9)), ..Options::default() };
    let answer = leases.answer(&numbered(MessageType::Request, 253, remembers), &pool, &known, NOW);
    assert_eq!((answer.no_address, answer.reply.unwrap().0.kind), (Some(NoAddress::UsedUp), MessageType::Nak));
    // One goes, and there is room again.
    leases.end(known[7].hwaddr, NOW);
    assert!(!leases.is_used_up(&pool, &known, NOW));
    granted(&mut leases, &pool, &known, 253).unwrap();
}

/// There are more addresses than entries: what cannot be written down is not given, as the next one would get it as well.
#[test]
fn a_wide_network_gives_no_address_twice_when_its_table_is_full() {
    let bridge = Ipv4Prefix::new(OWN, 16).unwrap();
    let (mut leases, pool) = (Leases::default(), AddressPool { bridge, ..pool() });
    let count = u16::try_from(MAX_ENTRIES).unwrap();
    let mut known = numbered_known(count + 2);
    known[usize::from(count) + 1].fixed = Some(Ipv4Addr::new(10, 158, 9, 9));
    let all: std::collections::BTreeSet<Ipv4Addr> =
        (0..count).map(|number| granted(&mut leases, &pool, &known, number).unwrap()).collect();
    assert_eq!(all.len(), MAX_ENTRIES);
    for number in [count, count + 1] {
        assert_eq!(granted(&mut leases, &pool, &known, number), Err(NoAddress::TableFull));
    }
    assert!(leases.is_used_up(&pool, &known, NOW));
    assert!(granted(&mut leases, &pool, &known, 3).is_ok(), "who has one keeps it");
}
