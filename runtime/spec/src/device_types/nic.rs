//! `nic`: its options, and the interface that they make.

use crate::devices::{Builder, Built, Table};
use crate::instance::{Nic, NicKind};
use crate::setting::Applies::AtRestart;
use crate::setting::{Choice, Origin, Setting, Value, effect};
use crate::values::{MAX_MTU, MIN_MTU, parse_hwaddr, parse_interface, parse_ipv4, show_hwaddr};
use std::net::Ipv4Addr;
use yado_wire::Text;

const LXD: Origin = Origin::Lxd("nic");

/// What is said of a nic.
#[derive(Debug, Default)]
pub(super) struct NicDraft {
    network: Option<Text<15>>,
    nictype: Option<NicType>,
    parent: Option<Text<15>>,
    name: Option<Text<15>>,
    hwaddr: Option<[u8; 6]>,
    mtu: Option<u16>,
    host_name: Option<Text<15>>,
    ipv4_address: Option<Ipv4Addr>,
}

/// `nictype`, as far as it is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NicType {
    Bridged,
    Macvlan,
    Physical,
}

/// The type.
pub(super) static NIC: Table<NicDraft> = Table { options: OPTIONS, build, read_back };

fn build(builder: &mut Builder<'_>, draft: NicDraft) -> Option<Built> {
    let NicDraft { network, nictype, parent, name, hwaddr, mtu, host_name, ipv4_address } = draft;
    let interface = match name.or_else(|| parse_interface(builder.name).ok()) {
        Some(interface) => Some(interface),
        None => builder.need(None, "name", "name = \"eth0\", for the device's name is no interface's"),
    };
    let kind = match (network, nictype) {
        (Some(network), None) => {
            builder.refuse("parent", "with network there is no parent");
            Some(NicKind::Network { network })
        }
        (Some(_), Some(_)) => {
            builder.refuse("nictype", "either network, or nictype with parent");
            None
        }
        (None, Some(nictype)) => {
            builder.refuse("ipv4.address", "only a network of ours gives addresses; use network");
            let parent = builder.need(parent, "parent", "parent = \"INTERFACE\"");
            parent.map(|parent| match nictype {
                NicType::Bridged => NicKind::Bridged { parent },
                NicType::Macvlan => NicKind::Macvlan { parent },
                NicType::Physical => NicKind::Physical { parent },
            })
        }
        (None, None) => builder.need(None, "network", "network = \"yado0\", or nictype with parent"),
    };
    if nictype.is_some_and(|nictype| nictype != NicType::Bridged) {
        builder.refuse("host_name", "only an interface on a bridge has an end that the system sees");
    }
    let (name, interface, kind) = (builder.name.to_owned(), interface?, kind?);
    Some(Built::Nic(Nic { name, interface, kind, hwaddr, mtu, host_name, ipv4_address }))
}

fn read_back(built: &Built) -> Option<NicDraft> {
    let Built::Nic(nic) = built else { return None };
    let Nic { name, interface, kind, hwaddr, mtu, host_name, ipv4_address } = nic.clone();
    let (network, nictype, parent) = match kind {
        NicKind::Network { network } => (Some(network), None, None),
        NicKind::Bridged { parent } => (None, Some(NicType::Bridged), Some(parent)),
        NicKind::Macvlan { parent } => (None, Some(NicType::Macvlan), Some(parent)),
        NicKind::Physical { parent } => (None, Some(NicType::Physical), Some(parent)),
    };
    let name = (interface != name.as_str()).then_some(interface);
    Some(NicDraft { network, nictype, parent, name, hwaddr, mtu, host_name, ipv4_address })
}

