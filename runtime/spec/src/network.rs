//! What netd keeps: uplinks and bridges, typed and complete. Compiled from `networks/*.toml` (the file's stem is the
//! network's name) and written as `networks.bin`; each field names LXD's key. IPv6 has no keys yet: what netd does not
//! honour cannot be said here.

mod prefix;

pub use prefix::{IpPrefix, IpPrefixTooLong, Ipv4Prefix, Ipv4PrefixError};

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
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
                let addresses = addresses.iter().map(|prefix| prefix.address());
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

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
        let reported = |address| {
            let address = IpPrefix::new(address, 24).unwrap();
            AddressSource::Static(StaticAddresses {
                addresses: vec![address],
                gateways: Vec::new(),
                nameservers: Vec::new(),
            })
        };
        let ipv4 = || reported(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)));
        assert!(with_sources(vec![AddressSource::Dhcp, ipv4()]).is_ok());
        for sources in [
            vec![AddressSource::Dhcp, AddressSource::Dhcp],
            vec![AddressSource::Dhcp, ipv4(), ipv4()],
            vec![reported(IpAddr::V6(Ipv6Addr::LOCALHOST))],
        ] {
            assert_eq!(with_sources(sources), Err(NetworksError::Sources));
        }
    }
}
