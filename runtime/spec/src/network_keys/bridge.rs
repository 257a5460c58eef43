//! Keys of a bridge: its addresses, DHCP, DNS and what it filters.

use super::{list, prefix, show_list};
use crate::draft::{Ipv4Choice, NetworkDraft};
use crate::network::DnsMode;
use crate::setting::Applies::AtOnce;
use crate::setting::{Choice, Origin, Setting, Value, effect};
use crate::values::{Expected, MAX_MTU, MIN_MTU, parse_hwaddr, parse_interface, parse_ipv4, show_hwaddr};
use std::net::Ipv4Addr;
use std::time::Duration;
use yado_wire::Text;

const BRIDGE_PAGE: Origin = Origin::Lxd("bridge");

/// As netd's types say.
const MAX_RANGES: usize = 16;
const MAX_EXTERNAL: usize = 8;

/// Keys of a bridge that netd makes and serves.
pub static BRIDGE: &[Setting<NetworkDraft>] = &[
    Setting {
        name: "ipv4.address",
        value: Value::Parsed {
            what: "auto, none, or an address with prefix length such as 10.158.0.1/24",
            get: |draft| match draft.ipv4_address {
                Ipv4Choice::Auto => Some("auto".to_owned()),
                Ipv4Choice::None => Some("none".to_owned()),
                Ipv4Choice::Given(prefix) => Some(prefix.to_string()),
            },
            parse: |text| {
                let address = match text {
                    "auto" => Ipv4Choice::Auto,
                    "none" => Ipv4Choice::None,
                    _ => Ipv4Choice::Given(prefix(text)?),
                };
                effect(address, |draft, address| draft.ipv4_address = address)
            },
        },
        default: "auto",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "The bridge's own address. `auto`: one that is derived from the network's name, the same at each \
               boot. `none`: a bridge without addresses, DHCP and NAT.",
    },
    Setting {
        name: "ipv4.nat",
        value: Value::Bool { get: |draft| draft.ipv4_nat, set: |draft, on| draft.ipv4_nat = Some(on) },
        default: "",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "What leaves the network gets the address of the link by which it leaves. Without this key: true with \
               `ipv4.address = \"auto\"`, else false.",
    },
    Setting {
        name: "ipv4.routing",
        value: Value::Bool {
            get: |draft| has_ipv4(draft).then_some(draft.ipv4_routing),
            set: |draft, on| draft.ipv4_routing = on,
        },
        default: "true",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "Packets may pass between the bridge and other links.",
    },
    Setting {
        name: "ipv4.firewall",
        value: Value::Bool {
            get: |draft| has_ipv4(draft).then_some(draft.ipv4_firewall),
            set: |draft, on| draft.ipv4_firewall = on,
        },
        default: "true",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "Make the rules that accept what the network needs.",
    },
    Setting {
        name: "ipv4.dhcp",
        value: Value::Bool {
            get: |draft| has_ipv4(draft).then_some(draft.ipv4_dhcp),
            set: |draft, on| draft.ipv4_dhcp = on,
        },
        default: "true",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "Give addresses to the instances.",
    },
    Setting {
        name: "ipv4.dhcp.ranges",
        value: Value::Parsed {
            what: "ranges such as 10.158.0.2-10.158.0.99, comma separated",
            get: |draft| show_list(&draft.ipv4_dhcp_ranges, |(first, last)| format!("{first}-{last}")),
            parse: |text| effect(ranges(text)?, |draft, ranges| draft.ipv4_dhcp_ranges = ranges),
        },
        default: "",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "Which addresses are given. Without it: all of the network.",
    },
    Setting {
        name: "ipv4.dhcp.expiry",
        value: Value::Time {
            min: Duration::from_secs(60),
            max: Duration::from_secs(365 * 86_400),
            get: |draft| (has_ipv4(draft) && draft.ipv4_dhcp).then_some(draft.ipv4_dhcp_expiry),
            set: |draft, expiry| draft.ipv4_dhcp_expiry = expiry,
        },
        default: "1h",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "How long an address is lent.",
    },
    Setting {
        name: "dns.mode",
        value: Value::Choice(&[
            Choice {
                word: "managed",
                is: |draft| draft.dns_mode == DnsMode::Managed,
                set: |draft| draft.dns_mode = DnsMode::Managed,
            },
            Choice {
                word: "none",
                is: |draft| draft.dns_mode == DnsMode::None,
                set: |draft| draft.dns_mode = DnsMode::None,
            },
        ]),
        default: "managed",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "`managed`: instances are known by their names. `none`: only names outside are answered. LXD's \
               `dynamic` is not offered.",
    },
    Setting {
        name: "dns.domain",
        value: Value::Parsed {
            what: "a domain in lower case, without a dot at the end",
            get: |draft| Some(draft.dns_domain.to_string()),
            parse: |text| effect(domain(text)?, |draft, domain| draft.dns_domain = domain),
        },
        default: "lxd",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "The domain of the instances' names.",
    },
    Setting {
        name: "bridge.mtu",
        value: Value::Integer {
            min: MIN_MTU,
            max: MAX_MTU,
            get: |draft| draft.mtu.map(i64::from),
            set: |draft, mtu| draft.mtu = Some(mtu as u16),
        },
        default: "",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "The bridge's MTU. Without it: 1500.",
    },
    Setting {
        name: "bridge.hwaddr",
        value: Value::Parsed {
            what: "a MAC address",
            get: |draft| draft.hwaddr.map(show_hwaddr),
            parse: |text| effect(parse_hwaddr(text)?, |draft, hwaddr| draft.hwaddr = Some(hwaddr)),
        },
        default: "",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "The bridge's MAC address. Without it: one that is the same at each boot.",
    },
    Setting {
        name: "bridge.external_interfaces",
        value: Value::Parsed {
            what: "interfaces' names, comma separated, at most 8",
            get: |draft| show_list(&draft.external_interfaces, ToString::to_string),
            parse: |text| {
                effect(list(text, MAX_EXTERNAL, parse_interface)?, |draft, names| draft.external_interfaces = names)
            },
        },
        default: "",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "Host interfaces that are ports of the bridge.",
    },
    Setting {
        name: "bridge.driver",
        value: Value::Always { value: "native", reason: "the kernel's bridge is used" },
        default: "",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "Who makes the bridge.",
    },
    Setting {
        name: "ipv6.address",
        value: Value::Always { value: "none", reason: "networks have no IPv6 yet" },
        default: "",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "The bridge's IPv6 address.",
    },
    Setting {
        name: "ipv6.nat",
        value: Value::Always { value: "false", reason: "networks have no IPv6 yet" },
        default: "",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "What leaves the network by IPv6 gets the address of the link by which it leaves.",
    },
    Setting {
        name: "ipv6.dhcp",
        value: Value::Always { value: "false", reason: "networks have no IPv6 yet" },
        default: "",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "Give IPv6 addresses to the instances.",
    },
    Setting {
        name: "ipv6.*",
        value: Value::Refused { reason: "networks have no IPv6 yet" },
        default: "",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "Everything else of IPv6.",
    },
    Setting {
        name: "raw.dnsmasq",
        value: Value::Refused { reason: "there is no dnsmasq below; use the keys above" },
        default: "",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "Lines for dnsmasq.",
    },
    Setting {
        name: "tunnel.*",
        value: Value::Refused { reason: "tunnels are not made yet" },
        default: "",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "Tunnels to other machines.",
    },
    Setting {
        name: "security.*",
        value: Value::Refused { reason: "packets are not filtered yet" },
        default: "",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "Access lists.",
    },
    Setting {
        name: "fan.*",
        value: Value::Refused { reason: "fan networks are Ubuntu's own" },
        default: "",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "A fan network.",
    },
    Setting {
        name: "bgp.*",
        value: Value::Refused { reason: "no routes are announced" },
        default: "",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "Announce routes by BGP.",
    },
    Setting {
        name: "user.*",
        value: Value::Kept { what: "any text", check: |_| Ok(()) },
        default: "",
        applies: AtOnce,
        origin: BRIDGE_PAGE,
        help: "Whatever you want to remember with the network.",
    },
];

/// A bridge without addresses has no use for most keys.
fn has_ipv4(draft: &NetworkDraft) -> bool {
    draft.ipv4_address != Ipv4Choice::None
}

fn ranges(text: &str) -> Result<Vec<(Ipv4Addr, Ipv4Addr)>, Expected> {
    list(text, MAX_RANGES, |part| {
        let what = || Expected("ranges such as 10.158.0.2-10.158.0.99, comma separated".to_owned());
        let (first, last) = part.split_once('-').ok_or_else(what)?;
        let (first, last) = (parse_ipv4(first.trim())?, parse_ipv4(last.trim())?);
        if last < first { Err(what()) } else { Ok((first, last)) }
    })
}

/// RFC 1035's labels.
fn domain(text: &str) -> Result<Text<63>, Expected> {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    match Text::try_from(text) {
        Ok(domain) if text.split('.').all(is_label) => Ok(domain),
        Ok(_) | Err(()) => {
            Err(Expected("a domain in lower case, without a dot at the end, at most 63 bytes".to_owned()))
        }
    }
}
