//! Which devices the processes of a cgroup may open: an eBPF program on the cgroup that denies all but a list.
//!
//! Creating nodes is allowed for all devices, as in LXD: without `CAP_MKNOD` in the first user namespace nobody inside can,
//! and a node that the filter does not list cannot be opened.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// A device, or all of a major number, that may be opened for reading and writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceRule {
    /// Character or block.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number; `None`: every one.
    pub minor: Option<u32>,
}

/// Character or block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    /// `BPF_DEVCG_DEV_CHAR`.
    Char,
    /// `BPF_DEVCG_DEV_BLOCK`.
    Block,
}

/// The most programs that a cgroup can hold: `BPF_CGROUP_MAX_PROGS`.
const MAX_PROGRAMS: usize = 64;

/// The kernel's verifier gives up with `EAGAIN` when a signal waits (`bpf_check` of kernel/bpf/verifier.c), and a group that is frozen
/// is one. libbpf tries five times.
const LOAD_ATTEMPTS: u32 = 5;

// <linux/bpf.h>
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;
const BPF_DEVCG_ACC_MKNOD: i32 = 1;
const BPF_DEVCG_DEV_BLOCK: i32 = 1;
const BPF_DEVCG_DEV_CHAR: i32 = 2;

/// Makes `rules` the one device filter of the cgroup; there is no moment without one if there was one before.
pub fn install(cgroup: &impl AsFd, rules: &[DeviceRule]) -> io::Result<()> {
    if MAX_RULES < rules.len() {
        return Err(rustix::io::Errno::TOOBIG.into());
    }
    let program = load(&emit(rules))?;
    let present = attached(cgroup)?;
    let Some((first, others)) = present.split_first() else {
        return attach(cgroup, &program, BPF_F_ALLOW_MULTI, None);
    };
    attach(cgroup, &program, BPF_F_ALLOW_MULTI | BPF_F_REPLACE, Some(&program_by_id(*first)?))?;
    // All programs must allow, so one that a predecessor left would go on denying.
    others.iter().try_for_each(|id| detach(cgroup, &program_by_id(*id)?))
}

/// Takes every device filter off the cgroup itself.
pub fn remove(cgroup: &impl AsFd) -> io::Result<()> {
    attached(cgroup)?.into_iter().try_for_each(|id| detach(cgroup, &program_by_id(id)?))
}

/// One eBPF instruction: `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

// Opcodes: class, source, operation of Documentation/bpf/standardization/instruction-set.rst.
const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const AND_NUMBER: u8 = 0x57;
const SHIFT_RIGHT_NUMBER: u8 = 0x77;
const JUMP: u8 = 0x05;
const JUMP_IF: u8 = 0x15;
const JUMP_IF_NOT: u8 = 0x55;
const EXIT: u8 = 0x95;

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn number(code: u8, register: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: register, offset, immediate }
}

fn register(code: u8, destination: u8, source: u8, offset: i16) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset, immediate: 0 }
}

/// The program: mknod only → 1; any rule that matches → 1; else 0. Each kind and each major number is compared once: most of
/// what a filter costs at a start is the kernel's verifier, which follows every branch.
fn emit(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut rules = rules.to_vec();
    rules.sort_unstable();
    rules.dedup();
    // `struct bpf_cgroup_dev_ctx`: access_type (kind in the low half, access in the high one), major, minor.
    let mut program = Program(vec![
        register(LOAD_WORD, ACCESS, CONTEXT, 0),
        register(MOVE_REGISTER, KIND, ACCESS, 0),
        number(AND_NUMBER, KIND, 0, 0xffff),
        number(SHIFT_RIGHT_NUMBER, ACCESS, 0, 16),
        register(LOAD_WORD, MAJOR, CONTEXT, 4),
        register(LOAD_WORD, MINOR, CONTEXT, 8),
        number(JUMP_IF, ACCESS, TO_ALLOW, BPF_DEVCG_ACC_MKNOD),
    ]);
    for of_kind in rules.chunk_by(|one, next| one.kind == next.kind) {
        let [DeviceRule { kind, .. }, ..] = of_kind else { continue };
        let kind = match kind {
            DeviceKind::Char => BPF_DEVCG_DEV_CHAR,
            DeviceKind::Block => BPF_DEVCG_DEV_BLOCK,
        };
        program.unless(KIND, kind, |program| {
            for of_major in of_kind.chunk_by(|one, next| one.major == next.major) {
                let [DeviceRule { major, .. }, ..] = of_major else { continue };
                // Device numbers have at most 20 bits.
                let major = *major as i32;
                if of_major.iter().any(|rule| rule.minor.is_none()) {
                    program.0.push(number(JUMP_IF, MAJOR, TO_ALLOW, major));
                    continue;
                }
                program.unless(MAJOR, major, |program| {
                    let minors = of_major.iter().filter_map(|rule| rule.minor);
                    program.0.extend(minors.map(|minor| number(JUMP_IF, MINOR, TO_ALLOW, minor as i32)));
                });
            }
        });
    }
    program.finish()
}

