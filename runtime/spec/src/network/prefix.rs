//! Addresses with the length of their network's prefix.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
