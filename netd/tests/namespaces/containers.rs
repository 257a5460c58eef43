//! Containers on a bridge: attach, addresses, names, NAT, and what happens when something goes away.

use crate::can_run;
use crate::machines::{Board, Machine, nic, udhcpc, wait_until};
use yado_wire::network::{LinkRole, NetReply};

#[test]
fn two_containers_get_addresses_and_reach_each_other_by_name() {
    if !can_run(&["ip", "busybox", "dig"]) {
        return;
    }
    let board = Board::start(None);
    let (one, two) = (Machine::container(), Machine::container());
    assert_eq!(board.attach("one", &one, &[nic("yado0")]), NetReply::Attached);
    assert_eq!(board.attach("two", &two, &[nic("yado0")]), NetReply::Attached);
    let said = udhcpc(&one, board.run.path());
    for line in ["router=10.158.0.1", "dns=10.158.0.1", "domain=lxd", "lease=3600", "hostname=one", "mask=24"] {
        assert!(said.lines().any(|said| said == line), "{line} in\n{said}");
    }
    udhcpc(&two, board.run.path());
    let (first, second) = (board.leased("one"), board.leased("two"));
    assert_ne!(first, second);
    assert_eq!(one.sh("dig +short @10.158.0.1 two.lxd").trim(), second.to_string());
    assert_eq!(one.sh("dig +short +tcp @10.158.0.1 TWO").trim(), second.to_string());
    assert_eq!(one.sh(&format!("dig +short @10.158.0.1 -x {second}")).trim(), "two.lxd.");
    assert!(one.sh("dig @10.158.0.1 three.lxd").contains("NXDOMAIN"));
    assert!(one.sh("busybox nslookup two.lxd 10.158.0.1").contains(&second.to_string()));
    one.sh(&format!("busybox ping -c 1 -W 5 {second}"));
    // A second container of the same name and interface gets the same address again.
    let address = one.sh("ip -o link show eth0");
    assert!(address.contains("00:16:3e"), "{address}");
    drop(one);
    wait_until("one is gone", || {
        let status = board.status();
        let is_there =
            status.iter().any(|l| matches!(&l.role, LinkRole::Nic { instance, .. } if instance.as_str() == "one"));
        if is_there { Err(format!("{status:?}")) } else { Ok(()) }
    });
    assert!(two.sh("dig @10.158.0.1 one.lxd").contains("NXDOMAIN"));
    let again = Machine::container();
    assert_eq!(board.attach("one", &again, &[nic("yado0")]), NetReply::Attached);
    udhcpc(&again, board.run.path());
    assert_eq!(board.leased("one"), first);
}
