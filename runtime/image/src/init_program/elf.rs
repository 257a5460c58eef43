//! What of an ELF file decides whether the kernel can execute it: for which machine it is, and by which loader. Pure; whatever the
//! bytes are, it answers.

use crate::image_target::Architecture;
use core::fmt;

/// An ELF program.
pub(super) struct Executable {
    pub(super) machine: Machine,
    /// The loader of a program with shared libraries (`PT_INTERP`).
    pub(super) interpreter: Option<String>,
}

/// `e_machine` and whether it is of 64 bits: elf(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    number: u16,
    is_64_bit: bool,
}

const ARM: Machine = Machine { number: 40, is_64_bit: false };
const AARCH64: Machine = Machine { number: 183, is_64_bit: true };
const X86_64: Machine = Machine { number: 62, is_64_bit: true };
const I386: Machine = Machine { number: 3, is_64_bit: false };

const PT_INTERP: u64 = 3;

impl From<Architecture> for Machine {
    fn from(architecture: Architecture) -> Machine {
        match architecture {
            Architecture::Armhf => ARM,
            Architecture::Arm64 => AARCH64,
            Architecture::X86_64 => X86_64,
            Architecture::I386 => I386,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ARM => out.write_str("armhf"),
            AARCH64 => out.write_str("arm64"),
            X86_64 => out.write_str("x86_64"),
            I386 => out.write_str("i386"),
            Machine { number, is_64_bit } => {
                write!(out, "ELF machine {number} ({} bits)", if is_64_bit { 64 } else { 32 })
            }
        }
    }
}

/// `None`: it is no ELF file of little endian.
pub(super) fn parse(bytes: &[u8]) -> Option<Executable> {
    let [0x7f, b'E', b'L', b'F', class @ (1 | 2), 1, ..] = *bytes else { return None };
    let is_64_bit = class == 2;
    let machine = Machine { number: number(bytes, 18, 2)? as u16, is_64_bit };
    Some(Executable { machine, interpreter: interpreter(bytes, is_64_bit) })
}

fn interpreter(bytes: &[u8], is_64_bit: bool) -> Option<String> {
    // Offsets and widths of e_phoff, e_phentsize, e_phnum; and in a program header, of p_offset and p_filesz.
    let (table, entry_bytes, count) = match is_64_bit {
        true => (number(bytes, 32, 8)?, number(bytes, 54, 2)?, number(bytes, 56, 2)?),
        false => (number(bytes, 28, 4)?, number(bytes, 42, 2)?, number(bytes, 44, 2)?),
    };
    let (offset_at, size_at, width) = if is_64_bit { (8, 32, 8) } else { (4, 16, 4) };
    (0..count).find_map(|entry| {
        let header = entry.checked_mul(entry_bytes)?.checked_add(table)?;
        if number(bytes, header, 4)? != PT_INTERP {
            return None;
        }
        let offset = number(bytes, header.checked_add(offset_at)?, width)?;
        let size = number(bytes, header.checked_add(size_at)?, width)?;
        let text = slice(bytes, offset, size)?;
        let path = text.split(|&byte| byte == 0).next()?;
        String::from_utf8(path.to_vec()).ok()
    })
}

fn number(bytes: &[u8], offset: u64, width: u64) -> Option<u64> {
    let bytes = slice(bytes, offset, width)?;
    Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

fn slice(bytes: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(length)?).ok()?;
    bytes.get(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_for_this_machine_and_has_its_loader() {
        let own = std::fs::read("/proc/self/exe").unwrap_or_default();
        let Some(Executable { machine, interpreter }) = parse(&own) else { panic!("no ELF") };
        let ours = Architecture::parse(std::env::consts::ARCH).map(Machine::from);
        assert_eq!(Some(machine), ours);
        assert!(interpreter.is_none_or(|path| path.starts_with("/lib")));
    }

    #[test]
    fn whatever_the_bytes_are_it_answers() {
        let own = std::fs::read("/proc/self/exe").unwrap_or_default();
        for length in 0..256.min(own.len()) {
            let _ = parse(&own[..length]);
            let mut flipped = own[..4096.min(own.len())].to_vec();
            flipped[length] ^= 0xff;
            let _ = parse(&flipped);
        }
    }
}
