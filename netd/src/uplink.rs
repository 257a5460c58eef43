//! One uplink: the choice of its link, the sources of its addresses, and the wanted configuration that follows from them.

mod dhcp_source;
mod link_choice;

use crate::daemon::Event;
use crate::dhcp::lease::Lease;
use crate::link::observed::Observed;
use crate::link::plan::WantedUplink;
use crate::link::route::Route;
use dhcp_source::{ClientContext, DhcpSource};
use link_choice::LinkChange;
pub use link_choice::{ChosenLink, LinkChoice};
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use yado_spec::network::{AddressSource, IpPrefix, StaticAddresses, UplinkSpec};

/// One uplink.
#[derive(Debug)]
pub struct Uplink {
    /// What was said of it.
    pub spec: UplinkSpec,
    /// Its place among the uplinks: the first is preferred.
    pub place: usize,
    /// Its link.
    pub choice: LinkChoice,
    /// There is one if the sources say so.
    dhcp: Option<DhcpSource>,
}

/// The first uplink's routes have this metric, each later one's a hundred more: the first that is up is used.
const FIRST_METRIC: u32 = 100;

impl Uplink {
    /// An uplink whose link has not been looked for yet.
    pub fn new(spec: UplinkSpec, place: usize) -> Uplink {
        let dhcp = has_dhcp(&spec).then(|| DhcpSource::new(None));
        Uplink { spec, place, choice: LinkChoice::default(), dhcp }
    }

    /// The same link, and what is said of it now; a lease stays as long as there is DHCP.
    #[must_use]
    pub fn reconfigured(self, spec: UplinkSpec) -> Uplink {
        let dhcp = has_dhcp(&spec).then(|| self.dhcp.unwrap_or_else(|| DhcpSource::new(None)));
        Uplink { spec, dhcp, ..self }
    }

    /// What a predecessor gave the link stays until there is a lease: until when it was leased, nobody knows.
    pub fn keep_unknown_address(&mut self) {
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.keep_unknown_address();
        }
    }

    /// Takes the link that is there now, and tells the client about its carrier. `saved` finds the lease of a predecessor.
    pub fn look(
        &mut self,
        observed: &Observed,
        taken: &[String],
        saved: &[([u8; 6], Lease)],
        events: &mpsc::Sender<Event>,
        now: Duration,
    ) {
        let is_first = self.choice.link.is_none();
        match self.choice.look(&self.spec.link, observed, taken) {
            LinkChange::Same => {}
            LinkChange::Another => self.begin(is_first, observed, saved, now),
        }
        let link = self.choice.link.as_ref().and_then(|link| observed.link_at(link.index));
        if let (Some(link), Some((dhcp, context))) = (link, self.client(events, now)) {
            dhcp.look(link, context);
        }
    }

    /// What was known of another link is over.
    fn begin(&mut self, is_first: bool, observed: &Observed, saved: &[([u8; 6], Lease)], now: Duration) {
        let name = &self.spec.name;
        let leased = |hwaddr: [u8; 6]| {
            let found = saved.iter().find(|(of, lease)| *of == hwaddr && now < lease.end_at);
            found.map(|(_, lease)| lease.clone())
        };
        let lease = self.choice.link.as_ref().filter(|_| has_dhcp(&self.spec)).and_then(|link| leased(link.hwaddr));
        let own = self.said().flat_map(|said| said.addresses.iter().map(|prefix| prefix.address()));
        let own: Vec<IpAddr> = own.chain(lease.iter().map(|lease| lease.address.into())).collect();
        self.choice.respect_others(&self.spec.link, &own, observed);
        if let Some(dhcp) = &mut self.dhcp {
            let keeps_address = is_first && dhcp.keeps_address() && lease.is_none();
            *dhcp = DhcpSource::new(lease);
            if keeps_address {
                dhcp.keep_unknown_address();
            }
        }
        match &self.choice.link {
            Some(link) if self.choice.is_left_alone => {
                tracing::info!("uplink {name}: {} was configured by somebody else and is left alone", link.name);
            }
            Some(link) => tracing::info!("uplink {name}: {}", link.name),
            None => tracing::warn!("uplink {name}: its link is gone"),
        }
    }

    /// A datagram came in.
    pub fn hear(&mut self, bytes: &[u8], events: &mpsc::Sender<Event>, now: Duration) {
        if let Some((dhcp, context)) = self.client(events, now) {
            dhcp.hear(bytes, context);
        }
    }

    /// Tells the client that time has passed.
    pub fn wake(&mut self, events: &mpsc::Sender<Event>, now: Duration) {
        if let Some((dhcp, context)) = self.client(events, now) {
            dhcp.wake(context);
        }
    }

    /// When the client wants to be woken.
    pub fn deadline(&self) -> Option<Duration> {
        self.choice.ours()?;
        self.dhcp.as_ref()?.deadline()
    }

    /// What is leased.
    pub fn lease(&self) -> Option<&Lease> {
        self.dhcp.as_ref()?.lease()
    }

    /// What the link should look like.
    pub fn wanted(&self) -> Option<WantedUplink> {
        let link = self.choice.ours()?;
        let mut wanted = WantedUplink {
            network: self.spec.name.clone(),
            link: link.index,
            mtu: self.spec.mtu.map(u32::from),
            addresses: Vec::new(),
            routes: Vec::new(),
            metric: FIRST_METRIC + 100 * self.place as u32,
            keeps_others: self.dhcp.as_ref().is_some_and(DhcpSource::keeps_address),
        };
        for source in &self.spec.sources {
            match source {
                AddressSource::Dhcp => {
                    let Some(lease) = self.lease() else { continue };
                    wanted.addresses.extend(IpPrefix::new(lease.address.into(), lease.prefix_len));
                    wanted.routes.extend(&lease.routes);
                    wanted.mtu = wanted.mtu.or(lease.mtu.map(u32::from));
                }
                AddressSource::Static(StaticAddresses { addresses, gateways, nameservers: _ }) => {
                    wanted.addresses.extend(addresses);
                    wanted.routes.extend(gateways.iter().map(|gateway| Route::default_by(*gateway)));
                }
            }
        }
        Some(wanted)
    }

    /// The name servers it knows.
    pub fn name_servers(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let of = |source| -> Vec<IpAddr> {
            match source {
                &AddressSource::Dhcp => {
                    self.lease().map_or(Vec::new(), |lease| lease.name_servers.iter().map(|&ip| ip.into()).collect())
                }
                AddressSource::Static(said) => said.nameservers.clone(),
            }
        };
        self.spec.sources.iter().flat_map(of)
    }

    fn said(&self) -> impl Iterator<Item = &StaticAddresses> {
        self.spec.sources.iter().filter_map(|source| match source {
            AddressSource::Dhcp => None,
            AddressSource::Static(said) => Some(said),
        })
    }

    /// The client, if it is to ask: there is a link, and it is not left alone.
    fn client<'a>(
        &'a mut self,
        events: &'a mpsc::Sender<Event>,
        now: Duration,
    ) -> Option<(&'a mut DhcpSource, ClientContext<'a>)> {
        let link = self.choice.ours()?;
        Some((self.dhcp.as_mut()?, ClientContext { network: &self.spec.name, place: self.place, link, events, now }))
    }
}

fn has_dhcp(spec: &UplinkSpec) -> bool {
    spec.sources.contains(&AddressSource::Dhcp)
}
