//! The system call filter: a classic BPF program that answers some calls with an error, for every architecture whose
//! programs this kernel can run, so that a 32-bit program inside a 64-bit container is no way round it.

mod program_calls;
mod worker_calls;

pub use program_calls::{CLIENT_CALLS, READER_CALLS};
use rustix::io::Errno;
use std::io;
pub use worker_calls::{MOUNTING, NEVER_CALLED, NO_OTHER_KINDS};

/// What is done about one system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial {
    /// Which call.
    pub call: SystemCall,
    /// Only when all of this is so; always, if it is empty.
    pub when: &'static [Condition],
    /// The error it gets.
    pub errno: Errno,
}

/// What must be so of one argument, of which the low 32 bits count: what the kernel takes these for is an `int`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, the first being 0.
    pub argument: u32,
    /// What is asked of it.
    pub test: Test,
}

/// See [`Condition`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// One of these bits is set.
    Has(u32),
    /// It is one of these.
    OneOf(&'static [u32]),
    /// It is none of these.
    NoneOf(&'static [u32]),
}

/// A system call by its number on each architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemCall {
    x86_64: u32,
    i386: u32,
    aarch64: u32,
    arm: u32,
}

/// What is denied in every container (`security.syscalls.deny_default`).
///
/// What LXD denies, with LXD's answers: `ENOSYS` for what could load code into the kernel or step out of the file systems,
/// `EACCES` for a forced unmount. And what takes memory of the kernel's that no limit of the container counts:
/// - Keys: each of the container's 65,536 users has a quota of its own. Docker and systemd-nspawn deny them too.
/// - The rings of packet sockets and of `AF_XDP`. (So tcpdump does not work inside; DHCP clients do.)
/// - Netlink protocols that neither systemd nor a network tool uses.
///
/// io_uring is denied as in Docker: on a kernel that stays in the field for years it is a source of holes, it does in the
/// kernel's own threads what a filter or a limit would see of a process, and programs that can use it do without.
///
/// Programs for i386 reach sockets also by socketcall(2), whose arguments a filter cannot see: [`Filter::against_socketcall`].
pub const DEFAULT_DENIALS: [Denial; 15] = [
    always(SystemCall { x86_64: 246, i386: 283, aarch64: 104, arm: 347 }), // kexec_load
    always(SystemCall { x86_64: 304, i386: 342, aarch64: 265, arm: 371 }), // open_by_handle_at
    always(SystemCall { x86_64: 175, i386: 128, aarch64: 105, arm: 128 }), // init_module
    always(SystemCall { x86_64: 313, i386: 350, aarch64: 273, arm: 379 }), // finit_module
    always(SystemCall { x86_64: 176, i386: 129, aarch64: 106, arm: 129 }), // delete_module
    Denial {
        call: SystemCall { x86_64: 166, i386: 52, aarch64: 39, arm: 52 }, // umount2
        when: &[Condition { argument: 1, test: Test::Has(MNT_FORCE) }],
        errno: Errno::ACCESS,
    },
    always(SystemCall { x86_64: 248, i386: 286, aarch64: 217, arm: 309 }), // add_key
    always(SystemCall { x86_64: 249, i386: 287, aarch64: 218, arm: 310 }), // request_key
    always(SystemCall { x86_64: 250, i386: 288, aarch64: 219, arm: 311 }), // keyctl
    always(SystemCall { x86_64: 425, i386: 425, aarch64: 425, arm: 425 }), // io_uring_setup
    always(SystemCall { x86_64: 426, i386: 426, aarch64: 426, arm: 426 }), // io_uring_enter
    always(SystemCall { x86_64: 427, i386: 427, aarch64: 427, arm: 427 }), // io_uring_register
    Denial {
        call: SETSOCKOPT,
        when: &[
            Condition { argument: 1, test: Test::OneOf(&[SOL_PACKET]) },
            Condition { argument: 2, test: Test::OneOf(&[PACKET_RX_RING, PACKET_TX_RING]) },
        ],
        errno: Errno::PERM,
    },
    Denial {
        call: SOCKET,
        when: &[Condition { argument: 0, test: Test::OneOf(&[AF_XDP]) }],
        errno: Errno::AFNOSUPPORT,
    },
    Denial {
        call: SOCKET,
        when: &[
            Condition { argument: 0, test: Test::OneOf(&[AF_NETLINK]) },
            Condition { argument: 2, test: Test::NoneOf(&NETLINK_PROTOCOLS) },
        ],
        errno: Errno::PROTONOSUPPORT,
    },
];

