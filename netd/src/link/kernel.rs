//! Applies one step of a plan, by rtnetlink, and by one file of `/proc/sys` for what rtnetlink cannot change. Every call is one
//! request that the kernel answers at once; nothing is decided here.

use super::deletion::MAX_DELETING;
use super::observed::{Address, LinkRoute, OUR_ALIAS};
use super::plan::{LinkId, PlanStep};
use super::route::Route;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol};
use rtnetlink::packet_route::link::{
    AfSpecInet, AfSpecUnspec, InetDevConf, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoMacVlan, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{AddressMessageBuilder, Handle};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;
use yado_sys::interface;

/// By it we know our own addresses and routes (`IFA_PROTO` since Linux 5.18, `rtm_protocol`): 89, which nobody has in
/// linux/rtnetlink.h and in iproute2's rt_protos.
pub(super) const OUR_ADDRESS_PROTOCOL: AddressProtocol = AddressProtocol::Other(89);
pub(super) const OUR_ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(89);

/// `rp_filter`, in ip-sysctl of the kernel's documentation: the way back must be the link that a packet came by.
pub(super) const STRICT: i32 = 1;

/// What a pair has by default: the kernel makes as many queues as it could have processors, and then waits until all of these
/// have heard that only the first one is used. Who asks for one gets one, and no wait.
const ONE_QUEUE: [LinkAttribute; 2] = [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];

/// The kernel's links, addresses and routes.
#[derive(Debug, Clone)]
pub struct Kernel {
    pub(super) handle: Handle,
    /// It keeps the protocol numbers of addresses (Linux 5.18), so ours are known.
    pub(super) keeps_address_protocols: bool,
    /// Who may wait in a thread for a link to be taken away.
    pub(super) deleting: Arc<Semaphore>,
}

/// An interface to make inside another network namespace. It is left down: who lives there brings it up.
#[derive(Debug, Clone, Copy)]
pub struct Inside<'a> {
    /// The namespace.
    pub netns: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a str,
    /// Its hardware address; `None`: as it is.
    pub hwaddr: Option<[u8; 6]>,
    /// Its MTU; `None`: the kernel's choice.
    pub mtu: Option<u32>,
}

impl Kernel {
    /// Opens the socket; the task that serves it runs on the current runtime.
    pub fn open() -> io::Result<Kernel> {
        let (mut connection, handle, _messages) = rtnetlink::new_connection()?;
        // The end of a dump may be all that says that something changed meanwhile.
        connection.set_forward_done(true);
        tokio::spawn(connection);
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let deleting = Arc::new(Semaphore::new(MAX_DELETING));
        Ok(Kernel { handle, keeps_address_protocols: keeps_address_protocols(&release), deleting })
    }

    /// Does one step.
    pub async fn apply(&self, step: &PlanStep) -> io::Result<()> {
        match step {
            PlanStep::CreateBridge { name, hwaddr, mtu } => self.create_bridge(name, *hwaddr, *mtu).await,
            PlanStep::MarkBridge { link } => {
                self.set(change(link, [LinkAttribute::IfAlias(OUR_ALIAS.to_owned())])).await
            }
            PlanStep::DeleteLink { link, name: _ } => self.delete(*link).await,
            PlanStep::DisableIpv6 { name } => disable_ipv6(name),
            PlanStep::CheckSources { link } => self.set(change(link, [checked_sources()])).await,
            PlanStep::SetUp { link } => self.set(set_up(*link)).await,
            PlanStep::SetDown { link } => self.set(set_down(*link)).await,
            PlanStep::SetHwaddr { link, hwaddr } => {
                self.set(change_at(*link, [LinkAttribute::Address(hwaddr.to_vec())])).await
            }
            PlanStep::SetMtu { link, mtu } => self.set(change_at(*link, [LinkAttribute::Mtu(*mtu)])).await,
            PlanStep::SetMaster { link, master } => {
                self.set(change_at(*link, [LinkAttribute::Controller(master.unwrap_or(0))])).await
            }
            PlanStep::StopLearning { link, hwaddr } => self.stop_learning(link, *hwaddr).await,
            PlanStep::Rename { link, name } => {
                self.set(set_down(*link)).await?;
                self.set(change_at(*link, [LinkAttribute::IfName(name.clone())])).await
            }
            PlanStep::AddAddress(Address { link, prefix, is_ours: _ }) => {
                let mut request = self.handle.address().add(*link, prefix.address(), prefix.prefix_len()).replace();
                request.message_mut().attributes.push(AddressAttribute::Protocol(OUR_ADDRESS_PROTOCOL));
                done(request.execute().await)
            }
            PlanStep::RemoveAddress(address) => {
                done(self.handle.address().del(address_message(address)).execute().await)
            }
            PlanStep::AddRoute(route) => done(self.handle.route().add(route_message(route)).execute().await),
            PlanStep::RemoveRoute(route) => done(self.handle.route().del(route_message(route)).execute().await),
        }
    }

