//! Containers on a bridge: attach, addresses, names, NAT, and what happens when something goes away.

use crate::can_run;
use crate::machines::{Board, Machine, about, nic, udhcpc, wait_until};
use yado_netd::saved::Saved;
use yado_wire::network::{LinkRole, MAX_NICS, NetReply, NetRequest, NicKind, NicRequest};
use yado_wire::{AboutInstance, InstanceId, RunNumber, names::clipped};

#[test]
fn two_containers_get_addresses_and_reach_each_other_by_name() {
    if !can_run(&["ip", "busybox", "dig"]) {
        return;
    }
    let board = Board::start(None);
    // The host's own link of the same name is nothing to the containers; until Linux 6.2 it was to the kernel.
    board.machine.sh("ip link add eth0 type veth peer name other0");
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
    // One of the same name in another project is another one, below that project's name.
    let lab = Machine::container();
    assert_eq!(board.attach("lab_one", &lab, &[nic("yado0")]), NetReply::Attached);
    assert!(udhcpc(&lab, board.run.path()).lines().any(|said| said == "hostname=one"));
    let third = board.leased("lab_one");
    assert_eq!(two.sh("dig +short @10.158.0.1 one.lab.lxd").trim(), third.to_string());
    assert_eq!(two.sh(&format!("dig +short @10.158.0.1 -x {third}")).trim(), "one.lab.lxd.");
    assert_eq!(two.sh("dig +short @10.158.0.1 one.lxd").trim(), first.to_string());
    // A second container of the same name and interface gets the same address again.
    let address = one.sh("ip -o link show eth0");
    assert!(address.contains("00:16:3e"), "{address}");
    // For more than one queue the kernel waits for every processor, once for each end.
    for (machine, links) in [(&one, "eth0"), (&board.machine, "type veth")] {
        let shown = machine.sh(&format!("ip -d link show {links} | grep -v other0"));
        assert!(shown.contains("numtxqueues 1 ") && shown.contains("numrxqueues 1 "), "{shown}");
    }
    drop(one);
    wait_until("one is gone", || {
        let status = board.status();
        let is_there = status
            .iter()
            .any(|l| matches!(&l.role, LinkRole::Nic { instance, .. } if instance.name.as_str() == "one"));
        if is_there { Err(format!("{status:?}")) } else { Ok(()) }
    });
    assert!(two.sh("dig @10.158.0.1 one.lxd").contains("NXDOMAIN"));
    let again = Machine::container();
    assert_eq!(board.attach("one", &again, &[nic("yado0")]), NetReply::Attached);
    udhcpc(&again, board.run.path());
    assert_eq!(board.leased("one"), first);
}

#[test]
fn what_others_break_is_repaired() {
    if !can_run(&["ip", "busybox", "dig", "nft"]) {
        return;
    }
    let board = Board::start(None);
    let one = Machine::container();
    assert_eq!(board.attach("one", &one, &[nic("yado0")]), NetReply::Attached);
    udhcpc(&one, board.run.path());
    board.leased("one");
    let is_whole = "dig +short +time=1 +tries=1 @10.158.0.1 one.lxd | grep -q ^10.158";
    for damage in [
        "ip link set yado0 down",
        "ip addr flush dev yado0",
        "ip addr add 10.158.0.77/24 dev yado0",
        r"ip link set $(ip -o link | sed -n 's/.*\(veth[0-9a-f]*\)@.*/\1/p') nomaster",
        "ip link del yado0",
    ] {
        board.machine.sh(damage);
        one.wait_for(is_whole);
        board.machine.wait_for("ip -4 -o addr show dev yado0 | grep -c . | grep -qx 1");
    }
    board.machine.sh("nft delete table inet yado");
    board.machine.wait_for("nft list table inet yado | grep masquerade");
    board.machine.sh("nft flush ruleset");
    board.machine.wait_for("nft list table inet yado | grep masquerade");
}

