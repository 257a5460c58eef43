//! A netd that cannot read what its predecessor wrote down says so, and takes nothing away because of it.

use crate::can_run;
use crate::machines::{
    Board, Machine, Outside, has_route, networks_with_uplink, nic, udhcpc, uplink_that, wait_until,
};
use std::path::Path;
use yado_wire::network::NetReply;

/// What the kernel shows of what netd made, but for counters and times.
fn made(board: &Board) -> String {
    let lines = [
        "ip -4 -o addr show dev up0 | sed 's/ valid_lft.*//'",
        "ip route show dev up0",
        "ip -4 -o addr show dev yado0 | sed 's/ valid_lft.*//'",
        "ip -o link show master yado0 | cut -d: -f1,2",
    ];
    lines.map(|line| board.machine.sh(line)).concat()
}

fn cut(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn make_older(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[3] = 3;
    std::fs::write(path, bytes).unwrap();
}

fn make_unreadable(path: &Path) {
    std::fs::remove_file(path).unwrap();
    std::fs::create_dir(path).unwrap();
}

#[test]
fn a_damaged_or_older_state_file_is_told_and_takes_nothing_of_what_runs() {
    if !can_run(&["ip", "busybox", "dnsmasq"]) {
        return;
    }
    let (mut board, mut outside) = Board::with_outside(networks_with_uplink());
    let leased = |board: &Board, outside: &Outside| {
        uplink_that(board, outside, "a lease", |uplink| uplink.lease_left_s.is_some() && has_route(uplink))
    };
    leased(&board, &outside);
    let one = Machine::container();
    assert_eq!(board.attach("one", &one, &[nic("yado0")]), NetReply::Attached);
    udhcpc(&one, board.run.path());
    let address = board.leased("one");
    let path = board.run.path().join("netd.state");
    type Damage = fn(&Path);
    let cases: [(Damage, &str); 4] = [
        (cut, "netd.state: damaged"),
        (flip, "netd.state: damaged"),
        (make_older, "netd.state: of version 3, this netd reads 5"),
        (make_unreadable, "netd.state: Is a directory"),
    ];
    for (damage, expected) in cases {
        let before = made(&board);
        board.kill_netd();
        // Nobody gives the uplink a new lease.
        outside.stop_server();
        damage(&path);
        board.start_netd();
        assert!(board.log().contains(expected), "{expected} in\n{}", board.log());
        assert_eq!(made(&board), before, "{expected}");
        one.sh("busybox ping -c 1 -W 5 192.168.77.1");
        if path.is_dir() {
            std::fs::remove_dir(&path).unwrap();
        }
        outside.start_dnsmasq("192.168.77");
        leased(&board, &outside);
        assert_eq!(made(&board), before, "{expected}: with a lease again");
        // Its client asks for the address that it has, and gets it.
        udhcpc(&one, board.run.path());
        let inside = one.sh("ip -4 -o addr show dev eth0");
        assert!(inside.contains(&address.to_string()), "{inside}");
    }
    wait_until("the file is written anew", || if path.is_file() { Ok(()) } else { Err(board.log()) });
}

#[test]
fn a_network_that_has_moved_stays_where_it_is_without_a_state_file() {
    if !can_run(&["ip", "busybox"]) {
        return;
    }
    let mut board = Board::start(None);
    board.machine.sh("ip link add other0 type bridge && ip addr add 10.158.0.7/24 dev other0");
    board.machine.wait_for("ip -4 -o addr show dev yado0 | grep -F 10.158.1.1/24");
    board.kill_netd();
    // Its way is free again; who is on it has leases.
    board.machine.sh("ip link del other0");
    cut(&board.run.path().join("netd.state"));
    board.start_netd();
    assert!(board.machine.sh("ip -4 -o addr show dev yado0").contains("10.158.1.1/24"));
}
