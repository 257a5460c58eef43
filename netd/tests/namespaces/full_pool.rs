//! A network that has no address left: who gets none asks in vain, and the log and the status say why.

use crate::can_run;
use crate::machines::{Board, Machine, networks_with_uplink, nic, udhcpc, wait_until};
use yado_spec::network::BridgeSpec;
use yado_wire::network::{LinkNote, LinkRole, NetReply};

#[test]
fn a_network_without_an_address_left_says_so_once_and_shows_it_while_it_lasts() {
    if !can_run(&["ip", "busybox"]) {
        return;
    }
    let mut networks = networks_with_uplink();
    let ranges = |bridge: &mut BridgeSpec, last: u8| {
        let dhcp = bridge.ipv4.as_mut().unwrap().dhcp.as_mut().unwrap();
        dhcp.ranges = vec![([10, 158, 0, 20].into(), [10, 158, 0, last].into())];
    };
    ranges(&mut networks.bridges[0], 21);
    let board = Board::start(Some(networks.clone()));
    let attached = ["one", "two", "three"].map(|name| {
        let machine = Machine::container();
        assert_eq!(board.attach(name, &machine, &[nic("yado0")]), NetReply::Attached);
        machine
    });
    let note = || board.status().into_iter().find(|link| link.role == LinkRole::Network).unwrap().note;
    let asks_in_vain = |machine: &Machine| {
        let asked = machine.try_sh("busybox udhcpc -i eth0 -n -q -t 3 -T 1 -s /bin/true");
        assert!(!asked.status.success());
    };
    let warnings = || board.log().matches("all 2 addresses of its ipv4.dhcp.ranges are taken").count();
    udhcpc(&attached[0], board.run.path());
    assert_eq!(note(), None, "one is left");
    udhcpc(&attached[1], board.run.path());
    assert_eq!((note(), warnings()), (Some(LinkNote::NoAddressLeft { of: 2 }), 0), "nobody has asked in vain");
    asks_in_vain(&attached[2]);
    asks_in_vain(&attached[2]);
    let log = board.log();
    assert_eq!(warnings(), 1, "{log}");
    let line = log.lines().find(|line| line.contains("addresses")).unwrap();
    for word in ["<4>netd: network yado0: ", "give it larger ipv4.dhcp.ranges", "ipv4.dhcp.expiry than 3600 s"] {
        assert!(line.contains(word), "{word} in {line}");
    }
    // The remedy that it names.
    ranges(&mut networks.bridges[0], 22);
    assert_eq!(board.reload(&networks), [NetReply::Done]);
    udhcpc(&attached[2], board.run.path());
    assert_eq!(note(), Some(LinkNote::NoAddressLeft { of: 3 }));
    assert_eq!(board.detach("one"), NetReply::Done);
    wait_until("an address that is free", || note().map_or(Ok(()), |note| Err(format!("{note:?}"))));
}
