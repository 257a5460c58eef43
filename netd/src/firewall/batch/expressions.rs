//! The conditions and actions of a rule, as expressions of nf_tables: each loads something into a register or compares what is
//! there. Pure. The numbers are those of linux/netfilter/nf_tables.h, each named as there.

use super::writer::{NLA_F_NESTED, Writer};
use crate::firewall::rules::{Key, Limit, Match, Set};
use std::net::Ipv4Addr;

const NFPROTO_IPV4: u8 = 2;
const NFT_REG_VERDICT: u32 = 0;
const NFT_REG_1: u32 = 1;
/// linux/if_ether.h.
const ETH_P_IP: u16 = 0x0800;

pub(super) fn put_match(out: &mut Writer, condition: &Match) {
    match condition {
        Match::From(link) => {
            put_meta(out, 6); // NFT_META_IIFNAME
            put_compare(out, Compare::Equal, &padded(link));
        }
        Match::To(link) => {
            put_meta(out, 7); // NFT_META_OIFNAME
            put_compare(out, Compare::Equal, &padded(link));
        }
        Match::Source(network, prefix_len) => put_address(out, 12, Compare::Equal, *network, *prefix_len),
        Match::NotDestination(network, prefix_len) => put_address(out, 16, Compare::Differ, *network, *prefix_len),
        Match::UdpFrom(port) => put_port(out, 17, 0, *port),
        Match::Udp(port) => put_port(out, 17, 2, *port),
        Match::Tcp(port) => put_port(out, 6, 2, *port),
        Match::BridgedTo(address) => {
            put_meta(out, 1); // NFT_META_PROTOCOL
            put_compare(out, Compare::Equal, &ETH_P_IP.to_be_bytes());
            put_payload(out, 1, 16, 4); // NFT_PAYLOAD_NETWORK_HEADER
            put_compare(out, Compare::Equal, &address.octets());
        }
        Match::NewConnection => {
            out.expression("ct", |out| {
                out.number(1, NFT_REG_1); // NFTA_CT_DREG
                out.number(2, 0); // NFTA_CT_KEY: NFT_CT_STATE
            });
            // IP_CT_NEW as a bit, in this machine's byte order.
            put_mask(out, &8u32.to_ne_bytes());
            put_compare(out, Compare::Differ, &[0; 4]);
        }
        Match::EchoRequest => put_icmp(out, 8),
        Match::ErrorBeyond(kind, network, prefix_len) => {
            put_icmp(out, *kind);
            // The header that it quotes begins after its own 8 bytes.
            put_payload(out, 2, 8 + 16, 4); // NFT_PAYLOAD_TRANSPORT_HEADER
            put_in_network(out, Compare::Differ, *network, *prefix_len);
        }
        Match::Over(limit) => put_limit(out, *limit),
        Match::OverEach(set, limit) => put_limit_each(out, set, *limit),
    }
}

/// `offset` bytes into the IPv4 header.
fn put_address(out: &mut Writer, offset: u32, compare: Compare, network: Ipv4Addr, prefix_len: u8) {
    put_meta(out, 15); // NFT_META_NFPROTO
    put_compare(out, Compare::Equal, &[NFPROTO_IPV4]);
    put_payload(out, 1, offset, 4); // NFT_PAYLOAD_NETWORK_HEADER
    put_in_network(out, compare, network, prefix_len);
}

/// ICMP of this type.
fn put_icmp(out: &mut Writer, kind: u8) {
    put_meta(out, 15); // NFT_META_NFPROTO
    put_compare(out, Compare::Equal, &[NFPROTO_IPV4]);
    put_meta(out, 16); // NFT_META_L4PROTO
    put_compare(out, Compare::Equal, &[1]);
    put_payload(out, 2, 0, 1); // NFT_PAYLOAD_TRANSPORT_HEADER: the type
    put_compare(out, Compare::Equal, &[kind]);
}

fn put_in_network(out: &mut Writer, compare: Compare, network: Ipv4Addr, prefix_len: u8) {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0);
    put_mask(out, &mask.to_be_bytes());
    put_compare(out, compare, &network.octets());
}

/// Goes on with the rule if there is more than `limit`.
fn put_limit(out: &mut Writer, limit: Limit) {
    match limit {
        Limit::Rate { per_second, burst } => out.expression("limit", |out| {
            out.value(1, &u64::from(per_second).to_be_bytes()); // NFTA_LIMIT_RATE
            out.value(2, &1u64.to_be_bytes()); // NFTA_LIMIT_UNIT: a second
            out.number(3, burst); // NFTA_LIMIT_BURST
            out.number(4, 0); // NFTA_LIMIT_TYPE: packets
            out.number(5, 1); // NFTA_LIMIT_FLAGS: NFT_LIMIT_F_INV
        }),
        Limit::Connections(count) => out.expression("connlimit", |out| {
            out.number(1, count); // NFTA_CONNLIMIT_COUNT
            out.number(2, 1); // NFTA_CONNLIMIT_FLAGS: NFT_CONNLIMIT_F_INV
        }),
    }
}

