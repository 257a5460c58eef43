//! Assigns addresses to the networks that do not collide with what this machine is connected to, and holds flapping ports down.

use crate::daemon::Netd;
use crate::link::observed::Link;
use crate::reconcile::is_of;
use crate::subnets::{Move, SubnetState, assign};
use crate::uplink::Uplink;
use std::time::Duration;
use yado_spec::network::{BridgeSpec, IpPrefix};

/// How long a port is down when its network has moved. The kernel tells that a carrier went at most once a second.
const MOVED: Duration = Duration::from_secs(2);

impl Netd {
    /// Decides about the networks' addresses. Who is on a network that moves is made to ask for a new lease.
    pub(crate) fn assign_subnets(&mut self, now: Duration) {
        let is_held = |bridge: &BridgeSpec| self.subnet_move_limit.held_until(bridge, now).is_some();
        let networks = assign(&self.spec.bridges, &self.moves, &self.connected_subnets(), is_held);
        self.subnet_move_limit.retain(&self.spec.bridges);
        self.exhausted_pools.retain(&self.spec.bridges);
        for (configured, (bridge, state)) in self.spec.bridges.iter().zip(&networks) {
            let held_until = self.subnet_move_limit.held_until(configured, now);
            if let (SubnetState::Collides { .. }, Some(until)) = (state, held_until) {
                self.look_at = Some(self.look_at.map_or(until, |earlier| earlier.min(until)));
            }
            let before = self.networks.iter().find(|(old, _)| old.name == bridge.name);
            let address_of = |bridge: &BridgeSpec| bridge.ipv4.as_ref().map(|ipv4| ipv4.address);
            let Some(address) = address_of(bridge) else { continue };
            let old = before.and_then(|(old, _)| address_of(old));
            if old == Some(address) && before.is_some_and(|(_, old)| old == state) {
                continue;
            }
            match state {
                SubnetState::Configured => {}
                SubnetState::Moved { from } => tracing::warn!(
                    "network {}: {from} lies in a network that this machine is connected to; it is {} now",
                    bridge.name,
                    address
                ),
                SubnetState::Collides { with } if held_until.is_some() => tracing::error!(
                    "network {}: {} collides with {with}, which this machine is connected to now; it has moved a \
                     short while ago and stays for now",
                    bridge.name,
                    address
                ),
                SubnetState::Collides { with } => tracing::error!(
                    "network {}: {} collides with {with}, which this machine is connected to: give it another \
                     ipv4.address",
                    bridge.name,
                    address
                ),
            }
            if old.is_some_and(|old| old != address) {
                // Not if it was configured anew.
                let last = self.moves.iter().find(|one| one.network == bridge.name).map(|one| one.from).or(old);
                if last == address_of(configured) {
                    self.subnet_move_limit.move_on(configured, now);
                }
                let ports = self.attachments.iter().filter(|attachment| is_of(attachment, bridge));
                for port in ports.filter_map(|attachment| attachment.host_link.as_ref()) {
                    // Its containers see that the carrier went, and ask for a new lease.
                    self.flap_damping.hold(port, now + MOVED);
                }
            }
        }
        self.moves = self.spec.bridges.iter().zip(&networks).filter_map(move_of).collect();
        self.networks = networks;
    }

    /// A container that takes its interface down and up without end would have us look at the links as often.
    pub(crate) fn hold_flapping_ports(&mut self, now: Duration) {
        let names = self.attachments.iter().filter_map(|attachment| attachment.host_link.as_ref());
        let ports = names.filter_map(|name| self.observed.link(name));
        for (port, pause) in self.flap_damping.look(ports, now) {
            tracing::warn!(
                "{port}: its carrier comes and goes all the time; it is left down for {} s",
                pause.as_secs()
            );
        }
    }

    /// The networks that this machine is, or is about to be, connected to by links that are not ours.
    fn connected_subnets(&self) -> Vec<IpPrefix> {
        let is_ours = |link: &Link| {
            link.is_our_bridge()
                || link.is_bridge() && self.spec.bridges.iter().any(|bridge| *bridge.name == link.name)
        };
        let others = self.observed.links.iter().filter(|link| !is_ours(link));
        let there = others.flat_map(|link| self.observed.addresses_of(link.index));
        let there = there.map(|address| address.prefix);
        // The routes of a lease do not count: they are many, and whoever leases them could take every address away.
        let wanted = self.uplinks.iter().filter_map(Uplink::wanted).flat_map(|uplink| uplink.addresses);
        there.chain(wanted).collect()
    }
}

/// Also of one that has moved and is in the way again.
fn move_of((configured, (bridge, _)): (&BridgeSpec, &(BridgeSpec, SubnetState))) -> Option<Move> {
    let (from, to) = (configured.ipv4.as_ref()?.address, bridge.ipv4.as_ref()?.address);
    (from != to).then(|| Move { network: bridge.name.clone(), from, to })
}
