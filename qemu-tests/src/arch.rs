//! The architectures we build for, and what everybody else calls them.
//!
//! Every tool has its own name for the same processor; they all stand here, so that a new architecture is one
//! more arm of each `match` and the compiler lists the places. Nothing here touches the machine.

use std::fmt;
use std::str::FromStr;

/// An architecture that Yadokari is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit ARM boards.
    Arm64,
    /// 32-bit ARM boards with hardware floating point (ARMv7).
    Armhf,
    /// The developer's own machine: hosted mode and benchmarks, no board.
    Amd64,
}

impl Arch {
    /// Every architecture that the cross build knows.
    pub const ALL: [Arch; 3] = [Arch::Arm64, Arch::Armhf, Arch::Amd64];

    /// Those for which there is a board in QEMU.
    pub const BOARDS: [Arch; 2] = [Arch::Arm64, Arch::Armhf];

    /// Debian's name, also ours on the command line.
    pub const fn debian(self) -> &'static str {
        match self {
            Arch::Arm64 => "arm64",
            Arch::Armhf => "armhf",
            Arch::Amd64 => "amd64",
        }
    }

    /// Rust's target that we ship: static, with musl.
    pub const fn rust_musl_target(self) -> &'static str {
        match self {
            Arch::Arm64 => "aarch64-unknown-linux-musl",
            Arch::Armhf => "armv7-unknown-linux-musleabihf",
            Arch::Amd64 => "x86_64-unknown-linux-musl",
        }
    }

    /// Rust's target with glibc, for which Debian has a prebuilt std.
    pub const fn rust_gnu_target(self) -> &'static str {
        match self {
            Arch::Arm64 => "aarch64-unknown-linux-gnu",
            Arch::Armhf => "armv7-unknown-linux-gnueabihf",
            Arch::Amd64 => "x86_64-unknown-linux-gnu",
        }
    }

    /// The folder below `/usr/lib` in which Debian's musl-dev puts its libraries.
    pub const fn musl_name(self) -> &'static str {
        match self {
            Arch::Arm64 => "aarch64-linux-musl",
            Arch::Armhf => "arm-linux-musleabihf",
            Arch::Amd64 => "x86_64-linux-musl",
        }
    }

    /// The GNU triplet: Debian's multiarch folder, and the prefix of its cross tools.
    pub const fn gnu_triplet(self) -> &'static str {
        match self {
            Arch::Arm64 => "aarch64-linux-gnu",
            Arch::Armhf => "arm-linux-gnueabihf",
            Arch::Amd64 => "x86_64-linux-gnu",
        }
    }

    /// The C compiler for it on an amd64 Debian.
    pub const fn gcc(self) -> &'static str {
        match self {
            Arch::Arm64 => "aarch64-linux-gnu-gcc",
            Arch::Armhf => "arm-linux-gnueabihf-gcc",
            Arch::Amd64 => "gcc",
        }
    }

    /// The Debian package that holds [`Arch::gcc`].
    pub const fn gcc_package(self) -> &'static str {
        match self {
            Arch::Arm64 => "gcc-aarch64-linux-gnu",
            Arch::Armhf => "gcc-arm-linux-gnueabihf",
            Arch::Amd64 => "gcc",
        }
    }

    /// `ARCH=` of the kernel's makefiles.
    pub const fn kernel_make(self) -> &'static str {
        match self {
            Arch::Arm64 => "arm64",
            Arch::Armhf => "arm",
            Arch::Amd64 => "x86",
        }
    }

    /// Debian's kernel flavour: the end of `linux-image-…`.
    pub const fn kernel_flavour(self) -> &'static str {
        match self {
            Arch::Arm64 => "arm64",
            Arch::Armhf => "armmp",
            Arch::Amd64 => "amd64",
        }
    }

    /// The whole-machine emulator.
    pub const fn qemu_system(self) -> &'static str {
        match self {
            Arch::Arm64 => "qemu-system-aarch64",
            Arch::Armhf => "qemu-system-arm",
            Arch::Amd64 => "qemu-system-x86_64",
        }
    }

    /// The name under which `/usr/lib/binfmt.d` registers the user-mode emulator.
    pub const fn qemu_user(self) -> &'static str {
        match self {
            Arch::Arm64 => "qemu-aarch64",
            Arch::Armhf => "qemu-arm",
            Arch::Amd64 => "qemu-x86_64",
        }
    }

    /// `-M`. Without `highmem=off` the 32-bit kernel cannot claim the PCI window, and there is no PCI at all.
    pub const fn qemu_machine(self) -> &'static str {
        match self {
            Arch::Arm64 => "virt",
            Arch::Armhf => "virt,highmem=off",
            Arch::Amd64 => "q35",
        }
    }

    /// `-cpu`. One small core of the kind the product runs on; `max` is a quarter slower under TCG.
    pub const fn qemu_cpu(self) -> &'static str {
        match self {
            Arch::Arm64 => "cortex-a53",
            Arch::Armhf => "cortex-a7",
            Arch::Amd64 => "max",
        }
    }

    /// The folder of the package u-boot-qemu that holds this board's `u-boot.bin`.
    pub const fn uboot_folder(self) -> &'static str {
        match self {
            Arch::Arm64 => "qemu_arm64",
            Arch::Armhf => "qemu_arm",
            Arch::Amd64 => "qemu-x86_64",
        }
    }

    /// `mkimage -A`.
    pub const fn mkimage(self) -> &'static str {
        match self {
            Arch::Arm64 => "arm64",
            Arch::Armhf => "arm",
            Arch::Amd64 => "x86_64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.debian())
    }
}

/// A name that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownArch {
    name: String,
}

impl fmt::Display for UnknownArch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "unknown architecture {:?}: arm64, armhf and amd64 are known", self.name)
    }
}

impl std::error::Error for UnknownArch {}

impl FromStr for Arch {
    type Err = UnknownArch;

    /// Takes Debian's names, and what `uname -m` and Rust call the same.
    fn from_str(name: &str) -> Result<Arch, UnknownArch> {
        match name {
            "arm64" | "aarch64" => Ok(Arch::Arm64),
            "armhf" | "armv7" | "arm" => Ok(Arch::Armhf),
            "amd64" | "x86_64" => Ok(Arch::Amd64),
            _ => Err(UnknownArch { name: name.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arch;

    #[test]
    fn every_architecture_is_found_by_the_name_it_prints() {
        for arch in Arch::ALL {
            assert_eq!(arch.to_string().parse(), Ok(arch));
        }
        assert_eq!("x86_64".parse(), Ok(Arch::Amd64));
        assert!("arm128".parse::<Arch>().is_err());
    }
}
