//! The client against a simulated server, with simulated time.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::dhcp::message::Options;
use crate::link::route::Route;

const HWADDR: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const RANDOM: u32 = 0xfeed;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn reply(kind: MessageType, xid: u32, lease_time: u32) -> Message {
    Message {
        op: Op::Reply,
        xid,
        secs: 0,
        broadcast: false,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: ADDRESS,
        giaddr: Ipv4Addr::UNSPECIFIED,
        chaddr: HWADDR,
        kind,
        options: Options {
            server_id: Some(SERVER),
            lease_time: Some(lease_time),
            subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            routers: vec![SERVER],
            ..Options::default()
        },
    }
}

fn go(state: State, event: Event<'_>, now: Duration) -> (State, Option<Send>) {
    step(state, event, now, RANDOM, HWADDR)
}

/// Wakes it at each of its deadlines until `until` and returns what it sent, with the times.
fn sleep(mut state: State, until: Duration) -> (State, Vec<(Duration, Send)>) {
    let mut sent = Vec::new();
    while let Some(at) = state.deadline().filter(|&at| at <= until) {
        let (next, send) = go(state, Event::Wake, at);
        assert!(next.deadline().is_none_or(|next| at < next), "it would spin: {next:?}");
        state = next;
        sent.extend(send.map(|send| (at, send)));
    }
    (state, sent)
}

fn bound(lease_time: u32) -> State {
    let (state, discover) = go(State::new(None), Event::CarrierUp, seconds(10));
    let discover = discover.unwrap();
    assert_eq!((discover.message.kind, discover.to), (MessageType::Discover, Destination::BroadcastWithoutAddress));
    let (state, request) = go(state, Event::Received(&reply(MessageType::Offer, RANDOM, lease_time)), seconds(10));
    let request = request.unwrap().message;
    assert_eq!((request.kind, request.xid), (MessageType::Request, RANDOM));
    assert_eq!((request.options.requested_address, request.options.server_id), (Some(ADDRESS), Some(SERVER)));
    assert_eq!(request.ciaddr, Ipv4Addr::UNSPECIFIED);
    let (state, send) = go(state, Event::Received(&reply(MessageType::Ack, RANDOM, lease_time)), seconds(10));
    assert_eq!(send, None);
    state
}

#[test]
fn carrier_discover_offer_request_ack_is_a_lease() {
    let state = bound(1000);
    let lease = state.lease().unwrap();
    assert_eq!((lease.address, lease.prefix_len, lease.server), (ADDRESS, 24, SERVER));
    assert_eq!(lease.routes, [Route::default_ipv4(SERVER)]);
    assert_eq!((lease.renew_at, lease.rebind_at, lease.end_at), (seconds(510), seconds(885), seconds(1010)));
    assert_eq!(state.deadline(), Some(seconds(510)));
}

#[test]
fn without_an_answer_it_asks_on_ever_more_rarely() {
    let (state, _) = go(State::new(None), Event::CarrierUp, seconds(0));
    let (state, sent) = sleep(state, seconds(3600));
    assert!(matches!(state, State::Selecting { .. }));
    assert!(sent.iter().all(|(_, send)| send.message.kind == MessageType::Discover));
    let pauses: Vec<u64> = sent.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs()).collect();
    assert!(pauses[0] <= 5 && pauses.iter().all(|&pause| pause <= 65) && 63 <= *pauses.last().unwrap(), "{pauses:?}");
}

#[test]
fn an_offer_that_is_not_kept_is_given_up() {
    let (state, _) = go(State::new(None), Event::CarrierUp, seconds(0));
    let (state, _) = go(state, Event::Received(&reply(MessageType::Offer, RANDOM, 1000)), seconds(0));
    let (state, sent) = sleep(state, seconds(60));
    assert!(matches!(state, State::Selecting { .. }), "{state:?}");
    let requests = sent.iter().filter(|(_, send)| send.message.kind == MessageType::Request).count();
    assert_eq!(requests, MAX_REQUESTS as usize - 1, "besides the first");
    let (state, _) = go(state, Event::Received(&reply(MessageType::Offer, RANDOM, 1000)), seconds(61));
    let (state, send) = go(state, Event::Received(&reply(MessageType::Nak, RANDOM, 0)), seconds(61));
    assert!(matches!(state, State::BackingOff { .. }) && send.is_none());
}

