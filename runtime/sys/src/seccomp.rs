//! The system call filter: a classic BPF program that answers some calls with an error, for every architecture whose
//! programs this kernel can run, so that a 32-bit program inside a 64-bit container is no way round it.

use rustix::io::Errno;
use std::io;

/// What is done about one system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial {
    /// Which call.
    pub call: SystemCall,
    /// Only when one of these bits is set in its second argument; `None`: always.
    pub second_argument_has: Option<u32>,
    /// The error it gets.
    pub errno: Errno,
}

/// A system call by its number on each architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemCall {
    x86_64: u32,
    i386: u32,
    aarch64: u32,
    arm: u32,
}

/// What LXD denies in every container (`security.syscalls.deny_default`), with LXD's answers: `ENOSYS` for what could load
/// code into the kernel or step out of the file systems, `EACCES` for a forced unmount.
pub const DEFAULT_DENIALS: [Denial; 6] = [
    always(SystemCall { x86_64: 246, i386: 283, aarch64: 104, arm: 347 }), // kexec_load
    always(SystemCall { x86_64: 304, i386: 342, aarch64: 265, arm: 371 }), // open_by_handle_at
    always(SystemCall { x86_64: 175, i386: 128, aarch64: 105, arm: 128 }), // init_module
    always(SystemCall { x86_64: 313, i386: 350, aarch64: 273, arm: 379 }), // finit_module
    always(SystemCall { x86_64: 176, i386: 129, aarch64: 106, arm: 129 }), // delete_module
    Denial {
        call: SystemCall { x86_64: 166, i386: 52, aarch64: 39, arm: 52 }, // umount2
        second_argument_has: Some(MNT_FORCE),
        errno: Errno::ACCESS,
    },
];

const fn always(call: SystemCall) -> Denial {
    Denial { call, second_argument_has: None, errno: Errno::NOSYS }
}

/// The one flag of umount2(2) that reaches the file system's server rather than the mount.
const MNT_FORCE: u32 = 1;

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
const JUMP_IF_BITS: u16 = 0x45;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
/// The low half of `args[1]`; every architecture here is little-endian.
const SECOND_ARGUMENT_AT: u32 = 24;
const ALLOW: u32 = 0x7fff_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;

impl Filter {
    /// A filter that allows all but `denials`. A call under an architecture that is not ours is answered with `ENOSYS`.
    pub fn allow_all_but(denials: &[Denial]) -> Filter {
        Filter::for_abis(Abi::OF_THIS_KERNEL, denials)
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
    for denial in denials {
        match denial.second_argument_has {
            None => {
                part.push(jump(JUMP_IF_EQUAL, abi.number(denial.call), 0, 1));
                part.push(deny(denial.errno));
            }
            Some(bits) => {
                part.push(jump(JUMP_IF_EQUAL, abi.number(denial.call), 0, 4));
                part.push(statement(LOAD_WORD, SECOND_ARGUMENT_AT));
                part.push(jump(JUMP_IF_BITS, bits, 0, 1));
                part.push(deny(denial.errno));
                part.push(statement(RETURN, ALLOW));
            }
        }
    }
    part.push(statement(RETURN, ALLOW));
    part
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

    const EVERY_ABI: [Abi; 4] = [Abi::X86_64, Abi::I386, Abi::Aarch64, Abi::Arm];

    /// Runs a filter the way the kernel would, on the few instructions that we emit.
    fn run(filter: &Filter, architecture: u32, number: u32, second_argument: u32) -> u32 {
        let mut accumulator = 0;
        let mut at = 0;
        loop {
            let libc::sock_filter { code, jt, jf, k } = filter.0[at];
            at += 1;
            let taken = match code {
                LOAD_WORD => {
                    accumulator = match k {
                        NUMBER_AT => number,
                        ARCHITECTURE_AT => architecture,
                        SECOND_ARGUMENT_AT => second_argument,
                        other => panic!("offset {other}"),
                    };
                    continue;
                }
                JUMP => {
                    at += k as usize;
                    continue;
                }
                RETURN => return k,
                JUMP_IF_EQUAL => accumulator == k,
                JUMP_IF_BITS => accumulator & k != 0,
                other => panic!("opcode {other:#x}"),
            };
            at += usize::from(if taken { jt } else { jf });
        }
    }

    fn errno(errno: Errno) -> u32 {
        RETURN_ERRNO | errno.raw_os_error() as u32
    }

    #[test]
    fn each_denied_call_gets_its_error_under_every_architecture_and_the_next_number_does_not() {
        let filter = Filter::for_abis(&EVERY_ABI, &DEFAULT_DENIALS);
        for abi in EVERY_ABI {
            let denied: Vec<u32> = DEFAULT_DENIALS.iter().map(|denial| abi.number(denial.call)).collect();
            for denial in DEFAULT_DENIALS {
                let number = abi.number(denial.call);
                let bits = denial.second_argument_has.unwrap_or(0);
                let found = run(&filter, abi.audit_number(), number, bits);
                assert_eq!(found, errno(denial.errno), "{abi:?} {number}");
                if !denied.contains(&(number + 1)) {
                    assert_eq!(run(&filter, abi.audit_number(), number + 1, bits), ALLOW, "{abi:?} {number} + 1");
                }
            }
        }
    }

    #[test]
    fn an_ordinary_unmount_is_allowed_and_a_forced_one_is_not() {
        let filter = Filter::for_abis(&EVERY_ABI, &DEFAULT_DENIALS);
        let (umount2, detach, follow) = (166, 2, 8);
        let run = |flags| run(&filter, Abi::X86_64.audit_number(), umount2, flags);
        assert_eq!(run(0), ALLOW);
        assert_eq!(run(detach | follow), ALLOW);
        assert_eq!(run(MNT_FORCE), errno(Errno::ACCESS));
        assert_eq!(run(MNT_FORCE | detach), errno(Errno::ACCESS));
    }

    #[test]
    fn x32_and_foreign_architectures_do_not_exist() {
        let filter = Filter::for_abis(&[Abi::X86_64, Abi::I386], &DEFAULT_DENIALS);
        assert_eq!(run(&filter, Abi::X86_64.audit_number(), X32_BIT, 0), errno(Errno::NOSYS));
        assert_eq!(run(&filter, Abi::Arm.audit_number(), 1, 0), errno(Errno::NOSYS));
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm"))]
    #[test]
    fn the_numbers_are_those_of_the_c_library() {
        let abi = Abi::OF_THIS_KERNEL[0];
        let names = [
            libc::SYS_kexec_load,
            libc::SYS_open_by_handle_at,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_umount2,
        ];
        for (name, denial) in names.into_iter().zip(DEFAULT_DENIALS) {
            assert_eq!(u32::try_from(name), Ok(abi.number(denial.call)));
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
    }
}
