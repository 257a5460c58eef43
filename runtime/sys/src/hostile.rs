//! Calls that only somebody makes who wants out of a container, or more than its share: for the tests' attacks, behind a
//! feature of the same name that no shipped program has. Each asks for as little as can be asked for, so that one that is
//! granted does no harm.

pub mod denied_calls;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// kexec_load(2) of nothing: where it is granted, it unloads the kernel that waits to be started.
pub fn kexec_load() -> io::Result<()> {
    // SAFETY: no segments are named, so no address is followed.
    answered(unsafe { libc::syscall(libc::SYS_kexec_load, 0usize, 0usize, 0usize, 0usize) }).map(drop)
}

/// kexec_file_load(2) with no file.
pub fn kexec_file_load() -> io::Result<()> {
    // 32-bit ARM has no such call.
    #[cfg(target_arch = "arm")]
    return Err(rustix::io::Errno::NOSYS.into());
    #[cfg(target_arch = "aarch64")]
    const NUMBER: libc::c_long = 294;
    #[cfg(target_arch = "x86_64")]
    const NUMBER: libc::c_long = 320;
    // SAFETY: neither descriptor is one, and the command line's length is 0.
    #[cfg(not(target_arch = "arm"))]
    answered(unsafe { libc::syscall(NUMBER, -1isize, -1isize, 0usize, 0usize, 0usize) }).map(drop)
}

/// init_module(2) of an empty image.
pub fn init_module() -> io::Result<()> {
    // SAFETY: the image's length is 0, and the parameters are an empty string that lives for ever.
    answered(unsafe { libc::syscall(libc::SYS_init_module, 0usize, 0usize, c"".as_ptr()) }).map(drop)
}

/// finit_module(2) of a file that holds no module.
pub fn finit_module(file: &impl AsFd) -> io::Result<()> {
    let file = file.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed, and the parameters are an empty string that lives for ever.
    answered(unsafe { libc::syscall(libc::SYS_finit_module, file, c"".as_ptr(), 0usize) }).map(drop)
}

/// delete_module(2).
pub fn delete_module(name: &CStr) -> io::Result<()> {
    // SAFETY: `name` is a live string that ends with NUL.
    answered(unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) }).map(drop)
}

/// bpf(2): makes a map of one element of four bytes.
pub fn bpf_map() -> io::Result<()> {
    const MAP_CREATE: usize = 0;
    // union bpf_attr: type ARRAY, key size, value size, entries; the rest is 0.
    let mut attributes = [0u32; 32];
    attributes[..4].copy_from_slice(&[2, 4, 4, 1]);
    // SAFETY: the kernel reads as many bytes of `attributes` as it is told that there are.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, MAP_CREATE, attributes.as_ptr(), size_of_val(&attributes)) };
    answered(answer).map(close)
}

/// perf_event_open(2): counts what the whole of processor 0 does.
pub fn perf_whole_processor() -> io::Result<()> {
    // struct perf_event_attr in its first version: type SOFTWARE, size 64, config CPU_CLOCK.
    let mut attributes = [0u32; 16];
    attributes[..2].copy_from_slice(&[1, 64]);
    let (every_process, processor, no_group, no_flags) = (-1isize, 0usize, -1isize, 0usize);
    // SAFETY: the kernel reads the 64 bytes of `attributes` that it says it has.
    let answer = unsafe {
        let attributes = attributes.as_ptr();
        libc::syscall(libc::SYS_perf_event_open, attributes, every_process, processor, no_group, no_flags)
    };
    answered(answer).map(close)
}

/// open_by_handle_at(2) of the root directory's file system, with a handle of an ext4 root (inode 2).
pub fn open_by_handle(mount: &impl AsFd) -> io::Result<()> {
    // struct file_handle: 8 bytes, type FILEID_INO32_GEN, inode 2, generation 0.
    let mut handle = [8u32, 1, 2, 0];
    let mount = mount.as_fd().as_raw_fd();
    // SAFETY: `handle` is live, and holds as many bytes after its own two fields as it says.
    let answer = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount, handle.as_mut_ptr(), libc::O_RDONLY) };
    answered(answer).map(close)
}

/// swapon(2).
pub fn swapon(path: &CStr) -> io::Result<()> {
    // SAFETY: `path` is a live string that ends with NUL.
    answered(unsafe { libc::syscall(libc::SYS_swapon, path.as_ptr(), 0usize) }).map(drop)
}

/// acct(2): has the kernel write down every process's end.
pub fn acct(path: &CStr) -> io::Result<()> {
    // SAFETY: `path` is a live string that ends with NUL.
    answered(unsafe { libc::syscall(libc::SYS_acct, path.as_ptr()) }).map(drop)
}

