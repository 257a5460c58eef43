//! Makes the kernel's state what is wanted: reads the links, plans and applies until nothing is left to do. Then sockets, firewall
//! and files follow.

use crate::attach::outside_seed;
use crate::bridge_sockets::BridgeSockets;
use crate::daemon::{Netd, SETTLE};
use crate::dhcp::lease::{Lease, MAX_NAME_SERVERS};
use crate::dhcp::message::Message;
use crate::dhcp::server::{AddressPool, Change, Lease as Granted, Reservation};
use crate::dns::zone::{Zone, Zones};
use crate::failures::PendingFailure;
use crate::link::hwaddr::bridge_hwaddr;
use crate::link::plan::{Todo, WantedBridge, WantedLinks, WantedPort, plan};
use crate::nic::Connection;
use crate::reload::GivenUp;
use crate::saved::{Attachment, Borrowed, Saved};
use crate::subnets::host_in;
use crate::uplink::Uplink;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use yado_spec::NetworksSpec;
use yado_spec::network::{BridgeSpec, DnsMode};
use yado_sys::replace_file::replace_unsynced;
use yado_wire::{DEFAULT_PROJECT, Failure, InstanceName, Step};

/// Make, find, address: no goal needs more rounds than this.
const MAX_ROUNDS: usize = 5;
/// Those of all uplinks there can be, and as many of adapters that were unplugged.
const MAX_UPLINK_LEASES: usize = 2 * NetworksSpec::MAX_UPLINKS;
/// What could not be done is tried again.
const RETRY: Duration = Duration::from_secs(5);
const DEFAULT_MTU: u16 = 1500;

impl Netd {
    /// Makes things be what they should be, as far as the kernel lets us; what fails is said once and tried again.
    pub(crate) async fn reconcile(&mut self, now: Duration) {
        self.look_at = None;
        self.flap_damping.release(now);
        let mut failures = Vec::new();
        for _ in 0..MAX_ROUNDS {
            match self.kernel.observe().await {
                Ok(observed) => self.observed = observed,
                Err(error) => {
                    failures.push(PendingFailure::of_all("look at the links", &error));
                    break;
                }
            }
            self.notice_gone(now).await;
            self.look_at_uplinks(now);
            self.assign_subnets(now);
            self.hold_flapping_ports(now);
            let todo = plan(&self.wanted(), &self.observed);
            failures.clear();
            // Before what is leased is seen on a link: who is killed between the two must know the address as its own.
            self.write_saved(now, &mut failures);
            for Todo { network, steps } in &todo {
                for step in steps {
                    if let Err(error) = self.kernel.apply(step).await {
                        failures.push(PendingFailure::of(network, &format!("{step:?}"), &error));
                        break;
                    }
                }
            }
            if todo.len() == failures.len() {
                break;
            }
        }
        self.serve(&mut failures);
        self.put_rules(&mut failures);
        self.publish(now, &mut failures);
        for new in failures.iter().filter(|failures| !self.failures.contains(failures)) {
            tracing::error!("{}", new.failure);
        }
        if failures.is_empty() {
            self.given_up = GivenUp::default();
        } else {
            self.look_soon(now + RETRY);
        }
        self.failures = failures;
    }

    /// A pair that is gone went with its namespace: the instance's names and leases end.
    async fn notice_gone(&mut self, now: Duration) {
        let mut gone = Vec::new();
        for attachment in &self.attachments {
            let Some(name) = attachment.host_link.as_ref().filter(|name| self.observed.link(name).is_none()) else {
                continue;
            };
            // What is forgotten does not come back: the kernel is asked once more, about this one.
            if matches!(self.kernel.has_link(name).await, Ok(false)) {
                gone.push(attachment.clone());
            }
        }
        // A link that is back under its name was given back.
        let is_back = |borrowed: &Borrowed| {
            let link = self.observed.link(&borrowed.name);
            link.is_some_and(|link| link.permanent_hwaddr() == Some(borrowed.permanent_hwaddr))
        };
        self.borrowed.retain(|borrowed| !is_back(borrowed));
        for attachment in gone {
            tracing::info!("{} of {} is gone", attachment.nic, attachment.instance.name);
            self.forget(&attachment, now);
        }
    }

