//! Bytes through descriptors that do not block: a terminal's master, a stream socket.

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SocketFlags, SocketType};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};

/// Two connected Unix stream sockets, blocking, close-on-exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// Reads what is there; 0 bytes are the end. `None`: nothing is there now.
pub fn read(descriptor: &impl AsFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    taken(|| rustix::io::read(descriptor, &mut *buffer))
}

/// Writes as much as is taken now. `None`: nothing. Into a socket whose peer has hung up: `EPIPE`, and no signal where the
/// process ignores it, as std has it.
pub fn write(descriptor: &impl AsFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    taken(|| rustix::io::write(descriptor, bytes))
}

/// Receives from a Unix stream socket as by [`read`]. Where descriptors were sent along it is an error, and they stay in the
/// queue: an ordinary read would have the kernel close them, and wait for what that takes.
pub fn recv_without_descriptors(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let seen = loop {
        let mut none = RecvAncillaryBuffer::new(&mut []);
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut none, peek) {
            Ok(seen) => break seen,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    };
    if seen.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::PROTO.into());
    }
    // Exactly what was seen: descriptors may travel with the byte after it.
    let Some(room) = buffer.get_mut(..seen.bytes) else { return Err(Errno::PROTO.into()) };
    if room.is_empty() {
        return Ok(Some(0));
    }
    taken(|| rustix::net::recv(socket, &mut *room, RecvFlags::DONTWAIT).map(|(len, _)| len))
}

fn taken(mut call: impl FnMut() -> Result<usize, Errno>) -> io::Result<Option<usize>> {
    loop {
        return match call() {
            Ok(len) => Ok(Some(len)),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    use std::io::IoSlice;
    use std::mem::MaybeUninit;

    #[test]
    fn bytes_before_a_descriptor_are_received_and_the_descriptor_stays_where_it_is() {
        let (here, there) = pair().unwrap();
        let mut buffer = [0; 8];
        assert_eq!(recv_without_descriptors(&here, &mut buffer).unwrap(), None);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        write(&there, b"ab").unwrap().unwrap();
        write(&there, b"cd").unwrap().unwrap();
        assert_eq!(recv_without_descriptors(&here, &mut buffer).unwrap(), Some(4));
        assert_eq!(&buffer[..4], b"abcd");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let rights = [writer.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
        rustix::net::sendmsg(&there, &[IoSlice::new(b"e")], &mut control, SendFlags::empty()).unwrap();
        drop(writer);
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        for _ in 0..2 {
            assert!(recv_without_descriptors(&here, &mut buffer).is_err());
            assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Err(Errno::AGAIN), "the other end is in the queue");
        }
        drop(here);
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0), "nobody holds the other end any more");
    }

    #[test]
    fn the_end_and_a_full_socket_are_told_apart() {
        let (here, there) = pair().unwrap();
        rustix::io::ioctl_fionbio(&there, true).unwrap();
        while write(&there, &[0; 4096]).unwrap().is_some() {}
        drop(there);
        let mut buffer = [0; 65_536];
        while recv_without_descriptors(&here, &mut buffer).unwrap() != Some(0) {}
        assert_eq!(read(&here, &mut buffer).unwrap(), Some(0));
    }
}