/// syslog(2): reads the kernel's log.
pub fn read_kernel_log(buffer: &mut [u8]) -> io::Result<usize> {
    const READ_ALL: usize = 3;
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`, which is exclusively borrowed.
    answered(unsafe { libc::syscall(libc::SYS_syslog, READ_ALL, buffer.as_mut_ptr(), buffer.len()) })
}

/// clock_settime(2) to the time that it is.
pub fn set_clock() -> io::Result<()> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Ok(rustix::time::clock_settime(rustix::time::ClockId::Realtime, now)?)
}

/// fanotify_init(2) with all rights, as a virus scanner has it: it can hold up everybody's opening of files.
pub fn fanotify_with_permissions() -> io::Result<()> {
    // SAFETY: the call takes no addresses.
    let answer = unsafe { libc::syscall(libc::SYS_fanotify_init, libc::FAN_CLASS_CONTENT, libc::O_RDONLY) };
    answered(answer).map(close)
}

/// One context for asynchronous reads and writes, of `events` at once. It lives as long as the process.
pub fn io_setup(events: u32) -> io::Result<()> {
    let mut context: libc::c_ulong = 0;
    // SAFETY: `context` is live, and what the kernel writes to it.
    answered(unsafe { libc::syscall(libc::SYS_io_setup, events, &raw mut context) }).map(drop)
}

/// A key with a payload of its own, in a new keyring of this session's.
pub fn add_key(description: &CStr, payload: &[u8]) -> io::Result<()> {
    const SESSION_KEYRING: isize = -3;
    // SAFETY: the strings end with NUL, and `payload` is live with its own length.
    let answer = unsafe {
        let (kind, payload_at) = (c"user".as_ptr(), payload.as_ptr());
        libc::syscall(libc::SYS_add_key, kind, description.as_ptr(), payload_at, payload.len(), SESSION_KEYRING)
    };
    answered(answer).map(drop)
}

/// Sends this very process one more real-time signal, which stays pending: [`block_queued_signal`] first.
pub fn queue_signal() -> io::Result<()> {
    // siginfo_t of 128 bytes: the code at 8 says SI_QUEUE.
    let mut information = [0i32; 32];
    information[0] = QUEUED_SIGNAL;
    information[2] = -1;
    let own = std::process::id();
    // SAFETY: `information` is as large as the kernel's siginfo_t, and it copies it.
    let answer = unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, own, QUEUED_SIGNAL, information.as_ptr()) };
    answered(answer).map(drop)
}

/// A real-time signal that no C library keeps for itself: 32 to 34 are.
const QUEUED_SIGNAL: i32 = 40;

/// Keeps the signal of [`queue_signal`] from being delivered to this thread.
pub fn block_queued_signal() -> io::Result<()> {
    // SAFETY: all zero is a valid, empty set.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is live and exclusively borrowed.
    unsafe { libc::sigaddset(&raw mut set, QUEUED_SIGNAL) };
    // SAFETY: `set` is live, and the old mask is not asked for.
    let errno = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}

/// setsockopt(2) with a value whose bytes are its whole meaning.
pub fn set_socket_option(socket: &impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let socket = socket.as_fd().as_raw_fd();
    let length = value.len() as libc::socklen_t;
    // SAFETY: `value` is live with its own length. A value that holds an address is for options that the tests do not set;
    // the kernel would read there, and copy.
    let answer = unsafe { libc::setsockopt(socket, level, name, value.as_ptr().cast(), length) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A segment of shared memory of System V, of so many bytes. It outlives the process.
pub fn shared_memory(bytes: usize) -> io::Result<()> {
    // SAFETY: the call takes no addresses.
    let answer = unsafe { libc::shmget(libc::IPC_PRIVATE, bytes, libc::IPC_CREAT | 0o600) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks to run before every ordinary process, and for as long as we like: the first of the `SCHED_FIFO` priorities.
pub fn become_realtime() -> io::Result<()> {
    // struct sched_param, in the kernel's own layout.
    let priority = 1i32;
    // SAFETY: `priority` is live; 0 is this thread.
    let answer =
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0usize, libc::SCHED_FIFO, &raw const priority) };
    answered(answer).map(drop)
}

fn answered(answer: libc::c_long) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// A descriptor that nobody wanted.
fn close(descriptor: usize) {
    // SAFETY: the kernel just gave us this number, and nothing else knows it.
    unsafe { libc::close(descriptor as i32) };
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_everybody_may_do_is_granted_and_what_makes_no_sense_is_refused() {
        io_setup(1).unwrap();
        let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
        let socket = socket.unwrap();
        set_socket_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &8192i32.to_ne_bytes()).unwrap();
        let no_such = set_socket_option(&socket, libc::SOL_SOCKET, 9999, &[0; 4]).unwrap_err();
        assert_eq!(no_such.raw_os_error(), Some(libc::ENOPROTOOPT));
        assert!(finit_module(&socket).is_err());
        assert!(delete_module(c"no-such-module").is_err());
    }
}
