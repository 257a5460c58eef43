//! A ruleset as one nf_tables transaction: the bytes of its netlink messages. Pure. The numbers are those of
//! linux/netfilter/nf_tables.h, each named as there.

use super::rules::{Chain, Entry, Family, Hook, Key, Limit, Match, Policy, Rule, Ruleset, Set, Verdict};
use std::net::Ipv4Addr;

/// The tables' name.
pub const TABLE: &str = "yado";

/// A transaction ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// All messages; they must go out in one sendmsg.
    pub bytes: Vec<u8>,
    /// The sequence number of the message whose acknowledgement means that everything was done.
    pub last_sequence: u32,
}

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFT_MSG_NEWTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const NFT_MSG_DELTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8 | 2;
const NFT_MSG_NEWCHAIN: u16 = NFNL_SUBSYS_NFTABLES << 8 | 3;
const NFT_MSG_NEWRULE: u16 = NFNL_SUBSYS_NFTABLES << 8 | 6;
const NFT_MSG_NEWSET: u16 = NFNL_SUBSYS_NFTABLES << 8 | 9;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;

const AF_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_BRIDGE: u8 = 7;
const NFT_REG_VERDICT: u32 = 0;
const NFT_REG_1: u32 = 1;
const NFT_SET_TIMEOUT: u32 = 0x10;
const NFT_SET_EVAL: u32 = 0x20;
/// More sources than a network has, or ports than a board. A container that makes up more is limited together with the rest
/// of its network.
const MAX_SET_ENTRIES: u32 = 1024;
/// linux/if_ether.h.
const ETH_P_IP: u16 = 0x0800;
/// linux/netfilter_ipv4.h: before connection tracking.
const NF_IP_PRI_RAW: i32 = -300;
/// linux/netfilter.h.
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
/// -3
const NFT_JUMP: u32 = 0xffff_fffd;

/// The transaction that makes the table be `ruleset`, whatever it was. Its messages are numbered from `sequence` on.
pub fn replace_table(ruleset: &Ruleset, sequence: u32) -> Batch {
    let mut writer = Writer { bytes: Vec::with_capacity(4096), sequence };
    writer.message(NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, |_| {});
    // Made first so that taking it away never fails, then made anew.
    let family = match ruleset.family {
        Family::Inet => NFPROTO_INET,
        Family::Bridge => NFPROTO_BRIDGE,
    };
    writer.message(NFT_MSG_NEWTABLE, NLM_F_CREATE, family, |out| out.text(1, TABLE));
    writer.message(NFT_MSG_DELTABLE, 0, family, |out| out.text(1, TABLE));
    writer.message(NFT_MSG_NEWTABLE, NLM_F_CREATE, family, |out| out.text(1, TABLE));
    for (number, set) in (1..).zip(&ruleset.sets) {
        writer.message(NFT_MSG_NEWSET, NLM_F_CREATE, family, |out| put_set(out, set, number));
    }
    for chain in &ruleset.chains {
        writer.message(NFT_MSG_NEWCHAIN, NLM_F_CREATE, family, |out| put_chain(out, chain, ruleset.family));
    }
    // After all chains: a rule jumps only to a chain that is there.
    for chain in &ruleset.chains {
        for rule in &chain.rules {
            let flags = NLM_F_CREATE | NLM_F_APPEND;
            writer.message(NFT_MSG_NEWRULE, flags, family, |out| put_rule(out, chain.entry.name(), rule));
        }
    }
    // Errors are always told; success only of the last message, so that the answers are few.
    let last_sequence = writer.acknowledged(NFT_MSG_NEWTABLE, NLM_F_CREATE, family, |out| out.text(1, TABLE));
    writer.message(NFNL_MSG_BATCH_END, 0, AF_UNSPEC, |_| {});
    Batch { bytes: writer.bytes, last_sequence }
}

