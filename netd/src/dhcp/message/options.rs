//! The options of a DHCP message (RFC 2132), bytes to values and back. Pure.

use super::MessageType;
use crate::link::route::Route;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use yado_spec::network::IpPrefix;

/// The options that we use, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// 1.
    pub subnet_mask: Option<Ipv4Addr>,
    /// 3, at most [`Options::MAX_ADDRESSES`].
    pub routers: Vec<Ipv4Addr>,
    /// 6, at most [`Options::MAX_ADDRESSES`].
    pub name_servers: Vec<Ipv4Addr>,
    /// 12.
    pub host_name: Option<String>,
    /// 15.
    pub domain_name: Option<String>,
    /// 26.
    pub mtu: Option<u16>,
    /// 28.
    pub broadcast_address: Option<Ipv4Addr>,
    /// 50.
    pub requested_address: Option<Ipv4Addr>,
    /// 51, seconds; `u32::MAX` never ends.
    pub lease_time: Option<u32>,
    /// 54.
    pub server_id: Option<Ipv4Addr>,
    /// 55: the options the client wants.
    pub parameters: Vec<u8>,
    /// 57.
    pub max_message_size: Option<u16>,
    /// 58, seconds.
    pub renewal_time: Option<u32>,
    /// 59, seconds.
    pub rebinding_time: Option<u32>,
    /// 61.
    pub client_id: Vec<u8>,
    /// 121 (RFC 3442), at most [`Options::MAX_ADDRESSES`]; where there are any, `routers` do not count.
    pub classless_routes: Vec<Route>,
}

impl Options {
    /// More routers or servers than this are left out.
    pub const MAX_ADDRESSES: usize = 8;
}

/// RFC 1035, 2.3.4.
const MAX_NAME_BYTES: usize = 255;

/// The value of an option that may be in several parts.
pub(super) struct Joined {
    pub(super) value: Vec<u8>,
    pub(super) first_bytes: usize,
}

/// Reads one area of options. RFC 3396: parts of the same option are one value, wherever they stand.
pub(super) fn join_options(mut area: &[u8], joined: &mut BTreeMap<u8, Joined>) {
    loop {
        let (code, rest) = match area.split_first() {
            // Some servers leave out the end.
            None | Some((255, _)) => return,
            Some((0, rest)) => {
                area = rest;
                continue;
            }
            Some((&code, rest)) => (code, rest),
        };
        let Some((&len, rest)) = rest.split_first() else { return };
        // Cut off: what came before it counts.
        let Some((value, rest)) = rest.split_at_checked(usize::from(len)) else { return };
        area = rest;
        joined
            .entry(code)
            .and_modify(|joined| joined.value.extend(value))
            .or_insert_with(|| Joined { value: value.to_vec(), first_bytes: value.len() });
    }
}

/// `None`: the value's length is not one that the option can have.
pub(super) fn parse_option(
    code: u8,
    value: &[u8],
    options: &mut Options,
    kind: &mut Option<MessageType>,
) -> Option<()> {
    match code {
        1 => options.subnet_mask = Some(one_address(value)?),
        3 => options.routers = addresses(value)?,
        6 => options.name_servers = addresses(value)?,
        12 => options.host_name = text(value),
        15 => options.domain_name = text(value),
        26 => options.mtu = Some(u16::from_be_bytes(value.try_into().ok()?)),
        28 => options.broadcast_address = Some(one_address(value)?),
        50 => options.requested_address = Some(one_address(value)?),
        51 => options.lease_time = Some(u32::from_be_bytes(value.try_into().ok()?)),
        53 => {
            let [code] = *<&[u8; 1]>::try_from(value).ok()?;
            *kind = MessageType::from_code(code);
        }
        54 => options.server_id = Some(one_address(value)?),
        55 => options.parameters = value.to_vec(),
        57 => options.max_message_size = Some(u16::from_be_bytes(value.try_into().ok()?)),
        58 => options.renewal_time = Some(u32::from_be_bytes(value.try_into().ok()?)),
        59 => options.rebinding_time = Some(u32::from_be_bytes(value.try_into().ok()?)),
        61 => options.client_id = value.to_vec(),
        121 => options.classless_routes = routes(value)?,
        _ => {}
    }
    Some(())
}

fn one_address(value: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))
}