#[test]
fn a_restarted_netd_takes_over_without_the_containers_noticing() {
    if !can_run(&["ip", "busybox", "dig"]) {
        return;
    }
    let mut board = Board::start(None);
    let (one, two) = (Machine::container(), Machine::container());
    let with_fixed = |last| {
        let mut nic = nic("yado0");
        nic.ipv4_address = Some([10, 158, 0, last]);
        nic
    };
    assert_eq!(board.attach("one", &one, &[with_fixed(40)]), NetReply::Attached);
    assert_eq!(board.attach("two", &two, &[nic("yado0")]), NetReply::Attached);
    udhcpc(&one, board.run.path());
    udhcpc(&two, board.run.path());
    let before = (board.leased("one"), board.leased("two"));
    assert_eq!(before.0, std::net::Ipv4Addr::new(10, 158, 0, 40));
    let links = board.machine.sh("ip -o link | cut -d: -f1,2");
    board.kill_netd();
    two.sh("busybox ping -c 1 -W 5 10.158.0.40");
    two.end();
    board.machine.wait_for("[ $(ip -o link | grep -c veth) = 1 ]");
    board.start_netd();
    assert_eq!(board.leased("one"), before.0);
    assert_eq!(one.sh("dig +short @10.158.0.1 one").trim(), before.0.to_string());
    assert!(one.sh("dig @10.158.0.1 two.lxd").contains("NXDOMAIN"), "it ended meanwhile");
    for link in board.machine.sh("ip -o link | cut -d: -f1,2").lines() {
        assert!(links.contains(link), "{link} is new in\n{links}");
    }
    let two = Machine::container();
    assert_eq!(board.attach("two", &two, &[nic("yado0")]), NetReply::Attached);
    udhcpc(&two, board.run.path());
    assert_eq!(board.leased("two"), before.1);
}

#[test]
fn a_failed_attach_leaves_nothing_and_a_second_one_replaces_the_first() {
    if !can_run(&["ip"]) {
        return;
    }
    let board = Board::start(None);
    let one = Machine::container();
    let second = |name: &str| NicRequest { name: clipped(name), ..nic("yado0") };
    // The kernel refuses a second `eth0` inside; ours is then gone again.
    one.sh("ip link add eth1 type bridge");
    let NetReply::Failed(failure) = board.attach("one", &one, &[second("eth0"), second("eth1")]) else {
        panic!("attached twice")
    };
    assert_eq!((failure.step, failure.errno), (yado_wire::Step::Network, 17), "{failure}");
    assert!(failure.object.contains("eth1 of one"), "{failure}");
    assert_eq!(board.machine.sh("ip -o link | grep -c veth || true").trim(), "0");
    assert!(!one.try_sh("ip link show eth0").status.success());

    assert_eq!(board.attach("one", &one, &[second("eth0"), second("eth2")]), NetReply::Attached);
    assert_eq!(board.attach("one", &one, &[second("eth0")]), NetReply::Attached);
    assert_eq!(board.machine.sh("ip -o link | grep -c veth").trim(), "1");
    assert!(!one.try_sh("ip link show eth2").status.success());
    assert_eq!(board.detach("one"), NetReply::Done);
    assert_eq!(board.machine.sh("ip -o link | grep -c veth || true").trim(), "0");
    assert_eq!(board.detach("one"), NetReply::Done, "twice is no harm");
    // Who has the name now is another one than who had it, whose end is told late.
    assert_eq!(board.attach("one", &one, &[second("eth0")]), NetReply::Attached);
    let again = AboutInstance { id: InstanceId(7), ..about("one") };
    let nics = || [second("eth0")].into_iter().collect();
    let attach = NetRequest::Attach { instance: again.clone(), run: RunNumber(100), nics: nics() };
    assert_eq!(board.call(&attach, Some(&one.netns())), [NetReply::Attached]);
    assert_eq!(board.detach_run("one", RunNumber(101)), NetReply::Done);
    assert_eq!(board.machine.sh("ip -o link | grep -c veth").trim(), "1");
    assert_eq!(board.call(&NetRequest::Detach { instance: again.id, run: RunNumber(100) }, None), [NetReply::Done]);
    assert_eq!(board.machine.sh("ip -o link | grep -c veth || true").trim(), "0");
    let instance = about("one");
    let replies =
        board.call(&NetRequest::Attach { instance, run: RunNumber(u64::MAX), nics: Default::default() }, None);
    assert!(matches!(&replies[..], [NetReply::Failed(_)]), "without a namespace: {replies:?}");
}

/// What `ip monitor link` printed, a line for each event, between two links that are made for it to see.
struct LinkEvents {
    monitor: std::process::Child,
    path: std::path::PathBuf,
}

