//! Decides about one question: answered here, forwarded, or ignored. Pure; simple-dns parses and writes the messages.

use super::zone::Zone;
use simple_dns::rdata::{A, OPT, PTR, RData};
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE};
use std::net::Ipv4Addr;

/// What becomes of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This is the reply.
    Reply(Vec<u8>),
    /// Somebody else knows.
    Forward,
    /// It is no question.
    Ignore,
}

/// How long a name may be remembered: an instance that is recreated may get another address.
const TTL_S: u32 = 10;
/// The longest UDP reply that passes everywhere (DNS flag day 2020).
const EDNS_BYTES: u16 = 1232;
const HEADER_BYTES: usize = 12;
/// The bridge itself, as systemd-resolved and LXD call it.
const GATEWAY: &str = "_gateway";

/// Decides about the message `query` that came from an instance on `zone`'s bridge.
pub fn answer(query: &[u8], zone: &Zone) -> Answer {
    let Some(header) = query.get(..HEADER_BYTES) else { return Answer::Ignore };
    // The highest bit marks replies; answering one is how loops begin.
    if header[2] & 0x80 != 0 {
        return Answer::Ignore;
    }
    let Ok(packet) = Packet::parse(query) else {
        return Answer::Reply(refusal(query, RCODE::FormatError));
    };
    if packet.opcode() != OPCODE::StandardQuery {
        return Answer::Reply(refusal(query, RCODE::NotImplemented));
    }
    let [question] = &packet.questions[..] else {
        return Answer::Reply(refusal(query, RCODE::FormatError));
    };
    match question.qclass {
        QCLASS::CLASS(CLASS::IN) | QCLASS::ANY => {}
        QCLASS::CLASS(_) => return Answer::Reply(refusal(query, RCODE::Refused)),
    }
    match look_up(&question.qname, question.qtype, zone) {
        NameOwner::Elsewhere => Answer::Forward,
        NameOwner::Nobody => reply(&packet, question, RCODE::NameError, None),
        NameOwner::Domain => reply(&packet, question, RCODE::NoError, None),
        NameOwner::Host(address) => {
            let record = RData::A(A::from(address));
            let is_asked = matches!(question.qtype, QTYPE::TYPE(TYPE::A) | QTYPE::ANY);
            reply(&packet, question, RCODE::NoError, is_asked.then_some(record))
        }
        NameOwner::Name(name) => match Name::new(&name) {
            Ok(name) => {
                let record = RData::PTR(PTR(name));
                let is_asked = matches!(question.qtype, QTYPE::TYPE(TYPE::PTR) | QTYPE::ANY);
                reply(&packet, question, RCODE::NoError, is_asked.then_some(record))
            }
            Err(_) => reply(&packet, question, RCODE::ServerFailure, None),
        },
    }
}

/// The reply that says only what went wrong. It is made of the query's first bytes, so any query can be refused.
pub fn refusal(query: &[u8], code: RCODE) -> Vec<u8> {
    let mut out = vec![0; HEADER_BYTES];
    if let Some(header) = query.get(..4) {
        out[..4].copy_from_slice(header);
    }
    // QR; opcode and RD are kept, AA and TC are not.
    out[2] = out[2] & 0x79 | 0x80;
    // RA and the code.
    out[3] = 0x80 | (code as u8 & 0xf);
    out
}

/// Whose a name is.
enum NameOwner {
    /// An instance's, with its address.
    Host(Ipv4Addr),
    /// The name of an address of ours.
    Name(String),
    /// The domain itself.
    Domain,
    /// It would be ours, but nobody has it.
    Nobody,
    /// Not ours.
    Elsewhere,
}

