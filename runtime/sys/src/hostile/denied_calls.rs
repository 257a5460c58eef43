//! What the filter of containers denies, call by call, and beside it what it must let through: by the numbers of the C library that
//! this program is built with, which has them from the kernel's headers, and not by those of the filter.

use rustix::io::Errno;

/// One call with its arguments. The kernel itself refuses it too, whoever makes it, so that one that comes through does no harm; but
/// with another error than the filter's.
#[derive(Debug, Clone, Copy)]
pub struct TriedCall {
    /// As section 2 of the manual names it, and behind a space what of it the filter looks at.
    pub name: &'static str,
    /// On this architecture.
    pub number: libc::c_long,
    /// The first ones; those that follow are 0. None is an address but the null pointer.
    pub(crate) arguments: [libc::c_long; 3],
    /// The filter's answer; `None`: the kernel's own, as without a filter.
    pub denied_with: Option<Errno>,
}

/// No descriptor.
const NONE: libc::c_long = -1;
/// A type of socket that no family has: the kernel looks for it before it looks for the family, and answers `EINVAL`.
const NO_TYPE: libc::c_long = 15;
/// Above all operations of keyctl(2).
const NO_OPERATION: libc::c_long = 0xffff;
// <linux/socket.h>, <linux/if_packet.h>, <linux/netlink.h>, <linux/mount.h>
const AF_NETLINK: libc::c_long = 16;
const AF_XDP: libc::c_long = 44;
const SOL_PACKET: libc::c_long = 263;
const PACKET_RX_RING: libc::c_long = 5;
const PACKET_STATISTICS: libc::c_long = 6;
const PACKET_TX_RING: libc::c_long = 13;
const NETLINK_ROUTE: libc::c_long = 0;
const NETLINK_USERSOCK: libc::c_long = 2;
const NETLINK_CRYPTO: libc::c_long = 21;
const MNT_FORCE: libc::c_long = 1;
const MNT_DETACH: libc::c_long = 2;

/// All of them.
pub const TRIED_CALLS: [TriedCall; 22] = [
    // Without the right to it: EPERM. With it: EINVAL, EFAULT or ENOEXEC.
    gone("kexec_load", libc::SYS_kexec_load, [0, NONE, 0]),
    gone("open_by_handle_at", libc::SYS_open_by_handle_at, [NONE, 0, 0]),
    gone("init_module", libc::SYS_init_module, [0, 0, 0]),
    gone("finit_module", libc::SYS_finit_module, [NONE, 0, 0]),
    gone("delete_module", libc::SYS_delete_module, [0, 0, 0]),
    // EFAULT
    denied("umount2 MNT_FORCE", libc::SYS_umount2, [0, MNT_FORCE, 0], Errno::ACCESS),
    gone("add_key", libc::SYS_add_key, [0, 0, 0]),
    gone("request_key", libc::SYS_request_key, [0, 0, 0]),
    // EOPNOTSUPP
    gone("keyctl", libc::SYS_keyctl, [NO_OPERATION, 0, 0]),
    // EFAULT, EBADF, and EBADF or EINVAL
    gone("io_uring_setup", libc::SYS_io_uring_setup, [0, 0, 0]),
    gone("io_uring_enter", libc::SYS_io_uring_enter, [NONE, 0, 0]),
    gone("io_uring_register", libc::SYS_io_uring_register, [NONE, 0, 0]),
    // EBADF
    denied("setsockopt PACKET_RX_RING", libc::SYS_setsockopt, [NONE, SOL_PACKET, PACKET_RX_RING], Errno::PERM),
    denied("setsockopt PACKET_TX_RING", libc::SYS_setsockopt, [NONE, SOL_PACKET, PACKET_TX_RING], Errno::PERM),
    // EINVAL
    denied("socket AF_XDP", libc::SYS_socket, [AF_XDP, NO_TYPE, 0], Errno::AFNOSUPPORT),
    denied(
        "socket NETLINK_USERSOCK",
        libc::SYS_socket,
        [AF_NETLINK, NO_TYPE, NETLINK_USERSOCK],
        Errno::PROTONOSUPPORT,
    ),
    denied("socket NETLINK_CRYPTO", libc::SYS_socket, [AF_NETLINK, NO_TYPE, NETLINK_CRYPTO], Errno::PROTONOSUPPORT),
    let_through("umount2", libc::SYS_umount2, [0, 0, 0]),
    let_through("umount2 MNT_DETACH", libc::SYS_umount2, [0, MNT_DETACH, 0]),
    let_through("setsockopt PACKET_STATISTICS", libc::SYS_setsockopt, [NONE, SOL_PACKET, PACKET_STATISTICS]),
    let_through("socket NETLINK_ROUTE", libc::SYS_socket, [AF_NETLINK, NO_TYPE, NETLINK_ROUTE]),
    let_through("socket AF_INET", libc::SYS_socket, [2, NO_TYPE, 0]),
];

const fn gone(name: &'static str, number: libc::c_long, arguments: [libc::c_long; 3]) -> TriedCall {
    denied(name, number, arguments, Errno::NOSYS)
}

const fn denied(name: &'static str, number: libc::c_long, arguments: [libc::c_long; 3], errno: Errno) -> TriedCall {
    TriedCall { name, number, arguments, denied_with: Some(errno) }
}

const fn let_through(name: &'static str, number: libc::c_long, arguments: [libc::c_long; 3]) -> TriedCall {
    TriedCall { name, number, arguments, denied_with: None }
}

impl TriedCall {
    /// Makes the call. `None`: it was granted.
    pub fn make(&self) -> Option<Errno> {
        const NOTHING: libc::c_long = 0;
        let [first, second, third] = self.arguments;
        // SAFETY: where one of these calls takes an address it is given the null pointer, which the kernel refuses; the rest is
        // numbers, and a descriptor that is none. The rows of the table are all that there are.
        let answer = unsafe { libc::syscall(self.number, first, second, third, NOTHING, NOTHING, NOTHING) };
        (answer < 0).then(|| Errno::from_io_error(&std::io::Error::last_os_error())).flatten()
    }
}
