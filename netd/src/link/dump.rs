//! Reads all links, addresses and routes by rtnetlink, and turns the messages into values.

use super::kernel::{Kernel, OUR_ADDRESS_PROTOCOL, OUR_ROUTE_PROTOCOL, STRICT, io_error};
use super::observed::{Address, Link, LinkKind, LinkRoute, OUR_ALIAS, Observed, Port};
use super::route::Route;
use futures_util::StreamExt;
use rtnetlink::LinkGetRequest;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, InfoBridgePort, InfoKind, InfoPortData, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use yado_spec::network::IpPrefix;

/// A dump during which something changed may lack what was there all the time (`NLM_F_DUMP_INTR`), and is read again. Changes
/// come in bursts of a dozen; who makes them without end is no reason to do nothing else.
const MAX_ATTEMPTS: usize = 8;

impl Kernel {
    /// Looks at everything.
    pub async fn observe(&self) -> io::Result<Observed> {
        let mut observed = Observed { keeps_address_protocols: self.keeps_address_protocols, ..Observed::default() };
        observed.links = self.links().await?;
        let mut request = AddressMessage::default();
        request.header.family = AddressFamily::Inet;
        for message in self.dump(RouteNetlinkMessage::GetAddress(request)).await? {
            if let RouteNetlinkMessage::NewAddress(message) = message {
                observed.addresses.extend(address(&message));
            }
        }
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        for message in self.dump(RouteNetlinkMessage::GetRoute(request)).await? {
            if let RouteNetlinkMessage::NewRoute(message) = message {
                observed.routes.extend(route(&message));
            }
        }
        Ok(observed)
    }

    /// Looks at the links only.
    pub async fn links(&self) -> io::Result<Vec<Link>> {
        let mut request = LinkMessage::default();
        // Counters are half of what the kernel would write and we would read.
        request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let messages = self.dump(RouteNetlinkMessage::GetLink(request)).await?.into_iter();
        let link = |message| match message {
            RouteNetlinkMessage::NewLink(message) => Some(link(message)),
            _ => None,
        };
        Ok(messages.filter_map(link).collect())
    }

    async fn dump(&self, request: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..MAX_ATTEMPTS {
            let mut message = NetlinkMessage::from(request.clone());
            message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
            let mut replies = std::pin::pin!(self.handle.clone().request(message).map_err(io_error)?);
            let (mut found, mut is_whole) = (Vec::new(), true);
            while let Some(reply) = replies.next().await {
                is_whole &= reply.header.flags & NLM_F_DUMP_INTR == 0;
                match reply.payload {
                    NetlinkPayload::InnerMessage(message) => found.push(message),
                    NetlinkPayload::Error(refusal) => return Err(refusal.to_io()),
                    // Messages were lost.
                    NetlinkPayload::Overrun(_) => is_whole = false,
                    // The end.
                    _ => {}
                }
            }
            if is_whole {
                return Ok(found);
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "it changes faster than it can be read"))
    }

    /// Whether there is a link called `name` at this moment: one question about it alone, which no other change disturbs.
    pub async fn has_link(&self, name: &str) -> io::Result<bool> {
        Ok(self.link_called(name).await?.is_some())
    }

    /// The same by its index, which is never another link's.
    pub(super) async fn has_link_at(&self, index: u32) -> io::Result<bool> {
        Ok(found(self.handle.link().get().match_index(index)).await?.is_some())
    }

    /// The link called `name`, if there is one at this moment.
    pub async fn link_called(&self, name: &str) -> io::Result<Option<Link>> {
        Ok(found(self.handle.link().get().match_name(name.to_owned())).await?.map(link))
    }
}

/// errno-base.h.
pub(super) const ENODEV: i32 = 19;

/// The kernel's answer about one link.
async fn found(question: LinkGetRequest) -> io::Result<Option<LinkMessage>> {
    let mut answers = std::pin::pin!(question.execute());
    match answers.next().await {
        Some(Ok(message)) => Ok(Some(message)),
        Some(Err(error)) => match io_error(error) {
            error if error.raw_os_error() == Some(ENODEV) => Ok(None),
            error => Err(error),
        },
        None => Ok(None),
    }
}