fn addresses(value: &[u8]) -> Option<Vec<Ipv4Addr>> {
    if value.is_empty() || value.len() % 4 != 0 {
        return None;
    }
    value.chunks_exact(4).take(Options::MAX_ADDRESSES).map(one_address).collect()
}

/// Names come from strangers and end in files and log lines: printable ASCII, or not taken.
pub(super) fn text(value: &[u8]) -> Option<String> {
    // RFC 2132, 2: trailing NULs are to be dropped.
    let end = value.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let value = &value[..end];
    if value.is_empty() || MAX_NAME_BYTES < value.len() || !value.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    String::from_utf8(value.to_vec()).ok()
}

fn routes(mut value: &[u8]) -> Option<Vec<Route>> {
    let mut routes = Vec::new();
    while let Some((&prefix_len, rest)) = value.split_first() {
        let significant = usize::from(prefix_len).div_ceil(8);
        if 4 < significant {
            return None;
        }
        let (start, rest) = rest.split_at_checked(significant)?;
        let (router, rest) = rest.split_at_checked(4)?;
        let mut destination = [0; 4];
        destination[..significant].copy_from_slice(start);
        let to = IpPrefix::new(destination.into(), prefix_len).ok()?;
        // RFC 3442: a router of 0.0.0.0 says that the destination is on the link.
        let gateway = Some(one_address(router)?).filter(|router| !router.is_unspecified()).map(IpAddr::V4);
        if routes.len() < Options::MAX_ADDRESSES {
            routes.push(Route { to, gateway });
        }
        value = rest;
    }
    Some(routes)
}

impl Options {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_address(out, 54, self.server_id);
        put_seconds(out, 51, self.lease_time);
        put_seconds(out, 58, self.renewal_time);
        put_seconds(out, 59, self.rebinding_time);
        put_address(out, 1, self.subnet_mask);
        put_address(out, 28, self.broadcast_address);
        // RFC 3442: classless routes before routers.
        put(out, 121, &self.classless_routes.iter().flat_map(encode_route).collect::<Vec<u8>>());
        put_addresses(out, 3, &self.routers);
        put_addresses(out, 6, &self.name_servers);
        put(out, 12, self.host_name.as_deref().unwrap_or_default().as_bytes());
        put(out, 15, self.domain_name.as_deref().unwrap_or_default().as_bytes());
        put_number(out, 26, self.mtu);
        put_address(out, 50, self.requested_address);
        put_number(out, 57, self.max_message_size);
        put(out, 61, &self.client_id);
        put(out, 55, &self.parameters);
    }
}

/// Option 121 has no routes of IPv6.
fn encode_route(route: &Route) -> Vec<u8> {
    let (IpAddr::V4(destination), None | Some(IpAddr::V4(_))) = (route.to.address(), route.gateway) else {
        return Vec::new();
    };
    let router = match route.gateway {
        Some(IpAddr::V4(router)) => router,
        Some(IpAddr::V6(_)) | None => Ipv4Addr::UNSPECIFIED,
    };
    let significant = usize::from(route.to.prefix_len()).div_ceil(8);
    let mut out = vec![route.to.prefix_len()];
    out.extend(&destination.octets()[..significant]);
    out.extend(router.octets());
    out
}

fn put_address(out: &mut Vec<u8>, code: u8, address: Option<Ipv4Addr>) {
    if let Some(address) = address {
        put(out, code, &address.octets());
    }
}

fn put_addresses(out: &mut Vec<u8>, code: u8, addresses: &[Ipv4Addr]) {
    match addresses {
        [address] => put(out, code, &address.octets()),
        several => put(out, code, &several.iter().flat_map(Ipv4Addr::octets).collect::<Vec<u8>>()),
    }
}

fn put_seconds(out: &mut Vec<u8>, code: u8, seconds: Option<u32>) {
    if let Some(seconds) = seconds {
        put(out, code, &seconds.to_be_bytes());
    }
}

fn put_number(out: &mut Vec<u8>, code: u8, number: Option<u16>) {
    if let Some(number) = number {
        put(out, code, &number.to_be_bytes());
    }
}

/// RFC 3396: what is longer than one option can be goes on in the next. An option without a value is left out.
pub(super) fn put(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    for part in value.chunks(usize::from(u8::MAX)) {
        out.push(code);
        out.push(part.len() as u8);
        out.extend(part);
    }
}
