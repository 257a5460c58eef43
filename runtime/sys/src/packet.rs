//! Packets with descriptors over `SOCK_SEQPACKET` Unix sockets: the one way our processes talk.
//!
//! Every descriptor that arrives is owned and close-on-exec at once. A packet that does not fit is an error, never half a
//! packet. What the bytes mean is not known here.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// The most descriptors that travel with one packet: an exec request carries three, a launch report two.
pub const MAX_DESCRIPTORS: usize = 4;

/// How many connections may wait to be accepted; more are refused by the kernel until somebody looks.
const BACKLOG: i32 = 16;

/// One received packet. Its bytes are in the buffer that was given to [`recv`].
#[derive(Debug)]
pub struct Packet {
    /// How many bytes of the buffer it fills. 0: the peer has hung up and nothing more will come (we send no empty packets).
    pub len: usize,
    /// The descriptors that came with it, in the order in which they were sent.
    pub descriptors: Vec<OwnedFd>,
}

impl Packet {
    /// The peer has hung up; nothing more will come.
    pub fn is_end(&self) -> bool {
        self.len == 0
    }
}

/// Who is at the other end of a connection, as the kernel attested it when the connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process id; 0 when it is in a pid namespace that we cannot see.
    pub pid: i32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Sends one packet with up to [`MAX_DESCRIPTORS`] descriptors. `None`: the socket does not block and its buffer is full,
/// or the time of [`set_timeout`] is over; nothing was sent. `EPIPE`: the peer has
/// hung up.
pub fn send(socket: &impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<Option<()>> {
    if bytes.is_empty() || MAX_DESCRIPTORS < descriptors.len() {
        return Err(Errno::INVAL.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL.into());
    }
    loop {
        return match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(Some(())),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Ok(None),
            // The peer closed with packets unread; for a sender that is the same as closed.
            Err(Errno::CONNRESET) => Err(Errno::PIPE.into()),
            Err(errno) => Err(errno.into()),
        };
    }
}

/// Sends one packet by send(2), which has no way to carry descriptors. Otherwise as [`send`].
pub fn send_bytes(socket: &impl AsFd, bytes: &[u8]) -> io::Result<Option<()>> {
    if bytes.is_empty() {
        return Err(Errno::INVAL.into());
    }
    loop {
        return match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(Some(())),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Ok(None),
            Err(Errno::CONNRESET) => Err(Errno::PIPE.into()),
            Err(errno) => Err(errno.into()),
        };
    }
}

/// Receives one packet into `buffer`. `None`: the socket does not block and nothing is there, or the time of
/// [`set_timeout`] is over. The end of the connection is a packet for which [`Packet::is_end`] holds. A packet longer than
/// `buffer`, or with more than [`MAX_DESCRIPTORS`] descriptors, is lost and reported as `EMSGSIZE`.
pub fn recv(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
    let mut descriptors = Vec::new();
    Ok(recv_into(socket, buffer, &mut descriptors)?.map(|len| Packet { len, descriptors }))
}

/// As [`recv`]. Descriptors are added to `descriptors`, those of a packet that is lost too, so that it is the caller who closes
/// them. Returns how many bytes the packet has.
pub fn recv_into(socket: &impl AsFd, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<Option<usize>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => break message,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            // A peer that closed with our packets unread; for a reader that is the end like any other.
            Err(Errno::CONNRESET) => return Ok(Some(0)),
            Err(errno) => return Err(errno.into()),
        }
    };
    let sent = control.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    descriptors.extend(sent.flatten());
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE.into());
    }
    Ok(Some(message.bytes))
}

/// Whether all descriptors of the next packet have room in [`recv`] and in our table of files; what has none, the kernel
/// would drop inside that call, and wait for what that takes. The packet stays in the queue. `None`: nothing is there, and
/// this never waits: what is dropped here are references of our own, and the last ones stay in the queue (`unix_peek_fds()`,
/// net/unix/af_unix.c).
pub fn next_has_room(socket: &impl AsFd) -> io::Result<Option<bool>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    loop {
        return match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut control, flags) {
            Ok(next) => Ok(Some(!next.flags.contains(ReturnFlags::CTRUNC))),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Ok(None),
            // As in `recv`.
            Err(Errno::CONNRESET) => Ok(Some(true)),
            Err(errno) => Err(errno.into()),
        };
    }
}

/// Two connected sockets, blocking, close-on-exec.
pub fn socketpair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Listens at `path`, for root only. A socket file that a predecessor left there is replaced. The listener does not block.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    rustix::net::bind(&socket, &address)?;
    // Nobody can connect before `listen`, so there is no moment with other permissions.
    rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(0o600))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Ends the connection for both sides; the socket stays, to be closed. One that is not connected is left as it is.
pub fn hang_up(socket: &impl AsFd) {
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}

/// Accepts one connection, which does not block. `None`: nobody is waiting.
pub fn accept(listener: &impl AsFd) -> io::Result<Option<OwnedFd>> {
    loop {
        return match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(connection) => Ok(Some(connection)),
            // A peer that gave up while it was waiting is no error of ours.
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        };
    }
}

/// Connects to the listener at `path`; the connection blocks.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    connect_to(new_socket(SocketFlags::CLOEXEC)?, path)
}

/// Connects to the listener at `path`. Waits so long until the connection is taken, and has that as its [`set_timeout`].
/// `EAGAIN`: it was not taken.
pub fn connect_within(path: &Path, timeout: Duration) -> io::Result<OwnedFd> {
    let socket = new_socket(SocketFlags::CLOEXEC)?;
    set_timeout(&socket, timeout)?;
    connect_to(socket, path)
}