    /// Drops one attachment; its address is remembered for its return.
    pub(crate) fn forget(&mut self, gone: &Attachment, now: Duration) {
        self.attachments.retain(|attachment| attachment != gone);
        if let Connection::Network { network } = &gone.connection {
            if let Some(leases) = self.leases.get_mut(network) {
                leases.end(gone.hwaddr, now);
            }
        }
    }

    fn look_at_uplinks(&mut self, now: Duration) {
        let external = self.bridges().flat_map(|bridge| &bridge.external_interfaces);
        let mut taken: Vec<String> = external.map(|name| name.to_string()).collect();
        for uplink in &mut self.uplinks {
            uplink.look(&self.observed, &taken, &self.saved.uplinks, &self.events, now);
            taken.extend(uplink.choice.link.as_ref().map(|link| link.name.clone()));
        }
    }

    /// The networks, with the addresses that they have.
    pub(crate) fn bridges(&self) -> impl Iterator<Item = &BridgeSpec> {
        self.networks.iter().map(|(bridge, _)| bridge)
    }

    fn wanted(&self) -> WantedLinks {
        let GivenUp { ports, links } = &self.given_up;
        let is_uplink = |index: u32| self.uplinks.iter().any(|uplink| uplink.choice.is(index));
        let mut wanted = WantedLinks {
            released: ports.clone(),
            given_up: links.iter().filter(|(_, index)| !is_uplink(*index)).cloned().collect(),
            keeps_bridges: self.is_guessing,
            ..WantedLinks::default()
        };
        for bridge in self.bridges() {
            let seed = outside_seed(&bridge.external_interfaces, &self.observed);
            wanted.bridges.push(WantedBridge {
                name: bridge.name.to_string(),
                hwaddr: bridge.hwaddr.unwrap_or_else(|| bridge_hwaddr(&bridge.name, seed)),
                mtu: bridge.mtu.unwrap_or(DEFAULT_MTU).into(),
                addresses: bridge.ipv4.iter().map(|ipv4| ipv4.address.into()).collect(),
            });
            wanted.ports.extend(bridge.external_interfaces.iter().map(|port| WantedPort {
                name: port.to_string(),
                bridge: bridge.name.to_string(),
                hwaddr: None,
                is_held: false,
            }));
        }
        for attachment in &self.attachments {
            let bridge = match &attachment.connection {
                Connection::Network { network } => network,
                Connection::Bridged { parent } => parent,
                Connection::Macvlan { .. } | Connection::Physical { .. } => continue,
            };
            wanted.ports.extend(attachment.host_link.iter().map(|link| WantedPort {
                name: link.clone(),
                bridge: bridge.to_string(),
                hwaddr: Some(attachment.hwaddr),
                is_held: self.flap_damping.of(link).is_some(),
            }));
        }
        wanted.uplinks.extend(self.uplinks.iter().filter_map(|uplink| uplink.wanted()));
        for borrowed in &self.borrowed {
            let back =
                self.observed.links.iter().find(|link| link.permanent_hwaddr() == Some(borrowed.permanent_hwaddr));
            wanted.names.extend(back.map(|link| (link.index, borrowed.name.to_string())));
        }
        wanted
    }

    /// Sockets for each bridge that is there with its address.
    fn serve(&mut self, failures: &mut Vec<PendingFailure>) {
        let mut kept = Vec::new();
        for (bridge, _) in &self.networks {
            let Some(link) = self.observed.link(&bridge.name) else { continue };
            if !link.is_bridge() {
                let failure =
                    Failure::refused(Step::Network, &bridge.name, "another link has this name, and is no bridge");
                failures.push(PendingFailure { network: Some(bridge.name.clone()), failure });
                continue;
            }
            let Some(ipv4) = &bridge.ipv4 else { continue };
            let address = ipv4.address.address();
            if !link.is_up || !self.observed.addresses_of(link.index).any(|a| a.prefix.address() == address) {
                continue;
            }
            let same = self.bridge_sockets.iter().position(|sockets| {
                sockets.bridge == bridge.name && sockets.index == link.index && sockets.address == address
            });
            let served = match same {
                Some(at) => Ok(self.bridge_sockets.swap_remove(at)),
                None => {
                    // The old sockets hold the link.
                    self.bridge_sockets.retain(|sockets| sockets.bridge != bridge.name);
                    BridgeSockets::start(&bridge.name, link.index, address, &self.zones.subscribe())
                }
            };
            let served = served.and_then(|mut sockets| {
                sockets.serve_dhcp(ipv4.dhcp.is_some(), &self.events)?;
                Ok(sockets)
            });
            match served {
                Ok(sockets) => kept.push(sockets),
                Err(error) => failures.push(PendingFailure::of(&bridge.name, "serve DHCP and DNS", &error)),
            }
        }
        self.bridge_sockets = kept;
    }

