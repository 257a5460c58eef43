//! Calls that a process of ours never makes that works with files and sockets only, and starts other programs of ours, whatever the
//! capabilities that it keeps for its work would allow.

use super::{AF_INET, AF_INET6, AF_UNIX, CLONE, Condition, Denial, SOCKET, Test};
use rustix::io::Errno;

/// Ways into the kernel, into other processes, and to what the whole machine shares. All of them are answered with `ENOSYS`, as by a
/// kernel without them: so the C library takes clone(2) for clone3(2), whose flags a filter cannot see.
pub const NEVER_CALLED: &[libc::c_long] = &[
    // Code for the kernel, and what looks into it.
    libc::SYS_kexec_load,
    #[cfg(target_arch = "x86_64")]
    320, // kexec_file_load
    #[cfg(target_arch = "aarch64")]
    294, // kexec_file_load
    #[cfg(target_arch = "arm")]
    401, // kexec_file_load
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_syslog,
    // What a kernel does in threads of its own, or a process for it: sources of holes.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // Keys, and files past their paths.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // Namespaces and mounts.
    libc::SYS_clone3,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    467, // open_tree_attr
    // What all have in common.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// What makes a mount that nobody sees. Only who mounts needs it.
pub const MOUNTING: &[libc::c_long] = &[libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount];

/// No sockets but those of this machine's services and of the Internet, and no process in a namespace of its own.
pub const NO_OTHER_KINDS: &[Denial] = &[
    Denial {
        call: SOCKET,
        when: &[Condition { argument: 0, test: Test::NoneOf(&[AF_UNIX, AF_INET, AF_INET6]) }],
        errno: Errno::AFNOSUPPORT,
    },
    Denial { call: CLONE, when: &[Condition { argument: 0, test: Test::Has(NEW_NAMESPACES) }], errno: Errno::PERM },
];

/// `CLONE_NEWNS`, `…CGROUP`, `…UTS`, `…IPC`, `…USER`, `…PID` and `…NET` of <linux/sched.h>.
const NEW_NAMESPACES: u32 = 0x7e02_0000;
