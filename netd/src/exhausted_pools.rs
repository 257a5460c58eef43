//! Remembers which networks had no address left for a client, so that the log says it once and not at each try. Pure; the time is
//! on the boot clock.

use crate::dhcp::server::{AddressPool, NoAddress};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;
use yado_spec::network::{BridgeSpec, Ipv4Prefix};
use yado_wire::Text;

/// The networks that had none.
#[derive(Debug, Default)]
pub struct ExhaustedPools {
    told: BTreeMap<(Text<15>, NoAddress), Warned>,
}

#[derive(Debug)]
struct Warned {
    /// With another address or other ranges it is as good as another network.
    extent: Extent,
    until: Duration,
}

type Extent = (Ipv4Prefix, Vec<(Ipv4Addr, Ipv4Addr)>);

/// How long nobody must have gone without, so that the next one is told again. Clients ask again within minutes, so that a network
/// that stays full is told once.
const QUIET: Duration = Duration::from_secs(3600);

impl ExhaustedPools {
    /// A client of the network got none: what to say in the log, unless it was said already.
    pub fn refuse(
        &mut self,
        network: &Text<15>,
        pool: &AddressPool,
        why: NoAddress,
        now: Duration,
    ) -> Option<String> {
        let extent = (pool.bridge, pool.ranges.clone());
        let last = self.told.get(&(network.clone(), why)).filter(|last| last.extent == extent && now < last.until);
        let warning = last.is_none().then(|| warning(network, pool, why));
        self.told.insert((network.clone(), why), Warned { extent, until: now.saturating_add(QUIET) });
        warning
    }

    /// Forgets the networks that are no more.
    pub fn retain(&mut self, configured: &[BridgeSpec]) {
        self.told.retain(|(name, _), _| configured.iter().any(|bridge| bridge.name == *name));
    }
}

fn warning(network: &str, pool: &AddressPool, why: NoAddress) -> String {
    let AddressPool { bridge, ranges, expiry, domain: _, mtu: _ } = pool;
    let size = pool.usable();
    let (pool, remedy) = match ranges.as_slice() {
        [] => (bridge.to_string(), "a larger ipv4.address, such as a /23"),
        _ => ("its ipv4.dhcp.ranges".to_owned(), "larger ipv4.dhcp.ranges"),
    };
    let expiry = expiry.as_secs();
    match why {
        NoAddress::UsedUp => format!(
            "network {network}: all {size} addresses of {pool} are taken and a client gets none: give it {remedy}, or a \
             shorter ipv4.dhcp.expiry than {expiry} s"
        ),
        NoAddress::StrangersShare => format!(
            "network {network}: a client that is no instance gets none of the {size} addresses of {pool}, as others like it \
             have their share: give it {remedy}, or a shorter ipv4.dhcp.expiry than {expiry} s"
        ),
        NoAddress::TableFull => format!(
            "network {network}: a client gets no address, as one network has no more leases at a time: move some instances \
             to another network, or give it a shorter ipv4.dhcp.expiry than {expiry} s"
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use yado_wire::names::clipped;

    fn pool(address: &str, ranges: Vec<(Ipv4Addr, Ipv4Addr)>) -> AddressPool {
        let bridge = Ipv4Prefix::parse(address).unwrap();
        AddressPool { bridge, ranges, expiry: Duration::from_secs(3600), domain: clipped("lxd"), mtu: 1500 }
    }

    #[test]
    fn a_full_network_is_told_once_with_its_size_and_the_remedy() {
        let (mut pools, lan, wide) = (ExhaustedPools::default(), clipped("lan"), pool("10.1.0.1/24", vec![]));
        let minute = Duration::from_secs(60);
        let said = pools.refuse(&lan, &wide, NoAddress::UsedUp, minute).unwrap();
        assert_eq!(
            said,
            "network lan: all 253 addresses of 10.1.0.1/24 are taken and a client gets none: give it a larger ipv4.address, \
             such as a /23, or a shorter ipv4.dhcp.expiry than 3600 s"
        );
        // A day of tries, each a while after the last.
        for tries in 0..24 * 60 {
            assert_eq!(pools.refuse(&lan, &wide, NoAddress::UsedUp, minute * tries), None);
        }
        let other = clipped("other");
        assert!(pools.refuse(&other, &wide, NoAddress::UsedUp, minute).is_some(), "another network");
        assert!(pools.refuse(&lan, &wide, NoAddress::StrangersShare, minute).is_some(), "another reason");
        // Nobody went without for long enough.
        let later = minute * 24 * 60 + QUIET;
        assert!(pools.refuse(&lan, &wide, NoAddress::UsedUp, later).is_some());
        let narrow = pool("10.1.0.1/24", vec![([10, 1, 0, 2].into(), [10, 1, 0, 9].into())]);
        let said = pools.refuse(&lan, &narrow, NoAddress::UsedUp, later).unwrap();
        assert!(said.contains("all 8 addresses of its ipv4.dhcp.ranges") && said.contains("larger ipv4.dhcp.ranges"));
        assert_eq!(pools.refuse(&lan, &narrow, NoAddress::UsedUp, later), None);
        pools.retain(&[]);
        assert!(pools.told.is_empty());
    }
}
