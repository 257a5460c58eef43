//! Netlink sockets: opening them, and moving whole messages. What the messages mean is not known here.

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Which part of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes.
    Route,
    /// nf_tables among others.
    Netfilter,
}

/// A socket that does not block and hears the multicast `groups` (the kernel's `…GRP_…` numbers, not bits).
pub fn open(protocol: Protocol, groups: &[u32]) -> io::Result<OwnedFd> {
    let protocol = match protocol {
        // NETLINK_ROUTE is 0, which is what no protocol means.
        Protocol::Route => None,
        Protocol::Netfilter => Some(netlink::NETFILTER),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    for group in groups {
        // SAFETY: `group` is a live u32, and the length is its own; the kernel copies it.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_NETLINK,
                libc::NETLINK_ADD_MEMBERSHIP,
                std::ptr::from_ref(group).cast(),
                size_of::<u32>() as libc::socklen_t,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(socket)
}

/// The socket's port: by it the kernel says who caused a notification.
pub fn port(socket: &impl AsFd) -> io::Result<u32> {
    let address = SocketAddrNetlink::try_from(rustix::net::getsockname(socket)?)?;
    Ok(address.pid())
}

/// Sends messages to the kernel, all or none.
pub fn send(socket: &impl AsFd, messages: &[u8]) -> io::Result<()> {
    loop {
        match rustix::net::send(socket, messages, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == messages.len() => return Ok(()),
            Ok(_) => return Err(Errno::MSGSIZE.into()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// What came off the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// So many bytes of the buffer hold messages.
    Messages(usize),
    /// Messages were lost: the kernel had no room, or the buffer was too small for them.
    Lost,
}

/// Receives the messages of one datagram into `buffer`. `None`: nothing is there.
pub fn recv(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Option<Received>> {
    loop {
        // With TRUNC the kernel says how long the datagram was, even if it was cut.
        return match rustix::net::recv(socket, &mut *buffer, RecvFlags::TRUNC) {
            Ok((_, len)) if buffer.len() < len => Ok(Some(Received::Lost)),
            Ok((len, _)) => Ok(Some(Received::Messages(len))),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Ok(None),
            Err(Errno::NOBUFS) => Ok(Some(Received::Lost)),
            Err(errno) => Err(errno.into()),
        };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// `RTM_GETLINK` (18) of link 1: nlmsghdr of 16 bytes, ifinfomsg of 16 bytes.
    fn get_loopback() -> Vec<u8> {
        let mut message = Vec::new();
        message.extend(32u32.to_ne_bytes()); // length
        message.extend(18u16.to_ne_bytes()); // type
        message.extend(1u16.to_ne_bytes()); // NLM_F_REQUEST
        message.extend(7u32.to_ne_bytes()); // sequence
        message.extend(0u32.to_ne_bytes()); // port
        message.extend([0; 4]); // family, type
        message.extend(1u32.to_ne_bytes()); // index
        message.extend([0; 8]); // flags, change mask
        message
    }

    #[test]
    fn the_kernel_answers_and_a_short_buffer_is_told() {
        let socket = open(Protocol::Route, &[]).unwrap();
        assert_ne!(port(&socket).unwrap(), 0);
        let mut buffer = [0; 8192];
        assert_eq!(recv(&socket, &mut buffer).unwrap(), None);
        send(&socket, &get_loopback()).unwrap();
        let Some(Received::Messages(len)) = recv(&socket, &mut buffer).unwrap() else { panic!("no answer") };
        assert_eq!(buffer[..4], (len as u32).to_ne_bytes());
        assert_eq!(buffer[8..12], 7u32.to_ne_bytes());
        send(&socket, &get_loopback()).unwrap();
        assert_eq!(recv(&socket, &mut [0; 64]).unwrap(), Some(Received::Lost));
        assert_eq!(recv(&socket, &mut buffer).unwrap(), None);
    }
}