/// No sockets but those of the Internet: whatever else listens on this machine, or is a way into its kernel, is none of a client's.
pub const INTERNET_ONLY: &[Denial] = &[Denial {
    call: SOCKET,
    when: &[Condition { argument: 0, test: Test::NoneOf(&[AF_INET, AF_INET6]) }],
    errno: Errno::AFNOSUPPORT,
}];

const fn always(call: SystemCall) -> Denial {
    Denial { call, when: &[], errno: Errno::NOSYS }
}

/// i386's old way to all that sockets can do: the arguments lie in memory. Since Linux 4.3 i386 has a call for each, which musl and a
/// glibc that was built for such a kernel use. The other architectures never had it.
const SOCKETCALL: SystemCall = SystemCall { i386: 102, x86_64: NO_CALL, aarch64: NO_CALL, arm: NO_CALL };
const NO_CALL: u32 = u32::MAX;

const SOCKET: SystemCall = SystemCall { x86_64: 41, i386: 359, aarch64: 198, arm: 281 };
/// The flags are the first argument of all of them.
const CLONE: SystemCall = SystemCall { x86_64: 56, i386: 120, aarch64: 220, arm: 120 };
const SETSOCKOPT: SystemCall = SystemCall { x86_64: 54, i386: 366, aarch64: 208, arm: 294 };

/// The one flag of umount2(2) that reaches the file system's server rather than the mount.
const MNT_FORCE: u32 = 1;

// <linux/socket.h>, <linux/if_packet.h>
const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const AF_XDP: u32 = 44;
const SOL_PACKET: u32 = 263;
const PACKET_RX_RING: u32 = 5;
const PACKET_TX_RING: u32 = 13;

/// <linux/netlink.h>: ROUTE, SOCK_DIAG, XFRM, SELINUX, AUDIT, NETFILTER, KOBJECT_UEVENT, GENERIC.
const NETLINK_PROTOCOLS: [u32; 8] = [0, 4, 6, 7, 9, 12, 15, 16];

/// A compiled filter.
#[derive(Debug)]
pub struct Filter(Vec<libc::sock_filter>);

/// Whose system calls come in under one number of `seccomp_data.arch` (<linux/audit.h>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Abi {
    X86_64,
    I386,
    Aarch64,
    Arm,
}

impl Abi {
    /// The kernel's own programs first: most calls are theirs.
    const OF_THIS_KERNEL: &'static [Abi] = if cfg!(target_arch = "x86_64") {
        &[Abi::X86_64, Abi::I386]
    } else if cfg!(target_arch = "x86") {
        &[Abi::I386, Abi::X86_64]
    } else if cfg!(target_arch = "aarch64") {
        &[Abi::Aarch64, Abi::Arm]
    } else {
        // An arm program of ours may be running on an arm64 kernel.
        &[Abi::Arm, Abi::Aarch64]
    };

    fn audit_number(self) -> u32 {
        match self {
            Abi::X86_64 => 0xC000_003E,
            Abi::I386 => 0x4000_0003,
            Abi::Aarch64 => 0xC000_00B7,
            Abi::Arm => 0x4000_0028,
        }
    }

    fn number(self, call: SystemCall) -> u32 {
        match self {
            Abi::X86_64 => call.x86_64,
            Abi::I386 => call.i386,
            Abi::Aarch64 => call.aarch64,
            Abi::Arm => call.arm,
        }
    }
}

/// x32 calls come in as x86-64 ones with this bit; they have their own numbers, and nobody needs them.
const X32_BIT: u32 = 0x4000_0000;

