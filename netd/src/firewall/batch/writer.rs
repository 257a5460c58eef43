//! Netlink messages of nf_tables and their attributes, as bytes. Pure.

pub(super) const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
pub(super) const NLA_F_NESTED: u16 = 0x8000;

/// Netlink messages and attributes, appended.
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    pub(super) sequence: u32,
}

impl Writer {
    pub(super) fn message(&mut self, kind: u16, flags: u16, family: u8, body: impl FnOnce(&mut Writer)) {
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
    pub(super) fn acknowledged(&mut self, kind: u16, flags: u16, family: u8, body: impl FnOnce(&mut Writer)) -> u32 {
        let sequence = self.sequence;
        self.message(kind, flags | NLM_F_ACK, family, body);
        sequence
    }

    pub(super) fn value(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |out| out.bytes.extend(value));
    }

    /// A string with its NUL.
    pub(super) fn text(&mut self, kind: u16, text: &str) {
        self.attribute(kind, |out| {
            out.bytes.extend(text.as_bytes());
            out.bytes.push(0);
        });
    }

    /// nf_tables' numbers are in network order.
    pub(super) fn number(&mut self, kind: u16, number: u32) {
        self.value(kind, &number.to_be_bytes());
    }

    pub(super) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        self.attribute(kind | NLA_F_NESTED, body);
    }

    /// One element of `NFTA_RULE_EXPRESSIONS`: its name and its attributes.
    pub(super) fn expression(&mut self, name: &str, body: impl FnOnce(&mut Writer)) {
        self.nest(1, |out| {
            out.text(1, name); // NFTA_EXPR_NAME
            out.nest(2, body); // NFTA_EXPR_DATA
        });
    }

    pub(super) fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]); // nla_len, known at the end
        self.bytes.extend(kind.to_ne_bytes());
        body(self);
        let len = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