    /// Takes a link away.
    pub async fn delete(&self, link: u32) -> io::Result<()> {
        done(self.handle.link().del(link).execute().await)
    }

    /// Makes a pair: one end inside, the other a port of `bridge` and up.
    ///
    /// The inner end is made where it stays, under the name that it keeps: to move or rename it, the kernel waits twice until
    /// every processor has forgotten where it was, and so does whoever wants anything of links meanwhile. Its name is looked
    /// for only in its own namespace: no kernel does otherwise for the second end of a pair. It is down, so nothing comes out
    /// of it; it comes up after our answer only.
    pub async fn create_veth(&self, name: &str, hwaddr: [u8; 6], bridge: u32, inside: Inside<'_>) -> io::Result<()> {
        let mut outer = set_up(0);
        outer.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(hwaddr.to_vec()),
            LinkAttribute::Controller(bridge),
        ];
        outer.attributes.extend(ONE_QUEUE);
        outer.attributes.extend(inside.mtu.map(LinkAttribute::Mtu));
        let mut inner = link_named(inside.name, inside);
        inner.attributes.push(LinkAttribute::NetNsFd(inside.netns.as_raw_fd()));
        inner.attributes.extend(ONE_QUEUE);
        outer.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inner))),
        ]));
        done(self.handle.link().add(outer).execute().await)
    }

    /// The entry comes first: that a port does not learn then says that it has one.
    async fn stop_learning(&self, port: &LinkId, hwaddr: [u8; 6]) -> io::Result<()> {
        let port = match port {
            LinkId::Index(index) => *index,
            LinkId::Name(name) => interface::index(name)?,
        };
        // `Noarp` is static here; the entry of a `Permanent` one would be an address of the host itself.
        let entry = self.handle.neighbours().add_bridge(port, &hwaddr).state(NeighbourState::Noarp);
        // On this bridge, and not to be moved by who claims the address from outside.
        let flags = NeighbourFlags::Controller | NeighbourFlags::Sticky;
        done(entry.flags(flags).replace().execute().await)?;
        // What it has learned by now goes too.
        let settings = vec![InfoBridgePort::Learning(false), InfoBridgePort::Flush];
        let info =
            vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(InfoPortData::BridgePort(settings))];
        done(self.handle.link().set_port(change_at(port, [LinkAttribute::LinkInfo(info)])).execute().await)
    }

    /// Makes a macvlan on the link `parent`, for the instance: inside at once, as the inner end of a pair.
    pub async fn create_macvlan(&self, parent: u32, hwaddr: [u8; 6], inside: Inside<'_>) -> io::Result<()> {
        let mut message = macvlan(inside.name, parent, inside);
        message.attributes.push(LinkAttribute::NetNsFd(inside.netns.as_raw_fd()));
        match done(self.handle.link().add(message).execute().await) {
            // Until Linux 6.2 the kernel looks for its name out here, where `eth0` is somebody else.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.pass_macvlan(parent, hwaddr, inside).await
            }
            answer => answer,
        }
    }

    /// Makes it under a name of passage, and moves it. The move comes before the name: when only the name is refused, the
    /// link is inside already.
    async fn pass_macvlan(&self, parent: u32, hwaddr: [u8; 6], inside: Inside<'_>) -> io::Result<()> {
        let passage = passage_name(hwaddr);
        done(self.handle.link().add(macvlan(&passage, parent, inside)).execute().await)?;
        let passed = match interface::index(&passage) {
            Ok(link) => self.enter(link, inside).await,
            Err(error) => Err(error),
        };
        if passed.is_err() {
            // If it got inside, it ends with the namespace, which the launcher now gives up.
            let named = change_at(0, [LinkAttribute::IfName(passage)]);
            let _ = self.handle.link().del_with_message(named).execute().await;
        }
        passed
    }

    /// Moves the link itself into the instance.
    pub async fn move_link(&self, link: u32, inside: Inside<'_>) -> io::Result<()> {
        // Address and MTU first, which it must be down for: after the move the link is out of our reach.
        self.set(set_down(link)).await?;
        let mut message = change_at(link, []);
        message.attributes.extend(inside.hwaddr.map(|hwaddr| LinkAttribute::Address(hwaddr.to_vec())));
        message.attributes.extend(inside.mtu.map(LinkAttribute::Mtu));
        self.set(message).await?;
        self.enter(link, inside).await
    }

    /// In one step: into the namespace, and to its name there.
    async fn enter(&self, link: u32, inside: Inside<'_>) -> io::Result<()> {
        let namespace = LinkAttribute::NetNsFd(inside.netns.as_raw_fd());
        self.set(change_at(link, [namespace, LinkAttribute::IfName(inside.name.to_owned())])).await
    }

    async fn create_bridge(&self, name: &str, hwaddr: [u8; 6], mtu: u32) -> io::Result<()> {
        let mut message = change_at(0, []);
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(hwaddr.to_vec()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                // Without spanning tree a port forwards at once whatever this is, but the kernel would wake everybody
                // who listens once more when the delay is over.
                LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::ForwardDelay(0)])),
            ]),
        ];
        done(self.handle.link().add(message).execute().await)
    }

    async fn set(&self, message: LinkMessage) -> io::Result<()> {
        done(self.handle.link().set(message).execute().await)
    }
}

