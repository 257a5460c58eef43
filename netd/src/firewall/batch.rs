//! A ruleset as one nf_tables transaction: the bytes of its netlink messages. Pure. The numbers are those of
//! linux/netfilter/nf_tables.h, each named as there.

mod expressions;
mod writer;

use super::rules::{Chain, Entry, Family, Hook, Key, Policy, Rule, Ruleset, Set, Verdict};
use expressions::{put_match, put_verdict};
use writer::{NFNL_SUBSYS_NFTABLES, Writer};

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

const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFT_MSG_NEWTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const NFT_MSG_DELTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8 | 2;
const NFT_MSG_NEWCHAIN: u16 = NFNL_SUBSYS_NFTABLES << 8 | 3;
const NFT_MSG_NEWRULE: u16 = NFNL_SUBSYS_NFTABLES << 8 | 6;
const NFT_MSG_NEWSET: u16 = NFNL_SUBSYS_NFTABLES << 8 | 9;

const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const AF_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
const NFPROTO_BRIDGE: u8 = 7;
const NFT_SET_TIMEOUT: u32 = 0x10;
const NFT_SET_EVAL: u32 = 0x20;
/// More sources than a network has, or ports than a board. A container that makes up more is limited together with the rest
/// of its network.
const MAX_SET_ENTRIES: u32 = 1024;
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
