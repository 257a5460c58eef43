//! The networks' addresses follow what this machine is connected to, and ports that flap are held down.

use crate::daemon::Netd;
use crate::link::observed::{Link, LinkKind};
use crate::reconcile::is_of;
use crate::subnets::{Move, Place, Subnet, place};
use crate::uplink::Uplink;
use std::time::Duration;
use yado_spec::network::BridgeSpec;

/// How long a port is down when its network has moved. The kernel tells that a carrier went at most once a second.
const MOVED: Duration = Duration::from_secs(2);

impl Netd {
    /// Decides about the networks' addresses. Who is on a network that moves is made to ask for a new lease.
    pub(crate) fn place_networks(&mut self, now: Duration) {
        let networks = place(&self.spec.bridges, &self.moves, &self.connected_subnets());
        for (bridge, place) in &networks {
            let before = self.networks.iter().find(|(old, _)| old.name == bridge.name);
            let address_of = |bridge: &BridgeSpec| bridge.ipv4.as_ref().map(|ipv4| ipv4.address);
            let Some(address) = address_of(bridge) else { continue };
            let old = before.and_then(|(old, _)| address_of(old));
            if old == Some(address) && before.is_some_and(|(_, old)| old == place) {
                continue;
            }
            match place {
                Place::Configured => {}
                Place::Moved { from } => tracing::warn!(
                    "network {}: {from} lies in a network that this machine is connected to; it is {} now",
                    bridge.name,
                    address
                ),
                Place::Collides { with: (subnet, length) } => tracing::error!(
                    "network {}: {} collides with {subnet}/{length}, which this machine is connected to: give it another \
                     ipv4.address",
                    bridge.name,
                    address
                ),
            }
            if old.is_some_and(|old| old != address) {
                let ports = self.attachments.iter().filter(|attachment| is_of(attachment, bridge));
                for port in ports.filter_map(|attachment| attachment.host_link.as_ref()) {
                    // Its containers see that the carrier went, and ask for a new lease.
                    self.held_ports.hold(port, now + MOVED);
                }
            }
        }
        self.moves = networks.iter().filter_map(move_of).collect();
        self.networks = networks;
    }

    /// A container that takes its interface down and up without end would have us look at the links as often.
    pub(crate) fn hold_flapping_ports(&mut self, now: Duration) {
        let names = self.attachments.iter().filter_map(|attachment| attachment.host_link.as_ref());
        let ports = names.filter_map(|name| self.observed.link(name));
        for (port, pause) in self.held_ports.look(ports, now) {
            tracing::warn!(
                "{port}: its carrier comes and goes all the time; it is left down for {} s",
                pause.as_secs()
            );
        }
    }

    /// The networks that this machine is, or is about to be, connected to by links that are not ours.
    fn connected_subnets(&self) -> Vec<Subnet> {
        let is_ours = |link: &Link| {
            link.is_ours
                || link.kind == LinkKind::Bridge && self.spec.bridges.iter().any(|bridge| *bridge.name == link.name)
        };
        let others = self.observed.links.iter().filter(|link| !is_ours(link));
        let there = others.flat_map(|link| self.observed.addresses_of(link.index));
        let there = there.map(|address| (address.address, address.prefix_len));
        let wished = self.uplinks.iter().filter_map(Uplink::wish).flat_map(|uplink| {
            let routes = uplink.routes.into_iter().map(|(network, prefix_len, _)| (network, prefix_len));
            // Half of everything is a default route in two parts (RFC 3442's users do so).
            uplink.address.into_iter().chain(routes.filter(|(_, prefix_len)| 8 <= *prefix_len))
        });
        there.chain(wished).collect()
    }
}

fn move_of((bridge, place): &(BridgeSpec, Place)) -> Option<Move> {
    match place {
        Place::Moved { from } => {
            Some(Move { network: bridge.name.clone(), from: *from, to: bridge.ipv4.as_ref()?.address })
        }
        Place::Configured | Place::Collides { .. } => None,
    }
}