// <linux/filter.h>, <linux/seccomp.h>: opcodes, offsets in `struct seccomp_data`, and actions.
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_NOT_BELOW: u16 = 0x35;
const JUMP_IF_BITS: u16 = 0x45;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
/// `args[0]`, each of 8 bytes; every architecture here is little-endian, so the low half comes first.
const ARGUMENTS_AT: u32 = 16;
const ALLOW: u32 = 0x7fff_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

impl Filter {
    /// A filter that allows all but `denials`. A call under an architecture that is not ours is answered with `ENOSYS`.
    pub fn allow_all_but(denials: &[Denial]) -> Filter {
        Filter::for_abis(Abi::OF_THIS_KERNEL, denials)
    }

    /// A filter that denies socketcall(2) to programs of i386: by it they could do with sockets what [`DEFAULT_DENIALS`] has. `None`:
    /// this machine runs no such programs.
    pub fn against_socketcall() -> Option<Filter> {
        Abi::OF_THIS_KERNEL.contains(&Abi::I386).then(|| Filter::allow_all_but(&[always(SOCKETCALL)]))
    }

    /// A filter for a program of ours: whoever calls anything but these, by their numbers in libc, or under another architecture
    /// than its own, is killed by `SIGSYS`.
    pub fn allow_only(calls: &[libc::c_long]) -> Filter {
        Filter::of_calls(calls, statement(RETURN, KILL_PROCESS))
    }

    /// As [`Filter::allow_only`], but other calls under its own architecture are answered with `ENOSYS`: for a program in which a C
    /// library looks for what the kernel has, such as one that looks names up.
    pub fn answer_only(calls: &[libc::c_long]) -> Filter {
        Filter::of_calls(calls, deny(Errno::NOSYS))
    }

    /// The opposite: these calls are answered with `ENOSYS`, and all others are allowed under its own architecture. Under another one
    /// whoever calls anything is killed.
    pub fn answer_all_but(calls: &[libc::c_long]) -> Filter {
        Filter::of_own(calls, deny(Errno::NOSYS), statement(RETURN, ALLOW))
    }

    fn of_calls(calls: &[libc::c_long], other: libc::sock_filter) -> Filter {
        Filter::of_own(calls, statement(RETURN, ALLOW), other)
    }

    fn of_own(calls: &[libc::c_long], these: libc::sock_filter, others: libc::sock_filter) -> Filter {
        let own = Abi::OF_THIS_KERNEL.first();
        let kill = statement(RETURN, KILL_PROCESS);
        let number = own.map_or(0, |abi| abi.audit_number());
        let mut program = vec![statement(LOAD_WORD, ARCHITECTURE_AT), jump(JUMP_IF_EQUAL, number, 1, 0), kill];
        program.push(statement(LOAD_WORD, NUMBER_AT));
        if own == Some(&Abi::X86_64) {
            // Calls of x32 have other numbers than these.
            program.extend([jump(JUMP_IF_BITS, X32_BIT, 0, 1), kill]);
        }
        for call in calls {
            program.extend([jump(JUMP_IF_EQUAL, *call as u32, 0, 1), these]);
        }
        program.push(others);
        Filter(program)
    }

    fn for_abis(abis: &[Abi], denials: &[Denial]) -> Filter {
        let mut program = vec![statement(LOAD_WORD, ARCHITECTURE_AT)];
        for abi in abis {
            let calls = for_abi(*abi, denials);
            // A conditional jump reaches 255 instructions, an unconditional one any distance.
            program.push(jump(JUMP_IF_EQUAL, abi.audit_number(), 1, 0));
            program.push(statement(JUMP, calls.len() as u32));
            program.extend(calls);
        }
        program.push(deny(Errno::NOSYS));
        Filter(program)
    }

    /// Puts the filter on this process and all its descendants, for good. Needs `CAP_SYS_ADMIN` in the user namespace, or
    /// no-new-privs.
    pub fn install(&self) -> io::Result<()> {
        let program = libc::sock_fprog {
            // The kernel takes at most 4096 instructions (BPF_MAXINSNS) and refuses more itself.
            len: u16::try_from(self.0.len()).map_err(|_| Errno::TOOBIG)?,
            filter: self.0.as_ptr().cast_mut(),
        };
        let no_flags: libc::c_ulong = 0;
        // SAFETY: `program` points to live instructions, as many as it says; the kernel copies them.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER as libc::c_long,
                no_flags,
                &raw const program,
            )
        };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// The part of the program for one architecture; it always returns.