#[test]
fn a_server_that_refuses_what_it_offers_is_asked_ever_more_rarely() {
    let (mut state, _) = go(State::new(None), Event::CarrierUp, seconds(0));
    let (mut now, mut pauses) = (seconds(0), Vec::new());
    for _ in 0..12 {
        // Whatever it says, and however often, there is one question at a time.
        for _ in 0..3 {
            state = go(state, Event::Received(&reply(MessageType::Offer, RANDOM, 1000)), now).0;
        }
        assert!(matches!(state, State::Requesting { .. }), "{state:?}");
        for kind in [MessageType::Nak, MessageType::Nak, MessageType::Offer] {
            state = go(state, Event::Received(&reply(kind, RANDOM, 0)), now).0;
        }
        assert_eq!(state.hearing(), Hearing::Nothing);
        let until = state.deadline().unwrap();
        let (next, send) = go(state, Event::Wake, until);
        assert_eq!(send.unwrap().message.kind, MessageType::Discover);
        pauses.push((until - now).as_secs());
        (state, now) = (next, until);
    }
    assert!(pauses[0] <= 3 && pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
    assert!(63 <= pauses[11], "{pauses:?}");
    // One that keeps its word begins anew.
    let state = go(state, Event::Received(&reply(MessageType::Offer, RANDOM, 1000)), now).0;
    let state = go(state, Event::Received(&reply(MessageType::Ack, RANDOM, 1000)), now).0;
    let (state, _) = sleep(state, now + seconds(510));
    let (state, _) = go(state, Event::Received(&reply(MessageType::Nak, RANDOM, 0)), now + seconds(510));
    assert!(state.deadline().unwrap() <= now + seconds(513), "{state:?}");
}

#[test]
fn a_lease_is_renewed_by_its_server_then_by_anybody_then_it_ends() {
    let (state, sent) = sleep(bound(1000), seconds(880));
    assert!(matches!(state, State::Renewing { .. }), "{state:?}");
    assert!(sent.iter().all(|(_, send)| send.to == Destination::Server(SERVER) && send.message.ciaddr == ADDRESS));
    assert!(sent.iter().all(|(_, send)| send.message.options.server_id.is_none()), "RFC 2131, 4.3.6");
    assert_eq!(sent[0].0, seconds(510));
    let (renewed, _) = go(state.clone(), Event::Received(&reply(MessageType::Ack, RANDOM, 1000)), seconds(880));
    assert!(matches!(renewed, State::Bound { .. }) && seconds(880) < renewed.lease().unwrap().end_at);
    let (state, sent) = sleep(state, seconds(1009));
    assert!(matches!(state, State::Rebinding { .. }), "{state:?}");
    assert!(sent.iter().all(|(_, send)| send.to == Destination::Broadcast && send.message.ciaddr == ADDRESS));
    assert!(state.lease().is_some());
    let (state, sent) = sleep(state, seconds(1010));
    assert_eq!(state.lease(), None, "the address is given up");
    assert_eq!(sent.last().unwrap().1.message.kind, MessageType::Discover);
}

#[test]
fn an_answer_whose_lease_is_over_when_it_comes_changes_nothing() {
    // Counted from the first question, at 510 s, its 120 s are over.
    let (state, _) = sleep(bound(1000), seconds(880));
    let answer = reply(MessageType::Ack, RANDOM, 120);
    assert_eq!(go(state.clone(), Event::Received(&answer), seconds(880)), (state.clone(), None));
    let (state, _) = go(state, Event::CarrierDown, seconds(880));
    let (state, _) = go(state, Event::CarrierUp, seconds(880));
    assert!(matches!(state, State::Rebooting { .. }), "{state:?}");
    assert_eq!(go(state.clone(), Event::Received(&answer), seconds(1000)), (state, None));
}

#[test]
fn a_refused_renewal_ends_the_lease_at_once() {
    for until in [600, 900] {
        let (state, _) = sleep(bound(1000), seconds(until));
        let (state, send) = go(state, Event::Received(&reply(MessageType::Nak, RANDOM, 0)), seconds(until));
        assert!(state.lease().is_none() && send.is_none(), "{state:?}");
        let (_, sent) = sleep(state, seconds(until + 4));
        assert_eq!(sent[0].1.message.kind, MessageType::Discover);
    }
}

#[test]
fn a_link_that_flaps_keeps_its_lease_and_asks_whether_it_still_holds() {
    let (state, _) = go(bound(1000), Event::CarrierDown, seconds(100));
    assert!(state.lease().is_some());
    let (state, send) = go(state, Event::CarrierUp, seconds(101));
    let send = send.unwrap();
    assert_eq!((send.message.options.requested_address, send.message.options.server_id), (Some(ADDRESS), None));
    assert!(matches!(&state, State::Rebooting { .. }) && state.lease().is_some());
    let (granted, _) = go(state.clone(), Event::Received(&reply(MessageType::Ack, RANDOM, 1000)), seconds(101));
    assert!(matches!(granted, State::Bound { .. }));
    let (refused, send) = go(state.clone(), Event::Received(&reply(MessageType::Nak, RANDOM, 0)), seconds(101));
    assert_eq!((refused.lease(), send), (None, None));
    assert!(matches!(sleep(refused, seconds(105)).0, State::Selecting { .. }));
    let (silent, _) = sleep(state, seconds(200));
    assert!(matches!(&silent, State::Bound { .. }) && silent.lease().unwrap().end_at == seconds(1010), "{silent:?}");
}

#[test]
fn a_lease_that_ends_without_carrier_is_gone() {
    let (state, _) = go(bound(1000), Event::CarrierDown, seconds(100));
    let (state, _) = sleep(state, seconds(2000));
    assert_eq!(state, State::Off { lease: None });
    let (state, _) = go(state, Event::CarrierUp, seconds(2001));
    assert!(matches!(state, State::Selecting { .. }));
}

#[test]
fn a_lease_for_ever_never_wakes_anybody() {
    assert_eq!(bound(u32::MAX).deadline(), None);
}

#[test]
fn answers_for_others_of_before_or_without_sense_change_nothing() {
    let offer = reply(MessageType::Offer, RANDOM, 1000);
    let (state, _) = go(State::new(None), Event::CarrierUp, seconds(0));
    let nonsense = [
        Message { xid: 1, ..offer.clone() },
        Message { op: Op::Request, ..offer.clone() },
        Message { chaddr: [0; 6], ..offer.clone() },
        Message { yiaddr: Ipv4Addr::UNSPECIFIED, ..offer.clone() },
        Message { options: Options::default(), ..offer.clone() },
        reply(MessageType::Ack, RANDOM, 1000),
    ];
    for message in &nonsense {
        assert_eq!(go(state.clone(), Event::Received(message), seconds(1)), (state.clone(), None), "{message:?}");
    }
    let (state, _) = go(state, Event::Received(&offer), seconds(1));
    let ack = reply(MessageType::Ack, RANDOM, 1000);
    let nonsense = [
        Message { xid: 1, ..ack.clone() },
        Message { options: Options { lease_time: None, ..ack.options.clone() }, ..ack.clone() },
        Message { options: Options { server_id: Some(ADDRESS), ..ack.options.clone() }, ..ack.clone() },
        Message {
            options: Options { subnet_mask: Some(Ipv4Addr::new(255, 0, 255, 0)), ..ack.options.clone() },
            ..ack.clone()
        },
        offer,
    ];
    for message in &nonsense {
        assert_eq!(go(state.clone(), Event::Received(message), seconds(1)), (state.clone(), None), "{message:?}");
    }
    let state = bound(1000);
    assert_eq!(go(state.clone(), Event::Received(&reply(MessageType::Nak, RANDOM, 0)), seconds(20)), (state, None));
}

#[test]
fn times_that_a_server_gets_wrong_are_put_in_order() {
    let mut ack = reply(MessageType::Ack, RANDOM, 1);
    ack.options.renewal_time = Some(5000);
    ack.options.rebinding_time = Some(0);
    ack.options.mtu = Some(68);
    let lease = parse_lease(&ack, seconds(0)).unwrap();
    assert_eq!((lease.renew_at, lease.rebind_at, lease.end_at), (seconds(60), seconds(105), seconds(120)));
    assert_eq!(lease.mtu, None);
    let (_, sent) = sleep(State::Bound { lease }, seconds(119));
    assert!(sent.len() <= 4, "{sent:?}");
}

#[test]
fn no_server_has_us_renew_more_often_than_once_a_minute() {
    for (lease_time, renewal, rebinding) in [(1, 1, 2), (120, 1, 2), (3600, 1, 2), (3600, 5, 3599), (121, 120, 120)] {
        let mut ack = reply(MessageType::Ack, RANDOM, lease_time);
        ack.options.renewal_time = Some(renewal);
        ack.options.rebinding_time = Some(rebinding);
        let lease = parse_lease(&ack, seconds(0)).unwrap();
        assert!(seconds(60) <= lease.renew_at, "{lease:?}");
        assert!(lease.renew_at <= lease.rebind_at && lease.rebind_at < lease.end_at, "{lease:?}");
    }
}
