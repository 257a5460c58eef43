//! Limits how often a network changes its address because of other networks. A hostile DHCP server decides to which network an
//! uplink is connected, and each change takes the bridge down for a moment and ends its containers' leases. So after a change the
//! network stays where it is for a while, even if it collides. Pure; the time is on the boot clock.

use std::collections::BTreeMap;
use std::time::Duration;
use yado_spec::network::{BridgeSpec, Ipv4Prefix};
use yado_wire::Text;

/// The networks that have moved.
#[derive(Debug, Default)]
pub struct SubnetMoveLimit {
    moved: BTreeMap<Text<15>, Moved>,
}

#[derive(Debug)]
struct Moved {
    /// The configured address: with another one it is as good as another network.
    configured: Ipv4Prefix,
    pause: Duration,
    until: Duration,
}

/// How long a network stays after its first move, and at most; each further move doubles it. After as long again without a
/// move, the next one counts as the first.
const FIRST_PAUSE: Duration = Duration::from_secs(300);
const MAX_PAUSE: Duration = Duration::from_secs(86400);

impl SubnetMoveLimit {
    /// The network, as configured, has moved.
    pub fn move_on(&mut self, configured: &BridgeSpec, now: Duration) {
        let Some(address) = configured.ipv4.as_ref().map(|ipv4| ipv4.address) else { return };
        let last = self.moved.get(&configured.name).filter(|last| last.configured == address);
        let last = last.filter(|last| now < last.until.saturating_add(last.pause));
        let pause = last.map_or(FIRST_PAUSE, |last| last.pause.saturating_mul(2).min(MAX_PAUSE));
        self.moved.insert(configured.name.clone(), Moved { configured: address, pause, until: now + pause });
    }

    /// Until when the network, as configured, stays where it is.
    pub fn held_until(&self, configured: &BridgeSpec, now: Duration) -> Option<Duration> {
        let address = configured.ipv4.as_ref().map(|ipv4| ipv4.address);
        let last = self.moved.get(&configured.name).filter(|last| Some(last.configured) == address)?;
        Some(last.until).filter(|until| now < *until)
    }

    /// Forgets the networks that are no more.
    pub fn retain(&mut self, configured: &[BridgeSpec]) {
        self.moved.retain(|name, _| configured.iter().any(|bridge| bridge.name == *name));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::subnets::{Move, SubnetState, assign};
    use yado_wire::names::clipped;

    /// What a hostile server grants at every renewal: the network that yado0 is on.
    #[test]
    fn a_server_that_follows_a_network_makes_it_move_ever_more_rarely() {
        let bridges = [BridgeSpec::named(clipped("yado0"))];
        let own = bridges[0].ipv4.as_ref().unwrap().address;
        let (mut pace, mut moves) = (SubnetMoveLimit::default(), Vec::new());
        let mut here = own;
        let mut moved_at = Vec::new();
        for minute in 0..24 * 60 {
            let now = Duration::from_secs(minute * 60);
            let taken = [here.into()];
            let (placed, how) =
                assign(&bridges, &moves, &taken, |bridge| pace.held_until(bridge, now).is_some()).remove(0);
            let address = placed.ipv4.as_ref().unwrap().address;
            if address == here {
                assert_eq!(how, SubnetState::Collides { with: taken[0] }, "it is told");
                continue;
            }
            pace.move_on(&bridges[0], now);
            here = address;
            moves = vec![Move { network: clipped("yado0"), from: own, to: here }];
            moved_at.push(minute);
        }
        assert_eq!(moved_at, [0, 5, 15, 35, 75, 155, 315, 635, 1275]);
        // Left alone, it may move at once; a network that is configured anew as well.
        let now = Duration::from_secs(30 * 86400);
        assert_eq!(pace.held_until(&bridges[0], now), None);
        pace.move_on(&bridges[0], now);
        assert_eq!(pace.held_until(&bridges[0], now), Some(now + FIRST_PAUSE));
        let mut other = bridges[0].clone();
        other.ipv4.as_mut().unwrap().address = Ipv4Prefix::parse("10.9.0.1/24").unwrap();
        assert_eq!(pace.held_until(&other, now), None);
        pace.retain(&[]);
        assert_eq!(pace.held_until(&bridges[0], now), None);
    }
}