/// Stand for the distance to the program's ends until that is known. No real jump is so long, or goes back.
const TO_ALLOW: i16 = -1;
const TO_DENY: i16 = -2;

struct Program(Vec<Instruction>);

impl Program {
    /// Adds a part that is skipped unless the register holds the value, and that ends in a denial.
    fn unless(&mut self, register: u8, value: i32, part: impl FnOnce(&mut Program)) {
        let mut skipped = Program(Vec::new());
        part(&mut skipped);
        skipped.0.push(number(JUMP, 0, TO_DENY, 0));
        self.0.push(number(JUMP_IF_NOT, register, skipped.0.len() as i16, value));
        self.0.append(&mut skipped.0);
    }

    /// Adds both ends, and gives the jumps to them their distance.
    fn finish(mut self) -> Vec<Instruction> {
        let deny = self.0.len();
        self.0.extend([number(MOVE_NUMBER, RESULT, 0, 0), number(EXIT, 0, 0, 0)]);
        let allow = self.0.len();
        self.0.extend([number(MOVE_NUMBER, RESULT, 0, 1), number(EXIT, 0, 0, 0)]);
        // A jump's distance is counted from the instruction behind it.
        for (instruction, behind) in self.0.iter_mut().zip(1..) {
            match instruction.offset {
                TO_ALLOW => instruction.offset = allow.saturating_sub(behind) as i16,
                TO_DENY => instruction.offset = deny.saturating_sub(behind) as i16,
                _ => {}
            }
        }
        self.0
    }
}

/// A jump reaches 32,767 instructions, and a rule takes at most five.
const MAX_RULES: usize = 4096;

#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    program_flags: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replaced_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttributes {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct ByIdAttributes {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        // The program calls no function of the kernel that asks for the GPL.
        license: c"MIT".as_ptr() as u64,
        ..LoadAttributes::default()
    };
    attributes.name[..12].copy_from_slice(b"yado_devices");
    let mut load = || {
        // SAFETY: `instructions` and `license` point to live memory of the given length (a C string).
        unsafe { bpf(BPF_PROG_LOAD, &mut attributes) }
    };
    let is_met_by_a_signal =
        |loaded: &io::Result<i32>| matches!(loaded, Err(error) if error.raw_os_error() == Some(libc::EAGAIN));
    let mut loaded = load();
    for _ in 1..LOAD_ATTEMPTS {
        if !is_met_by_a_signal(&loaded) {
            break;
        }
        loaded = load();
    }
    let raw = loaded?;
    // SAFETY: the kernel just gave us `raw`, close-on-exec, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn attach(cgroup: &impl AsFd, program: &OwnedFd, flags: u32, replaced: Option<&OwnedFd>) -> io::Result<()> {
    let mut attributes = AttachAttributes {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        program_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: flags,
        replaced_fd: replaced.map_or(0, |replaced| replaced.as_raw_fd() as u32),
    };
    // SAFETY: the attributes hold numbers only.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attributes)? };
    Ok(())
}

fn detach(cgroup: &impl AsFd, program: &OwnedFd) -> io::Result<()> {
    let mut attributes = AttachAttributes {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        program_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        ..AttachAttributes::default()
    };
    // SAFETY: the attributes hold numbers only.
    unsafe { bpf(BPF_PROG_DETACH, &mut attributes)? };
    Ok(())
}

/// The ids of the programs on this cgroup itself.
fn attached(cgroup: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; MAX_PROGRAMS];
    let mut attributes = QueryAttributes {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        ..QueryAttributes::default()
    };
    // SAFETY: `ids` is live and as long as `count` says; the kernel writes no more.
    unsafe { bpf(BPF_PROG_QUERY, &mut attributes)? };
    ids.truncate(attributes.count as usize);
    Ok(ids)
}

fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attributes = ByIdAttributes { id, ..ByIdAttributes::default() };
    // SAFETY: the attributes hold numbers only.
    let raw = unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attributes)? };
    // SAFETY: the kernel just gave us `raw`, close-on-exec, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// # Safety
/// Every address in `attributes` must be live for as long as the count beside it says.
unsafe fn bpf<A>(command: libc::c_long, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: `attributes` is live and its size is given; the rest is the caller's promise.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer as i32)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NULL: DeviceRule = DeviceRule { kind: DeviceKind::Char, major: 1, minor: Some(3) };
    const PTS: DeviceRule = DeviceRule { kind: DeviceKind::Char, major: 136, minor: None };
    const LOOP: DeviceRule = DeviceRule { kind: DeviceKind::Block, major: 7, minor: Some(0) };

    /// Runs a program the way the kernel would, on the few instructions that we emit.
    fn run(program: &[Instruction], kind: i32, access: i32, major: i32, minor: i32) -> i64 {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0i64; 11];
        let mut at = 0;
        loop {
            let Instruction { code, registers: pair, offset, immediate } = program[at];
            let (to, from, immediate) = ((pair & 15) as usize, (pair >> 4) as usize, i64::from(immediate));
            at += 1;
            match code {
                LOAD_WORD => registers[to] = i64::from(context[offset as usize / 4]),
                MOVE_REGISTER => registers[to] = registers[from],
                MOVE_NUMBER => registers[to] = immediate,
                AND_NUMBER => registers[to] &= immediate,
                SHIFT_RIGHT_NUMBER => registers[to] >>= immediate,
                JUMP => at += offset as usize,
                JUMP_IF if registers[to] == immediate => at += offset as usize,
                JUMP_IF_NOT if registers[to] != immediate => at += offset as usize,
                JUMP_IF | JUMP_IF_NOT => {}
                EXIT => return registers[0],
                other => panic!("opcode {other:#x}"),
            }
        }
    }

    #[test]
    fn only_what_is_listed_may_be_opened_and_anything_may_be_made() {
        let (char, block, mknod, read, write) = (2, 1, 1, 2, 4);
        let serial = DeviceRule { kind: DeviceKind::Char, major: 4, minor: Some(64) };
        let program = emit(&[LOOP, NULL, PTS, serial, NULL]);
        for (kind, access, major, minor, expected) in [
            (char, read, 1, 3, 1),
            (char, read | write, 1, 3, 1),
            (char, read, 1, 1, 0),
            (char, read, 2, 3, 0),
            (char, read, 4, 64, 1),
            (char, read, 4, 65, 0),
            (char, read, 10, 3, 0),
            (block, read, 1, 3, 0),
            (char, write, 136, 77, 1),
            (block, read, 7, 0, 1),
            (block, read, 7, 1, 0),
            (char, mknod, 1, 1, 1),
            (block, mknod, 8, 0, 1),
            (block, mknod | read, 8, 0, 0),
        ] {
            let found = run(&program, kind, access, major, minor);
            assert_eq!(found, expected, "kind {kind} access {access} {major}:{minor}");
        }
        assert_eq!(run(&emit(&[]), char, read, 1, 3), 0, "an empty list denies");
    }

    #[test]
    fn the_kernel_accepts_the_program_and_a_second_one_takes_its_place() {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
        let (Some(root), true) = (root, rustix::process::geteuid().is_root()) else {
            println!("SKIPPED: needs root and a cgroup2 mount");
            return;
        };
        let path = format!("{root}/yado-filter-test-{}", std::process::id());
        std::fs::create_dir(&path).unwrap();
        let cgroup = std::fs::File::open(&path).unwrap();
        install(&cgroup, &[NULL]).unwrap();
        let first = attached(&cgroup).unwrap();
        install(&cgroup, &[NULL, PTS]).unwrap();
        let second = attached(&cgroup).unwrap();
        remove(&cgroup).unwrap();
        let none = attached(&cgroup).unwrap();
        std::fs::remove_dir(&path).unwrap();
        assert_eq!((first.len(), second.len(), none.len()), (1, 1, 0));
        assert_ne!(first, second);
    }
}
