//! Networks that change while an instance is on one of them, and a link that leads outside: seen in the kernel's files, and by
//! what the instance is answered.

use super::{Looks, look};
use crate::broken::bench::Bench;
use crate::broken::failure::BrokenError;
use crate::broken::instance_runs::{is_ready, runs};
use crate::report::{Observer, Witness};

/// Lines of a network's file, and what must hold on the board then, as a shell says it.
struct Case {
    /// The keys that are shown.
    shows: &'static [&'static str],
    what: &'static str,
    lines: &'static str,
    reads: &'static str,
    /// What that prints then, and when the lines are taken away again.
    then: &'static str,
    without: &'static str,
}

/// An instance that is on a network of its own, and a link that leads nowhere. The networks of before stay as they are: with a
/// network of somebody's own there is no yado0 by itself, and with a link of somebody's own no uplink.
const LAY_OUT: &str = "
mkdir -p /data/networks
ip link add far0 type veth
ip link set veth0 up
echo '[config]' > /data/networks/yado0.toml
printf '%s\\n' 'type = \"physical\"' '[config]' > /data/networks/first.toml
printf '%s\\n' '[config]' 'ipv4.address = \"10.204.1.1/24\"' 'ipv4.nat = true' > /data/networks/extra.toml
printf '%s\\n' 'image = \"busybox\"' '[config]' 'boot.autostart = true' 'health.window = \"200ms\"' '[devices.eth0]' \\
    'type = \"nic\"' 'network = \"extra\"' | yado apply - --name netted 2> /dev/null || [ $? = 3 ]";

const CLEAR_AWAY: &str = "
rm -r /data/networks /data/instances/netted
yado apply --delete-data 2> /dev/null || [ $? = 3 ]
ip link del far0
rm -f /run/inside";