impl LinkEvents {
    fn start(board: &Board) -> LinkEvents {
        let path = board.run.path().join("link-events");
        let mut monitor = board.machine.command("ip");
        let monitor = monitor.args(["-o", "monitor", "link"]).stdout(std::fs::File::create(&path).unwrap()).spawn();
        let events = LinkEvents { monitor: monitor.unwrap(), path };
        // Until it listens, it sees nothing.
        wait_until("the monitor listens", || {
            board.machine.sh("ip link add begin0 type bridge && ip link del begin0");
            events.has("begin0")
        });
        events
    }

    fn has(&self, name: &str) -> Result<(), String> {
        let text = std::fs::read_to_string(&self.path).unwrap();
        text.contains(&format!(": {name}:")).then_some(()).ok_or(text)
    }

    /// The names of the links that events were about.
    fn end(mut self, board: &Board) -> Vec<String> {
        board.machine.sh("ip link add end0 type bridge");
        wait_until("the monitor has seen all", || self.has("end0"));
        self.monitor.kill().unwrap();
        self.monitor.wait().unwrap();
        let text = std::fs::read_to_string(&self.path).unwrap();
        let name = |line: &str| line.split(": ").nth(1).and_then(|name| name.split('@').next()).map(str::to_owned);
        let mut names: Vec<String> = text.lines().filter_map(name).collect();
        names.retain(|name| name != "begin0" && name != "end0");
        names.sort();
        names.dedup();
        names
    }
}

#[test]
fn the_inner_ends_are_made_inside_under_their_names_down_and_are_never_seen_outside() {
    if !can_run(&["ip", "bridge"]) {
        return;
    }
    let board = Board::start(None);
    let one = Machine::container();
    board.machine.sh("ip link add par0 type bridge && ip link set par0 up");
    let network = || NicKind::Network { network: clipped("yado0") };
    let nics = [("eth0", network()), ("lan0", network()), ("mac0", NicKind::Macvlan { parent: clipped("par0") })]
        .map(|(name, kind)| NicRequest { name: clipped(name), kind, mtu: Some(1280), ..nic("") });
    let request =
        NetRequest::Attach { instance: about("one"), run: RunNumber(1), nics: nics.iter().cloned().collect() };
    let events = LinkEvents::start(&board);
    assert_eq!(board.call(&request, Some(&one.netns())), [NetReply::Attached]);
    let outside = events.end(&board);
    let inside = one.sh("ip -o link | grep -v lo:");
    assert_eq!(inside.lines().count(), 3, "{inside}");
    for name in ["eth0", "lan0", "mac0"] {
        let line = one.sh(&format!("ip -o link show {name}"));
        assert!(line.contains("mtu 1280") && line.contains("00:16:3e") && line.contains("state DOWN"), "{line}");
    }
    assert!(outside.iter().all(|name| name == "yado0" || name == "par0" || name.starts_with("veth")), "{outside:?}");
    assert_eq!(outside.iter().filter(|name| name.starts_with("veth")).count(), 2, "{outside:?}");
    // Nothing that the instance sends is heard before this.
    let ports = board.machine.sh("bridge -d link show");
    assert_eq!(ports.matches("learning off").count(), 2, "{ports}");
}

#[test]
fn a_namespace_that_nobody_lives_in_any_more_leaves_nothing() {
    if !can_run(&["ip"]) {
        return;
    }
    let board = Board::start(None);
    let one = Machine::container();
    let namespace = one.netns();
    one.end();
    let instance = about("one");
    let nics: heapless::Vec<NicRequest, MAX_NICS> = [nic("yado0")].into_iter().collect();
    let attached = board.call(&NetRequest::Attach { instance, run: RunNumber(1), nics }, Some(&namespace));
    assert_eq!(attached, [NetReply::Attached]);
    // With the last descriptor the namespace ends.
    drop(namespace);
    board.machine.wait_for("! ip -o link | grep veth");
    wait_until("netd has noticed", || {
        let status = board.status();
        let is_there = status.iter().any(|link| matches!(link.role, LinkRole::Nic { .. }));
        if is_there { Err(format!("{status:?}")) } else { Ok(()) }
    });
    assert_eq!(board.attach("one", &Machine::container(), &[nic("yado0")]), NetReply::Attached);
}

