//! What a DHCP server granted to the uplink. It is parsed from the acknowledgement, and every value is limited to a usable range,
//! whatever the server says. Pure; saved for a restarted netd.

use super::client::is_host;
use super::message::{Message, MessageType};
use crate::link::route::Route;
use std::net::Ipv4Addr;
use std::time::Duration;

/// A granted lease. Times are on the boot clock; `Duration::MAX` is never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Its network's prefix length.
    pub prefix_len: u8,
    /// Who granted it (option 54): who is asked for more time first.
    pub server: Ipv4Addr,
    /// Where packets go: option 121, else a default route by option 3.
    pub routes: Vec<Route>,
    /// Name servers, at most three.
    pub name_servers: Vec<Ipv4Addr>,
    /// The domain in which the uplink lies (option 15), at most 255 bytes.
    pub domain: Option<String>,
    /// The link's MTU, if the server said a sensible one.
    pub mtu: Option<u16>,
    /// When to ask its server for more time: T1 of RFC 2131, 4.4.5, by default half of the lease.
    pub renew_at: Duration,
    /// When to ask any server: T2, by default seven eighths.
    pub rebind_at: Duration,
    /// When its address must not be used any more.
    pub end_at: Duration,
}

/// resolv.conf(5): more are not looked at.
pub const MAX_NAME_SERVERS: usize = 3;
/// A server that grants less, or has us renew sooner, would keep us asking, and could give another address each time.
const MIN_RENEW_S: u32 = 60;
const MIN_LEASE_S: u32 = 2 * MIN_RENEW_S;
/// RFC 791: every link carries this, but RFC 2132, 5.1 lets 68 be said; below 576 a link is not worth having.
const MIN_MTU: u16 = 576;

/// The lease of an acknowledgement whose request was first sent at `asked_at`. `None`: it grants nothing usable.
pub fn parse_lease(message: &Message, asked_at: Duration) -> Option<Lease> {
    let options = &message.options;
    if message.kind != MessageType::Ack || !is_host(message.yiaddr) {
        return None;
    }
    let mask = options.subnet_mask.unwrap_or(Ipv4Addr::new(255, 255, 255, 0)).to_bits();
    if mask.leading_ones() + mask.trailing_zeros() != 32 || mask == 0 {
        return None;
    }
    let (renew_at, rebind_at, end_at) = match options.lease_time?.max(MIN_LEASE_S) {
        u32::MAX => (Duration::MAX, Duration::MAX, Duration::MAX),
        total => {
            // RFC 2131, 4.4.5: a half and seven eighths, unless the server says otherwise and in that order.
            let renew = options
                .renewal_time
                .filter(|&renew| 0 < renew && renew < total)
                .unwrap_or(total / 2)
                .max(MIN_RENEW_S);
            let rebind = options.rebinding_time.filter(|&rebind| renew < rebind && rebind < total);
            let rebind = rebind.unwrap_or(renew + (total - renew) / 4 * 3);
            let at = |seconds: u32| asked_at + Duration::from_secs(seconds.into());
            (at(renew), at(rebind), at(total))
        }
    };
    let routes = match &options.classless_routes[..] {
        [] => {
            let router = options.routers.iter().find(|router| is_host(**router));
            router.map(|router| Route::default_ipv4(*router)).into_iter().collect()
        }
        // RFC 3442: bits beyond the prefix are to be ignored; the kernel refuses them.
        routes => routes.iter().map(|route| Route { to: route.to.network(), ..*route }).collect(),
    };
    Some(Lease {
        address: message.yiaddr,
        prefix_len: mask.leading_ones() as u8,
        server: options.server_id?,
        routes,
        name_servers: options.name_servers.iter().copied().filter(|a| is_host(*a)).take(MAX_NAME_SERVERS).collect(),
        domain: options.domain_name.clone(),
        mtu: options.mtu.filter(|&mtu| MIN_MTU <= mtu),
        renew_at,
        rebind_at,
        end_at,
    })
}
