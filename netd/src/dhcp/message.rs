//! A DHCP message (RFC 2131, options of RFC 2132), bytes to value and back. Server and client share it. Pure; whatever the
//! network says, parsing ends in a value or in an error. Options that neither of us uses are left out.

use crate::link::route::Route;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use yado_spec::network::IpPrefix;

/// The longest message we read or write: what fits in an Ethernet frame beside IP and UDP headers.
pub const MAX_BYTES: usize = 1472;

/// A request or reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// From a client, or from a server.
    pub op: Op,
    /// Chosen by the client, repeated by the server.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// The client cannot hear unicast yet.
    pub broadcast: bool,
    /// The client's address, which it already uses.
    pub ciaddr: Ipv4Addr,
    /// The address the server gives.
    pub yiaddr: Ipv4Addr,
    /// The relay; we serve none.
    pub giaddr: Ipv4Addr,
    /// The client's hardware address.
    pub chaddr: [u8; 6],
    /// Option 53.
    pub kind: Kind,
    /// The other options.
    pub options: Options,
}

/// The direction of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// From a client.
    Request,
    /// From a server.
    Reply,
}

/// Option 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The client looks for servers.
    Discover,
    /// A server offers an address.
    Offer,
    /// The client asks for one, or asks to keep one.
    Request,
    /// The client found the address taken.
    Decline,
    /// The server grants it.
    Ack,
    /// The server refuses it.
    Nak,
    /// The client gives it back.
    Release,
    /// The client has an address and wants the rest.
    Inform,
}

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

/// Why bytes are no DHCP message of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageError {
    /// It ends in the fixed part.
    Short,
    /// Not Ethernet with a six-byte address, or neither a request nor a reply.
    Hardware,
    /// BOOTP without DHCP's cookie.
    Cookie,
    /// Option 53 is absent or unknown.
    Kind,
}

impl Options {
    /// More routers or servers than this are left out.
    pub const MAX_ADDRESSES: usize = 8;
}

/// op, htype, hlen, hops, xid, secs, flags, four addresses, chaddr, sname, file.
const FIXED_BYTES: usize = 236;
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// RFC 1035, 2.3.4.
const MAX_NAME_BYTES: usize = 255;
/// What BOOTP relays and old clients expect at least.
const MIN_BYTES: usize = 300;
/// A reply with all of our options and the longest names.
const USUAL_BYTES: usize = 512;
const BROADCAST_FLAG: u16 = 0x8000;
const ETHERNET: u8 = 1;

/// Reads the payload of a UDP datagram.
pub fn parse_message(bytes: &[u8]) -> Result<Message, MessageError> {
    let fixed = bytes.get(..FIXED_BYTES).ok_or(MessageError::Short)?;
    let op = match fixed[0] {
        1 => Op::Request,
        2 => Op::Reply,
        _ => return Err(MessageError::Hardware),
    };
    if fixed[1] != ETHERNET || fixed[2] != 6 {
        return Err(MessageError::Hardware);
    }
    let area = bytes[FIXED_BYTES..].strip_prefix(&COOKIE).ok_or(MessageError::Cookie)?;
    let mut joined = BTreeMap::new();
    join_options(area, &mut joined);
    let overload = joined.get(&52).and_then(|joined| joined.value.first().copied()).unwrap_or(0);
    // RFC 2131, 4.1: `file` is read before `sname`.
    if overload & 1 != 0 {
        join_options(&fixed[FILE], &mut joined);
    }
    if overload & 2 != 0 {
        join_options(&fixed[SNAME], &mut joined);
    }
    let mut options = Options::default();
    let mut kind = None;
    for (code, Joined { value, first_bytes }) in &joined {
        // A server that says an option of fixed length twice means the same both times. One that is not as it can be is left
        // out: what matters is whether the rest makes sense without it.
        let _ = parse_option(*code, value, &mut options, &mut kind)
            .or_else(|| parse_option(*code, &value[..*first_bytes], &mut options, &mut kind));
    }
    let address = |at: usize| Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]);
    Ok(Message {
        op,
        xid: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        secs: u16::from_be_bytes([fixed[8], fixed[9]]),
        broadcast: u16::from_be_bytes([fixed[10], fixed[11]]) & BROADCAST_FLAG != 0,
        ciaddr: address(12),
        yiaddr: address(16),
        giaddr: address(24),
        chaddr: [fixed[28], fixed[29], fixed[30], fixed[31], fixed[32], fixed[33]],
        kind: kind.ok_or(MessageError::Kind)?,
        options,
    })
}

/// The value of an option that may be in several parts.
struct Joined {
    value: Vec<u8>,
    first_bytes: usize,
}

/// Reads one area of options. RFC 3396: parts of the same option are one value, wherever they stand.
fn join_options(mut area: &[u8], joined: &mut BTreeMap<u8, Joined>) {
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
fn parse_option(code: u8, value: &[u8], options: &mut Options, kind: &mut Option<Kind>) -> Option<()> {
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
            *kind = Kind::from_code(code);
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
fn text(value: &[u8]) -> Option<String> {
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

impl Message {
    /// The bytes, padded to what old implementations expect at least.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(USUAL_BYTES);
        out.extend([
            match self.op {
                Op::Request => 1,
                Op::Reply => 2,
            },
            ETHERNET,
            6,
            0,
        ]);
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        out.extend(if self.broadcast { BROADCAST_FLAG } else { 0 }.to_be_bytes());
        out.extend(self.ciaddr.octets());
        out.extend(self.yiaddr.octets());
        out.extend([0; 4]);
        out.extend(self.giaddr.octets());
        out.extend(self.chaddr);
        out.resize(FIXED_BYTES, 0);
        out.extend(COOKIE);
        put(&mut out, 53, &[self.kind.code()]);
        self.options.encode(&mut out);
        out.push(255);
        if out.len() < MIN_BYTES {
            out.resize(MIN_BYTES, 0);
        }
        out
    }
}

impl Options {
    fn encode(&self, out: &mut Vec<u8>) {
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
fn put(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    for part in value.chunks(usize::from(u8::MAX)) {
        out.push(code);
        out.push(part.len() as u8);
        out.extend(part);
    }
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Discover,
        Kind::Offer,
        Kind::Request,
        Kind::Decline,
        Kind::Ack,
        Kind::Nak,
        Kind::Release,
        Kind::Inform,
    ];

    fn code(self) -> u8 {
        self as u8 + 1
    }

    fn from_code(code: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
