//! Forwarding to the uplink's name servers: which servers they are, what counts as a reply, and forwarding over TCP.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use yado_sys::random;

/// How long each server has. A resolver in an instance waits five seconds in all.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);
/// resolv.conf(5): more are not looked at.
pub(super) const MAX_SERVERS: usize = 3;
/// The longest reply that is passed on over UDP: what resolvers of today offer to take.
pub(super) const MAX_UDP_BYTES: usize = 4096;
pub(super) const PORT: u16 = 53;

/// Over TCP: the reply of the first server that gives one, with the asker's id.
pub async fn forward_tcp(query: &[u8], servers: &[Ipv4Addr]) -> Option<Vec<u8>> {
    for server in servers.iter().take(MAX_SERVERS) {
        if let Ok(Ok(mut reply)) = timeout(TIMEOUT, ask_tcp(query, *server)).await {
            reply[..2].copy_from_slice(&query[..2]);
            return Some(reply);
        }
    }
    None
}

/// The servers that this machine itself asks, for when no uplink of ours has any.
pub fn host_servers() -> Vec<Ipv4Addr> {
    fs::read_to_string("/etc/resolv.conf").map(|text| parse_resolv_conf(&text)).unwrap_or_default()
}

/// `nameserver` lines with an IPv4 address.
pub fn parse_resolv_conf(text: &str) -> Vec<Ipv4Addr> {
    let server = |line: &str| line.trim().strip_prefix("nameserver")?.trim().parse().ok();
    text.lines().filter_map(server).take(MAX_SERVERS).collect()
}

async fn ask_tcp(query: &[u8], server: Ipv4Addr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(SocketAddrV4::new(server, PORT)).await?;
    let query = with_random_id(query)?;
    write_framed(&mut stream, &query).await?;
    let len = usize::from(stream.read_u16().await?);
    let mut reply = vec![0; len];
    stream.read_exact(&mut reply).await?;
    if is_reply_to(&reply, &query) { Ok(reply) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// RFC 1035, 4.2.2: over TCP a length goes before each message. In one write, so that it is one segment.
pub async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&len.to_be_bytes(), message].concat()).await
}

fn with_random_id(query: &[u8]) -> io::Result<Vec<u8>> {
    let mut query = query.to_vec();
    query[..2].copy_from_slice(&random::random_bytes::<2>()?);
    Ok(query)
}

/// Same id, a reply, and the same question but for the case of letters.
pub(super) fn is_reply_to(reply: &[u8], query: &[u8]) -> bool {
    let (Some(asked), Some(answered)) = (question(query), question(reply)) else {
        // Refusals may come without the question.
        return reply.len() == 12 && reply[..2] == query[..2] && reply[2] & 0x80 != 0 && reply[3] & 0xf != 0;
    };
    reply[..2] == query[..2] && reply[2] & 0x80 != 0 && answered.eq_ignore_ascii_case(asked)
}

/// The bytes of the first question: its name, uncompressed as nothing comes before it, its type and its class.
fn question(message: &[u8]) -> Option<&[u8]> {
    if message.get(4..6)? != [0, 1] {
        return None;
    }
    let mut at = 12;
    loop {
        match *message.get(at)? {
            0 => return message.get(12..at + 5),
            len if len < 64 => at += 1 + usize::from(len),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    /// id 0x1234, RD; one question: example.org A IN
    const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01";

    fn reply() -> Vec<u8> {
        let mut reply = QUERY.to_vec();
        reply[2] |= 0x80;
        reply
    }

    #[test]
    fn only_the_reply_to_the_question_counts() {
        assert!(is_reply_to(&reply(), QUERY));
        assert!(!is_reply_to(QUERY, QUERY), "a question is no reply");
        for (at, what) in [(0, "id"), (1, "id"), (14, "name"), (26, "type"), (28, "class")] {
            let mut other = reply();
            other[at] ^= 1;
            assert!(!is_reply_to(&other, QUERY), "another {what}");
        }
        let mut upper = reply();
        upper[13].make_ascii_uppercase();
        assert!(is_reply_to(&upper, QUERY));
        for len in 0..QUERY.len() {
            assert!(!is_reply_to(&reply()[..len], QUERY), "cut at {len}");
        }
        let mut refused = reply()[..12].to_vec();
        (refused[3], refused[5]) = (5, 0);
        assert!(is_reply_to(&refused, QUERY), "a refusal without the question");
    }

    #[test]
    fn replies_of_any_bytes_count_only_with_the_id_and_the_question() {
        let refusal = [&QUERY[..2], b"\x81\x05", &[0; 8]].concat();
        // 93.184.216.34, its name a pointer to the question's.
        let answer = [&reply()[..], b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\x5d\xb8\xd8\x22"].concat();
        fuzz("DNS reply", &[refusal, answer], &["\x07example\x03org\0\0\x01\0\x01", "\x03www", "\0\x01"], |bytes| {
            if is_reply_to(bytes, QUERY) {
                assert!(bytes[..2] == QUERY[..2] && bytes[2] & 0x80 != 0);
                assert!(bytes.len() == 12 || bytes[12..QUERY.len()].eq_ignore_ascii_case(&QUERY[12..]));
            }
            if is_reply_to(&reply(), bytes) {
                assert!(bytes[12..QUERY.len()].eq_ignore_ascii_case(&QUERY[12..]));
            }
        });
    }

    #[test]
    fn servers_are_read_from_resolv_conf() {
        let text = "# x\nnameserver 10.0.2.3\nnameserver ::1\n nameserver\t9.9.9.9 \nsearch lan\n";
        assert_eq!(parse_resolv_conf(text), [Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(9, 9, 9, 9)]);
    }
}
