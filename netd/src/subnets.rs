//! The addresses of the networks. Each has the configured one, unless that was chosen automatically and lies in a network to
//! which this machine is connected: then containers could not reach that network, and the bridge gets another address. Pure.

use std::net::Ipv4Addr;
use yado_spec::network::{BridgeSpec, IpPrefix, Ipv4Prefix};
use yado_wire::Text;

/// A network that has another address than the configured one. It keeps it until that collides as well: its containers have
/// their leases from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The network's name.
    pub network: Text<15>,
    /// The configured address.
    pub from: Ipv4Prefix,
    /// The address it has.
    pub to: Ipv4Prefix,
}

/// Where a network is, compared with its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubnetState {
    /// As configured, and in nobody's way.
    Configured,
    /// Elsewhere: its automatic address was taken.
    Moved {
        /// The configured address.
        from: Ipv4Prefix,
    },
    /// In the way of a network that this machine is connected to: the address was given, there is none left, or it has moved
    /// a short while ago.
    Collides {
        /// That network.
        with: IpPrefix,
    },
}

/// The first two numbers of the networks that are tried, /24 each: those of automatic addresses, and where 10.0.0.0/8 as a
/// whole is somebody's, two that home and office networks rarely have.
const POOLS: [[u8; 2]; 3] = [[10, 158], [172, 28], [192, 168]];

/// The networks as they are to be, in the order of `configured`. `taken` are the networks that this machine is connected to by
/// other links; a network that is held stays in their way.
pub fn assign(
    configured: &[BridgeSpec],
    moves: &[Move],
    taken: &[IpPrefix],
    is_held: impl Fn(&BridgeSpec) -> bool,
) -> Vec<(BridgeSpec, SubnetState)> {
    let mut assigned: Vec<(BridgeSpec, SubnetState)> = Vec::new();
    for bridge in configured {
        let Some(own) = bridge.ipv4.as_ref().map(|ipv4| ipv4.address) else {
            assigned.push((bridge.clone(), SubnetState::Configured));
            continue;
        };
        let collision = |address: Ipv4Prefix| taken.iter().find(|subnet| subnet.overlaps(address.into())).copied();
        // Other networks' addresses count when one is chosen. Two that are given the same are the compiler's business.
        let is_free = |address: Ipv4Prefix| {
            let mut others = configured.iter().filter(|other| other.name != bridge.name);
            let mut chosen = assigned.iter().filter_map(|(bridge, _)| bridge.ipv4.as_ref());
            let overlaps = |other: Ipv4Prefix| IpPrefix::from(other).overlaps(address.into());
            collision(address).is_none()
                && !others.any(|other| other.ipv4.as_ref().is_some_and(|ipv4| overlaps(ipv4.address)))
                && !chosen.any(|ipv4| overlaps(ipv4.address))
        };
        let moved = moves.iter().find(|one| one.network == bridge.name && one.from == own).map(|one| one.to);
        let here = moved.unwrap_or(own);
        if let Some(with) = collision(here).filter(|_| is_held(bridge)) {
            assigned.push((moved_to(bridge, here), SubnetState::Collides { with }));
            continue;
        }
        let to = match (moved, collision(own)) {
            (Some(to), _) if is_free(to) => Some(to),
            (_, None) => None,
            (_, Some(_)) if own != Ipv4Prefix::auto(&bridge.name) => None,
            (_, Some(_)) => candidates().find(|address| is_free(*address)),
        };
        assigned.push(match (to, collision(own)) {
            (Some(to), _) => (moved_to(bridge, to), SubnetState::Moved { from: own }),
            (None, Some(with)) => (bridge.clone(), SubnetState::Collides { with }),
            (None, None) => (bridge.clone(), SubnetState::Configured),
        });
    }
    assigned
}

/// The moves of a predecessor that wrote none down, by the addresses that its bridges have. Only an automatic address moves, and
/// only to one of those that are tried.
pub fn moves_seen(configured: &[BridgeSpec], address_of: impl Fn(&BridgeSpec) -> Option<IpPrefix>) -> Vec<Move> {
    let seen = configured.iter().filter_map(|bridge| {
        let from = bridge.ipv4.as_ref()?.address;
        let address = address_of(bridge)?;
        let to = candidates().find(|to| IpPrefix::from(*to) == address)?;
        let has_moved = from == Ipv4Prefix::auto(&bridge.name) && from != to;
        has_moved.then(|| Move { network: bridge.name.clone(), from, to })
    });
    seen.collect()
}

/// `address` as a host of `network`: that part which names the host stays.
pub fn host_in(address: Ipv4Addr, network: Ipv4Prefix) -> Ipv4Addr {
    Ipv4Addr::from_bits(network.network().to_bits() | address.to_bits() & !network.mask().to_bits())
}

fn candidates() -> impl Iterator<Item = Ipv4Prefix> {
    let addresses = POOLS.iter().flat_map(|[a, b]| (0..=255).map(|c| Ipv4Addr::new(*a, *b, c, 1)));
    addresses.filter_map(|address| Ipv4Prefix::new(address, 24).ok())
}