/// Runs a script in the instance. It asks for an address on its own all the time; here it asks once.
const INSIDE: &str = "
inside() { yado rescue exec --no-tty netted -- sh -c \"$1\"; }
ask() {
    inside 'printf \"%s\\\\n\" \"#!/bin/sh\" \"[ \\$1 = bound ] && echo \\$ip \\$lease \\$domain > /run/told\" > /run/tell
            chmod 755 /run/tell; rm -f /run/told
            udhcpc -i eth0 -n -q -t 3 -T 1 -s /run/tell > /dev/null 2>&1; cat /run/told || echo none'
}";

const BRIDGE: &[Case] = &[
    Case {
        shows: &["bridge.bridge.mtu"],
        what: "bridge.mtu",
        lines: "bridge.mtu = 1400",
        reads: "cat /sys/class/net/extra/mtu",
        then: "1400",
        without: "1500",
    },
    Case {
        shows: &["bridge.bridge.hwaddr"],
        what: "bridge.hwaddr",
        lines: "bridge.hwaddr = '02:00:5e:10:00:01'",
        reads: "[ $(cat /sys/class/net/extra/address) = 02:00:5e:10:00:01 ] && echo this || echo another",
        then: "this",
        without: "another",
    },
    Case {
        shows: &["bridge.bridge.external_interfaces"],
        what: "bridge.external_interfaces",
        lines: "bridge.external_interfaces = 'far0'",
        reads: "[ -e /sys/class/net/extra/brif/far0 ] && echo port || echo none",
        then: "port",
        without: "none",
    },
    Case {
        shows: &["bridge.ipv4.dhcp"],
        what: "ipv4.dhcp",
        lines: "ipv4.dhcp = false",
        reads: "[ \"$(ask)\" = none ] && echo none || echo given",
        then: "none",
        without: "given",
    },
    Case {
        shows: &["bridge.ipv4.dhcp.ranges"],
        what: "ipv4.dhcp.ranges",
        lines: "ipv4.dhcp.ranges = '10.204.1.77-10.204.1.77'",
        reads: "set -- $(ask); [ $1 = 10.204.1.77 ] && echo in it",
        then: "in it",
        // It keeps what it has.
        without: "in it",
    },
    Case {
        shows: &["bridge.ipv4.dhcp.expiry"],
        what: "ipv4.dhcp.expiry",
        lines: "ipv4.dhcp.expiry = '2m'",
        reads: "set -- $(ask); echo $2",
        then: "120",
        without: "3600",
    },
    Case {
        shows: &["bridge.dns.domain"],
        what: "dns.domain",
        lines: "dns.domain = 'lab'",
        reads: "set -- $(ask); echo $3",
        then: "lab",
        without: "lxd",
    },
    Case {
        shows: &["bridge.dns.mode"],
        what: "dns.mode",
        lines: "dns.mode = 'none'",
        reads: "inside 'nslookup netted.lxd 10.204.1.1' | grep -c '^Name:'",
        then: "0",
        without: "1",
    },
    Case {
        shows: &["bridge.ipv4.routing"],
        what: "ipv4.routing",
        lines: "ipv4.routing = false",
        reads: "inside 'ping -c 2 -W 2 10.0.2.2 > /dev/null' && echo reached || echo lost",
        then: "lost",
        without: "reached",
    },
    Case {
        shows: &["bridge.ipv4.nat"],
        what: "ipv4.nat",
        lines: "ipv4.nat = false",
        reads: "inside 'ping -c 2 -W 2 10.0.2.2 > /dev/null' && echo reached || echo lost",
        // Nobody outside knows the way back to an address of the network.
        then: "lost",
        without: "reached",
    },
    Case {
        shows: &["bridge.ipv4.address"],
        what: "ipv4.address",
        lines: "ipv4.address = '10.204.2.1/24'",
        reads: "grep -o '10\\.204\\.[12]\\.1$' /proc/net/fib_trie | sort -u",
        then: "10.204.2.1",
        without: "10.204.1.1",
    },
];

const PHYSICAL: &[Case] = &[
    Case {
        shows: &["physical.parent", "physical.ipv4.address"],
        what: "the parent and the address of a physical network",
        lines: "parent = 'far0'\nipv4.address = '10.205.1.2/24'",
        reads: "grep -o '10\\.205\\.1\\.2$' /proc/net/fib_trie | sort -u",
        then: "10.205.1.2",
        without: "",
    },
    Case {
        shows: &["physical.mtu"],
        what: "its mtu",
        lines: "parent = 'far0'\nipv4.address = '10.205.1.2/24'\nmtu = 1300",
        reads: "cat /sys/class/net/far0/mtu",
        then: "1300",
        without: "1500",
    },
    Case {
        shows: &["physical.ipv4.gateway"],
        what: "its gateway",
        lines: "parent = 'far0'\nipv4.address = '10.205.1.2/24'\nipv4.gateway = '10.205.1.1'",
        // As the kernel writes it: the least byte first.
        reads: "grep -c '^far0.00000000.0101CD0A' /proc/net/route",
        then: "1",
        without: "0",
    },
    Case {
        shows: &["physical.dns.nameservers"],
        what: "its name servers",
        lines: "parent = 'far0'\nipv4.address = '10.205.1.2/24'\ndns.nameservers = '10.205.1.7'",
        reads: "grep -c 10.205.1.7 /etc/resolv.conf",
        then: "1",
        without: "0",
    },
    Case {
        shows: &["physical.ipv4.dhcp"],
        what: "its ipv4.dhcp",
        lines: "parent = 'far0'\nipv4.dhcp = false",
        // Who asks for an address listens for all packets of the link.
        reads: "awk -v link=$(cat /sys/class/net/far0/ifindex) '$5 == link' /proc/net/packet | grep -c .",
        then: "0",
        without: "1",
    },
];

pub(in crate::broken) fn every_network_key(
    bench: &mut Bench<'_>,
    observer: &mut Observer,
) -> Result<(), BrokenError> {
    bench.shell(LAY_OUT)?;
    let status = is_ready(bench, observer, "an instance is on a network of its own", "netted")?;
    let pid = status["pid"].clone();
    let bridge = |lines: &str| {
        let always = ["ipv4.address = '10.204.1.1/24'", "ipv4.nat = true"];
        let is_said = |line: &&str| line.split(' ').next().is_some_and(|key| lines.starts_with(&format!("{key} ")));
        let always: Vec<&str> = always.into_iter().filter(|line| !is_said(line)).collect();
        ("extra", format!("[config]\n{}\n{lines}", always.join("\n")))
    };
    let physical = |lines: &str| ("second", format!("type = 'physical'\n[config]\n{lines}"));
    for case in BRIDGE {
        take(bench, observer, case, bridge(case.lines), bridge(""))?;
    }
    let status = bench.instance("netted")?;
    runs(bench, observer, "the instance has run on", "netted", &status, status["pid"] == pid)?;
    for case in PHYSICAL {
        let without = match case.shows {
            ["physical.parent", ..] => "parent = 'nowhere0'",
            ["physical.ipv4.dhcp"] => "parent = 'far0'",
            // Without the key a link has what it has.
            ["physical.mtu"] => "parent = 'far0'\nipv4.address = '10.205.1.2/24'\nmtu = 1500",
            _ => "parent = 'far0'\nipv4.address = '10.205.1.2/24'",
        };
        take(bench, observer, case, physical(case.lines), physical(without))?;
    }
    bench.shell(CLEAR_AWAY)?;
    Ok(())
}

fn take(
    bench: &Bench<'_>,
    observer: &mut Observer,
    case: &Case,
    with: (&str, String),
    without: (&str, String),
) -> Result<(), BrokenError> {
    let Case { shows: _, what, lines: _, reads, then, without: before } = case;
    // What a program inside is answered, or what the kernel's files say.
    let is_asked_inside = reads.contains("$(ask)") || reads.starts_with("inside ");
    let witness = if is_asked_inside { Witness::Peer } else { Witness::Kernel };
    let reads = format!("{INSIDE}\n{reads}");
    for ((name, text), awaited, said) in
        [(with, *then, format!("{what} applies at once")), (without, *before, "and is lifted again".to_owned())]
    {
        let told = bench.shell(&format!(
            "printf '%s\\n' \"{text}\" > /data/networks/.new && mv /data/networks/.new /data/networks/{name}.toml
             yado apply 2>&1 || [ $? = 3 ]"
        ))?;
        let seen = look(bench, &reads, awaited, Looks::UntilSo)?;
        let is_so = seen == awaited;
        let shown = if is_so { seen } else { format!("{seen}; {told}") };
        observer.check(witness, &said, shown, is_so)?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) fn shown_keys() -> impl Iterator<Item = &'static str> {
    BRIDGE.iter().chain(PHYSICAL).flat_map(|case| case.shows).copied()
}
