//! All names that the name servers know, as one value. It is replaced as a whole, never changed.

use std::net::Ipv4Addr;
use yado_spec::network::Ipv4Prefix;
use yado_wire::Text;

/// All bridges' names, and who is asked about others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Zones {
    /// One per bridge with an address.
    pub zones: Vec<Zone>,
    /// The uplinks' name servers, the first preferred; none: the host's resolv.conf is asked.
    pub servers: Vec<Ipv4Addr>,
}

/// The names of one bridge. Those of another bridge are none of its instances' business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Which bridge.
    pub bridge: Text<15>,
    /// Its address and network: the one who answers, and what reverse questions are ours.
    pub network: Ipv4Prefix,
    /// `dns.domain`.
    pub domain: Text<63>,
    /// Instances and their addresses, names in lower case: `NAME`, or `NAME.PROJECT`.
    pub names: Vec<(String, Ipv4Addr)>,
}

impl Zones {
    /// The zone of a bridge.
    pub fn of(&self, bridge: &str) -> Option<&Zone> {
        self.zones.iter().find(|zone| zone.bridge == bridge)
    }
}