fn for_abi(abi: Abi, denials: &[Denial]) -> Vec<libc::sock_filter> {
    let mut part = vec![statement(LOAD_WORD, NUMBER_AT)];
    if abi == Abi::X86_64 {
        part.push(jump(JUMP_IF_BITS, X32_BIT, 0, 1));
        part.push(deny(Errno::NOSYS));
    }
    // Those for the same call stay in their order.
    let mut denials: Vec<(u32, &Denial)> = denials.iter().map(|denial| (abi.number(denial.call), denial)).collect();
    denials.retain(|(number, _)| *number != NO_CALL);
    denials.sort_by_key(|(number, _)| *number);
    let calls: Vec<&[(u32, &Denial)]> = denials.chunk_by(|one, next| one.0 == next.0).collect();
    part.extend(search(&calls));
    part
}

/// Finds a call by halves among those that are denied something, in the order of their numbers: the kernel runs the filter once
/// for each of its calls when it is installed, so that a start takes as long as the filter does for all of them.
fn search(calls: &[&[(u32, &Denial)]]) -> Vec<libc::sock_filter> {
    let (below, from) = calls.split_at(calls.len() / 2);
    let mut part = Vec::new();
    match (below, from) {
        ([_, ..], [[(first, _), ..], ..]) => {
            let below = search(below);
            part.push(jump(JUMP_IF_NOT_BELOW, *first, below.len() as u8, 0));
            part.extend(below);
            part.extend(search(from));
        }
        _ => {
            for (number, denial) in from.iter().copied().flatten() {
                let body = when_it_is_called(denial);
                part.push(jump(JUMP_IF_EQUAL, *number, 0, body.len() as u8));
                part.extend(body);
            }
            part.push(statement(RETURN, ALLOW));
        }
    }
    part
}

/// Tests one condition after the other. If one does not hold, the call's number is loaded again for the denial that follows.
fn when_it_is_called(denial: &Denial) -> Vec<libc::sock_filter> {
    let mut body = vec![deny(denial.errno)];
    for Condition { argument, test } in denial.when.iter().rev() {
        let past_denial = body.len() as u8;
        let mut code = vec![statement(LOAD_WORD, argument.saturating_mul(8).saturating_add(ARGUMENTS_AT))];
        // How many instructions of this condition come after each comparison.
        let compare = |values: &'static [u32]| values.iter().zip((0..values.len() as u8).rev());
        match *test {
            Test::Has(bits) => code.push(jump(JUMP_IF_BITS, bits, 0, past_denial)),
            Test::OneOf(values) => code.extend(
                compare(values)
                    .map(|(value, left)| jump(JUMP_IF_EQUAL, *value, left, if left == 0 { past_denial } else { 0 })),
            ),
            Test::NoneOf(values) => code.extend(
                compare(values).map(|(value, left)| jump(JUMP_IF_EQUAL, *value, past_denial.saturating_add(left), 0)),
            ),
        }
        code.append(&mut body);
        body = code;
    }
    body.push(statement(LOAD_WORD, NUMBER_AT));
    body
}

