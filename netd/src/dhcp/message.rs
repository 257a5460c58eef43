//! A DHCP message (RFC 2131, options of RFC 2132), from bytes to a value and back, for server and client. Pure; parsing ends in a
//! value or in an error for any bytes. Options that neither side uses are left out.

mod options;

pub use options::Options;
use options::{Joined, join_options, parse_option, put};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

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
    pub kind: MessageType,
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
pub enum MessageType {
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
    MessageType,
}

/// op, htype, hlen, hops, xid, secs, flags, four addresses, chaddr, sname, file.
const FIXED_BYTES: usize = 236;
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
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
        kind: kind.ok_or(MessageError::MessageType)?,
        options,
    })
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

impl MessageType {
    const ALL: [MessageType; 8] = [
        MessageType::Discover,
        MessageType::Offer,
        MessageType::Request,
        MessageType::Decline,
        MessageType::Ack,
        MessageType::Nak,
        MessageType::Release,
        MessageType::Inform,
    ];

    fn code(self) -> u8 {
        self as u8 + 1
    }

    fn from_code(code: u8) -> Option<MessageType> {
        MessageType::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