#[test]
fn what_an_earlier_run_asks_late_does_not_touch_the_later_one() {
    if !can_run(&["ip", "busybox"]) {
        return;
    }
    let mut board = Board::start(None);
    let refused = |reply: NetReply| match reply {
        NetReply::Failed(failure) => assert!(failure.reason.contains("a later one has begun"), "{failure}"),
        other => panic!("{other:?}"),
    };
    let (first, second) = (Machine::container(), Machine::container());
    assert_eq!(board.attach_run("one", RunNumber(10), &first, &[nic("yado0")]), NetReply::Attached);
    assert_eq!(board.attach_run("one", RunNumber(20), &second, &[nic("yado0")]), NetReply::Attached);
    udhcpc(&second, board.run.path());
    let is_whole = |board: &Board| {
        assert_eq!(board.machine.sh("ip -o link show master yado0 | grep -c veth").trim(), "1");
        second.sh("busybox ping -c 1 -W 5 10.158.0.1");
        board.leased("one");
    };
    assert_eq!(board.detach_run("one", RunNumber(10)), NetReply::Done);
    is_whole(&board);
    refused(board.attach_run("one", RunNumber(10), &first, &[nic("yado0")]));
    is_whole(&board);
    // A restarted netd knows it too.
    board.kill_netd();
    board.start_netd();
    assert_eq!(board.detach_run("one", RunNumber(10)), NetReply::Done);
    is_whole(&board);
    assert_eq!(board.detach_run("one", RunNumber(20)), NetReply::Done);
    assert_eq!(board.machine.sh("ip -o link show master yado0 | grep -c veth || true").trim(), "0");
    refused(board.attach_run("one", RunNumber(20), &second, &[nic("yado0")]));
}

#[test]
fn links_that_come_and_go_all_the_time_hide_no_container() {
    if !can_run(&["ip", "busybox", "dig"]) {
        return;
    }
    let board = Board::start(None);
    let one = Machine::container();
    // So many links that the kernel tells them in several parts.
    board.machine.sh("for n in $(seq 150); do echo link add busy$n type bridge; done | ip -batch -");
    assert_eq!(board.attach("one", &one, &[nic("yado0")]), NetReply::Attached);
    udhcpc(&one, board.run.path());
    board.leased("one");
    board.machine.sh(
        "for n in $(seq 120); do echo link del busy$((n % 150 + 1)); echo link add busy$((n % 150 + 1)) type bridge; done \
         | ip -batch -",
    );
    assert_eq!(one.sh("dig +short @10.158.0.1 one").trim(), board.leased("one").to_string());
    assert!(!board.log().contains("eth0 of one is gone"), "{}", board.log());
}

#[test]
fn a_macvlan_a_foreign_bridge_and_a_moved_link_are_attached() {
    if !can_run(&["ip"]) {
        return;
    }
    let board = Board::start(None);
    board
        .machine
        .sh("ip link add par0 type veth peer name other0 && ip link set other0 up && ip link set par0 up mtu 1400");
    board.machine.sh("ip link add br9 type bridge && ip link set br9 up");
    board.machine.sh("ip link add mov0 type veth peer name other1 && ip link set other1 up");
    let one = Machine::container();
    let kinds = [
        ("mac0", NicKind::Macvlan { parent: clipped("par0") }),
        ("brd0", NicKind::Bridged { parent: clipped("br9") }),
        ("phy0", NicKind::Physical { parent: clipped("mov0") }),
    ];
    let nics = kinds.map(|(name, kind)| NicRequest { name: clipped(name), kind, ..nic("") });
    assert_eq!(board.attach("one", &one, &nics), NetReply::Attached);
    for name in ["mac0", "brd0", "phy0"] {
        let line = one.sh(&format!("ip -o link show {name}"));
        assert!(line.contains(",UP") || line.contains("<UP"), "{line}");
    }
    assert!(one.sh("ip -o link show mac0").contains("mtu 1400"));
    assert!(board.machine.sh("ip -o link show master br9").contains("veth"));
    assert!(!board.machine.try_sh("ip link show mov0").status.success());
}

