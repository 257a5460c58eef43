//! Sockets bound to one link: the packet socket of a DHCP client that has no address yet, and UDP and TCP sockets that
//! hear nothing from any other link.

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// How many TCP connections may wait to be accepted.
const BACKLOG: i32 = 8;

/// A packet socket on link `ifindex` that receives the UDP datagrams over IPv4 to `port`, each from its IP header on, and
/// no fragments. It does not block. Needs `CAP_NET_RAW`.
pub fn packet_socket(ifindex: u32, port: u16) -> io::Result<OwnedFd> {
    // Protocol 0 receives nothing until `bind` says what: so no packet slips in before the filter stands.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
    let mut filter = udp_port_filter(port);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` and the array it points to live through the call, which copies both; the length is `program`'s own.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let address = link_address(ifindex, [0; 6])?;
    // SAFETY: `address` is a live sockaddr_ll, and the length is its own; the kernel copies it.
    let result = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// Sends an IPv4 packet, header included, out of link `ifindex` to the hardware address `to`. `None`: the socket's buffer is
/// full; nothing was sent.
pub fn send_packet(socket: &impl AsFd, ifindex: u32, to: [u8; 6], packet: &[u8]) -> io::Result<Option<()>> {
    let address = link_address(ifindex, to)?;
    loop {
        // SAFETY: `packet` and `address` are live, and each length is that of its object; the kernel copies both.
        let sent = unsafe {
            libc::sendto(
                socket.as_fd().as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                libc::MSG_NOSIGNAL,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if 0 <= sent {
            return Ok(Some(()));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EAGAIN) => return Ok(None),
            _ => return Err(error),
        }
    }
}

/// Receives one datagram into `buffer`; what does not fit is cut off. `None`: nothing is there.
pub fn recv_packet(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        return match rustix::io::read(socket, &mut *buffer) {
            Ok(len) => Ok(Some(len)),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        };
    }
}

/// Receives one datagram over IPv4 into `buffer`, and says who sent it; what does not fit is cut off. `None`: nothing is there.
pub fn recv_datagram(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddrV4)>> {
    loop {
        return match rustix::net::recvfrom(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((len, _, from)) => {
                let from = from.ok_or(Errno::INVAL)?;
                Ok(Some((len, SocketAddrV4::try_from(from)?)))
            }
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        };
    }
}

/// A UDP socket that speaks with `peer` and hears nobody else, at a port that the kernel chose at random. It does not block.
pub fn udp_socket_to(peer: SocketAddrV4) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddr::V4(peer))?;
    Ok(socket)
}

/// Sends `bytes` from a socket of [`udp_socket_to`] to its peer. `None`: its buffer is full; nothing was sent.
pub fn send_to_peer(socket: &impl AsFd, bytes: &[u8]) -> io::Result<Option<()>> {
    loop {
        return match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(Some(())),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        };
    }
}

/// A UDP socket at `address` that hears and speaks on link `device` alone, may broadcast, shares its port with such sockets
/// of other links, and does not block.
pub fn udp_socket_on(device: &str, address: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = socket_on(device, SocketType::DGRAM)?;
    sockopt::set_socket_broadcast(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddr::V4(address))?;
    Ok(socket.into())
}

/// A TCP listener at `address` that accepts from link `device` alone and does not block.
pub fn tcp_listener_on(device: &str, address: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = socket_on(device, SocketType::STREAM)?;
    rustix::net::bind(&socket, &SocketAddr::V4(address))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Sends `bytes` from a UDP socket that does not block to `to`. `None`: its buffer is full; nothing was sent.
pub fn send_datagram(socket: &impl AsFd, bytes: &[u8], to: SocketAddrV4) -> io::Result<Option<()>> {
    loop {
        return match rustix::net::sendto(socket, bytes, SendFlags::NOSIGNAL, &SocketAddr::V4(to)) {
            Ok(_) => Ok(Some(())),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        };
    }
}

fn socket_on(device: &str, kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::BindToDevice, &device.into())?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}

fn link_address(ifindex: u32, hardware: [u8; 6]) -> io::Result<libc::sockaddr_ll> {
    let mut sll_addr = [0; 8];
    sll_addr[..6].copy_from_slice(&hardware);
    Ok(libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_IP as u16).to_be(),
        sll_ifindex: i32::try_from(ifindex).map_err(|_| Errno::INVAL)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr,
    })
}

/// Classic BPF as tcpdump would write `udp dst port PORT` for a packet that begins with its IP header.
fn udp_port_filter(port: u16) -> [libc::sock_filter; 9] {
    const LD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const LD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const LD_HALF_X: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16;
    const LDX_HEADER_LEN: u16 = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const JUMP_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    [
        step(LD_BYTE, 0, 0, 9),                           // protocol
        step(JUMP_EQUAL, 0, 6, libc::IPPROTO_UDP as u32), // else refuse
        step(LD_HALF, 0, 0, 6),                           // flags and fragment offset
        step(JUMP_ANY_BIT, 4, 0, 0x3fff),                 // a fragment: refuse
        step(LDX_HEADER_LEN, 0, 0, 0),                    // X = 4 * IHL
        step(LD_HALF_X, 0, 0, 2),                         // destination port
        step(JUMP_EQUAL, 0, 1, u32::from(port)),          // else refuse
        step(RETURN, 0, 0, u32::MAX),
        step(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_refuses_at_its_last_instruction_and_accepts_before_it() {
        let filter = udp_port_filter(68);
        for (at, step) in filter.iter().enumerate() {
            if step.code == (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16 {
                assert_eq!((at + 1 + usize::from(step.jf), step.jt), (8, 0), "step {at}");
            }
        }
        assert_eq!(3 + 1 + usize::from(filter[3].jt), 8, "a fragment is refused");
        assert_eq!((filter[7].k, filter[8].k), (u32::MAX, 0));
    }

    #[test]
    fn a_socket_on_the_loopback_link_hears_it() {
        let socket = match udp_socket_on("lo", "127.0.0.1:0".parse().unwrap()) {
            Ok(socket) => socket,
            Err(error) => return eprintln!("skipped: bind to device lo: {error}"),
        };
        let SocketAddr::V4(here) = socket.local_addr().unwrap() else { panic!("not IPv4") };
        send_datagram(&socket, b"x", here).unwrap().unwrap();
        let mut buffer = [0; 4];
        assert_eq!(recv_packet(&socket, &mut buffer).unwrap(), Some(1));
        assert_eq!(recv_packet(&socket, &mut buffer).unwrap(), None);
        assert!(udp_socket_on("no-such-link", here).is_err());

        let asking = udp_socket_to(here).unwrap();
        assert_eq!(send_to_peer(&asking, b"who").unwrap(), Some(()));
        let (len, from) = recv_datagram(&socket, &mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..len], *from.ip()), (&b"who"[..], *here.ip()));
        assert_ne!(from.port(), 0);
        send_datagram(&socket, b"me", from).unwrap().unwrap();
        assert_eq!(recv_packet(&asking, &mut buffer).unwrap(), Some(2));
        assert!(recv_datagram(&socket, &mut buffer).unwrap().is_none());
    }
}