/// A socket that is not connected yet, and does not block.
pub fn unconnected() -> io::Result<OwnedFd> {
    new_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}

/// Connects a socket to the listener at `path`; waits only if the socket blocks. `EAGAIN`: it does not, and the backlog is full.
pub fn connect_socket(socket: &impl AsFd, path: &Path) -> io::Result<()> {
    let address = SocketAddrUnix::new(path)?;
    loop {
        return match rustix::net::connect(socket, &address) {
            Ok(()) => Ok(()),
            Err(Errno::INTR) => continue,
            Err(errno) => Err(errno.into()),
        };
    }
}

fn new_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

fn connect_to(socket: OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    connect_socket(&socket, path)?;
    Ok(socket)
}

/// How long [`send`] and [`recv`] on a blocking socket wait for each packet before they return `None`.
pub fn set_timeout(socket: &impl AsFd, timeout: Duration) -> io::Result<()> {
    set_both_timeouts(socket, Some(timeout))
}

/// From now on [`send`] and [`recv`] wait for as long as it takes.
pub fn set_no_timeout(socket: &impl AsFd) -> io::Result<()> {
    set_both_timeouts(socket, None)
}

fn set_both_timeouts(socket: &impl AsFd, timeout: Option<Duration>) -> io::Result<()> {
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, timeout)?;
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Send, timeout)?;
    Ok(())
}

/// From now on [`send`] and [`recv`] never wait. It holds for every process that shares this socket.
pub fn set_nonblocking(socket: &impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(socket, true)?)
}

/// Who connected, or listens, at the other end.
pub fn peer_credentials(socket: &impl AsFd) -> io::Result<PeerCredentials> {
    // Not rustix's call: it asserts a pid above 0, and 0 is what the kernel says of a peer in a foreign pid namespace.
    let peer = nix::sys::socket::getsockopt(&socket.as_fd(), nix::sys::socket::sockopt::PeerCredentials)?;
    Ok(PeerCredentials { pid: peer.pid(), uid: peer.uid(), gid: peer.gid() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn bytes_and_descriptors_arrive_together_and_close_on_exec() {
        let (here, there) = socketpair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        send(&here, b"two", &[reader.as_fd(), writer.as_fd()]).unwrap().unwrap();
        send_bytes(&here, b"none").unwrap().unwrap();

        let mut buffer = [0; 16];
        let first = recv(&there, &mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..first.len], b"two");
        assert_eq!(first.descriptors.len(), 2);
        for descriptor in &first.descriptors {
            let flags = rustix::io::fcntl_getfd(descriptor).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "{}", descriptor.as_raw_fd());
        }
        rustix::io::write(&first.descriptors[1], b"x").unwrap();
        assert_eq!(rustix::io::read(&reader, &mut [0u8; 4]).unwrap(), 1);

        let second = recv(&there, &mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..second.len], second.descriptors.len()), (&b"none"[..], 0));
    }

    #[test]
    fn a_listener_that_takes_no_connection_is_waited_for_with_a_limit() {
        let path = std::env::temp_dir().join(format!("yado-packet-backlog-{}", std::process::id()));
        let _listener = listen(&path).unwrap();
        let mut waiting = Vec::new();
        let refused = loop {
            let socket = unconnected().unwrap();
            match connect_socket(&socket, &path) {
                Ok(()) => waiting.push(socket),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        let refused = connect_within(&path, Duration::from_millis(20)).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_packet_longer_than_the_buffer_is_refused_whole_and_the_next_one_arrives() {
        let (here, there) = socketpair().unwrap();
        send(&here, b"too long", &[]).unwrap().unwrap();
        send(&here, b"fits", &[]).unwrap().unwrap();
        let mut buffer = [0; 4];
        let refused = recv(&there, &mut buffer).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(recv(&there, &mut buffer).unwrap().unwrap().len, 4);
    }

    #[test]
    fn the_end_the_empty_socket_and_the_full_one_are_told_apart() {
        let (here, there) = socketpair().unwrap();
        set_nonblocking(&there).unwrap();
        set_nonblocking(&here).unwrap();
        let mut buffer = [0; 4096];
        assert!(recv(&there, &mut buffer).unwrap().is_none());
        while send(&here, &buffer, &[]).unwrap().is_some() {}
        drop(there);
        assert_eq!(send(&here, b"x", &[]).unwrap_err().raw_os_error(), Some(libc::EPIPE));
        assert!(recv(&here, &mut buffer).unwrap().unwrap().is_end());
    }

    #[test]
    fn an_empty_packet_or_too_many_descriptors_are_not_sent() {
        let (here, _there) = socketpair().unwrap();
        assert_eq!(send(&here, b"", &[]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        let five = [here.as_fd(); MAX_DESCRIPTORS + 1];
        assert_eq!(send(&here, b"x", &five).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn a_timeout_ends_a_wait() {
        let (here, _there) = socketpair().unwrap();
        set_timeout(&here, Duration::from_millis(5)).unwrap();
        assert!(recv(&here, &mut [0; 4]).unwrap().is_none());
    }

    #[test]
    fn a_listener_replaces_a_stale_file_and_knows_who_connects() {
        let directory = std::env::temp_dir().join(format!("yado-packet-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("test.sock");
        drop(listen(&path).unwrap());
        let listener = listen(&path).unwrap();
        assert!(accept(&listener).unwrap().is_none());
        let client = connect(&path).unwrap();
        let server = accept(&listener).unwrap().unwrap();
        let peer = peer_credentials(&server).unwrap();
        assert_eq!(peer.pid, std::process::id() as i32);
        send(&client, b"hello", &[]).unwrap().unwrap();
        assert_eq!(recv(&server, &mut [0; 8]).unwrap().unwrap().len, 5);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
