//! What netd keeps: uplinks and bridges, typed and complete. Compiled from `networks/*.toml` (the file's stem is the
//! network's name) and written as `networks.bin`; each field names LXD's key. IPv6 has no keys yet: what netd does not
//! honour cannot be said here.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::time::Duration;
use yado_wire::Text;

/// All networks of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworksSpec {
    /// `type = "physical"`: links that lead outside, the preferred one first. At most [`NetworksSpec::MAX_UPLINKS`].
    pub uplinks: Vec<UplinkSpec>,
    /// `type = "bridge"` (the default type). At most [`NetworksSpec::MAX_BRIDGES`].
    pub bridges: Vec<BridgeSpec>,
}

/// A link that leads outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkSpec {
    /// The network's name: the file's stem.
    pub name: Text<15>,
    /// `parent`: which link.
    pub link: LinkSelector,
    /// How it gets its address.
    pub ipv4: UplinkIpv4,
    /// `mtu`; `None`: what DHCP says, else what the link has.
    pub mtu: Option<u16>,
}

/// Which link an uplink is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkSelector {
    /// No `parent`: the first Ethernet link that has hardware behind it and is not taken by another uplink, a bridge's
    /// external interfaces, or an instance.
    FirstEthernet,
    /// `parent = "eth0"`: the link of this name.
    Name(Text<15>),
    /// `parent = "52:54:00:12:34:56"` (ours): the link with this permanent address, whatever it is called.
    Address([u8; 6]),
}

/// How an uplink gets its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UplinkIpv4 {
    /// `ipv4.dhcp = true`, the default.
    Dhcp,
    /// `ipv4.address` (ours on a physical network), `ipv4.gateway`, `dns.nameservers`.
    Static {
        /// `ipv4.address = "192.168.7.2/24"`.
        address: Ipv4Prefix,
        /// `ipv4.gateway = "192.168.7.1"`, a trailing prefix length is ignored.
        gateway: Option<Ipv4Addr>,
        /// `dns.nameservers`, comma separated; at most three are used.
        nameservers: Vec<Ipv4Addr>,
    },
    /// `ipv4.dhcp = false` and no address: the link is only brought up.
    None,
}

/// A bridge netd makes and serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeSpec {
    /// The network's name, which is the link's name.
    pub name: Text<15>,
    /// `ipv4.*`; `None`: `ipv4.address = "none"`, a bridge without addresses.
    pub ipv4: Option<BridgeIpv4>,
    /// `dns.*`.
    pub dns: BridgeDns,
    /// `bridge.mtu`; `None`: 1500.
    pub mtu: Option<u16>,
    /// `bridge.hwaddr`; `None`: derived from the machine and the name, the same at every boot.
    pub hwaddr: Option<[u8; 6]>,
    /// `bridge.external_interfaces`, comma separated: host links that are ports of it. At most 8.
    pub external_interfaces: Vec<Text<15>>,
}

/// `ipv4.*` of a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeIpv4 {
    /// `ipv4.address = "10.158.0.1/24"`: the bridge's own address. `auto` is [`Ipv4Prefix::auto`] of the name.
    pub address: Ipv4Prefix,
    /// `ipv4.nat`: what leaves by another link gets that link's address. LXD's default is false for an address that was
    /// given and true for `auto`.
    pub nat: bool,
    /// `ipv4.routing`, default true: packets may pass between the bridge and other links.
    pub routing: bool,
    /// `ipv4.firewall`, default true: rules that accept what the bridge needs.
    pub firewall: bool,
    /// `ipv4.dhcp.*`; `None`: `ipv4.dhcp = false`.
    pub dhcp: Option<DhcpSpec>,
}

/// `ipv4.dhcp.*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpSpec {
    /// `ipv4.dhcp.ranges = "10.158.0.2-10.158.0.99, …"`, ends included; empty: every address of the network but its
    /// first, its last and the bridge's. At most 16.
    pub ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// `ipv4.dhcp.expiry`, default `1h`: how long a lease lasts.
    pub expiry: Duration,
}

/// `dns.*` of a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeDns {
    /// `dns.mode`, default `managed`.
    pub mode: DnsMode,
    /// `dns.domain`, default `lxd`: lower-case labels without a trailing dot.
    pub domain: Text<63>,
}

/// `dns.mode`. LXD's `dynamic` (clients choose their own names) is not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DnsMode {
    /// Instances are known by their names.
    Managed,
    /// No name of an instance is answered; questions about other names are still passed on.
    None,
}

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(Ipv4Addr, u8)", into = "(Ipv4Addr, u8)")]
pub struct Ipv4Prefix {
    address: Ipv4Addr,
    prefix_len: u8,
}

/// Why a text or a pair is no address with prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv4PrefixError {
    /// Not of the form `10.158.0.1/24`.
    Form,
    /// A network of fewer than four addresses, or larger than a /8.
    Length {
        /// What was said.
        prefix_len: u8,
    },
    /// The address is the network's own or its broadcast address, or none a host can have.
    NoHost,
}