fn look_up(name: &Name<'_>, qtype: QTYPE, zone: &Zone) -> NameOwner {
    // `dns.mode = none`
    if zone.domain.is_empty() {
        return NameOwner::Elsewhere;
    }
    let labels: Vec<&[u8]> = name.as_bytes().collect();
    if let Some(address) = reverse(&labels) {
        return if !zone.network.contains(address) {
            NameOwner::Elsewhere
        } else if address == zone.network.address() {
            NameOwner::Name(format!("{GATEWAY}.{}", zone.domain))
        } else {
            let known = zone.names.iter().find(|(_, of)| *of == address);
            known.map_or(NameOwner::Nobody, |(name, _)| NameOwner::Name(format!("{name}.{}", zone.domain)))
        };
    }
    match (before_domain(&labels, &zone.domain), &labels[..]) {
        // RFC 4035, 3.1.4.1: what the domain above knows about ours.
        (Some([]), _) if qtype == QTYPE::TYPE(TYPE::DS) => NameOwner::Elsewhere,
        (Some([]), _) => NameOwner::Domain,
        (Some(host), _) => host_named(host, zone),
        // It may be a top-level domain as well, or a name that the uplink's servers know: it is ours only as an instance's
        // name, and only when its address is asked for.
        (None, [_]) => match (host_named(&labels, zone), qtype) {
            (NameOwner::Host(address), QTYPE::TYPE(TYPE::A | TYPE::AAAA)) => NameOwner::Host(address),
            (_, _) => NameOwner::Elsewhere,
        },
        (None, _) => NameOwner::Elsewhere,
    }
}

/// The labels that stand before `domain`; `None`: the name does not end with it.
fn before_domain<'a, 'b>(labels: &'a [&'b [u8]], domain: &str) -> Option<&'a [&'b [u8]]> {
    let depth = domain.split('.').count();
    let (before, last) = labels.split_at_checked(labels.len().checked_sub(depth)?)?;
    let is_same = last.iter().zip(domain.split('.')).all(|(label, own)| label.eq_ignore_ascii_case(own.as_bytes()));
    is_same.then_some(before)
}

fn host_named(host: &[&[u8]], zone: &Zone) -> NameOwner {
    let is_it = |name: &str| {
        let labels = name.split('.');
        labels.clone().count() == host.len()
            && labels.zip(host).all(|(own, label)| label.eq_ignore_ascii_case(own.as_bytes()))
    };
    if is_it(GATEWAY) {
        return NameOwner::Host(zone.network.address());
    }
    if let Some((_, address)) = zone.names.iter().find(|(name, _)| is_it(name)) {
        return NameOwner::Host(*address);
    }
    // RFC 8020: that nobody has a name says that nobody is below it either.
    let is_project =
        zone.names.iter().any(|(name, _)| name.split_once('.').is_some_and(|(_, project)| is_it(project)));
    if is_project { NameOwner::Domain } else { NameOwner::Nobody }
}

/// `d.c.b.a.in-addr.arpa`
fn reverse(labels: &[&[u8]]) -> Option<Ipv4Addr> {
    let [d, c, b, a, in_addr, arpa] = labels else { return None };
    if !in_addr.eq_ignore_ascii_case(b"in-addr") || !arpa.eq_ignore_ascii_case(b"arpa") {
        return None;
    }
    let number = |label: &[u8]| std::str::from_utf8(label).ok()?.parse().ok();
    Some(Ipv4Addr::new(number(a)?, number(b)?, number(c)?, number(d)?))
}

fn reply(query: &Packet<'_>, question: &Question<'_>, code: RCODE, record: Option<RData<'_>>) -> Answer {
    let mut out = Packet::new_reply(query.id());
    out.set_flags(PacketFlag::RESPONSE | PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        out.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    *out.rcode_mut() = code;
    out.questions.push(question.clone());
    out.answers.extend(record.map(|record| ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL_S, record)));
    // RFC 6891, 6.1.1: who asks with it is answered with it.
    if query.opt().is_some() {
        *out.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: EDNS_BYTES, version: 0 });
    }
    match out.build_bytes_vec_compressed() {
        Ok(bytes) => Answer::Reply(bytes),
        Err(_) => Answer::Ignore,
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