fn put_limit_each(out: &mut Writer, set: &Set, limit: Limit) {
    match set.key {
        Key::Source => {
            put_meta(out, 15); // NFT_META_NFPROTO
            put_compare(out, Compare::Equal, &[NFPROTO_IPV4]);
            put_payload(out, 1, 12, 4); // NFT_PAYLOAD_NETWORK_HEADER: the source
        }
        Key::Port => put_meta(out, 6), // NFT_META_IIFNAME
    }
    // NFT_DYNSET_OP_ADD leaves an entry's age as it is, NFT_DYNSET_OP_UPDATE begins it anew.
    let operation = u32::from(set.timeout_s.is_some());
    out.expression("dynset", |out| {
        out.text(1, &set.name); // NFTA_DYNSET_SET_NAME
        out.number(3, operation); // NFTA_DYNSET_OP
        out.number(4, NFT_REG_1); // NFTA_DYNSET_SREG_KEY
        // NFTA_DYNSET_EXPR has what an element of NFTA_RULE_EXPRESSIONS has.
        let start = out.bytes.len();
        put_limit(out, limit);
        let kind = (7 | NLA_F_NESTED).to_ne_bytes();
        out.bytes[start + 2..start + 4].copy_from_slice(&kind);
    });
}

/// `offset`: 0 is the source port, 2 the destination port.
fn put_port(out: &mut Writer, protocol: u8, offset: u32, port: u16) {
    put_meta(out, 16); // NFT_META_L4PROTO
    put_compare(out, Compare::Equal, &[protocol]);
    put_payload(out, 2, offset, 2); // NFT_PAYLOAD_TRANSPORT_HEADER
    put_compare(out, Compare::Equal, &port.to_be_bytes());
}

fn put_meta(out: &mut Writer, key: u32) {
    out.expression("meta", |out| {
        out.number(2, key); // NFTA_META_KEY
        out.number(1, NFT_REG_1); // NFTA_META_DREG
    });
}

fn put_payload(out: &mut Writer, base: u32, offset: u32, len: u32) {
    out.expression("payload", |out| {
        out.number(1, NFT_REG_1); // NFTA_PAYLOAD_DREG
        out.number(2, base); // NFTA_PAYLOAD_BASE
        out.number(3, offset); // NFTA_PAYLOAD_OFFSET
        out.number(4, len); // NFTA_PAYLOAD_LEN
    });
}

/// register = register & mask ^ 0
fn put_mask(out: &mut Writer, mask: &[u8; 4]) {
    out.expression("bitwise", |out| {
        out.number(1, NFT_REG_1); // NFTA_BITWISE_SREG
        out.number(2, NFT_REG_1); // NFTA_BITWISE_DREG
        out.number(3, 4); // NFTA_BITWISE_LEN
        out.nest(4, |out| out.value(1, mask)); // NFTA_BITWISE_MASK
        out.nest(5, |out| out.value(1, &[0; 4])); // NFTA_BITWISE_XOR
    });
}

#[derive(Clone, Copy)]
enum Compare {
    Equal,
    Differ,
}

fn put_compare(out: &mut Writer, compare: Compare, value: &[u8]) {
    out.expression("cmp", |out| {
        out.number(1, NFT_REG_1); // NFTA_CMP_SREG
        out.number(2, compare as u32); // NFTA_CMP_OP
        out.nest(3, |out| out.value(1, value)); // NFTA_CMP_DATA
    });
}

pub(super) fn put_verdict(out: &mut Writer, code: u32, chain: Option<&str>) {
    out.expression("immediate", |out| {
        out.number(1, NFT_REG_VERDICT); // NFTA_IMMEDIATE_DREG
        // NFTA_IMMEDIATE_DATA, in it NFTA_DATA_VERDICT
        out.nest(2, |out| {
            out.nest(2, |out| {
                out.number(1, code); // NFTA_VERDICT_CODE
                if let Some(chain) = chain {
                    out.text(2, chain); // NFTA_VERDICT_CHAIN
                }
            });
        });
    });
}

/// The kernel compares names as arrays of `IFNAMSIZ` bytes.
fn padded(link: &str) -> [u8; 16] {
    let mut name = [0; 16];
    let len = link.len().min(15);
    name[..len].copy_from_slice(&link.as_bytes()[..len]);
    name
}
