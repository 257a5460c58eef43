//! What programs of ours call that do one thing only, for [`Filter::allow_only`](super::Filter::allow_only) and the like.

/// All that a program of ours calls that only reads and closes what it is given, and writes to what it has: for glibc and musl.
/// send(2) is there, and sendmsg(2), by which descriptors are sent, is not. What std, the allocator and the C library call for
/// themselves stands in the lower part.
pub const READER_CALLS: &[libc::c_long] = &[
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_fcntl, // the seals of a memfd
    libc::SYS_statx, // its length
    libc::SYS_fstat,
    libc::SYS_setitimer,
    libc::SYS_clock_gettime, // where the vDSO does not know the clock
    libc::SYS_madvise,
    libc::SYS_getpid,
    libc::SYS_gettid,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "arm")]
    168, // poll
    #[cfg(target_arch = "arm")]
    289, // send
    #[cfg(target_arch = "arm")]
    221, // fcntl64
    #[cfg(target_arch = "arm")]
    197, // fstat64
    #[cfg(target_arch = "arm")]
    403, // clock_gettime64
    #[cfg(target_arch = "arm")]
    414, // ppoll_time64
    //
    #[cfg(not(target_arch = "arm"))]
    libc::SYS_mmap,
    #[cfg(target_arch = "arm")]
    192, // mmap2
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_futex,
    #[cfg(target_arch = "arm")]
    422, // futex_time64
    libc::SYS_rt_sigreturn,
    #[cfg(target_arch = "arm")]
    119, // sigreturn
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack, // at the end of main
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What a program calls beside [`READER_CALLS`] that connects to servers by their names: sockets, an event loop, and the files that a
/// C library reads to look a name up. Which files that are is up to Landlock.
pub const CLIENT_CALLS: &[libc::c_long] = &[
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_shutdown,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_ioctl,
    libc::SYS_openat,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_getrandom,
    libc::SYS_clock_nanosleep,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getppid,
    libc::SYS_prctl,
    libc::SYS_mprotect, // a library that is loaded, and an allocator's next part
    libc::SYS_uname,
    #[cfg(not(target_arch = "arm"))]
    libc::SYS_newfstatat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "arm")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "arm")]
    5, // open
    #[cfg(target_arch = "arm")]
    140, // _llseek
    #[cfg(target_arch = "arm")]
    195, // stat64
    #[cfg(target_arch = "arm")]
    327, // fstatat64
    #[cfg(target_arch = "arm")]
    291, // recv
    #[cfg(target_arch = "arm")]
    199, // getuid32
    #[cfg(target_arch = "arm")]
    201, // geteuid32
    #[cfg(target_arch = "arm")]
    407, // clock_nanosleep_time64
];
