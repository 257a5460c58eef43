//! Keys of a link that leads outside: which one it is, and where its addresses come from.

use super::{list, prefix, show_list};
use crate::draft::{Ipv4Choice, NetworkDraft};
use crate::network::LinkSelector;
use crate::setting::Applies::AtOnce;
use crate::setting::{Origin, Setting, Value, effect};
use crate::values::{MAX_MTU, MIN_MTU, parse_hwaddr, parse_interface, parse_ipv4, show_hwaddr};

const PHYSICAL_PAGE: Origin = Origin::Lxd("physical");

/// As netd's types say.
const MAX_NAMESERVERS: usize = 3;

/// Keys of a link that leads outside.
pub static PHYSICAL: &[Setting<NetworkDraft>] = &[
    Setting {
        name: "parent",
        value: Value::Parsed {
            what: "an interface's name such as eth0, or a MAC address",
            get: |draft| match draft.parent {
                LinkSelector::FirstEthernet => None,
                LinkSelector::Name(ref name) => Some(name.to_string()),
                LinkSelector::Address(address) => Some(show_hwaddr(address)),
            },
            parse: |text| {
                let link = match parse_hwaddr(text) {
                    Ok(address) => LinkSelector::Address(address),
                    Err(_) => LinkSelector::Name(parse_interface(text)?),
                };
                effect(link, |draft, link| draft.parent = link)
            },
        },
        default: "",
        applies: AtOnce,
        origin: PHYSICAL_PAGE,
        help: "Which link. By MAC address (ours) it is found whatever it is called. Without it: the first Ethernet \
               link.",
    },
    Setting {
        name: "mtu",
        value: Value::Integer {
            min: MIN_MTU,
            max: MAX_MTU,
            get: |draft| draft.mtu.map(i64::from),
            set: |draft, mtu| draft.mtu = Some(mtu as u16),
        },
        default: "",
        applies: AtOnce,
        origin: PHYSICAL_PAGE,
        help: "The link's MTU. Without it: what DHCP says, else what the link has; it keeps what this key gave it until it \
               is made anew.",
    },
    Setting {
        name: "ipv4.dhcp",
        value: Value::Bool {
            get: |draft| (draft.ipv4_address == Ipv4Choice::Auto).then_some(draft.ipv4_dhcp),
            set: |draft, on| draft.ipv4_dhcp = on,
        },
        default: "true",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "Ask for an address by DHCP. Counts only without `ipv4.address`; `false` and no address: the link is \
               only brought up.",
    },
    Setting {
        name: "ipv4.address",
        value: Value::Parsed {
            what: "an address with prefix length such as 192.168.7.2/24",
            get: |draft| match draft.ipv4_address {
                Ipv4Choice::Auto | Ipv4Choice::None => None,
                Ipv4Choice::Given(prefix) => Some(prefix.to_string()),
            },
            parse: |text| effect(prefix(text)?, |draft, prefix| draft.ipv4_address = Ipv4Choice::Given(prefix)),
        },
        default: "",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "The link's own address.",
    },
    Setting {
        name: "ipv4.gateway",
        value: Value::Parsed {
            what: "an IPv4 address",
            get: |draft| draft.ipv4_gateway.as_ref().map(ToString::to_string),
            parse: |text| {
                let address = text.split_once('/').map_or(text, |(address, _)| address);
                effect(parse_ipv4(address)?, |draft, address| draft.ipv4_gateway = Some(address))
            },
        },
        default: "",
        applies: AtOnce,
        origin: PHYSICAL_PAGE,
        help: "The router to everywhere. Only with `ipv4.address`.",
    },
    Setting {
        name: "dns.nameservers",
        value: Value::Parsed {
            what: "IPv4 addresses, comma separated, at most 3",
            get: |draft| show_list(&draft.dns_nameservers, ToString::to_string),
            parse: |text| {
                effect(list(text, MAX_NAMESERVERS, parse_ipv4)?, |draft, addresses| draft.dns_nameservers = addresses)
            },
        },
        default: "",
        applies: AtOnce,
        origin: PHYSICAL_PAGE,
        help: "Who is asked for names. Only with `ipv4.address`.",
    },
    Setting {
        name: "vlan",
        value: Value::Refused { reason: "VLANs are not made yet" },
        default: "",
        applies: AtOnce,
        origin: PHYSICAL_PAGE,
        help: "The VLAN it is in.",
    },
    Setting {
        name: "gvrp",
        value: Value::Refused { reason: "VLANs are not made yet" },
        default: "",
        applies: AtOnce,
        origin: PHYSICAL_PAGE,
        help: "Register its VLAN by GVRP.",
    },
    Setting {
        name: "ipv6.*",
        value: Value::Refused { reason: "networks have no IPv6 yet" },
        default: "",
        applies: AtOnce,
        origin: PHYSICAL_PAGE,
        help: "Everything of IPv6.",
    },
    Setting {
        name: "ovn.*",
        value: Value::Refused { reason: "there is no OVN on a board" },
        default: "",
        applies: AtOnce,
        origin: PHYSICAL_PAGE,
        help: "For OVN networks.",
    },
    Setting {
        name: "bgp.*",
        value: Value::Refused { reason: "no routes are announced" },
        default: "",
        applies: AtOnce,
        origin: PHYSICAL_PAGE,
        help: "Announce routes by BGP.",
    },
    Setting {
        name: "user.*",
        value: Value::Kept { what: "any text", check: |_| Ok(()) },
        default: "",
        applies: AtOnce,
        origin: PHYSICAL_PAGE,
        help: "Whatever you want to remember with the network.",
    },
];