fn link(message: LinkMessage) -> Link {
    let is_ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: LinkKind::Other,
        hwaddr: None,
        mtu: 0,
        is_up: message.header.flags.contains(LinkFlags::Up),
        has_carrier: message.header.flags.contains(LinkFlags::LowerUp),
        carrier_changes: 0,
        port: None,
        has_ipv6: false,
        checks_sources: false,
    };
    // A device without `IFLA_INFO_KIND` has a driver of its own behind it.
    let (mut info_kind, mut permanent_hwaddr, mut is_ours) = (None, None, false);
    let (mut master, mut is_learning) = (None, false);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.hwaddr = bytes.try_into().ok(),
            LinkAttribute::PermAddress(bytes) => permanent_hwaddr = bytes.try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => master = Some(index).filter(|&index| index != 0),
            LinkAttribute::CarrierChanges(count) => link.carrier_changes = count,
            LinkAttribute::IfAlias(alias) => is_ours = alias == OUR_ALIAS,
            LinkAttribute::AfSpecUnspec(families) => {
                link.has_ipv6 = families.iter().any(is_ipv6_enabled);
                link.checks_sources = families.iter().any(is_checking_sources);
            }
            LinkAttribute::LinkInfo(info) => {
                for part in info {
                    match part {
                        LinkInfo::Kind(kind) => info_kind = Some(kind),
                        LinkInfo::PortData(InfoPortData::BridgePort(settings)) => {
                            is_learning = settings.contains(&InfoBridgePort::Learning(true));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link.kind = match info_kind {
        Some(InfoKind::Bridge) => LinkKind::Bridge { is_ours },
        Some(InfoKind::Veth) => LinkKind::Veth,
        None if is_ethernet => LinkKind::Hardware { permanent_hwaddr },
        Some(_) | None => LinkKind::Other,
    };
    link.port = master.map(|of| Port { of, is_learning });
    link
}

fn is_ipv6_enabled(family: &AfSpecUnspec) -> bool {
    let AfSpecUnspec::Inet6(settings) = family else { return false };
    settings.iter().any(|setting| matches!(setting, AfSpecInet6::DevConf(conf) if conf.disable_ipv6 == 0))
}

fn is_checking_sources(family: &AfSpecUnspec) -> bool {
    let AfSpecUnspec::Inet(settings) = family else { return false };
    settings.iter().any(|setting| matches!(setting, AfSpecInet::DevConf(conf) if conf.rp_filter == STRICT))
}

fn address(message: &AddressMessage) -> Option<Address> {
    let mut local = None;
    let mut is_ours = false;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Protocol(protocol) => is_ours = *protocol == OUR_ADDRESS_PROTOCOL,
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => local = local.or(Some(*address)),
            _ => {}
        }
    }
    let header = &message.header;
    (header.family == AddressFamily::Inet).then_some(())?;
    let prefix = IpPrefix::new(local?, header.prefix_len).ok()?;
    Some(Address { link: header.index, prefix, is_ours })
}

fn route(message: &RouteMessage) -> Option<LinkRoute> {
    let header = &message.header;
    let is_main = header.table == RouteHeader::RT_TABLE_MAIN && header.kind == RouteType::Unicast;
    if !is_main || header.address_family != AddressFamily::Inet || header.protocol == RouteProtocol::Kernel {
        return None;
    }
    let (mut link, mut metric) = (0, 0);
    let (mut destination, mut gateway) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = *index,
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = IpAddr::V4(*address),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(IpAddr::V4(*address)),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    let to = IpPrefix::new(destination, header.destination_prefix_length).ok()?;
    Some(LinkRoute { link, route: Route { to, gateway }, metric, is_ours: header.protocol == OUR_ROUTE_PROTOCOL })
}
