//! Sends a transaction to nf_tables, and notices when another program changes our tables.

use super::batch::{TABLE, replace_table};
use super::rules::Ruleset;
use crate::readiness::{Watched, read_from, watch};
use std::io;
use std::os::fd::OwnedFd;
use yado_sys::netlink::{self, Protocol, Received};

/// The socket that our transactions go through.
#[derive(Debug)]
pub struct Firewall {
    socket: OwnedFd,
    sequence: u32,
}

/// Hears what others do to the table.
#[derive(Debug)]
pub struct FirewallMonitor {
    socket: Watched,
    own_port: u32,
}

/// linux/netfilter/nfnetlink.h.
const NFNLGRP_NFTABLES: u32 = 7;
const NLMSG_ERROR: u16 = 2;
/// An answer repeats the message that it refuses, the longest of which is a rule.
const ANSWER_BYTES: usize = 2048;
/// A transaction's notifications come in pieces of a page; with pages of 16 KiB they may be cut, which counts as a change.
const NOTIFICATION_BYTES: usize = 8192;

impl Firewall {
    /// Opens the socket.
    pub fn open() -> io::Result<Firewall> {
        Ok(Firewall { socket: netlink::open(Protocol::Netfilter, &[])?, sequence: 1 })
    }

    /// Makes the table be `ruleset`, or leaves it as it was.
    pub fn replace(&mut self, ruleset: &Ruleset) -> io::Result<()> {
        let batch = replace_table(ruleset, self.sequence);
        let first = self.sequence;
        self.sequence = batch.last_sequence.wrapping_add(2);
        netlink::send(&self.socket, &batch.bytes)?;
        // The kernel has worked through the batch when the send returns; its answers are waiting.
        let mut refusal = None;
        let mut is_done = false;
        let mut buffer = [0; ANSWER_BYTES];
        while let Some(received) = netlink::recv(&self.socket, &mut buffer)? {
            let answer = match received {
                Received::Messages(len) => &buffer[..len],
                Received::Lost => &[],
            };
            for (sequence, errno) in parse_answers(answer) {
                // What is left of an earlier transaction is not about this one.
                let is_ours = sequence.wrapping_sub(first) <= batch.last_sequence.wrapping_sub(first);
                if is_ours && errno != 0 {
                    refusal = refusal.or(Some(errno));
                }
                is_done |= sequence == batch.last_sequence && errno == 0;
            }
        }
        match refusal {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None if is_done => Ok(()),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no answer to the transaction")),
        }
    }

    /// Hears of changes that did not come through this socket.
    pub fn monitor(&self) -> io::Result<FirewallMonitor> {
        let socket = watch(netlink::open(Protocol::Netfilter, &[NFNLGRP_NFTABLES])?)?;
        Ok(FirewallMonitor { socket, own_port: netlink::port(&self.socket)? })
    }
}

impl FirewallMonitor {
    /// Returns once somebody else has changed our table.
    pub async fn changed(&self) -> io::Result<()> {
        read_from(&self.socket, |socket| {
            let mut buffer = [0; NOTIFICATION_BYTES];
            while let Some(received) = netlink::recv(socket, &mut buffer)? {
                match received {
                    Received::Messages(len) if !is_foreign_change(&buffer[..len], self.own_port) => {}
                    Received::Messages(_) | Received::Lost => return Ok(Some(())),
                }
            }
            Ok(None)
        })
        .await
    }
}

/// Sequence number and errno (0: acknowledged) of each answer.
fn parse_answers(bytes: &[u8]) -> impl Iterator<Item = (u32, i32)> + '_ {
    messages(bytes).filter(|message| message.kind == NLMSG_ERROR).filter_map(|message| {
        let code = i32::from_ne_bytes(message.body.get(..4)?.try_into().ok()?);
        Some((message.sequence, code.checked_neg()?))
    })
}

