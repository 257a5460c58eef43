//! Handles requests: attach, detach, status. (Reading the networks again is in `reload.rs`.)

use crate::attach::{AttachError, attach, delete_pair, plan_attach};
use crate::control::Call;
use crate::daemon::{Netd, SETTLE};
use crate::link::observed::Link;
use crate::nic::{Connection, Nic};
use crate::reconcile::{is_of, pool};
use crate::run_numbers::OutOfDate;
use crate::saved::{Attachment, Borrowed};
use crate::subnets::SubnetState;
use crate::uplink::Uplink;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use yado_spec::network::{BridgeSpec, IpPrefix};
use yado_wire::network::{
    LinkNote, LinkRole, LinkStatus, MAX_ADDRESSES, MAX_GATEWAYS, MAX_NAMESERVERS, NetReply, NetRequest,
};
use yado_wire::{AboutInstance, RunNumber, Text, names::clipped};

impl Netd {
    /// Does what was asked, and answers. Whoever asked may be gone by then; what was asked is done all the same.
    pub(crate) async fn answer_call(&mut self, call: Call, now: Duration) {
        let Call { request, descriptors, answer } = call;
        let replies = match request {
            NetRequest::Attach { instance, run, nics } => {
                let nics: Vec<Nic> = nics.iter().map(Nic::from).collect();
                let attached = self.attach(&instance, run, &nics, descriptors, now).await;
                vec![match attached {
                    Ok(()) => NetReply::Attached,
                    Err(error) => {
                        tracing::warn!("attach {}: {error}", instance.name);
                        NetReply::Failed(error.failure())
                    }
                }]
            }
            NetRequest::Detach { instance, run } => {
                match self.runs.end(instance, run) {
                    Ok(()) => self.detach(|attachment| attachment.instance.id == instance, now).await,
                    Err(OutOfDate) => {
                        tracing::info!("instance {instance}: a detach of an earlier run came late and is ignored");
                    }
                }
                vec![NetReply::Done]
            }
            NetRequest::Status => self.status(now),
            NetRequest::Reload => self.reload(now).await,
        };
        let _ = answer.send(replies);
    }

    async fn attach(
        &mut self,
        instance: &AboutInstance,
        run: RunNumber,
        nics: &[Nic],
        descriptors: Vec<OwnedFd>,
        now: Duration,
    ) -> Result<(), AttachError> {
        let Ok([netns]) = <[OwnedFd; 1]>::try_from(descriptors) else {
            let reason = "one descriptor, the network namespace's, must travel along".to_owned();
            return Err(AttachError::Refused { object: instance.name.to_string(), reason });
        };
        self.runs.begin(instance.id, run).map_err(|OutOfDate| AttachError::Refused {
            object: instance.name.to_string(),
            reason: "this run is over, or a later one has begun".to_owned(),
        })?;
        self.look_now().await?;
        // Those of an earlier run; and of an instance that is gone and had the name before, whose end is told later.
        let is_replaced = |attachment: &Attachment| {
            attachment.instance.id == instance.id || attachment.instance.name == instance.name
        };
        let others: Vec<Attachment> =
            self.attachments.iter().filter(|attachment| !is_replaced(attachment)).cloned().collect();
        let planned = plan_attach(instance, nics, &self.spec.bridges, &others, &self.observed)?;
        if self.attachments.iter().any(is_replaced) {
            self.detach(is_replaced, now).await;
            self.look_now().await?;
        }
        attach(&self.kernel, &planned, &self.observed, netns.as_fd()).await?;
        for one in planned {
            if let Connection::Physical { parent } = &one.attachment.connection {
                self.remember_borrowed(parent);
            }
            if let Some(port) = &one.attachment.host_link {
                self.flap_damping.forget(port);
            }
            self.attachments.push(one.attachment);
        }
        let mut failures = Vec::new();
        self.publish(now, &mut failures);
        self.look_soon(now + SETTLE);
        Ok(())
    }

    async fn look_now(&mut self) -> Result<(), AttachError> {
        let failed = |source| AttachError::Kernel { object: "look at the links".to_owned(), source };
        // Addresses and routes are of no interest to who gives an instance its links.
        self.observed.links = self.kernel.links().await.map_err(failed)?;
        Ok(())
    }

    /// Takes pairs of instances away; links that moved come back with the end of their namespace.
    async fn detach(&mut self, is_gone: impl Fn(&Attachment) -> bool, now: Duration) {
        let gone: Vec<Attachment> =
            self.attachments.iter().filter(|attachment| is_gone(attachment)).cloned().collect();
        for attachment in &gone {
            delete_pair(&self.kernel, attachment).await;
            self.forget(attachment, now);
        }
        // Also without interfaces: that the run is over is written down.
        let mut failures = Vec::new();
        self.publish(now, &mut failures);
        if !gone.is_empty() || !failures.is_empty() {
            self.look_soon(now + SETTLE);
        }
    }

    fn remember_borrowed(&mut self, name: &Text<15>) {
        let link = self.observed.link(name);
        let Some(permanent_hwaddr) = link.and_then(Link::permanent_hwaddr) else { return };
        self.borrowed.retain(|borrowed| borrowed.permanent_hwaddr != permanent_hwaddr);
        self.borrowed.push(Borrowed { name: name.clone(), permanent_hwaddr });
    }

