//! Datagram sockets with the sender's credentials: `$NOTIFY_SOCKET`, the journal's socket, `/dev/log`.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    sockopt,
};
use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// A descriptor in a control message.
const DESCRIPTOR_BYTES: usize = size_of::<RawFd>();

/// One received datagram. Its bytes are in the buffer that was given to [`recv`].
#[derive(Debug)]
pub struct Datagram {
    /// How many bytes of the buffer it fills; what did not fit is lost.
    pub len: usize,
    /// Something did not fit.
    pub is_cut: bool,
    /// Who sent it, as the kernel attested.
    pub sender: Option<Sender>,
    /// The descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
    /// Descriptors were sent along that did not fit; the kernel has dropped them.
    pub had_more_descriptors: bool,
}

/// A datagram's sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Process id; 0 when we cannot see its pid namespace.
    pub pid: i32,
    /// User id.
    pub uid: u32,
}

/// Receives at `path`, which gets the permission bits `mode`; a socket file left there is replaced. It does not block.
pub fn bind(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let (_directory, address) = address_of(path)?;
    let socket = unbound()?;
    sockopt::set_socket_passcred(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(mode as rustix::fs::RawMode))?;
    Ok(socket)
}

/// The address of a socket file, with what must stay open until it was used. A path is longer than an address may be
/// (unix(7): 107 bytes) where an instance has a long name; then it goes by way of the directory's descriptor.
fn address_of(path: &Path) -> io::Result<(Option<OwnedFd>, SocketAddrUnix)> {
    match (SocketAddrUnix::new(path), path.parent(), path.file_name()) {
        (Err(Errno::NAMETOOLONG), Some(directory), Some(name)) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::open(directory, flags, Mode::empty())?;
            let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
            Ok((Some(directory), SocketAddrUnix::new(short)?))
        }
        (address, _, _) => Ok((None, address?)),
    }
}

/// A socket to [`send`] from.
pub fn unbound() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?)
}

/// Sends one datagram, with a descriptor if one is given. `None`: the receiver's queue is full; nothing was sent.
pub fn send(
    socket: &impl AsFd,
    path: &Path,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<Option<()>> {
    let (_directory, address) = address_of(path)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.as_slice();
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL.into());
    }
    loop {
        let bytes = [IoSlice::new(bytes)];
        return match rustix::net::sendmsg_addr(socket, &address, &bytes, &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(Some(())),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        };
    }
}

/// Room for the control messages, aligned as `cmsghdr` must be: a descriptor and credentials need 56 bytes. Descriptors that
/// do not fit are never made.
#[repr(C, align(8))]
struct Control([u8; Control::ROOM]);

impl Control {
    const ROOM: usize = 128;
}

/// Receives one datagram into `buffer`. `None`: nothing is there.
///
/// Whoever receives, drops: the last reference to what was sent along may end here, and for some files that waits (a socket
/// with `SO_LINGER`), inside this call too where the descriptor does not fit. Only for a process that may wait.
pub fn recv(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Option<Datagram>> {
    recv_with(socket, buffer, Control::ROOM, 0)
}

/// As [`recv`], with room for the sender's credentials only: a descriptor that was sent along never gets a number here.
pub fn recv_without_descriptors(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Option<Datagram>> {
    recv_with(socket, buffer, credentials_room(), 0)
}

/// Whether descriptors travel with the next datagram, which stays in the queue. `None`: nothing is there.
///
/// This never waits: the kernel takes references of its own to them and drops those again (`unix_peek_fds`,
/// net/unix/af_unix.c); the last ones stay in the queue. Only for sockets of [`bind`]: the sender's credentials, which it asks
/// for, take all the room.
pub fn next_carries_descriptors(socket: &impl AsFd) -> io::Result<Option<bool>> {
    let next = recv_with(socket, &mut [], credentials_room(), libc::MSG_PEEK)?;
    Ok(next.map(|next| next.had_more_descriptors || !next.descriptors.is_empty()))
}

fn credentials_room() -> usize {
    // SAFETY: the macro only computes a length.
    unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as libc::c_uint) as usize }
}