/// Whether a notification is about our table and was caused by somebody else.
fn is_foreign_change(bytes: &[u8], own_port: u32) -> bool {
    messages(bytes).any(|message| {
        // nfgenmsg, then as first attribute of tables, chains and rules alike: type 1, the table's name.
        let name = message.body.get(4..).and_then(|attributes| {
            let len = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
            let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
            attributes.get(4..len).filter(|_| kind == 1)
        });
        message.port != own_port && name.is_some_and(|name| name.strip_suffix(b"\0") == Some(TABLE.as_bytes()))
    })
}

struct NetlinkMessage<'a> {
    kind: u16,
    sequence: u32,
    port: u32,
    body: &'a [u8],
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkMessage<'_>> {
    std::iter::from_fn(move || {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let len = word(0)? as usize;
        let message = NetlinkMessage {
            kind: u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?),
            sequence: word(8)?,
            port: word(12)?,
            body: bytes.get(16..len)?,
        };
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    fn message(kind: u16, sequence: u32, port: u32, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend((16 + body.len() as u32).to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend(0u16.to_ne_bytes());
        out.extend(sequence.to_ne_bytes());
        out.extend(port.to_ne_bytes());
        out.extend(body);
        out
    }

    #[test]
    fn answers_are_matched_by_sequence_number() {
        let refused = message(NLMSG_ERROR, 5, 9, &(-22i32).to_ne_bytes());
        let done = message(NLMSG_ERROR, 6, 9, &0i32.to_ne_bytes());
        let both = [&refused[..], &done].concat();
        assert_eq!(parse_answers(&both).collect::<Vec<_>>(), [(5, 22), (6, 0)]);
        assert_eq!(parse_answers(&refused[..18]).count(), 0, "cut off");
        assert_eq!(parse_answers(&message(NLMSG_ERROR, 1, 1, &i32::MIN.to_ne_bytes())).count(), 0);
    }

    #[test]
    fn only_changes_of_our_table_by_others_are_told() {
        // nfgenmsg (inet), attribute 1 of 9 bytes: "yado"
        let ours = [&[1, 0, 0, 0][..], &9u16.to_ne_bytes(), &1u16.to_ne_bytes(), b"yado\0\0\0\0"].concat();
        let other = [&[1, 0, 0, 0][..], &9u16.to_ne_bytes(), &1u16.to_ne_bytes(), b"else\0\0\0\0"].concat();
        assert!(is_foreign_change(&message(0xa02, 0, 8, &ours), 7));
        assert!(!is_foreign_change(&message(0xa02, 0, 7, &ours), 7));
        assert!(!is_foreign_change(&message(0xa02, 0, 8, &other), 7));
        let second = [message(0xa02, 0, 8, &other), message(0xa02, 0, 8, &ours)].concat();
        assert!(is_foreign_change(&second, 7));
        assert!(!is_foreign_change(&second[..60], 7), "cut off");
    }

    #[test]
    fn netlink_messages_of_any_bytes_lie_in_the_packet_and_our_own_are_not_foreign() {
        let refused = message(NLMSG_ERROR, 5, 9, &(-22i32).to_ne_bytes());
        let ours = [&[1, 0, 0, 0][..], &9u16.to_ne_bytes(), &1u16.to_ne_bytes(), b"yado\0\0\0\0"].concat();
        let seeds = [[refused, message(NLMSG_ERROR, 6, 9, &[0; 4])].concat(), message(0xa02, 0, 8, &ours)];
        fuzz("nf_tables notification", &seeds, &["yado\0"], |bytes| {
            let found: Vec<NetlinkMessage<'_>> = messages(bytes).collect();
            let least: usize = found.iter().map(|message| 16 + message.body.len()).sum();
            assert!(least <= bytes.len());
            assert!(parse_answers(bytes).count() <= found.len());
            if is_foreign_change(bytes, 8) {
                assert!(found.iter().any(|message| message.port != 8));
                assert!(bytes.windows(5).any(|part| part == b"yado\0"));
            }
        });
    }
}