#[test]
fn a_macvlan_may_have_the_name_of_a_link_outside_and_not_that_of_one_inside() {
    if !can_run(&["ip"]) {
        return;
    }
    let board = Board::start(None);
    board.machine.sh("ip link add par0 type bridge && ip link add eth0 type bridge && ip link set par0 up");
    let one = Machine::container();
    let macvlan = NicRequest { kind: NicKind::Macvlan { parent: clipped("par0") }, ..nic("") };
    assert_eq!(board.attach("one", &one, std::slice::from_ref(&macvlan)), NetReply::Attached);
    assert!(one.sh("ip -d link show eth0").contains("macvlan"));
    let NetReply::Failed(failure) = board.attach("two", &one, &[macvlan]) else { panic!("attached twice") };
    assert_eq!((failure.step, failure.errno), (yado_wire::Step::Network, 17), "{failure}");
    let macvlans = board.machine.sh("ip -o link show type macvlan");
    assert_eq!(macvlans, "", "outside");
}

#[test]
fn hostile_packets_neither_stop_it_nor_use_it_up() {
    if !can_run(&["ip", "busybox", "dig", "python3"]) {
        return;
    }
    let board = Board::start(None);
    let (bad, good) = (Machine::container(), Machine::container());
    assert_eq!(board.attach("bad", &bad, &[nic("yado0")]), NetReply::Attached);
    assert_eq!(board.attach("good", &good, &[nic("yado0")]), NetReply::Attached);
    bad.sh("ip addr add 10.158.0.250/24 dev eth0");
    bad.sh(
        "python3 - <<'END'
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for n in range(3000):
    for port in (53, 67):
        try: s.sendto(os.urandom(n % 1400 + 1), ('10.158.0.1', port))
        except OSError: pass
    mac = b'\\x02' + os.urandom(5)
    discover = bytes([1, 1, 6, 0]) + os.urandom(4) + bytes(20) + mac + bytes(202) + b'\\x63\\x82\\x53\\x63\\x35\\x01\\x01\\xff'
    try: s.sendto(discover, ('10.158.0.1', 67))
    except OSError: pass
END",
    );
    let packet = [0xffu8; 20_000];
    let socket = yado_sys::packet::connect(&board.run.path().join("netd.sock")).unwrap();
    yado_sys::packet::send(&socket, &packet[..10], &[]).unwrap();
    yado_sys::packet::send(&socket, &packet, &[]).unwrap();
    udhcpc(&good, board.run.path());
    let address = board.leased("good");
    assert_eq!(good.sh("dig +short @10.158.0.1 good").trim(), address.to_string());
    let rss = std::fs::read_to_string(format!("/proc/{}/status", board.netd_pid())).unwrap();
    let kib =
        rss.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse::<u32>().ok());
    assert!(kib.is_some_and(|kib| kib < 8 * 1024), "{kib:?} KiB of its own after the flood");
}

#[test]
fn after_a_reboot_that_left_the_state_file_instances_get_their_interfaces() {
    if !can_run(&["ip"]) {
        return;
    }
    let mut board = Board::start(None);
    let container = Machine::container();
    assert_eq!(board_run(&board, 7_000_000, &container), NetReply::Attached);
    assert!(matches!(board_run(&board, 1_000_000, &container), NetReply::Failed(_)), "an earlier run of this boot");
    board.kill_netd();
    let path = board.run.path().join("netd.state");
    let mut saved = Saved::decode(&std::fs::read(&path).unwrap()).unwrap();
    saved.boot = clipped("00000000-0000-0000-0000-000000000000");
    std::fs::write(&path, saved.encode()).unwrap();
    board.start_netd();
    assert_eq!(board_run(&board, 1_000_000, &Machine::container()), NetReply::Attached);
}

fn board_run(board: &Board, number: u64, container: &Machine) -> NetReply {
    board.attach_run("busybox", RunNumber(number), container, &[nic("yado0")])
}

#[test]
fn where_no_thread_can_be_made_a_pair_is_taken_away_all_the_same() {
    if !can_run(&["ip", "prlimit"]) {
        return;
    }
    let board = Board::start(None);
    let one = Machine::container();
    assert_eq!(board.attach("one", &one, &[nic("yado0")]), NetReply::Attached);
    let netd = board.netd_pid();
    let statm = std::fs::read_to_string(format!("/proc/{netd}/statm")).unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    // Room for less than a stack.
    board.machine.sh(&format!("prlimit --pid {netd} --as={}", pages * 4096 + 32 * 1024));
    assert_eq!(board.detach("one"), NetReply::Done);
    assert_eq!(board.machine.sh("ip -o link show master yado0"), "");
}
