//! The kernel's device events, from the `NETLINK_KOBJECT_UEVENT` socket. Only the kernel's own messages are taken; what
//! they say is not known here.

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// The kernel's own multicast group; group 2 is what udev repeats.
const KERNEL_GROUP: u32 = 1;

/// A USB hub full of devices makes some hundred events of about 500 bytes at once.
const RECEIVE_BUFFER_BYTES: usize = 256 * 1024;

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// One event, in so many bytes of the buffer.
    Event(usize),
    /// The kernel had to drop events: look at sysfs for what there is now.
    Lost,
}

/// Opens the socket, which does not block, in the network namespace of the caller (devices without a namespace of their
/// own are told to all).
pub fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
    // Without the capability to force it the kernel's smaller buffer does too.
    let _ = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES);
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
    Ok(socket)
}

/// Receives one event into `buffer`. `None`: nothing is there.
pub fn recv(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Option<Received>> {
    loop {
        let (len, _, sender) = match rustix::net::recvfrom(socket, &mut *buffer, RecvFlags::TRUNC) {
            Ok(received) => received,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::NOBUFS) => return Ok(Some(Received::Lost)),
            Err(errno) => return Err(errno.into()),
        };
        let from_kernel = sender
            .and_then(|sender| SocketAddrNetlink::try_from(sender).ok())
            .is_some_and(|sender| sender.pid() == 0);
        if from_kernel && len <= buffer.len() {
            return Ok(Some(Received::Event(len)));
        }
    }
}