/// Takes IPv6 away from a link, with all addresses and routes it may have got by it. rtnetlink shows this setting and cannot
/// change it; of what it can change, nothing keeps the kernel from hearing router advertisements.
fn disable_ipv6(name: &str) -> io::Result<()> {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(name).join("disable_ipv6");
    match File::options().write(true).open(path) {
        Ok(mut file) => file.write_all(b"1"),
        // This kernel has no IPv6, or this link's MTU is too small for it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn change<const N: usize>(link: &LinkId, attributes: [LinkAttribute; N]) -> LinkMessage {
    match link {
        LinkId::Index(index) => change_at(*index, attributes),
        LinkId::Name(name) => {
            let mut message = change_at(0, attributes);
            message.attributes.push(LinkAttribute::IfName(name.clone()));
            message
        }
    }
}

pub(super) fn change_at<const N: usize>(link: u32, attributes: [LinkAttribute; N]) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = link;
    message.attributes = attributes.into();
    message
}

/// The strict reverse path filter. What is 0 in a request stays as it is.
fn checked_sources() -> LinkAttribute {
    let mut conf = InetDevConf::default();
    conf.rp_filter = STRICT;
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(conf)])])
}

fn set_up(link: u32) -> LinkMessage {
    let mut message = change_at(link, []);
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

fn set_down(link: u32) -> LinkMessage {
    let mut message = change_at(link, []);
    message.header.change_mask = LinkFlags::Up;
    message
}

/// The name of a macvlan between being made and being inside: nobody else's, as it is its own address.
fn passage_name(hwaddr: [u8; 6]) -> String {
    format!("in{}", yado_wire::hex::encode(&hwaddr))
}

fn macvlan(name: &str, parent: u32, inside: Inside<'_>) -> LinkMessage {
    let mut message = link_named(name, inside);
    message.attributes.extend([
        LinkAttribute::Link(parent),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)])),
        ]),
    ]);
    message
}

fn link_named(name: &str, inside: Inside<'_>) -> LinkMessage {
    let mut message = change_at(0, [LinkAttribute::IfName(name.to_owned())]);
    message.attributes.extend(inside.hwaddr.map(|hwaddr| LinkAttribute::Address(hwaddr.to_vec())));
    message.attributes.extend(inside.mtu.map(LinkAttribute::Mtu));
    message
}

fn address_message(Address { link, prefix, is_ours: _ }: &Address) -> AddressMessage {
    match prefix.address() {
        IpAddr::V4(address) => {
            AddressMessageBuilder::<Ipv4Addr>::new().index(*link).address(address, prefix.prefix_len()).build()
        }
        IpAddr::V6(address) => {
            AddressMessageBuilder::<Ipv6Addr>::new().index(*link).address(address, prefix.prefix_len()).build()
        }
    }
}

fn route_message(LinkRoute { link, route: Route { to, gateway }, metric, is_ours: _ }: &LinkRoute) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: if to.address().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 },
        destination_prefix_length: to.prefix_len(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: OUR_ROUTE_PROTOCOL,
        scope: if gateway.is_some() { RouteScope::Universe } else { RouteScope::Link },
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![RouteAttribute::Oif(*link), RouteAttribute::Priority(*metric)];
    if to.prefix_len() != 0 {
        message.attributes.push(RouteAttribute::Destination(to.address().into()));
    }
    if let Some(gateway) = gateway {
        // Some providers hand out a router outside the network; it is on the link all the same.
        message.header.flags = RouteFlags::Onlink;
        message.attributes.push(RouteAttribute::Gateway((*gateway).into()));
    }
    message
}

/// Linux 5.18 is the first that keeps `IFA_PROTO`.
fn keeps_address_protocols(release: &str) -> bool {
    let mut numbers =
        release.split(|byte: char| !byte.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    (5, 18) <= (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn done(result: Result<(), rtnetlink::Error>) -> io::Result<()> {
    result.map_err(io_error)
}

/// The kernel's error number, where it was the kernel that refused.
pub(super) fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(refusal) => refusal.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_before_5_18_does_not_say_who_made_an_address() {
        for (release, expected) in
            [("5.17.0", false), ("5.18.0-rc1", true), ("6.1.0-13-arm64", true), ("4.19.300", false), ("", false)]
        {
            assert_eq!(keeps_address_protocols(release), expected, "{release}");
        }
    }
}