    fn status(&self, now: Duration) -> Vec<NetReply> {
        let uplinks = self.uplinks.iter().map(|uplink| self.uplink_status(uplink, now));
        let bridges = self.networks.iter().map(|(bridge, state)| self.bridge_status(bridge, *state, now));
        let nics = self.attachments.iter().map(|attachment| self.nic_status(attachment, now));
        let lines = uplinks.chain(bridges).chain(nics).map(NetReply::Link);
        lines.chain([NetReply::Done]).collect()
    }

    fn uplink_status(&self, uplink: &Uplink, now: Duration) -> LinkStatus {
        let link = uplink.choice.link.as_ref().and_then(|chosen| self.observed.link_at(chosen.index));
        let lease_end = uplink.lease().map(|lease| lease.end_at).filter(|end| *end != Duration::MAX);
        LinkStatus {
            // An uplink without a link is shown by its own name.
            name: link.map_or_else(|| uplink.spec.name.clone(), |link| clipped(&link.name)),
            role: LinkRole::Uplink,
            is_up: link.is_some_and(is_running),
            addresses: link.iter().flat_map(|link| self.addresses(link)).take(MAX_ADDRESSES).collect(),
            gateways: link.iter().flat_map(|link| self.gateways(link)).take(MAX_GATEWAYS).collect(),
            nameservers: uplink.name_servers().take(MAX_NAMESERVERS).collect(),
            lease_left_s: lease_end.map(|end| seconds(end.saturating_sub(now).as_secs())),
            note: None,
        }
    }

    fn bridge_status(&self, bridge: &BridgeSpec, state: SubnetState, now: Duration) -> LinkStatus {
        let link = self.observed.link(&bridge.name).filter(|link| link.is_bridge());
        LinkStatus {
            name: bridge.name.clone(),
            role: LinkRole::Network,
            // A bridge without ports has no carrier, and serves all the same.
            is_up: link.is_some_and(|link| link.is_up),
            addresses: link.iter().flat_map(|link| self.addresses(link)).take(MAX_ADDRESSES).collect(),
            gateways: Default::default(),
            nameservers: Default::default(),
            lease_left_s: None,
            // Where it moved to can be seen; whom it has no address for cannot.
            note: match state {
                SubnetState::Collides { with } => Some(LinkNote::Collides { with: with.into() }),
                SubnetState::Configured => self.full_note(bridge, now),
                SubnetState::Moved { from } => {
                    let moved = LinkNote::Moved { from: IpPrefix::from(from).into() };
                    Some(self.full_note(bridge, now).unwrap_or(moved))
                }
            },
        }
    }

    fn full_note(&self, bridge: &BridgeSpec, now: Duration) -> Option<LinkNote> {
        let (pool, reservations) = pool(bridge, &self.attachments)?;
        let is_full = self.leases.get(&bridge.name)?.is_used_up(&pool, &reservations, now);
        is_full.then(|| LinkNote::NoAddressLeft { of: u32::try_from(pool.usable()).unwrap_or(u32::MAX) })
    }

    fn nic_status(&self, attachment: &Attachment, now: Duration) -> LinkStatus {
        let bridge = self.bridges().find(|bridge| is_of(attachment, bridge));
        let held = attachment.host_link.as_ref().and_then(|name| self.flap_damping.of(name));
        let leases = bridge.and_then(|bridge| self.leases.get(&bridge.name));
        let lease = leases.and_then(|leases| leases.bound(attachment.hwaddr, now));
        let prefix_len = bridge.and_then(|bridge| bridge.ipv4.as_ref()).map(|ipv4| ipv4.address.prefix_len());
        let link = attachment.host_link.as_ref().and_then(|name| self.observed.link(name));
        LinkStatus {
            name: attachment.host_link.as_ref().map_or_else(|| attachment.nic.clone(), |name| clipped(name)),
            role: LinkRole::Nic { instance: attachment.instance.clone(), name: attachment.nic.clone() },
            // What moved into the instance cannot be seen from here; it was there when it was attached.
            is_up: attachment.host_link.is_none() || link.is_some_and(is_running),
            addresses: lease.map(|lease| lease.address.into()).zip(prefix_len).into_iter().collect(),
            gateways: Default::default(),
            nameservers: Default::default(),
            lease_left_s: lease.map(|lease| seconds(lease.until_s.saturating_sub(now.as_secs()))),
            note: held.map(|until| LinkNote::HeldDown { left_s: seconds(until.saturating_sub(now).as_secs()) }),
        }
    }

    fn addresses(&self, link: &Link) -> impl Iterator<Item = (IpAddr, u8)> {
        self.observed.addresses_of(link.index).map(|address| address.prefix.into())
    }

    /// Of each family the one that is used.
    fn gateways(&self, link: &Link) -> impl Iterator<Item = IpAddr> {
        let index = link.index;
        let of_family = move |to: IpPrefix| {
            let routes = self.observed.routes.iter().filter(|known| known.link == index && known.route.to == to);
            routes.min_by_key(|known| known.metric).and_then(|known| known.route.gateway)
        };
        [IpPrefix::ALL_IPV4, IpPrefix::ALL_IPV6].into_iter().filter_map(of_family)
    }
}

fn is_running(link: &Link) -> bool {
    link.is_up && link.has_carrier
}

fn seconds(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