fn moved_to(bridge: &BridgeSpec, to: Ipv4Prefix) -> BridgeSpec {
    let mut bridge = bridge.clone();
    if let Some(ipv4) = &mut bridge.ipv4 {
        ipv4.address = to;
        let ranges = ipv4.dhcp.iter_mut().flat_map(|dhcp| &mut dhcp.ranges);
        ranges.for_each(|(first, last)| (*first, *last) = (host_in(*first, to), host_in(*last, to)));
    }
    bridge
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use yado_wire::names::clipped;

    fn prefix(text: &str) -> Ipv4Prefix {
        Ipv4Prefix::parse(text).unwrap()
    }

    fn addresses(assigned: &[(BridgeSpec, SubnetState)]) -> Vec<String> {
        assigned.iter().map(|(bridge, _)| bridge.ipv4.as_ref().unwrap().address.to_string()).collect()
    }

    #[test]
    fn an_automatic_network_moves_out_of_the_way_and_stays_where_it_is() {
        let own = prefix("10.158.0.1/24");
        let bridges = [BridgeSpec::named(clipped("yado0"))];
        let at = |address: [u8; 4], prefix_len| IpPrefix::new(address.into(), prefix_len).unwrap();
        assert_eq!(assign(&bridges, &[], &[at([192, 168, 1, 7], 24)], |_| false)[0].1, SubnetState::Configured);
        for (taken, expected) in [
            (vec![at([10, 158, 0, 77], 24)], "10.158.1.1/24"),
            (vec![at([10, 158, 0, 200], 30)], "10.158.1.1/24"),
            (vec![at([10, 158, 0, 77], 24), at([10, 158, 1, 1], 32)], "10.158.2.1/24"),
            (vec![at([10, 0, 0, 5], 8)], "172.28.0.1/24"),
            (vec![at([10, 0, 0, 5], 8), at([172, 16, 0, 1], 12)], "192.168.0.1/24"),
        ] {
            let assigned = assign(&bridges, &[], &taken, |_| false);
            assert_eq!(
                (addresses(&assigned), assigned[0].1),
                (vec![expected.to_owned()], SubnetState::Moved { from: own })
            );
            // Also when the way is free again, and anew when it is not.
            let moves = [Move { network: clipped("yado0"), from: own, to: prefix(expected) }];
            assert_eq!(assign(&bridges, &moves, &[], |_| false), assigned);
            let both = [&taken[..], &[IpPrefix::from(prefix(expected))]].concat();
            assert_ne!(addresses(&assign(&bridges, &moves, &both, |_| false)), [expected]);
        }
        let everything = [at([0, 0, 0, 0], 0)];
        assert_eq!(assign(&bridges, &[], &everything, |_| false)[0].1, SubnetState::Collides { with: everything[0] });
    }

    #[test]
    fn a_move_that_nobody_wrote_down_is_seen_by_the_bridges_address() {
        let automatic = BridgeSpec::named(clipped("yado0"));
        let own = automatic.ipv4.as_ref().unwrap().address;
        let mut given = automatic.clone();
        given.ipv4.as_mut().unwrap().address = prefix("10.9.0.1/24");
        let to = prefix("10.158.1.1/24");
        let moved = [Move { network: clipped("yado0"), from: own, to }];
        for (bridge, address, expected) in [
            (&automatic, Some(to.into()), &moved[..]),
            (&automatic, Some(own.into()), &[]),
            (&automatic, Some(prefix("10.1.2.3/24").into()), &[]),
            (&automatic, None, &[]),
            (&given, Some(to.into()), &[]),
        ] {
            assert_eq!(moves_seen(std::slice::from_ref(bridge), |_| address), expected, "{address:?}");
        }
    }

    #[test]
    fn an_address_that_was_given_stays_and_is_told() {
        let mut given = BridgeSpec::named(clipped("lan0"));
        given.ipv4.as_mut().unwrap().address = prefix("10.9.0.1/24");
        let taken = IpPrefix::new([10, 9, 0, 3].into(), 16).unwrap();
        let assigned = assign(&[given], &[], &[taken], |_| false);
        assert_eq!(
            (addresses(&assigned), assigned[0].1),
            (vec!["10.9.0.1/24".to_owned()], SubnetState::Collides { with: taken })
        );
    }

    #[test]
    fn networks_do_not_move_into_each_other_and_take_their_hosts_along() {
        let mut first = BridgeSpec::named(clipped("yado0"));
        let dhcp = first.ipv4.as_mut().unwrap().dhcp.as_mut().unwrap();
        dhcp.ranges = vec![(Ipv4Addr::new(10, 158, 0, 9), Ipv4Addr::new(10, 158, 0, 20))];
        let mut given = BridgeSpec::named(clipped("lan0"));
        given.ipv4.as_mut().unwrap().address = prefix("10.158.1.1/24");
        let assigned = assign(&[first, given], &[], &[prefix("10.158.0.1/24").into()], |_| false);
        assert_eq!(addresses(&assigned), ["10.158.2.1/24", "10.158.1.1/24"]);
        let ranges = &assigned[0].0.ipv4.as_ref().unwrap().dhcp.as_ref().unwrap().ranges;
        assert_eq!(ranges[..], [(Ipv4Addr::new(10, 158, 2, 9), Ipv4Addr::new(10, 158, 2, 20))]);
        assert_eq!(host_in(Ipv4Addr::new(10, 158, 0, 9), prefix("172.28.0.1/24")), Ipv4Addr::new(172, 28, 0, 9));
    }
}