fn statement(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn deny(errno: Errno) -> libc::sock_filter {
    statement(RETURN, RETURN_ERRNO | errno.raw_os_error() as u32)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::hostile::denied_calls::{TRIED_CALLS, TriedCall};
    use std::os::fd::{FromRawFd, OwnedFd};

    const EVERY_ABI: [Abi; 4] = [Abi::X86_64, Abi::I386, Abi::Aarch64, Abi::Arm];

    fn run(filter: &Filter, architecture: u32, number: u32, arguments: [u32; 3]) -> u32 {
        run_counting(filter, architecture, number, arguments).0
    }

    /// Runs a filter the way the kernel would, on the few instructions that we emit: its answer, and how many it took.
    fn run_counting(filter: &Filter, architecture: u32, number: u32, arguments: [u32; 3]) -> (u32, u32) {
        let mut accumulator = 0;
        let mut at = 0;
        let mut count = 0;
        loop {
            let libc::sock_filter { code, jt, jf, k } = filter.0[at];
            at += 1;
            count += 1;
            let taken = match code {
                LOAD_WORD => {
                    accumulator = match k {
                        NUMBER_AT => number,
                        ARCHITECTURE_AT => architecture,
                        other => arguments[(other - ARGUMENTS_AT) as usize / 8],
                    };
                    continue;
                }
                JUMP => {
                    at += k as usize;
                    continue;
                }
                RETURN => return (k, count),
                JUMP_IF_EQUAL => accumulator == k,
                JUMP_IF_NOT_BELOW => k <= accumulator,
                JUMP_IF_BITS => accumulator & k != 0,
                other => panic!("opcode {other:#x}"),
            };
            at += usize::from(if taken { jt } else { jf });
        }
    }

    fn errno(errno: Errno) -> u32 {
        RETURN_ERRNO | errno.raw_os_error() as u32
    }

    /// Arguments for which the call is denied.
    fn denied_arguments(denial: &Denial) -> [u32; 3] {
        let mut arguments = [0; 3];
        for Condition { argument, test } in denial.when {
            arguments[*argument as usize] = match test {
                Test::Has(bits) => *bits,
                Test::OneOf(values) => *values.last().unwrap(),
                Test::NoneOf(values) => (0..).find(|value| !values.contains(value)).unwrap(),
            };
        }
        arguments
    }

    #[test]
    fn each_denied_call_gets_its_error_under_every_architecture_and_the_next_number_does_not() {
        let filter = Filter::for_abis(&EVERY_ABI, &DEFAULT_DENIALS);
        for (at, abi) in EVERY_ABI.into_iter().enumerate() {
            let denied = OF_THE_KERNEL.map(|(_, numbers)| numbers[at]);
            for (number, denial) in denied.into_iter().zip(DEFAULT_DENIALS) {
                let arguments = denied_arguments(&denial);
                let found = run(&filter, abi.audit_number(), number, arguments);
                assert_eq!(found, errno(denial.errno), "{abi:?} {number}");
                if !denial.when.is_empty() {
                    assert_eq!(run(&filter, abi.audit_number(), number, [0; 3]), ALLOW, "{abi:?} {number}");
                }
                if !denied.contains(&(number + 1)) {
                    let found = run(&filter, abi.audit_number(), number + 1, arguments);
                    assert_eq!(found, ALLOW, "{abi:?} {number} + 1");
                }
            }
        }
    }

    #[test]
    fn a_call_that_is_allowed_takes_few_of_the_filters_instructions() {
        let filter = Filter::for_abis(&EVERY_ABI, &DEFAULT_DENIALS);
        for (at, abi) in EVERY_ABI.into_iter().enumerate() {
            let denied = OF_THE_KERNEL.map(|(_, numbers)| numbers[at]);
            let of_others = 2 * at as u32;
            for number in (0..512).filter(|number| !denied.contains(number)) {
                let (answer, count) = run_counting(&filter, abi.audit_number(), number, [0; 3]);
                assert_eq!(answer, ALLOW, "{abi:?} {number}");
                assert!(count <= of_others + 12, "{abi:?} {number}: {count}");
            }
        }
    }

    #[test]
    fn an_ordinary_unmount_is_allowed_and_a_forced_one_is_not() {
        let filter = Filter::for_abis(&EVERY_ABI, &DEFAULT_DENIALS);
        let (umount2, detach, follow) = (166, 2, 8);
        let run = |flags| run(&filter, Abi::X86_64.audit_number(), umount2, [0, flags, 0]);
        assert_eq!(run(0), ALLOW);
        assert_eq!(run(detach | follow), ALLOW);
        assert_eq!(run(MNT_FORCE), errno(Errno::ACCESS));
        assert_eq!(run(MNT_FORCE | detach), errno(Errno::ACCESS));
    }

    #[test]
    fn sockets_are_for_everybody_but_not_all_of_their_kinds_and_options() {
        let filter = Filter::for_abis(&EVERY_ABI, &DEFAULT_DENIALS);
        let (inet, unix, packet, raw, usersock, sol_socket) = (2, 1, 17, 3, 2, 1);
        let [.., (_, setsockopt), _, (_, socket)] = OF_THE_KERNEL;
        for (at, abi) in EVERY_ABI.into_iter().enumerate() {
            let run = |call: [u32; 4], arguments| run(&filter, abi.audit_number(), call[at], arguments);
            for family in [inet, unix, packet] {
                assert_eq!(run(socket, [family, raw, usersock]), ALLOW, "{abi:?} {family}");
            }
            for protocol in 0..=32 {
                let expected = match NETLINK_PROTOCOLS.contains(&protocol) {
                    true => ALLOW,
                    false => errno(Errno::PROTONOSUPPORT),
                };
                assert_eq!(run(socket, [AF_NETLINK, raw, protocol]), expected, "{abi:?} netlink {protocol}");
            }
            assert_eq!(run(socket, [AF_XDP, raw, 0]), errno(Errno::AFNOSUPPORT));
            for option in 0..=32 {
                let is_ring = [PACKET_RX_RING, PACKET_TX_RING].contains(&option);
                let expected = if is_ring { errno(Errno::PERM) } else { ALLOW };
                assert_eq!(run(setsockopt, [3, SOL_PACKET, option]), expected, "{abi:?} option {option}");
                assert_eq!(run(setsockopt, [3, sol_socket, option]), ALLOW, "{abi:?} option {option}");
            }
        }
    }

    #[test]
    fn socketcall_is_denied_where_there_is_one_and_nothing_else_is() {
        let filter = Filter::for_abis(&EVERY_ABI, &[always(SOCKETCALL)]);
        for abi in EVERY_ABI {
            for number in 0..1024 {
                let expected = if (abi, number) == (Abi::I386, 102) { errno(Errno::NOSYS) } else { ALLOW };
                assert_eq!(run(&filter, abi.audit_number(), number, [0; 3]), expected, "{abi:?} {number}");
            }
        }
    }

    #[test]
    fn x32_and_foreign_architectures_do_not_exist() {
        let filter = Filter::for_abis(&[Abi::X86_64, Abi::I386], &DEFAULT_DENIALS);
        assert_eq!(run(&filter, Abi::X86_64.audit_number(), X32_BIT, [0; 3]), errno(Errno::NOSYS));
        assert_eq!(run(&filter, Abi::Arm.audit_number(), 1, [0; 3]), errno(Errno::NOSYS));
    }

    /// As the kernel's tables have them: arch/x86/entry/syscalls/syscall_64.tbl and syscall_32.tbl, scripts/syscall.tbl for
    /// arm64, arch/arm/tools/syscall.tbl. By name, in the order of [`DEFAULT_DENIALS`].
    const OF_THE_KERNEL: [(&str, [u32; 4]); 15] = [
        ("kexec_load", [246, 283, 104, 347]),
        ("open_by_handle_at", [304, 342, 265, 371]),
        ("init_module", [175, 128, 105, 128]),
        ("finit_module", [313, 350, 273, 379]),
        ("delete_module", [176, 129, 106, 129]),
        ("umount2", [166, 52, 39, 52]),
        ("add_key", [248, 286, 217, 309]),
        ("request_key", [249, 287, 218, 310]),
        ("keyctl", [250, 288, 219, 311]),
        ("io_uring_setup", [425, 425, 425, 425]),
        ("io_uring_enter", [426, 426, 426, 426]),
        ("io_uring_register", [427, 427, 427, 427]),
        ("setsockopt", [54, 366, 208, 294]),
        ("socket", [41, 359, 198, 281]),
        ("socket", [41, 359, 198, 281]),
    ];

    #[test]
    fn the_numbers_are_those_of_the_kernels_tables_on_every_architecture() {
        assert_eq!(OF_THE_KERNEL.len(), DEFAULT_DENIALS.len());
        for ((name, numbers), denial) in OF_THE_KERNEL.into_iter().zip(DEFAULT_DENIALS) {
            assert_eq!(EVERY_ABI.map(|abi| abi.number(denial.call)), numbers, "{name}");
        }
    }

    /// The kernel's headers for programs, by Debian's linux-libc-dev and linux-libc-dev-…-cross: in the order of [`EVERY_ABI`], the
    /// first of each that is there.
    const HEADERS: [&[&str]; 4] = [
        &["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/x86_64-linux-gnu/include/asm/unistd_64.h"],
        &["/usr/include/x86_64-linux-gnu/asm/unistd_32.h", "/usr/i686-linux-gnu/include/asm/unistd_32.h"],
        &["/usr/aarch64-linux-gnu/include/asm-generic/unistd.h", "/usr/include/asm-generic/unistd.h"],
        &[
            "/usr/arm-linux-gnueabihf/include/asm/unistd-eabi.h",
            "/usr/arm-linux-gnueabihf/include/asm/unistd-common.h",
            "/usr/include/arm-linux-gnueabihf/asm/unistd-eabi.h",
        ],
    ];

    /// From `#define __NR_socket 198`, or `(__NR_SYSCALL_BASE + 281)`, where the base is 0.
    fn number_in(header: &str, call: &str) -> Option<u32> {
        let of_call = |line: &'_ str| {
            let (name, value) = line.strip_prefix("#define __NR_")?.split_once([' ', '\t'])?;
            (name == call).then(|| value.trim().to_owned())
        };
        let value = header.lines().find_map(of_call)?;
        value.trim_start_matches("(__NR_SYSCALL_BASE + ").trim_end_matches(')').parse().ok()
    }

    #[test]
    fn the_numbers_are_those_of_the_kernels_headers_for_every_architecture() {
        for ((at, abi), places) in EVERY_ABI.into_iter().enumerate().zip(HEADERS) {
            let Some(header) = places.iter().find_map(|place| std::fs::read_to_string(place).ok()) else {
                println!("SKIPPED: no kernel headers of {abi:?} (linux-libc-dev, or linux-libc-dev-armhf-cross)");
                continue;
            };
            for ((name, numbers), denial) in OF_THE_KERNEL.into_iter().zip(DEFAULT_DENIALS) {
                let of_header = number_in(&header, name);
                assert_eq!(of_header, Some(abi.number(denial.call)), "{abi:?} {name}");
                assert_eq!(of_header, Some(numbers[at]), "{abi:?} {name}");
            }
        }
    }

    #[test]
    fn what_is_tried_in_containers_by_the_c_librarys_numbers_is_all_that_is_denied() {
        let filter = Filter::allow_all_but(&DEFAULT_DENIALS);
        let own = Abi::OF_THIS_KERNEL[0];
        for TriedCall { name, number, arguments, denied_with } in TRIED_CALLS {
            let found = run(&filter, own.audit_number(), number as u32, arguments.map(|argument| argument as u32));
            assert_eq!(found, denied_with.map_or(ALLOW, errno), "{name}");
        }
        for Denial { call, errno, .. } in DEFAULT_DENIALS {
            let is_tried =
                |tried: &TriedCall| tried.number as u32 == own.number(call) && tried.denied_with == Some(errno);
            assert!(TRIED_CALLS.iter().any(is_tried), "{call:?} {errno}");
        }
    }

    #[test]
    fn what_a_program_of_ours_does_not_need_kills_it_under_every_architecture() {
        let filter = Filter::allow_only(&[7, 9]);
        let own = Abi::OF_THIS_KERNEL[0].audit_number();
        assert_eq!([6, 7, 8, 9].map(|call| run(&filter, own, call, [0; 3]) == ALLOW), [false, true, false, true]);
        for call in [6, 8, 7 | X32_BIT] {
            assert_eq!(run(&filter, own, call, [0; 3]), KILL_PROCESS, "{call:#x}");
        }
        for other in EVERY_ABI {
            if other.audit_number() != own {
                assert_eq!(run(&filter, other.audit_number(), 7, [0; 3]), KILL_PROCESS);
            }
        }
        for way_to_send in [libc::SYS_sendmsg, libc::SYS_sendmmsg, libc::SYS_io_uring_setup] {
            assert!(!READER_CALLS.contains(&way_to_send));
        }
    }

    #[test]
    fn what_a_worker_never_calls_is_answered_and_the_rest_is_allowed_under_its_own_architecture() {
        let filter = Filter::answer_all_but(&[7, 9]);
        let own = Abi::OF_THIS_KERNEL[0].audit_number();
        let answers = [6, 7, 8, 9].map(|call| run(&filter, own, call, [0; 3]));
        assert_eq!(answers, [ALLOW, errno(Errno::NOSYS), ALLOW, errno(Errno::NOSYS)]);
        if Abi::OF_THIS_KERNEL[0] == Abi::X86_64 {
            assert_eq!(run(&filter, own, 6 | X32_BIT, [0; 3]), KILL_PROCESS);
        }
        for other in EVERY_ABI.into_iter().filter(|other| other.audit_number() != own) {
            assert_eq!(run(&filter, other.audit_number(), 6, [0; 3]), KILL_PROCESS, "{other:?}");
        }
        // What it needs is not among them.
        let needed = [libc::SYS_clone, libc::SYS_execve, libc::SYS_socket, libc::SYS_openat, libc::SYS_openat2];
        for call in READER_CALLS.iter().chain(CLIENT_CALLS).chain(&needed) {
            assert!(!NEVER_CALLED.contains(call) && !MOUNTING.contains(call), "{call}");
        }
    }

    #[test]
    fn a_worker_has_no_other_sockets_and_makes_no_namespaces() {
        let filter = Filter::for_abis(&EVERY_ABI, NO_OTHER_KINDS);
        let (packet, netlink, vsock, thread, vfork) = (17, 16, 40, 0x3d_0f00, 0x4111);
        // <linux/sched.h>: of mounts, control groups, names, IPC, users, processes, network.
        let namespaces = [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
        for (at, abi) in EVERY_ABI.into_iter().enumerate() {
            let (socket, clone) = ([41, 359, 198, 281][at], [56, 120, 220, 120][at]);
            let run = |call, argument| run(&filter, abi.audit_number(), call, [argument, 0, 0]);
            for family in [AF_UNIX, AF_INET, AF_INET6] {
                assert_eq!(run(socket, family), ALLOW, "{abi:?} {family}");
            }
            for family in [packet, netlink, vsock] {
                assert_eq!(run(socket, family), errno(Errno::AFNOSUPPORT), "{abi:?} {family}");
            }
            for flags in [thread, vfork] {
                assert_eq!(run(clone, flags), ALLOW, "{abi:?} {flags:#x}");
            }
            for namespace in namespaces {
                assert_eq!(run(clone, namespace | 17), errno(Errno::PERM), "{abi:?} {namespace:#x}");
            }
        }
    }

    #[test]
    fn the_kernel_accepts_it_and_answers_as_told() {
        // In a thread of its own: a filter is for good, but only for the thread that installs it.
        std::thread::spawn(|| {
            set_up_and_try();
        })
        .join()
        .unwrap();
    }

    fn set_up_and_try() {
        crate::capabilities::set_no_new_privs().unwrap();
        Filter::allow_all_but(&DEFAULT_DENIALS).install().unwrap();
        // SAFETY: no address is given; the filter answers before the kernel would look.
        let answer = unsafe { libc::syscall(libc::SYS_delete_module, 0, 0) };
        assert_eq!((answer, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::ENOSYS)));
        for (protocol, errno) in [(0, None), (2, Some(libc::EPROTONOSUPPORT))] {
            // SAFETY: plain numbers.
            let socket = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
            let error = (socket < 0).then(|| io::Error::last_os_error().raw_os_error()).flatten();
            assert_eq!(error, errno, "netlink {protocol}");
            // SAFETY: the kernel just gave us the descriptor, if it did, and nothing else owns it.
            drop((0 <= socket).then(|| unsafe { OwnedFd::from_raw_fd(socket) }));
        }
        let no_socket = -1;
        for (option, errno) in [(PACKET_RX_RING, libc::EPERM), (PACKET_RX_RING + 1, libc::EBADF)] {
            // SAFETY: there is no value, and its length says so.
            let answer =
                unsafe { libc::setsockopt(no_socket, SOL_PACKET as i32, option as i32, std::ptr::null(), 0) };
            assert_eq!((answer, io::Error::last_os_error().raw_os_error()), (-1, Some(errno)), "option {option}");
        }
    }
}
