//! What netd keeps: uplinks and bridges, typed and complete. Compiled from `networks/*.toml` (the file's stem is the
//! network's name) and written as `networks.bin`; each field names LXD's key. IPv6 has no keys yet: what netd does not
//! honour cannot be said here.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
    /// Where its addresses come from; none: the link is only brought up. At most [`UplinkSpec::MAX_SOURCES`].
    pub sources: Vec<AddressSource>,
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

/// Where an uplink's addresses, routers and name servers come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressSource {
    /// `ipv4.dhcp = true`, the default. At most once.
    Dhcp,
    /// What is said, as long as it is said.
    Static(StaticAddresses),
}

/// `ipv4.address` (ours on a physical network), `ipv4.gateway`, `dns.nameservers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticAddresses {
    /// `ipv4.address = "192.168.7.2/24"`.
    pub addresses: Vec<IpPrefix>,
    /// `ipv4.gateway = "192.168.7.1"`, a trailing prefix length is ignored: the routers to everywhere, one of each family.
    pub gateways: Vec<IpAddr>,
    /// `dns.nameservers`, comma separated; at most three are used.
    pub nameservers: Vec<IpAddr>,
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

/// An address of either family with the length of its network's prefix, whatever a host or a router may have; [`Ipv4Prefix`]
/// is what a network of ours may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(IpAddr, u8)", into = "(IpAddr, u8)")]
pub struct IpPrefix {
    address: IpAddr,
    prefix_len: u8,
}

/// A prefix that is longer than the addresses of its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpPrefixTooLong;

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
                sources: vec![AddressSource::Dhcp],
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
        if !spec.uplinks.iter().all(UplinkSpec::is_honoured) {
            return Err(NetworksError::Sources);
        }
        Ok(spec)
    }
}

/// `YNET` and the schema's version, which rises with every change of the types above; the compiler then writes it anew.
const MAGIC: [u8; 8] = *b"YNET\0\0\0\x02";

/// Why bytes are no `networks.bin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworksError {
    /// Another file, or another version.
    Magic,
    /// Cut off, malformed, or followed by more bytes.
    Body,
    /// More uplinks or bridges than the limits.
    TooMany,
    /// An uplink with more sources of addresses than the limit, with DHCP twice, or with IPv6, which has no keys yet.
    Sources,
}

impl core::fmt::Display for NetworksError {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str(match self {
            NetworksError::Magic => "networks: not of this version",
            NetworksError::Body => "networks: malformed",
            NetworksError::TooMany => "networks: more than the limit",
            NetworksError::Sources => "networks: an uplink with sources of addresses that it cannot have",
        })
    }
}

impl std::error::Error for NetworksError {}

impl UplinkSpec {
    /// DHCP, and what is said.
    pub const MAX_SOURCES: usize = 2;

    fn is_honoured(&self) -> bool {
        let has_only_ipv4 = |source: &AddressSource| match source {
            AddressSource::Dhcp => true,
            AddressSource::Static(StaticAddresses { addresses, gateways, nameservers }) => {
                let addresses = addresses.iter().map(|prefix| prefix.address);
                addresses.chain(gateways.iter().copied()).chain(nameservers.iter().copied()).all(|ip| ip.is_ipv4())
            }
        };
        let of_dhcp = self.sources.iter().filter(|source| **source == AddressSource::Dhcp).count();
        self.sources.len() <= Self::MAX_SOURCES && of_dhcp <= 1 && self.sources.iter().all(has_only_ipv4)
    }
}

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
        let third = if name == "yado0" { 0 } else { ((hash % 255) as u8).saturating_add(1) };
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
        let host_bits = u32::BITS.saturating_sub(self.prefix_len.into());
        Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
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

impl IpPrefix {
    /// Every address of IPv4.
    pub const ALL_IPV4: IpPrefix = IpPrefix { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix_len: 0 };
    /// Every address of IPv6.
    pub const ALL_IPV6: IpPrefix = IpPrefix { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix_len: 0 };

    /// An address in a network of this size.
    pub fn new(address: IpAddr, prefix_len: u8) -> Result<IpPrefix, IpPrefixTooLong> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix_len <= bits { Ok(IpPrefix { address, prefix_len }) } else { Err(IpPrefixTooLong) }
    }

    /// The address itself.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The prefix's length, 0 to 32 or 128.
    pub fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// The network's first address, with the same length.
    #[must_use]
    pub fn network(self) -> IpPrefix {
        let length = u32::from(self.prefix_len);
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(u32::BITS.saturating_sub(length)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(u128::BITS.saturating_sub(length)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        };
        IpPrefix { address, prefix_len: self.prefix_len }
    }

    /// Whether the two networks have an address in common.
    pub fn overlaps(self, other: IpPrefix) -> bool {
        let prefix_len = self.prefix_len.min(other.prefix_len);
        let wider = |prefix: IpPrefix| IpPrefix { address: prefix.address, prefix_len }.network();
        wider(self) == wider(other)
    }
}