fn put_set(out: &mut Writer, set: &Set, number: u32) {
    // The types are libnftables' own, for who lists the set: ipv4_addr and ifname.
    let (kind, len) = match set.key {
        Key::Source => (7, 4),
        Key::Port => (41, 16),
    };
    let timeout = if set.timeout_s.is_some() { NFT_SET_TIMEOUT } else { 0 };
    out.text(1, TABLE); // NFTA_SET_TABLE
    out.text(2, &set.name); // NFTA_SET_NAME
    out.number(3, NFT_SET_EVAL | timeout); // NFTA_SET_FLAGS
    out.number(4, kind); // NFTA_SET_KEY_TYPE
    out.number(5, len); // NFTA_SET_KEY_LEN
    out.nest(9, |out| out.number(1, MAX_SET_ENTRIES)); // NFTA_SET_DESC: NFTA_SET_DESC_SIZE
    out.number(10, number); // NFTA_SET_ID
    if let Some(timeout_s) = set.timeout_s {
        out.value(11, &(u64::from(timeout_s) * 1000).to_be_bytes()); // NFTA_SET_TIMEOUT
    }
}

fn put_chain(out: &mut Writer, chain: &Chain, family: Family) {
    out.text(1, TABLE); // NFTA_CHAIN_TABLE
    out.text(3, chain.entry.name()); // NFTA_CHAIN_NAME
    let Entry::Hook { hook, policy } = &chain.entry else { return };
    let (number, priority) = match hook {
        Hook::BeforeTracking => (0, NF_IP_PRI_RAW),
        // After conntrack's own, -200, and before NAT's, -100.
        Hook::Tracked => (0, -150),
        Hook::Input => (1, 0),
        Hook::Forward => (2, 0),
        Hook::BeforeTrackingOutput => (3, NF_IP_PRI_RAW),
        Hook::Postrouting => (4, 100),
    };
    debug_assert!(
        family == Family::Inet || *hook == Hook::Input,
        "bridges number their hooks alike, and have no connections"
    );
    out.nest(4, |out| {
        out.number(1, number); // NFTA_HOOK_HOOKNUM
        out.value(2, &i32::to_be_bytes(priority)); // NFTA_HOOK_PRIORITY
    });
    let policy = match policy {
        Policy::Accept => NF_ACCEPT,
        Policy::Drop => NF_DROP,
    };
    out.number(5, policy); // NFTA_CHAIN_POLICY
    out.text(7, if *hook == Hook::Postrouting { "nat" } else { "filter" }); // NFTA_CHAIN_TYPE
}

fn put_rule(out: &mut Writer, chain: &str, rule: &Rule) {
    out.text(1, TABLE); // NFTA_RULE_TABLE
    out.text(2, chain); // NFTA_RULE_CHAIN
    out.nest(4, |out| {
        for condition in &rule.matches {
            put_match(out, condition);
        }
        match &rule.verdict {
            Verdict::Accept => put_verdict(out, NF_ACCEPT, None),
            Verdict::Drop => put_verdict(out, NF_DROP, None),
            Verdict::Jump(chain) => put_verdict(out, NFT_JUMP, Some(chain)),
            Verdict::Masquerade => out.expression("masq", |_| {}),
            Verdict::Untracked => out.expression("notrack", |_| {}),
        }
    });
}

