//! Reads the networks at the start, and again while containers run. Changes take effect at once, and the client that asked for it
//! is told what failed.
//!
//! The links of containers stay. If a network gets another address, its ports are down for a moment: from the lost carrier the
//! DHCP clients in the containers learn that their leases are over.

use crate::arguments::Arguments;
use crate::daemon::Netd;
use crate::failures::PendingFailure;
use crate::networks::{ReadNetworksError, Refused, change_networks, read_networks};
use crate::nic::Connection;
use crate::saved::Attachment;
use crate::uplink::Uplink;
use std::time::Duration;
use yado_spec::NetworksSpec;
use yado_spec::network::{BridgeSpec, LinkSelector};
use yado_sys::replace_file::replace_unsynced;
use yado_wire::network::NetReply;
use yado_wire::{InstanceName, Text};

/// What networks had and have no more, until the kernel has taken it back.
#[derive(Debug, Default)]
pub(crate) struct GivenUp {
    /// External interfaces: the network's name, and theirs.
    pub(crate) ports: Vec<(Text<15>, Text<15>)>,
    /// Uplinks' links: the network's name, and their index.
    pub(crate) links: Vec<(Text<15>, u32)>,
}

/// The networks at the start.
pub(crate) struct FirstNetworks {
    pub(crate) spec: NetworksSpec,
    /// What `networks.kept` holds.
    pub(crate) kept: Option<NetworksSpec>,
    /// Neither file could be read: there may be networks that nobody knows of.
    pub(crate) is_guessing: bool,
}

const KEPT: &str = "networks.kept";

/// What networks there are at the start. If nobody says any, better the default ones, and a line that says so, than no way in.
pub(crate) fn first_networks(arguments: &Arguments, attachments: &[Attachment]) -> FirstNetworks {
    let (kept, is_kept_known) = match read_networks(&[arguments.run.join(KEPT)]) {
        Ok(kept) => (Some(kept), true),
        Err(error) if error.is_absent() => (None, true),
        Err(error) => {
            tracing::error!("{error}");
            (None, false)
        }
    };
    match wanted_networks(arguments) {
        Ok(wanted) => {
            let none = NetworksSpec { uplinks: Vec::new(), bridges: Vec::new() };
            let current = kept.as_ref().unwrap_or(&none);
            let (spec, refused) = change_networks(current, wanted, |bridge| users_of(bridge, attachments));
            refused.iter().for_each(tell);
            FirstNetworks { spec, kept, is_guessing: false }
        }
        Err(error) => {
            let is_first = error.is_absent() && is_kept_known;
            match (&kept, is_first) {
                (Some(_), _) => tracing::error!("{error}; the networks stay as they were"),
                (None, false) => tracing::error!("{error}; using the default networks, and existing bridges stay"),
                (None, true) => tracing::info!("no networks are configured: using the default ones"),
            }
            let spec = kept.clone().unwrap_or_else(|| offered_here(NetworksSpec::default_networks(), arguments));
            FirstNetworks { spec, is_guessing: kept.is_none() && !is_first, kept }
        }
    }
}

impl Netd {
    /// Reads the networks anew, and makes them so.
    pub(crate) async fn reload(&mut self, now: Duration) -> Vec<NetReply> {
        let wanted = match wanted_networks(&self.arguments) {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::error!("{error}; the networks stay as they are");
                return vec![NetReply::Failed(error.failure())];
            }
        };
        let (spec, refused) = change_networks(&self.spec, wanted, |bridge| users_of(bridge, &self.attachments));
        refused.iter().for_each(tell);
        let ports = spec.bridges.iter().flat_map(|bridge| &bridge.external_interfaces);
        let ports: Vec<&Text<15>> = ports.collect();
        for bridge in &self.spec.bridges {
            let released = bridge.external_interfaces.iter().filter(|port| !ports.contains(port));
            self.given_up.ports.extend(released.map(|port| (bridge.name.clone(), port.clone())));
        }
        self.spec = spec;
        self.is_guessing = false;
        self.take_networks();
        tracing::info!(
            "networks read again: {} bridges, {} uplinks",
            self.spec.bridges.len(),
            self.spec.uplinks.len()
        );
        self.reconcile(now).await;
        let refused = refused.iter().map(|one| (Some(one.network().clone()), one.failure()));
        let failures =
            self.failures.iter().map(|PendingFailure { network, failure }| (network.clone(), failure.clone()));
        let replies = refused.chain(failures).map(|(network, failure)| NetReply::NetworkFailed { network, failure });
        replies.chain([NetReply::Done]).collect()
    }

    /// Takes over what `spec` says about uplinks; one whose link is chosen as before keeps it, and its lease.
    pub(crate) fn take_networks(&mut self) {
        let mut old = std::mem::take(&mut self.uplinks);
        for (place, spec) in self.spec.uplinks.iter().enumerate() {
            let same = old.iter().position(|uplink| uplink.spec.link == spec.link && uplink.place == place);
            self.uplinks.push(match same {
                Some(at) => old.swap_remove(at).reconfigured(spec.clone()),
                None => Uplink::new(spec.clone(), place),
            });
        }
        let links = old.iter().filter_map(|uplink| Some((uplink.spec.name.clone(), uplink.choice.ours()?.index)));
        self.given_up.links.extend(links);
        if !self.is_guessing {
            self.leases.retain(|name, _| self.spec.bridges.iter().any(|bridge| bridge.name == *name));
        }
    }

    /// For a netd that is started after this one.
    pub(crate) fn write_kept_networks(&mut self, failures: &mut Vec<PendingFailure>) {
        if self.is_guessing || self.written_networks.as_ref() == Some(&self.spec) {
            return;
        }
        let path = self.arguments.run.join(KEPT);
        match replace_unsynced(&path, 0o644, &self.spec.encode()) {
            Ok(()) => self.written_networks = Some(self.spec.clone()),
            Err(error) => failures.push(PendingFailure::of_all(&format!("write {}", path.display()), &error)),
        }
    }
}

fn wanted_networks(arguments: &Arguments) -> Result<NetworksSpec, ReadNetworksError> {
    read_networks(&arguments.networks).map(|spec| offered_here(spec, arguments))
}

/// Hosted, the host's own network daemon keeps its links; one that was named was meant.
fn offered_here(mut spec: NetworksSpec, arguments: &Arguments) -> NetworksSpec {
    spec.uplinks.retain(|uplink| !arguments.is_hosted || uplink.link != LinkSelector::FirstEthernet);
    spec
}

/// The instances that would be cut off without the bridge.
fn users_of(bridge: &BridgeSpec, attachments: &[Attachment]) -> Vec<InstanceName> {
    let is_user = |attachment: &&Attachment| match &attachment.connection {
        Connection::Network { network: on }
        | Connection::Bridged { parent: on }
        | Connection::Macvlan { parent: on } => *on == bridge.name,
        Connection::Physical { .. } => false,
    };
    let mut users: Vec<InstanceName> =
        attachments.iter().filter(is_user).map(|attachment| attachment.instance.name.clone()).collect();
    users.sort();
    users.dedup();
    users
}

fn tell(refused: &Refused) {
    tracing::warn!("{}", refused.failure());
}