impl From<Ipv4Prefix> for IpPrefix {
    fn from(prefix: Ipv4Prefix) -> IpPrefix {
        IpPrefix { address: IpAddr::V4(prefix.address), prefix_len: prefix.prefix_len }
    }
}

/// The error also says that it is of another family.
impl TryFrom<IpPrefix> for Ipv4Prefix {
    type Error = Ipv4PrefixError;

    fn try_from(prefix: IpPrefix) -> Result<Ipv4Prefix, Ipv4PrefixError> {
        match prefix.address {
            IpAddr::V4(address) => Ipv4Prefix::new(address, prefix.prefix_len),
            IpAddr::V6(_) => Err(Ipv4PrefixError::Form),
        }
    }
}

impl TryFrom<(IpAddr, u8)> for IpPrefix {
    type Error = IpPrefixTooLong;

    fn try_from((address, prefix_len): (IpAddr, u8)) -> Result<IpPrefix, IpPrefixTooLong> {
        IpPrefix::new(address, prefix_len)
    }
}

impl From<IpPrefix> for (IpAddr, u8) {
    fn from(prefix: IpPrefix) -> (IpAddr, u8) {
        (prefix.address, prefix.prefix_len)
    }
}

impl core::fmt::Display for IpPrefix {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix_len)
    }
}

impl core::fmt::Display for IpPrefixTooLong {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str("a prefix longer than the address")
    }
}

impl std::error::Error for IpPrefixTooLong {}

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
        assert_eq!(NetworksSpec::decode(b"YNET\0\0\0\x03"), Err(NetworksError::Magic));
        assert_eq!(NetworksSpec::decode(&bytes[..bytes.len() - 1]), Err(NetworksError::Body));
        assert_eq!(NetworksSpec::decode(&[&bytes[..], &[0]].concat()), Err(NetworksError::Body));
        let many = NetworksSpec { uplinks: vec![], bridges: vec![BridgeSpec::named(Text::new()); 17] };
        assert_eq!(NetworksSpec::decode(&many.encode()), Err(NetworksError::TooMany));
        let with_sources = |sources| {
            let mut spec = NetworksSpec::default_networks();
            spec.uplinks[0].sources = sources;
            NetworksSpec::decode(&spec.encode())
        };
        let said = |address| {
            let address = IpPrefix::new(address, 24).unwrap();
            AddressSource::Static(StaticAddresses {
                addresses: vec![address],
                gateways: Vec::new(),
                nameservers: Vec::new(),
            })
        };
        let ipv4 = || said(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)));
        assert!(with_sources(vec![AddressSource::Dhcp, ipv4()]).is_ok());
        for sources in [
            vec![AddressSource::Dhcp, AddressSource::Dhcp],
            vec![AddressSource::Dhcp, ipv4(), ipv4()],
            vec![said(IpAddr::V6(Ipv6Addr::LOCALHOST))],
        ] {
            assert_eq!(with_sources(sources), Err(NetworksError::Sources));
        }
    }

    #[test]
    fn a_prefix_of_either_family_has_a_network_and_overlaps_another() {
        let prefix = |text: &str| {
            let (address, length) = text.split_once('/').unwrap();
            IpPrefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
        };
        for (text, network) in [
            ("10.9.8.7/16", "10.9.0.0/16"),
            ("10.9.8.7/0", "0.0.0.0/0"),
            ("10.9.8.7/32", "10.9.8.7/32"),
            ("fd00:1:2::7/32", "fd00:1::/32"),
            ("fd00::7/0", "::/0"),
        ] {
            assert_eq!(prefix(text).network().to_string(), network);
        }
        for (one, other, expected) in [
            ("10.9.8.7/16", "10.9.200.1/24", true),
            ("10.9.8.7/16", "10.10.0.0/16", false),
            ("10.9.8.7/16", "0.0.0.0/0", true),
            ("fd00::1/64", "fd00::2/128", true),
            ("fd00::1/64", "0.0.0.0/0", false),
        ] {
            assert_eq!(
                (prefix(one).overlaps(prefix(other)), prefix(other).overlaps(prefix(one))),
                (expected, expected)
            );
        }
        assert_eq!(IpPrefix::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 33), Err(IpPrefixTooLong));
    }

    #[test]
    fn an_automatic_address_never_changes() {
        assert_eq!(Ipv4Prefix::auto("yado0").to_string(), "10.158.0.1/24");
        assert_eq!(Ipv4Prefix::auto("lxdbr0"), Ipv4Prefix::auto("lxdbr0"));
        assert_ne!(Ipv4Prefix::auto("lxdbr0"), Ipv4Prefix::auto("lxdbr1"));
    }
}