impl NetworksSpec {
    /// A board has a handful of ports.
    pub const MAX_UPLINKS: usize = 8;
    /// Each bridge costs a DHCP and a DNS socket.
    pub const MAX_BRIDGES: usize = 16;

    /// What holds when nothing was said: the first Ethernet link asks for an address, and `yado0` is a NATed bridge.
    pub fn default_networks() -> NetworksSpec {
        NetworksSpec {
            uplinks: vec![UplinkSpec {
                name: yado_wire::names::clipped("uplink"),
                link: LinkSelector::FirstEthernet,
                ipv4: UplinkIpv4::Dhcp,
                mtu: None,
            }],
            bridges: vec![BridgeSpec::named(yado_wire::names::clipped("yado0"))],
        }
    }

    /// The bytes of `networks.bin`.
    pub fn encode(&self) -> Vec<u8> {
        // Serialising plain vectors and integers into a growing vector cannot fail.
        postcard::to_extend(self, MAGIC.to_vec()).unwrap_or_default()
    }

    /// Reads what [`NetworksSpec::encode`] wrote. Trailing bytes and more networks than the limits are errors.
    pub fn decode(bytes: &[u8]) -> Result<NetworksSpec, NetworksError> {
        let body = bytes.strip_prefix(&MAGIC).ok_or(NetworksError::Magic)?;
        let Ok((spec, [])) = postcard::take_from_bytes::<NetworksSpec>(body) else {
            return Err(NetworksError::Body);
        };
        if Self::MAX_UPLINKS < spec.uplinks.len() || Self::MAX_BRIDGES < spec.bridges.len() {
            return Err(NetworksError::TooMany);
        }
        Ok(spec)
    }
}

/// `YNET` and the schema's version, which rises with every change of the types above; the compiler then writes it anew.
const MAGIC: [u8; 8] = *b"YNET\0\0\0\x01";

/// Why bytes are no `networks.bin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworksError {
    /// Another file, or another version.
    Magic,
    /// Cut off, malformed, or followed by more bytes.
    Body,
    /// More uplinks or bridges than the limits.
    TooMany,
}

impl core::fmt::Display for NetworksError {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str(match self {
            NetworksError::Magic => "networks: not of this version",
            NetworksError::Body => "networks: malformed",
            NetworksError::TooMany => "networks: more than the limit",
        })
    }
}

impl std::error::Error for NetworksError {}

impl BridgeSpec {
    /// A bridge with every key at its default and `ipv4.address = "auto"`.
    pub fn named(name: Text<15>) -> BridgeSpec {
        BridgeSpec {
            ipv4: Some(BridgeIpv4 {
                address: Ipv4Prefix::auto(&name),
                nat: true,
                routing: true,
                firewall: true,
                dhcp: Some(DhcpSpec { ranges: Vec::new(), expiry: DhcpSpec::DEFAULT_EXPIRY }),
            }),
            name,
            dns: BridgeDns { mode: DnsMode::Managed, domain: yado_wire::names::clipped("lxd") },
            mtu: None,
            hwaddr: None,
            external_interfaces: Vec::new(),
        }
    }

    /// What it cannot share with another bridge, and does: a network, or a port.
    pub fn clash(&self, other: &BridgeSpec) -> Option<String> {
        if let (Some(mine), Some(theirs)) = (&self.ipv4, &other.ipv4) {
            let (mine, theirs) = (mine.address, theirs.address);
            if mine.contains(theirs.network()) || theirs.contains(mine.network()) {
                return Some(format!("ipv4.address {mine} is in the network of {} ({theirs})", other.name));
            }
        }
        let shared = self.external_interfaces.iter().find(|port| other.external_interfaces.contains(port))?;
        Some(format!("the interface {shared} is a port of {} already", other.name))
    }
}

impl DhcpSpec {
    /// LXD's default of `ipv4.dhcp.expiry`.
    pub const DEFAULT_EXPIRY: Duration = Duration::from_secs(3600);
}

impl Ipv4Prefix {
    /// An address a host can have in a network of 2 to 2^24 hosts.
    pub fn new(address: Ipv4Addr, prefix_len: u8) -> Result<Ipv4Prefix, Ipv4PrefixError> {
        if !(8..=30).contains(&prefix_len) {
            return Err(Ipv4PrefixError::Length { prefix_len });
        }
        let prefix = Ipv4Prefix { address, prefix_len };
        let is_usable = !address.is_multicast() && !address.is_loopback() && address.octets()[0] != 0;
        if !is_usable || address == prefix.network() || address == prefix.broadcast() {
            return Err(Ipv4PrefixError::NoHost);
        }
        Ok(prefix)
    }

    /// Reads `10.158.0.1/24`.
    pub fn parse(text: &str) -> Result<Ipv4Prefix, Ipv4PrefixError> {
        let (address, prefix_len) = text.split_once('/').ok_or(Ipv4PrefixError::Form)?;
        let address = address.parse().map_err(|_| Ipv4PrefixError::Form)?;
        let prefix_len = prefix_len.parse().map_err(|_| Ipv4PrefixError::Form)?;
        Ipv4Prefix::new(address, prefix_len)
    }

