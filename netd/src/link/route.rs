//! A route: the same type for what a DHCP server says, what is configured, and what the kernel has.

use std::net::{IpAddr, Ipv4Addr};
use yado_spec::network::IpPrefix;

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The destination: a network's first address.
    pub to: IpPrefix,
    /// The router; `None`: the destination is on the link.
    pub gateway: Option<IpAddr>,
}

impl Route {
    /// To everywhere.
    pub fn default_ipv4(gateway: Ipv4Addr) -> Route {
        Route::default_by(IpAddr::V4(gateway))
    }

    /// To everywhere that has addresses of the router's family.
    pub fn default_by(gateway: IpAddr) -> Route {
        let to = if gateway.is_ipv4() { IpPrefix::ALL_IPV4 } else { IpPrefix::ALL_IPV6 };
        Route { to, gateway: Some(gateway) }
    }
}