static OPTIONS: &[Setting<NicDraft>] = &[
    Setting {
        name: "network",
        value: Value::Parsed {
            what: "the name of a network",
            get: |draft| draft.network.as_ref().map(ToString::to_string),
            parse: |text| effect(parse_interface(text)?, |draft, network| draft.network = Some(network)),
        },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "The network of ours that it is a port of. Instead of `nictype` and `parent`.",
    },
    Setting {
        name: "nictype",
        value: Value::Choice(&[
            Choice {
                word: "bridged",
                is: |draft| draft.nictype == Some(NicType::Bridged),
                set: |draft| draft.nictype = Some(NicType::Bridged),
            },
            Choice {
                word: "macvlan",
                is: |draft| draft.nictype == Some(NicType::Macvlan),
                set: |draft| draft.nictype = Some(NicType::Macvlan),
            },
            Choice {
                word: "physical",
                is: |draft| draft.nictype == Some(NicType::Physical),
                set: |draft| draft.nictype = Some(NicType::Physical),
            },
        ]),
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "`bridged`: a port of a bridge that somebody else keeps. `macvlan`: an interface of its own on top of \
               a host interface. `physical`: the host interface itself; it comes back when the instance stops. \
               LXD's p2p, routed, ipvlan, sriov and ovn are not offered.",
    },
    Setting {
        name: "parent",
        value: Value::Parsed {
            what: "an interface's name",
            get: |draft| draft.parent.as_ref().map(ToString::to_string),
            parse: |text| effect(parse_interface(text)?, |draft, parent| draft.parent = Some(parent)),
        },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "The bridge or host interface. Required with `nictype`.",
    },
    Setting {
        name: "name",
        value: Value::Parsed {
            what: "an interface's name",
            get: |draft| draft.name.as_ref().map(ToString::to_string),
            parse: |text| effect(parse_interface(text)?, |draft, name| draft.name = Some(name)),
        },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Its name in the instance. Without it: the device's name.",
    },
    Setting {
        name: "hwaddr",
        value: Value::Parsed {
            what: "a MAC address",
            get: |draft| draft.hwaddr.map(show_hwaddr),
            parse: |text| effect(parse_hwaddr(text)?, |draft, hwaddr| draft.hwaddr = Some(hwaddr)),
        },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Its MAC address. Without it: one that is derived from the names of instance and interface, the same \
               at each start.",
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
        applies: AtRestart,
        origin: LXD,
        help: "Its MTU. Without it: the parent's.",
    },
    Setting {
        name: "host_name",
        value: Value::Parsed {
            what: "an interface's name",
            get: |draft| draft.host_name.as_ref().map(ToString::to_string),
            parse: |text| effect(parse_interface(text)?, |draft, name| draft.host_name = Some(name)),
        },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "The name of the end that the system sees.",
    },
    Setting {
        name: "ipv4.address",
        value: Value::Parsed {
            what: "an IPv4 address such as 10.158.0.20",
            get: |draft| draft.ipv4_address.as_ref().map(ToString::to_string),
            parse: |text| effect(parse_ipv4(text)?, |draft, address| draft.ipv4_address = Some(address)),
        },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "The address that the network's DHCP server gives to it. Only with `network`.",
    },
    Setting {
        name: "ipv6.address",
        value: Value::Always { value: "none", reason: "networks have no IPv6 yet" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Its IPv6 address.",
    },
    Setting {
        name: "security.mac_filtering",
        value: Value::Always { value: "false", reason: "frames are not filtered yet" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Drop what it sends under another MAC address.",
    },
    Setting {
        name: "security.ipv4_filtering",
        value: Value::Always { value: "false", reason: "packets are not filtered yet" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Drop what it sends under another IPv4 address.",
    },
    Setting {
        name: "security.ipv6_filtering",
        value: Value::Always { value: "false", reason: "packets are not filtered yet" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Drop what it sends under another IPv6 address.",
    },
    Setting {
        name: "security.port_isolation",
        value: Value::Always { value: "false", reason: "ports are not isolated yet" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Keep it from the other ports of its bridge.",
    },
    Setting {
        name: "vlan*",
        value: Value::Refused { reason: "VLANs are not made yet" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "The VLANs it is in.",
    },
    Setting {
        name: "gvrp",
        value: Value::Refused { reason: "VLANs are not made yet" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Register its VLANs by GVRP.",
    },
    Setting {
        name: "limits.*",
        value: Value::Refused { reason: "traffic is not limited yet" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "How much it may send and receive.",
    },
    Setting {
        name: "ipv4.*",
        value: Value::Refused { reason: "routes, gateways and address lists of one interface are not set yet" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Routes and gateways of the interface.",
    },
    Setting {
        name: "ipv6.*",
        value: Value::Refused { reason: "networks have no IPv6 yet" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Routes and gateways of the interface.",
    },
    Setting {
        name: "boot.priority",
        value: Value::Refused { reason: "it is for virtual machines" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "From which network a virtual machine starts.",
    },
    Setting {
        name: "queue.*",
        value: Value::Refused { reason: "the kernel's default is used" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "The length of its queue.",
    },
];
