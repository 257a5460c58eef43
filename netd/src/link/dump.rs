//! Looking at everything there is, by rtnetlink, and its messages as values.

use super::kernel::{Kernel, STRICT, io_error};
use super::observed::{Address, Link, LinkKind, OUR_ALIAS, Observed, Route};
use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, InfoBridgePort, InfoKind, InfoPortData, LinkAttribute, LinkFlags,
    LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

impl Kernel {
    /// Looks at everything.
    pub async fn observe(&self) -> io::Result<Observed> {
        let mut observed = Observed::default();
        let mut links = std::pin::pin!(self.handle.link().get().execute());
        while let Some(message) = links.try_next().await.map_err(io_error)? {
            observed.links.push(link(message));
        }
        let mut request = self.handle.address().get();
        request.message_mut().header.family = AddressFamily::Inet;
        let mut addresses = std::pin::pin!(request.execute());
        while let Some(message) = addresses.try_next().await.map_err(io_error)? {
            observed.addresses.extend(address(&message));
        }
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        let mut routes = std::pin::pin!(self.handle.route().get(request).execute());
        while let Some(message) = routes.try_next().await.map_err(io_error)? {
            observed.routes.extend(route(&message));
        }
        Ok(observed)
    }
}

fn link(message: LinkMessage) -> Link {
    let is_ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: if is_ethernet { LinkKind::Hardware } else { LinkKind::Other },
        hwaddr: None,
        permanent_hwaddr: None,
        mtu: 0,
        is_up: message.header.flags.contains(LinkFlags::Up),
        has_carrier: message.header.flags.contains(LinkFlags::LowerUp),
        carrier_changes: 0,
        master: None,
        is_ours: false,
        has_ipv6: false,
        is_learning: false,
        checks_sources: false,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.hwaddr = bytes.try_into().ok(),
            LinkAttribute::PermAddress(bytes) => link.permanent_hwaddr = bytes.try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(master) => link.master = Some(master).filter(|&master| master != 0),
            LinkAttribute::CarrierChanges(count) => link.carrier_changes = count,
            LinkAttribute::IfAlias(alias) => link.is_ours = alias == OUR_ALIAS,
            LinkAttribute::AfSpecUnspec(families) => {
                link.has_ipv6 = families.iter().any(is_ipv6_enabled);
                link.checks_sources = families.iter().any(is_checking_sources);
            }
            LinkAttribute::LinkInfo(info) => {
                // A device without `IFLA_INFO_KIND` has a driver of its own behind it.
                for kind in info {
                    match kind {
                        LinkInfo::Kind(InfoKind::Bridge) => link.kind = LinkKind::Bridge,
                        LinkInfo::Kind(InfoKind::Veth) => link.kind = LinkKind::Veth,
                        LinkInfo::Kind(_) => link.kind = LinkKind::Other,
                        LinkInfo::PortData(InfoPortData::BridgePort(settings)) => {
                            link.is_learning = settings.contains(&InfoBridgePort::Learning(true));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
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
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(IpAddr::V4(address)) => local = Some(*address),
            AddressAttribute::Address(IpAddr::V4(address)) => local = local.or(Some(*address)),
            _ => {}
        }
    }
    let header = &message.header;
    (header.family == AddressFamily::Inet).then_some(())?;
    Some(Address { link: header.index, address: local?, prefix_len: header.prefix_len })
}

fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let is_main = header.table == RouteHeader::RT_TABLE_MAIN && header.kind == RouteType::Unicast;
    if !is_main || header.address_family != AddressFamily::Inet || header.protocol == RouteProtocol::Kernel {
        return None;
    }
    let mut route = Route {
        link: 0,
        destination: Ipv4Addr::UNSPECIFIED,
        prefix_len: header.destination_prefix_length,
        gateway: None,
        metric: 0,
        is_by_dhcp: header.protocol == RouteProtocol::Dhcp,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(link) => route.link = *link,
            RouteAttribute::Destination(RouteAddress::Inet(destination)) => route.destination = *destination,
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => route.gateway = Some(*gateway),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            _ => {}
        }
    }
    Some(route)
}
