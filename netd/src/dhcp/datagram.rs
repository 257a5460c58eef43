//! UDP over IPv4 as bytes: a DHCP client must build and parse it itself as long as it has no address. Pure.

use std::net::{Ipv4Addr, SocketAddrV4};

const IP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const UDP: u8 = 17;

/// An IPv4 packet with one UDP datagram.
pub fn encode_datagram(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let udp_len = (UDP_BYTES + payload.len()) as u16;
    let mut out = Vec::with_capacity(IP_BYTES + UDP_BYTES + payload.len());
    out.extend([0x45, 0x10]); // version 4, five words; type of service: low delay
    out.extend((IP_BYTES as u16 + udp_len).to_be_bytes());
    out.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]); // no id, do not fragment, 64 hops, checksum to come
    out.extend(from.ip().octets());
    out.extend(to.ip().octets());
    let checksum = !sum(0, &out);
    out[10..12].copy_from_slice(&checksum.to_be_bytes());
    out.extend(from.port().to_be_bytes());
    out.extend(to.port().to_be_bytes());
    out.extend(udp_len.to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    let pseudo = [u32::from(UDP), u32::from(udp_len)].iter().sum::<u32>();
    let checksum = !sum(u32::from(sum(pseudo, &out[12..IP_BYTES])), &out[IP_BYTES..]);
    // RFC 768: 0 means "none", so a sum of 0 is written as its other form.
    let checksum = if checksum == 0 { u16::MAX } else { checksum };
    out[IP_BYTES + 6..IP_BYTES + 8].copy_from_slice(&checksum.to_be_bytes());
    out
}

/// The payload of the UDP datagram in an IPv4 packet that came by `port`, with its sender. Trailing bytes (Ethernet pads) are
/// dropped. The UDP checksum is not looked at: from a virtual link it is not filled in yet, and DHCP has its own cookie and
/// transaction id.
pub fn parse_datagram(packet: &[u8], port: u16) -> Option<(Ipv4Addr, &[u8])> {
    let first = *packet.first()?;
    let header_len = usize::from(first & 0xf) * 4;
    let header = packet.get(..header_len)?;
    if first >> 4 != 4 || header_len < IP_BYTES || header[9] != UDP || sum(0, header) != u16::MAX {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let udp = packet.get(header_len..total)?;
    let len = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    if u16::from_be_bytes([udp[2], udp[3]]) != port {
        return None;
    }
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    Some((source, udp.get(UDP_BYTES..len)?))
}

/// The one's complement sum of RFC 1071.
fn sum(start: u32, bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let mut total = words.fold(start, |total, word| total + word);
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read_and_nothing_torn_is() {
        let from = "0.0.0.0:68".parse().unwrap();
        let to = "255.255.255.255:67".parse().unwrap();
        let packet = encode_datagram(from, to, b"odd");
        assert_eq!(packet.len(), 31);
        assert_eq!(sum(0, &packet[..20]), u16::MAX, "header checksum");
        // Pseudo header: addresses, protocol 17, length 11; with the datagram itself it must sum to all ones.
        assert_eq!(sum(u32::from(sum(17 + 11, &packet[12..20])), &packet[20..]), u16::MAX, "UDP checksum");
        assert_eq!(parse_datagram(&packet, 67), Some((Ipv4Addr::UNSPECIFIED, &b"odd"[..])));
        assert_eq!(parse_datagram(&[&packet[..], &[0; 15]].concat(), 67), Some((Ipv4Addr::UNSPECIFIED, &b"odd"[..])));
        assert_eq!(parse_datagram(&packet, 68), None, "another port");
        for len in 0..packet.len() {
            assert_eq!(parse_datagram(&packet[..len], 67), None, "cut at {len}");
        }
        for at in 0..20 {
            let mut torn = packet.clone();
            torn[at] ^= 0x21;
            assert_eq!(parse_datagram(&torn, 67), None, "header byte {at}");
        }
    }
}