    /// What `ipv4.address = "auto"` means: `yado0` is 10.158.0.1/24, and any other name always gives the same network of
    /// 10.158.0.0/16. LXD picks one at random and remembers it; a name needs no memory. Two names can meet in one network,
    /// which the compiler reports.
    pub fn auto(name: &str) -> Ipv4Prefix {
        let hash = yado_wire::hash::fnv32(name.bytes());
        let third = if name == "yado0" { 0 } else { 1 + (hash % 255) as u8 };
        Ipv4Prefix { address: Ipv4Addr::new(10, 158, third, 1), prefix_len: 24 }
    }

    /// The address itself.
    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    /// The prefix's length, 8 to 30.
    pub fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// The network's mask.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX << (32 - u32::from(self.prefix_len)))
    }

    /// The network's first address.
    pub fn network(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() & self.mask().to_bits())
    }

    /// The network's last address.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.mask().to_bits())
    }

    /// Whether `address` is of this network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask().to_bits() == self.network().to_bits()
    }
}

impl core::fmt::Display for Ipv4Prefix {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix_len)
    }
}

impl TryFrom<(Ipv4Addr, u8)> for Ipv4Prefix {
    type Error = Ipv4PrefixError;

    fn try_from((address, prefix_len): (Ipv4Addr, u8)) -> Result<Ipv4Prefix, Ipv4PrefixError> {
        Ipv4Prefix::new(address, prefix_len)
    }
}

impl From<Ipv4Prefix> for (Ipv4Addr, u8) {
    fn from(prefix: Ipv4Prefix) -> (Ipv4Addr, u8) {
        (prefix.address, prefix.prefix_len)
    }
}

impl core::fmt::Display for Ipv4PrefixError {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Ipv4PrefixError::Form => out.write_str("not an address with prefix length, such as 10.158.0.1/24"),
            Ipv4PrefixError::Length { prefix_len } => write!(out, "prefix length {prefix_len}, must be 8 to 30"),
            Ipv4PrefixError::NoHost => out.write_str("not an address that a host can have in this network"),
        }
    }
}

impl std::error::Error for Ipv4PrefixError {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// First and last address of the network, or why not.
    type Expected = Result<(&'static str, &'static str), Ipv4PrefixError>;

    #[test]
    fn an_address_with_prefix_is_one_that_a_host_can_have() {
        let cases: &[(&str, Expected)] = &[
            ("10.158.0.1/24", Ok(("10.158.0.0", "10.158.0.255"))),
            ("192.168.7.6/30", Ok(("192.168.7.4", "192.168.7.7"))),
            ("10.0.0.1/8", Ok(("10.0.0.0", "10.255.255.255"))),
            ("10.158.0.1", Err(Ipv4PrefixError::Form)),
            ("10.158.0/24", Err(Ipv4PrefixError::Form)),
            ("10.158.0.1/x", Err(Ipv4PrefixError::Form)),
            ("10.158.0.1/31", Err(Ipv4PrefixError::Length { prefix_len: 31 })),
            ("10.158.0.1/7", Err(Ipv4PrefixError::Length { prefix_len: 7 })),
            ("10.158.0.0/24", Err(Ipv4PrefixError::NoHost)),
            ("10.158.0.255/24", Err(Ipv4PrefixError::NoHost)),
            ("127.0.0.1/24", Err(Ipv4PrefixError::NoHost)),
            ("224.0.0.1/24", Err(Ipv4PrefixError::NoHost)),
        ];
        for (text, expected) in cases {
            let found = Ipv4Prefix::parse(text);
            let shown = found.map(|prefix| (prefix.network().to_string(), prefix.broadcast().to_string()));
            assert_eq!(shown, expected.map(|(net, last)| (net.to_owned(), last.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_was_written_is_read_back_and_nothing_else_is() {
        let spec = NetworksSpec::default_networks();
        let bytes = spec.encode();
        assert_eq!(NetworksSpec::decode(&bytes), Ok(spec));
        assert_eq!(NetworksSpec::decode(b"YNET\0\0\0\x02"), Err(NetworksError::Magic));
        assert_eq!(NetworksSpec::decode(&bytes[..bytes.len() - 1]), Err(NetworksError::Body));
        assert_eq!(NetworksSpec::decode(&[&bytes[..], &[0]].concat()), Err(NetworksError::Body));
        let many = NetworksSpec { uplinks: vec![], bridges: vec![BridgeSpec::named(Text::new()); 17] };
        assert_eq!(NetworksSpec::decode(&many.encode()), Err(NetworksError::TooMany));
    }

    #[test]
    fn an_automatic_address_never_changes() {
        assert_eq!(Ipv4Prefix::auto("yado0").to_string(), "10.158.0.1/24");
        assert_eq!(Ipv4Prefix::auto("lxdbr0"), Ipv4Prefix::auto("lxdbr0"));
        assert_ne!(Ipv4Prefix::auto("lxdbr0"), Ipv4Prefix::auto("lxdbr1"));
    }
}
