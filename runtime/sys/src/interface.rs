//! The network interfaces of our own network namespace, as ioctls know them (netdevice(7)).

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Brings the interface `name` up in our network namespace; the kernel then gives `lo` its addresses.
pub fn bring_up(name: &str) -> io::Result<()> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut request = request_about(name)?;
    exchange(&socket, libc::SIOCGIFFLAGS as _, &mut request)?;
    // SAFETY: the kernel has just written this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    exchange(&socket, libc::SIOCSIFFLAGS as _, &mut request)
}

/// The index of the interface `name` in our network namespace. The kernel answers from a table, without waiting for whoever
/// changes interfaces, and without writing down all that it knows of one, as rtnetlink does. `ENODEV`: there is none.
pub fn index(name: &str) -> io::Result<u32> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut request = request_about(name)?;
    exchange(&socket, libc::SIOCGIFINDEX as _, &mut request)?;
    // SAFETY: the kernel has just written this member of the union.
    let index = unsafe { request.ifr_ifru.ifru_ifindex };
    // Indexes are positive.
    Ok(index.unsigned_abs())
}

fn request_about(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zero is a valid value of this struct of integers and byte arrays.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays the closing NUL.
    if request.ifr_name.len() <= name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "longer than an interface's name can be"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn exchange(socket: &OwnedFd, what: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: `request` is live and writable, and names an interface with a closing NUL; all requests of ours take an `ifreq`.
    if unsafe { libc::ioctl(socket.as_raw_fd(), what, std::ptr::from_mut(request)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_the_first_of_its_namespace() {
        assert_eq!(index("lo").unwrap(), 1);
    }

    #[test]
    fn an_interface_that_is_not_there_and_a_name_too_long_are_refused() {
        assert_eq!(bring_up("none-of-it").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(index("none-of-it").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(bring_up("sixteen-letters-").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