fn put_match(out: &mut Writer, condition: &Match) {
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

fn put_verdict(out: &mut Writer, code: u32, chain: Option<&str>) {
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

impl Entry {
    /// The chain's name.
    fn name(&self) -> &str {
        match self {
            Entry::Hook { hook: Hook::BeforeTracking, .. } => "before-tracking",
            Entry::Hook { hook: Hook::Tracked, .. } => "connections",
            Entry::Hook { hook: Hook::BeforeTrackingOutput, .. } => "output-before-tracking",
            Entry::Hook { hook: Hook::Input, .. } => "input",
            Entry::Hook { hook: Hook::Forward, .. } => "forward",
            Entry::Hook { hook: Hook::Postrouting, .. } => "postrouting",
            Entry::Jump(name) => name,
        }
    }
}

/// Netlink messages and attributes, appended.
struct Writer {
    bytes: Vec<u8>,
    sequence: u32,
}

impl Writer {
    fn message(&mut self, kind: u16, flags: u16, family: u8, body: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]); // nlmsg_len, known at the end
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]); // nlmsg_pid: the kernel
        // nfgenmsg: family, version 0, and for the batch's ends the subsystem in network order.
        let subsystem = if kind < 0x100 { NFNL_SUBSYS_NFTABLES } else { 0 };
        self.bytes.extend([family, 0]);
        self.bytes.extend(subsystem.to_be_bytes());
        body(self);
        let len = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// The same, and its sequence number.
    fn acknowledged(&mut self, kind: u16, flags: u16, family: u8, body: impl FnOnce(&mut Writer)) -> u32 {
        let sequence = self.sequence;
        self.message(kind, flags | NLM_F_ACK, family, body);
        sequence
    }

    fn value(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |out| out.bytes.extend(value));
    }

    /// A string with its NUL.
    fn text(&mut self, kind: u16, text: &str) {
        self.attribute(kind, |out| {
            out.bytes.extend(text.as_bytes());
            out.bytes.push(0);
        });
    }

    /// nf_tables' numbers are in network order.
    fn number(&mut self, kind: u16, number: u32) {
        self.value(kind, &number.to_be_bytes());
    }

    fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        self.attribute(kind | NLA_F_NESTED, body);
    }

    /// One element of `NFTA_RULE_EXPRESSIONS`: its name and its attributes.
    fn expression(&mut self, name: &str, body: impl FnOnce(&mut Writer)) {
        self.nest(1, |out| {
            out.text(1, name); // NFTA_EXPR_NAME
            out.nest(2, body); // NFTA_EXPR_DATA
        });
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]); // nla_len, known at the end
        self.bytes.extend(kind.to_ne_bytes());
        body(self);
        let len = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::rules::{Others, ruleset};
    use super::*;
    use yado_spec::NetworksSpec;

    /// Type and sequence number of each message.
    fn messages(bytes: &[u8]) -> Vec<(u16, u32)> {
        let mut rest = bytes;
        let mut found = Vec::new();
        while let [a, b, c, d, ..] = rest {
            let len = u32::from_ne_bytes([*a, *b, *c, *d]) as usize;
            assert_eq!(len % 4, 0, "every message ends aligned");
            found.push((
                u16::from_ne_bytes(rest[4..6].try_into().unwrap()),
                u32::from_ne_bytes(rest[8..12].try_into().unwrap()),
            ));
            rest = &rest[len..];
        }
        assert!(rest.is_empty());
        found
    }

    #[test]
    fn a_table_is_replaced_between_the_ends_of_one_batch() {
        let batch = replace_table(&ruleset(NetworksSpec::default_networks().bridges.iter(), Others::Denied), 7);
        let found = messages(&batch.bytes);
        let kinds: Vec<u16> = found.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds[..4], [0x10, 0xa00, 0xa02, 0xa00], "begin, new, delete, new");
        assert_eq!(kinds[kinds.len() - 2..], [0xa00, 0x11]);
        assert_eq!(kinds.iter().filter(|&&kind| kind == 0xa03).count(), 4, "chains");
        assert_eq!(kinds.iter().filter(|&&kind| kind == 0xa06).count(), 10, "rules");
        let sequences: Vec<u32> = found.iter().map(|(_, sequence)| *sequence).collect();
        assert_eq!(sequences, (7..7 + found.len() as u32).collect::<Vec<_>>());
        assert_eq!(batch.last_sequence, 7 + found.len() as u32 - 2);
    }

    #[test]
    fn an_attribute_is_padded_but_its_length_is_not() {
        let mut writer = Writer { bytes: Vec::new(), sequence: 0 };
        writer.text(1, TABLE);
        // length 9, type 1, "yado" with NUL, three bytes of padding
        assert_eq!(writer.bytes[..2], 9u16.to_ne_bytes());
        assert_eq!(writer.bytes[4..], *b"yado\0\0\0\0");
    }
}