    /// Names, resolv.conf and what a successor must know follow what is known now.
    pub(crate) fn publish(&mut self, now: Duration, failures: &mut Vec<PendingFailure>) {
        let mut servers: Vec<Ipv4Addr> = Vec::new();
        for server in self.uplinks.iter().flat_map(Uplink::name_servers) {
            // Our name server asks by IPv4.
            let IpAddr::V4(server) = server else { continue };
            if servers.len() < MAX_NAME_SERVERS && !servers.contains(&server) {
                servers.push(server);
            }
        }
        self.write_resolv_conf(&servers, failures);
        let zones = self.bridges().filter_map(|bridge| self.zone(bridge, now)).collect();
        let zones = Arc::new(Zones { zones, servers });
        self.zones.send_if_modified(|current| {
            let is_new = *current != zones;
            *current = zones;
            is_new
        });
        self.write_saved(now, failures);
        self.write_kept_networks(failures);
    }

    fn write_saved(&mut self, now: Duration, failures: &mut Vec<PendingFailure>) {
        let leased = self.uplinks.iter().filter_map(|uplink| {
            let link = uplink.choice.link.as_ref()?;
            Some((link.hwaddr, uplink.lease().cloned()))
        });
        let mut leased: Vec<([u8; 6], Option<Lease>)> = leased.collect();
        // The leases of links that are not there now: they may come back.
        for (hwaddr, lease) in &self.saved.uplinks {
            let is_known = leased.iter().any(|(known, _)| known == hwaddr);
            if !is_known && now < lease.end_at && leased.len() < MAX_UPLINK_LEASES {
                leased.push((*hwaddr, Some(lease.clone())));
            }
        }
        let leased = leased.into_iter().filter_map(|(hwaddr, lease)| Some((hwaddr, lease?)));
        self.saved = Saved {
            boot: self.saved.boot.clone(),
            attachments: self.attachments.clone(),
            runs: self.runs.clone(),
            leases: self.leases.iter().map(|(name, leases)| (name.clone(), leases.clone())).collect(),
            uplinks: leased.collect(),
            borrowed: self.borrowed.clone(),
            moves: self.moves.clone(),
        };
        let bytes = self.saved.encode();
        if bytes != self.written_saved {
            let path = self.arguments.run.join("netd.state");
            match replace_unsynced(&path, 0o644, &bytes) {
                Ok(()) => self.written_saved = bytes,
                Err(error) => failures.push(PendingFailure::of_all(&format!("write {}", path.display()), &error)),
            }
        }
    }