fn recv_with(socket: &impl AsFd, buffer: &mut [u8], room: usize, flags: libc::c_int) -> io::Result<Option<Datagram>> {
    // Not rustix's call: it asserts that the sender's pid is above 0, which is the sender's pid namespace to decide.
    let mut control = Control([0; Control::ROOM]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeroes is a valid msghdr: null pointers with lengths of 0.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = room.min(control.0.len()) as _;
    let got = loop {
        // SAFETY: `message` points to one iovec over `buffer` and to `control`, all alive and exclusively borrowed.
        let got = unsafe {
            let flags = flags | libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
            libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags)
        };
        if 0 <= got {
            break got as usize;
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => return Ok(None),
            _ => return Err(error),
        }
    };
    let is_cut = message.msg_flags & libc::MSG_TRUNC != 0;
    let mut datagram = Datagram {
        len: got.min(buffer.len()),
        is_cut,
        sender: None,
        descriptors: Vec::new(),
        had_more_descriptors: message.msg_flags & libc::MSG_CTRUNC != 0,
    };
    // SAFETY: the kernel wrote `message` and the control buffer it points to, which is still alive.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: the CMSG macros return null or a pointer to a whole header inside the control buffer.
        let (level, kind, len) = unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len as usize) };
        // SAFETY: `header` is a valid header; its payload follows it.
        let payload = unsafe { libc::CMSG_DATA(header) };
        // SAFETY: the macro only computes a length.
        let payload_bytes = len.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if size_of::<libc::ucred>() <= payload_bytes => {
                // SAFETY: the payload holds a whole ucred; it need not be aligned.
                let sender = unsafe { payload.cast::<libc::ucred>().read_unaligned() };
                datagram.sender = Some(Sender { pid: sender.pid, uid: sender.uid });
            }
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                // Every one is ours to close, however many nobody asked for.
                for number in 0..payload_bytes / DESCRIPTOR_BYTES {
                    // SAFETY: the payload holds that many descriptors; they need not be aligned.
                    let raw = unsafe { payload.cast::<RawFd>().add(number).read_unaligned() };
                    // SAFETY: the kernel just gave us `raw`, and nothing else owns it.
                    datagram.descriptors.push(unsafe { OwnedFd::from_raw_fd(raw) });
                }
            }
            (_, _) => {}
        }
        // SAFETY: as for CMSG_FIRSTHDR; `header` is one of this message's headers.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok(Some(datagram))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bytes_sender_and_a_descriptor_arrive() {
        let path = std::env::temp_dir().join(format!("yado-datagram-{}", std::process::id()));
        let receiver = bind(&path, 0o600).unwrap();
        let mut buffer = [0; 8];
        assert!(recv(&receiver, &mut buffer).unwrap().is_none());
        let sender = unbound().unwrap();
        send(&sender, &path, b"READY=1", Some(sender.as_fd())).unwrap().unwrap();
        send(&sender, &path, b"far too long", None).unwrap().unwrap();
        let datagram = recv(&receiver, &mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..datagram.len], datagram.is_cut), (&b"READY=1"[..], false));
        assert_eq!(datagram.sender.unwrap().pid, std::process::id() as i32);
        assert_eq!(datagram.descriptors.len(), 1);
        let datagram = recv(&receiver, &mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..datagram.len], datagram.descriptors.len()), (&b"far too "[..], 0));
        assert!(datagram.is_cut);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_descriptor_without_room_is_dropped_by_the_kernel_and_that_is_told() {
        let path = std::env::temp_dir().join(format!("yado-datagram-none-{}", std::process::id()));
        let receiver = bind(&path, 0o600).unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        send(&unbound().unwrap(), &path, b"READY=1", Some(writer.as_fd())).unwrap().unwrap();
        send(&unbound().unwrap(), &path, b"none", None).unwrap().unwrap();
        drop(writer);
        let mut buffer = [0; 8];
        let datagram = recv_without_descriptors(&receiver, &mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..datagram.len], datagram.had_more_descriptors), (&b"READY=1"[..], true));
        assert_eq!(datagram.sender.unwrap().pid, std::process::id() as i32);
        assert!(datagram.descriptors.is_empty());
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0), "nobody holds the other end any more");
        let datagram = recv_without_descriptors(&receiver, &mut buffer).unwrap().unwrap();
        assert!(!datagram.had_more_descriptors);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_look_at_the_next_datagram_tells_of_descriptors_and_drops_none() {
        let path = std::env::temp_dir().join(format!("yado-datagram-peek-{}", std::process::id()));
        let receiver = bind(&path, 0o600).unwrap();
        assert_eq!(next_carries_descriptors(&receiver).unwrap(), None);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        send(&unbound().unwrap(), &path, b"none", None).unwrap().unwrap();
        send(&unbound().unwrap(), &path, b"", Some(writer.as_fd())).unwrap().unwrap();
        drop(writer);
        assert_eq!(next_carries_descriptors(&receiver).unwrap(), Some(false));
        let mut buffer = [0; 8];
        let datagram = recv_without_descriptors(&receiver, &mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..datagram.len], b"none", "a look takes nothing");
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        for _ in 0..2 {
            assert_eq!(next_carries_descriptors(&receiver).unwrap(), Some(true));
            assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Err(Errno::AGAIN), "the other end is in the queue");
        }
        drop(receiver);
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0), "nobody holds the other end any more");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn descriptors_that_nobody_asked_for_are_closed() {
        let path = std::env::temp_dir().join(format!("yado-datagram-many-{}", std::process::id()));
        let receiver = bind(&path, 0o600).unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let many = [writer.as_fd(); 20];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(20))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
        let address = SocketAddrUnix::new(&path).unwrap();
        let bytes = [IoSlice::new(b"x")];
        rustix::net::sendmsg_addr(unbound().unwrap(), &address, &bytes, &mut control, SendFlags::empty()).unwrap();
        drop(writer);
        let datagram = recv(&receiver, &mut [0; 8]).unwrap().unwrap();
        assert!(4 < datagram.descriptors.len());
        drop(datagram);
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0), "nobody holds the other end any more");
        std::fs::remove_file(&path).unwrap();
    }
}
