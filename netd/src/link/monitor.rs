//! A socket that tells that links, addresses or routes have changed. The messages are not parsed: after each, everything is read
//! again, so a lost message does no harm.

use crate::readiness::{Watched, read_from, watch};
use std::io;
use yado_sys::netlink::{self, Protocol};

/// linux/rtnetlink.h: links, IPv4 addresses, IPv4 routes, and the links' IPv4 settings, which a host's own services may write
/// when they see a new link.
const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV4_NETCONF: u32 = 24;

/// Waits for changes.
#[derive(Debug)]
pub struct LinkMonitor {
    socket: Watched,
}

impl LinkMonitor {
    /// Listens from now on.
    pub fn open() -> io::Result<LinkMonitor> {
        let groups = [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_NETCONF];
        Ok(LinkMonitor { socket: watch(netlink::open(Protocol::Route, &groups)?)? })
    }

    /// Returns once something has changed since the last call.
    pub async fn changed(&self) -> io::Result<()> {
        read_from(&self.socket, |socket| {
            let mut has_changed = None;
            // A message is taken off the queue whole, however little of it is read.
            while netlink::recv(socket, &mut [0; 16])?.is_some() {
                has_changed = Some(());
            }
            Ok(has_changed)
        })
        .await
    }
}