    fn write_resolv_conf(&mut self, servers: &[Ipv4Addr], failures: &mut Vec<PendingFailure>) {
        let mut text = String::new();
        for server in servers {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "nameserver {server}");
        }
        let domain = self.uplinks.iter().find_map(|uplink| uplink.lease()?.domain.clone());
        if let Some(domain) = domain {
            let _ = writeln!(text, "search {domain}");
        }
        if self.written_resolv_conf.as_ref() == Some(&text) {
            return;
        }
        let path = self.arguments.run.join("resolv.conf");
        match replace_unsynced(&path, 0o644, text.as_bytes()) {
            Ok(()) => self.written_resolv_conf = Some(text),
            Err(error) => failures.push(PendingFailure::of_all(&format!("write {}", path.display()), &error)),
        }
    }

    fn zone(&self, bridge: &BridgeSpec, now: Duration) -> Option<Zone> {
        let network = bridge.ipv4.as_ref()?.address;
        let (domain, names) = match bridge.dns.mode {
            DnsMode::Managed => (bridge.dns.domain.clone(), self.names(bridge, now)),
            DnsMode::None => Default::default(),
        };
        Some(Zone { bridge: bridge.name.clone(), network, domain, names })
    }

    fn names(&self, bridge: &BridgeSpec, now: Duration) -> Vec<(String, Ipv4Addr)> {
        let leases = self.leases.get(&bridge.name);
        let of_bridge = self.attachments.iter().filter(|attachment| is_of(attachment, bridge));
        let named = of_bridge.filter_map(|attachment| {
            let leased = leases.and_then(|leases| leases.bound(attachment.hwaddr, now)).map(|lease| lease.address);
            let fixed = attachment.fixed_ipv4.and_then(|fixed| Some(host_in(fixed, bridge.ipv4.as_ref()?.address)));
            let address = fixed.or(leased)?;
            Some((dns_name(&attachment.instance.name), address))
        });
        named.collect()
    }

    /// A DHCP client on `bridge` asks.
    pub(crate) fn answer_dhcp(&mut self, bridge: &str, message: &Message, now: Duration) {
        let Some((spec, _)) = self.networks.iter().find(|(spec, _)| spec.name == bridge) else { return };
        let Some((pool, reservations)) = pool(spec, &self.attachments) else { return };
        let leases = self.leases.entry(spec.name.clone()).or_default();
        leases.retain_within(&pool);
        let answer = leases.answer(message, &pool, &reservations, now);
        if let Some(why) = answer.no_address {
            if let Some(warning) = self.exhausted_pools.refuse(&spec.name, &pool, why, now) {
                tracing::warn!("{warning}");
            }
        }
        let must_save = match &answer.change {
            Change::Unsaved => false,
            Change::Granted(lease) => !is_as_good_as_saved(lease, spec, &self.saved, now),
            Change::Ended => true,
        };
        // The names first: a client that was just answered may ask for them at once.
        if must_save {
            let mut failures = Vec::new();
            self.publish(now, &mut failures);
            if !failures.is_empty() {
                self.look_soon(now + SETTLE);
            }
        }
        let sockets = self.bridge_sockets.iter().find(|sockets| sockets.bridge == bridge);
        if let (Some(sockets), Some((reply, to))) = (sockets, answer.reply) {
            if let Err(error) = sockets.send(&reply, to) {
                tracing::warn!("DHCP reply on {bridge} to {to}: {error}");
            }
        }
    }
}

/// An instance's name before the network's domain, as LXD gives it: one of another project than the default stands below its
/// project.
fn dns_name(instance: &InstanceName) -> String {
    let name = match instance.project() {
        DEFAULT_PROJECT => instance.name().to_owned(),
        project => format!("{}.{project}", instance.name()),
    };
    name.to_ascii_lowercase()
}

pub(crate) fn is_of(attachment: &Attachment, bridge: &BridgeSpec) -> bool {
    matches!(&attachment.connection, Connection::Network { network } if *network == bridge.name)
}

/// Whether the written copy has this lease already, and as its end one that is late enough: a client renews at half of its
/// time, so that a successor that takes the lease for an eighth shorter still grants it anew. Whoever renews more often costs
/// no file.
fn is_as_good_as_saved(lease: &Granted, bridge: &BridgeSpec, saved: &Saved, now: Duration) -> bool {
    let expiry_s = bridge.ipv4.as_ref().and_then(|ipv4| ipv4.dhcp.as_ref()).map_or(0, |dhcp| dhcp.expiry.as_secs());
    let leases = saved.leases.iter().find(|(name, _)| *name == bridge.name);
    let known = leases.and_then(|(_, leases)| leases.bound(lease.hwaddr, now));
    known.is_some_and(|known| known.address == lease.address && lease.until_s <= known.until_s + expiry_s / 8)
}

pub(crate) fn pool<'a>(
    bridge: &BridgeSpec,
    attachments: &'a [Attachment],
) -> Option<(AddressPool, Vec<Reservation<'a>>)> {
    let ipv4 = bridge.ipv4.as_ref()?;
    let dhcp = ipv4.dhcp.as_ref()?;
    let pool = AddressPool {
        bridge: ipv4.address,
        ranges: dhcp.ranges.clone(),
        expiry: dhcp.expiry,
        domain: bridge.dns.domain.clone(),
        mtu: bridge.mtu.unwrap_or(DEFAULT_MTU),
    };
    let of_bridge = attachments.iter().filter(|attachment| is_of(attachment, bridge));
    let reservations = of_bridge.map(|attachment| Reservation {
        hwaddr: attachment.hwaddr,
        host_name: attachment.instance.name.name(),
        fixed: attachment.fixed_ipv4.map(|fixed| host_in(fixed, ipv4.address)),
    });
    Some((pool, reservations.collect()))
}
